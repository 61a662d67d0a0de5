/* A CPU's list of timeouts, and its deadline. */
#include "timeout.h"

#include "log.h"
#include "sched_inline.h"
#include "smp.h"

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
