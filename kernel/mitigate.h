/* What a guest leaves behind in the CPU, and what takes it away before somebody else runs there. */
#pragma once

#include "abi.h"

struct domain;

struct mitigations {
    u32 available; /* MITIGATION_... bits that this CPU can do */
    u64 arch_capabilities;
};
extern struct mitigations mitigations;

/* For entry.h: what is done at each entry, and at each exit. Zero: nothing. */
extern u8 mitigate_entry, mitigate_exit;
/* Whether anything is done at a switch, here or in partition.c. */
extern u8 mitigate_switches;

/* Until mitigate_set: `same` at each exit and entry, all that is available where it is for somebody
   else. */
void mitigate_init(u32 available, u32 same, u64 arch_capabilities);
/* MITIGATION_... bits for each Relation. False: the CPU cannot do it, or not there. */
MUST_USE bool mitigate_set(const u64 asked[RELATION_BETWEEN + 1]);
/* What is set counts from now on. */
void mitigate_publish(void);
/* From what ran last on this CPU, or NULL, to another vCPU; `arrives`: which was not here last. */
void mitigate_between(const struct domain *from, const struct domain *to, bool arrives);
static ALWAYS_INLINE void mitigate_switch(const struct domain *from, const struct domain *to,
                                          bool arrives) {
    if (unlikely(mitigate_switches)) mitigate_between(from, to, arrives);
}
/* The domain goes away: what it has left is a stranger's. */
void mitigate_forget(const struct domain *domain);
/* MITIGATION_IBPB, _RSB and _BHB, in this order: mitigate.S. */
void clear_predictors(u32 what);
