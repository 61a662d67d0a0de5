/* Scheduling of one CPU: a queue, time slices, direct hand-over, timeouts, idling. */
#include "sched.h"

#include "cpu.h"
#include "domain.h"
#include "frame.h"
#include "guest.h"
#include "log.h"
#include "mitigate.h"
#include "regs.h"
#include "smp.h"
#include "time.h"
#include "trace.h"
#include "vcpu.h"
#include "x86.h"

/* Time slices per second: of a vCPU that shares the CPU; of one that is alone on it; and of a guest
   that holds off interrupts, since some CPUs hold off the host's with them (Bochs does). */
#define SLICES_SHARED 500
#define SLICES_ALONE  20
#define SLICES_MASKED 1000
#define CLEAN_TICKS   4096 /* more than the zeroing of a page takes */
#define HANG_SECONDS  20   /* of CPU time, that a component may take to come back to HC_WAIT */
#define CPUS_ALL      ((1ull << (cpus_online - 1) << 1) - 1)

static u64 idle_cpus; /* by id */

/* --- timeouts --- */

static void deadline_update(struct cpu *cpu) {
    u64 first = cpu->timeouts ? cpu->timeouts->deadline : ~0ull;
    cpu->deadline = first < cpu->slice_end ? first : cpu->slice_end;
    if (unlikely(!virt_timer)) host_timer_set(cpu->deadline);
}

static void unlink_timeout(struct cpu *cpu, struct timeout *timeout) {
    struct timeout **link = &cpu->timeouts;
    assert(timeout->cpu == cpu);
    while (*link != timeout)
        link = &(*link)->next;
    *link = timeout->next;
    timeout->armed = false;
}

static NOINLINE void place_timeout(struct cpu *cpu, struct timeout *timeout, u64 deadline) {
    struct timeout **link = &cpu->timeouts;
    if (timeout->armed) unlink_timeout(cpu, timeout);
    while (*link && (*link)->deadline <= deadline)
        link = &(*link)->next;
    timeout->deadline = deadline;
    timeout->cpu = cpu;
    timeout->next = *link;
    timeout->armed = true;
    *link = timeout;
    deadline_update(cpu);
}

void timeout_set(struct timeout *timeout, u64 deadline) {
    struct cpu *cpu = this_cpu();
    if (!timeout->armed || deadline < timeout->deadline ||
        (timeout->next && deadline > timeout->next->deadline))
        return place_timeout(cpu, timeout, deadline);
    timeout->deadline = deadline; /* its place stays */
    if (cpu->timeouts == timeout) deadline_update(cpu);
}

void timeout_cancel(struct timeout *timeout) {
    if (!timeout->armed) return;
    struct cpu *cpu = this_cpu();
    unlink_timeout(cpu, timeout);
    deadline_update(cpu);
}

static void cancel(void *timeout) { timeout_cancel(timeout); }

void timeout_end(struct timeout *timeout) {
    if (timeout->cpu) cpus_call(1ull << timeout->cpu->id, cancel, timeout);
}

/* Nothing that is over stays to be waited for: the host's timer would interrupt for ever. */
void sched_deadline(void) {
    struct cpu *cpu = this_cpu();
    u64 now = rdtsc() + TIMER_ADVANCE;
    while (cpu->timeouts && cpu->timeouts->deadline <= now) {
        struct timeout *timeout = cpu->timeouts;
        cpu->timeouts = timeout->next;
        atomic_store(&timeout->armed, false); /* from here on another CPU may arm it */
        timeout->fire(timeout);
    }
    if (unlikely(now >= cpu->slice_end)) {
        cpu->attention = cpu->slice_over = true;
        cpu->masked = cpu->loaded && guest_masks_host(cpu->loaded);
        cpu->slice_end = ~0ull;
    }
    deadline_update(cpu);
}

void timer_interrupt(void) { sched_deadline(); }

/* --- the queue --- */

static bool is_vm(const struct vcpu *vcpu) { return vcpu->domain->role == ROLE_VM; }
static bool move_to_idle(struct vcpu *vcpu);

static void slice_start(struct cpu *cpu, bool alone) {
    u64 rate = cpu->masked ? SLICES_MASKED : alone ? SLICES_ALONE : SLICES_SHARED;
    cpu->slice_end = rdtsc() + tsc_hz / rate;
    cpu->alone = alone;
    cpu->slice_over = false;
    deadline_update(cpu);
}

static void enqueued(struct vcpu *vcpu) {
    vcpu->queued = true;
    vcpu->queued_at = rdtsc();
}

static void dequeued(struct vcpu *vcpu) {
    vcpu->queued = false;
    vcpu->stolen += rdtsc() - vcpu->queued_at;
}

