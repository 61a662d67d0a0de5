/* Second-level page tables of a domain: mapped in 4 KiB, 2 MiB or 1 GiB pages. */
#include "ept.h"

#include "abi.h"
#include "frame.h"

#define ENTRIES             512
#define ENTRY_ACCESS        7ull        /* read, write, execute: as RIGHT_READ, _WRITE, _EXECUTE */
#define ENTRY_WRITE_BACK    (6ull << 3) /* leaf: memory type */
#define ENTRY_IGNORE_PAT    (1ull << 6) /* leaf: the guest's PAT and MTRRs do not matter for RAM */
#define ENTRY_LARGE         (1ull << 7)
#define LEVELS              4
#define EPTP_WRITE_BACK     6ull
#define EPTP_WALK_4         (3ull << 3)
#define EPTP_ACCESSED_DIRTY (1ull << 6)

bool ept_has_1g;

static unsigned level_order(unsigned level) { return 9 * level; }

static unsigned index_at(u64 address, unsigned level) {
    return address >> (PAGE_SHIFT + level_order(level)) & (ENTRIES - 1);
}

static bool is_leaf(u64 entry, unsigned level) { return level == 0 || (entry & ENTRY_LARGE); }

static u64 *table_of(u64 entry) { return pool_pointer(hpa(entry & EPT_FRAME)); }

bool ept_init(struct ept *ept) {
    ept->root = ept->table_alloc(ept->owner);
    ept->mapped = 0;
    return ept->root;
}

/* The entry for an address at a level, its tables made on the way; NULL: out of tables. */
static u64 *entry_make(struct ept *ept, u64 address, unsigned level) {
    u64 *table = ept->root;
    for (unsigned l = LEVELS - 1; l > level; l--) {
        u64 *entry = &table[index_at(address, l)];
        if (!*entry) {
            void *fresh = ept->table_alloc(ept->owner);
            if (!fresh) return NULL;
            *entry = hpa_of(fresh).v | ENTRY_ACCESS;
        }
        table = table_of(*entry);
    }
    return &table[index_at(address, level)];
}

static unsigned page_level(u64 guest, u64 host, u64 left) {
    unsigned top = ept_has_1g ? 2 : 1;
    for (unsigned level = top; level > 0; level--) {
        u64 size = (u64)PAGE_SIZE << level_order(level);
        if (((guest | host) & (size - 1)) == 0 && left >= size) return level;
    }
    return 0;
}

bool ept_map(struct ept *ept, struct gpa start, struct hpa frames, unsigned order, u32 access) {
    u64 size = (u64)PAGE_SIZE << order;
    for (u64 done = 0; done < size;) {
        unsigned level = page_level(start.v + done, frames.v + done, size - done);
        u64 *entry = entry_make(ept, start.v + done, level);
        if (!entry) {
            ept_unmap(ept, start, done >> PAGE_SHIFT);
            return false;
        }
        *entry = (frames.v + done) | (access & ENTRY_ACCESS) | ENTRY_WRITE_BACK | ENTRY_IGNORE_PAT |
                 (level ? ENTRY_LARGE : 0);
        ept->mapped += 1ull << level_order(level);
        done += (u64)PAGE_SIZE << level_order(level);
    }
    return true;
}

/* The lowest entry on the path to an address: a leaf, or an empty one; and its level. */
static u64 *entry_find(const struct ept *ept, u64 address, unsigned *level) {
    u64 *table = ept->root;
    for (unsigned l = LEVELS - 1;; l--) {
        u64 *entry = &table[index_at(address, l)];
        if (!*entry || is_leaf(*entry, l)) {
            *level = l;
            return entry;
        }
        table = table_of(*entry);
    }
}

static u64 next_at(u64 address, unsigned level) {
    u64 size = (u64)PAGE_SIZE << level_order(level);
    return (address | (size - 1)) + 1;
}

void ept_unmap(struct ept *ept, struct gpa start, u64 pages) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level)) {
        u64 *entry = entry_find(ept, at, &level);
        if (*entry) ept->mapped -= 1ull << level_order(level);
        *entry = 0;
    }
}

bool ept_is_free(const struct ept *ept, struct gpa start, u64 pages) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    unsigned level;
    for (u64 at = start.v; at < end; at = next_at(at, level))
        if (*entry_find(ept, at, &level)) return false;
    return true;
}

/* Frees the tables below `table` that map nothing, or all of them; whether it is then empty. */
static bool free_below(struct ept *ept, u64 *table, unsigned level, bool all) {
    bool empty = true;
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (!table[i]) continue;
        if (!is_leaf(table[i], level) && free_below(ept, table_of(table[i]), level - 1, all)) {
            ept->table_free(ept->owner, table_of(table[i]));
            table[i] = 0;
        } else {
            empty = false;
        }
    }
    return empty || all;
}

void ept_free_tables(struct ept *ept) { free_below(ept, ept->root, LEVELS - 1, false); }

void ept_destroy(struct ept *ept) {
    if (!ept->root) return;
    free_below(ept, ept->root, LEVELS - 1, true);
    ept->table_free(ept->owner, ept->root);
    ept->root = NULL;
}

u64 ept_lookup(const struct ept *ept, struct gpa address, unsigned *order) {
    unsigned level;
    u64 entry = *entry_find(ept, address.v, &level);
    *order = level_order(level);
    return entry;
}

u64 ept_pointer(const struct ept *ept, bool accessed_dirty) {
    return hpa_of(ept->root).v | EPTP_WRITE_BACK | EPTP_WALK_4 |
           (accessed_dirty ? EPTP_ACCESSED_DIRTY : 0);
}
