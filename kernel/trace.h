/* The last rare events of each CPU, for panics and debuggers. Exits, and hand-overs between a VM
   and its own device model, are not among them: their cost is counted in instructions. */
#pragma once

#include "cpu.h"
#include "domain.h"

static inline void trace(u64 time, enum trace_kind kind, const struct domain *domain, u32 vcpu,
                         u32 value) {
    struct cpu *cpu = this_cpu();
    cpu->trace[cpu->traced++ % TRACE_EVENTS] =
        (struct trace_event){time, domain->id, (u16)value, (u8)kind, (u8)vcpu};
}
