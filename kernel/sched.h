/* Who runs next on a CPU, for how long, and what happens when a time comes. */
#pragma once

#include "types.h"

struct cpu;
struct vcpu;

#define container_of(pointer, type, member)                                                        \
    ((type *)((char *)(pointer) - __builtin_offsetof(type, member)))

/* Something to do at a time; in one CPU's list, soonest first. That CPU alone touches it. */
struct timeout {
    u64 deadline; /* host TSC */
    struct cpu *cpu;
    struct timeout *next;
    void (*fire)(struct timeout *timeout);
    bool armed;
};
void timeout_set(struct timeout *timeout, u64 deadline); /* armed or not before */
void timeout_cancel(struct timeout *timeout);
/* Ticks by which a time is met early, since it takes longer to tell anybody; and the least that an
   entry takes after that. */
#define TIMER_ADVANCE 400
#define TIMER_TAIL    128
/* Wherever it is armed; nothing of it is under way any more. The caller holds the kernel lock
 * alone. */
void timeout_end(struct timeout *timeout);

/* Each vCPU has a home: the CPU that runs it, and that alone changes its state. Others mail it,
   which makes its home look at it (vcpu_look), or hold the kernel lock alone and take it. */
void sched_mail(struct vcpu *vcpu);
/* From wherever it is to this CPU, where it is in no queue, its timer stands still, and nothing of
   it is in any CPU's registers. The caller holds the kernel lock alone. Nothing for the current
   vCPU. */
void sched_take(struct vcpu *vcpu);
/* The reverse: to the CPU with the fewest vCPUs, where it goes on. */
void sched_place(struct vcpu *vcpu);
/* To another CPU, which goes on with it; from its home. */
void sched_move(struct vcpu *vcpu, struct cpu *to);
/* All CPUs have looked at every vCPU that was mailed, and are between two guests. */
void sched_settle(void);

/* These are for a vCPU's home. */

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
/* The same where a VM may just have handed over to its device model, or back. */
void sched_resume_next(struct vcpu *current);
/* The same when the current vCPU is gone. */
void sched_resume_other(void);
/* Starts this CPU's scheduling. */
NORETURN void sched_start(void);

/* The preemption timer or the host timer has reached this CPU's deadline: runs what is due. */
void sched_deadline(void);
u64 sched_idle_time(void);                   /* TSC ticks up to now, all CPUs */
u64 sched_run_time(const struct vcpu *vcpu); /* TSC ticks up to now, wherever it runs */
