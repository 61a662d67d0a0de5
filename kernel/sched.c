/* Scheduling of one CPU: time slices, direct hand-over, idling. */
#include "sched.h"

#include "brake.h"
#include "core.h"
#include "cpu.h"
#include "domain.h"
#include "frame.h"
#include "guest.h"
#include "image.h"
#include "log.h"
#include "mitigate.h"
#include "regs.h"
#include "sched_inline.h"
#include "smp.h"
#include "time.h"
#include "trace.h"
#include "vcpu.h"
#include "x86.h"

#define CLEAN_TICKS  4096 /* more than the zeroing of a page takes */
#define HANG_SECONDS 20   /* of CPU time, that a component may take to come back to HC_WAIT */

bool sched_more;
static u64 idle_cpus, crowded_cpus; /* by id; crowded: somebody waits there, without a guarantee */

/* Nothing that is over stays to be waited for: the host's timer would interrupt for ever. */
void sched_deadline(void) {
    struct cpu *cpu = this_cpu();
    u64 now = rdtsc() + TIMER_ADVANCE;
    timeouts_run(cpu, now);
    if (unlikely(now >= cpu->slice_end)) {
        cpu->attention = cpu->slice_over = true;
        cpu->masked = cpu->loaded && guest_masks_host(cpu->loaded);
        cpu->slice_end = ~0ull;
    }
    deadline_update(cpu);
}

void timer_interrupt(void) { sched_deadline(); }

/* --- slices --- */

/* The time since the last call is the current vCPU's. */
static void account(struct cpu *cpu, u64 now) {
    if (cpu->current) cpu->current->run_time += now - cpu->accounted;
    cpu->accounted = now;
}

/* The slice so far is its owner's: a VM and its device model run on the slices of each other, and
   the VM pays for both. */
static ALWAYS_INLINE void charge(struct cpu *cpu, u64 now) {
    struct vcpu *owner = cpu->owner;
    u64 ran = now - cpu->charged;
    cpu->charged = now;
    if (!owner) return;
    struct domain *domain = owner->domain;
    if (domain->vm)
        atomic_add(&domain->vm->model_time, ran);
    else if (unlikely(atomic_load(&domain->model_time)))
        ran += atomic_swap(&domain->model_time, 0);
    share_charge(&owner->share, ran);
}

/* Others see who waits here. While somebody waits elsewhere, true: slices are short everywhere. */
static NOINLINE bool tell_waiting(struct cpu *cpu) {
    u64 waiting = queue_least(cpu), self = 1ull << cpu->id, crowded = atomic_load(&crowded_cpus);
    if ((waiting == ~0ull) == !!(crowded & self)) {
        if (crowded & self)
            atomic_and(&crowded_cpus, ~self);
        else
            atomic_or(&crowded_cpus, self);
    }
    atomic_store(&cpu->waiting, waiting);
    return crowded & ~self;
}

static NOINLINE void slice_brief(struct cpu *cpu, const struct vcpu *vcpu, u64 now) {
    bool brief = brake_is_set(vcpu);
    if (cpus_online > 1 && tell_waiting(cpu)) brief |= !cpu->dedicated;
    if (brief && cpu->slice_end > now + spans.shared) cpu->slice_end = now + spans.shared;
}

static void slice_start(struct cpu *cpu, struct vcpu *vcpu, u64 now) {
    const struct share *share = &vcpu->share;
    if (!share->guaranteed && share->key > cpu->vtime) cpu->vtime = share->key;
    cpu->owner = vcpu;
    cpu->charged = now;
    cpu->slice_end = now + queue_slice(cpu, vcpu, now);
    cpu->slice_over = false;
    cpu->alone = !cpu->queue;
    vcpu->slice_left = 0;
    if (unlikely(sched_more)) slice_brief(cpu, vcpu, now);
    deadline_update(cpu);
}

