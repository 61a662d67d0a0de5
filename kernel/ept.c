/* Second-level page tables, of domains and of memory objects: 4 KiB, 2 MiB or 1 GiB pages. */
#include "ept.h"

#include "abi.h"
#include "frame.h"
#include "guest.h"

bool ept_has_1g;

static void *table_make(struct ept *ept) {
    void *table = ept->table_alloc(ept->owner);
    if (table) ept->tables++;
    return table;
}

static void table_drop(struct ept *ept, void *table) {
    ept->table_free(ept->owner, table);
    ept->tables--;
}

bool ept_init(struct ept *ept) {
    ept->mapped = 0;
    ept->tables = 0;
    ept->root = table_make(ept);
    return ept->root;
}

/* The entry for an address at a level, its tables made on the way; NULL: out of tables. */
static u64 *entry_make(struct ept *ept, u64 address, unsigned level) {
    u64 *table = ept->root;
    for (unsigned l = ept->levels - 1; l > level; l--) {
        u64 *entry = &table[ept_index(address, l)];
        if (!*entry) {
            void *fresh = table_make(ept);
            if (!fresh) return NULL;
            *entry = hpa_of(fresh).v | EPT_TABLE;
        }
        table = ept_table(*entry);
    }
    return &table[ept_index(address, level)];
}

/* Whether a page of this level fits at two addresses. */
static bool fits(u64 a, u64 b, u64 left, unsigned level) {
    u64 size = (u64)PAGE_SIZE << ept_order(level);
    return ((a | b) & (size - 1)) == 0 && left >= size;
}

static bool entry_set(struct ept *ept, u64 address, unsigned level, u64 value) {
    u64 *entry = entry_make(ept, address, level);
    if (!entry) return false;
    if (!*entry) ept->mapped += 1ull << ept_order(level);
    *entry = value;
    return true;
}

bool ept_map(struct ept *ept, struct gpa start, struct hpa frames, u64 pages, u32 access) {
    u64 size = pages << PAGE_SHIFT;
    u64 flags = ept_access(access) | EPT_RAM;
    unsigned level;
    for (u64 done = 0; done < size; done += (u64)PAGE_SIZE << ept_order(level)) {
        u64 to = start.v + done, from = frames.v + done;
        level = ept_has_1g && ept->levels > 2 ? 2 : ept->levels > 1;
        while (level && !fits(to, from, size - done, level))
            level--;
        if (!entry_set(ept, to, level, from | flags | (level ? EPT_LARGE : 0))) return false;
    }
    return true;
}

/* The entry for an address: at this level, or a leaf or an empty one above it. What the way there
   may not be used for goes from `access`. */
static u64 entry_at(const struct ept *from, u64 address, unsigned *level, u32 *access) {
    const u64 *table = from->root;
    for (unsigned l = from->levels - 1;; l--) {
        u64 entry = table[ept_index(address, l)];
        if (!(entry & EPT_WRITE)) *access &= ~(u32)RIGHT_WRITE;
        if (!entry || ept_is_leaf(entry, l) || l == *level) {
            *level = l;
            return entry;
        }
        table = ept_table(entry);
    }
}

static u64 link_to(u64 entry, u32 access) {
    return (entry & EPT_FRAME) | ept_access(access) | EPT_LINK;
}

bool ept_share(struct ept *ept, struct gpa start, const struct ept *from, u64 first, u64 pages,
               u32 access) {
    u64 size = pages << PAGE_SHIFT, count, source = first << PAGE_SHIFT;
    for (u64 done = 0; done < size; done += count) {
        u64 to = start.v + done, at = source + done;
        unsigned level = from->levels - 1;
        u32 allowed = access;
        while (level && !fits(to, at, size - done, level))
            level--;
        u64 entry = entry_at(from, at, &level, &allowed);
        u64 page = (u64)PAGE_SIZE << ept_order(level), inside = at & (page - 1);
        count = page - inside < size - done ? page - inside : size - done;
        if (!entry) continue;
        bool ok = ept_is_leaf(entry, level)
                      ? ept_map(ept, gpa(to), hpa((entry & EPT_FRAME) + inside),
                                count >> PAGE_SHIFT, allowed)
                      : entry_set(ept, to, level, link_to(entry, allowed));
        if (!ok) return false;
    }
    return true;
}

/* The lowest entry on the path to an address: a leaf, a link, or an empty one; and its level. */
static u64 *entry_find(const struct ept *ept, u64 address, unsigned *level) {
    u64 *table = ept->root;
    for (unsigned l = ept->levels - 1;; l--) {
        u64 *entry = &table[ept_index(address, l)], value = atomic_load(entry);
        if (!value || ept_is_leaf(value, l)) {
            *level = l;
            return entry;
        }
        table = ept_table(value);
    }
}

