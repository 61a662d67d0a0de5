/* The queue of a CPU: who goes before whom, for how long, and what each has had of what it is
   entitled to. */
#pragma once

#include "timeout.h"

struct vcpu;

/* What a vCPU is entitled to, and what it has had. Times in TSC ticks. A guaranteed one has some of
   its reservation left: it goes before all that are not, the sooner its period ends the earlier. */
struct share {
    u32 class, weight;  /* CLASS_... */
    bool hard;          /* nothing beyond the budget */
    u64 budget, period; /* as much in each period: RESERVED at least, else at most; 0: no limit */
    u64 credit;         /* by so much weighed time it is behind the others when it has slept */
    u64 latency;        /* the longest wait of one that is ready, among others of its class */
    u64 cpus;           /* that it may run on, by id */
    i64 left;           /* of the budget */
    u64 period_end;
    u64 vtime; /* time had, by its weight */
    u64 key;   /* as it was queued: the least goes first */
    bool guaranteed;
    u64 braked_until; /* 0: it is not: brake.c */
};

#define WEIGHT_DEFAULT 100u
#define VTIME_NONE     ~0ull /* it begins with the others of the CPU on which it starts */

/* In TSC ticks. */
extern struct spans {
    u64 shared, least, alone; /* slices: usual, the shortest for latency's sake, with nobody else */
    u64 masked;    /* of a guest that holds off interrupts: some CPUs hold off the host's (Bochs) */
    u64 slept;     /* so long one that slept may run before it is as far as the others */
    u64 interrupt; /* by so much one must be behind, to interrupt a slice */
    u64 apart;  /* by so much one that comes from another CPU may be behind, and is ahead at most */
    u64 uneven; /* by so much those of another CPU must be behind, to be let in */
    u64 latency; /* that is promised by default */
} spans;
void spans_init(void); /* when tsc_hz is known */

/* What is entitled to anything starts so. */
void share_init(struct share *share);
/* It has had `ran` ticks of the CPU. */
static inline void share_charge(struct share *share, u64 ran) {
    if (share->budget) share->left -= (i64)ran;
    if (!share->guaranteed) share->vtime += ran * WEIGHT_DEFAULT / share->weight;
}

/* A new budget, if its time has come, of which goes what was overdrawn, unless it had that as one
   of the others; false: there is nothing left of it. */
static inline bool share_refresh(struct share *share, u64 now) {
    if (likely(!share->budget)) return true;
    if (now >= share->period_end) {
        u64 periods = (now - share->period_end) / share->period + 1;
        share->period_end += periods * share->period;
        share->left += (i64)(periods * share->budget);
        if (share->left > (i64)share->budget || !share->hard) share->left = (i64)share->budget;
    }
    return share->left > 0;
}

/* How long a vCPU may run before it is another one's turn. */
u64 queue_slice(const struct cpu *cpu, const struct vcpu *vcpu, u64 now);
