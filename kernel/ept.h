/* Second-level page tables: Intel SDM volume 3, "The Extended Page Table Mechanism (EPT)"; AMD APM
   volume 2, "Nested Paging". */
#pragma once

#include "paging.h" /* pool_pointer */
#include "types.h"

/* Tables come from and go back to an allocator that the owner gives. */
struct ept {
    u64 *root;
    void *(*table_alloc)(void *owner); /* a zeroed page, or NULL */
    void (*table_free)(void *owner, void *table);
    void *owner;
    u64 mapped;      /* 4 KiB pages */
    u64 cpus;        /* that may hold translations, by id */
    unsigned levels; /* of tables; fewer than EPT_LEVELS only where no CPU walks it */
    u32 tables;      /* the root, too */
};

#define EPT_LEVELS        4
#define EPT_ADDRESS_LIMIT (1ull << 47)
#define EPT_FRAME         0x000ffffffffff000ull /* in an entry: the frame */
#define EPT_WRITE         2ull                  /* for both vendors, as RIGHT_WRITE */
#define EPT_TABLE         7ull                  /* leads to a table, with all access */
#define EPT_LARGE         (1ull << 7)
#define EPT_LINK          (1ull << 52) /* a table of another's: not ours to free or to change */
#define EPT_ENTRIES       512

/* An entry of level n maps 2^order frames, or leads to a table of level n - 1. */
static inline unsigned ept_order(unsigned level) { return 9 * level; }
static inline unsigned ept_index(u64 address, unsigned level) {
    return address >> (PAGE_SHIFT + ept_order(level)) & (EPT_ENTRIES - 1);
}
static inline bool ept_is_leaf(u64 entry, unsigned level) {
    return level == 0 || (entry & (EPT_LARGE | EPT_LINK));
}
static inline u64 *ept_table(u64 entry) { return pool_pointer(hpa(entry & EPT_FRAME)); }

/* What the CPU offers, set once by the backend before the first mapping. */
extern bool ept_has_1g;

MUST_USE bool ept_init(struct ept *ept); /* false: no page for the root */
/* Maps consecutive frames, with access bits RIGHT_READ|WRITE|EXECUTE, in pages as large as
   alignment allows. False: out of tables; the caller unmaps what was mapped of it. */
MUST_USE bool ept_map(struct ept *ept, struct gpa start, struct hpa frames, u64 pages, u32 access);
/* Maps what `from` maps from page `first` on, for writing only where the way there in `from` allows
   it. Where alignment allows, tables of `from` are linked: what changes in them later changes in
   both. False: as ept_map. */
MUST_USE bool ept_share(struct ept *ept, struct gpa start, const struct ept *from, u64 first,
                        u64 pages, u32 access);
/* After changes in `from`: what is mapped of it becomes as it is there now, and what has no access
   there goes. The caller flushes (guest_flush) before it lets go of frames or tables. */
void ept_follow(struct ept *ept, struct gpa start, const struct ept *from, u64 first, u64 pages,
                u32 access);
/* Takes away whole mappings; the caller flushes as above. */
void ept_unmap(struct ept *ept, struct gpa start, u64 pages);
/* Takes access away; the entries stay, for the caller to look at and to empty. */
void ept_hide(struct ept *ept, struct gpa start, u64 pages, u64 access);
/* Replaces the large page at an address by a table of the next smaller ones; false: no table. */
MUST_USE bool ept_split(struct ept *ept, struct gpa address);
/* The entry of the page at an address, or an empty one; and the order of what it maps or could. */
MUST_USE u64 *ept_entry(const struct ept *ept, struct gpa address, unsigned *order);
/* Whether nothing is mapped in a range. */
MUST_USE bool ept_is_free(const struct ept *ept, struct gpa start, u64 pages);
/* Takes away whole mappings for good: flushes, and gives back tables that map nothing. */
void ept_remove(struct ept *ept, struct gpa start, u64 pages);
void ept_destroy(struct ept *ept);
/* The leaf entry for an address and the order of its page; 0: not mapped. Without the kernel lock
   it is for the domain's own exits: a table goes only when each CPU has passed between two guests.
 */
u64 ept_lookup(const struct ept *ept, struct gpa address, unsigned *order);
/* Where an address is in memory; false: not mapped with this right. What is shared is not mapped
   for writing, until the domain itself writes to it. */
MUST_USE bool ept_translate(const struct ept *ept, struct gpa address, u32 right, struct hpa *to);
