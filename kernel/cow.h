/* Trees of memory objects: tables and frames that several share until one of them writes. */
#pragma once

#include "ept.h"

/* Frames and tables count the entries that lead to them (struct frame). An entry with the write bit
   leads to something to which no other does; one without may do so, too, and then gets the bit back
   with the next write. What is below an entry without it cannot be written to, whatever it says. */

/* Fills an empty root: both trees share all, and neither may write to any of it. */
void cow_clone(struct ept *to, const struct ept *from);
/* The leaf for a page, or an empty entry, and its level, behind tables that no other tree shares.
   `moved`: some were copied, so that domains have to follow. NULL: no page for a copy. */
MUST_USE u64 *cow_own(struct ept *map, u64 page, unsigned *level, bool *moved);
/* Drops all that a tree leads to, and its root. */
void cow_drop(struct ept *map);

/* Where two trees of as many levels lead to different frames (`b` NULL: where `a` has any), from a
   page on; does a bounded part of it. Returns how many ranges; `*page`: where to go on. */
struct page_range {
    u64 first, pages;
};
unsigned cow_diff(const struct ept *a, const struct ept *b, u64 *page, u64 pages,
                  struct page_range *ranges, unsigned most);
