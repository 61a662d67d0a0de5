/* Vector state and the registers that VT-x leaves alone: switched when the CPU goes to another VM.
   Between a VM and its own device model they stay: a component has neither vector unit, debug
   registers nor MSRs of its own. */
#include "abi.h"
#include "cpu.h"
#include "domain.h"
#include "guest.h"
#include "log.h"
#include "regs.h"
#include "vcpu.h"
#include "x86.h"

#define CPUID_XSAVE   (1u << 26) /* leaf 1 ECX */
#define CPUID_ALIGNED (1u << 1)  /* leaf 0xD ECX, of a component */
#define XSAVE_LEGACY  576        /* bytes: x87 and SSE, and the header */
#define XSAVE_MXCSR   24
#define COMPONENTS    8 /* x87 to ZMM_Hi256 and PKRU's slot: what guests may have is among them */

static u64 mask;
static struct {
    u32 offset, size; /* bytes */
    bool aligned;     /* at a multiple of 64 bytes in the compacted format */
} components[COMPONENTS];
static bool has_rdtscp;

void xstate_init(void) {
    if (!(cpuid(1, 0).ecx & CPUID_XSAVE))
        refuse("this CPU has no XSAVE, which Plinth needs to switch vector state");
    has_rdtscp = cpuid(0x80000001, 0).edx & CPUID_EXT_1_EDX_RDTSCP;
    struct cpuid_regs all = cpuid(0xd, 0);
    mask = ((u64)all.edx << 32 | all.eax) & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
    if ((mask & XCR0_AVX512) != XCR0_AVX512) mask &= ~XCR0_AVX512;
    for (unsigned i = 2; i < COMPONENTS; i++) {
        if (!(mask >> i & 1)) continue;
        struct cpuid_regs part = cpuid(0xd, i);
        components[i].offset = part.ebx;
        components[i].size = part.eax;
        components[i].aligned = part.ecx & CPUID_ALIGNED;
    }
}

void xstate_cpu_init(void) {
    write_cr4(read_cr4() | CR4_OSXSAVE | CR4_OSFXSR | CR4_OSXMMEXCPT);
    xsetbv(0, mask);
}

u32 xstate_size(u64 xcr0) {
    u32 size = XSAVE_LEGACY;
    for (unsigned i = 2; i < COMPONENTS; i++)
        if ((xcr0 >> i & 1) && components[i].offset + components[i].size > size)
            size = components[i].offset + components[i].size;
    return size;
}

u32 xstate_compacted_size(u64 xcr0) {
    u32 size = XSAVE_LEGACY;
    for (unsigned i = 2; i < COMPONENTS; i++) {
        if (!(xcr0 >> i & 1)) continue;
        if (components[i].aligned) size = (size + 63) & ~63u;
        size += components[i].size;
    }
    return size;
}

unsigned xstate_order(void) { return xstate_size(mask) > PAGE_SIZE ? 1 : 0; }

bool xstate_allowed(u64 xcr0) {
    u64 avx512 = xcr0 & XCR0_AVX512;
    return !(xcr0 & ~mask) && (xcr0 & XCR0_X87) && (!(xcr0 & XCR0_AVX) || (xcr0 & XCR0_SSE)) &&
           (!avx512 || (avx512 == XCR0_AVX512 && (xcr0 & XCR0_AVX)));
}

void unswitched_reset(struct vcpu *vcpu) {
    struct unswitched *u = &vcpu->unswitched;
    void *area = u->xsave;
    *u = (struct unswitched){.xsave = area, .dr6 = DR6_RESET, .xcr0 = XCR0_X87};
    if (!area) return;
    memset(area, 0, xstate_size(mask));
    /* FCW and MXCSR after reset; a zero XSTATE_BV gives the rest its initial value. */
    *(u16 *)area = 0x37f;
    *(u32 *)((u8 *)area + XSAVE_MXCSR) = 0x1f80;
}

u32 xstate_area_size(void) { return xstate_size(mask); }

#define XSAVE_HEADER 512 /* XSTATE_BV, then what the standard format has as zeroes */
#define MXCSR_KNOWN  0xffffu

/* XRSTOR faults at state that there is not, at reserved bits of MXCSR, and of the header. */
bool xstate_load(struct vcpu *vcpu, u32 offset, const void *from, u64 length) {
    u8 *area = vcpu->unswitched.xsave;
    u32 size = xstate_area_size(), most = size - offset;
    if (offset >= size || (!offset && length < XSAVE_LEGACY)) return false;
    memset(area + offset, 0, most);
    memcpy(area + offset, from, length < most ? length : most);
    *(u32 *)(area + XSAVE_MXCSR) &= MXCSR_KNOWN;
    *(u64 *)(area + XSAVE_HEADER) &= mask;
    memset(area + XSAVE_HEADER + sizeof(u64), 0, XSAVE_LEGACY - XSAVE_HEADER - sizeof(u64));
    return true;
}

/* The host's XCR0 first, so that the guest's choice hides nothing from the save. */
void unswitched_save(struct vcpu *vcpu) {
    struct unswitched *u = &vcpu->unswitched;
    u->xcr0 = xgetbv(0); /* QEMU's AMD-V knows no intercept of XSETBV */
    xsetbv(0, mask);
    xsave(u->xsave, mask);
    u->dr[0] = read_dr0();
    u->dr[1] = read_dr1();
    u->dr[2] = read_dr2();
    u->dr[3] = read_dr3();
    if (has_rdtscp) u->tsc_aux = rdmsr(MSR_TSC_AUX);
    guest_registers_save(u);
}

void unswitched_evict(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (cpu->unswitched != vcpu) return;
    unswitched_save(vcpu);
    cpu->unswitched = NULL;
}

/* The guest's XCR0 last, for the same reason. */
void unswitched_load(struct vcpu *vcpu) {
    struct unswitched *u = &vcpu->unswitched;
    xrstor(u->xsave, mask);
    xsetbv(0, u->xcr0);
    write_dr0(u->dr[0]);
    write_dr1(u->dr[1]);
    write_dr2(u->dr[2]);
    write_dr3(u->dr[3]);
    guest_registers_load(u);
    if (has_rdtscp) wrmsr(MSR_TSC_AUX, u->tsc_aux);
}
