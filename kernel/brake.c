/* At the end of each slice what a vCPU did is added to what its tenant did in this period. */
#include "brake.h"

#include "domain.h"
#include "sched.h"
#include "time.h"
#include "vcpu.h"

static struct brake {
    u64 exits, ipis; /* in a period, at most */
    u64 period_end, had_exits, had_ipis;
} brakes[TENANTS];

bool brake_set(u64 tenant, u64 exits, u64 ipis) {
    if (!tenant || tenant >= TENANTS) return false;
    brakes[tenant] = (struct brake){.exits = exits, .ipis = ipis};
    sched_more |= exits | ipis;
    return true;
}

static struct brake *brake_of(const struct vcpu *vcpu) {
    const struct domain *domain = vcpu->domain;
    struct brake *brake = &brakes[domain->tenant % TENANTS];
    return domain_is_vm(domain) && domain->tenant < TENANTS && (brake->exits | brake->ipis) ? brake
                                                                                            : NULL;
}

bool brake_is_set(const struct vcpu *vcpu) { return brake_of(vcpu); }

/* Adds what a count has grown by since it was seen; whether that is over the limit now. */
static bool add(u64 *had, u64 *seen, u64 count, u64 limit) {
    u64 grown = count - *seen;
    *seen = count;
    return atomic_add(had, grown) + grown > limit && limit;
}

/* Two CPUs may begin a period at once, and one of them forgets what the other has added: it is a
   brake, not a scale. */
void brake_charge(struct vcpu *vcpu, u64 now) {
    struct brake *brake = brake_of(vcpu);
    if (!brake) return;
    if (now >= atomic_load(&brake->period_end)) {
        brake->had_exits = brake->had_ipis = 0;
        atomic_store(&brake->period_end, now + tsc_hz / BRAKE_PERIODS);
    }
    u64 exits = 0;
    for (unsigned reason = 0; reason < MAX_EXIT_REASONS; reason++)
        exits += vcpu->counters[reason];
    bool over = add(&brake->had_exits, &vcpu->braked_exits, exits, brake->exits) |
                add(&brake->had_ipis, &vcpu->braked_ipis, vcpu->ipis, brake->ipis);
    if (over) vcpu->share.braked_until = brake->period_end;
}
