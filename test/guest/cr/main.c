/* Control registers: reserved and forbidden bits fault, the rest is as it was written. */
#include "guest.h"

const char title[] = "cr";

#define CR0_PE   1ull
#define CR0_MP   2ull
#define CR0_TS   8ull
#define CR0_NE   0x20ull
#define CR0_WP   0x10000ull
#define CR0_NW   (1ull << 29)
#define CR0_CD   (1ull << 30)
#define CR0_PG   (1ull << 31)
#define CR4_TSD  4ull
#define CR4_PAE  0x20ull
#define CR4_MCE  0x40ull
#define CR4_PCIDE (1ull << 17)

static void check_cr0_refused(u64 cr0) {
    for (unsigned bit = 32; bit < 64; bit++)
        CHECK_EQUAL(try_cr0(cr0 | 1ull << bit), VECTOR_GP);
    CHECK_EQUAL(try_cr0(cr0 & ~CR0_PE), VECTOR_GP);
    CHECK_EQUAL(try_cr0(cr0 | CR0_NW), VECTOR_GP);
    CHECK_EQUAL(try_cr0(cr0 & ~CR0_PG), VECTOR_GP); /* in 64-bit mode */
    CHECK_EQUAL(read_cr0(), cr0);
}

static void check_cr0(void) {
    u64 cr0 = read_cr0();
    if (cpu_has("check of CR0"))
        check_cr0_refused(cr0);
    static const u64 free[] = {CR0_TS, CR0_WP, CR0_MP, CR0_NE, CR0_CD, CR0_CD | CR0_NW};
    for (unsigned i = 0; i < sizeof(free) / sizeof(*free); i++) {
        CHECK_EQUAL(try_cr0(cr0 | free[i]), NO_FAULT);
        CHECK_EQUAL(read_cr0(), cr0 | free[i]);
        CHECK_EQUAL(try_cr0(cr0 & ~free[i]), NO_FAULT);
        CHECK_EQUAL(read_cr0(), cr0 & ~free[i]);
    }
    CHECK_EQUAL(try_cr0(cr0 | CR0_TS), NO_FAULT);
    CHECK_EQUAL(FAULT_OF("fnop", ), VECTOR_NM);
    __asm__ volatile("clts");
    CHECK_EQUAL(read_cr0() & CR0_TS, 0);
    CHECK_EQUAL(FAULT_OF("fnop", ), NO_FAULT);
    __asm__ volatile("lmsw %w0" ::"r"(CR0_TS)); /* cannot clear PE */
    CHECK_EQUAL(read_cr0() & 0xf, CR0_PE | CR0_TS);
    CHECK_EQUAL(try_cr0(cr0), NO_FAULT);
    CHECK_EQUAL(read_cr0(), cr0);
}

static void check_cr4(void) {
    u64 cr4 = read_cr4();
    static const u8 refused[] = {12, 13, 14, 15, 19, 22, 23, 24, 25, 31, 32, 40, 63};
    bool faults = cpu_has("fault for reserved bits of CR3 and CR4");
    for (unsigned i = 0; i < sizeof(refused) && faults; i++)
        CHECK_EQUAL(try_cr4(cr4 | 1ull << refused[i]), VECTOR_GP);
    if (faults)
        CHECK_EQUAL(try_cr4(cr4 & ~CR4_PAE), VECTOR_GP);
    CHECK_EQUAL(read_cr4(), cr4);
    CHECK_EQUAL(try_cr4(cr4 | CR4_MCE), NO_FAULT);
    CHECK_EQUAL(read_cr4(), cr4 | CR4_MCE);
    CHECK_EQUAL(try_cr4(cr4 & ~CR4_MCE), NO_FAULT);
    CHECK_EQUAL(read_cr4(), cr4 & ~CR4_MCE);
    CHECK_EQUAL(try_cr4(cr4 | CR4_TSD), NO_FAULT);
    CHECK_EQUAL(read_cr4(), cr4 | CR4_TSD);
    CHECK_EQUAL(try_cr4(cr4), NO_FAULT);
    if (cpuid(1, 0).ecx >> 17 & 1) { /* PCID */
        u64 cr3 = read_cr3();
        CHECK_EQUAL(try_cr3(cr3 | 8), NO_FAULT); /* PWT */
        CHECK_EQUAL(try_cr4(cr4 | CR4_PCIDE), VECTOR_GP);
        CHECK_EQUAL(try_cr3(cr3), NO_FAULT);
        CHECK_EQUAL(try_cr4(cr4 | CR4_PCIDE), NO_FAULT);
        CHECK_EQUAL(try_cr3(cr3 | 5), NO_FAULT);
        CHECK_EQUAL(read_cr3(), cr3 | 5);
        CHECK_EQUAL(try_cr4(cr4), NO_FAULT);
        CHECK_EQUAL(try_cr3(cr3), NO_FAULT);
    }
}

static void check_cr8(void) {
    apic_enable();
    for (u64 value = 0; value < 16; value++) {
        CHECK_EQUAL(try_cr8(value), NO_FAULT);
        CHECK_EQUAL(read_cr8(), value);
        CHECK_EQUAL(rdmsr(APIC_TPR), value << 4);
    }
    if (cpu_has("check of CR8")) {
        CHECK_EQUAL(try_cr8(16), VECTOR_GP);
        CHECK_EQUAL(try_cr8(~0ull), VECTOR_GP);
        CHECK_EQUAL(read_cr8(), 15);
    }
    wrmsr(APIC_TPR, 0x37);
    CHECK_EQUAL(read_cr8(), 3);
    try_cr8(0);
    u64 r12;
    __asm__ volatile("mov $-1, %%r12; mov %%cr8, %%r12; mov %%r12, %0" : "=r"(r12)::"r12");
    CHECK_EQUAL(r12, 0);
}

static void check_others(void) {
    CHECK_EQUAL(FAULT_OF("mov %%cr1, %%rax", ::: "rax"), VECTOR_UD);
    CHECK_EQUAL(FAULT_OF("mov %%rax, %%cr5", ::: "memory"), VECTOR_UD);
    if (!has_word("tcg"))
        CHECK_EQUAL(try_cr3(read_cr3() | 1ull << 52), VECTOR_GP);
    __asm__ volatile("mov %0, %%cr2" ::"r"(0x1234567890abcdefull));
    cpuid(0, 0);
    in8(0x5658);
    CHECK_EQUAL(read_cr2(), 0x1234567890abcdef);
}

void test_main(void) {
    check_cr0();
    check_cr4();
    check_cr8();
    check_others();
}
