/* The inline part of the VT-x backend: what is on the way of an exit, or of an event. */
#pragma once

#include "cpu.h"
#include "log.h"
#include "trap.h"
#include "vcpu.h"
#include "vmcs.h"

NORETURN void vmx_entry_failed(struct vcpu *vcpu, u64 flags);
void vmx_arrived(struct vcpu *vcpu); /* from another CPU, or it is new */
void vmx_exited(void);
extern u8 vmx_timer_shift; /* the preemption timer counts TSC ticks >> shift */

#define EVENT_TYPES (1u << 0 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6) /* of vcpu->event, no NMI */

#define GUEST_POKE IPI_NMI /* reaches a guest that keeps interrupts off */

/* --- EPT entries --- */

#define IO_BITMAP_ORDER 1
#define EPT_ACCESS      7ull                    /* read, write, execute: as RIGHT_READ, ... */
#define EPT_RAM         (6ull << 3 | 1ull << 6) /* leaf: write-back, whatever the guest's PAT says */

static inline u64 ept_access(u32 rights) { return rights & EPT_ACCESS; }

static ALWAYS_INLINE void guest_load(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (cpu->loaded == vcpu) return;
    bool done = vmptrld(&vcpu->vmcs_address);
    assert(done);
    cpu->loaded = vcpu;
    if (unlikely(vcpu->cpu != cpu)) vmx_arrived(vcpu);
}

static inline bool guest_msr_read(u32, u64 *) { return false; }
static inline bool guest_msr_write(u32) { return false; }

/* --- registers; these are of the current VMCS --- */

#define CR0_HOST_OWNED (CR0_CD | CR0_NW | CR0_NE)

#define READER(name, field)                                                                        \
    static ALWAYS_INLINE u64 guest_##name(const struct vcpu *) {                                   \
        return vmread_raw((field).encoding);                                                       \
    }
READER(rip, VMCS_GUEST_RIP)
READER(rflags, VMCS_GUEST_RFLAGS)
READER(cr4, VMCS_GUEST_CR4)
READER(efer, VMCS_GUEST_EFER)
READER(blocking, VMCS_GUEST_BLOCKING)
READER(exit_reason, VMCS_EXIT_REASON)
READER(exit_length, VMCS_EXIT_LENGTH)
READER(exit_event, VMCS_EXIT_EVENT)
READER(exit_error, VMCS_EXIT_ERROR_CODE)
READER(exit_apic, VMCS_EXIT_QUALIFICATION) /* of a virtual local APIC */
READER(port_linear, VMCS_GUEST_LINEAR)
#undef READER

static ALWAYS_INLINE void guest_rflags_write(struct vcpu *, u64 value) {
    vmwrite64(VMCS_GUEST_RFLAGS, value);
}
static ALWAYS_INLINE void guest_rsp_write(struct vcpu *, u64 value) {
    vmwrite64(VMCS_GUEST_RSP, value);
}
static ALWAYS_INLINE u64 guest_cr0(const struct vcpu *) {
    return (vmread64(VMCS_GUEST_CR0) & ~CR0_HOST_OWNED) |
           (vmread64(VMCS_CR0_SHADOW) & CR0_HOST_OWNED);
}
static ALWAYS_INLINE void guest_cr2_write(struct vcpu *, u64 value) { write_cr2(value); }

/* SDM volume 3, "Host-State Area", tells what the CPU switches: not these. */
static inline void guest_registers_save(struct unswitched *u) {
    u->cr2 = read_cr2();
    u->dr6 = read_dr6();
    u->star = rdmsr(MSR_STAR);
    u->lstar = rdmsr(MSR_LSTAR);
    u->cstar = rdmsr(MSR_CSTAR);
    u->fmask = rdmsr(MSR_FMASK);
    u->kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);
    /* Those that a component can reach, the first by SWAPGS. */
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    write_cr2(0);
}
static inline void guest_registers_load(const struct unswitched *u) {
    write_cr2(u->cr2);
    write_dr6(u->dr6);
    wrmsr(MSR_STAR, u->star);
    wrmsr(MSR_LSTAR, u->lstar);
    wrmsr(MSR_CSTAR, u->cstar);
    wrmsr(MSR_FMASK, u->fmask);
    wrmsr(MSR_KERNEL_GS_BASE, u->kernel_gs_base);
}

/* --- exits --- */

