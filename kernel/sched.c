/* Scheduling of one CPU: a queue, time slices, direct hand-over, timeouts, idling. */
#include "sched.h"

#include "cpu.h"
#include "domain.h"
#include "log.h"
#include "regs.h"
#include "time.h"
#include "vcpu.h"
#include "vmcs.h"
#include "vmx.h"
#include "x86.h"

/* Time slices per second: of a vCPU that shares the CPU; of one that is alone on it; and of a guest
   that holds off interrupts, since some CPUs hold off the host's with them (Bochs does). */
#define SLICES_SHARED 500
#define SLICES_ALONE  20
#define SLICES_MASKED 1000
#define HANG_SECONDS  20 /* of CPU time, that a component may take to come back to HC_WAIT */
#define PRED_CMD_IBPB 1ull

/* --- timeouts --- */

static void deadline_update(struct cpu *cpu) {
    u64 first = cpu->timeouts ? cpu->timeouts->deadline : ~0ull;
    cpu->deadline = first < cpu->slice_end ? first : cpu->slice_end;
    if (unlikely(!vmx_timer.present)) host_timer_set(cpu->deadline);
}

static void unlink_timeout(struct cpu *cpu, struct timeout *timeout) {
    struct timeout **link = &cpu->timeouts;
    while (*link != timeout)
        link = &(*link)->next;
    *link = timeout->next;
    timeout->armed = false;
}

void timeout_set(struct timeout *timeout, u64 deadline) {
    struct cpu *cpu = this_cpu();
    if (timeout->armed) unlink_timeout(cpu, timeout);
    struct timeout **link = &cpu->timeouts;
    while (*link && (*link)->deadline <= deadline)
        link = &(*link)->next;
    timeout->deadline = deadline;
    timeout->next = *link;
    timeout->armed = true;
    *link = timeout;
    deadline_update(cpu);
}

void timeout_cancel(struct timeout *timeout) {
    if (!timeout->armed) return;
    struct cpu *cpu = this_cpu();
    unlink_timeout(cpu, timeout);
    deadline_update(cpu);
}

static u64 timeouts_run(struct cpu *cpu) {
    u64 now = rdtsc();
    while (cpu->timeouts && cpu->timeouts->deadline <= now) {
        struct timeout *timeout = cpu->timeouts;
        cpu->timeouts = timeout->next;
        timeout->armed = false;
        timeout->fire(timeout);
    }
    deadline_update(cpu);
    return now;
}

void sched_deadline(void) {
    struct cpu *cpu = this_cpu();
    u64 now = timeouts_run(cpu);
    if (unlikely(now >= cpu->slice_end)) {
        cpu->slice_over = cpu->attention = true;
        cpu->masked = cpu->loaded && !(vmread64(VMCS_GUEST_RFLAGS) & RFLAGS_IF);
    }
}

void timer_interrupt(void) { sched_deadline(); }

/* --- the queue --- */

static void slice_start(struct cpu *cpu, bool alone) {
    u64 rate = cpu->masked ? SLICES_MASKED : alone ? SLICES_ALONE : SLICES_SHARED;
    cpu->slice_end = rdtsc() + tsc_hz / rate;
    cpu->alone = alone;
    cpu->slice_over = false;
    deadline_update(cpu);
}

static void push_front(struct cpu *cpu, struct vcpu *vcpu) {
    vcpu->queue_next = cpu->queue;
    cpu->queue = vcpu;
    if (!cpu->queue_last) cpu->queue_last = vcpu;
    vcpu->queued = true;
}

static void push_back(struct cpu *cpu, struct vcpu *vcpu) {
    vcpu->queue_next = NULL;
    if (cpu->queue_last)
        cpu->queue_last->queue_next = vcpu;
    else
        cpu->queue = vcpu;
    cpu->queue_last = vcpu;
    vcpu->queued = true;
}

static struct vcpu *pop(struct cpu *cpu) {
    struct vcpu *vcpu = cpu->queue;
    if (!vcpu) return NULL;
    cpu->queue = vcpu->queue_next;
    if (!cpu->queue) cpu->queue_last = NULL;
    vcpu->queued = false;
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
    vcpu->queued = false;
}

