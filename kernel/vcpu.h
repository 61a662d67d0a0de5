/* Virtual CPUs: those of VMs and, each with one, those of components. */
#pragma once

#include "abi.h"
#include "capability.h"
#include "vapic.h"

/* What the CPU does not switch for us: SDM volume 3, "Host-State Area" tells what it does. */
struct unswitched {
    u64 cr2, dr[4], dr6;
    u64 star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    u64 xcr0;
    void *xsave; /* NULL: a component, which has no vector state */
};

#define MTRR_VARIABLE 8
#define MTRR_FIXED    11
struct mtrrs {
    u64 fixed[MTRR_FIXED];
    u64 variable[2 * MTRR_VARIABLE];
    u64 def_type;
};

struct vcpu {
    /* Known to vmx_entry.S. */
    u64 gpr[16]; /* the RSP slot is filled only for an exit message and VCPU_GET */
    u64 stack_top;

    bool attention; /* something must be done before the next entry */
    bool waiting;   /* a component in HC_WAIT, which has not returned its events yet */
    bool answered;  /* the device model has answered; not applied yet */
    bool queued;
    bool waits_for_startup; /* since INIT */
    bool nmi;
    bool interruptible; /* halted with RFLAGS.IF set */
    u32 state;          /* VCPU_... */
    int extint;         /* vector on the PIC's INTR line, or -1 */

    u32 event, event_error, event_length; /* to inject first: exception or re-delivery */
    u32 primary_controls;                 /* as the VMCS has them */
    u32 exit_type, exit_length, exit_size;
    struct exit_message *exit; /* NULL: a component */
    struct domain *domain;
    struct vcpu *queue_next;
    u64 slice_left; /* of a time slice that an urgent vCPU interrupted, in TSC ticks */
    void *vmcs;
    u16 vpid;
    u32 index;
    struct object object;

    u64 tsc_offset;
    struct vapic apic;
    struct unswitched unswitched;
    struct mtrrs mtrrs;

    u64 run_time;   /* TSC ticks */
    u64 busy_since; /* component: run_time when HC_WAIT last returned */
    u64 interrupts, forwarded;
    u64 counters[MAX_EXIT_REASONS];
};

static inline struct vcpu *vcpu_of(struct object *object) {
    return container_of(object, struct vcpu, object);
}

MUST_USE u32 vcpu_create(struct domain *domain, u32 index, struct domain *model, struct vcpu **out);
void vcpu_destroy(struct vcpu *vcpu);
void vcpu_reset(struct vcpu *vcpu); /* stopped, nothing pending */
void vcpu_start(struct vcpu *vcpu);
void vcpu_stop(struct vcpu *vcpu);
void vcpu_fail(struct vcpu *vcpu);
/* INIT: to the state after reset, where it waits for a start-up IPI, which begins at page `vector`.
 */
void vcpu_init(struct vcpu *vcpu);
void vcpu_startup(struct vcpu *vcpu, unsigned vector);
/* Its domain is paused; resumed after `away` ticks that it shall not see. */
void vcpu_freeze(struct vcpu *vcpu);
void vcpu_thaw(struct vcpu *vcpu, u64 away);
bool vcpu_runnable(const struct vcpu *vcpu);

/* Something may be there to inject: looked at before the next entry; wakes it from HLT. */
void vcpu_kick(struct vcpu *vcpu);

/* Sends an exit to the device model, and the CPU with it; the vCPU waits for the answer. */
void vcpu_forward(struct vcpu *vcpu, u32 type);
/* The device model's answer is on the exit page; false: nothing was asked. */
MUST_USE bool vcpu_answer(struct vcpu *vcpu);
/* Carries out the answer; the vCPU's VMCS is current. */
void vcpu_apply_answer(struct vcpu *vcpu);

/* Queues an exception for the guest, combined with one that is being delivered: SDM volume 3,
   "Interrupt 8—Double Fault Exception (#DF)". */
#define NO_ERROR_CODE (~0u)
void inject_exception(struct vcpu *vcpu, unsigned vector, u32 error_code);
/* Before an entry: gives the CPU the next event, asks for a window if more wait. */
void inject_prepare(struct vcpu *vcpu);
/* Whether a halted vCPU has something to wake up for. */
bool inject_waiting(const struct vcpu *vcpu);
/* After an exit that can interrupt the delivery of an event: queues it again. */
void inject_requeue(struct vcpu *vcpu);
