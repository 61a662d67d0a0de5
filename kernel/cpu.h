/* What each CPU has of its own, and the descriptor tables. */
#pragma once

#include "types.h"

#define MAX_CPUS 64

#define SELECTOR_CODE        0x08
#define SELECTOR_DATA        0x10
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
    u32 nmi_pending; /* NMIs since someone last looked and cleared it */
    u64 nmi_count;
    u32 windows;        /* in use: paging.c */
    u64 timer_deadline; /* TIMER_OFF or a TSC value: time.c */
    struct tss tss;

    /* VT-x and the scheduler. */
    bool attention;  /* look around before the next entry: sched.c */
    bool reschedule; /* someone else should run */
    bool slice_over;
    bool masked; /* the guest held off interrupts at the end of its slice */
    bool alone;  /* nobody waits for the CPU */
    bool restart_control;
    u64 slice_end, deadline;  /* host TSC; deadline: the sooner of slice_end and timeouts */
    struct timeout *timeouts; /* soonest first */
    struct vcpu *next;        /* takes over at the next entry, on the same time slice */
    struct vcpu *queue, *queue_last;
    struct vcpu *loaded;        /* its VMCS is the current one */
    struct vcpu *unswitched;    /* the VM whose vector state and MSRs are in the CPU */
    struct domain *last_domain; /* that ran: a barrier stands between two */
    u64 accounted;              /* up to this TSC value time has been given to a vCPU */
    u64 idle_time;
};

static inline struct cpu *this_cpu(void) {
    struct cpu *cpu;
    __asm__("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Loads the tables on the boot CPU, with no stacks of their own for NMI, #DF and #MC yet. */
void cpu_init_early(void);
/* Gives a CPU its stacks. */
void cpu_init_stacks(struct cpu *cpu);

extern struct cpu cpus[MAX_CPUS];

/* For the host state of VMCSs. */
u64 cpu_gdt_base(void);
u64 cpu_idt_base(void);
