/* What happens at a VM exit: one switch, in which each reason is one call. */
#include "apic.h"
#include "cpu.h"
#include "cpuid.h"
#include "domain.h"
#include "hypercall.h"
#include "log.h"
#include "msr.h"
#include "regs.h"
#include "trap.h"
#include "vcpu.h"
#include "vmcs.h"
#include "vmx.h"
#include "x86.h"

enum { RAX, RCX, RDX, RBX, RSP };

#define VM_NO_HYPERCALL (u64) - 1000ll /* what KVM answers to a hypercall that it does not know */

void nmi_handle(void) { this_cpu()->attention = true; }

/* The vCPU did what its domain may not do: the end of it. */
static void end(struct vcpu *vcpu, u32 failure, u32 type, u64 detail) {
    struct domain *domain = vcpu->domain;
    log_limited("domain %u vCPU %u: exit reason %lu", domain->id, vcpu->index, detail);
    vmx_dump(vcpu);
    if (vcpu->exit) {
        vcpu->exit->value = detail;
        vcpu_forward(vcpu, type);
    }
    domain_fail(domain, failure, detail);
}

static ALWAYS_INLINE void advance(void) { vmcs_advance(vmread32(VMCS_EXIT_LENGTH)); }

static ALWAYS_INLINE void advance_or_gp(struct vcpu *vcpu, bool ok) {
    if (ok)
        advance();
    else
        inject_exception(vcpu, VECTOR_GP, 0);
}

static bool is_vm(const struct vcpu *vcpu) { return vcpu->domain->role == ROLE_VM; }

static void exit_exception(struct vcpu *vcpu) {
    u32 info = vmread32(VMCS_EXIT_EVENT);
    unsigned vector = EVENT_VECTOR(info);
    inject_requeue(vcpu);
    if (EVENT_TYPE(info) == 2) {
        /* NMIs stay blocked until an IRET: the gate's handler ends with one. */
        raise_nmi();
        return;
    }
    if (vector == VECTOR_MC) {
        raise_machine_check();
        return;
    }
    if (!is_vm(vcpu)) {
        end(vcpu, FAILURE_EXIT, EXIT_FAILED, vector);
        return;
    }
    if (info & EVENT_NMI_UNBLOCKED && vector != VECTOR_DF &&
        !(vmread32(VMCS_VECTORING_EVENT) & EVENT_VALID))
        vmwrite32(VMCS_GUEST_BLOCKING, vmread32(VMCS_GUEST_BLOCKING) | BLOCKING_NMI);
    if (vector == VECTOR_DB) { /* the CPU leaves DR6 and DR7.GD to us */
        write_dr6(read_dr6() | (vmread64(VMCS_EXIT_QUALIFICATION) & 0xe00f));
        vmwrite64(VMCS_GUEST_DR7, vmread64(VMCS_GUEST_DR7) & ~(1ull << 13));
    }
    inject_exception(vcpu, vector, info & EVENT_HAS_ERROR ? vmread32(VMCS_EXIT_ERROR_CODE) : 0);
}

static void exit_external_interrupt(void) {
    irq_dispatch((u8)EVENT_VECTOR(vmread32(VMCS_EXIT_EVENT)));
}

static void exit_cpuid(struct vcpu *vcpu) {
    cpuid_answer(vcpu);
    advance();
    sched_resume(vcpu);
}

static void exit_hlt(struct vcpu *vcpu) {
    u64 rflags = vmread64(VMCS_GUEST_RFLAGS);
    advance();
    vcpu->interruptible = rflags & RFLAGS_IF;
    /* What came before STI, whose shadow held it off until now. A single step ends HLT by its trap.
     */
    if (inject_waiting(vcpu) || vcpu->event || (rflags & RFLAGS_TF)) {
        vcpu->attention = true;
        return;
    }
    vcpu->state = VCPU_HALTED;
    this_cpu()->attention = true;
}

/* A component's WAIT goes to its VM without a detour. */
static NOINLINE void exit_hypercall(struct vcpu *vcpu) {
    if (vcpu->gpr[RAX] == HC_WAIT) {
        bool quiet = !this_cpu()->attention;
        advance();
        hypercall_wait(vcpu);
        return sched_resume_next(quiet, vcpu);
    }
    if (hypercall(vcpu)) advance();
    sched_resume(vcpu);
}

