/* AMD-V as machine.h needs it. */
#pragma once

#define GUEST_H "svm_guest.h"

static u64 backend_rdmsr(u32 msr) {
    (void)msr;
    return 0;
}
#define vmsave(address) ((void)(address))
/* The host's timer is among them when it ends a run, as a VT-x timer of its own would do. */
static bool next_timer;
#define cpu_take_interrupts()                                                                      \
    do {                                                                                           \
        host_cpu.poked = true;                                                                     \
        if (next_timer) timer_interrupt();                                                         \
    } while (0)

#include "guest.h"

void svm_exited(struct vcpu *vcpu);
#define backend_exited svm_exited

static u64 generation[HOST_CPUS]; /* of ASIDs: the last that was entered */

/* --- an entry: what VMRUN would refuse, and what it must find --- */

static const char *entry_wrong(struct vcpu *vcpu) {
    const struct vmcb *b = vcpu->vmcb;
    u32 event = (u32)b->event, vector = EVENT_VECTOR(event);
    bool vm = vcpu->domain->role == ROLE_VM;
    if (vcpu != host_cpu.current || (!vcpu_runnable(vcpu) && !is_called()))
        return "it is not to run";
    if (host_cpu.loaded != vcpu || vcpu->cpu != this_cpu() || vcpu->home != this_cpu())
        return "it is another CPU's";
    if (vm && host_cpu.unswitched != vcpu) return "its registers are not loaded";
    for (unsigned i = 0; i < HOST_CPUS; i++)
        if (i != now && host[i].runs == vcpu) return "it runs on two CPUs";
    if (!b->asid || b->asid >= HOST_ASIDS) return "no ASID of this CPU";
    /* (With one CPU tests call the kernel while a guest runs, whose exit then seems to have
     * flushed.) */
    if (HOST_CPUS > 1 && vcpu->generation != generation[now] && b->tlb_control != TLB_FLUSH_ALL)
        return "what its ASID was for before is still in the TLB";
    for (const struct domain *d = domains; d; d = d->next)
        for (u32 i = 0; i < MAX_VCPUS; i++) {
            const struct vcpu *v = d->vcpus[i];
            if (v && v != vcpu && v->cpu == vcpu->cpu && v->generation == vcpu->generation &&
                v->vmcb->asid == b->asid)
                return "its ASID is another one's too";
        }
    if (!(b->intercepts[1] & INTERCEPT(SVM_VMRUN)) || !(b->intercepts[0] & INTERCEPT(SVM_MSR)) ||
        !(b->exceptions & 1u << VECTOR_MC) || b->nested != 1)
        return "a guest that is not held";
    if (!(b->efer & EFER_SVME) || b->efer & ~(EFER_SVME | EFER_KNOWN)) return "EFER";
    if (b->dr6 >> 32 || b->dr7 >> 32) return "debug registers";
    if (b->cr0 >> 32 || ((b->cr0 & CR0_NW) && !(b->cr0 & CR0_CD))) return "CR0";
    bool set = b->rflags; /* else VCPU_SET was left out */
    if (b->cr4 & ~(vm ? VM_CR4 : COMPONENT_CR4) || (set && vm && (b->cr4 & CR4_MCE) != CR4_MCE))
        return "CR4";
    if (set && !vm && !(b->cr0 & CR0_TS)) return "a component with a vector unit";
    if (!(event & EVENT_VALID)) return NULL;
    if (event & 0x7ffff000) return "reserved bits of the event";
    if (EVENT_TYPE(event) == 3 && (vector > 31 || vector == 2)) return "no exception";
    if (EVENT_TYPE(event) == 0 && (!(b->rflags & RFLAGS_IF) || b->shadow))
        return "an interrupt that the guest blocks";
    if (EVENT_TYPE(event) == 2 && (vector != 2 || b->shadow)) return "an NMI that the guest blocks";
    return EVENT_TYPE(event) == 0 || EVENT_TYPE(event) == 2 || EVENT_TYPE(event) == 3 ? NULL
                                                                                      : "its type";
}