static u64 next_at(u64 address, unsigned level) {
    u64 size = (u64)PAGE_SIZE << ept_order(level);
    return (address | (size - 1)) + 1;
}

void ept_follow(struct ept *ept, struct gpa start, const struct ept *from, u64 first, u64 pages,
                u32 access) {
    u64 end = start.v + (pages << PAGE_SHIFT), shift = (first << PAGE_SHIFT) - start.v;
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level)) {
        u64 *entry = entry_find(ept, at, &level);
        if (!*entry) continue;
        unsigned found = level;
        u32 allowed = access;
        u64 page = ~(((u64)PAGE_SIZE << ept_order(level)) - 1);
        u64 there = entry_at(from, at + shift, &found, &allowed);
        u64 inside = (at + shift) & page & (((u64)PAGE_SIZE << ept_order(found)) - 1);
        if (!(there & EPT_ACCESS)) {
            ept->mapped -= 1ull << ept_order(level);
            *entry = 0;
        } else if (ept_is_leaf(there, found)) {
            *entry = ((there & EPT_FRAME) + inside) | ept_access(allowed) | EPT_RAM |
                     (level ? EPT_LARGE : 0);
        } else {
            *entry = link_to(there, allowed);
        }
    }
}

void ept_unmap(struct ept *ept, struct gpa start, u64 pages) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level)) {
        u64 *entry = entry_find(ept, at, &level);
        if (!*entry) continue;
        ept->mapped -= 1ull << ept_order(level);
        *entry = 0;
    }
}

void ept_hide(struct ept *ept, struct gpa start, u64 pages, u64 access) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level))
        *entry_find(ept, at, &level) &= ~access;
}

bool ept_split(struct ept *ept, struct gpa address) {
    unsigned level;
    u64 *entry = entry_find(ept, address.v, &level), *table = table_make(ept);
    if (!table) return false;
    u64 page = *entry & (level > 1 ? ~0ull : ~EPT_LARGE);
    for (u64 i = 0; i < EPT_ENTRIES; i++)
        table[i] = page + (i << (PAGE_SHIFT + ept_order(level - 1)));
    *entry = hpa_of(table).v | EPT_TABLE;
    return true;
}

u64 *ept_entry(const struct ept *ept, struct gpa address, unsigned *order) {
    unsigned level;
    u64 *entry = entry_find(ept, address.v, &level);
    *order = ept_order(level);
    return entry;
}

bool ept_is_free(const struct ept *ept, struct gpa start, u64 pages) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level))
        if (*entry_find(ept, at, &level)) return false;
    return true;
}

/* Frees the tables below `table` for [start, end) that map nothing, or all of them; whether all of
   `table` is then empty. */
static bool free_below(struct ept *ept, u64 *table, unsigned level, u64 start, u64 end, bool all) {
    for (u64 at = start, next; level && at < end; at = next) {
        u64 *entry = &table[ept_index(at, level)];
        next = next_at(at, level);
        if (!*entry || ept_is_leaf(*entry, level)) continue;
        u64 *below = ept_table(*entry);
        if (!free_below(ept, below, level - 1, at, next < end ? next : end, all)) continue;
        table_drop(ept, below);
        *entry = 0;
    }
    for (unsigned i = 0; i < EPT_ENTRIES && !all; i++)
        if (table[i]) return false;
    return true;
}

void ept_remove(struct ept *ept, struct gpa start, u64 pages) {
    ept_unmap(ept, start, pages);
    guest_flush(ept);
    u64 end = start.v + (pages << PAGE_SHIFT);
    (void)free_below(ept, ept->root, ept->levels - 1, start.v, end, false);
}

void ept_destroy(struct ept *ept) {
    if (!ept->root) return;
    u64 end = (u64)PAGE_SIZE << ept_order(ept->levels);
    (void)free_below(ept, ept->root, ept->levels - 1, 0, end, true);
    table_drop(ept, ept->root);
    ept->root = NULL;
}

u64 ept_lookup(const struct ept *ept, struct gpa address, unsigned *order) {
    unsigned level;
    u64 entry = atomic_load(entry_find(ept, address.v, &level)), access = entry;
    while (level && entry && !(entry & EPT_LARGE)) { /* through a link */
        entry = atomic_load(&ept_table(entry)[ept_index(address.v, --level)]);
        access &= entry;
    }
    *order = ept_order(level);
    return entry & (access | ~EPT_ACCESS);
}

bool ept_translate(const struct ept *ept, struct gpa address, u32 right, struct hpa *to) {
    unsigned order;
    u64 entry = address.v < EPT_ADDRESS_LIMIT ? ept_lookup(ept, address, &order) : 0;
    if (!(entry & right)) return false;
    u64 inside = ((u64)PAGE_SIZE << order) - 1;
    *to = hpa((entry & EPT_FRAME & ~inside) + (address.v & inside));
    return true;
}
