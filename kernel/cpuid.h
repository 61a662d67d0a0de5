/* CPUID as a domain sees it: a table given at its creation. */
#pragma once

#include "abi.h"

struct domain;
struct vcpu;

/* Rows sorted by leaf and subleaf. A leaf with one row ignores the subleaf; an unlisted leaf, and
   an unlisted subleaf of a leaf with several rows, read as zeros. */
MUST_USE u32 cpuid_set(struct domain *domain, const struct cpuid_row *rows, u64 count);
/* Answers a CPUID in the vCPU's registers; its VMCS is current. */
void cpuid_answer(struct vcpu *vcpu);
