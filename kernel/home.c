/* Homes: which CPU each vCPU belongs to, who may come to which, and what is promised there. */
#include "cpu.h"
#include "domain.h"
#include "guest.h"
#include "log.h"
#include "sched.h"
#include "smp.h"
#include "time.h"
#include "vcpu.h"

#define PERIODS_MOST   10000 /* per second: the shortest period */
#define WEIGHT_MOST    10000
#define BUDGETS_LEAST  1000    /* of a period: the smallest budget */
#define LATENCIES_MOST 5000    /* per second: the shortest bound */
#define PARTS          1000000 /* of a CPU, in sums of reservations */

/* What it weighs among those of its home: components run for a moment only. */
static u32 load_of(const struct vcpu *vcpu) {
    return domain_is_vm(vcpu->domain) ? vcpu->share.weight : 0;
}

void home_count(struct vcpu *vcpu, int sign) {
    atomic_add(&vcpu->home->load, (u32)(sign * (int)load_of(vcpu)));
}

static void home_set(struct vcpu *vcpu, struct cpu *to) {
    home_count(vcpu, -1);
    atomic_store(&vcpu->home, to);
    home_count(vcpu, 1);
}

/* To a CPU that is dedicated to one vCPU only its device model may come as well; to other threads
   of that core its tenant's, and the host's. */
static bool allows(const struct vcpu *vcpu, u64 mask, const struct cpu *cpu) {
    const struct domain *domain = vcpu->domain;
    for (u64 left = cpu->siblings; left; left &= left - 1) {
        const struct cpu *thread = &cpus[__builtin_ctzll(left)];
        const struct vcpu *owner = thread->dedicated;
        if (!owner || owner == vcpu) continue;
        if (thread == cpu ? owner->domain->model != domain
                          : domain->tenant && domain->tenant != owner->domain->tenant)
            return false;
    }
    return mask >> cpu->id & 1;
}

bool home_allows(const struct vcpu *vcpu, const struct cpu *cpu) {
    return allows(vcpu, vcpu->share.cpus, cpu);
}

void sched_mail(struct vcpu *vcpu) {
    if (atomic_swap(&vcpu->mailed, true)) return;
    struct cpu *home = atomic_load(&vcpu->home);
    vcpu->inbox_next = atomic_load(&home->inbox);
    while (!atomic_replace(&home->inbox, &vcpu->inbox_next, vcpu))
        ;
    cpu_poke(home);
}

void sched_move(struct vcpu *vcpu, struct cpu *to) {
    sched_release(vcpu);
    vcpu->arriving = true;
    home_set(vcpu, to);
    sched_mail(vcpu);
}

void inbox_empty(struct cpu *cpu) {
    for (struct vcpu *next, *vcpu = atomic_swap(&cpu->inbox, NULL); vcpu; vcpu = next) {
        next = vcpu->inbox_next;
        atomic_set(&vcpu->mailed, false); /* what comes from now on mails it again */
        if (vcpu->home == cpu)
            vcpu_look(vcpu);
        else
            sched_mail(vcpu);
    }
}

static void settle(void *unused) {
    (void)unused;
    inbox_empty(this_cpu());
}

/* Twice: the first round may have sent some on. */
void sched_settle(void) {
    cpus_call(CPUS_ALL, settle, NULL);
    cpus_call(CPUS_ALL, settle, NULL);
}

struct taking {
    struct vcpu *vcpu;
    struct cpu *to;
    bool done;
};

/* With its new home: else mail, a timer or an exit could give it one more turn here. */
static void take_here(void *argument) {
    struct cpu *cpu = this_cpu();
    struct taking *taking = argument;
    inbox_empty(cpu);
    taking->done = taking->vcpu->home == cpu;
    if (!taking->done) return;
    sched_release(taking->vcpu);
    home_set(taking->vcpu, taking->to);
}

void sched_take(struct vcpu *vcpu) {
    if (vcpu == this_cpu()->current) { /* who asks goes on */
        this_cpu()->attention = true;
        return;
    }
    struct taking taking = {vcpu, this_cpu(), false};
    while (!taking.done) /* it may move meanwhile */
        cpus_call(1ull << atomic_load(&vcpu->home)->id, take_here, &taking);
}

/* The least loaded of those that allow it; a component stays where it can. */
void sched_place(struct vcpu *vcpu) {
    if (vcpu == this_cpu()->current) return;
    struct cpu *best = NULL;
    u32 least = 0;
    for (u32 i = 0; i < cpus_online; i++) {
        struct cpu *cpu = &cpus[i];
        if (!home_allows(vcpu, cpu)) continue;
        bool home = cpu == vcpu->home;
        u32 load = atomic_load(&cpu->load) - (home ? load_of(vcpu) : 0);
        if (best && load >= least && !(home && (load == least || !domain_is_vm(vcpu->domain))))
            continue;
        best = cpu;
        least = load;
        if (home && !domain_is_vm(vcpu->domain)) break;
    }
    vcpu->arriving = true;
    if (!best || best == vcpu->home)
        vcpu_look(vcpu);
    else
        sched_move(vcpu, best);
}

