/* Memory objects: frames that can be mapped into domains. */
#pragma once

#include "capability.h"
#include "domain.h"

struct memory {
    struct object object;
    struct domain *account; /* its cell and tables are charged here; NULL: a boot module */
    u64 pages;
    u64 clean; /* the first pages, known to be zero; the object is usable when it is all of them */
    struct mapping *mappings;
    struct ept map; /* page of the object to frame; a page may lose its frame and get another */
    u64 promised;   /* frames that are kept for it */
    union {
        struct hpa base; /* of a boot module, which has no map */
        u32 node;        /* of others: whose frames they have, as far as there are any */
    };
};
_Static_assert(sizeof(struct memory) <= CELL_SIZE, "a memory object is a cell");

/* Where a part of a memory object is in a domain. */
struct mapping {
    struct mapping *next_in_domain;
    struct mapping *next_in_memory;
    struct domain *domain;
    struct memory *memory;
    struct cap *through; /* deleting it unmaps */
    struct gpa start;
    u64 first, pages;
    u32 access;
};
_Static_assert(sizeof(struct mapping) <= CELL_SIZE, "a mapping is a cell");

static inline struct memory *memory_of(struct object *object) { return (struct memory *)object; }

/* A new object without frames: memory_fill gives it those. */
MUST_USE u32 memory_create(struct domain *account, u64 pages, u32 node, struct memory **out);
/* Takes or zeroes some frames, large blocks first; until `clean` is `pages`. */
MUST_USE u32 memory_fill(struct memory *memory);
/* An object over a boot module's frames. */
void memory_from_module(struct memory *memory, struct hpa start, u64 pages);
void memory_destroy(struct memory *memory);
/* A new object with the same frames, of which each is copied when one of both writes to it. */
MUST_USE u32 memory_clone(struct domain *account, struct memory *from, u32 node,
                          struct memory **out);
/* Counts frames by their node, from a page on; the page where to go on, at last its number of them.
 */
u64 memory_nodes(const struct memory *memory, u64 page, u64 counts[MAX_NODES]);
/* Keeps so many frames for what the object shares or lacks, instead of what was promised before. */
MUST_USE u32 memory_promise(struct memory *memory, u64 pages);

/* Whether nothing is in a range of a domain: no mapping, whose pages may have no frames just now,
   and no page of the kernel's. */
MUST_USE bool memory_is_free(const struct domain *domain, struct gpa start, u64 pages);
MUST_USE u32 memory_map(struct domain *domain, struct memory *memory, struct cap *through,
                        struct gpa start, u64 first, u64 pages, u32 access);
MUST_USE u32 memory_unmap(struct domain *domain, struct gpa start, u64 pages);
void memory_unmap_through(struct memory *memory, struct cap *cap);
void memory_unmap_below(struct domain *domain, struct gpa end); /* what starts below */

/* Gives the frames of pages back, wherever they are mapped. */
MUST_USE u32 memory_release(struct memory *memory, u64 first, u64 pages);
/* What is mapped at an address, with or without a frame; NULL: nothing. */
static inline struct mapping *mapping_at(const struct domain *domain, struct gpa address) {
    struct mapping *m = domain->mappings;
    while (m && address.v - m->start.v >= m->pages << PAGE_SHIFT)
        m = m->next_in_domain;
    return m;
}
/* The domain's tables do not allow this access. STATUS_OK: they do now, and a page that is written
   to has a frame of its own;
   STATUS_NO_MEMORY: there is none for it; else: the mapping does not allow it either. */
MUST_USE u32 memory_touch(struct mapping *m, struct gpa address, u32 access);
