/* Which mitigations stand between two guests on a CPU: a table by who they are to each other. */
#include "mitigate.h"

#include "cpu.h"
#include "domain.h"
#include "log.h"
#include "partition.h"
#include "regs.h"
#include "smp.h"
#include "x86.h"

#define FLUSH_CMD_L1D 1ull
#define PREDICTORS    (MITIGATION_IBPB | MITIGATION_RSB | MITIGATION_BHB)

/* For mitigate.S. */
_Static_assert(MITIGATION_IBPB == 1 && MITIGATION_RSB == 2 && MITIGATION_BHB == 4, "mitigate.S");
const u16 verw_selector = SELECTOR_DATA;

struct mitigations mitigations;
u8 mitigate_entry, mitigate_exit, mitigate_switches;
static u8 table[RELATION_BETWEEN + 1];
static const struct domain stranger = {.tenant = ~0u};

void mitigate_publish(void) {
    atomic_store(&mitigate_entry, (u8)(table[RELATION_SAME] & MITIGATION_VERW));
    atomic_store(&mitigate_exit, (u8)(table[RELATION_SAME] & PREDICTORS));
    atomic_store(&mitigate_switches,
                 table[RELATION_WITHIN] | table[RELATION_BETWEEN] | partitions_used);
}

void mitigate_init(u32 available, u32 same, u64 arch_capabilities) {
    mitigations = (struct mitigations){available, arch_capabilities};
    table[RELATION_SAME] = (u8)same;
    table[RELATION_WITHIN] = table[RELATION_BETWEEN] = (u8)available;
    mitigate_publish();
    log_info("mitigations: 0x%x at each exit and entry, 0x%x between others", same, available);
}

bool mitigate_set(const u64 asked[RELATION_BETWEEN + 1]) {
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        if (asked[i] & ~(u64)mitigations.available) return false;
    if (asked[RELATION_SAME] & MITIGATION_L1D) return false;
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        atomic_store(&table[i], (u8)asked[i]);
    mitigate_publish();
    return true;
}

static unsigned relation(const struct domain *from, const struct domain *to) {
    if (!from || from == to || from->model == to || to->model == from) return RELATION_SAME;
    return from->tenant == to->tenant ? RELATION_WITHIN : RELATION_BETWEEN;
}

/* Predictors first, buffers last; what is done at each exit or entry anyway is not done again. That
   a vCPU ran here last does not help if it was elsewhere since: its guest may have gone on to
   another task, and has emptied the predictors there. */
void mitigate_between(const struct domain *from, const struct domain *to, bool arrives) {
    if (unlikely(partitions_used)) partition_enter(to);
    unsigned who = relation(from, to);
    if (who == RELATION_SAME && !arrives) return;
    u32 what = atomic_load(&table[who == RELATION_SAME ? RELATION_WITHIN : who]);
    u32 predictors = what & PREDICTORS & ~atomic_load(&mitigate_exit);
    if (predictors) clear_predictors(predictors);
    if (what & MITIGATION_L1D) wrmsr(MSR_IA32_FLUSH_CMD, FLUSH_CMD_L1D);
    if (what & MITIGATION_VERW & ~atomic_load(&mitigate_entry)) verw(&verw_selector);
}

void mitigate_forget(const struct domain *domain) {
    for (u32 i = 0; i < cpus_online; i++) {
        const struct domain *expected = domain;
        atomic_replace(&cpus[i].last_domain, &expected, &stranger);
    }
}
