/* Things to do at a time: a list for each CPU, soonest first, which that CPU alone touches. */
#pragma once

#include "types.h"

struct cpu;

#define container_of(pointer, type, member)                                                        \
    ((type *)((char *)(pointer) - __builtin_offsetof(type, member)))

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
