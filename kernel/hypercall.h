/* The calls of components: kernel/abi.def has their numbers and arguments. */
#pragma once

#include "types.h"

struct vcpu;

enum outcome {
    CALL_DONE,
    CALL_AGAIN, /* not done yet: the instruction is to run again */
    CALL_GONE,  /* another CPU has taken the vCPU: nothing of it may be touched */
};
/* Carries out the call in a component's registers. */
MUST_USE enum outcome hypercall(struct vcpu *vcpu);

/* HC_WAIT, whose result comes later: the instruction is done, and the CPU has to look around. */
void hypercall_wait(struct vcpu *vcpu);
