/* CPUID as a domain sees it: a table given at its creation. */
#pragma once

#include "abi.h"
#include "x86.h"

struct domain;
struct vcpu;

/* Rows sorted by leaf and subleaf. A leaf with one row ignores the subleaf; an unlisted leaf, and
   an unlisted subleaf of a leaf with several rows, read as zeros. */
MUST_USE u32 cpuid_set(struct domain *domain, const struct cpuid_row *rows, u64 count);
/* The answer for a vCPU, with what depends on its state filled in. */
struct cpuid_regs cpuid_lookup(struct vcpu *vcpu, u32 leaf, u32 subleaf, u64 cr4);
