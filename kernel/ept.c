/* Second-level page tables, of domains and of memory objects: 4 KiB, 2 MiB or 1 GiB pages. */
#include "ept.h"

#include "abi.h"
#include "frame.h"
#include "guest.h"

#define ENTRIES     512
#define ENTRY_TABLE 7ull /* all access, for both vendors */
#define ENTRY_LARGE (1ull << 7)
#define ENTRY_LINK  (1ull << 52) /* a table of another's: not ours to free or to change */

bool ept_has_1g;

static unsigned level_order(unsigned level) { return 9 * level; }

static unsigned index_at(u64 address, unsigned level) {
    return address >> (PAGE_SHIFT + level_order(level)) & (ENTRIES - 1);
}

static bool is_leaf(u64 entry, unsigned level) {
    return level == 0 || (entry & (ENTRY_LARGE | ENTRY_LINK));
}

static u64 *table_of(u64 entry) { return pool_pointer(hpa(entry & EPT_FRAME)); }

bool ept_init(struct ept *ept) {
    ept->root = ept->table_alloc(ept->owner);
    ept->mapped = 0;
    return ept->root;
}

/* The entry for an address at a level, its tables made on the way; NULL: out of tables. */
static u64 *entry_make(struct ept *ept, u64 address, unsigned level) {
    u64 *table = ept->root;
    for (unsigned l = ept->levels - 1; l > level; l--) {
        u64 *entry = &table[index_at(address, l)];
        if (!*entry) {
            void *fresh = ept->table_alloc(ept->owner);
            if (!fresh) return NULL;
            *entry = hpa_of(fresh).v | ENTRY_TABLE;
        }
        table = table_of(*entry);
    }
    return &table[index_at(address, level)];
}

/* Whether a page of this level fits at two addresses. */
static bool fits(u64 a, u64 b, u64 left, unsigned level) {
    u64 size = (u64)PAGE_SIZE << level_order(level);
    return ((a | b) & (size - 1)) == 0 && left >= size;
}

static bool entry_set(struct ept *ept, u64 address, unsigned level, u64 value) {
    u64 *entry = entry_make(ept, address, level);
    if (!entry) return false;
    if (!*entry) ept->mapped += 1ull << level_order(level);
    *entry = value;
    return true;
}

bool ept_map(struct ept *ept, struct gpa start, struct hpa frames, u64 pages, u32 access) {
    u64 size = pages << PAGE_SHIFT;
    u64 flags = ept_access(access) | EPT_RAM;
    unsigned level;
    for (u64 done = 0; done < size; done += (u64)PAGE_SIZE << level_order(level)) {
        u64 to = start.v + done, from = frames.v + done;
        level = ept_has_1g && ept->levels > 2 ? 2 : ept->levels > 1;
        while (level && !fits(to, from, size - done, level))
            level--;
        if (!entry_set(ept, to, level, from | flags | (level ? ENTRY_LARGE : 0))) return false;
    }
    return true;
}

bool ept_share(struct ept *ept, struct gpa start, const struct ept *from, u64 first, u64 pages,
               u32 access) {
    u64 size = pages << PAGE_SHIFT, count, source = first << PAGE_SHIFT;
    for (u64 done = 0; done < size; done += count) {
        u64 to = start.v + done, at = source + done, entry, *table = from->root;
        unsigned level = from->levels - 1;
        while ((entry = table[index_at(at, level)]) && !is_leaf(entry, level) &&
               !fits(to, at, size - done, level)) {
            table = table_of(entry);
            level--;
        }
        u64 page = (u64)PAGE_SIZE << level_order(level), inside = at & (page - 1);
        count = page - inside < size - done ? page - inside : size - done;
        if (!entry) continue;
        bool ok =
            is_leaf(entry, level)
                ? ept_map(ept, gpa(to), hpa((entry & EPT_FRAME) + inside), count >> PAGE_SHIFT,
                          access)
                : entry_set(ept, to, level, (entry & EPT_FRAME) | ept_access(access) | ENTRY_LINK);
        if (!ok) return false;
    }
    return true;
}

