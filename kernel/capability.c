/* Capability tables and the derivation tree. */
#include "capability.h"

#include "event.h"
#include "domain.h"
#include "memory.h"
#include "vcpu.h"

u32 cap_get(struct domain *domain, u64 slot, u32 type, u32 rights, struct cap **out) {
    if (slot == CAP_NULL || slot >= domain->cap_slots) return STATUS_BAD_CAP;
    struct cap *cap = &domain->caps[slot];
    if (!cap->object || (type != OBJECT_NONE && cap->object->type != type)) return STATUS_BAD_CAP;
    if ((cap->rights & rights) != rights) return STATUS_NO_RIGHT;
    *out = cap;
    return STATUS_OK;
}

u32 cap_empty(struct domain *domain, u64 slot, struct cap **out) {
    if (slot == CAP_NULL || slot >= domain->cap_slots) return STATUS_BAD_CAP;
    if (domain->caps[slot].object) return STATUS_IN_USE;
    *out = &domain->caps[slot];
    return STATUS_OK;
}

void object_init(struct object *object, u32 type) {
    static u64 last_id;
    *object = (struct object){.type = type, .id = ++last_id};
}

static void fill(struct cap *slot, struct domain *holder, struct object *object, u32 rights) {
    *slot = (struct cap){.object = object, .holder = holder, .rights = rights};
    holder->caps_used++;
    object->references++;
}

void cap_create(struct cap *slot, struct domain *holder, struct object *object, u32 rights,
                u32 end) {
    fill(slot, holder, object, rights);
    slot->end = end;
    object->origin = slot;
}

void cap_derive(struct cap *slot, struct domain *holder, struct cap *from, u32 rights) {
    fill(slot, holder, from->object, from->rights & rights);
    slot->end = from->end;
    slot->parent = from;
    slot->next = from->child;
    if (from->child) from->child->previous = slot;
    from->child = slot;
}

static void object_destroy(struct object *object) {
    switch (object->type) {
    case OBJECT_DOMAIN: domain_destroy(domain_of(object)); break;
    case OBJECT_VCPU: vcpu_destroy(vcpu_of(object)); break;
    case OBJECT_MEMORY: memory_destroy(memory_of(object)); break;
    case OBJECT_CHANNEL: channel_destroy(object); break;
    case OBJECT_TIMER: timer_destroy(object); break;
    case OBJECT_IRQ: irq_destroy(object); break;
    }
}

/* Deletes a capability from which nothing derives. */
static void delete_leaf(struct cap *cap) {
    struct object *object = cap->object;
    if (object->type == OBJECT_MEMORY) memory_unmap_through(memory_of(object), cap);
    if (object->type == OBJECT_CHANNEL) channel_unbind(object, cap);
    if (cap->parent && cap->parent->child == cap) cap->parent->child = cap->next;
    if (cap->previous) cap->previous->next = cap->next;
    if (cap->next) cap->next->previous = cap->previous;
    cap->holder->caps_used--;
    *cap = (struct cap){0};
    if (--object->references == 0) object_destroy(object);
}

/* Not recursive: a leaf at a time, from the top each time, since destroying an object may delete
   other capabilities of the tree. `cap` itself stays: no object owns the capability it comes from.
 */
void cap_revoke(struct cap *cap) {
    while (cap->child) {
        struct cap *leaf = cap->child;
        while (leaf->child)
            leaf = leaf->child;
        delete_leaf(leaf);
    }
}

void cap_delete(struct cap *cap) {
    cap_revoke(cap);
    delete_leaf(cap);
}

void object_delete(struct object *object) { cap_delete(object->origin); }
