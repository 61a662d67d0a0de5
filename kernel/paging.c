/* The kernel's page tables. All are reached through windows, so none needs a mapping of its own. */
#include "paging.h"

#include "cpu.h"
#include "frame.h"
#include "log.h"
#include "regs.h"
#include "x86.h"

#define ENTRY_PRESENT       (1ull << 0)
#define ENTRY_WRITE         (1ull << 1)
#define ENTRY_WRITE_THROUGH (1ull << 3)
#define ENTRY_NO_CACHE      (1ull << 4)
#define ENTRY_LARGE         (1ull << 7)
#define ENTRY_NO_EXECUTE    (1ull << 63)
#define ENTRY_ADDRESS       0x000ffffffffff000ull
#define ENTRY_TABLE         (ENTRY_PRESENT | ENTRY_WRITE)
#define ENTRY_DATA          (ENTRY_PRESENT | ENTRY_WRITE | ENTRY_NO_EXECUTE)
#define ENTRY_UNCACHED      (ENTRY_WRITE_THROUGH | ENTRY_NO_CACHE)

#define TABLE_ENTRIES 512
#define IMAGE_TABLES  2 /* 4 MiB; kernel.ld asserts that it is enough */

enum level { LEVEL_4K, LEVEL_2M, LEVEL_1G, LEVEL_ROOT };
typedef u64 table[TABLE_ENTRIES];

/* What must be there before there is an allocator. */
static table root ALIGNED(4096);
static table top ALIGNED(4096); /* the last 512 GiB: image and what is above it */
static table image_directory ALIGNED(4096);
static table image_tables[IMAGE_TABLES] ALIGNED(4096);
static table upper_directory ALIGNED(4096); /* from WINDOW_BASE on */
static table window_table ALIGNED(4096);
static table mmio_table ALIGNED(4096);

extern char text_start[], text_end[], rodata_end[], image_start[], image_end[]; /* kernel.ld */

static u64 mmio_next = MMIO_BASE;
static u64 stack_next = STACK_BASE;

static unsigned entry_index(u64 address, enum level level) {
    return address >> (PAGE_SHIFT + 9 * level) & (TABLE_ENTRIES - 1);
}

struct hpa hpa_of(const void *pointer) {
    u64 address = (u64)pointer;
    return hpa(address - (address >= KERNEL_BASE ? KERNEL_BASE : PHYSMAP_BASE));
}

void *pool_pointer(struct hpa address) { return (void *)(PHYSMAP_BASE + address.v); }

u64 paging_root(void) { return hpa_of(root).v; }

struct boot_region image_region(void) {
    return (struct boot_region){hpa_of(image_start), (u64)(image_end - image_start)};
}

static void table_set(table in, u64 address, enum level level, table to) {
    in[entry_index(address, level)] = hpa_of(to).v | ENTRY_TABLE;
}

static void image_map(const char *start, const char *end, u64 rights) {
    for (u64 at = (u64)start; at < (u64)end; at += PAGE_SIZE)
        image_tables[0][(at - KERNEL_BASE) >> PAGE_SHIFT] = (at - KERNEL_BASE) | rights;
}

void paging_init(void) {
    table_set(root, KERNEL_BASE, LEVEL_ROOT, top);
    table_set(top, KERNEL_BASE, LEVEL_1G, image_directory);
    for (unsigned i = 0; i < IMAGE_TABLES; i++)
        table_set(image_directory, KERNEL_BASE + i * 2 * MIB, LEVEL_2M, image_tables[i]);
    image_map(text_start, text_end, ENTRY_PRESENT);
    image_map(text_end, rodata_end, ENTRY_PRESENT | ENTRY_NO_EXECUTE);
    image_map(rodata_end, image_end, ENTRY_DATA);

    table_set(top, WINDOW_BASE, LEVEL_1G, upper_directory);
    table_set(upper_directory, WINDOW_BASE, LEVEL_2M, window_table);
    table_set(upper_directory, MMIO_BASE, LEVEL_2M, mmio_table);
    paging_load();
}

void paging_load(void) {
    struct cpuid_regs features = cpuid(7, 0);
    u64 cr4 = CR4_PAE | CR4_MCE;
    if (features.ebx & CPUID_7_EBX_SMEP) cr4 |= CR4_SMEP;
    if (features.ebx & CPUID_7_EBX_SMAP) cr4 |= CR4_SMAP;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    wrmsr(MSR_IA32_PAT, PAT_RESET);
    write_cr3(paging_root());
    write_cr4(cr4);
    write_cr0(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG);
}

/* Windows: a stack of pages, and a large one, for each CPU. */
_Static_assert(MAX_CPUS *WINDOW_SLOTS <= TABLE_ENTRIES, "the windows have one table");
_Static_assert(WINDOW_2M_BASE + MAX_CPUS * 2 * MIB <= MMIO_BASE, "the large windows fit");

