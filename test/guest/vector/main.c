/* Vector state: what XRSTOR loads is there after exits and turns of another VM, in each format that CPUID lists.
   SDM volume 1, "Managing State Using the XSAVE Feature Set". */
#include "guest.h"

const char title[] = "vector";

#define CPUID_XSAVE   (1u << 26) /* leaf 1 ECX */
#define CPUID_ALIGNED (1u << 1) /* leaf 0xD ECX, of a component */
#define HAS_XSAVEOPT  (1u << 0) /* leaf 0xD, 1 EAX */
#define HAS_XSAVEC    (1u << 1)
#define CR4_OSFXSR    (1ull << 9)
#define CR4_OSXSAVE   (1ull << 18)
#define COMPACTED     (1ull << 63)
#define COMPONENTS    8
#define SSE           1
#define AREA          4096

/* XSAVE areas begin with the legacy region; MXCSR is in it, the header with XSTATE_BV and XCOMP_BV behind it. */
#define FCW       0
#define MXCSR     24
#define XMM       160
#define XMM_SIZE  256
#define XSTATE_BV 512
#define XCOMP_BV  520
#define EXTENDED  576

static u8 pattern[AREA] __attribute__((aligned(64)));
static u8 image[AREA] __attribute__((aligned(64)));
static u64 features;
static u32 seed = 1;
/* Where each component is, in the standard and in the compacted format. */
static struct place {
    u32 size, standard, compacted;
} places[COMPONENTS] = {[SSE] = {XMM_SIZE, XMM, XMM}};

static void find_places(void) {
    u32 at = EXTENDED;
    for (unsigned i = 2; i < COMPONENTS; i++) {
        struct cpuid part = cpuid(0xd, i);
        if (!(features >> i & 1))
            continue;
        if (part.ecx & CPUID_ALIGNED)
            at = (at + 63) & ~63u;
        places[i] = (struct place){part.eax, part.ebx, at};
        at += part.eax;
    }
}

static void clear(u8 *area) {
    for (unsigned i = 0; i < AREA; i++)
        area[i] = 0;
    *(u16 *)(area + FCW) = 0x37f;
    *(u32 *)(area + MXCSR) = 0x1f80;
}

static void make_pattern(u64 which) {
    clear(pattern);
    *(u64 *)(pattern + XSTATE_BV) = which;
    for (unsigned c = SSE; c < COMPONENTS; c++)
        for (unsigned b = 0; b < places[c].size && (which >> c & 1); b++)
            pattern[places[c].standard + b] = (u8)((seed = seed * 1664525 + 1013904223) >> 24);
}

#define WITH_AREA(text, area)                                                                      \
    __asm__ volatile(text ::"r"(area), "a"((u32)features), "d"((u32)(features >> 32)) : "memory")

static void xrstor(u8 *area) { WITH_AREA("xrstor64 (%0)", area); }

/* The component in this image is what the pattern says; where it is not in use, XSTATE_BV says so. */
static bool same(const u8 *area, unsigned component, u32 at) {
    bool used = *(const u64 *)(pattern + XSTATE_BV) >> component & 1;
    if (!(*(const u64 *)(area + XSTATE_BV) >> component & 1))
        return !used;
    for (unsigned b = 0; b < places[component].size; b++)
        if (area[at + b] != pattern[places[component].standard + b])
            return false;
    return true;
}

static void check_image(bool compacted) {
    for (unsigned c = SSE; c < COMPONENTS; c++)
        if (features >> c & 1)
            CHECK(same(image, c, compacted ? places[c].compacted : places[c].standard));
}

/* Exits of each kind, and turns of other VMs. */
static void be_away(void) {
    (void)cpuid(0, 0);
    (void)in8(0x61);
    (void)hypercall(0);
    for (u64 start = rdtsc(); rdtsc() - start < tsc_hz() / 50;)
        ;
}

static void check_formats(u64 which, u32 formats) {
    make_pattern(which);
    xrstor(pattern);
    be_away();
    clear(image);
    WITH_AREA("xsave64 (%0)", image);
    check_image(false);
    if (formats & HAS_XSAVEOPT) {
        clear(image);
        WITH_AREA("xsaveopt64 (%0)", image);
        check_image(false);
    }
    if (!(formats & HAS_XSAVEC))
        return;
    clear(image);
    WITH_AREA("xsavec64 (%0)", image);
    CHECK_EQUAL(*(u64 *)(image + XCOMP_BV), features | COMPACTED);
    check_image(true);
    static u8 none[AREA] __attribute__((aligned(64)));
    clear(none);
    xrstor(none);
    xrstor(image);
    clear(image);
    WITH_AREA("xsave64 (%0)", image);
    check_image(false);
}

void test_main(void) {
    if (!(cpuid(1, 0).ecx & CPUID_XSAVE))
        skip("no XSAVE");
    CHECK_EQUAL(try_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXSAVE), NO_FAULT);
    features = cpuid(0xd, 0).eax;
    __asm__ volatile("xsetbv" ::"c"(0), "a"((u32)features), "d"(0));
    u32 formats = cpuid(0xd, 1).eax;
    CHECK(cpuid(0xd, 0).ebx <= AREA);
    print("features %lx formats %lx\n", features, (u64)formats);
    find_places();
    check_formats(features, formats);
    for (unsigned c = SSE; c < COMPONENTS; c++) {
        if (!(features >> c & 1))
            continue;
        check_formats(1ull << c, formats);
        check_formats(features & ~(1ull << c), formats);
    }
}
