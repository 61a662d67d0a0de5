/* Memory objects and their mappings. */
#include "memory.h"

#include "cow.h"
#include "frame.h"
#include "guest.h"
#include "log.h"

#define FILL_STEP   64   /* pages to zero or blocks to take at a time: interrupts wait meanwhile */
#define COUNT_STEPS 8192 /* blocks to look at in one call */
#define ANY_ACCESS  (RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)

static struct gpa page_address(u64 page) { return gpa(page << PAGE_SHIFT); }

static u64 order_mask(unsigned order) { return (1ull << order) - 1; }

/* With a tree of so many tables, of which all but the root are there already; NULL: no quota. */
static struct memory *new_object(struct domain *account, u64 pages, u32 node, u32 tables) {
    struct memory *memory = cell_alloc(account);
    unsigned levels = 1;
    while (pages >> 9 * levels)
        levels++;
    if (!memory) return NULL;
    if (tables > account->kernel_quota - account->kernel_pages ||
        !domain_tables(account, &memory->map, levels)) {
        cell_free(account, memory);
        return NULL;
    }
    account->kernel_pages += tables - 1;
    object_init(&memory->object, OBJECT_MEMORY);
    memory->account = account;
    memory->pages = pages;
    memory->node = node;
    return memory;
}

u32 memory_create(struct domain *account, u64 pages, u32 node, struct memory **out) {
    if (pages == 0) return STATUS_BAD_ARGUMENT;
    if (pages > frame_total_count() || !room_for(pages, 0)) return STATUS_NO_MEMORY;
    *out = new_object(account, pages, node, 1);
    return *out ? STATUS_OK : STATUS_NO_QUOTA;
}

/* What of its promise so many frames use up. */
static u64 promised_part(const struct memory *memory, u64 pages) {
    return pages < memory->promised ? pages : memory->promised;
}

/* A block that is not kept for others; the caller takes it off the promise. */
static bool block_alloc(const struct memory *memory, unsigned order, struct hpa *out, bool *clean) {
    u64 size = 1ull << order, more = size - promised_part(memory, size);
    return (!more || room_for(more, 0)) &&
           frame_alloc(order, memory->account->id, memory->node, out, clean);
}

static void promise_use(struct memory *memory, u64 pages) {
    u64 part = promised_part(memory, pages);
    memory->promised -= part;
    pages_promised -= part;
}

u32 memory_promise(struct memory *memory, u64 pages) {
    if (!memory->account || memory->clean != memory->pages) return STATUS_BAD_STATE;
    if (pages > memory->pages) return STATUS_BAD_ARGUMENT;
    u64 before = pages_promised;
    pages_promised += pages - memory->promised;
    if (pages > memory->promised && !room_for(0, 0)) {
        pages_promised = before;
        return STATUS_NO_MEMORY;
    }
    memory->promised = pages;
    return STATUS_OK;
}

/* Gives a page that has none a frame, with those around it if there is a large block for them. */
static u32 add_block(struct memory *memory, u64 page, unsigned order) {
    bool building = memory->clean < memory->pages, clean;
    for (;; order -= 9) {
        u64 first = page & ~order_mask(order), size = 1ull << order;
        struct hpa block;
        if (memory->pages - first >= size && block_alloc(memory, order, &block, &clean)) {
            if (!building && !clean) frame_scrub(block, order);
            if (building && clean) memory->clean += size;
            if (!ept_map(&memory->map, page_address(first), block, size, ANY_ACCESS)) {
                frame_free(block, order);
                return STATUS_NO_QUOTA;
            }
            promise_use(memory, size);
            return STATUS_OK;
        }
        if (order == 0) return STATUS_NO_MEMORY;
    }
}

u32 memory_fill(struct memory *memory) {
    for (unsigned step = 0; step < FILL_STEP && memory->clean < memory->pages; step++) {
        u64 page = memory->clean;
        unsigned order;
        if (page == memory->map.mapped) {
            order = ept_has_1g && memory->map.levels > 2 ? 18 : memory->map.levels > 1 ? 9 : 0;
            while (page & order_mask(order))
                order -= 9;
            u32 status = add_block(memory, page, order);
            if (status != STATUS_OK) return status;
        } else {
            u64 frame = ept_lookup(&memory->map, page_address(page), &order) & EPT_FRAME;
            frame_scrub(hpa(frame + ((page & order_mask(order)) << PAGE_SHIFT)), 0);
            memory->clean++;
        }
    }
    return STATUS_OK;
}

void memory_from_module(struct memory *memory, struct hpa start, u64 pages) {
    *memory = (struct memory){.base = start, .pages = pages, .clean = pages};
    object_init(&memory->object, OBJECT_MEMORY);
}

/* The mappings of these pages are gone. */
static void free_frames(struct memory *memory, u64 first, u64 pages) {
    unsigned order;
    for (u64 page = first; page < first + pages; page = (page | order_mask(order)) + 1) {
        u64 *entry = ept_entry(&memory->map, page_address(page), &order);
        if (!*entry) continue;
        frame_drop(hpa(*entry & EPT_FRAME), order);
        memory->map.mapped -= 1ull << order;
        *entry = 0;
    }
}

