/* Memory objects and their mappings. */
#include "memory.h"

#include "frame.h"
#include "log.h"
#include "vmx.h"

#define PAGE_EXTENTS 511
struct extent_page {
    struct extent_page *next;
    u64 extents[PAGE_EXTENTS];
};
_Static_assert(sizeof(struct extent_page) == PAGE_SIZE, "an extent page is a page");

#define CLEAN_STEP 64 /* pages at a time: interrupts wait while it lasts */

static struct hpa extent_start(u64 extent) { return hpa((extent >> 8) << PAGE_SHIFT); }

static unsigned extent_order(u64 extent) { return extent & 0xff; }

static u64 extent_make(struct hpa start, unsigned order) {
    return (start.v >> PAGE_SHIFT) << 8 | order;
}

/* Walks the extents of an object in order. */
struct cursor {
    u64 *extents;
    struct extent_page *page;
    unsigned index, count;
};

static struct cursor cursor_start(struct memory *memory) {
    return (struct cursor){memory->extents, memory->more, 0, INLINE_EXTENTS};
}

/* The place of the next extent; NULL: there is no room for one more. */
static u64 *cursor_next(struct cursor *c) {
    if (c->index == c->count) {
        if (!c->page) return NULL;
        *c = (struct cursor){c->page->extents, c->page->next, 0, PAGE_EXTENTS};
    }
    return &c->extents[c->index++];
}

/* An empty extent that does not exist yet is `0`: frame 0 is never given out. */
static u64 cursor_read(struct cursor *c) {
    u64 *extent = cursor_next(c);
    return extent ? *extent : 0;
}

static bool room_for_extent(struct memory *memory, struct cursor *c) {
    if (c->index < c->count || c->page) return true;
    struct extent_page *page = domain_pages(memory->account, 0);
    if (!page) return false;
    struct extent_page **link = &memory->more;
    while (*link)
        link = &(*link)->next;
    *link = page;
    c->page = page;
    return true;
}

static unsigned largest_order(u64 pages) {
    unsigned order = 63 - (unsigned)__builtin_clzll(pages);
    return order < FRAME_MAX_ORDER ? order : FRAME_MAX_ORDER;
}

u32 memory_create(struct domain *account, u64 pages, struct memory **out) {
    if (pages == 0) return STATUS_BAD_ARGUMENT;
    if (pages > frame_total_count() || pages + kernel_pages_reserved > frame_free_count())
        return STATUS_NO_MEMORY;
    struct memory *memory = cell_alloc(account);
    if (!memory) return STATUS_NO_QUOTA;
    object_init(&memory->object, OBJECT_MEMORY);
    memory->account = account;

    struct cursor cursor = cursor_start(memory);
    unsigned order = FRAME_MAX_ORDER;
    while (memory->pages < pages) {
        if (!room_for_extent(memory, &cursor)) {
            memory_destroy(memory);
            return STATUS_NO_QUOTA;
        }
        u64 left = pages - memory->pages;
        if (order > largest_order(left)) order = largest_order(left);
        struct hpa block;
        while (!frame_alloc(order, account->id, &block)) {
            if (order-- == 0) {
                memory_destroy(memory);
                return STATUS_NO_MEMORY;
            }
        }
        *cursor_next(&cursor) = extent_make(block, order);
        memory->pages += 1ull << order;
    }
    *out = memory;
    return STATUS_OK;
}

bool memory_clean(struct memory *memory) {
    struct cursor cursor = cursor_start(memory);
    u64 at = 0, stop = memory->clean + CLEAN_STEP;
    if (stop > memory->pages) stop = memory->pages;
    for (u64 extent; memory->clean < stop && (extent = cursor_read(&cursor));) {
        u64 size = 1ull << extent_order(extent);
        while (memory->clean < stop && memory->clean < at + size) {
            u64 inside = (memory->clean - at) << PAGE_SHIFT;
            frame_scrub(hpa(extent_start(extent).v + inside), 0);
            memory->clean++;
        }
        at += size;
    }
    return memory->clean == memory->pages;
}