/* Somebody else waits now: nobody has the CPU for longer than a slice among others. */
static NOINLINE void slice_shorten(struct cpu *cpu, u64 end) {
    u64 now = rdtsc(), among = now + (cpu->owner ? queue_slice(cpu, cpu->owner, now) : 0);
    if (cpu->alone && among < end) end = among;
    cpu->alone = false;
    if (end < cpu->slice_end) cpu->slice_end = end;
    deadline_update(cpu);
}

/* In how long it should run in place of what runs now; 0: at once, as a device model where its VM
   runs. */
static i64 interrupts_in(const struct cpu *cpu, const struct vcpu *vcpu, u64 now) {
    const struct vcpu *owner = cpu->owner;
    if (!owner || vcpu->domain->vm == owner->domain) return 0;
    const struct share *share = &vcpu->share, *running = &owner->share;
    if (unlikely(share->guaranteed | running->guaranteed))
        return queue_before(share, running) ? 0 : INT64_MAX;
    u64 had = (now - cpu->charged) * WEIGHT_DEFAULT / running->weight;
    i64 ahead = (i64)(share->key + spans.interrupt - running->vtime - had);
    return likely(ahead <= 0) ? 0 : ahead * (i64)running->weight / (i64)WEIGHT_DEFAULT;
}

/* --- who is ready --- */

static void waited(struct vcpu *vcpu, u64 now) {
    u64 since = vcpu->ready_since;
    atomic_store(&vcpu->ready_since, 0); /* first: nothing is told twice */
    if (since) atomic_store(&vcpu->stolen, vcpu->stolen + now - since);
}

/* True: it has used up its budget, and may not run before it gets a new one. */
static NOINLINE bool throttle_limited(struct vcpu *vcpu, u64 now) {
    struct share *share = &vcpu->share;
    bool braked = share->braked_until > now;
    if (!braked) share->braked_until = 0;
    if (share_refresh(share, now) && !braked) return false;
    timeout_set(&vcpu->replenish, braked ? share->braked_until : share->period_end);
    vcpu->throttled = braked || share->hard;
    vcpu->throttles += vcpu->throttled;
    return vcpu->throttled;
}
static ALWAYS_INLINE bool throttle(struct vcpu *vcpu, u64 now) {
    return unlikely(vcpu->share.budget | vcpu->share.braked_until) && throttle_limited(vcpu, now);
}

static ALWAYS_INLINE void enqueue(struct cpu *cpu, struct vcpu *vcpu, u64 now) {
    if (!vcpu->ready_since) vcpu->ready_since = now;
    if (!throttle(vcpu, now)) queue_insert(cpu, vcpu);
}

/* It waits now, unless it is used up or somewhere else: to run instead of what runs, or after it.
 */
static void queued(struct cpu *cpu, struct vcpu *vcpu, u64 now) {
    cpu->attention = true;
    if (!vcpu->queued) return;
    i64 in = interrupts_in(cpu, vcpu, now);
    if (likely(in <= 0))
        cpu->reschedule = true;
    else
        slice_shorten(cpu, in == INT64_MAX ? ~0ull : now + (u64)in);
}

static bool movable(const struct vcpu *vcpu) {
    return domain_is_vm(vcpu->domain) && vcpu->share.class == CLASS_SHARED;
}

/* The first that waits goes to an idle CPU, if one may have it. */
static NOINLINE void share_out(struct cpu *cpu, u64 idle) {
    for (struct vcpu *vcpu = cpu->queue; vcpu; vcpu = vcpu->queue_next)
        for (u64 left = movable(vcpu) ? idle : 0; left; left &= left - 1) {
            struct cpu *to = &cpus[__builtin_ctzll(left)];
            if (!home_allows(vcpu, to) || core_is_foreign(to, vcpu)) continue;
            sched_move(vcpu, to);
            return;
        }
}

static void put_forward(struct vcpu *vcpu, u64 by) {
    struct share *share = &vcpu->share;
    share->vtime += by;
    if (!share->guaranteed) share->key += by;
}

/* Those of a CPU where fewer share have had more: one that comes from there must not wait until all
   here have had as much. */
