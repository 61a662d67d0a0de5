/* The calls of components: kernel/abi.def has their numbers and arguments. */
#pragma once

#include "types.h"

struct vcpu;

/* Carries out the call in a component's registers; false: it is not done yet, the instruction is
   to run again. */
MUST_USE bool hypercall(struct vcpu *vcpu);

/* HC_WAIT, whose result comes later: the instruction is done, and the CPU has to look around. */
void hypercall_wait(struct vcpu *vcpu);