static inline void step_pending(void) {
    vmwrite64(VMCS_GUEST_PENDING_DEBUG, vmread64(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}

/* A component has no NMIs. Bochs 2.7 lets it inherit the blocking of the VM that it answers, to
   which that would go back when it is long over. */
static inline void unblock(const struct vcpu *vcpu, u32 blocking) {
    vmwrite32(VMCS_GUEST_BLOCKING, blocking & (vcpu->apic.page ? BLOCKING_NMI : 0));
}

/* The instruction is done: RIP goes behind it, STI and MOV SS block no longer, a breakpoint on the
   next one counts, and single-stepping sees it. SDM volume 3, "Debug Exceptions" under VM entry. */
static ALWAYS_INLINE void guest_advance(struct vcpu *vcpu, u64 length) {
    u64 to = guest_rip(vcpu) + length;
    if (unlikely((u32)to < length) && !(vmread32(VMCS_GUEST_ACCESS(SEGMENT_CS)) & ACCESS_LONG))
        to = (u32)to;
    vmwrite64(VMCS_GUEST_RIP, to);
    u32 blocking = vmread32(VMCS_GUEST_BLOCKING);
    if (unlikely(blocking)) unblock(vcpu, blocking);
    u64 rflags = guest_rflags(vcpu);
    if (likely(!(rflags & (RFLAGS_TF | RFLAGS_RF)))) return;
    guest_rflags_write(vcpu, rflags & ~RFLAGS_RF);
    if (rflags & RFLAGS_TF) step_pending();
}

static ALWAYS_INLINE void guest_exit_state(struct vcpu *vcpu, struct exit_message *m) {
    vcpu->gpr[4] = vmread64(VMCS_GUEST_RSP);
    __builtin_memcpy(m->gpr, vcpu->gpr, sizeof(m->gpr)); /* inline, by words */
    m->cs_access = vmread32(VMCS_GUEST_ACCESS(SEGMENT_CS));
    m->cs_base = vmread64(VMCS_GUEST_BASE(SEGMENT_CS));
    m->rip = vmread64(VMCS_GUEST_RIP);
    m->rflags = vmread64(VMCS_GUEST_RFLAGS);
    m->cr0 = vmread64(VMCS_GUEST_CR0);
    m->cr3 = vmread64(VMCS_GUEST_CR3);
    m->cr4 = vmread64(VMCS_GUEST_CR4);
    m->efer = vmread64(VMCS_GUEST_EFER);
}

static ALWAYS_INLINE struct port_exit guest_port_exit(const struct vcpu *) {
    u64 q = vmread64(VMCS_EXIT_QUALIFICATION);
    return (struct port_exit){.port = (u16)(q >> 16),
                              .size = (q & 7) + 1,
                              .in = q >> 3 & 1,
                              .string = q >> 4 & 1,
                              .rep = q >> 5 & 1};
}

static inline void nmi_block(bool block) {
    u32 blocking = vmread32(VMCS_GUEST_BLOCKING) & ~BLOCKING_NMI;
    vmwrite32(VMCS_GUEST_BLOCKING, blocking | (block ? BLOCKING_NMI : 0));
}

#define VIOLATION_ACCESS       7u /* read, write, fetch: as RIGHT_READ, _WRITE, _EXECUTE */
#define VIOLATION_LINEAR_VALID (1u << 7)
#define VIOLATION_TRANSLATED   (1u << 8) /* the address is the translation of the linear one */

static ALWAYS_INLINE struct page_exit guest_page_exit(struct vcpu *vcpu) {
    u64 q = vmread64(VMCS_EXIT_QUALIFICATION);
    struct gpa address = gpa(vmread64(VMCS_GUEST_PHYSICAL));
    bool event = inject_requeue(vcpu);
    if ((q & EVENT_NMI_UNBLOCKED) && !event) nmi_block(true);
    return (struct page_exit){address, q & VIOLATION_LINEAR_VALID ? vmread64(VMCS_GUEST_LINEAR) : 0,
                              ((u32)q & VIOLATION_ACCESS) |
                                  (q & VIOLATION_TRANSLATED ? 0 : ACCESS_WALK) |
                                  (event ? ACCESS_EVENT : 0)};
}

/* #DB: DR6 and DR7 are as they were. INT1 is behind us only when we say so; after all others, an
   entry in the shadow of STI or MOV SS asks for the step that it holds off. SDM volume 3, "Debug
   Exceptions", and "Checks on Guest Non-Register State". */
static inline void debug_exception_end(struct vcpu *vcpu, u32 info) {
    u64 causes = vmread64(VMCS_EXIT_QUALIFICATION) & DR6_CAUSES;
    write_dr6((read_dr6() & ~DR6_BREAKPOINTS) | causes);
    vmwrite64(VMCS_GUEST_DR7, vmread64(VMCS_GUEST_DR7) & ~DR7_GD);
    u32 blocking = guest_blocking(vcpu), shadow = BLOCKING_STI | BLOCKING_MOV_SS;
    if (EVENT_TYPE(info) == EVENT_TYPE_INT1) {
        vmwrite64(VMCS_GUEST_RIP, guest_rip(vcpu) + guest_exit_length(vcpu));
        vmwrite32(VMCS_GUEST_BLOCKING, blocking & ~shadow);
    } else if ((blocking & shadow) && (guest_rflags(vcpu) & RFLAGS_TF)) {
        step_pending();
    }
}

/* What of an exception the CPU has left to us. False: it was our own. */
static inline bool guest_exception_end(struct vcpu *vcpu, u32 info) {
    if (info & EVENT_NMI_UNBLOCKED && EVENT_VECTOR(info) != VECTOR_DF &&
        !(vmread32(VMCS_VECTORING_EVENT) & EVENT_VALID))
        nmi_block(true);
    if (EVENT_VECTOR(info) == VECTOR_DB) debug_exception_end(vcpu, info);
    return true;
}
static inline void guest_exit_nmi(void) {
    nmi_taken();
    nmi_unblock();
}
static inline void guest_exit_interrupt(void) {
    irq_dispatch((u8)EVENT_VECTOR(vmread32(VMCS_EXIT_EVENT)));
}

/* --- events --- */

/* What the exit cut short, its error code, and the length of the instruction that raised it. */
static ALWAYS_INLINE u32 guest_vectoring(struct vcpu *vcpu) {
    u32 info = vmread32(VMCS_VECTORING_EVENT);
    if (likely(!(info & EVENT_VALID))) return 0;
    if (info & EVENT_HAS_ERROR) vcpu->event_error = vmread32(VMCS_VECTORING_ERROR_CODE);
    if (EVENT_TYPE(info) >= EVENT_TYPE_SOFTWARE_INTERRUPT)
        vcpu->event_length = vmread32(VMCS_EXIT_LENGTH);
    if (EVENT_TYPE(info) == 2) nmi_block(false); /* it did not arrive, and blocks nothing yet */
    return info & ~EVENT_NMI_UNBLOCKED;
}
/* The CPU has an event that no entry has delivered yet. */
static ALWAYS_INLINE bool guest_has_event(const struct vcpu *) {
    return vmread32(VMCS_ENTRY_EVENT) & EVENT_VALID;
}
static ALWAYS_INLINE void guest_event_write(struct vcpu *, u32 event) {
    vmwrite32(VMCS_ENTRY_EVENT, event);
}
static ALWAYS_INLINE void guest_exception_write(struct vcpu *vcpu, u32 event) {
    vmwrite32(VMCS_ENTRY_EVENT, event);
    if (event & EVENT_HAS_ERROR) vmwrite32(VMCS_ENTRY_ERROR_CODE, vcpu->event_error);
    if (EVENT_TYPE(event) >= EVENT_TYPE_SOFTWARE_INTERRUPT)
        vmwrite32(VMCS_ENTRY_LENGTH, vcpu->event_length);
}
/* Exits as soon as the guest takes an NMI, or an interrupt of this vector (-1: none waits). */
static ALWAYS_INLINE void guest_windows_set(struct vcpu *vcpu, bool nmi, int vector) {
    u32 controls = vcpu->primary_controls & ~(PRIMARY_INTERRUPT_WINDOW | PRIMARY_NMI_WINDOW);
    if (unlikely(nmi)) {
        u32 blocking = guest_blocking(vcpu);
        controls |= PRIMARY_NMI_WINDOW;
        /* Some CPUs open no NMI window behind STI: MOV SS blocking does the same and opens it. */
        if (blocking & BLOCKING_STI)
            vmwrite32(VMCS_GUEST_BLOCKING, (blocking & ~BLOCKING_STI) | BLOCKING_MOV_SS);
    }
    if (unlikely(vector >= 0)) controls |= PRIMARY_INTERRUPT_WINDOW;
    if (unlikely(controls != vcpu->primary_controls)) {
        vcpu->primary_controls = controls;
        vmwrite32(VMCS_PRIMARY_CONTROLS, controls);
    }
}

/* --- APIC virtualization: SDM volume 3, chapter of that name --- */

static inline void guest_eoi_exits_add(unsigned n, u64 vectors) {
    vmwrite64(VMCS_EOI_EXIT(n), vmread64(VMCS_EOI_EXIT(n)) | vectors);
}
static inline void guest_interrupt_request(int vector) {
    u16 status = vmread16(VMCS_INTERRUPT_STATUS);
    if (vector > (status & 0xff))
        vmwrite16(VMCS_INTERRUPT_STATUS, (u16)((status & 0xff00) | vector));
}
static inline void guest_threshold_write(struct vcpu *, u32 class) {
    vmwrite32(VMCS_TPR_THRESHOLD, class);
}

/* --- time --- */

/* An entry from now on ends at the CPU's deadline. A slice is short enough for the timer's 32 bits.
 */
static ALWAYS_INLINE void guest_deadline_write(const struct cpu *cpu) {
    if (unlikely(!virt_timer)) return;
    u64 now = rdtsc() + TIMER_ADVANCE, deadline = cpu->deadline;
    u64 ticks = likely(deadline > now) ? (deadline - now) >> vmx_timer_shift : 0;
    vmwrite_raw(VMCS_PREEMPTION_TIMER.encoding, ticks);
}
/* Whether it may hold off the host's interrupts with its own: some CPUs let it (Bochs does). */
static inline bool guest_masks_host(const struct vcpu *vcpu) {
    return !(guest_rflags(vcpu) & RFLAGS_IF);
}
