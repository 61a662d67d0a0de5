/* CPUID: what the policy shows, and what follows CR4 and XCR0. XSETBV takes valid values only. */
#include "guest.h"

const char title[] = "cpuid";

#define CR4_OSXSAVE (1ull << 18)
#define LEAF1_VMX     (1u << 5)
#define LEAF1_SMX     (1u << 6)
#define LEAF1_X2APIC  (1u << 21)
#define LEAF1_DEADLINE (1u << 24)
#define LEAF1_XSAVE   (1u << 26)
#define LEAF1_OSXSAVE (1u << 27)
#define LEAFD1_XSAVEC (1u << 1)
#define LEAF1_HYPERVISOR (1u << 31)

static u64 xsetbv(u32 index, u64 value) {
    return FAULT_OF("xsetbv", ::"c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static void check_features(void) {
    struct cpuid one = cpuid(1, 0);
    CHECK(!(one.ecx & LEAF1_VMX));
    CHECK(!(one.ecx & LEAF1_SMX));
    CHECK(one.ecx & LEAF1_X2APIC);
    CHECK(one.ecx & LEAF1_DEADLINE);
    CHECK(one.ecx & LEAF1_HYPERVISOR);
    CHECK_EQUAL(one.ebx >> 24, 0);          /* APIC id */
    CHECK_EQUAL(one.ebx >> 16 & 0xff, 1);   /* logical CPUs */
    struct cpuid seven = cpuid(7, 0);
    CHECK(!(seven.ebx & (1u << 2 | 1u << 4 | 1u << 11 | 1u << 25))); /* SGX, HLE, RTM, PT */
    CHECK(!(seven.ecx & (1u << 3 | 1u << 4 | 1u << 16)));            /* PKU, OSPKE, LA57 */
    struct cpuid hypervisor = cpuid(0x40000000, 0);
    CHECK_EQUAL(hypervisor.ebx, 0x6e696c50); /* "Plin" */
    CHECK(cpuid(0x80000001, 0).edx >> 29 & 1);
    CHECK(!(cpuid(0x80000001, 0).ecx & 4)); /* SVM */
    struct cpuid a = cpuid(0xa, 0);
    CHECK_EQUAL(a.eax & 0xff, 0); /* no performance counters */
    struct cpuid beyond = cpuid(0x3fffffff, 0);
    check(!(beyond.eax | beyond.ebx | beyond.ecx | beyond.edx), "a leaf that is not there is zero");
}

/* Bytes that XSAVEC needs for these components: each follows the one before, some at a multiple of 64. */
static u32 compacted_size(u64 components) {
    u32 size = 576;
    for (unsigned i = 2; i < 63; i++) {
        if (!(components >> i & 1))
            continue;
        struct cpuid part = cpuid(0xd, i);
        if (part.ecx & 2)
            size = (size + 63) / 64 * 64;
        size += part.eax;
    }
    return size;
}

static void check_xsave(void) {
    CHECK(!(cpuid(1, 0).ecx & LEAF1_OSXSAVE));
    CHECK_EQUAL(xsetbv(0, 1), VECTOR_UD);
    CHECK_EQUAL(try_cr4(read_cr4() | CR4_OSXSAVE), NO_FAULT);
    CHECK(cpuid(1, 0).ecx & LEAF1_OSXSAVE);
    struct cpuid d = cpuid(0xd, 0);
    u64 all = (u64)d.edx << 32 | d.eax;
    CHECK_EQUAL(all & 3, 3);
    CHECK_EQUAL(d.ebx, 576);
    CHECK_EQUAL(xsetbv(0, 0), VECTOR_GP);
    CHECK_EQUAL(xsetbv(0, 2), VECTOR_GP);
    CHECK_EQUAL(xsetbv(0, 5), VECTOR_GP); /* AVX without SSE */
    CHECK_EQUAL(xsetbv(1, 3), VECTOR_GP);
    CHECK_EQUAL(xsetbv(0, 3 | 1ull << 63), VECTOR_GP);
    for (unsigned bit = 0; bit < 64; bit++)
        if (!(all >> bit & 1))
            CHECK_EQUAL(xsetbv(0, all | 1ull << bit), VECTOR_GP);
    if (all & 4) {
        CHECK_EQUAL(xsetbv(0, 7), NO_FAULT);
        CHECK_EQUAL(cpuid(0xd, 0).ebx, cpuid(0xd, 2).eax + cpuid(0xd, 2).ebx);
        if (cpuid(0xd, 1).eax & LEAFD1_XSAVEC)
            CHECK_EQUAL(cpuid(0xd, 1).ebx, 576 + cpuid(0xd, 2).eax);
        CHECK_EQUAL(xsetbv(0, 7 | 1 << 5), VECTOR_GP); /* AVX-512 in part */
    }
    CHECK_EQUAL(xsetbv(0, all), NO_FAULT);
    CHECK_EQUAL(cpuid(0xd, 0).ebx, d.ecx);
    CHECK_EQUAL(cpuid(0xd, 0).ecx, d.ecx);
    CHECK_EQUAL(cpuid(0xd, 1).ebx, cpuid(0xd, 1).eax & LEAFD1_XSAVEC ? compacted_size(all) : 0);
    u32 low, high;
    CHECK_EQUAL(FAULT_OF("xgetbv", : "=a"(low), "=d"(high) : "c"(0)), NO_FAULT);
    CHECK_EQUAL(low, (u32)all);
    CHECK_EQUAL(xsetbv(0, 1), NO_FAULT);
    CHECK_EQUAL(cpuid(0xd, 0).ebx, 576);
    CHECK_EQUAL(try_cr4(read_cr4() & ~CR4_OSXSAVE), NO_FAULT);
    CHECK(!(cpuid(1, 0).ecx & LEAF1_OSXSAVE));
}

void test_main(void) {
    check_features();
    if (cpuid(1, 0).ecx & LEAF1_XSAVE)
        check_xsave();
    CHECK(tsc_hz() > 1000000);
}
