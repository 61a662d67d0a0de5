/* Memory: as much as was ordered, zeroed, nobody else's; nothing is there beyond its end. */
#include "guest.h"

const char title[] = "memory";

#define PATTERN   0x5ec2e75ec2e75ec2ull
#define PAGE      4096ull
#define IOAPIC    0xfec00000ull
#define FOUR_GIB  0x100000000ull

extern u8 bss_end[];

/* All widths of read give ones, and a write changes nothing. */
static void check_absent(volatile u8 *at, u64 gpa) {
    bool ones = *at == 0xff && *(volatile u16 *)at == 0xffff && *(volatile u32 *)at == ~0u &&
                *(volatile u64 *)at == ~0ull;
    *at = 0x12;
    *(volatile u16 *)at = 0x1234;
    *(volatile u32 *)at = 0x12345678;
    *(volatile u64 *)at = 0x123456789abcdef0;
    bool dropped = *(volatile u64 *)at == ~0ull;
    if (!ones || !dropped)
        print("GPA 0x%lx reads 0x%lx\n", gpa, *(volatile u64 *)at);
    check(ones, "absent memory reads as ones");
    check(dropped, "a write to absent memory is dropped");
}

static void check_beyond(void) {
    static const u64 below_4g[] = {0x80000000, 0xb0000000, 0xbffff000, 0xc0000000, 0xe0000000,
                                   0xfec01000, 0xfed00000, 0xfee01000, 0xfff00000, 0xfffff000};
    check_absent((u8 *)memory_size, memory_size);
    check_absent((u8 *)memory_size + PAGE - 8, memory_size + PAGE - 8);
    check_absent((u8 *)(2 * memory_size), 2 * memory_size);
    for (unsigned i = 0; i < sizeof(below_4g) / sizeof(*below_4g); i++)
        if (below_4g[i] >= memory_size)
            check_absent((u8 *)below_4g[i], below_4g[i]);
    u64 limit = 1ull << (cpuid(0x80000008, 0).eax & 0xff);
    for (u64 gpa = FOUR_GIB; gpa < limit; gpa <<= 1) {
        u8 *at = window(0, gpa | PTE_PRESENT | PTE_WRITE);
        check_absent(at, gpa);
        check_absent(window(0, (gpa + memory_size) | PTE_PRESENT | PTE_WRITE), gpa + memory_size);
    }
    check_absent(window(0, (limit - PAGE) | PTE_PRESENT | PTE_WRITE), limit - PAGE);
    /* One address bit more than there is: reserved in a page table. */
    if (limit < 1ull << 52) {
        volatile u8 *at = window(0, limit | PTE_PRESENT | PTE_WRITE);
        CHECK_EQUAL(FAULT_OF("movb (%0), %%al", ::"r"(at) : "al", "memory"), VECTOR_PF);
        CHECK_EQUAL(fault.error & 8, 8);
        if (cpu_has("P bit in the error code of a reserved bit"))
            CHECK_EQUAL(fault.error & 1, 1);
    }
}

static void check_last_bytes(void) {
    volatile u64 *last = (u64 *)(memory_size - 8);
    *last = PATTERN;
    CHECK_EQUAL(*last, PATTERN);
    /* An access of which one half is there. */
    volatile u32 *across = (u32 *)(memory_size - 2);
    CHECK_EQUAL(*across, 0xffff0000 | PATTERN >> 48);
    *across = 0;
    CHECK_EQUAL(*last, PATTERN & 0xffffffffffff);
    *last = PATTERN;
}

/* String moves out of and into absent memory, and read-modify-write there. */
static void check_instructions(void) {
    static u8 buffer[64];
    void *from = (void *)memory_size, *to = buffer;
    u64 count = 64;
    CHECK_EQUAL(FAULT_OF("rep movsb", : "+S"(from), "+D"(to), "+c"(count)::"memory"), NO_FAULT);
    CHECK_EQUAL(count, 0);
    CHECK_EQUAL((u64)from, memory_size + 64);
    for (unsigned i = 0; i < 64; i++)
        check(buffer[i] == 0xff, "REP MOVSB from absent memory gives ones");
    /* More than one exit does, over a page boundary, and backwards. */
    to = (void *)(memory_size + 8);
    count = 2000;
    CHECK_EQUAL(FAULT_OF("std; rep stosl; cld", : "+D"(to), "+c"(count) : "a"(0) : "memory"), NO_FAULT);
    CHECK_EQUAL(count, 0);
    CHECK_EQUAL((u64)to, memory_size + 8 - 8000);
    u64 *low = (u64 *)(memory_size - 8000 + 12);
    CHECK_EQUAL(low[0], 0);
    for (to = low; to != (void *)(memory_size); to = (u8 *)to + 4)
        *(volatile u32 *)to = (u32)((u64)to & 4 ? PATTERN >> 32 : PATTERN);
    u32 old = 5;
    CHECK_EQUAL(FAULT_OF("xchgl %0, (%1)", : "+r"(old) : "r"(memory_size) : "memory"), NO_FAULT);
    CHECK_EQUAL(old, ~0u);
    CHECK_EQUAL(FAULT_OF("orl $1, (%0)", ::"r"(memory_size) : "memory"), NO_FAULT);
    /* Code that is not there cannot run. */
    CHECK_EQUAL(try_call((void *)memory_size), VECTOR_UD);
}

void test_main(void) {
    u64 ordered = word_value("memory=");
    CHECK_EQUAL(memory_size, ordered);
    u64 dirty = 0;
    for (u64 *at = (u64 *)bss_end; at < (u64 *)memory_size; at++)
        dirty += *at != 0;
    CHECK_EQUAL(dirty, 0);
    for (u64 *at = (u64 *)bss_end; at < (u64 *)memory_size; at++)
        *at = PATTERN;
    check_beyond();
    check_last_bytes();
    check_instructions();
    u64 changed = 0;
    for (u64 *at = (u64 *)bss_end; at < (u64 *)memory_size; at++)
        changed += *at != PATTERN;
    CHECK_EQUAL(changed, 0);
}