static NOINLINE void vtime_forward(struct cpu *cpu, u64 to) {
    u64 by = to - cpu->vtime;
    cpu->vtime = to;
    for (struct vcpu *vcpu = cpu->queue; vcpu; vcpu = vcpu->queue_next)
        put_forward(vcpu, by);
    if (cpu->current) put_forward(cpu->current, by);
    if (cpu->owner && cpu->owner != cpu->current) put_forward(cpu->owner, by);
}

void sched_wake(struct vcpu *vcpu, bool slept) {
    struct cpu *cpu = this_cpu();
    struct share *share = &vcpu->share;
    vcpu->state = VCPU_READY;
    if (vcpu->queued || vcpu->throttled || vcpu == cpu->current || vcpu == cpu->next ||
        !vcpu_runnable(vcpu))
        return;
    if (!slept && share->vtime == VTIME_NONE) share->vtime = cpu->vtime;
    u64 behind = slept ? share->credit : spans.apart;
    if (share->vtime + behind < cpu->vtime) share->vtime = cpu->vtime - behind;
    if (!slept && share->vtime > cpu->vtime + spans.apart)
        vtime_forward(cpu, share->vtime - spans.apart);
    u64 now = rdtsc();
    enqueue(cpu, vcpu, now);
    /* A component runs for a moment only; behind a VM another CPU is better, if it has nothing to
       do. */
    const struct vcpu *current = cpu->current;
    u64 idle = unlikely(sched_more) ? atomic_load(&idle_cpus) : 0;
    if (unlikely(idle) && current && domain_is_vm(current->domain) && vcpu_runnable(current))
        share_out(cpu, idle);
    queued(cpu, vcpu, now);
}

void sched_remove(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (vcpu->queued) queue_remove(cpu, vcpu);
    timeout_cancel(&vcpu->replenish);
    vcpu->throttled = false;
    vcpu->slice_left = 0;
    waited(vcpu, rdtsc());
    if (cpu->next == vcpu) cpu->next = NULL;
    if (cpu->current == vcpu) cpu->attention = true;
}

/* A new budget: it may run again, or goes before others again. */
void sched_replenished(struct timeout *timeout) {
    struct vcpu *vcpu = container_of(timeout, struct vcpu, replenish);
    struct cpu *cpu = this_cpu();
    bool waits = vcpu->queued || vcpu->throttled;
    if (vcpu->queued) queue_remove(cpu, vcpu);
    vcpu->throttled = false;
    if (vcpu == cpu->owner) cpu->attention = cpu->slice_over = true;
    if (!waits) return;
    u64 now = rdtsc();
    enqueue(cpu, vcpu, now);
    queued(cpu, vcpu, now);
}

void sched_release(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    sched_remove(vcpu);
    vapic_timer_stop(&vcpu->apic);
    guest_unload(vcpu);
    if (cpu->owner == vcpu) {
        charge(cpu, rdtsc());
        cpu->owner = NULL;
    }
    if (cpu->current != vcpu) return;
    account(cpu, rdtsc());
    cpu->current = NULL;
}

/* What other CPUs want. */
static NOINLINE void look_around(struct cpu *cpu) {
    cpu->poked = false;
    atomic_set(&cpu->ring, false);
    if (likely(!(atomic_load(&cpus_called.pending) | (u64)cpu->inbox | (u64)cpu->core))) return;
    smp_service();
    inbox_empty(cpu);
    if (cpu->core) core_look(cpu);
}
static void look(struct cpu *cpu) {
    if (unlikely(cpu->poked || atomic_load(&cpu->ring))) look_around(cpu);
}

void sched_hand_over(struct vcpu *to) {
    struct cpu *cpu = this_cpu();
    if (to->queued) {
        queue_remove(cpu, to);
        waited(to, rdtsc());
        to->slice_left = 0; /* it has another one's */
    }
    cpu->next = to;
    cpu->attention |= ATTENTION_NEXT;
}

/* What it waits for may be what another vCPU of its VM would do, with a lock or an answer: that
   gets the rest of the slice. Not one with a budget, which may be less than that. */
