/* Who runs next on a CPU, for how long, and what happens when a time comes. */
#pragma once

#include "queue.h"

struct cpu;
struct vcpu;
struct vcpu_share;

/* There are more CPUs than one, or brakes: what costs only then is behind it. */
extern bool sched_more;

/* Each vCPU has a home: the CPU that runs it, and that alone changes its state. Others mail it,
   which makes its home look at it (vcpu_look), or hold the kernel lock alone and take it. */
void sched_mail(struct vcpu *vcpu);
/* From wherever it is to this CPU, where it is in no queue, its timer stands still, and nothing of
   it is in any CPU's registers. The caller holds the kernel lock alone. Nothing for the current
   vCPU. */
void sched_take(struct vcpu *vcpu);
/* The reverse: to the least loaded CPU that allows it, where it goes on. */
void sched_place(struct vcpu *vcpu);
/* Gives it what it asks for, if that can be promised; a status. The caller holds the kernel lock
   alone. */
MUST_USE u32 sched_admit(struct vcpu *vcpu, const struct vcpu_share *asked);
/* To another CPU, which goes on with it; from its home. */
void sched_move(struct vcpu *vcpu, struct cpu *to);
/* All CPUs have looked at every vCPU that was mailed, and are between two guests. */
void sched_settle(void);

/* It is counted at its home, or not any more; nothing is promised to it any more. */
void home_count(struct vcpu *vcpu, int sign);
void home_forget(struct vcpu *vcpu);
/* Whether it may run there, as affinity and dedicated CPUs have it. */
bool home_allows(const struct vcpu *vcpu, const struct cpu *cpu);
/* Looks at all that were mailed to this CPU. */
void inbox_empty(struct cpu *cpu);

/* These are for a vCPU's home. */

/* Nothing of it stays here. */
void sched_release(struct vcpu *vcpu);
/* Makes a vCPU ready, which slept, or came here. */
void sched_wake(struct vcpu *vcpu, bool slept);
/* Its new budget is there (vcpu->replenish). */
void sched_replenished(struct timeout *timeout);
/* Takes a vCPU out of the queue; it is not ready any more or goes away. */
void sched_remove(struct vcpu *vcpu);
/* The CPU goes on with this vCPU at its next entry, on the time slice of the current one. */
void sched_hand_over(struct vcpu *to);

/* It was answered by its device model, which has more to do. */
void sched_queue_next(struct vcpu *vcpu);

/* The current vCPU spins: another one of its VM, or else others first. */
void sched_spins(void);

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
u64 sched_idle_time(void); /* TSC ticks up to now, all CPUs */
u64 sched_ready_time(const struct vcpu *vcpu);
u64 sched_run_time(const struct vcpu *vcpu); /* TSC ticks up to now, wherever it runs */
