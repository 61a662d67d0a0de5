/* The local APIC of a vCPU, in x2APIC mode: Intel SDM volume 3, "Advanced Programmable Interrupt
   Controller (APIC)". */
#pragma once

#include "sched.h"
#include "types.h"

struct domain;
struct vcpu;

/* 256 bits, and which of their words have any. */
struct vectors {
    u32 words[8];
    u32 any;
};

struct vapic {
    u64 base; /* IA32_APIC_BASE */
    u32 id;
    u32 tpr, spurious, error, error_written;
    u32 lvt[7]; /* CMCI, timer, thermal, performance, LINT0, LINT1, error */
    u32 divide, initial_count;
    u64 count_start; /* guest TSC at which initial_count began */
    bool count_over; /* it has reached 0 once, in one-shot mode */
    u64 deadline;    /* guest TSC; 0: not armed (TSC-deadline mode) */
    u64 icr;
    struct vectors irr, isr, tmr;
    struct timeout timer;
};

void vapic_reset(struct vapic *apic, u32 id);

/* The interrupt that the CPU would take now, or -1. */
int vapic_pending(const struct vapic *apic);
/* It is being delivered: from the IRR to the ISR. */
void vapic_accept(struct vapic *apic, unsigned vector);
/* Whether LINT0 passes the PIC's interrupts. */
bool vapic_passes_extint(const struct vapic *apic);

/* Registers 0x800 to 0x83f; false: #GP. */
MUST_USE bool vapic_read(struct vcpu *vcpu, u32 msr, u64 *value);
MUST_USE bool vapic_write(struct vcpu *vcpu, u32 msr, u64 value);
MUST_USE bool vapic_base_write(struct vapic *apic, u64 value);
void vapic_deadline_write(struct vcpu *vcpu, u64 guest_tsc);
u64 vapic_deadline_read(const struct vapic *apic);

/* A message-signalled interrupt to a VM; SDM "Message Signalled Interrupts". */
void vapic_message(struct domain *vm, u64 address, u64 data);

/* Stops and restarts its timer while the vCPU's time stands still. */
void vapic_timer_stop(struct vapic *apic);
void vapic_timer_start(struct vcpu *vcpu);
/* The guest sets its TSC; what its timer counts goes on. */
void vapic_tsc_write(struct vcpu *vcpu, u64 value);