void *window_map(struct hpa address) {
    struct cpu *cpu = this_cpu();
    assert(cpu->windows < WINDOW_SLOTS);
    unsigned slot = cpu->id * WINDOW_SLOTS + cpu->windows++;
    window_table[slot] = (address.v & ENTRY_ADDRESS) | ENTRY_DATA;
    return (void *)(WINDOW_BASE + slot * PAGE_SIZE + address.v % PAGE_SIZE);
}

void window_unmap(void *pointer) {
    struct cpu *cpu = this_cpu();
    unsigned slot = (unsigned)(((u64)pointer - WINDOW_BASE) >> PAGE_SHIFT);
    assert(cpu->windows && slot == cpu->id * WINDOW_SLOTS + cpu->windows - 1);
    cpu->windows--;
    window_table[slot] = 0;
    invlpg(pointer);
}

static u64 window_2m(void) { return WINDOW_2M_BASE + this_cpu()->id * 2 * MIB; }

void *window_map_2m(struct hpa block) {
    u64 *entry = &upper_directory[entry_index(window_2m(), LEVEL_2M)];
    assert(!*entry && block.v % (2 * MIB) == 0);
    *entry = block.v | ENTRY_DATA | ENTRY_LARGE;
    return (void *)window_2m();
}

void window_unmap_2m(void) {
    upper_directory[entry_index(window_2m(), LEVEL_2M)] = 0;
    invlpg((void *)window_2m());
}

/* Bytes from here to the end of the page, at most `size`. */
static u64 within_page(struct hpa address, u64 size) {
    u64 left = PAGE_SIZE - address.v % PAGE_SIZE;
    return size < left ? size : left;
}

void physical_read(void *to, struct hpa from, u64 size) {
    for (u64 n; size; size -= n, from.v += n, to = (u8 *)to + n) {
        n = within_page(from, size);
        void *window = window_map(from);
        memcpy(to, window, n);
        window_unmap(window);
    }
}

void physical_write(struct hpa to, const void *from, u64 size) {
    for (u64 n; size; size -= n, to.v += n, from = (const u8 *)from + n) {
        n = within_page(to, size);
        void *window = window_map(to);
        memcpy(window, from, n);
        window_unmap(window);
    }
}

/* Where the entry for `address` at `level` is; makes the tables above it. The kernel cannot run
   without them, and all are made at boot or paid for by physmap_prepare. */
static struct hpa entry_place(u64 address, enum level level) {
    struct hpa in = hpa(paging_root());
    for (enum level l = LEVEL_ROOT;; l--) {
        struct hpa place = hpa(in.v + entry_index(address, l) * sizeof(u64));
        if (l == level) return place;
        u64 entry;
        physical_read(&entry, place, sizeof(entry));
        if (!(entry & ENTRY_PRESENT)) {
            struct hpa frame;
            if (!frame_alloc(0, OWNER_KERNEL, 0, &frame, NULL))
                panic("no memory for the kernel's page tables");
            frame_scrub(frame, 0);
            entry = frame.v | ENTRY_TABLE;
            physical_write(place, &entry, sizeof(entry));
        }
        in = hpa(entry & ENTRY_ADDRESS);
    }
}

static void entry_write(u64 address, enum level level, u64 entry) {
    physical_write(entry_place(address, level), &entry, sizeof(entry));
}

void *mmio_map(struct hpa start, u64 size) {
    u64 offset = start.v % PAGE_SIZE, first = mmio_next;
    for (u64 at = 0; at < offset + size; at += PAGE_SIZE, mmio_next += PAGE_SIZE) {
        assert(mmio_next < STACK_BASE);
        entry_write(mmio_next, LEVEL_4K, (start.v - offset + at) | ENTRY_DATA | ENTRY_UNCACHED);
    }
    return (void *)(first + offset);
}

void *stack_alloc(unsigned pages) {
    stack_next += PAGE_SIZE; /* the guard page */
    for (unsigned i = 0; i < pages; i++, stack_next += PAGE_SIZE) {
        struct hpa frame;
        if (!frame_alloc(0, OWNER_KERNEL, 0, &frame, NULL)) panic("no memory for a kernel stack");
        frame_scrub(frame, 0);
        entry_write(stack_next, LEVEL_4K, frame.v | ENTRY_DATA);
    }
    return (void *)stack_next;
}

void physmap_prepare(struct hpa start, u64 size) {
    for (u64 at = start.v & ~(GIB - 1); at < start.v + size; at += GIB)
        (void)entry_place(PHYSMAP_BASE + at, LEVEL_2M);
}

void physmap_map(struct hpa block) {
    entry_write(PHYSMAP_BASE + block.v, LEVEL_2M, block.v | ENTRY_DATA | ENTRY_LARGE);
}
