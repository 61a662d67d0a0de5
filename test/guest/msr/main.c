/* MSRs: those on the list work and check what is written; every other one faults. */
#include "guest.h"

const char title[] = "msr";

struct range {
    u32 first, last;
};

/* What may be read. */
static const struct range listed[] = {
    {0x10, 0x10},             /* TSC */
    {0x17, 0x17},             /* PLATFORM_ID */
    {0x1b, 0x1b},             /* APIC_BASE */
    {0x3a, 0x3a},             /* FEATURE_CONTROL */
    {0x8b, 0x8b},             /* BIOS_SIGN_ID */
    {0xfe, 0xfe},             /* MTRRCAP */
    {0x174, 0x176},           /* SYSENTER */
    {0x179, 0x17a},           /* MCG_CAP, MCG_STATUS */
    {0x1a0, 0x1a0},           /* MISC_ENABLE */
    {0x1d9, 0x1d9},           /* DEBUGCTL */
    {0x200, 0x20f},           /* MTRR pairs */
    {0x250, 0x250},           /* MTRR, fixed */
    {0x258, 0x259},
    {0x268, 0x26f},
    {0x277, 0x277},           /* PAT */
    {0x2ff, 0x2ff},           /* MTRR_DEF_TYPE */
    {0x6e0, 0x6e0},           /* TSC_DEADLINE */
    {0x800, 0x83f},           /* the local APIC: apic/main.c */
    {0x4b564d00, 0x4b564d01}, /* KVM clock: wall clock, system time */
    {0x4b564d03, 0x4b564d03}, /* steal time */
    {0xc0000080, 0xc0000084}, /* EFER, STAR, LSTAR, CSTAR, FMASK */
    {0xc0000100, 0xc0000103}, /* FS, GS, KERNEL_GS base, TSC_AUX */
};

static bool is_listed(u32 msr) {
    for (unsigned i = 0; i < sizeof(listed) / sizeof(*listed); i++)
        if (msr >= listed[i].first && msr <= listed[i].last)
            return true;
    if (on_amd() && msr >= 0xc0010000 && msr <= 0xc0010007) /* PERF_CTL, PERF_CTR */
        return true;
    return on_amd() && (msr == 0xc0010010 || msr == 0xc0010015 || msr == 0xc001001f);
}

/* Reads all of them; of those that are not listed, writes back what can do no harm. */
static void check_sweep(u32 first, u32 last) {
    u64 value;
    for (u32 msr = first; msr != last; msr++) {
        bool faults = try_rdmsr(msr, &value) == VECTOR_GP;
        if (is_listed(msr))
            continue;
        if (!faults)
            print("MSR 0x%x reads 0x%lx\n", msr, value);
        check(faults, "RDMSR of an unlisted MSR raises #GP");
        if (msr % 8 == 0)
            check(try_wrmsr(msr, 0) == VECTOR_GP, "WRMSR of an unlisted MSR raises #GP");
    }
}

/* What is written is read again. */
static void check_stored(u32 msr, u64 value) {
    u64 before = rdmsr(msr), after = 0;
    u64 written = try_wrmsr(msr, value);
    try_rdmsr(msr, &after);
    if (written != NO_FAULT || after != value)
        print("MSR 0x%x: vector %lu, reads 0x%lx\n", msr, written, after);
    check(written == NO_FAULT && after == value, "a listed MSR keeps what is written");
    wrmsr(msr, before);
}

static void check_listed(void) {
    static const u32 stored[] = {0x175,      0x176,      0xc0000082,
                                 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102};
    bool canonical = cpu_has("check of addresses in WRMSR"), types = cpu_has("check of types in PAT");
    for (unsigned i = 0; i < sizeof(stored) / sizeof(*stored); i++) {
        check_stored(stored[i], 0x00007fff12345678);
        if (canonical && stored[i] > 0x176)
            check(try_wrmsr(stored[i], 0x1234567800000000) == VECTOR_GP,
                  "an address that is not canonical is refused");
    }
    check_stored(0xc0000081, 0x0023001000000000);
    check_stored(0x277, 0x0407050600070106);
    if (types)
        CHECK_EQUAL(try_wrmsr(0x277, 0x0200000000000000), VECTOR_GP);
    check_stored(0x2ff, 0xc06);
    CHECK_EQUAL(try_wrmsr(0x2ff, 2), VECTOR_GP);
    check_stored(0x200, 0x00000000c0000006);
    CHECK_EQUAL(try_wrmsr(0x200, 0x106), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(0x200, 0x2), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(0x201, 0x400), VECTOR_GP);
    /* The highest address bit, and the one above it. */
    u64 beyond = 1ull << (cpuid(0x80000008, 0).eax & 0xff);
    check_stored(0x201, beyond >> 1 | 0x800);
    CHECK_EQUAL(try_wrmsr(0x200, beyond | 6), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(0x201, beyond | 0x800), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | beyond), VECTOR_GP);
    CHECK_EQUAL(rdmsr(0x3a), 1);
    CHECK_EQUAL(try_wrmsr(0x3a, 5), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(0x1d9, 1), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(0xfe, 0), VECTOR_GP);
    CHECK_EQUAL(rdmsr(0x1a0), 1); /* MISC_ENABLE: fast strings */
    check_stored(0x1a0, 0x400c51889);
    check_stored(0x1a0, 0);
    CHECK_EQUAL(try_wrmsr(0x1a0, 1 << 1), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(0x8b, 0), NO_FAULT);
    if (on_amd()) {
        for (u32 msr = 0xc0010000; msr < 0xc0010008; msr++) { /* counters that count nothing */
            CHECK_EQUAL(try_wrmsr(msr, 0), NO_FAULT);
            CHECK_EQUAL(rdmsr(msr), 0);
        }
        CHECK_EQUAL(rdmsr(0xc0010010), 0); /* SYSCFG, HWCR, NB_CFG */
        CHECK_EQUAL(rdmsr(0xc001001f), 1ull << 46);
        CHECK_EQUAL(rdmsr(0xc0010015), 1 << 24); /* the TSC is invariant */
        CHECK_EQUAL(try_wrmsr(0xc0010015, 1 << 18), VECTOR_GP);
    }
    CHECK_EQUAL(try_wrmsr(MSR_TSC, 1000), NO_FAULT);
    CHECK(rdtsc() - 1000 < 1000000000);
    if (cpuid(0x80000001, 0).edx >> 27 & 1)
        check_stored(0xc0000103, 0x12345678); /* Bochs takes any value here */
}