void memory_from_module(struct memory *memory, struct hpa start, u64 pages) {
    *memory = (struct memory){0};
    object_init(&memory->object, OBJECT_MEMORY);
    memory->pages = memory->clean = pages;
    memory->more = kpage_alloc(0);
    assert(memory->more);
    /* A module is one contiguous run: extents of any order, aligned or not, describe it. */
    struct cursor cursor = cursor_start(memory);
    while (pages > 0) {
        unsigned order = largest_order(pages);
        *cursor_next(&cursor) = extent_make(start, order);
        start.v += (u64)PAGE_SIZE << order;
        pages -= 1ull << order;
    }
}

void memory_destroy(struct memory *memory) {
    if (!memory->account) return; /* a boot module: its frames are not ours to free */
    struct cursor cursor = cursor_start(memory);
    for (u64 extent; (extent = cursor_read(&cursor));)
        frame_free(extent_start(extent), extent_order(extent));
    for (struct extent_page *page = memory->more; page;) {
        struct extent_page *next = page->next;
        domain_pages_free(memory->account, page, 0);
        page = next;
    }
    cell_free(memory->account, memory);
}

static void unmap_range(struct domain *domain, struct gpa start, u64 pages) {
    ept_unmap(&domain->ept, start, pages);
    vmx_flush_ept(&domain->ept); /* before a frame or a table can have a new owner */
    ept_free_tables(&domain->ept);
}

static u32 map_extents(struct mapping *m, struct cursor cursor) {
    u64 skip = m->first, done = 0;
    for (u64 extent; done < m->pages && (extent = cursor_read(&cursor));) {
        u64 size = 1ull << extent_order(extent);
        if (skip >= size) {
            skip -= size;
            continue;
        }
        /* The part of this extent, in naturally aligned blocks. */
        for (u64 at = skip; at < size && done < m->pages;) {
            unsigned order = largest_order(m->pages - done);
            while ((at & ((1ull << order) - 1)) || at + (1ull << order) > size)
                order--;
            struct gpa to = gpa(m->start.v + (done << PAGE_SHIFT));
            struct hpa from = hpa(extent_start(extent).v + (at << PAGE_SHIFT));
            if (!ept_map(&m->domain->ept, to, from, order, m->access)) {
                unmap_range(m->domain, m->start, done);
                return STATUS_NO_QUOTA;
            }
            at += 1ull << order;
            done += 1ull << order;
        }
        skip = 0;
    }
    return STATUS_OK;
}

u32 memory_map(struct domain *domain, struct memory *memory, struct cap *through, struct gpa start,
               u64 first, u64 pages, u32 access) {
    if (memory->clean != memory->pages) return STATUS_BAD_STATE;
    if (pages == 0 || first >= memory->pages || pages > memory->pages - first ||
        (start.v & (PAGE_SIZE - 1)) || start.v >= EPT_ADDRESS_LIMIT ||
        pages > (EPT_ADDRESS_LIMIT - start.v) >> PAGE_SHIFT || !(access & RIGHT_READ) ||
        (access & ~(RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)))
        return STATUS_BAD_ARGUMENT;
    if (!ept_is_free(&domain->ept, start, pages)) return STATUS_IN_USE;
    struct mapping *m = cell_alloc(domain);
    if (!m) return STATUS_NO_QUOTA;
    *m = (struct mapping){
        domain->mappings, memory->mappings, domain, memory, through, start, first, pages, access};
    u32 status = map_extents(m, cursor_start(memory));
    if (status != STATUS_OK) {
        cell_free(domain, m);
        return status;
    }
    domain->mappings = m;
    memory->mappings = m;
    return STATUS_OK;
}

static void mapping_delete(struct mapping *m) {
    unmap_range(m->domain, m->start, m->pages);
    struct mapping **link = &m->domain->mappings;
    while (*link != m)
        link = &(*link)->next_in_domain;
    *link = m->next_in_domain;
    link = &m->memory->mappings;
    while (*link != m)
        link = &(*link)->next_in_memory;
    *link = m->next_in_memory;
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

void memory_unmap_domain(struct domain *domain) {
    while (domain->mappings)
        mapping_delete(domain->mappings);
}
