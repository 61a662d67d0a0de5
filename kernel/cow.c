/* Cloning trees of memory objects, making them exclusive for a write, and comparing them. A copied
   table is no new charge: whoever shares tables has paid for as many as it would have alone. */
#include "cow.h"

#include "domain.h"
#include "frame.h"

static struct frame *record(u64 entry) { return frame_of(hpa(entry & EPT_FRAME)); }

/* Both tables lead to the same things then, which neither may write to. */
static void table_copy(u64 *to, u64 *from, unsigned level) {
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        if (!from[i]) continue;
        to[i] = from[i] &= ~EPT_WRITE;
        if (ept_is_leaf(to[i], level))
            frame_share(hpa(to[i] & EPT_FRAME), ept_order(level));
        else
            record(to[i])->shares++;
    }
}

void cow_clone(struct ept *to, const struct ept *from) {
    table_copy(to->root, from->root, from->levels - 1);
    to->mapped = from->mapped;
    to->tables = from->tables;
}

/* An entry that leads to a table of this level may be written through. */
static bool table_own(u64 *entry, unsigned level, bool *moved) {
    struct frame *shared = record(*entry);
    if (shared->shares > 1) {
        u64 *copy = kpage_alloc(0);
        if (!copy) return false;
        kernel_pages_reserved--;
        table_copy(copy, ept_table(*entry), level);
        shared->shares--;
        atomic_store(entry, hpa_of(copy).v | EPT_TABLE);
        *moved = true;
    }
    *entry |= EPT_WRITE;
    return true;
}

u64 *cow_own(struct ept *map, u64 page, unsigned *level, bool *moved) {
    u64 *table = map->root;
    for (unsigned l = map->levels - 1;; l--) {
        u64 *entry = &table[ept_index(page << PAGE_SHIFT, l)];
        if (!*entry || ept_is_leaf(*entry, l)) {
            *level = l;
            return entry;
        }
        if (!(*entry & EPT_WRITE) && !table_own(entry, l - 1, moved)) return NULL;
        table = ept_table(*entry);
    }
}

static void table_drop(u64 *table, unsigned level) {
    struct frame *f = frame_of(hpa_of(table));
    if (--f->shares) return;
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        if (!table[i]) continue;
        if (ept_is_leaf(table[i], level))
            frame_drop(hpa(table[i] & EPT_FRAME), ept_order(level));
        else
            table_drop(ept_table(table[i]), level - 1);
    }
    kpage_free(table, 0);
    kernel_pages_reserved++;
}

void cow_drop(struct ept *map) {
    table_drop(map->root, map->levels - 1);
    map->root = NULL;
}

/* --- differences --- */

#define DIFF_STEPS 8192 /* of one call: entries looked at, with the ways there */

/* What an entry of this level leads to at an address, as an entry of the next one. */
static u64 below(u64 entry, u64 address, unsigned level) {
    if (!entry) return 0;
    unsigned index = ept_index(address, level - 1);
    return ept_is_leaf(entry, level) ? entry + ((u64)index << (PAGE_SHIFT + ept_order(level - 1)))
                                     : ept_table(entry)[index];
}

static bool is_table(u64 entry, unsigned level) { return entry && !ept_is_leaf(entry, level); }

/* Whether they differ at a page, and the order of what has been decided with it. */
static bool differ(const struct ept *a, const struct ept *b, u64 page, unsigned *order) {
    u64 address = page << PAGE_SHIFT;
    unsigned level = a->levels - 1;
    u64 x = a->root[ept_index(address, level)], y = b ? b->root[ept_index(address, level)] : 0;
    while (((x ^ y) & EPT_FRAME) && (is_table(x, level) || is_table(y, level))) {
        x = below(x, address, level);
        y = below(y, address, level--);
    }
    *order = ept_order(level);
    return (x ^ y) & EPT_FRAME;
}

unsigned cow_diff(const struct ept *a, const struct ept *b, u64 *page, u64 pages,
                  struct page_range *ranges, unsigned most) {
    unsigned count = 0, order;
    for (unsigned step = 0; step < DIFF_STEPS && *page < pages; step++) {
        bool different = differ(a, b, *page, &order);
        u64 next = (*page | ((1ull << order) - 1)) + 1;
        if (next > pages) next = pages;
        if (different && count && ranges[count - 1].first + ranges[count - 1].pages == *page) {
            ranges[count - 1].pages += next - *page;
        } else if (different) {
            if (count == most) break;
            ranges[count++] = (struct page_range){*page, next - *page};
        }
        *page = next;
    }
    return count;
}