static void push_front(struct cpu *cpu, struct vcpu *vcpu) {
    vcpu->queue_next = cpu->queue;
    cpu->queue = vcpu;
    if (!cpu->queue_last) cpu->queue_last = vcpu;
    enqueued(vcpu);
}

static void push_back(struct cpu *cpu, struct vcpu *vcpu) {
    vcpu->queue_next = NULL;
    if (cpu->queue_last)
        cpu->queue_last->queue_next = vcpu;
    else
        cpu->queue = vcpu;
    cpu->queue_last = vcpu;
    enqueued(vcpu);
}

static struct vcpu *pop(struct cpu *cpu) {
    struct vcpu *vcpu = cpu->queue;
    if (!vcpu) return NULL;
    cpu->queue = vcpu->queue_next;
    if (!cpu->queue) cpu->queue_last = NULL;
    dequeued(vcpu);
    return vcpu;
}

static void unlink_queued(struct cpu *cpu, struct vcpu *vcpu) {
    struct vcpu *before = NULL;
    for (struct vcpu *v = cpu->queue; v != vcpu; v = v->queue_next)
        before = v;
    if (before)
        before->queue_next = vcpu->queue_next;
    else
        cpu->queue = vcpu->queue_next;
    if (cpu->queue_last == vcpu) cpu->queue_last = before;
    dequeued(vcpu);
}

void sched_wake(struct vcpu *vcpu, bool urgent) {
    struct cpu *cpu = this_cpu();
    vcpu->state = VCPU_READY;
    if (vcpu->queued || vcpu == cpu->current || vcpu == cpu->next || !vcpu_runnable(vcpu)) return;
    /* A component runs for a moment only; behind a VM another CPU is better, if it has nothing to
       do. */
    if (is_vm(vcpu) && cpu->current && is_vm(cpu->current) && move_to_idle(vcpu)) return;
    if (urgent)
        push_front(cpu, vcpu);
    else
        push_back(cpu, vcpu);
    cpu->reschedule |= urgent;
    cpu->attention = true;
    if (cpu->alone) /* no longer */
        slice_start(cpu, false);
}

void sched_remove(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (vcpu->queued) unlink_queued(cpu, vcpu);
    if (cpu->next == vcpu) cpu->next = NULL;
    if (cpu->current == vcpu) cpu->attention = true;
}

/* The time since the last call is the current vCPU's. */
static void account(struct cpu *cpu) {
    u64 now = rdtsc();
    if (cpu->current) cpu->current->run_time += now - cpu->accounted;
    cpu->accounted = now;
}

/* --- homes --- */

/* Nothing of it stays here. */
static void release(struct cpu *cpu, struct vcpu *vcpu) {
    sched_remove(vcpu);
    vapic_timer_stop(&vcpu->apic);
    guest_unload(vcpu);
    if (cpu->current != vcpu) return;
    account(cpu);
    cpu->current = NULL;
}

static void home_set(struct vcpu *vcpu, struct cpu *to) {
    if (is_vm(vcpu)) {
        atomic_add(&vcpu->home->vms, -1);
        atomic_add(&to->vms, 1);
    }
    atomic_store(&vcpu->home, to);
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
    release(this_cpu(), vcpu);
    vcpu->arriving = true;
    home_set(vcpu, to);
    sched_mail(vcpu);
}

static void inbox_empty(struct cpu *cpu) {
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
    bool done;
};

static void take_here(void *argument) {
    struct cpu *cpu = this_cpu();
    struct taking *taking = argument;
    inbox_empty(cpu);
    taking->done = taking->vcpu->home == cpu;
    if (taking->done) release(cpu, taking->vcpu);
}

void sched_take(struct vcpu *vcpu) {
    if (vcpu == this_cpu()->current) { /* who asks goes on */
        this_cpu()->attention = true;
        return;
    }
    struct taking taking = {vcpu, false};
    while (!taking.done) /* it may move meanwhile */
        cpus_call(1ull << atomic_load(&vcpu->home)->id, take_here, &taking);
    home_set(vcpu, this_cpu());
}

void sched_place(struct vcpu *vcpu) {
    if (vcpu == this_cpu()->current) return;
    struct cpu *best = vcpu->home;
    u32 load = best->vms - 1;
    for (u32 i = 0; is_vm(vcpu) && i < cpus_online; i++)
        if (atomic_load(&cpus[i].vms) < load) load = cpus[i].vms, best = &cpus[i];
    vcpu->arriving = true;
    if (best == vcpu->home)
        vcpu_look(vcpu);
    else
        sched_move(vcpu, best);
}

