/* The inline part of the AMD-V backend: what is on the way of an exit, or of an event. */
#pragma once

#include "cpu.h"
#include "regs.h"
#include "vcpu.h"
#include "vmcb.h"
#include "x86.h"

/* For each exit code: the exit reason + 1, and the length of the instruction without prefixes, if
   the CPU does not tell. */
extern const struct svm_exit { u8 reason, length; } svm_exits[SVM_CODES];

#define EVENT_TYPES (1u << 0 | 1u << 3) /* of vcpu->event, no NMI */

#define GUEST_POKE (IPI_FIXED | POKE_VECTOR) /* V_INTR_MASKING; a guest could hold off NMIs */

/* --- entries of nested page tables --- */

#define NPT_USER        4ull /* as which the CPU sees each access of a guest */
#define NPT_NO_EXECUTE  (1ull << 63)
#define EPT_ACCESS      (7ull | NPT_NO_EXECUTE)
#define EPT_RAM         0x60ull /* leaf: accessed and dirty from the start */
#define IO_BITMAP_ORDER 2

static inline u64 ept_access(u32 rights) {
    return (rights & (RIGHT_READ | RIGHT_WRITE)) | NPT_USER |
           (rights & RIGHT_EXECUTE ? 0 : NPT_NO_EXECUTE);
}

void guest_load(struct vcpu *vcpu);

/* --- registers --- */

#define READER(name, value)                                                                        \
    static ALWAYS_INLINE u64 guest_##name(const struct vcpu *vcpu) {                               \
        const struct vmcb *b = vcpu->vmcb;                                                         \
        return value;                                                                              \
    }
READER(rip, b->rip)
READER(rflags, b->rflags)
READER(cr0, b->cr0)
READER(cr4, b->cr4)
READER(efer, b->efer & ~EFER_SVME)
READER(blocking, (b->shadow & 1 ? BLOCKING_STI : 0) | (vcpu->nmi_masked ? BLOCKING_NMI : 0))
READER(exit_error, (u32)b->exit_info1)
#undef READER

static ALWAYS_INLINE void guest_rflags_write(struct vcpu *vcpu, u64 value) {
    vcpu->vmcb->rflags = value;
}
static ALWAYS_INLINE void guest_rsp_write(struct vcpu *vcpu, u64 value) { vcpu->vmcb->rsp = value; }
static inline void guest_cr2_write(struct vcpu *vcpu, u64 value) {
    vcpu->vmcb->cr2 = value;
    vcpu->vmcb->clean &= ~CLEAN_CR2;
}
static inline bool is_performance_msr(u32 msr) { /* PERF_CTL0 to 3, PERF_CTR0 to 3 */
    return msr >= MSR_PERF_CTL0 && msr <= MSR_PERF_CTR3;
}
/* What systems read on AMD's CPUs without asking whether it is there: how memory is typed, that the
   TSC is invariant, that configuration space needs no more to be switched on, and four counters. */
static inline bool guest_msr_read(u32 msr, u64 *value) {
    *value = msr == MSR_HWCR ? HWCR_TSC_INVARIANT : msr == MSR_NB_CFG ? NB_CFG_EXTENDED : 0;
    return msr == MSR_HWCR || msr == MSR_NB_CFG || msr == MSR_SYSCFG || is_performance_msr(msr);
}
/* The counters count nothing, whatever they are told. */
static inline bool guest_msr_write(u32 msr) { return is_performance_msr(msr); }
/* The VMCB has them. */
static inline void guest_registers_save(struct unswitched *) {}
static inline void guest_registers_load(const struct unswitched *) {}

/* --- exits --- */

static ALWAYS_INLINE u32 guest_exit_reason(const struct vcpu *vcpu) {
    const struct vmcb *b = vcpu->vmcb;
    if (unlikely(b->exit_code >= SVM_CODES))
        return b->exit_code == SVM_PAGE ? REASON_PAGE : REASON_ENTRY_FAILED | REASON_INVALID_STATE;
    return svm_exits[b->exit_code].reason - 1u +
           (b->exit_code == SVM_MSR ? (u32)b->exit_info1 & 1 : 0);
}

static ALWAYS_INLINE u32 guest_exit_length(const struct vcpu *vcpu) {
    const struct vmcb *b = vcpu->vmcb;
    if (b->exit_code == SVM_IO) return (u32)(b->exit_info2 - b->rip);
    if (b->next_rip) return (u32)(b->next_rip - b->rip);
    return b->exit_code < SVM_CODES ? svm_exits[b->exit_code].length : 0;
}

void svm_stepped(struct vcpu *vcpu);

static ALWAYS_INLINE void guest_advance(struct vcpu *vcpu, u32 length) {
    struct vmcb *b = vcpu->vmcb;
    u64 to = b->rip + length;
    if (unlikely((b->rip ^ to) >> 32) && !(b->segments[SEGMENT_CS].attributes & ATTRIBUTE_LONG))
        to = (u32)to;
    b->rip = to;
    b->shadow = 0;
    if (likely(!(b->rflags & (RFLAGS_TF | RFLAGS_RF)))) return;
    b->rflags &= ~RFLAGS_RF;
    if (b->rflags & RFLAGS_TF) svm_stepped(vcpu);
}

static ALWAYS_INLINE u32 access_of(u16 attributes) {
    return (attributes & 0xff) | (attributes & 0xf00u) << 4 |
           (attributes & ATTRIBUTE_PRESENT ? 0 : SEGMENT_ACCESS_UNUSABLE);
}