void sched_wake(struct vcpu *vcpu, bool urgent) {
    struct cpu *cpu = this_cpu();
    vcpu->state = VCPU_READY;
    if (vcpu->queued || vcpu == cpu->current || vcpu == cpu->next || !vcpu_runnable(vcpu)) return;
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

void sched_hand_over(struct vcpu *to) {
    struct cpu *cpu = this_cpu();
    if (to->queued) unlink_queued(cpu, to);
    cpu->next = to;
    cpu->attention = true;
}

void sched_yield(void) {
    struct cpu *cpu = this_cpu();
    cpu->slice_over = cpu->attention = true;
}

void sched_queue_next(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    if (vcpu->queued || vcpu == cpu->next) return;
    push_front(cpu, vcpu);
    if (cpu->alone) slice_start(cpu, false);
}

u64 sched_idle_time(void) { return this_cpu()->idle_time; }

/* --- choosing --- */

static void idle(struct cpu *cpu) {
    u64 start = rdtsc();
    cpu->slice_end = ~0ull;
    cpu->alone = false;
    while (!cpu->queue && !cpu->restart_control) {
        deadline_update(cpu);
        host_timer_set(cpu->timeouts ? cpu->timeouts->deadline : TIMER_OFF);
        cpu_idle();
        sched_deadline();
    }
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
static struct vcpu *choose(struct cpu *cpu, struct vcpu *current) {
    bool can = current && vcpu_runnable(current);
    if (cpu->next) {
        struct vcpu *next = cpu->next;
        cpu->next = NULL;
        if (can && next != current) push_front(cpu, current);
        if (vcpu_runnable(next)) {
            cpu->attention |= cpu->reschedule; /* who woke with urgency comes at once */
            return next;
        }
        can = false;
    }
    if (can && !cpu->reschedule && !cpu->slice_over) return current;
    struct vcpu *next = pop(cpu);
    if (can) {
        if (!next)
            next = current;
        else if (cpu->slice_over)
            push_back(cpu, current);
        else
            interrupt_slice(cpu, current);
    }
    cpu->reschedule = false;
    if (next) {
        slice_start(cpu, !cpu->queue);
        resume_slice(cpu, next);
    }
    return next;
}

/* --- switching --- */

/* The time since the last call is the current vCPU's. */
static void account(struct cpu *cpu) {
    u64 now = rdtsc();
    if (cpu->current) cpu->current->run_time += now - cpu->accounted;
    cpu->accounted = now;
}

static void check_hang(struct vcpu *vcpu) {
    if (vcpu->domain->role != ROLE_VM && vcpu->run_time - vcpu->busy_since > HANG_SECONDS * tsc_hz)
        domain_fail(vcpu->domain, FAILURE_HANG, vcpu->run_time - vcpu->busy_since);
}

/* Whether one may see what the other left in the CPU: a VM and its device model are one. */
static bool same_trust(const struct domain *a, const struct domain *b) {
    return a == b || a->model == b || b->model == a;
}

/* Vector state and MSRs stay with their VM while its own device model runs. */
static void switch_unswitched(struct cpu *cpu, struct vcpu *to) {
    struct domain *domain = to->domain;
    if (cpu->unswitched && cpu->unswitched != to &&
        (domain->role == ROLE_VM || cpu->unswitched->domain->model != domain)) {
        unswitched_save(cpu->unswitched);
        cpu->unswitched = NULL;
    }
    if (domain->role == ROLE_VM && cpu->unswitched != to) {
        unswitched_load(to);
        cpu->unswitched = to;
    }
}

static void switch_to(struct cpu *cpu, struct vcpu *to) {
    account(cpu);
    cpu->current = to;
    vmx_load(to);
    switch_unswitched(cpu, to);
    struct domain *domain = to->domain;
    if (cpu->last_domain != domain) {
        if ((vmx_features() & FEATURE_IBPB) && cpu->last_domain &&
            !same_trust(cpu->last_domain, domain))
            wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
        cpu->last_domain = domain;
    }
}

/* What a vCPU waited for: a component its events, a VM its device model's answer. */
static void arrive(struct vcpu *vcpu) {
    if (vcpu->waiting) {
        vcpu->waiting = false;
        vcpu->gpr[0] = STATUS_OK;
        vcpu->gpr[2] = vcpu->domain->events;
        vcpu->domain->events = 0;
        vcpu->busy_since = vcpu->run_time;
    }
    if (vcpu->answered) vcpu_apply_answer(vcpu);
}

/* The slow path: returns the vCPU to enter, which may need attention in its turn. */
static struct vcpu *attend(struct cpu *cpu, struct vcpu *current) {
    cpu->attention = false;
    if (cpu->restart_control) domain_restart_control();
    if (cpu->slice_over && current) {
        account(cpu);
        check_hang(current);
        if (cpu->masked) cpu_take_interrupts();
    }
    struct vcpu *next;
    while (!(next = choose(cpu, current))) {
        account(cpu);
        cpu->current = current = NULL;
        idle(cpu);
        if (cpu->restart_control) domain_restart_control();
    }
    if (next != cpu->current) switch_to(cpu, next);
    arrive(next);
    return next;
}

/* Until nothing asks for attention any more. */
static struct vcpu *attend_all(struct cpu *cpu, struct vcpu *vcpu) {
    do {
        if (cpu->attention) {
            vcpu = attend(cpu, vcpu);
        } else {
            vcpu->attention = false;
            inject_prepare(vcpu);
        }
    } while (cpu->attention | vcpu->attention);
    return vcpu;
}

/* A slice is short enough for the timer's 32 bits. */
static ALWAYS_INLINE void enter(const struct cpu *cpu, struct vcpu *vcpu) {
    if (likely(vmx_timer.present)) {
        u64 now = rdtsc(), deadline = cpu->deadline;
        u64 ticks = deadline > now ? (deadline - now) >> vmx_timer.shift : 0;
        vmwrite32(VMCS_PREEMPTION_TIMER, (u32)ticks);
    }
    vmx_enter(vcpu);
}

static NOINLINE void resume_slowly(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    vcpu = attend_all(cpu, vcpu);
    enter(cpu, vcpu);
}

void sched_resume(struct vcpu *vcpu) {
    const struct cpu *cpu = this_cpu();
    if (unlikely(cpu->attention | vcpu->attention))
        resume_slowly(vcpu);
    else
        enter(cpu, vcpu);
}

void sched_resume_next(bool quiet, struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    struct vcpu *next = cpu->next;
    if (unlikely(!quiet || !next || vcpu->state == VCPU_READY)) {
        sched_resume(vcpu);
        return;
    }
    /* As choose and switch_to would do it, for two that trust each other. */
    cpu->next = NULL;
    cpu->attention = false;
    account(cpu);
    cpu->current = next;
    cpu->last_domain = next->domain;
    vmx_load(next);
    if (unlikely(cpu->unswitched != next && next->domain->role == ROLE_VM))
        switch_unswitched(cpu, next);
    arrive(next);
    sched_resume(next);
}

void sched_start(void) {
    struct cpu *cpu = this_cpu();
    cpu->attention = true;
    cpu->accounted = rdtsc();
    struct vcpu *vcpu = attend(cpu, NULL);
    sched_resume(vcpu);
    panic("the first guest was not entered");
}