void memory_destroy(struct memory *memory) {
    if (!memory->account) return; /* a boot module: its frames are not ours to free */
    pages_promised -= memory->promised;
    memory->account->kernel_pages -= memory->map.tables;
    cow_drop(&memory->map);
    cell_free(memory->account, memory);
}

u32 memory_clone(struct domain *account, struct memory *from, u32 node, struct memory **out) {
    if (!from->account || from->clean != from->pages) return STATUS_BAD_STATE;
    struct memory *memory = new_object(account, from->pages, node, from->map.tables);
    if (!memory) return STATUS_NO_QUOTA;
    memory->clean = memory->pages;
    cow_clone(&memory->map, &from->map);
    for (struct mapping *m = from->mappings; m; m = m->next_in_memory) {
        ept_hide(&m->domain->ept, m->start, m->pages, EPT_WRITE);
        guest_flush(&m->domain->ept);
    }
    *out = memory;
    return STATUS_OK;
}

u64 memory_nodes(const struct memory *memory, u64 page, u64 counts[MAX_NODES]) {
    for (unsigned step = 0; step < COUNT_STEPS && page < memory->pages; step++) {
        unsigned order;
        u64 entry = ept_lookup(&memory->map, page_address(page), &order);
        const struct frame *f = entry ? frame_of(hpa(entry & EPT_FRAME)) : NULL;
        if (f) counts[f->node] += 1ull << order;
        page = (page | order_mask(order)) + 1;
    }
    return page < memory->pages ? page : memory->pages;
}

/* --- mappings --- */

static struct gpa mapped_at(const struct mapping *m, u64 page) {
    return gpa(m->start.v + ((page - m->first) << PAGE_SHIFT));
}

/* Puts what the object has from page `first` on into the domain's tables. */
static bool install(struct mapping *m, u64 first, u64 pages) {
    const struct memory *memory = m->memory;
    struct gpa start = mapped_at(m, first);
    if (memory->account)
        return ept_share(&m->domain->ept, start, &memory->map, first, pages, m->access);
    struct hpa frames = hpa(memory->base.v + (first << PAGE_SHIFT));
    return ept_map(&m->domain->ept, start, frames, pages, m->access);
}

bool memory_is_free(const struct domain *domain, struct gpa start, u64 pages) {
    u64 end = start.v + (pages << PAGE_SHIFT);
    for (const struct mapping *m = domain->mappings; m; m = m->next_in_domain)
        if (m->start.v < end && start.v < m->start.v + (m->pages << PAGE_SHIFT)) return false;
    return ept_is_free(&domain->ept, start, pages);
}

u32 memory_map(struct domain *domain, struct memory *memory, struct cap *through, struct gpa start,
               u64 first, u64 pages, u32 access) {
    if (memory->clean != memory->pages) return STATUS_BAD_STATE;
    if (pages == 0 || first >= memory->pages || pages > memory->pages - first ||
        (start.v & (PAGE_SIZE - 1)) || start.v >= EPT_ADDRESS_LIMIT ||
        pages > (EPT_ADDRESS_LIMIT - start.v) >> PAGE_SHIFT || !(access & RIGHT_READ) ||
        (access & ~ANY_ACCESS))
        return STATUS_BAD_ARGUMENT;
    if (!memory_is_free(domain, start, pages)) return STATUS_IN_USE;
    struct mapping *m = cell_alloc(domain);
    if (!m) return STATUS_NO_QUOTA;
    *m = (struct mapping){
        domain->mappings, memory->mappings, domain, memory, through, start, first, pages, access};
    if (!install(m, first, pages)) {
        ept_remove(&domain->ept, start, pages);
        cell_free(domain, m);
        return STATUS_NO_QUOTA;
    }
    atomic_store(&domain->mappings, m);
    memory->mappings = m;
    return STATUS_OK;
}

/* Out of the lists before the flush, behind which no exit of the domain looks at it any more. */
static void mapping_delete(struct mapping *m) {
    struct mapping **link = &m->domain->mappings;
    while (*link != m)
        link = &(*link)->next_in_domain;
    *link = m->next_in_domain;
    link = &m->memory->mappings;
    while (*link != m)
        link = &(*link)->next_in_memory;
    *link = m->next_in_memory;
    ept_remove(&m->domain->ept, m->start, m->pages);
    cell_free(m->domain, m);
}

u32 memory_unmap(struct domain *domain, struct gpa start, u64 pages) {
    for (struct mapping *m = domain->mappings; m; m = m->next_in_domain) {
        /* What the kernel mapped stays: it starts the control domain again in it. */
        if (m->start.v == start.v && m->pages == pages && m->through) {
            mapping_delete(m);
            return STATUS_OK;
        }
    }
    return STATUS_BAD_ARGUMENT;
}

void memory_unmap_through(struct memory *memory, struct cap *cap) {
    for (struct mapping *m = memory->mappings; m;) {
        struct mapping *next = m->next_in_memory;
        if (m->through == cap) mapping_delete(m);
        m = next;
    }
}

