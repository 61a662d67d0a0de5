/* What tests of the hypercalls do as the control domain. */
#pragma once

#include "invariants.h"

static u64 fixed; /* fixed_frames() at the start */

static void sound(const char *name) {
    const char *wrong = kernel_wrong(fixed);
    check(!wrong, wrong ? wrong : name);
}

static inline struct domain *domain_in(u64 slot) {
    return domain_of(control_domain->caps[slot].object);
}

/* Runs until the control domain is entered; others wait as soon as they run. */
static inline void to_control(void) {
    domain_signal(control_domain, 1ull << 40);
    while (entered->domain != control_domain) {
        if (entered->domain->role == ROLE_VM) {
            host_tsc += tsc_hz / 1000;
            sched_deadline(); /* its slice ends some time */
            leave(REASON_EXTERNAL_INTERRUPT);
        } else
            (void)call(HC_WAIT);
    }
}

static inline void set_state(u64 slot) {
    struct vcpu_state *state = control_domain->comm;
    memset(state, 0, sizeof(*state));
    state->cr0 = CR0_PE;
    state->rflags = RFLAGS_IF;
    check(call(HC_VCPU_SET, slot) == STATUS_OK, "VCPU_SET");
}