#define EFER_SCE 1ull
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)

static void check_efer(void) {
    u64 efer = rdmsr(MSR_EFER);
    CHECK_EQUAL(efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
    CHECK_EQUAL(try_wrmsr(MSR_EFER, efer | EFER_SCE | EFER_NXE), NO_FAULT);
    CHECK_EQUAL(rdmsr(MSR_EFER), efer | EFER_SCE | EFER_NXE);
    for (unsigned bit = 0; bit < 64; bit++)
        if (bit != 0 && bit != 8 && bit != 10 && bit != 11)
            CHECK_EQUAL(try_wrmsr(MSR_EFER, efer | 1ull << bit), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(MSR_EFER, efer & ~EFER_LME), VECTOR_GP);
    CHECK_EQUAL(rdmsr(MSR_EFER), efer | EFER_SCE | EFER_NXE);
    /* NXE works: a page that is not for code cannot run. */
    u8 *page = window(1, 0x100000 | PTE_PRESENT | PTE_WRITE | 1ull << 63);
    *page = 0xc3;
    CHECK_EQUAL(try_call(page), VECTOR_PF);
    wrmsr(MSR_EFER, efer & ~EFER_NXE);
    CHECK_EQUAL(try_call(page), VECTOR_PF);
    CHECK_EQUAL(fault.error & 8, 8); /* the bit is reserved now */
    wrmsr(MSR_EFER, efer);
}

/* The registers of the local APIC that are there, beside which all fault; in xAPIC mode all do. */
static void check_x2apic(void) {
    for (u32 msr = 0x800; msr < 0x900; msr++) {
        u64 value;
        check(try_rdmsr(msr, &value) == VECTOR_GP, "RDMSR of an x2APIC register in xAPIC mode");
        check(try_wrmsr(msr, 0) == VECTOR_GP, "WRMSR of an x2APIC register in xAPIC mode");
    }
    apic_enable();
    static const struct range readable[] = {{0x802, 0x803}, {0x808, 0x808}, {0x80a, 0x80a},
                                            {0x80d, 0x80d}, {0x80f, 0x828}, {0x82f, 0x830},
                                            {0x832, 0x839}, {0x83e, 0x83e}};
    for (u32 msr = 0x800; msr < 0x900; msr++) {
        bool known = false;
        u64 value;
        for (unsigned i = 0; i < sizeof(readable) / sizeof(*readable); i++)
            known |= msr >= readable[i].first && msr <= readable[i].last;
        if (known != (try_rdmsr(msr, &value) == NO_FAULT))
            print("MSR 0x%x: vector %lu\n", msr, fault.vector);
        check(known == (fault.vector == NO_FAULT), "an x2APIC register is readable or faults");
        if (!known && msr != APIC_EOI && msr != APIC_SELF_IPI)
            check(try_wrmsr(msr, 0) == VECTOR_GP, "an x2APIC register that is not there faults");
    }
    CHECK_EQUAL(try_wrmsr(APIC_ID, 0), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_VERSION, 0), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_LDR, 0), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_PPR, 0), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_CURRENT_COUNT, 0), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_EOI, 1), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_TPR, 0x100), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_TPR, 1ull << 32), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_SPURIOUS, 0x400), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_ERROR, 1), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_LVT_TIMER, 1u << 11), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_ICR, 1u << 13), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_DIVIDE, 4), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(APIC_SELF_IPI, 0x100), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(MSR_APIC_BASE, 0xfee00900), VECTOR_GP); /* not back to xAPIC mode */
    CHECK_EQUAL(try_wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE)), NO_FAULT);
}

void test_main(void) {
    check_sweep(0, 0x1000);
    check_sweep(0x1ff0, 0x2010);
    check_sweep(0x40000000, 0x40000100);
    check_sweep(0x4b564cf0, 0x4b564e00);
    check_sweep(0xbffffff0, 0xc0000200);
    check_sweep(0xc0001ff0, 0xc0002010);
    check_sweep(0xc0010000, 0xc0010020);
    check_sweep(0xfffffff0, 0xffffffff);
    check_listed();
    check_efer();
    check_x2apic();
}