static ALWAYS_INLINE void guest_exit_state(struct vcpu *vcpu, struct exit_message *m) {
    const struct vmcb *b = vcpu->vmcb;
    vcpu->gpr[4] = b->rsp;
    __builtin_memcpy(m->gpr, vcpu->gpr, sizeof(m->gpr));
    m->cs_access = access_of(b->segments[SEGMENT_CS].attributes);
    m->cs_base = b->segments[SEGMENT_CS].base;
    m->rip = b->rip;
    m->rflags = b->rflags;
    m->cr0 = b->cr0;
    m->cr3 = b->cr3;
    m->cr4 = b->cr4;
    m->efer = guest_efer(vcpu);
}

static ALWAYS_INLINE struct port_exit guest_port_exit(const struct vcpu *vcpu) {
    u32 info = (u32)vcpu->vmcb->exit_info1;
    return (struct port_exit){.port = info >> 16,
                              .size = info >> 4 & 7,
                              .in = info & 1,
                              .string = info >> 2 & 1,
                              .rep = info >> 3 & 1};
}
u64 guest_port_linear(const struct vcpu *vcpu);

static ALWAYS_INLINE struct page_exit guest_page_exit(struct vcpu *vcpu) {
    const struct vmcb *b = vcpu->vmcb;
    u64 info = b->exit_info1;
    u32 access = info & 1u << 4 ? ACCESS_EXECUTE : info & 1u << 1 ? ACCESS_WRITE : ACCESS_READ;
    bool walk = info >> 33 & 1; /* of the guest's own tables */
    return (struct page_exit){gpa(b->exit_info2), 0,
                              access | (walk ? ACCESS_WALK : 0) |
                                  (inject_requeue(vcpu) ? ACCESS_EVENT : 0)};
}

static inline u32 guest_exit_event(const struct vcpu *vcpu) {
    u32 code = (u32)vcpu->vmcb->exit_code, vector = code - SVM_EXCEPTION;
    if (code == SVM_NMI) return EVENT_VALID | EVENT_TYPE_NMI;
    return EVENT_VALID | EVENT_TYPE_EXCEPTION | vector |
           (VECTORS_WITH_ERROR >> vector & 1 ? EVENT_HAS_ERROR : 0);
}
bool guest_exception_end(struct vcpu *vcpu, u32 info);
/* Both have come as soon as the exit was over. */
static inline void guest_exit_nmi(void) {}
static inline void guest_exit_interrupt(void) { cpu_take_interrupts(); }

/* --- events --- */

/* Software interrupts and exceptions come again with their instruction. */
static ALWAYS_INLINE u32 guest_vectoring(struct vcpu *vcpu) {
    u64 info = vcpu->vmcb->vectoring;
    if (likely(!(info & EVENT_VALID)) || EVENT_TYPE(info) == EVENT_TYPE_SOFTWARE_INTERRUPT ||
        (EVENT_TYPE(info) == 3 && (EVENT_VECTOR(info) == 3 || EVENT_VECTOR(info) == 4)))
        return 0;
    if (EVENT_TYPE(info) == 2) vcpu->nmi_masked = false;
    vcpu->event_error = (u32)(info >> 32);
    return (u32)info;
}
static ALWAYS_INLINE bool guest_has_event(const struct vcpu *vcpu) {
    return vcpu->vmcb->event & EVENT_VALID;
}
void svm_step_undo(struct vcpu *vcpu);
static ALWAYS_INLINE void guest_event_write(struct vcpu *vcpu, u32 event) {
    struct vmcb *b = vcpu->vmcb;
    b->event = event;
    if (unlikely(EVENT_TYPE(event) == 2)) { /* until IRET */
        svm_step_undo(vcpu);
        vcpu->nmi_masked = true;
        b->intercepts[0] |= INTERCEPT(SVM_IRET);
        b->clean &= ~CLEAN_INTERCEPTS;
    }
}
static ALWAYS_INLINE void guest_exception_write(struct vcpu *vcpu, u32 event) {
    svm_step_undo(vcpu);
    guest_event_write(vcpu, event);
    if (event & EVENT_HAS_ERROR) vcpu->vmcb->event |= (u64)vcpu->event_error << 32;
}

void svm_nmi_window(struct vcpu *vcpu);

/* QEMU's emulator opens the window at its own priority already, not only above the TPR. */
extern bool svm_tpr_lets_equal;

/* An interrupt that waits for the TPR gets its window with its class as its priority. */
static ALWAYS_INLINE void guest_windows_set(struct vcpu *vcpu, bool nmi, int vector) {
    struct vmcb *b = vcpu->vmcb;
    u64 to = V_INTR_MASKING | (vcpu->apic.page ? vcpu->apic.page[VAPIC_TPR] >> 4 : 0);
    if (unlikely(vector >= 0))
        to |= V_IRQ | V_PRIORITY(15) | V_IGNORE_TPR;
    else if (unlikely(vcpu->apic.threshold))
        to |= V_IRQ | V_PRIORITY(vcpu->apic.threshold - svm_tpr_lets_equal);
    if (unlikely(nmi)) svm_nmi_window(vcpu);
    if (unlikely(to != b->interrupt)) {
        b->interrupt = to;
        b->clean &= ~CLEAN_INTERRUPT;
    }
}

/* --- what only VT-x has --- */

static inline u32 guest_exit_apic(const struct vcpu *) { return 0; }
static inline void guest_eoi_exits_add(unsigned, u64) {}
static inline void guest_interrupt_request(int) {}
static inline void guest_threshold_write(struct vcpu *, u32) {}
static inline void guest_deadline_write(const struct cpu *) {}
/* The host's interrupts come whatever the guest does. */
static inline bool guest_masks_host(const struct vcpu *) { return false; }