void sched_spins(void) {
    struct cpu *cpu = this_cpu();
    struct vcpu *other = cpu->queue;
    while (other && (other->domain != cpu->current->domain || other->share.budget))
        other = other->queue_next;
    if (other)
        sched_hand_over(other);
    else
        cpu->slice_over = true;
    cpu->attention = true;
}

void sched_queue_next(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (vcpu->queued || vcpu == cpu->next) return;
    enqueue(cpu, vcpu, rdtsc());
    if (cpu->alone) slice_shorten(cpu, ~0ull);
}

/* Ticks that are not accounted yet. */
static u64 unaccounted(const struct cpu *cpu) {
    u64 from = atomic_load(&cpu->accounted), now = rdtsc();
    return now > from ? now - from : 0;
}

/* The order of reading, here and below: what another CPU accounts meanwhile counts less, never
 * twice. */
u64 sched_idle_time(void) {
    u64 sum = 0;
    for (u32 i = 0; i < cpus_online; i++) {
        sum += atomic_load(&cpus[i].idle_time);
        if (!atomic_load(&cpus[i].current)) sum += unaccounted(&cpus[i]);
    }
    return sum;
}

u64 sched_ready_time(const struct vcpu *vcpu) {
    u64 time = atomic_load(&vcpu->stolen), since = atomic_load(&vcpu->ready_since), now = rdtsc();
    return since && now > since ? time + now - since : time;
}

u64 sched_run_time(const struct vcpu *vcpu) {
    u64 time = atomic_load(&vcpu->run_time);
    const struct cpu *cpu = atomic_load(&vcpu->home);
    return atomic_load(&cpu->current) == vcpu ? time + unaccounted(cpu) : time;
}

/* --- choosing --- */

/* Zeroes a page of the free memory, on one idle CPU; false: nothing to do, or no time for it. */
static bool clean_memory(struct cpu *cpu) {
    if (cpu->timeouts && cpu->timeouts->deadline < rdtsc() + CLEAN_TICKS) return false;
    if (1ull << cpu->id != (idle_cpus & -idle_cpus) || !kernel_try_lock()) return false;
    bool more = frame_clean();
    kernel_unlock(true);
    return more;
}

/* With somebody in the queue: the core is another tenant's, and the slice's end is when to look
   again. */
static void idle(struct cpu *cpu) {
    u64 start = cpu->accounted;
    cpu->alone = false;
    if (!cpu->queue) cpu->slice_end = ~0ull;
    if (!cpu->queue && !cpu->dedicated) atomic_or(&idle_cpus, 1ull << cpu->id);
    if (unlikely(atomic_load(&crowded_cpus))) (void)tell_waiting(cpu);
    while (!cpu->attention && !cpu->restart_control) {
        deadline_update(cpu);
        u64 first = cpu->deadline;
        if (first < TIMER_OFF) first = first > TIMER_ADVANCE ? first - TIMER_ADVANCE : 1;
        host_timer_set(first);
        if (clean_memory(cpu)) {
            cpu_take_interrupts();
        } else {
            atomic_set(&cpu->idling, true); /* before the last look: who pokes now, interrupts */
            if (!atomic_load(&cpu->ring)) cpu_idle();
            atomic_store(&cpu->idling, false);
        }
        sched_deadline();
        look(cpu);
    }
    atomic_and(&idle_cpus, ~(1ull << cpu->id));
    u64 now = rdtsc();
    atomic_store(&cpu->accounted, now);
    atomic_store(&cpu->idle_time, cpu->idle_time + now - start);
}

/* Those who wait on another CPU are further behind than those here: to there, so that one of them
   can come here. */