void guest_enter(struct vcpu *vcpu) {
    struct vmcb *b = vcpu->vmcb;
    const char *wrong = entry_wrong(vcpu);
    if (wrong) panic("entry of domain %u: %s", vcpu->domain->id, wrong);
    generation[now] = vcpu->generation;
    entered = vcpu;
    entered_event = (u32)b->event;
    b->rax = vcpu->gpr[0];
    longjmp(entered_return, 1);
}

/* --- exits --- */

static u32 next_vector; /* of the next exit, if it is an exception */

static u64 next_cr; /* its code, if it is an access to a control register */

static u64 code_of(u32 reason) {
    switch (reason) {
    case REASON_EXCEPTION: return next_vector == VECTOR_NMI ? SVM_NMI : SVM_EXCEPTION + next_vector;
    case REASON_PREEMPTION_TIMER: return SVM_INTR;
    case REASON_VMXON: return SVM_VMRUN;
    case REASON_INVVPID: return SVM_SKINIT;
    case REASON_WRMSR: return SVM_MSR;
    case REASON_CR_ACCESS: return next_cr;
    case REASON_PAGE: return SVM_PAGE;
    }
    for (u64 code = 0; code < SVM_CODES; code++)
        if (svm_exits[code].reason == reason + 1) return code;
    return ~0ull; /* VMRUN has refused */
}

static void next_begin(struct vcpu *vcpu, u32 reason) {
    struct vmcb *b = vcpu->vmcb;
    next_timer = reason == REASON_PREEMPTION_TIMER;
    b->exit_code = code_of(reason);
    b->next_rip = b->rip + 3;
    if (reason == REASON_IO) b->exit_info2 = b->next_rip;
    if (b->exit_code == SVM_MSR) b->exit_info1 = reason == REASON_WRMSR;
    b->rax = vcpu->gpr[0];
}

static u32 next_poked(bool nmi) {
    next_vector = VECTOR_NMI;
    entered->vmcb->vectoring = 0;
    return nmi ? REASON_EXCEPTION : REASON_EXTERNAL_INTERRUPT;
}

static inline void next_page(u64 at, u32 access) {
    struct vmcb *b = entered->vmcb;
    b->vectoring = 0;
    b->exit_info1 = 1u << 2 | (access & RIGHT_WRITE) | (access & RIGHT_EXECUTE ? 1u << 4 : 0);
    b->exit_info2 = at;
}
static inline void next_out8(u16 port) { entered->vmcb->exit_info1 = (u32)port << 16 | 1u << 4; }

static inline void next_cr4_write(void) {
    next_cr = SVM_WRITE_CR4;
    entered->vmcb->exit_info1 = 3;
}

static inline void next_hostile(u32 reason, bool cut_short, u64 at) {
    static const u32 vectors[] = {VECTOR_NMI, VECTOR_DB, VECTOR_AC};
    struct vmcb *b = entered->vmcb;
    u64 error = entered_event & EVENT_HAS_ERROR ? unit_random() << 32 : 0;
    b->vectoring = cut_short ? entered_event | error : 0;
    if (!cut_short) {
        b->rflags = (unit_random() & (RFLAGS_IF | RFLAGS_TF)) | RFLAGS_FIXED;
        b->shadow = reason == REASON_INTERRUPT_WINDOW ? 0 : unit_random() & 1;
        if (unit_random() % 20 == 0) /* INT n, which comes again with its instruction */
            b->vectoring =
                EVENT_VALID | EVENT_TYPE_SOFTWARE_INTERRUPT << 8 | (unit_random() & 0xff);
    }
    next_vector = vectors[unit_random() % ARRAY_SIZE(vectors)];
    next_cr = unit_random() % 2 ? SVM_WRITE_CR4 : SVM_READ_CR4;
    b->exit_info1 = unit_random();
    b->exit_info2 = at;
    b->dr6 = unit_random() & 0xe00f;
    b->rsp = unit_random();
    if (reason == REASON_IO) /* a size of each kind, and a segment that there is */
        b->exit_info1 = (b->exit_info1 & 0xffff000d) | 1ull << (4 + unit_random() % 3) |
                        1ull << (7 + unit_random() % 3) | unit_random() % 6 << 10;
}

#include "../../kernel/svm.c"