static bool move_to_idle(struct vcpu *vcpu) {
    u64 idle = atomic_load(&idle_cpus);
    if (likely(!idle)) return false;
    sched_move(vcpu, &cpus[__builtin_ctzll(idle)]);
    return true;
}

/* What other CPUs want. */
static NOINLINE void look_around(struct cpu *cpu) {
    cpu->poked = false;
    atomic_set(&cpu->ring, false);
    if (unlikely(atomic_load(&cpus_called.pending))) smp_service();
    if (unlikely(cpu->inbox)) inbox_empty(cpu);
}
static void look(struct cpu *cpu) {
    if (unlikely(cpu->poked || atomic_load(&cpu->ring))) look_around(cpu);
}

void sched_hand_over(struct vcpu *to) {
    struct cpu *cpu = this_cpu();
    if (to->queued) unlink_queued(cpu, to);
    cpu->next = to;
    cpu->attention |= ATTENTION_NEXT;
}

void sched_yield(void) {
    struct cpu *cpu = this_cpu();
    cpu->attention = cpu->slice_over = true;
}

void sched_queue_next(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (vcpu->queued || vcpu == cpu->next) return;
    push_front(cpu, vcpu);
    if (cpu->alone) slice_start(cpu, false);
}

u64 sched_idle_time(void) {
    u64 sum = 0;
    for (u32 i = 0; i < cpus_online; i++)
        sum += atomic_load(&cpus[i].idle_time);
    return sum;
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

static void idle(struct cpu *cpu) {
    u64 start = rdtsc();
    cpu->slice_end = ~0ull;
    cpu->alone = false;
    atomic_or(&idle_cpus, 1ull << cpu->id);
    while (!cpu->queue && !cpu->restart_control) {
        deadline_update(cpu);
        host_timer_set(cpu->timeouts ? cpu->timeouts->deadline - TIMER_ADVANCE : TIMER_OFF);
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
    cpu->idle_time += rdtsc() - start;
}

/* Who makes room for an urgent one keeps the rest of its slice, and gets no new one: else an urgent
   one that comes often would keep the rest of the queue waiting for ever. */
static void interrupt_slice(struct cpu *cpu, struct vcpu *vcpu) {
    u64 now = rdtsc();
    vcpu->slice_left = cpu->slice_end > now ? cpu->slice_end - now : 1;
    push_front(cpu, vcpu);
}

static void resume_slice(struct cpu *cpu, struct vcpu *vcpu) {
    u64 end = rdtsc() + vcpu->slice_left;
    if (vcpu->slice_left && end < cpu->slice_end) {
        cpu->slice_end = end;
        deadline_update(cpu);
    }
    vcpu->slice_left = 0;
}

/* The vCPU that runs next; NULL: nobody is ready. */
static struct vcpu *choose(struct cpu *cpu) {
    struct vcpu *current = cpu->current;
    bool can = current && vcpu_runnable(current);
    if (cpu->next) {
        struct vcpu *next = cpu->next;
        cpu->next = NULL;
        if (can && next != current) push_front(cpu, current);
        if (vcpu_runnable(next)) {
            cpu->attention |= cpu->reschedule | cpu->slice_over; /* then it is others' turn */
            return next;
        }
        can = false;
    }
    if (can && !cpu->reschedule && !cpu->slice_over) return current;
    struct vcpu *next = pop(cpu);
    if (can) {
        if (!next)
            next = current;
        else if (!cpu->slice_over)
            interrupt_slice(cpu, current);
        else if (!is_vm(current) || !move_to_idle(current))
            push_back(cpu, current);
    }
    cpu->reschedule = false;
    if (next) {
        slice_start(cpu, !cpu->queue);
        resume_slice(cpu, next);
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
    account(cpu);
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
    if (cpu->restart_control) domain_restart_control();
    if (cpu->slice_over && cpu->current) {
        account(cpu);
        check_hang(cpu->current);
        if (cpu->masked) cpu_take_interrupts();
    }
    struct vcpu *next;
    while (!(next = choose(cpu))) {
        account(cpu);
        cpu->current = NULL;
        idle(cpu);
        cpu->attention = false; /* that it has one now */
        if (cpu->restart_control) domain_restart_control();
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
    account(cpu);
    atomic_set(&cpu->current, next);
    cpu->last_domain = next->domain;
    guest_load(next);
    if (unlikely(cpu->unswitched != next && is_vm(next))) switch_unswitched(cpu, next);
    arrive(next);
    sched_resume(next);
}

void sched_start(void) {
    this_cpu()->accounted = rdtsc();
    sched_resume_other();
    panic("the first guest was not entered");
}
