/* The local APIC of a vCPU: Intel SDM volume 3, "Advanced Programmable Interrupt Controller
   (APIC)". */
#pragma once

#include "sched.h"
#include "types.h"

struct domain;
struct vcpu;

#define VAPIC_TPR (4 * 8) /* word of the page */

struct vapic {
    u32 *page; /* register n in word 4 * n, as the virtual-APIC page of VT-x has it; NULL: none */
    u64 base;  /* IA32_APIC_BASE */
    u32 id;
    /* Up to here other CPUs look at it at any time; from here on a reset clears it. */
    u32 error;            /* since the guest last wrote REG_ERROR */
    u32 irr_any, isr_any; /* bit n: word n of IRR or ISR is not 0 */
    u32 timer_mode;
    bool delivers;   /* the CPU delivers what is in the page: virtual-interrupt delivery */
    u8 threshold;    /* as the VMCS has it: below this TPR class an interrupt waits */
    u64 count_start; /* guest TSC at which the initial count began */
    bool count_over; /* it has reached 0 once, in one-shot mode */
    u64 deadline;    /* guest TSC; 0: not armed (TSC-deadline mode) */
    struct timeout timer;
};

/* To the state after reset; after INIT, `base` is what it was. */
#define VAPIC_BASE_RESET (0xfee00000 | APIC_BASE_ENABLE)
void vapic_reset(struct vapic *apic, u32 id, u64 base);

/* Whether LINT0 passes the PIC's interrupts. */
bool vapic_passes_extint(const struct vapic *apic);

/* Registers 0x800 to 0x8ff in x2APIC mode; false: #GP. */
MUST_USE bool vapic_read(struct vcpu *vcpu, u32 msr, u64 *value);
MUST_USE bool vapic_write(struct vcpu *vcpu, u32 msr, u64 value);
/* The register at `offset` of the page at IA32_APIC_BASE in xAPIC mode; a write returns the vector
   of a level-triggered interrupt that it ended, else -1. */
u32 vapic_page_read(struct vcpu *vcpu, u32 offset);
int vapic_page_write(struct vcpu *vcpu, u32 offset, u32 value);
bool vapic_has_page(const struct vapic *apic, u64 address);
void vapic_tpr_write(struct vcpu *vcpu, u32 value);
u32 vapic_tpr_read(const struct vapic *apic);
MUST_USE bool vapic_base_write(struct vcpu *vcpu, u64 value);
bool vapic_base_valid(u64 base);
/* From what was saved: register n in word 4 * n. What the timer has left is the caller's. */
#define VAPIC_SAVED 1024 /* bytes of the page */
void vapic_load(struct vapic *apic, const u32 *registers);
void vapic_base_load(struct vapic *apic, u64 base);
void vapic_deadline_write(struct vcpu *vcpu, u64 guest_tsc);
u64 vapic_deadline_read(const struct vapic *apic);

/* A message-signalled interrupt to a VM; SDM "Message Signalled Interrupts". */
void vapic_message(struct domain *vm, u64 address, u64 data);

/* APIC virtualization: opens to the guest the MSRs that the CPU answers in x2APIC mode. */
void vapic_msrs_virtual(u8 *bitmap, bool delivery, void (*allow)(u8 *bitmap, u32 msr, u32 rights));
/* Before an entry: tells the CPU what is in the page, or when an interrupt waits for the TPR (if
   none waits at the CPU's door). */
void vapic_virtual_sync(struct vcpu *vcpu, bool waits);
u64 vapic_levels(const struct vapic *apic, unsigned n); /* 64 vectors of the TMR */
/* Exits of virtual-interrupt delivery. */
void vapic_ended(struct vcpu *vcpu, unsigned vector);
void vapic_written(struct vcpu *vcpu, u32 offset);

/* Takes what others have posted, but edges. */
void vapic_take_rare(struct vcpu *vcpu, u32 requests);

/* Stops and restarts its timer while the vCPU's time stands still. */
void vapic_timer_stop(struct vapic *apic);
void vapic_timer_start(struct vcpu *vcpu);
/* The guest sets its TSC; what its timer counts goes on. */
void vapic_tsc_write(struct vcpu *vcpu, u64 value);
