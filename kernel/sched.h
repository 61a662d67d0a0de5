/* Who runs next on a CPU, for how long, and what happens when a time comes. */
#pragma once

#include "types.h"

struct vcpu;

#define container_of(pointer, type, member)                                                        \
    ((type *)((char *)(pointer) - __builtin_offsetof(type, member)))

/* Something to do at a time; in one CPU's list, soonest first. */
struct timeout {
    u64 deadline; /* host TSC */
    struct timeout *next;
    void (*fire)(struct timeout *timeout);
    bool armed;
};
void timeout_set(struct timeout *timeout, u64 deadline); /* armed or not before */
void timeout_cancel(struct timeout *timeout);

/* Makes a halted vCPU ready. Urgent: before others, in place of what runs now. */
void sched_wake(struct vcpu *vcpu, bool urgent);
/* Takes a vCPU out of the queue; it is not ready any more or goes away. */
void sched_remove(struct vcpu *vcpu);
/* The CPU goes on with this vCPU at its next entry, on the time slice of the current one. */
void sched_hand_over(struct vcpu *to);

/* It runs as soon as the current vCPU waits or its slice is over. */
void sched_queue_next(struct vcpu *vcpu);

/* The current vCPU spins: others first. */
void sched_yield(void);

/* The end of every exit: enters the current vCPU again, or another one; does not return. */
void sched_resume(struct vcpu *current);
/* The same where a VM may just have handed over to its device model, or back; quiet: nothing asked
   for attention before that. */
void sched_resume_next(bool quiet, struct vcpu *current);
/* Starts this CPU's scheduling. */
NORETURN void sched_start(void);

/* The preemption timer or the host timer has reached this CPU's deadline: runs what is due. */
void sched_deadline(void);
u64 sched_idle_time(void); /* TSC ticks, all CPUs */
