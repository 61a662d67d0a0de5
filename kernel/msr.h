/* MSRs of VMs: an allow-list; what is not on it raises #GP. */
#pragma once

#include "types.h"

struct vcpu;

/* Bits that CPUs have: systems set and clear some, and nothing hangs on them here. */
#define MISC_ENABLE_KNOWN   0x4400c51889ull
#define STEAL_TIME_RESERVED 0x3eull

/* Opens those that need no help. */
void msrs_pass(u8 *bitmap, void (*allow)(u8 *bitmap, u32 msr, u32 rights));
MUST_USE bool msr_read(struct vcpu *vcpu, u32 msr, u64 *value);
MUST_USE bool msr_write(struct vcpu *vcpu, u32 msr, u64 value);
