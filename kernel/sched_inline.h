/* What is on the way of every switch: inline. */
#pragma once

#include "cpu.h"
#include "guest.h"
#include "time.h"
#include "vcpu.h"

static inline void deadline_update(struct cpu *cpu) {
    u64 first = cpu->timeouts ? cpu->timeouts->deadline : ~0ull;
    cpu->deadline = first < cpu->slice_end ? first : cpu->slice_end;
    if (unlikely(!virt_timer)) host_timer_set(cpu->deadline);
}

/* Runs this CPU's timeouts that are due at `now`. */
static inline void timeouts_run(struct cpu *cpu, u64 now) {
    while (cpu->timeouts && cpu->timeouts->deadline <= now) {
        struct timeout *timeout = cpu->timeouts;
        cpu->timeouts = timeout->next;
        atomic_store(&timeout->armed, false); /* from here on another CPU may arm it */
        timeout->fire(timeout);
    }
}

static inline bool queue_before(const struct share *a, const struct share *b) {
    return likely(a->guaranteed == b->guaranteed) ? a->key < b->key : a->guaranteed;
}

/* Who was interrupted goes on before those that are only a little behind it. */
static inline void queue_insert(struct cpu *cpu, struct vcpu *vcpu) {
    struct share *share = &vcpu->share;
    if (unlikely(share->budget))
        share->guaranteed = share->class == CLASS_RESERVED && share->left > 0;
    u64 key = share->vtime;
    if (vcpu->slice_left && key > spans.interrupt) key -= spans.interrupt;
    share->key = share->guaranteed ? share->period_end : key;
    struct vcpu **link = &cpu->queue;
    while (*link && !queue_before(share, &(*link)->share))
        link = &(*link)->queue_next;
    vcpu->queue_next = *link;
    *link = vcpu;
    vcpu->queued = true;
}

static inline void queue_remove(struct cpu *cpu, struct vcpu *vcpu) {
    struct vcpu **link = &cpu->queue;
    while (*link != vcpu)
        link = &(*link)->queue_next;
    *link = vcpu->queue_next;
    vcpu->queued = false;
}

/* The least weighed time of those in the queue that are not guaranteed; ~0: none. */
static inline u64 queue_least(const struct cpu *cpu) {
    const struct vcpu *vcpu = cpu->queue;
    while (vcpu && vcpu->share.guaranteed)
        vcpu = vcpu->queue_next;
    return vcpu ? vcpu->share.key : ~0ull;
}
