/* What each CPU has of its own, and the descriptor tables. */
#pragma once

#include "core.h"
#include "early.h"
#include "types.h"

#define MAX_CPUS 64

#define SELECTOR_TSS(cpu_id) (0x20 + 16 * (cpu_id))

struct tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7]; /* IST n is ist[n - 1] */
    u64 reserved2;
    u16 reserved3;
    u16 io_map;
} PACKED;

#define STACK_PAGES 4 /* of a CPU */

/* What a CPU did last: trace.h. */
#define TRACE_EVENTS 32
enum trace_kind {
    TRACE_SWITCH, /* to this vCPU */
    TRACE_CALL,   /* a hypercall of it has returned: number << 8 | status */
    TRACE_FAIL,   /* the domain has failed: Failure */
};
struct trace_event {
    u64 time; /* TSC */
    u32 domain;
    u16 value;
    u8 kind, vcpu;
};

#define ATTENTION_NEXT 2

struct domain;
struct timeout;
struct vcpu;

/* Reached through GS; the first three fields are known to assembly. */
struct cpu {
    struct cpu *self;
    u64 stack_top; /* the stack on which this CPU runs the kernel */
    struct vcpu *current;
    u32 id; /* 0 is the boot CPU */
    u32 apic_id;
    u32 windows;        /* in use: paging.c */
    u64 timer_deadline; /* TIMER_OFF or a TSC value: time.c */
    struct tss tss;

    /* VT-x and the scheduler. */
    union { /* look around before the next entry: sched.c */
        struct {
            u8 attention; /* ATTENTION_NEXT alone: the current vCPU waits, `next` takes over */
            bool poked;   /* another CPU wants something: smp.c */
        };
        u16 look;
    };
    bool reschedule; /* someone else should run */
    bool slice_over;
    bool masked;  /* the guest held off interrupts at the end of its slice */
    bool alone;   /* nobody waits for the CPU */
    bool in_core; /* counts among those of its core: core.c */
    bool restart_control;
    u64 slice_end, deadline;  /* host TSC; deadline: the sooner of slice_end and timeouts */
    struct timeout *timeouts; /* soonest first */
    struct vcpu *next;        /* takes over at the next entry, on the same time slice */
    struct vcpu *queue;       /* queue.h */
    struct vcpu *owner;       /* whose slice it is, up to `charged` */
    u64 charged, vtime;       /* vtime: none of those who wait is behind it by more than it slept */
    struct vcpu *loaded;      /* its VMCS is the current one */
    struct vcpu *unswitched;  /* the VM whose vector state and MSRs are in the CPU */
    struct domain *last_domain; /* that ran: a barrier stands between two */
    u8 service;                 /* its class: partition.c */
    u64 accounted;              /* up to this TSC value time has been given to a vCPU */
    u64 idle_time;
    u32 traced; /* events ever; the last of them: */
    struct trace_event trace[TRACE_EVENTS];

    /* What other CPUs read and write: smp.c. */
    bool ring ALIGNED(64); /* a poke is under way */
    bool idling;
    bool online;
    u32 load;                    /* weights of VMs' vCPUs whose home it is */
    u64 waiting;                 /* least vtime of those who wait in the queue */
    struct vcpu *dedicated;      /* the only one of a VM that may run here */
    u64 siblings;                /* CPUs of its core, by id, itself too */
    struct core *core, own_core; /* NULL: one thread only */
    struct vcpu *inbox;          /* vCPUs to look at */
    bool reading ALIGNED(64);    /* holds the kernel lock, with others */
};

static inline struct cpu *this_cpu(void) {
    struct cpu *cpu;
    __asm__("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Makes the tables and loads them on the boot CPU, with no stacks of their own for NMI, #DF and #MC
   yet. */
void cpu_init_early(void);
/* Gives a CPU its stacks. */
void cpu_init_stacks(struct cpu *cpu);
/* Loads the tables on this CPU. */
void cpu_load(struct cpu *cpu);

extern struct cpu cpus[MAX_CPUS];

/* For the host state of VMCSs. */
u64 cpu_gdt_base(void);
u64 cpu_idt_base(void);
