/* A domain's state besides its memory, saved and loaded: what abi.def calls domain_snapshot,
   saved_row and vcpu_snapshot. */
#pragma once

#include "types.h"

struct domain;
struct vcpu;

/* These are statuses; the domain is paused, and its vCPUs are taken (sched_take). What is loaded
   may be anybody's: it is checked before anything is changed, so that whatever it says a guest
   fails and never the kernel. `page` is 4 KiB, of the caller. */

MUST_USE u32 domain_save(const struct domain *domain, void *page, u64 *rows);
/* Into one that has not run; BAD_CAP: a channel end is missing, IN_USE: a timer's slot is not free.
 */
MUST_USE u32 domain_load(struct domain *domain, const void *page, u64 rows);

MUST_USE u32 vcpu_save(struct vcpu *vcpu, u64 part, void *page, u64 *bytes); /* 0: no such part */
MUST_USE u32 vcpu_load(struct vcpu *vcpu, u64 part, const void *page, u64 bytes);
