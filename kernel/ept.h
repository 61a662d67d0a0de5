/* Extended page tables: Intel SDM volume 3, "The Extended Page Table Mechanism (EPT)". */
#pragma once

#include "types.h"

/* Tables come from and go back to an allocator that the owner gives. */
struct ept {
    u64 *root;
    void *(*table_alloc)(void *owner); /* a zeroed page, or NULL */
    void (*table_free)(void *owner, void *table);
    void *owner;
    u64 mapped; /* 4 KiB pages */
};

#define EPT_ADDRESS_LIMIT (1ull << 47)
#define EPT_FRAME         0x000ffffffffff000ull /* in an entry: the frame */

/* What the CPU offers, set once by the VT-x backend before the first mapping. */
extern bool ept_has_1g;

MUST_USE bool ept_init(struct ept *ept); /* false: no page for the root */
/* Maps 2^order frames, with access bits RIGHT_READ|WRITE|EXECUTE, in pages as large as alignment
   allows. The range must be free. False: out of tables; what was mapped of it is unmapped again. */
MUST_USE bool ept_map(struct ept *ept, struct gpa start, struct hpa frames, unsigned order,
                      u32 access);
/* Takes away whole mappings. The caller flushes (INVEPT) before it lets go of frames, and calls
   ept_free_tables after that. */
void ept_unmap(struct ept *ept, struct gpa start, u64 pages);
/* Whether nothing is mapped in a range. */
MUST_USE bool ept_is_free(const struct ept *ept, struct gpa start, u64 pages);
/* Gives back tables that map nothing. */
void ept_free_tables(struct ept *ept);
void ept_destroy(struct ept *ept);
/* The leaf entry for an address and the order of its page; 0: not mapped. */
u64 ept_lookup(const struct ept *ept, struct gpa address, unsigned *order);
u64 ept_pointer(const struct ept *ept, bool accessed_dirty); /* EPTP */
