/* Virtual CPUs: those of VMs and, each with one, those of components. */
#pragma once

#include "abi.h"
#include "domain.h"
#include "queue.h"
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

/* What others ask of a vCPU, on any CPU: they set bits here, post what they have set, and change
   nothing else of it; who runs it takes them before its next entry. It begins as a posted-interrupt
   descriptor: SDM volume 3, "Posted-Interrupt Processing". */
struct posted {
    u64 vectors[4]; /* edge-triggered */
    u64 notification;
    u32 requests; /* POSTED_... */
    u32 reserved[5];
    u64 level[4]; /* vectors, level-triggered */
} ALIGNED(64);

#define POSTED_EDGE(n)    (1u << (n)) /* word n of `vectors` */
#define POSTED_EDGES      0xfu
#define POSTED_LEVELS     (1u << 7)
#define POSTED_TIMER      (1u << 8) /* of its local APIC */
#define POSTED_ILLEGAL    (1u << 9) /* a vector below 16 */
#define POSTED_NMI        (1u << 10)
#define POSTED_NMI_AGAIN  (1u << 11)
#define POSTED_INIT       (1u << 12)
#define POSTED_STARTUP    (1u << 13) /* at page requests >> 16 */
#define POSTED_PAGE_SHIFT 16

enum activity { ACTIVE, HALTED, WAIT_FOR_SIPI };

struct vcpu {
    /* Known to assembly. */
    u64 gpr[16]; /* the RSP slot is filled only for an exit message and VCPU_GET */
    u64 stack_top;
    union {
        void *vmcs;
        struct vmcb *vmcb;
    };
    u64 vmcb_address, host; /* physical, AMD-V: the VMCB, what VMLOAD brings back of its CPU */

    struct posted posted;
    bool attention;         /* something must be done before the next entry */
    bool waiting;           /* a component in HC_WAIT, which has not returned its events yet */
    bool answered;          /* the device model has answered; not applied yet */
    bool queued, throttled; /* throttled: `replenish` is awaited */
    u8 nmi;                 /* how many wait */
    bool interruptible;     /* halted with RFLAGS.IF set */
    u8 activity;            /* of the guest; not ACTIVE: its state is VCPU_HALTED, or it will be */
    u32 state;              /* VCPU_... */
    int extint;             /* vector on the PIC's INTR line, or -1; others write it */

    u32 event, event_error, event_length; /* to inject first: exception or re-delivery */
    u32 primary_controls;                 /* as the VMCS has them */
    u32 exit_type, exit_length, exit_size;
    struct exit_message *exit; /* NULL: a component */
    struct domain *domain;
    struct cpu *home; /* sched.h */
    struct cpu *cpu;  /* whose VMCS it is; NULL: nobody's */
    struct vcpu *queue_next, *inbox_next;
    bool mailed;        /* in an inbox */
    bool arriving;      /* at a new home */
    struct cpu *follow; /* device model: where a vCPU of its VM waits for it */
    u64 slice_left;     /* of a time slice that was interrupted, in TSC ticks */
    struct share share; /* queue.h */
    struct timeout replenish;
    u16 vpid; /* VT-x */
    struct hpa vmcs_address;
    u64 generation;                                      /* AMD-V: of its ASID */
    bool nmi_masked, stepping, step_traps, step_unmasks; /* AMD-V: svm.c */
    u32 index;
    struct object object;

    u64 tsc_offset;
    u64 misc_enable;
    u64 clock, steal;  /* MSRs of the KVM clock: system time, steal time */
    u64 ready_since;   /* TSC; 0: it does not wait for a CPU */
    u64 stolen;        /* ticks in which it was ready, and did not run */
    u64 stolen_before; /* of the one that it is a copy of */
    u64 stolen_told;
    u32 steal_version;
    struct vapic apic;
    struct unswitched unswitched;
    struct mtrrs mtrrs;

    u64 run_time;   /* TSC ticks */
    u64 busy_since; /* component: run_time when HC_WAIT last returned */
    u64 interrupts, forwarded, throttles, ipis;
    u64 braked_exits, braked_ipis; /* that brake.c has counted */
    u64 counters[MAX_EXIT_REASONS];
};

static inline struct vcpu *vcpu_of(struct object *object) {
    return container_of(object, struct vcpu, object);
}

extern u64 vcpus_past_time; /* run time of those that are gone */

MUST_USE u32 vcpu_create(struct domain *domain, u32 index, struct domain *model, struct vcpu **out);
/* Takes the domain and its device model or VM meanwhile. */
void vcpu_destroy(struct vcpu *vcpu);
/* Both of a pair, wherever they are; the current vCPU goes on. */
void pair_take(struct domain *domain);
void pair_place(struct domain *domain);
void vcpu_reset(struct vcpu *vcpu); /* stopped, nothing pending */
void vcpu_start(struct vcpu *vcpu);
void vcpu_stop(struct vcpu *vcpu); /* its home is this CPU */
/* Its domain, whose vCPUs were taken, goes on after `away` ticks that it shall not see. */
void vcpu_thaw(struct vcpu *vcpu, u64 away);

static inline bool vcpu_runnable(const struct vcpu *vcpu) {
    return vcpu->state == VCPU_READY && vcpu->domain->state == DOMAIN_ACTIVE;
}

/* At its home: goes on if there is reason to. */
void vcpu_look(struct vcpu *vcpu);

/* Something may be there for it: looked at before the next entry; wakes it from HLT. Any CPU may
   call these. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_post(struct vcpu *vcpu, u32 requests);
void vcpu_post_nmi(struct vcpu *vcpu);
void vcpu_post_init(struct vcpu *vcpu);
void vcpu_post_startup(struct vcpu *vcpu, unsigned page);
/* NMIs, INIT and start-up IPIs that were posted. */
void vcpu_take_rare(struct vcpu *vcpu, u32 requests);
/* The look before an entry: takes what was posted, gives the CPU what is to be injected, or halts.
 */
void vcpu_attend(struct vcpu *vcpu);
/* HLT: waits for an interrupt. */
void vcpu_halt(struct vcpu *vcpu);

/* Sends an exit to the device model, and the CPU with it; the vCPU waits for the answer. */
void vcpu_forward(struct vcpu *vcpu, u32 type);
/* The device model's answer is on the exit page; false: nothing was asked, or it goes on elsewhere.
 */
MUST_USE bool vcpu_answer(struct vcpu *vcpu);
/* Tells the guest how long it has waited for a CPU, where it wants to know. */
void vcpu_tell_steal(struct vcpu *vcpu);
/* Carries out the answer; the vCPU's VMCS is current. */
void vcpu_apply_answer(struct vcpu *vcpu);

/* Queues an exception for the guest, combined with one that is being delivered: SDM volume 3,
   "Interrupt 8—Double Fault Exception (#DF)". */
#define NO_ERROR_CODE (~0u)
void inject_exception(struct vcpu *vcpu, unsigned vector, u32 error_code);
/* Whether a halted vCPU has something to wake up for. */
bool inject_waiting(struct vcpu *vcpu);
/* After an exit that can interrupt the delivery of an event: queues it again. */
bool inject_requeue(struct vcpu *vcpu);