/* A VM has no hypercalls. */
static void exit_vmcall(struct vcpu *vcpu) {
    if (!is_vm(vcpu)) return exit_hypercall(vcpu);
    vcpu->gpr[RAX] = VM_NO_HYPERCALL;
    advance();
    sched_resume(vcpu);
}

/* To the device model, on the same time slice. */
static ALWAYS_INLINE void forward(struct vcpu *vcpu, u32 type) {
    bool quiet = !this_cpu()->attention;
    vcpu_forward(vcpu, type);
    sched_resume_next(quiet, vcpu);
}

static u64 gpr_read(struct vcpu *vcpu, unsigned n) {
    return n == RSP ? vmread64(VMCS_GUEST_RSP) : vcpu->gpr[n];
}

/* Only writes that change what the host owns come here, and CR8: SDM volume 3, "Exit Qualification
   for Control-Register Accesses". */
static void exit_cr_access(struct vcpu *vcpu) {
    u64 q = vmread64(VMCS_EXIT_QUALIFICATION);
    unsigned cr = q & 15, access = q >> 4 & 3, gpr = q >> 8 & 15;
    u64 cr0 = (vmread64(VMCS_GUEST_CR0) & ~(CR0_CD | CR0_NW | CR0_NE)) |
              (vmread64(VMCS_CR0_SHADOW) & (CR0_CD | CR0_NW | CR0_NE));
    bool ok = false;
    if (access == 0 && cr == 0) {
        ok = vmx_cr0_write(vcpu, gpr_read(vcpu, gpr));
    } else if (access == 0 && cr == 4) {
        ok = vmx_cr4_write(vcpu, gpr_read(vcpu, gpr));
    } else if (access == 0 && cr == 8) {
        u64 value = gpr_read(vcpu, gpr);
        ok = value < 16 && vapic_write(vcpu, MSR_X2APIC_BASE + 8, value << 4);
    } else if (access == 1 && cr == 8) {
        vcpu->gpr[gpr] = vcpu->apic.tpr >> 4;
        if (gpr == RSP) vmwrite64(VMCS_GUEST_RSP, vcpu->apic.tpr >> 4);
        ok = true;
    } else if (access == 2) { /* CLTS */
        ok = vmx_cr0_write(vcpu, cr0 & ~CR0_TS);
    } else if (access == 3) { /* LMSW: the low four bits, and PE stays once it is set */
        u64 low = q >> 16 & 15;
        ok = vmx_cr0_write(vcpu, (cr0 & ~0xeull) | low);
    }
    advance_or_gp(vcpu, ok);
}

/* --- ports --- */

static bool doorbell(struct vcpu *vcpu, u16 port, u32 value) {
    struct domain *domain = vcpu->domain;
    for (unsigned i = 0; i < MAX_DOORBELLS; i++) {
        const struct doorbell *bell = &domain->doorbells[i];
        if (bell->event && bell->port == port &&
            (bell->value == DOORBELL_ANY || bell->value == value)) {
            if (domain->model) domain_signal(domain->model, 1ull << bell->event);
            return true;
        }
    }
    return false;
}

static void fill_state(struct vcpu *vcpu) {
    struct exit_message *m = vcpu->exit;
    vcpu->gpr[RSP] = vmread64(VMCS_GUEST_RSP);
    memcpy(m->gpr, vcpu->gpr, sizeof(m->gpr));
    m->cs_access = vmread32(VMCS_GUEST_ACCESS(SEGMENT_CS));
    m->cs_base = vmread64(VMCS_GUEST_BASE(SEGMENT_CS));
    m->rip = vmread64(VMCS_GUEST_RIP);
    m->rflags = vmread64(VMCS_GUEST_RFLAGS);
    m->cr0 = vmread64(VMCS_GUEST_CR0);
    m->cr3 = vmread64(VMCS_GUEST_CR3);
    m->cr4 = vmread64(VMCS_GUEST_CR4);
    m->efer = vmread64(VMCS_GUEST_EFER);
}