static bool make_even(struct cpu *cpu, struct vcpu *vcpu) {
    u64 here = queue_least(cpu), least = ~0ull;
    struct cpu *to = NULL;
    if (!movable(vcpu) || cpus_online == 1) return false;
    if (vcpu->share.vtime < here) here = vcpu->share.vtime;
    for (struct cpu *other = cpus; other < cpus + cpus_online; other++) {
        u64 waiting = atomic_load(&other->waiting);
        if (other == cpu || waiting >= least || !home_allows(vcpu, other)) continue;
        to = other;
        least = waiting;
    }
    /* Alone here, while others shared: that they have had more before does not count for ever. */
    if (to && !cpu->queue && here + spans.apart < least) vcpu->share.vtime = least - spans.apart;
    if (!to || here < spans.uneven || least >= here - spans.uneven) return false;
    if (!cpu->queue) atomic_or(&idle_cpus, 1ull << cpu->id); /* before it is asked for one */
    sched_move(vcpu, to);
    return true;
}

/* The first in the queue that may run now; NULL: nobody. */
static struct vcpu *take_first(struct cpu *cpu, u64 now) {
    for (struct vcpu *next, *vcpu = cpu->queue; vcpu; vcpu = next) {
        next = vcpu->queue_next;
        if (unlikely(cpu->core) && !core_admits(cpu, vcpu)) continue;
        queue_remove(cpu, vcpu);
        if (throttle(vcpu, now)) continue;
        waited(vcpu, now);
        return vcpu;
    }
    if (cpu->core) core_leave(cpu);
    return NULL;
}

/* A device model that ran on its VM's slice is as far as that: it would be ahead of all others. */
static void catch_up(const struct cpu *cpu, struct vcpu *vcpu) {
    const struct vcpu *owner = cpu->owner;
    if (owner && vcpu->share.vtime < owner->share.vtime) vcpu->share.vtime = owner->share.vtime;
    if (vcpu->share.vtime + vcpu->share.credit < cpu->vtime)
        vcpu->share.vtime = cpu->vtime - vcpu->share.credit;
}

/* The vCPU that runs next, up to which time was accounted; NULL: nobody is ready. */
static struct vcpu *choose(struct cpu *cpu) {
    struct vcpu *current = cpu->current, *next = cpu->next;
    bool can = current && vcpu_runnable(current);
    u64 now = rdtsc();
    if (next) {
        bool runnable = vcpu_runnable(next);
        cpu->next = NULL;
        if (runnable && cpu->owner && cpu->owner->domain == next->domain) { /* its slice, then */
            charge(cpu, now);
            cpu->owner = next;
        }
        if (can && next != current) {
            catch_up(cpu, current);
            enqueue(cpu, current, now);
        }
        account(cpu, now);
        if (runnable) {
            cpu->attention |= cpu->reschedule | cpu->slice_over; /* then it is others' turn */
            return next;
        }
        can = false;
    }
    if (can && !cpu->reschedule && !cpu->slice_over) return current;
    account(cpu, now);
    charge(cpu, now);
    if (unlikely(sched_more) && cpu->owner) brake_charge(cpu->owner, now);
    if (can && current != cpu->owner)
        catch_up(cpu, current);
    else if (can && !cpu->slice_over && cpu->slice_end > now)
        current->slice_left = cpu->slice_end - now;
    if (can && !(cpu->slice_over && make_even(cpu, current))) enqueue(cpu, current, now);
    cpu->owner = NULL;
    cpu->reschedule = false;
    next = take_first(cpu, now);
    if (!next) return NULL;
    slice_start(cpu, next, now);
    u64 idle = unlikely(sched_more) ? atomic_load(&idle_cpus) : 0;
    if (unlikely(idle)) { /* with this one in it: make_even */
        atomic_and(&idle_cpus, ~(1ull << cpu->id));
        share_out(cpu, idle & ~(1ull << cpu->id));
    }
    return next;
}

/* --- switching --- */

static void check_hang(struct vcpu *vcpu) {
    if (vcpu->domain->role != ROLE_VM && vcpu->run_time - vcpu->busy_since > HANG_SECONDS * tsc_hz)
        domain_fail(vcpu->domain, FAILURE_HANG, vcpu->run_time - vcpu->busy_since);
}

/* Vector state and MSRs stay with their VM while its own device model runs. What the last vCPU left
   in the predictors is not for another one, nor for itself if it was elsewhere meanwhile. */
