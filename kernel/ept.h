/* Second-level page tables: Intel SDM volume 3, "The Extended Page Table Mechanism (EPT)"; AMD APM
   volume 2, "Nested Paging". */
#pragma once

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
};

#define EPT_LEVELS        4
#define EPT_ADDRESS_LIMIT (1ull << 47)
#define EPT_FRAME         0x000ffffffffff000ull /* in an entry: the frame */

/* What the CPU offers, set once by the backend before the first mapping. */
extern bool ept_has_1g;

MUST_USE bool ept_init(struct ept *ept); /* false: no page for the root */
/* Maps consecutive frames, with access bits RIGHT_READ|WRITE|EXECUTE, in pages as large as
   alignment allows. False: out of tables; the caller unmaps what was mapped of it. */
MUST_USE bool ept_map(struct ept *ept, struct gpa start, struct hpa frames, u64 pages, u32 access);
/* Maps what `from` maps from page `first` on. Where alignment allows, tables of `from` are linked:
   what changes in them later changes in both. False: as ept_map. */
MUST_USE bool ept_share(struct ept *ept, struct gpa start, const struct ept *from, u64 first,
                        u64 pages, u32 access);
/* Takes away whole mappings. The caller flushes (guest_flush) before it lets go of frames.
   `links`: also where another's tables are linked. */
void ept_unmap(struct ept *ept, struct gpa start, u64 pages, bool links);
/* Takes all access away; the entries stay, for the caller to look at and to empty. */
void ept_hide(struct ept *ept, struct gpa start, u64 pages);
/* Replaces the large page at an address by a table of the next smaller ones; false: no table. */
MUST_USE bool ept_split(struct ept *ept, struct gpa address);
/* After a split in `from`: links the new table in the place of the large page that it shared. */
void ept_follow(struct ept *ept, struct gpa address, const struct ept *from, u64 page);
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
/* Where an address is in memory; false: not mapped with these RIGHT_ bits. */
MUST_USE bool ept_translate(const struct ept *ept, struct gpa address, u32 rights, struct hpa *to);