static void exit_io(struct vcpu *vcpu) {
    u64 q = vmread64(VMCS_EXIT_QUALIFICATION);
    u32 size = (q & 7) + 1;
    bool in = q >> 3 & 1, string = q >> 4 & 1, rep = q >> 5 & 1;
    u16 port = (u16)(q >> 16);
    if (!is_vm(vcpu)) { /* a port that it was not given */
        end(vcpu, FAILURE_EXIT, EXIT_FAILED, REASON_IO);
        return sched_resume(vcpu);
    }
    struct exit_message *m = vcpu->exit;
    u32 value = (u32)(vcpu->gpr[RAX] & (size == 4 ? ~0u : (1u << 8 * size) - 1));
    if (!in && !string && vcpu->domain->doorbells[0].event && doorbell(vcpu, port, value)) {
        advance();
        return sched_resume(vcpu);
    }
    m->length = vcpu->exit_length = vmread32(VMCS_EXIT_LENGTH);
    m->port = port;
    m->size = vcpu->exit_size = size;
    m->value = value;
    if (string) {
        m->access = (in ? ACCESS_READ : ACCESS_WRITE) | (rep ? ACCESS_REP : 0);
        m->linear = vmread64(VMCS_GUEST_LINEAR);
        fill_state(vcpu);
    }
    forward(vcpu, string ? EXIT_PORT_STRING : in ? EXIT_PORT_IN : EXIT_PORT_OUT);
}

/* --- MSRs --- */

/* A component has only EFER, without SYSCALL: the MSRs of that are the last VM's. */
static COLD void exit_component_msr(struct vcpu *vcpu, bool write) {
    bool ok = (u32)vcpu->gpr[RCX] == MSR_EFER;
    if (ok && write) {
        u64 value = vcpu->gpr[RDX] << 32 | (u32)vcpu->gpr[RAX];
        ok = !(value & EFER_SCE) && vmx_efer_write(value);
    } else if (ok) {
        vcpu->gpr[RAX] = (u32)vmread64(VMCS_GUEST_EFER);
        vcpu->gpr[RDX] = 0;
    }
    advance_or_gp(vcpu, ok);
    sched_resume(vcpu);
}

static void exit_rdmsr(struct vcpu *vcpu) {
    u64 value;
    if (unlikely(!is_vm(vcpu))) return exit_component_msr(vcpu, false);
    if (likely(msr_read(vcpu, (u32)vcpu->gpr[RCX], &value))) {
        vcpu->gpr[RAX] = (u32)value;
        vcpu->gpr[RDX] = value >> 32;
        advance();
    } else {
        inject_exception(vcpu, VECTOR_GP, 0);
    }
    sched_resume(vcpu);
}

static void exit_wrmsr(struct vcpu *vcpu) {
    u64 value = vcpu->gpr[RDX] << 32 | (u32)vcpu->gpr[RAX];
    if (unlikely(!is_vm(vcpu))) return exit_component_msr(vcpu, true);
    advance_or_gp(vcpu, msr_write(vcpu, (u32)vcpu->gpr[RCX], value));
    sched_resume(vcpu);
}

static void exit_xsetbv(struct vcpu *vcpu) {
    u64 value = vcpu->gpr[RDX] << 32 | (u32)vcpu->gpr[RAX];
    bool ok = is_vm(vcpu) && (u32)vcpu->gpr[RCX] == 0 && xstate_allowed(value);
    if (ok) {
        vcpu->unswitched.xcr0 = value;
        xsetbv(0, value);
    }
    advance_or_gp(vcpu, ok);
}

/* --- memory --- */

#define VIOLATION_READ         1u
#define VIOLATION_WRITE        2u
#define VIOLATION_FETCH        4u
#define VIOLATION_LINEAR_VALID (1u << 7)

static void exit_ept_violation(struct vcpu *vcpu) {
    u64 q = vmread64(VMCS_EXIT_QUALIFICATION);
    u64 address = vmread64(VMCS_GUEST_PHYSICAL);
    if (!is_vm(vcpu)) {
        vmx_dump(vcpu);
        domain_fail(vcpu->domain, FAILURE_MEMORY, address);
        return sched_resume(vcpu);
    }
    inject_requeue(vcpu);
    if ((q & EVENT_NMI_UNBLOCKED) && !(vmread32(VMCS_VECTORING_EVENT) & EVENT_VALID))
        vmwrite32(VMCS_GUEST_BLOCKING, vmread32(VMCS_GUEST_BLOCKING) | BLOCKING_NMI);
    struct exit_message *m = vcpu->exit;
    m->gpa = address;
    m->linear = q & VIOLATION_LINEAR_VALID ? vmread64(VMCS_GUEST_LINEAR) : 0;
    m->access = (u32)q & (VIOLATION_READ | VIOLATION_WRITE | VIOLATION_FETCH);
    m->length = vcpu->exit_length = 0; /* undefined for this exit */
    fill_state(vcpu);
    forward(vcpu, EXIT_MMIO);
}

