/* Vector state and the registers that VT-x leaves alone: switched when the CPU goes to another VM.
   Between a VM and its own device model they stay: a component has neither vector unit, debug
   registers nor MSRs of its own. */
#include "abi.h"
#include "cpu.h"
#include "domain.h"
#include "log.h"
#include "regs.h"
#include "vcpu.h"
#include "vmx.h"
#include "x86.h"

#define CPUID_XSAVE  (1u << 26) /* leaf 1 ECX */
#define CPUID_RDTSCP (1u << 27) /* leaf 0x80000001 EDX */
#define XSAVE_LEGACY 576        /* bytes: x87 and SSE, and the header */
#define XSAVE_MXCSR  24
#define COMPONENTS   8 /* x87 to ZMM_Hi256 and PKRU's slot: what guests may have is among them */

static u64 mask;
static u32 component_end[COMPONENTS];
static bool has_rdtscp;

void xstate_init(void) {
    if (!(cpuid(1, 0).ecx & CPUID_XSAVE))
        refuse("this CPU has no XSAVE, which Plinth needs to switch vector state");
    has_rdtscp = cpuid(0x80000001, 0).edx & CPUID_RDTSCP;
    write_cr4(read_cr4() | CR4_OSXSAVE | CR4_OSFXSR | CR4_OSXMMEXCPT);
    struct cpuid_regs all = cpuid(0xd, 0);
    mask = ((u64)all.edx << 32 | all.eax) & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
    if ((mask & XCR0_AVX512) != XCR0_AVX512) mask &= ~XCR0_AVX512;
    for (unsigned i = 2; i < COMPONENTS; i++)
        if (mask >> i & 1) component_end[i] = cpuid(0xd, i).ebx + cpuid(0xd, i).eax;
    xsetbv(0, mask);
}

u32 xstate_size(u64 xcr0) {
    u32 size = XSAVE_LEGACY;
    for (unsigned i = 2; i < COMPONENTS; i++)
        if ((xcr0 >> i & 1) && component_end[i] > size) size = component_end[i];
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
    *u = (struct unswitched){.xsave = area, .dr6 = 0xffff0ff0, .xcr0 = XCR0_X87};
    if (!area) return;
    memset(area, 0, xstate_size(mask));
    /* FCW and MXCSR after reset; a zero XSTATE_BV gives the rest its initial value. */
    *(u16 *)area = 0x37f;
    *(u32 *)((u8 *)area + XSAVE_MXCSR) = 0x1f80;
}

/* The host's XCR0 first, so that the guest's choice hides nothing from the save. */
void unswitched_save(struct vcpu *vcpu) {
    struct unswitched *u = &vcpu->unswitched;
    xsetbv(0, mask);
    xsave(u->xsave, mask);
    u->cr2 = read_cr2();
    u->dr[0] = read_dr0();
    u->dr[1] = read_dr1();
    u->dr[2] = read_dr2();
    u->dr[3] = read_dr3();
    u->dr6 = read_dr6();
    u->star = rdmsr(MSR_STAR);
    u->lstar = rdmsr(MSR_LSTAR);
    u->cstar = rdmsr(MSR_CSTAR);
    u->fmask = rdmsr(MSR_FMASK);
    u->kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);
    if (has_rdtscp) u->tsc_aux = rdmsr(MSR_TSC_AUX);
    /* Those that a component can reach, the first by SWAPGS. */
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    write_cr2(0);
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
    write_cr2(u->cr2);
    write_dr0(u->dr[0]);
    write_dr1(u->dr[1]);
    write_dr2(u->dr[2]);
    write_dr3(u->dr[3]);
    write_dr6(u->dr6);
    wrmsr(MSR_STAR, u->star);
    wrmsr(MSR_LSTAR, u->lstar);
    wrmsr(MSR_CSTAR, u->cstar);
    wrmsr(MSR_FMASK, u->fmask);
    wrmsr(MSR_KERNEL_GS_BASE, u->kernel_gs_base);
    if (has_rdtscp) wrmsr(MSR_TSC_AUX, u->tsc_aux);
}
