/* What sets event bits of a component: channels between two domains, timers, and host interrupts.
 */
#pragma once

#include "capability.h"
#include "domain.h"

static inline bool event_valid(u64 event) { return event >= EVENT_FREE && event < 64; }

/* The two ends get one capability each. */
MUST_USE u32 channel_create(struct domain *domain, struct cap *a, struct cap *b);
void channel_bind(struct cap *end, struct domain *domain, unsigned event);
unsigned channel_bound(const struct cap *end); /* the event that its holder has bound, or 0 */
void channel_signal(struct cap *end);
void channel_unbind(struct object *channel, struct cap *cap);
void channel_destroy(struct object *channel);

MUST_USE u32 timer_create(struct domain *domain, struct cap *slot, unsigned event);
void timer_set(struct object *timer, u64 tsc_deadline); /* in its domain's TSC; 0: off */
void timer_get(const struct object *timer, u64 *tsc_deadline, unsigned *event);
/* A domain's timers stand still while it is paused. */
void timers_stop(struct domain *domain);
void timers_start(struct domain *domain);
void timer_destroy(struct object *timer);

MUST_USE u32 irq_create(struct domain *domain, struct cap *slot, u8 isa_irq, unsigned event);
void irq_ack(struct object *irq);
void irq_destroy(struct object *irq);