/* --- dispatch --- */

static void exit_failed_entry(struct vcpu *vcpu, u32 reason) {
    if ((reason & 0xffff) == REASON_MACHINE_CHECK_ENTRY) {
        raise_machine_check();
        return;
    }
    end(vcpu, FAILURE_ENTRY, EXIT_FAILED, reason & 0xffff);
}

static void exit_preemption_timer(struct vcpu *vcpu) {
    sched_deadline();
    sched_resume(vcpu);
}

/* All that is not on the way of a busy guest; handlers here return. */
static NOINLINE void exit_rare(struct vcpu *vcpu) {
    u32 reason = vmread32(VMCS_EXIT_REASON);
    switch (reason) {
    case REASON_EXCEPTION: exit_exception(vcpu); break;
    case REASON_EXTERNAL_INTERRUPT: exit_external_interrupt(); break;
    case REASON_TRIPLE_FAULT: end(vcpu, FAILURE_TRIPLE_FAULT, EXIT_SHUTDOWN, reason); break;
    case REASON_INIT:
    case REASON_SIPI: break; /* meant for the host, which takes none while it runs */
    case REASON_INTERRUPT_WINDOW:
    case REASON_NMI_WINDOW: vcpu->attention = true; break;
    case REASON_PAUSE: sched_yield(); break;
    case REASON_HLT: exit_hlt(vcpu); break;
    case REASON_CR_ACCESS: exit_cr_access(vcpu); break;
    case REASON_XSETBV: exit_xsetbv(vcpu); break;
    case REASON_INVD:
    case REASON_WBINVD: advance(); break; /* memory is coherent: no device is passed through */
    case REASON_RDPMC: inject_exception(vcpu, VECTOR_GP, 0); break;
    case REASON_VMCLEAR ... REASON_VMXON:
    case REASON_MWAIT:
    case REASON_MONITOR:
    case REASON_INVEPT:
    case REASON_INVVPID:
    case REASON_VMFUNC: inject_exception(vcpu, VECTOR_UD, NO_ERROR_CODE); break;
    default:
        if (reason & REASON_ENTRY_FAILED)
            exit_failed_entry(vcpu, reason);
        else
            end(vcpu, FAILURE_EXIT, EXIT_FAILED, reason);
    }
    sched_resume(vcpu);
}

/* The busy ones end with sched_resume, as a jump: none pays for registers that another saves. */
static void (*const handlers[MAX_EXIT_REASONS])(struct vcpu *) = {
    [0 ... REASON_CPUID - 1] = exit_rare,
    [REASON_CPUID] = exit_cpuid,
    [REASON_CPUID + 1 ... REASON_VMCALL - 1] = exit_rare,
    [REASON_VMCALL] = exit_vmcall,
    [REASON_VMCALL + 1 ... REASON_IO - 1] = exit_rare,
    [REASON_IO] = exit_io,
    [REASON_RDMSR] = exit_rdmsr,
    [REASON_WRMSR] = exit_wrmsr,
    [REASON_WRMSR + 1 ... REASON_EPT_VIOLATION - 1] = exit_rare,
    [REASON_EPT_VIOLATION] = exit_ept_violation,
    [REASON_EPT_VIOLATION + 1 ... REASON_PREEMPTION_TIMER - 1] = exit_rare,
    [REASON_PREEMPTION_TIMER] = exit_preemption_timer,
    [REASON_PREEMPTION_TIMER + 1 ... MAX_EXIT_REASONS - 1] = exit_rare,
};

/* Called by vmx_exited. What an exit cut short (IDT vectoring) is queued again by those that can
   cut short: exceptions and EPT violations. */
void exit_handle(struct vcpu *vcpu) {
    u32 reason = vmread32(VMCS_EXIT_REASON);
    if (unlikely(reason >= MAX_EXIT_REASONS)) return exit_rare(vcpu);
    vcpu->counters[reason]++;
    handlers[reason](vcpu);
}
