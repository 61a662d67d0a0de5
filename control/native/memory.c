/* A component's memory after its start: linear memory, its growth, and the C library's four
 * functions. */
#include "native.h"
#include "wasm-rt.h"

#define WASM_PAGE     65536
#define DATA_PAGE     (1ull << 63 | 0x63) /* present, writable, accessed, dirty, no-execute */
#define TABLE_PAGE    0x23                /* present, writable, accessed */
#define RUNTIME_LIMIT (GPA_RAM + 2 * MIB)

extern u64 pt_ram[512], pd_linear[512];
extern char runtime_end[];

/* Free RAM: the next free 4 KiB page and the end. Nothing is ever given back. */
static u64 ram_next, ram_end;
/* Page tables of linear memory, contiguous: entry n maps its 4 KiB page n. */
static u64 *pt_linear;
static bool exhausted;

/* Takes pages for the runtime itself, mapped where they are. */
static void *ram_take(u64 pages) {
    u64 start = ram_next;
    if (pages > (ram_end - ram_next) / PAGE_SIZE || start + pages * PAGE_SIZE > RUNTIME_LIMIT)
        trap_text("not enough memory to start, bytes of RAM ", ram_end - GPA_RAM);
    for (; pages > 0; pages--, ram_next += PAGE_SIZE)
        pt_ram[(ram_next - GPA_RAM) / PAGE_SIZE] = ram_next | DATA_PAGE;
    return (void *)start;
}

void linear_init(void) {
    ram_next = (u64)runtime_end;
    ram_end = GPA_RAM + INFO->ram_size;
    /* All of RAM as linear memory and the unmapped first page of it. */
    u64 tables = (INFO->ram_size + WASM_PAGE + 2 * MIB - 1) / (2 * MIB);
    pt_linear = ram_take(tables);
    for (u64 i = 0; i < tables && i < 512; i++)
        pd_linear[i] = ((u64)pt_linear + i * PAGE_SIZE) | TABLE_PAGE;
}

bool memory_exhausted(void) { return exhausted; }

/* Maps linear pages first..end - 1; page 0 stays unmapped, so that null pointers fault. */
static bool linear_map(u64 first, u64 end) {
    if (first == 0) first = 1;
    if (end > first && (end - first) * WASM_PAGE > ram_end - ram_next) return false;
    for (u64 n = first * 16; n < end * 16; n++, ram_next += PAGE_SIZE)
        pt_linear[n] = ram_next | DATA_PAGE;
    return true;
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, u64 pages, u64 max_pages, bool is64,
                             u32 page_size) {
    if (!linear_map(0, pages))
        trap_text("not enough memory to start, bytes of RAM ", ram_end - GPA_RAM);
    *memory = (wasm_rt_memory_t){
        .data = (u8 *)LINEAR_BASE,
        .data_end = (u8 *)LINEAR_BASE + pages * WASM_PAGE,
        .page_size = page_size,
        .pages = pages,
        .max_pages = max_pages,
        .size = pages * WASM_PAGE,
        .is64 = is64,
    };
}

u64 wasm_rt_grow_memory(wasm_rt_memory_t *memory, u64 delta) {
    u64 old = memory->pages;
    exhausted = delta > memory->max_pages - old || !linear_map(old, old + delta);
    if (exhausted) return 0xffffffff;
    memory->pages += delta;
    memory->size += delta * WASM_PAGE;
    memory->data_end = memory->data + memory->size;
    return old;
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory) { (void)memory; }

void wasm_rt_allocate_funcref_table(wasm_rt_funcref_table_t *table, u32 size, u32 max_size) {
    u64 bytes = (u64)size * sizeof(*table->data);
    table->data = ram_take((bytes + PAGE_SIZE - 1) / PAGE_SIZE);
    table->size = size;
    table->max_size = max_size;
}

void wasm_rt_free_funcref_table(wasm_rt_funcref_table_t *table) { (void)table; }

void *memcpy(void *to, const void *from, size_t n) {
    void *start = to;
    size_t words = n / 8;
    n %= 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return start;
}

void *memmove(void *to, const void *from, size_t n) {
    if ((uintptr_t)to - (uintptr_t)from >= n) return memcpy(to, from, n);
    for (u8 *t = to; n-- > 0;)
        t[n] = ((const u8 *)from)[n];
    return to;
}

void *memset(void *to, int value, size_t n) {
    void *start = to;
    size_t words = n / 8;
    u64 pattern = (u8)value * 0x0101010101010101;
    n %= 8;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(pattern) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, size_t n) {
    const u8 *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i]) return x[i] - y[i];
    return 0;
}

/* What gcc calls for i64.popcnt on a CPU that may lack POPCNT. */
int __popcountdi2(u64 bits);
int __popcountdi2(u64 bits) {
    int count = 0;
    for (; bits; bits &= bits - 1)
        count++;
    return count;
}