/* The lowest entry on the path to an address: a leaf, a link, or an empty one; and its level. */
static u64 *entry_find(const struct ept *ept, u64 address, unsigned *level) {
    u64 *table = ept->root;
    for (unsigned l = ept->levels - 1;; l--) {
        u64 *entry = &table[index_at(address, l)], value = atomic_load(entry);
        if (!value || is_leaf(value, l)) {
            *level = l;
            return entry;
        }
        table = table_of(value);
    }
}

static u64 next_at(u64 address, unsigned level) {
    u64 size = (u64)PAGE_SIZE << level_order(level);
    return (address | (size - 1)) + 1;
}

void ept_unmap(struct ept *ept, struct gpa start, u64 pages, bool links) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level)) {
        u64 *entry = entry_find(ept, at, &level);
        if (!*entry || (!links && (*entry & ENTRY_LINK))) continue;
        ept->mapped -= 1ull << level_order(level);
        *entry = 0;
    }
}

void ept_hide(struct ept *ept, struct gpa start, u64 pages) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level))
        *entry_find(ept, at, &level) &= ~EPT_ACCESS;
}

bool ept_split(struct ept *ept, struct gpa address) {
    unsigned level;
    u64 *entry = entry_find(ept, address.v, &level), *table = ept->table_alloc(ept->owner);
    if (!table) return false;
    u64 page = *entry & (level > 1 ? ~0ull : ~ENTRY_LARGE);
    for (u64 i = 0; i < ENTRIES; i++)
        table[i] = page + (i << (PAGE_SHIFT + level_order(level - 1)));
    *entry = hpa_of(table).v | ENTRY_TABLE;
    return true;
}

void ept_follow(struct ept *ept, struct gpa address, const struct ept *from, u64 page) {
    unsigned level;
    u64 *entry = entry_find(ept, address.v, &level), *table = from->root;
    if (!(*entry & ENTRY_LARGE) || !level) return;
    for (unsigned l = from->levels - 1; l > level; l--)
        table = table_of(table[index_at(page << PAGE_SHIFT, l)]);
    u64 found = table[index_at(page << PAGE_SHIFT, level)];
    if (!is_leaf(found, level)) *entry = (found & EPT_FRAME) | (*entry & EPT_ACCESS) | ENTRY_LINK;
}

u64 *ept_entry(const struct ept *ept, struct gpa address, unsigned *order) {
    unsigned level;
    u64 *entry = entry_find(ept, address.v, &level);
    *order = level_order(level);
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
        u64 *entry = &table[index_at(at, level)];
        next = next_at(at, level);
        if (!*entry || is_leaf(*entry, level)) continue;
        u64 *below = table_of(*entry);
        if (!free_below(ept, below, level - 1, at, next < end ? next : end, all)) continue;
        ept->table_free(ept->owner, below);
        *entry = 0;
    }
    for (unsigned i = 0; i < ENTRIES && !all; i++)
        if (table[i]) return false;
    return true;
}

void ept_remove(struct ept *ept, struct gpa start, u64 pages) {
    ept_unmap(ept, start, pages, true);
    guest_flush(ept);
    u64 end = start.v + (pages << PAGE_SHIFT);
    (void)free_below(ept, ept->root, ept->levels - 1, start.v, end, false);
}

void ept_destroy(struct ept *ept) {
    if (!ept->root) return;
    u64 end = (u64)PAGE_SIZE << level_order(ept->levels);
    (void)free_below(ept, ept->root, ept->levels - 1, 0, end, true);
    ept->table_free(ept->owner, ept->root);
    ept->root = NULL;
}

u64 ept_lookup(const struct ept *ept, struct gpa address, unsigned *order) {
    unsigned level;
    u64 entry = atomic_load(entry_find(ept, address.v, &level)), access = entry;
    while (level && entry && !(entry & ENTRY_LARGE)) /* through a link */
        entry = atomic_load(&table_of(entry)[index_at(address.v, --level)]);
    *order = level_order(level);
    return entry & (access | ~EPT_ACCESS);
}

bool ept_translate(const struct ept *ept, struct gpa address, u32 rights, struct hpa *to) {
    unsigned order;
    u64 entry = address.v < EPT_ADDRESS_LIMIT ? ept_lookup(ept, address, &order) : 0;
    if (!(entry & rights)) return false;
    u64 inside = ((u64)PAGE_SIZE << order) - 1;
    *to = hpa((entry & EPT_FRAME & ~inside) + (address.v & inside));
    return true;
}
