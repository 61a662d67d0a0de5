/* Brakes: what the VMs of a tenant, and their device models, may do together in a period, though it
   is on their own time. */
#pragma once

#include "types.h"

struct domain;
struct vcpu;

#define TENANTS 64

/* 0: no limit; false: no such tenant. */
MUST_USE bool brake_set(u64 tenant, u64 exits, u64 ipis, u64 calls, u64 log_bytes);
/* Whether its tenant has limits. */
bool brake_is_set(const struct vcpu *vcpu);
/* What it did since the last call counts; over the limit it may not run before the period ends. */
void brake_charge(struct vcpu *vcpu, u64 now);
/* Whether a device model of it may make one more call that takes the kernel lock alone. */
MUST_USE bool brake_call(const struct domain *domain, u64 now);
/* Whether it may write so much to the log; what may not is counted. The caller has the kernel lock
   alone. */
MUST_USE bool brake_log(struct domain *domain, u32 bytes);
