/* All RAM as 4 KiB frames: a table of 12 bytes a frame, a buddy allocator for domains' RAM, and one
   for the kernel's own pool. */
#pragma once

#include "boot_info.h"
#include "paging.h" /* hpa_of, pool_pointer */
#include "types.h"

#define FRAME_MAX_ORDER 18 /* 1 GiB */
#define FRAME_2M_ORDER  9
#define POOL_MAX_ORDER  9 /* the pool grows by 2 MiB */

struct acpi_info;

enum frame_kind {
    FRAME_NONE, /* not the first frame of a block; or no RAM at all */
    FRAME_FREE,
    FRAME_CLEAN,  /* free, and zero */
    FRAME_RAM,    /* given out by frame_alloc */
    FRAME_MODULE, /* holds a boot module; never freed */
    FRAME_POOL_FREE,
    FRAME_KERNEL, /* given out by kpage_alloc, or the kernel's own tables */
};

#define OWNER_KERNEL 0u /* owners are domain ids otherwise */

/* Only the first frame of a block says anything. */
struct frame {
    union {
        struct {
            u32 owner;
            u32 shares; /* how many lead to it: entries of memory objects' tables; 1 at first */
        };
        struct {
            u32 next, previous; /* free blocks of one order, by frame number */
        };
    };
    u8 kind;
    u8 order;
    u8 node, reserved; /* node: of RAM that was free once */
};
_Static_assert(sizeof(struct frame) == 12, "the frame table is compact");

void frame_init(const struct boot_info *info, const struct acpi_info *acpi);

/* A block of 2^order frames, naturally aligned, of this NUMA node rather than of others; false:
   there is none, or one of 1 GiB elsewhere only. `clean`: one that is zero is preferred, and
   whether it is; NULL: contents do not matter. */
MUST_USE bool frame_alloc(unsigned order, u32 owner, unsigned node, struct hpa *out, bool *clean);
/* Frees a whole block. */
void frame_free(struct hpa block, unsigned order);
/* Makes many blocks of one, each with its shares. */
void frame_split(struct hpa block, unsigned order, unsigned into);
/* Of 2^order frames, in blocks of that order or smaller ones: one more leads to each; one less, and
   those to which none is left go; whether more than one leads to any. */
void frame_share(struct hpa start, unsigned order);
void frame_drop(struct hpa start, unsigned order);
bool frame_is_shared(struct hpa start, unsigned order);
/* Zeroes a free frame; false: all that is free is clean. */
bool frame_clean(void);

/* Zeroes a block that the kernel does not map. */
void frame_scrub(struct hpa block, unsigned order);
/* Copies one frame. */
void frame_copy(struct hpa to, struct hpa from);

/* The record of the block that holds this frame; NULL: no RAM, or reserved. */
struct frame *frame_of(struct hpa frame);
enum frame_kind frame_kind(struct hpa frame);

/* In frames of 4 KiB. */
u64 frame_free_count(void); /* for anything: domain RAM and what is free in the pool */
/* Whether there are so many for domain RAM, beside these for the pool. */
bool frame_has(u64 pages, u64 pool_pages);
unsigned frame_nodes(void);
u64 frame_node_free(unsigned node); /* for domain RAM */
u64 frame_clean_count(void);        /* of these, known to be zero */
u64 frame_total_count(void);        /* all RAM above 1 MiB */
u64 frame_kernel_count(void);       /* the kernel's image, tables and objects */

/* 2^order zeroed frames of the kernel pool; NULL: there are none. */
MUST_USE void *kpage_alloc(unsigned order);
void kpage_free(void *pages, unsigned order);
