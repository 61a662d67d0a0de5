/* Memory objects: frames that can be mapped into domains. */
#pragma once

#include "capability.h"
#include "domain.h"

struct extent_page;

#define INLINE_EXTENTS 6
struct memory {
    struct object object;
    struct domain *account; /* its cells and extent pages are charged here; NULL: a boot module */
    u64 pages;
    u64 clean; /* pages known to be zero; the object is usable when it is all of them */
    struct mapping *mappings;
    struct extent_page *more;
    u64 extents[INLINE_EXTENTS]; /* frame number << 8 | order; 0: none */
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

/* Frames for a new object, largest blocks first, not zeroed yet: memory_clean does that. */
MUST_USE u32 memory_create(struct domain *account, u64 pages, struct memory **out);
/* Zeroes a little more; true: all is clean. */
MUST_USE bool memory_clean(struct memory *memory);
/* An object over a boot module's frames. */
void memory_from_module(struct memory *memory, struct hpa start, u64 pages);
void memory_destroy(struct memory *memory);

MUST_USE u32 memory_map(struct domain *domain, struct memory *memory, struct cap *through,
                        struct gpa start, u64 first, u64 pages, u32 access);
MUST_USE u32 memory_unmap(struct domain *domain, struct gpa start, u64 pages);
void memory_unmap_through(struct memory *memory, struct cap *cap);
void memory_unmap_domain(struct domain *domain);
