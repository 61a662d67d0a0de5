/* Capabilities: how a domain names an object, with rights, and how they are taken back. */
#pragma once

#include "abi.h"

struct domain;
struct cap;

/* The head of every object that a capability can name. */
struct object {
    u32 type;           /* OBJECT_... */
    u32 references;     /* capabilities to it; with the last one it goes */
    u64 id;             /* never used again */
    struct cap *origin; /* the first capability, from which all others derive */
};

struct cap {
    struct object *object; /* NULL: an empty slot */
    struct domain *holder;
    struct cap *parent, *child;  /* derivation: granting makes a child */
    struct cap *next, *previous; /* siblings */
    u32 rights;
    u32 end; /* channel: which end */
};

/* What a slot holds, if it is of this type (OBJECT_NONE: any) and has these rights; else a status.
 */
MUST_USE u32 cap_get(struct domain *domain, u64 slot, u32 type, u32 rights, struct cap **out);
/* An empty slot; STATUS_IN_USE or STATUS_BAD_CAP otherwise. */
MUST_USE u32 cap_empty(struct domain *domain, u64 slot, struct cap **out);

void object_init(struct object *object, u32 type);
/* Fills an empty slot with the first capability to an object. */
void cap_create(struct cap *slot, struct domain *holder, struct object *object, u32 rights,
                u32 end);
/* Fills an empty slot with a copy of `from` with fewer or the same rights, derived from it. */
void cap_derive(struct cap *slot, struct domain *holder, struct cap *from, u32 rights);
/* Deletes everything derived from it, at once. */
void cap_revoke(struct cap *cap);
/* Revokes and deletes it; the object goes with its last capability. */
void cap_delete(struct cap *cap);
/* Deletes every capability to the object, which destroys it. */
void object_delete(struct object *object);