void memory_unmap_below(struct domain *domain, struct gpa end) {
    for (struct mapping *next, *m = domain->mappings; m; m = next) {
        next = m->next_in_domain;
        if (m->start.v < end.v) mapping_delete(m);
    }
}

/* --- pages that change their frames --- */

/* In every domain. */
static void follow(struct memory *memory, u64 first, u64 pages) {
    for (struct mapping *m = memory->mappings; m; m = m->next_in_memory) {
        u64 from = first > m->first ? first : m->first, end = m->first + m->pages;
        if (end > first + pages) end = first + pages;
        if (from >= end) continue;
        ept_follow(&m->domain->ept, mapped_at(m, from), &memory->map, from, end - from, m->access);
        guest_flush(&m->domain->ept);
    }
}

/* Makes a table of the large page at `page`, on a way that nobody shares; the frames stay. */
static bool split(struct memory *memory, u64 page) {
    unsigned order;
    struct hpa frames = hpa(*ept_entry(&memory->map, page_address(page), &order) & EPT_FRAME);
    if (!ept_split(&memory->map, page_address(page))) return false;
    if (frame_of(frames)->order == order) frame_split(frames, order, order - 9);
    return true;
}

/* Brings pages that have frames under entries of their own: none of their tables is shared, no
   large page goes beyond them. */
static u32 range_own(struct memory *memory, u64 first, u64 pages, bool *moved) {
    u64 page = first, end = first + pages;
    while (page < end) {
        unsigned order, level;
        if (*ept_entry(&memory->map, page_address(page), &order)) {
            if (!cow_own(&memory->map, page, &level, moved)) return STATUS_NO_MEMORY;
            if ((page & order_mask(order)) || end - page < 1ull << order) {
                if (!split(memory, page)) return STATUS_NO_QUOTA;
                continue;
            }
        }
        page = (page | order_mask(order)) + 1;
    }
    return STATUS_OK;
}

u32 memory_release(struct memory *memory, u64 first, u64 pages) {
    if (pages == 0 || pages > RELEASE_MAX || first >= memory->pages ||
        pages > memory->pages - first)
        return STATUS_BAD_ARGUMENT;
    if (!memory->account || memory->clean != memory->pages) return STATUS_BAD_STATE;
    bool moved = false;
    u32 status = range_own(memory, first, pages, &moved);
    if (status == STATUS_OK) ept_hide(&memory->map, page_address(first), pages, EPT_ACCESS);
    if (status == STATUS_OK || moved) follow(memory, first, pages);
    if (status == STATUS_OK) free_frames(memory, first, pages);
    return status;
}

/* A frame of the page's own. Without the write bit: until every domain has left the old one, both
   must stay the same. */
static u32 page_copy(struct memory *memory, u64 *entry, bool *moved) {
    struct hpa old = hpa(*entry & EPT_FRAME), copy;
    if (!block_alloc(memory, 0, &copy, NULL)) return STATUS_NO_MEMORY;
    promise_use(memory, 1);
    frame_copy(copy, old);
    atomic_store(entry, (*entry & ~EPT_FRAME) | copy.v);
    frame_drop(old, 0);
    *moved = true;
    return STATUS_OK;
}

/* Gives a page a frame that no other object has. */
static u32 page_own(struct memory *memory, u64 page, bool *moved) {
    unsigned level;
    for (;;) {
        u64 *entry = cow_own(&memory->map, page, &level, moved);
        if (!entry) return STATUS_NO_MEMORY;
        if (!*entry) return add_block(memory, page, level ? 9 : 0);
        if ((*entry & EPT_WRITE) || !frame_is_shared(hpa(*entry & EPT_FRAME), ept_order(level)))
            return STATUS_OK;
        if (level == 0) return page_copy(memory, entry, moved);
        if (!split(memory, page)) return STATUS_NO_QUOTA;
    }
}

u32 memory_touch(struct mapping *m, struct gpa address, u32 access) {
    if (!m->memory->account || (access & ~m->access)) return STATUS_BAD_ARGUMENT;
    struct memory *memory = m->memory;
    u64 page = m->first + ((address.v - m->start.v) >> PAGE_SHIFT);
    unsigned order;
    u64 *entry = ept_entry(&memory->map, page_address(page), &order);
    if (!*entry || (access & RIGHT_WRITE)) {
        bool moved = false;
        u32 status = page_own(memory, page, &moved);
        if (moved) follow(memory, page, 1);
        if (status != STATUS_OK) return STATUS_NO_MEMORY;
        *ept_entry(&memory->map, page_address(page), &order) |= EPT_WRITE;
    }
    if (*ept_entry(&m->domain->ept, address, &order)) {
        ept_follow(&m->domain->ept, gpa(address.v & ~(PAGE_SIZE - 1ull)), &memory->map, page, 1,
                   m->access);
        return STATUS_OK;
    }
    /* All of the 2 MiB around it: a table of 4 KiB pages is linked, if it is wholly mapped. */
    u64 from = page & ~order_mask(9), end = from + 512;
    if (from < m->first) from = m->first;
    if (end > m->first + m->pages) end = m->first + m->pages;
    return install(m, from, end - from) ? STATUS_OK : STATUS_NO_MEMORY;
}
