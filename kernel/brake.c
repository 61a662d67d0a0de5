/* At the end of each slice what a vCPU did is added to what its tenant did in this period; calls
   and lines of device models are counted one by one. */
#include "brake.h"

#include "domain.h"
#include "sched.h"
#include "time.h"
#include "vcpu.h"

static struct brake {
    u64 exits, ipis, calls; /* in a period, at most */
    u64 period_end, had_exits, had_ipis, had_calls;
    u32 log_bytes; /* in a second, at most */
    struct log_limit log;
} brakes[TENANTS];

bool brake_set(u64 tenant, u64 exits, u64 ipis, u64 calls, u64 log_bytes) {
    if (!tenant || tenant >= TENANTS || log_bytes > UINT32_MAX) return false;
    brakes[tenant] =
        (struct brake){.exits = exits, .ipis = ipis, .calls = calls, .log_bytes = (u32)log_bytes};
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
static void period(struct brake *brake, u64 now) {
    if (now < atomic_load(&brake->period_end)) return;
    brake->had_exits = brake->had_ipis = brake->had_calls = 0;
    atomic_store(&brake->period_end, now + tsc_hz / BRAKE_PERIODS);
}

void brake_charge(struct vcpu *vcpu, u64 now) {
    struct brake *brake = brake_of(vcpu);
    if (!brake) return;
    period(brake, now);
    u64 exits = 0;
    for (unsigned reason = 0; reason < MAX_EXIT_REASONS; reason++)
        exits += vcpu->counters[reason];
    bool over = add(&brake->had_exits, &vcpu->braked_exits, exits, brake->exits) |
                add(&brake->had_ipis, &vcpu->braked_ipis, vcpu->ipis, brake->ipis);
    if (over) vcpu->share.braked_until = brake->period_end;
}

/* The host's components have none: nobody sets brakes[0]. */
static struct brake *brake_of_component(const struct domain *domain) {
    return &brakes[domain->tenant < TENANTS ? domain->tenant : 0];
}

bool brake_call(const struct domain *domain, u64 now) {
    struct brake *brake = brake_of_component(domain);
    if (!brake->calls) return true;
    period(brake, now);
    return atomic_add(&brake->had_calls, 1) < brake->calls;
}

bool brake_log(struct domain *domain, u32 bytes) {
    struct brake *brake = brake_of_component(domain);
    if (!brake->log_bytes || log_permit(&brake->log, bytes, brake->log_bytes)) return true;
    domain->log.dropped_ever++;
    return false;
}
