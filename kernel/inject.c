/* Events into a guest: exceptions, NMIs, interrupts, windows, and what an exit cut short. */
#include "domain.h"
#include "regs.h"
#include "trap.h"
#include "vcpu.h"
#include "vmcs.h"
#include "vmx.h"

/* Contributory exceptions: #DE #TS #NP #SS #GP. */
#define CONTRIBUTORY (1u << 0 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13)

static u32 exception_event(unsigned vector) {
    return EVENT_VALID | EVENT_TYPE_EXCEPTION | vector |
           (VECTORS_WITH_ERROR >> vector & 1 ? EVENT_HAS_ERROR : 0);
}

static bool is_exception(u32 event) { return (event & EVENT_VALID) && (EVENT_TYPE(event) == 3); }

/* Whether a second exception while `first` is delivered makes a double fault. */
static bool doubles(unsigned first, unsigned second) {
    bool contributory = CONTRIBUTORY >> second & 1;
    if (first == VECTOR_PF) return contributory || second == VECTOR_PF;
    return (CONTRIBUTORY >> first & 1) && contributory;
}

void inject_exception(struct vcpu *vcpu, unsigned vector, u32 error_code) {
    if (is_exception(vcpu->event)) {
        unsigned first = EVENT_VECTOR(vcpu->event);
        if (first == VECTOR_DF) {
            domain_fail(vcpu->domain, FAILURE_TRIPLE_FAULT, 0);
            return;
        }
        if (doubles(first, vector)) {
            vector = VECTOR_DF;
            error_code = 0;
        }
    }
    if (vcpu->event && EVENT_TYPE(vcpu->event) == 2)
        vcpu->nmi = true; /* it goes first, and the NMI that it cut short comes again */
    vcpu->event = exception_event(vector);
    /* The upper half would make the entry fail. */
    vcpu->event_error = error_code == NO_ERROR_CODE ? 0 : error_code & 0x7fff;
    vcpu->attention = true;
}

void inject_requeue(struct vcpu *vcpu) {
    u32 info = vmread32(VMCS_VECTORING_EVENT);
    if (likely(!(info & EVENT_VALID))) return;
    vcpu->event = info & ~EVENT_NMI_UNBLOCKED;
    if (info & EVENT_HAS_ERROR) vcpu->event_error = vmread32(VMCS_VECTORING_ERROR_CODE);
    if (EVENT_TYPE(info) >= EVENT_TYPE_SOFTWARE_INTERRUPT)
        vcpu->event_length = vmread32(VMCS_EXIT_LENGTH);
    if (EVENT_TYPE(info) == 2) /* the NMI did not arrive: it does not block others yet */
        vmwrite32(VMCS_GUEST_BLOCKING, vmread32(VMCS_GUEST_BLOCKING) & ~BLOCKING_NMI);
    vcpu->attention = true;
}

static void put_event(struct vcpu *vcpu, u32 event) {
    /* In real mode nothing pushes an error code. */
    if (!(vmread64(VMCS_GUEST_CR0) & CR0_PE)) event &= ~EVENT_HAS_ERROR;
    vmwrite32(VMCS_ENTRY_EVENT, event);
    if (event & EVENT_HAS_ERROR) vmwrite32(VMCS_ENTRY_ERROR_CODE, vcpu->event_error);
    if (EVENT_TYPE(event) >= EVENT_TYPE_SOFTWARE_INTERRUPT)
        vmwrite32(VMCS_ENTRY_LENGTH, vcpu->event_length);
    vcpu->event = 0;
}

static void put_interrupt(struct vcpu *vcpu, u32 type, unsigned vector) {
    vmwrite32(VMCS_ENTRY_EVENT, EVENT_VALID | type | vector);
    vcpu->interrupts++;
}

/* The vector that waits at the CPU's door, or -1. The PIC's interrupt goes before the local APIC's.
 */
static int external_vector(const struct vcpu *vcpu) {
    if (unlikely(vcpu->extint >= 0) && vapic_passes_extint(&vcpu->apic)) return vcpu->extint;
    return vapic_pending(&vcpu->apic);
}

static void put_external(struct vcpu *vcpu, unsigned vector) {
    put_interrupt(vcpu, EVENT_TYPE_INTERRUPT, vector);
    if (unlikely(vcpu->extint >= 0) && vapic_passes_extint(&vcpu->apic)) {
        vcpu->extint = -1;
        vcpu->exit->value = vector;
        vcpu_forward(vcpu, EXIT_EXTINT_ACK);
    } else {
        vapic_accept(&vcpu->apic, vector);
    }
}

bool inject_waiting(const struct vcpu *vcpu) {
    return vcpu->nmi || (vcpu->interruptible && external_vector(vcpu) >= 0);
}

static void set_windows(struct vcpu *vcpu, bool interrupt) {
    u32 controls = vcpu->primary_controls & ~(PRIMARY_INTERRUPT_WINDOW | PRIMARY_NMI_WINDOW);
    if (unlikely(vcpu->nmi)) controls |= PRIMARY_NMI_WINDOW;
    if (unlikely(interrupt)) controls |= PRIMARY_INTERRUPT_WINDOW;
    if (unlikely(controls != vcpu->primary_controls)) {
        vcpu->primary_controls = controls;
        vmwrite32(VMCS_PRIMARY_CONTROLS, controls);
    }
}

/* Exceptions first, then an NMI; whether an interrupt may follow. */
static bool put_urgent(struct vcpu *vcpu, u32 blocking) {
    bool shadow = blocking & (BLOCKING_STI | BLOCKING_MOV_SS);
    if (vcpu->event) {
        put_event(vcpu, vcpu->event);
        return false;
    }
    if (vcpu->nmi && !(blocking & BLOCKING_NMI) && !shadow) {
        vcpu->nmi = false;
        put_interrupt(vcpu, EVENT_TYPE_NMI, VECTOR_NMI);
        return false;
    }
    /* Some CPUs open no NMI window behind STI: MOV SS blocking does the same and opens it. */
    if (vcpu->nmi && (blocking & BLOCKING_STI))
        vmwrite32(VMCS_GUEST_BLOCKING, (blocking & ~BLOCKING_STI) | BLOCKING_MOV_SS);
    return true;
}

void inject_prepare(struct vcpu *vcpu) {
    /* What an earlier pass gave to the CPU, and no entry has delivered yet, stays. */
    bool free = !(vmread32(VMCS_ENTRY_EVENT) & EVENT_VALID);
    u32 blocking = vmread32(VMCS_GUEST_BLOCKING);
    if (unlikely(vcpu->event | vcpu->nmi) && free) free = put_urgent(vcpu, blocking);
    int vector = external_vector(vcpu);
    if (free && vector >= 0 && !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)) &&
        (vmread64(VMCS_GUEST_RFLAGS) & RFLAGS_IF)) {
        put_external(vcpu, (unsigned)vector);
        vector = external_vector(vcpu);
    }
    set_windows(vcpu, vector >= 0);
}
