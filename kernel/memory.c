/* Memory objects and their mappings. */
#include "memory.h"

#include "frame.h"
#include "guest.h"
#include "log.h"

#define FILL_STEP  64 /* pages to zero or blocks to take at a time: interrupts wait meanwhile */
#define ANY_ACCESS (RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)

static struct gpa page_address(u64 page) { return gpa(page << PAGE_SHIFT); }

static u64 order_mask(unsigned order) { return (1ull << order) - 1; }

u32 memory_create(struct domain *account, u64 pages, struct memory **out) {
    if (pages == 0) return STATUS_BAD_ARGUMENT;
    if (pages > frame_total_count() || pages + kernel_pages_reserved > frame_free_count())
        return STATUS_NO_MEMORY;
    struct memory *memory = cell_alloc(account);
    if (!memory) return STATUS_NO_QUOTA;
    unsigned levels = 1;
    while (pages >> 9 * levels)
        levels++;
    if (!domain_tables(account, &memory->map, levels)) {
        cell_free(account, memory);
        return STATUS_NO_QUOTA;
    }
    object_init(&memory->object, OBJECT_MEMORY);
    memory->account = account;
    memory->pages = pages;
    *out = memory;
    return STATUS_OK;
}

/* Gives a page that has none a frame, with those around it if there is a large block for them. */
static u32 add_block(struct memory *memory, u64 page, unsigned order) {
    bool building = memory->clean < memory->pages, clean;
    for (;; order -= 9) {
        u64 first = page & ~order_mask(order), size = 1ull << order;
        struct hpa block;
        if (memory->pages - first >= size && frame_free_count() >= kernel_pages_reserved + size &&
            frame_alloc(order, memory->account->id, &block, &clean)) {
            if (!building && !clean) frame_scrub(block, order);
            if (building && clean) memory->clean += size;
            if (ept_map(&memory->map, page_address(first), block, size, ANY_ACCESS))
                return STATUS_OK;
            frame_free(block, order);
            return STATUS_NO_QUOTA;
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
        frame_free(hpa(*entry & EPT_FRAME), order);
        memory->map.mapped -= 1ull << order;
        *entry = 0;
    }
}

void memory_destroy(struct memory *memory) {
    if (!memory->account) return; /* a boot module: its frames are not ours to free */
    free_frames(memory, 0, memory->pages);
    ept_destroy(&memory->map);
    cell_free(memory->account, memory);
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

/* --- pages without frames --- */

/* Splits large pages until one begins at `page`. */
static bool split_at(struct memory *memory, u64 page) {
    unsigned order;
    for (;;) {
        struct gpa at = page_address(page);
        u64 entry = page < memory->pages ? *ept_entry(&memory->map, at, &order) : 0;
        if (!entry || !(page & order_mask(order))) return true;
        if (!ept_split(&memory->map, at)) return false;
        frame_split(hpa(entry & EPT_FRAME), order, order - 9);
        for (struct mapping *m = memory->mappings; m; m = m->next_in_memory)
            if (page - m->first < m->pages)
                ept_follow(&m->domain->ept, mapped_at(m, page), &memory->map, page);
    }
}

u32 memory_release(struct memory *memory, u64 first, u64 pages) {
    if (pages == 0 || pages > RELEASE_MAX || first >= memory->pages ||
        pages > memory->pages - first)
        return STATUS_BAD_ARGUMENT;
    if (!memory->account || memory->clean != memory->pages) return STATUS_BAD_STATE;
    if (!split_at(memory, first) || !split_at(memory, first + pages)) return STATUS_NO_QUOTA;
    ept_hide(&memory->map, page_address(first), pages);
    for (struct mapping *m = memory->mappings; m; m = m->next_in_memory) {
        u64 from = first > m->first ? first : m->first, end = m->first + m->pages;
        if (end > first + pages) end = first + pages;
        if (from >= end) continue;
        ept_unmap(&m->domain->ept, mapped_at(m, from), end - from, false);
        guest_flush(&m->domain->ept);
    }
    free_frames(memory, first, pages);
    return STATUS_OK;
}

u32 memory_touch(struct mapping *m, struct gpa address, u32 access) {
    if (!m->memory->account || (access & ~m->access)) return STATUS_BAD_ARGUMENT;
    struct memory *memory = m->memory;
    u64 page = m->first + ((address.v - m->start.v) >> PAGE_SHIFT);
    unsigned order;
    if (!*ept_entry(&memory->map, page_address(page), &order) &&
        add_block(memory, page, order ? 9 : 0) != STATUS_OK)
        return STATUS_NO_MEMORY;
    if (ept_lookup(&m->domain->ept, address, &order)) return STATUS_OK;
    /* All of the 2 MiB around it: a table of 4 KiB pages is linked, if it is wholly mapped. */
    u64 from = page & ~order_mask(9), end = from + 512;
    if (from < m->first) from = m->first;
    if (end > m->first + m->pages) end = m->first + m->pages;
    return install(m, from, end - from) ? STATUS_OK : STATUS_NO_MEMORY;
}
