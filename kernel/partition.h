/* Partitions of the last-level cache and of memory bandwidth: classes of service. */
#pragma once

#include "types.h"

struct domain;

/* Whether any tenant has had a class but 0. */
extern bool partitions_used;

/* Gives a tenant a class of service, and that the ways of the cache by bit, and a delay of memory
   accesses in percent. False: there is no such tenant, or the CPU cannot do it. */
MUST_USE bool partition_set(u64 tenant, u64 service, u64 ways, u64 delay);
/* This CPU runs a domain: its tenant's class counts. */
void partition_enter(const struct domain *domain);
