/* SMT: the threads of a core run one tenant at a time. */
#pragma once

#include "types.h"

struct cpu;
struct vcpu;

/* Of the first CPU of a core of several threads. */
struct core {
    bool taken;          /* lock */
    u32 tenant, running; /* whose vCPUs run, on how many of its CPUs */
    u32 wanted;          /* by this tenant, too, since then; 0: by none */
    u64 since, wanted_since;
};

/* Finds out which CPUs share a core with this one. */
void core_init(struct cpu *cpu);
/* These are for CPUs that share a core (cpu->core). */

/* Whether a vCPU may run on this CPU now; true: its core is its tenant's. */
MUST_USE bool core_admits(struct cpu *cpu, const struct vcpu *vcpu);
/* Nothing of a tenant runs on this CPU any more. */
void core_leave(struct cpu *cpu);
/* Another thread has called: its tenant's turn may have come. */
void core_look(struct cpu *cpu);

/* Another tenant's vCPU would have to wait for a turn of this core. */
bool core_is_foreign(const struct cpu *cpu, const struct vcpu *vcpu);
