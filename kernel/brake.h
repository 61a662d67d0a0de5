/* Brakes: what the VMs of a tenant may do together in a period, though it is on their own time. */
#pragma once

#include "types.h"

struct vcpu;

#define TENANTS 64

/* 0: no limit; false: no such tenant. */
MUST_USE bool brake_set(u64 tenant, u64 exits, u64 ipis);
/* Whether its tenant has limits. */
bool brake_is_set(const struct vcpu *vcpu);
/* What it did since the last call counts; over the limit it may not run before the period ends. */
void brake_charge(struct vcpu *vcpu, u64 now);