/* --- admission --- */

/* The next of all vCPUs; NULL: after the last, and the first follows. */
struct each {
    struct domain *domain;
    u32 index;
};
static struct vcpu *each_vcpu(struct each *each) {
    for (; each->domain; each->domain = each->domain->next, each->index = 0)
        while (each->index < MAX_VCPUS) {
            struct vcpu *vcpu = each->domain->vcpus[each->index++];
            if (vcpu) return vcpu;
        }
    return NULL;
}
#define FOR_EACH_VCPU(vcpu) for (struct each each_ = {domains, 0}; (vcpu = each_vcpu(&each_));)

/* Whether the others leave a part of this CPU, or all of it, to one that asks for `asked`. */
static bool can_promise(const struct vcpu *vcpu, const struct share *asked, const struct cpu *cpu) {
    bool alone = asked->class == CLASS_DEDICATED;
    u64 parts = alone ? 0 : asked->budget * PARTS / asked->period;
    const struct vcpu *other;
    if (alone && cpu == this_cpu()) return false; /* the control domain's */
    FOR_EACH_VCPU(other) {
        const struct domain *domain = other->domain;
        const struct share *share = &other->share;
        if (other == vcpu || domain == vcpu->domain->model) continue;
        bool foreign = domain->tenant && domain->tenant != vcpu->domain->tenant;
        u64 taken_away = foreign && alone ? cpu->siblings : 1ull << cpu->id;
        if (share->class == CLASS_SHARED) {
            bool elsewhere = !alone;
            for (u32 i = 0; i < cpus_online && !elsewhere; i++)
                elsewhere = !(taken_away >> i & 1) && home_allows(other, &cpus[i]);
            if (!elsewhere) return false;
        } else if (share->cpus & taken_away) { /* pinned */
            if (alone || share->class == CLASS_DEDICATED) return false;
            parts += share->budget * PARTS / share->period;
        }
    }
    return parts <= PARTS;
}

static bool is_valid(const struct vcpu_share *asked) {
    u64 budget = asked->budget, period = asked->period, latency = asked->latency;
    bool limits = budget ? period >= tsc_hz / PERIODS_MOST && period <= tsc_hz &&
                               budget <= period && budget >= period / BUDGETS_LEAST
                         : !period;
    if (asked->scheduling > CLASS_DEDICATED || asked->weight > WEIGHT_MOST || !limits ||
        !(asked->cpus & CPUS_ALL) || latency < tsc_hz / LATENCIES_MOST || latency > tsc_hz)
        return false;
    switch (asked->scheduling) {
    case CLASS_SHARED: return asked->weight;
    case CLASS_RESERVED: return budget;
    default: return !budget;
    }
}

/* Who is not allowed any more where it is, goes. */
static void send_away(const struct vcpu *but) {
    struct vcpu *vcpu;
    FOR_EACH_VCPU(vcpu) {
        if (vcpu == but || home_allows(vcpu, atomic_load(&vcpu->home))) continue;
        sched_take(vcpu);
        sched_place(vcpu);
    }
}

void home_forget(struct vcpu *vcpu) {
    for (u32 i = 0; i < cpus_online; i++)
        if (cpus[i].dedicated == vcpu) cpus[i].dedicated = NULL;
    home_count(vcpu, -1);
}

u32 sched_admit(struct vcpu *vcpu, const struct vcpu_share *asked) {
    bool component = !domain_is_vm(vcpu->domain);
    u32 weight = asked->weight ? asked->weight : WEIGHT_DEFAULT;
    struct share share = {
        .class = asked->scheduling,
        .weight = weight,
        .hard = asked->scheduling == CLASS_SHARED || !asked->weight,
        .budget = asked->budget,
        .period = asked->period,
        .latency = asked->latency,
        .credit = spans.slept * WEIGHT_DEFAULT / weight,
        .cpus = asked->cpus,
        .vtime = vcpu->share.vtime,
    };
    if (!is_valid(asked) || vcpu == this_cpu()->current ||
        (component && (share.class != CLASS_SHARED || share.budget)))
        return STATUS_BAD_ARGUMENT;
    struct cpu *to = NULL;
    for (struct cpu *cpu = cpus; cpu < cpus + cpus_online; cpu++) {
        if (!allows(vcpu, share.cpus, cpu) ||
            (share.class != CLASS_SHARED && !can_promise(vcpu, &share, cpu)))
            continue;
        if (!to || atomic_load(&cpu->load) < atomic_load(&to->load)) to = cpu;
    }
    if (!to) return STATUS_NO_QUOTA;
    sched_take(vcpu);
    home_forget(vcpu);
    vcpu->share = share;
    home_count(vcpu, 1);
    if (share.class != CLASS_SHARED) vcpu->share.cpus = 1ull << to->id;
    if (share.class == CLASS_DEDICATED) {
        to->dedicated = vcpu;
        send_away(vcpu);
    }
    sched_place(vcpu);
    return STATUS_OK;
}
