/* Channels, timers and host interrupts. */
#include "event.h"

#include "apic.h"
#include "sched.h"
#include "trap.h"
#include "x86.h"

/* --- channels --- */

struct channel {
    struct object object;
    struct domain *account;
    struct {
        struct domain *domain; /* NULL: nobody listens at this end */
        u8 event;
    } ends[2];
};
_Static_assert(sizeof(struct channel) <= CELL_SIZE, "a channel is a cell");

u32 channel_create(struct domain *domain, struct cap *a, struct cap *b) {
    struct channel *channel = cell_alloc(domain);
    if (!channel) return STATUS_NO_QUOTA;
    object_init(&channel->object, OBJECT_CHANNEL);
    channel->account = domain;
    cap_create(a, domain, &channel->object, RIGHT_ALL, 0);
    /* The second end derives from the first, so that the channel goes as a whole. */
    cap_derive(b, domain, a, RIGHT_ALL);
    b->end = 1;
    return STATUS_OK;
}

void channel_bind(struct cap *end, struct domain *domain, unsigned event) {
    struct channel *channel = (struct channel *)end->object;
    channel->ends[end->end].domain = domain;
    channel->ends[end->end].event = (u8)event;
}

unsigned channel_bound(const struct cap *end) {
    const struct channel *channel = (const struct channel *)end->object;
    return channel->ends[end->end].domain == end->holder ? channel->ends[end->end].event : 0;
}

void channel_signal(struct cap *end) {
    struct channel *channel = (struct channel *)end->object;
    unsigned peer = !end->end;
    if (channel->ends[peer].domain)
        domain_signal(channel->ends[peer].domain, 1ull << channel->ends[peer].event);
}

void channel_unbind(struct object *object, struct cap *cap) {
    struct channel *channel = (struct channel *)object;
    if (channel->ends[cap->end].domain == cap->holder) channel->ends[cap->end].domain = NULL;
}

void channel_destroy(struct object *object) {
    struct channel *channel = (struct channel *)object;
    cell_free(channel->account, channel);
}

/* --- timers --- */

struct timer {
    struct object object;
    struct domain *domain;
    struct timeout timeout;
    u64 deadline; /* in its domain's TSC; 0: off */
    u8 event;
};
_Static_assert(sizeof(struct timer) <= CELL_SIZE, "a timer is a cell");

static void timer_fired(struct timeout *timeout) {
    struct timer *timer = container_of(timeout, struct timer, timeout);
    timer->deadline = 0;
    domain_signal(timer->domain, 1ull << timer->event);
}

u32 timer_create(struct domain *domain, struct cap *slot, unsigned event) {
    struct timer *timer = cell_alloc(domain);
    if (!timer) return STATUS_NO_QUOTA;
    object_init(&timer->object, OBJECT_TIMER);
    timer->domain = domain;
    timer->event = (u8)event;
    timer->timeout.fire = timer_fired;
    cap_create(slot, domain, &timer->object, RIGHT_ALL, 0);
    return STATUS_OK;
}

/* In host time, as far as that goes. */
static void arm(struct timer *timer) {
    u64 offset = timer->domain->tsc_offset, deadline = timer->deadline, now = rdtsc();
    if (!deadline || timer->domain->state == DOMAIN_PAUSED) return;
    if (offset) {
        u64 left = deadline > now + offset ? deadline - (now + offset) : 0;
        deadline = left < ~now ? now + left : ~0ull;
    }
    timeout_set(&timer->timeout, deadline);
}

void timer_set(struct object *object, u64 tsc_deadline) {
    struct timer *timer = (struct timer *)object;
    timeout_end(&timer->timeout);
    timer->deadline = tsc_deadline;
    arm(timer);
}

void timer_get(const struct object *object, u64 *deadline, unsigned *event) {
    const struct timer *timer = (const struct timer *)object;
    *deadline = timer->deadline;
    *event = timer->event;
}

/* Its timers, of which it may have copies too. */
static void each_timer(struct domain *domain, bool start) {
    for (u32 slot = 0; slot < domain->cap_slots; slot++) {
        struct object *object = domain->caps[slot].object;
        if (!object || object->type != OBJECT_TIMER || object->origin != &domain->caps[slot])
            continue;
        if (start)
            arm((struct timer *)object);
        else
            timeout_end(&((struct timer *)object)->timeout);
    }
}
void timers_stop(struct domain *domain) { each_timer(domain, false); }
void timers_start(struct domain *domain) { each_timer(domain, true); }

void timer_destroy(struct object *object) {
    struct timer *timer = (struct timer *)object;
    timeout_end(&timer->timeout);
    cell_free(timer->domain, timer);
}

/* --- host interrupts --- */

#define ISA_IRQS 16

struct irq {
    struct object object;
    struct domain *domain;
    u8 isa_irq;
    u8 event;
};
_Static_assert(sizeof(struct irq) <= CELL_SIZE, "an interrupt is a cell");

static struct irq *irqs[ISA_IRQS];

static void irq_arrived(u8 vector) {
    struct irq *irq = irqs[vector - VECTOR_IRQ_BASE];
    if (!irq) return;
    domain_signal(irq->domain, 1ull << irq->event);
}

u32 irq_create(struct domain *domain, struct cap *slot, u8 isa_irq, unsigned event) {
    if (isa_irq >= ISA_IRQS) return STATUS_BAD_ARGUMENT;
    if (irqs[isa_irq]) return STATUS_IN_USE;
    struct irq *irq = cell_alloc(domain);
    if (!irq) return STATUS_NO_QUOTA;
    u8 vector = (u8)(VECTOR_IRQ_BASE + isa_irq);
    if (!irq_route(isa_irq, vector)) {
        cell_free(domain, irq);
        return STATUS_BAD_ARGUMENT;
    }
    object_init(&irq->object, OBJECT_IRQ);
    irq->domain = domain;
    irq->isa_irq = isa_irq;
    irq->event = (u8)event;
    irqs[isa_irq] = irq;
    irq_handler(vector, irq_arrived);
    cap_create(slot, domain, &irq->object, RIGHT_ALL, 0);
    return STATUS_OK;
}

void irq_ack(struct object *object) { irq_unmask(((struct irq *)object)->isa_irq); }

void irq_destroy(struct object *object) {
    struct irq *irq = (struct irq *)object;
    irq_mask(irq->isa_irq);
    irqs[irq->isa_irq] = NULL;
    sched_settle(); /* nobody delivers it any more */
    cell_free(irq->domain, irq);
}