static void switch_unswitched(struct cpu *cpu, struct vcpu *to) {
    struct domain *domain = to->domain;
    bool vm = domain->role == ROLE_VM;
    if (cpu->unswitched && cpu->unswitched != to &&
        (vm || cpu->unswitched->domain->model != domain))
        unswitched_evict(cpu->unswitched);
    bool arrives = vm && cpu->unswitched != to;
    if (arrives) {
        unswitched_load(to);
        cpu->unswitched = to;
    }
    mitigate_switch(cpu->last_domain, domain, arrives);
    cpu->last_domain = domain;
}

static void switch_to(struct cpu *cpu, struct vcpu *to) {
    atomic_set(&cpu->current, to); /* before the last look at its attention: vcpu_kick */
    trace(cpu->accounted, TRACE_SWITCH, to->domain, to->index, 0);
    guest_load(to);
    switch_unswitched(cpu, to);
}

/* What a vCPU waited for: a component its events, a VM its device model's answer. */
static ALWAYS_INLINE void arrive(struct vcpu *vcpu) {
    if (vcpu->waiting) {
        vcpu->waiting = false;
        vcpu->gpr[0] = STATUS_OK;
        vcpu->gpr[2] = atomic_swap(&vcpu->domain->events, 0);
        vcpu->busy_since = vcpu->run_time;
        return;
    }
    if (vcpu->answered) vcpu_apply_answer(vcpu);
    if (unlikely(vcpu->steal & 1) && vcpu->stolen != vcpu->stolen_told) vcpu_tell_steal(vcpu);
}

/* The slow path: returns the vCPU to enter, which may need attention in its turn. */
static struct vcpu *attend(struct cpu *cpu) {
    cpu->attention = false;
    if (cpu->restart_control) image_restart();
    if (cpu->slice_over && cpu->current) {
        account(cpu, rdtsc());
        check_hang(cpu->current);
        if (cpu->masked) cpu_take_interrupts();
    }
    struct vcpu *next;
    while (!(next = choose(cpu))) {
        cpu->current = NULL;
        idle(cpu);
        cpu->attention = false; /* that it has one now */
        if (cpu->restart_control) image_restart();
    }
    if (next != cpu->current) switch_to(cpu, next);
    arrive(next);
    return next;
}

/* One step, until nothing asks for attention any more. Who loses its current vCPU to another CPU
   attends. */
static NOINLINE void resume_slowly(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    look(cpu);
    if (unlikely(cpu->attention))
        vcpu = attend(cpu);
    else
        vcpu_attend(vcpu);
    sched_resume(vcpu);
}

/* From the look on, an NMI begins it again: enter_again. */
SECTION(".text.enter") NOINLINE void sched_resume(struct vcpu *vcpu) {
    const struct cpu *cpu = this_cpu();
    if (unlikely(cpu->look | vcpu->attention)) {
        resume_slowly(vcpu);
    } else {
        guest_deadline_write(cpu);
        guest_enter(vcpu);
    }
}

void sched_resume_other(void) {
    struct cpu *cpu = this_cpu();
    struct vcpu *vcpu = attend(cpu);
    sched_resume(vcpu);
}

void sched_resume_next(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    struct vcpu *next = cpu->next;
    if (unlikely(cpu->look != ATTENTION_NEXT || !next || vcpu->state == VCPU_READY)) {
        sched_resume(vcpu);
        return;
    }
    /* As choose and switch_to would do it, for two that trust each other. */
    cpu->next = NULL;
    cpu->attention = false;
    account(cpu, rdtsc());
    atomic_set(&cpu->current, next);
    cpu->last_domain = next->domain;
    guest_load(next);
    if (unlikely(cpu->unswitched != next && domain_is_vm(next->domain)))
        switch_unswitched(cpu, next);
    arrive(next);
    sched_resume(next);
}

void sched_start(void) {
    this_cpu()->accounted = rdtsc();
    this_cpu()->waiting = ~0ull;
    sched_more |= cpus_online > 1;
    sched_resume_other();
    panic("the first guest was not entered");
}
