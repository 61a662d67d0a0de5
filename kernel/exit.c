/* What happens at a VM exit: one switch, in which each reason is one call. */
#include "apic.h"
#include "cpu.h"
#include "cpuid.h"
#include "domain.h"
#include "guest.h"
#include "hypercall.h"
#include "log.h"
#include "memory.h"
#include "msr.h"
#include "regs.h"
#include "smp.h"
#include "trap.h"
#include "vapic_inline.h"
#include "vcpu.h"
#include "x86.h"

enum { RAX, RCX, RDX, RBX, RSP };

#define VM_NO_HYPERCALL (u64) - 1000ll /* what KVM answers to a hypercall that it does not know */

#define DUMPS 2 /* of a domain's vCPUs a second */

static void dump(struct vcpu *vcpu) {
    struct vcpu_state s;
    guest_state_read(vcpu, &s);
    const struct segment_state *cs = &((const struct segment_state *)s.segments)[SEGMENT_CS];
    log_info("  rip %lx rflags %lx cs %x base %lx access %x", s.rip, s.rflags, cs->selector,
             cs->base, cs->access);
    log_info("  cr0 %lx cr2 %lx cr3 %lx cr4 %lx efer %lx", s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
    for (unsigned i = 0; i < 16; i += 4)
        log_info("  r%u %lx %lx %lx %lx", i, s.gpr[i], s.gpr[i + 1], s.gpr[i + 2], s.gpr[i + 3]);
}

/* The vCPU did what its domain may not do: the end of it. */
static void end(struct vcpu *vcpu, u32 failure, u32 type, u64 detail) {
    struct domain *domain = vcpu->domain;
    if (log_permit(&domain->log, 1, DUMPS)) {
        log_info("domain %u vCPU %u: exit reason %lu", domain->id, vcpu->index, detail);
        dump(vcpu);
    }
    if (vcpu->exit) {
        vcpu->exit->value = detail;
        vcpu_forward(vcpu, type);
    }
    domain_fail(domain, failure, detail);
}

static ALWAYS_INLINE void advance(struct vcpu *vcpu) {
    guest_advance(vcpu, guest_exit_length(vcpu));
}

static ALWAYS_INLINE void advance_or_gp(struct vcpu *vcpu, bool ok) {
    if (ok)
        advance(vcpu);
    else
        inject_exception(vcpu, VECTOR_GP, 0);
}

static bool is_vm(const struct vcpu *vcpu) { return vcpu->exit; }

static NOINLINE void take_exception(struct vcpu *vcpu) {
    u32 info = guest_exit_event(vcpu);
    unsigned vector = EVENT_VECTOR(info);
    if (vector == VECTOR_MC) {
        raise_machine_check();
        return;
    }
    if (!is_vm(vcpu)) {
        end(vcpu, FAILURE_EXIT, EXIT_FAILED, vector);
        return;
    }
    if (!guest_exception_end(vcpu, info)) return;
    inject_exception(vcpu, vector, info & EVENT_HAS_ERROR ? guest_exit_error(vcpu) : 0);
}

/* An NMI is another CPU's poke. */
static void exit_exception(struct vcpu *vcpu) {
    inject_requeue(vcpu);
    if (likely(EVENT_TYPE(guest_exit_event(vcpu)) == 2))
        guest_exit_nmi();
    else
        take_exception(vcpu);
    sched_resume(vcpu);
}

static void exit_cpuid(struct vcpu *vcpu) {
    cpuid_answer(vcpu);
    advance(vcpu);
    sched_resume(vcpu);
}

static void exit_hlt(struct vcpu *vcpu) {
    u64 rflags = guest_rflags(vcpu);
    advance(vcpu);
    vcpu->interruptible = rflags & RFLAGS_IF;
    /* What came before STI, whose shadow held it off until now. A single step ends HLT by its trap.
     */
    if (inject_waiting(vcpu) || vcpu->event || (rflags & RFLAGS_TF)) {
        vcpu->attention = true;
        return;
    }
    vcpu->activity = HALTED;
    vcpu_halt(vcpu);
}

/* A component's WAIT goes to its VM without a detour. */
static NOINLINE void exit_hypercall(struct vcpu *vcpu) {
    if (vcpu->gpr[RAX] == HC_WAIT) {
        advance(vcpu);
        hypercall_wait(vcpu);
        return sched_resume_next(vcpu);
    }
    enum outcome outcome = hypercall(vcpu);
    if (unlikely(outcome == CALL_GONE)) return sched_resume_other();
    if (likely(outcome == CALL_DONE)) advance(vcpu);
    sched_resume(vcpu);
}

COLD bool cr4_valid(u64 value, u64 old, u64 allowed, u64 efer, u64 cr3) {
    if ((value & ~allowed) || ((efer & EFER_LMA) && !(value & CR4_PAE))) return false;
    return !(value & ~old & CR4_PCIDE) || ((efer & EFER_LMA) && !(cr3 & (PAGE_SIZE - 1)));
}

/* A VM has no hypercalls. */
static void exit_vmcall(struct vcpu *vcpu) {
    if (!is_vm(vcpu)) return exit_hypercall(vcpu);
    vcpu->gpr[RAX] = VM_NO_HYPERCALL;
    advance(vcpu);
    sched_resume(vcpu);
}

/* To the device model, on the same time slice. */
static ALWAYS_INLINE void forward(struct vcpu *vcpu, u32 type) {
    vcpu_forward(vcpu, type);
    sched_resume_next(vcpu);
}

/* --- ports --- */

static NOINLINE bool doorbell(struct vcpu *vcpu, u16 port, u32 value) {
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

static void tell_port(struct vcpu *vcpu, struct port_exit io, u32 value) {
    struct exit_message *m = vcpu->exit;
    m->length = vcpu->exit_length = (u32)guest_exit_length(vcpu);
    m->port = io.port;
    m->size = vcpu->exit_size = io.size;
    m->value = value;
}

static NOINLINE void exit_port_string(struct vcpu *vcpu) {
    struct port_exit io = guest_port_exit(vcpu);
    struct exit_message *m = vcpu->exit;
    tell_port(vcpu, io, 0);
    m->value = vcpu->apic.base;
    m->access = (io.in ? ACCESS_READ : ACCESS_WRITE) | (io.rep ? ACCESS_REP : 0);
    m->linear = guest_port_linear(vcpu);
    guest_exit_state(vcpu, m);
    forward(vcpu, EXIT_PORT_STRING);
}

static void exit_io(struct vcpu *vcpu) {
    struct port_exit io = guest_port_exit(vcpu);
    if (unlikely(!is_vm(vcpu))) { /* a port that it was not given */
        end(vcpu, FAILURE_EXIT, EXIT_FAILED, REASON_IO);
        return sched_resume(vcpu);
    }
    if (unlikely(io.string)) return exit_port_string(vcpu);
    u32 value = (u32)vcpu->gpr[RAX] & (~0u >> (32 - 8 * io.size));
    if (!io.in && vcpu->domain->doorbells[0].event && doorbell(vcpu, (u16)io.port, value)) {
        advance(vcpu);
        return sched_resume(vcpu);
    }
    tell_port(vcpu, io, value);
    forward(vcpu, io.in ? EXIT_PORT_IN : EXIT_PORT_OUT);
}

/* --- MSRs --- */

static u64 written_value(const struct vcpu *vcpu) {
    return vcpu->gpr[RDX] << 32 | (u32)vcpu->gpr[RAX];
}

/* A component has only EFER, without SYSCALL: the MSRs of that are the last VM's. */
static COLD void exit_component_msr(struct vcpu *vcpu, bool write) {
    bool ok = (u32)vcpu->gpr[RCX] == MSR_EFER;
    if (ok && write) {
        u64 value = written_value(vcpu);
        ok = !(value & EFER_SCE) && guest_efer_write(vcpu, value);
    } else if (ok) {
        vcpu->gpr[RAX] = (u32)guest_efer(vcpu);
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
        advance(vcpu);
    } else {
        inject_exception(vcpu, VECTOR_GP, 0);
    }
    sched_resume(vcpu);
}

static NOINLINE void exit_ipi(struct vcpu *vcpu) {
    u64 value = written_value(vcpu);
    u32 msr = (u32)vcpu->gpr[RCX];
    bool sent =
        msr == MSR_X2APIC_ICR ? vapic_send_fixed(vcpu, value) : vapic_send_self(vcpu, value);
    advance_or_gp(vcpu, likely(sent) || msr_write(vcpu, msr, value));
    sched_resume(vcpu);
}

static void exit_wrmsr(struct vcpu *vcpu) {
    u32 msr = (u32)vcpu->gpr[RCX];
    if (unlikely(!is_vm(vcpu))) return exit_component_msr(vcpu, true);
    if (msr == MSR_IA32_TSC_DEADLINE) { /* busy guests write this and the ICR most */
        vapic_deadline_write(vcpu, written_value(vcpu));
        advance(vcpu);
        return sched_resume(vcpu);
    }
    if (msr == MSR_X2APIC_ICR || msr == MSR_X2APIC_SELF_IPI) return exit_ipi(vcpu);
    advance_or_gp(vcpu, msr_write(vcpu, msr, written_value(vcpu)));
    sched_resume(vcpu);
}

static void exit_xsetbv(struct vcpu *vcpu) {
    u64 value = written_value(vcpu);
    bool ok = is_vm(vcpu) && (u32)vcpu->gpr[RCX] == 0 && xstate_allowed(value);
    if (ok) xsetbv(0, value);
    advance_or_gp(vcpu, ok);
}

/* --- memory --- */

static void exit_page(struct vcpu *vcpu) {
    struct page_exit x = guest_page_exit(vcpu);
    if (unlikely(mapping_at(vcpu->domain, x.address))) {
        bool here = kernel_lock(true);
        struct mapping *mapping = here ? mapping_at(vcpu->domain, x.address) : NULL;
        u32 status = mapping ? memory_touch(mapping, x.address,
                                            x.access & (RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE))
                             : STATUS_OK;
        if (status == STATUS_NO_MEMORY) domain_starve(vcpu->domain);
        kernel_unlock(true);
        if (!here) return sched_resume_other();
        if (status != STATUS_BAD_ARGUMENT) return sched_resume(vcpu);
    }
    if (!is_vm(vcpu)) {
        dump(vcpu);
        domain_fail(vcpu->domain, FAILURE_MEMORY, x.address.v);
        return sched_resume(vcpu);
    }
    struct exit_message *m = vcpu->exit;
    m->gpa = x.address.v;
    m->linear = x.linear;
    m->value = vcpu->apic.base;
    m->access = x.access;
    m->length = vcpu->exit_length = 0; /* undefined for this exit */
    guest_exit_state(vcpu, m);
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
    u32 reason = (u32)guest_exit_reason(vcpu);
    switch (reason) {
    case REASON_EXTERNAL_INTERRUPT: guest_exit_interrupt(); break;
    case REASON_TRIPLE_FAULT: end(vcpu, FAILURE_TRIPLE_FAULT, EXIT_SHUTDOWN, reason); break;
    case REASON_INIT:
    case REASON_SIPI: break; /* meant for the host, which takes none while it runs */
    case REASON_INTERRUPT_WINDOW:
    case REASON_NMI_WINDOW: vcpu->attention = true; break;
    case REASON_TPR: vcpu->attention = true; break;
    case REASON_EOI: vapic_ended(vcpu, guest_exit_apic(vcpu) & 0xff); break;
    case REASON_APIC_WRITE: vapic_written(vcpu, guest_exit_apic(vcpu)); break;
    case REASON_PAUSE: advance(vcpu), sched_spins(); break;
    case REASON_HLT: exit_hlt(vcpu); break;
    case REASON_CR_ACCESS: advance_or_gp(vcpu, guest_cr_access(vcpu)); break;
    case REASON_XSETBV: exit_xsetbv(vcpu); break;
    case REASON_INVD:
    case REASON_WBINVD: advance(vcpu); break; /* memory is coherent: no device is passed through */
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
    [REASON_EXCEPTION] = exit_exception,
    [REASON_EXCEPTION + 1 ... REASON_CPUID - 1] = exit_rare,
    [REASON_CPUID] = exit_cpuid,
    [REASON_CPUID + 1 ... REASON_VMCALL - 1] = exit_rare,
    [REASON_VMCALL] = exit_vmcall,
    [REASON_VMCALL + 1 ... REASON_IO - 1] = exit_rare,
    [REASON_IO] = exit_io,
    [REASON_RDMSR] = exit_rdmsr,
    [REASON_WRMSR] = exit_wrmsr,
    [REASON_WRMSR + 1 ... REASON_PAGE - 1] = exit_rare,
    [REASON_PAGE] = exit_page,
    [REASON_PAGE + 1 ... REASON_PREEMPTION_TIMER - 1] = exit_rare,
    [REASON_PREEMPTION_TIMER] = exit_preemption_timer,
    [REASON_PREEMPTION_TIMER + 1 ... MAX_EXIT_REASONS - 1] = exit_rare,
};

/* What an exit cut short (IDT vectoring) is queued again by those that can cut short: exceptions
   and pages. */
void exit_handle(struct vcpu *vcpu) {
    u64 reason = guest_exit_reason(vcpu);
    if (unlikely(reason >= MAX_EXIT_REASONS)) return exit_rare(vcpu);
    vcpu->counters[reason]++;
    handlers[reason](vcpu);
}
