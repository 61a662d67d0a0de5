/* Scheduling of one CPU: a queue, time slices, direct hand-over, timeouts, idling. */
#include "sched.h"

#include "cpu.h"
#include "domain.h"
#include "log.h"
#include "regs.h"
#include "time.h"
#include "vcpu.h"
#include "vmx.h"
#include "x86.h"

#define SLICES_PER_SECOND 200 /* a time slice is 5 ms */
#define HANG_SECONDS      20  /* of CPU time, that a component may take to come back to HC_WAIT */
#define PRED_CMD_IBPB     1ull

/* --- timeouts --- */

static void deadline_update(struct cpu *cpu) {
    u64 first = cpu->timeouts ? cpu->timeouts->deadline : ~0ull;
    cpu->deadline = first < cpu->slice_end ? first : cpu->slice_end;
    if (!vmx_has_timer())
        host_timer_set(cpu->deadline);
}

void timeout_set(struct timeout *timeout, u64 deadline) {
    struct cpu *cpu = this_cpu();
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
    if (!timeout->armed)
        return;
    struct cpu *cpu = this_cpu();
    struct timeout **link = &cpu->timeouts;
    while (*link != timeout)
        link = &(*link)->next;
    *link = timeout->next;
    timeout->armed = false;
    deadline_update(cpu);
}

static void timeouts_run(struct cpu *cpu) {
    u64 now = rdtsc();
    while (cpu->timeouts && cpu->timeouts->deadline <= now) {
        struct timeout *timeout = cpu->timeouts;
        cpu->timeouts = timeout->next;
        timeout->armed = false;
        timeout->fire(timeout);
    }
    deadline_update(cpu);
}

void sched_deadline(void) {
    this_cpu()->deadline_reached = true;
    this_cpu()->attention = true;
}

void timer_interrupt(void) { sched_deadline(); }

/* --- the queue --- */

/* Alone on the CPU a vCPU has nobody to make room for: one look a second is enough. */
static void slice_start(struct cpu *cpu, bool alone) {
    cpu->slice_end = rdtsc() + (alone ? tsc_hz : tsc_hz / SLICES_PER_SECOND);
    cpu->alone = alone;
    cpu->slice_over = false;
    deadline_update(cpu);
}

static void push_front(struct cpu *cpu, struct vcpu *vcpu) {
    vcpu->queue_next = cpu->queue;
    cpu->queue = vcpu;
    if (!cpu->queue_last)
        cpu->queue_last = vcpu;
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
    if (!vcpu)
        return NULL;
    cpu->queue = vcpu->queue_next;
    if (!cpu->queue)
        cpu->queue_last = NULL;
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
    if (cpu->queue_last == vcpu)
        cpu->queue_last = before;
    vcpu->queued = false;
}

void sched_wake(struct vcpu *vcpu, bool urgent) {
    struct cpu *cpu = this_cpu();
    vcpu->state = VCPU_READY;
    if (vcpu->queued || vcpu == cpu->current || vcpu == cpu->next || !vcpu_runnable(vcpu))
        return;
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
    if (vcpu->queued)
        unlink_queued(cpu, vcpu);
    if (cpu->next == vcpu)
        cpu->next = NULL;
    if (cpu->current == vcpu)
        cpu->attention = true;
}

void sched_hand_over(struct vcpu *to) {
    struct cpu *cpu = this_cpu();
    if (to->queued)
        unlink_queued(cpu, to);
    cpu->next = to;
    cpu->attention = true;
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
        timeouts_run(cpu);
    }
    cpu->idle_time += rdtsc() - start;
}

/* The vCPU that runs next; NULL: nobody is ready. */
static struct vcpu *choose(struct cpu *cpu, struct vcpu *current) {
    bool can = current && vcpu_runnable(current);
    if (cpu->next) {
        struct vcpu *next = cpu->next;
        cpu->next = NULL;
        if (can && next != current)
            push_front(cpu, current);
        if (vcpu_runnable(next))
            return next;
        can = false;
    }
    if (can && !cpu->reschedule && !cpu->slice_over)
        return current;
    struct vcpu *next = pop(cpu);
    if (can) {
        if (!next)
            next = current;
        else if (cpu->slice_over)
            push_back(cpu, current);
        else
            push_front(cpu, current);
    }
    cpu->reschedule = false;
    if (next)
        slice_start(cpu, !cpu->queue);
    return next;
}

static void check_hang(struct vcpu *vcpu) {
    if (vcpu->domain->role != ROLE_VM && vcpu->run_time - vcpu->busy_since > HANG_SECONDS * tsc_hz)
        domain_fail(vcpu->domain, FAILURE_HANG, vcpu->run_time - vcpu->busy_since);
}

static void account(struct vcpu *vcpu) {
    u64 now = rdtsc();
    vcpu->run_time += now - vcpu->entered;
    vcpu->entered = now;
}

/* Whether one may see what the other left in the CPU: a VM and its device model are one. */
static bool same_trust(const struct domain *a, const struct domain *b) {
    return a == b || a->model == b || b->model == a;
}

static void switch_to(struct cpu *cpu, struct vcpu *to) {
    struct vcpu *from = cpu->current;
    if (from)
        account(from);
    cpu->current = to;
    to->entered = rdtsc();
    vmx_load(to);
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
    if (cpu->last_domain != domain) {
        if ((vmx_features() & FEATURE_IBPB) && cpu->last_domain &&
            !same_trust(cpu->last_domain, domain))
            wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
        cpu->last_domain = domain;
    }
}

/* A component comes back from HC_WAIT with its events. */
static void return_events(struct vcpu *vcpu) {
    vcpu->waiting = false;
    vcpu->gpr[0] = STATUS_OK;
    vcpu->gpr[2] = vcpu->domain->events;
    vcpu->domain->events = 0;
    account(vcpu);
    vcpu->busy_since = vcpu->run_time;
}

/* The slow path: something asks for attention. Returns the vCPU to enter; it may ask again. */
static struct vcpu *attend(struct cpu *cpu, struct vcpu *current) {
    cpu->attention = false;
    if (cpu->restart_control)
        domain_restart_control();
    if (cpu->deadline_reached) {
        cpu->deadline_reached = false;
        timeouts_run(cpu);
        cpu->slice_over |= rdtsc() >= cpu->slice_end;
        if (cpu->slice_over && current) {
            account(current);
            check_hang(current);
        }
    }
    struct vcpu *next;
    while (!(next = choose(cpu, current))) {
        if (current) {
            account(current);
            cpu->current = current = NULL;
        }
        idle(cpu);
        if (cpu->restart_control)
            domain_restart_control();
    }
    if (next != cpu->current)
        switch_to(cpu, next);
    if (next->waiting)
        return_events(next);
    if (next->attention) {
        next->attention = false;
        if (next->answered)
            vcpu_apply_answer(next);
        if ((next->event || next->domain->role == ROLE_VM) && vcpu_runnable(next))
            inject_prepare(next);
    }
    return next;
}

void sched_resume(struct vcpu *vcpu) {
    struct cpu *cpu = this_cpu();
    while (unlikely(cpu->attention | vcpu->attention))
        vcpu = attend(cpu, vcpu);
    if (vmx_has_timer())
        vmx_timer_write(cpu->deadline);
    vmx_enter(vcpu);
}

void sched_start(void) {
    struct cpu *cpu = this_cpu();
    sched_resume(attend(cpu, NULL));
}
