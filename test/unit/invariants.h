/* What must hold of the kernel's objects at any time, looked at from outside. */
#pragma once

#include "machine.h"

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) return #condition;                                                       \
    } while (0)

static u32 references_to(const struct object *object) {
    u32 count = 0;
    for (const struct domain *d = domains; d; d = d->next)
        for (u32 slot = 0; slot < d->cap_slots; slot++)
            count += d->caps[slot].object == object;
    return count;
}

static const char *caps_wrong(const struct domain *d) {
    u32 used = 0;
    for (u32 slot = 0; slot < d->cap_slots; slot++) {
        const struct cap *cap = &d->caps[slot];
        if (!cap->object) continue;
        used++;
        REQUIRE(cap->holder == d);
        REQUIRE(cap->object->references == references_to(cap->object));
        REQUIRE(cap->parent || cap->object->origin == cap);
        REQUIRE(!cap->parent || cap->parent->object == cap->object);
        REQUIRE(!cap->parent || !(cap->rights & ~cap->parent->rights));
        REQUIRE(!cap->next || cap->next->previous == cap);
        REQUIRE(!cap->child || (cap->child->parent == cap && !cap->child->previous));
        REQUIRE(cap->object->type != OBJECT_CHANNEL || cap->end < 2);
    }
    REQUIRE(used == d->caps_used);
    return NULL;
}

/* Cells that a domain's account has given out. */
static u64 cells_used(const struct domain *d) {
    u64 cells = 0;
    for (const struct cell_page *page = d->cell_pages; page; page = page->next)
        cells += PAGE_SIZE / CELL_SIZE - 1;
    for (void *cell = d->free_cells; cell; cell = *(void **)cell)
        cells--;
    return cells;
}

static u64 tables_below(const u64 *table, unsigned level) {
    u64 tables = 1;
    for (unsigned i = 0; level && i < EPT_ENTRIES; i++)
        if (table[i] && !ept_is_leaf(table[i], level))
            tables += tables_below(ept_table(table[i]), level - 1);
    return tables;
}
static u64 tables_of(const struct ept *ept) { return tables_below(ept->root, ept->levels - 1); }

/* What a domain's account pays for, but the tables of its memory objects. */
static u64 account_pays(const struct domain *d) {
    u64 pages = 2 + (1ull << order_for(d->cap_slots * sizeof(struct cap))) + tables_of(&d->ept);
    pages += d->info ? 2 : 0;
    pages += d->io_bitmap ? 1ull << IO_BITMAP_ORDER : 0;
    for (const struct cell_page *page = d->cell_pages; page; page = page->next)
        pages++;
    for (u32 i = 0; i < MAX_VCPUS; i++)
        if (d->vcpus[i]) pages += is_vm(d->vcpus[i]) ? 4 + (1ull << xstate_order()) : 2;
    return pages;
}

static const struct domain *account_of(struct object *object) {
    switch (object->type) {
    case OBJECT_MEMORY: return memory_of(object)->account;
    case OBJECT_CHANNEL: return ((struct channel *)object)->account;
    case OBJECT_TIMER: return ((struct timer *)object)->domain;
    case OBJECT_IRQ: return ((struct irq *)object)->domain;
    default: return NULL;
    }
}

/* How many entries of memory objects' tables lead to each frame, seen from its block's first. */
static u32 led_to[ARENA_SIZE / PAGE_SIZE];
static u64 tables_of_objects; /* each once */

/* One tree: what it says of itself, by ways; and in led_to each entry of each table once. */
struct walk {
    u64 pages, tables;
    const char *wrong;
};

static const char *table_wrong(u64 *table, unsigned level, bool first, struct walk *walk) {
    walk->tables++;
    tables_of_objects += first;
    for (unsigned i = 0; i < 512; i++) {
        u64 entry = table[i], number = (entry & EPT_FRAME) >> PAGE_SHIFT;
        if (!entry) continue;
        REQUIRE((entry & 5) == 5);
        if (ept_is_leaf(entry, level)) {
            u64 end = number + (1ull << ept_order(level));
            walk->pages += end - number;
            while (number < end) {
                const struct frame *f = frame_of(hpa(number << PAGE_SHIFT));
                REQUIRE(f && f->kind == FRAME_RAM && f == &frames[number] &&
                        f->order <= ept_order(level));
                REQUIRE(!(entry & EPT_WRITE) || f->shares == 1);
                led_to[number] += first;
                number += 1ull << f->order;
            }
            continue;
        }
        REQUIRE(frames[number].kind == FRAME_KERNEL && frames[number].order == 0);
        REQUIRE(!(entry & EPT_WRITE) || frames[number].shares == 1);
        const char *wrong =
            table_wrong(ept_table(entry), level - 1, first && !led_to[number], walk);
        led_to[number] += first;
        if (wrong) return wrong;
    }
    return NULL;
}

static const char *memory_wrong(struct memory *memory) {
    u64 mappings = 0, listed = 0;
    if (memory->account) {
        struct walk walk = {0};
        REQUIRE(!led_to[hpa_of(memory->map.root).v >> PAGE_SHIFT]++);
        const char *wrong = table_wrong(memory->map.root, memory->map.levels - 1, true, &walk);
        if (wrong) return wrong;
        REQUIRE(walk.pages == memory->map.mapped && memory->clean <= memory->pages);
        REQUIRE(walk.tables == memory->map.tables);
        REQUIRE(memory->clean == memory->pages || memory->clean <= walk.pages);
        REQUIRE(memory->promised <= memory->pages);
    }
    for (const struct mapping *m = memory->mappings; m; m = m->next_in_memory)
        mappings++;
    for (const struct domain *d = domains; d; d = d->next)
        for (const struct mapping *m = d->mappings; m; m = m->next_in_domain)
            listed += m->memory == memory;
    REQUIRE(mappings == listed);
    return NULL;
}

/* The entry for a page at this level, or above; and whether the way there may be written through.
 */
static u64 way_to(const struct ept *map, u64 page, unsigned *level, bool *write) {
    u64 entry = EPT_TABLE | EPT_WRITE, *table = map->root;
    *write = true;
    for (unsigned l = map->levels - 1;; l--) {
        entry = table[ept_index(page << PAGE_SHIFT, l)];
        *write &= entry >> 1 & 1;
        if (!entry || ept_is_leaf(entry, l) || l == *level) {
            *level = l;
            return entry;
        }
        table = ept_table(entry);
    }
}

/* What a domain sees through a mapping is what the object has there now, or nothing. */
static const char *mapping_wrong(const struct mapping *m, u64 *mapped) {
    unsigned order, inner;
    u64 base = m->start.v >> PAGE_SHIFT;
    for (u64 next, at = 0; at < m->pages; at = next) {
        struct gpa address = gpa(m->start.v + (at << PAGE_SHIFT));
        u64 entry = *ept_entry(&m->domain->ept, address, &order);
        if (entry) *mapped += 1ull << order;
        if (entry & EPT_LINK) { /* to the very table that the object has there */
            unsigned level = order / 9;
            bool write;
            u64 there = way_to(&m->memory->map, m->first + at, &level, &write);
            REQUIRE(level == order / 9 && !((there ^ entry) & EPT_FRAME));
            REQUIRE(write || !(entry & EPT_WRITE));
        }
        /* An empty entry may begin before the mapping. */
        next = ((base + at) | ((1ull << order) - 1)) + 1 - base;
        for (u64 page = at; page < next && page < m->pages; page++) {
            u64 seen = ept_lookup(&m->domain->ept, gpa(m->start.v + (page << PAGE_SHIFT)), &inner);
            u64 frame = m->memory->base.v + ((m->first + page) << PAGE_SHIFT);
            if (!seen) continue;
            REQUIRE((seen & 5) == (ept_access(m->access) & 5));
            REQUIRE(!(seen & EPT_WRITE) || (m->access & RIGHT_WRITE));
            REQUIRE(m->memory->account ||
                    (seen & EPT_WRITE) == (ept_access(m->access) & EPT_WRITE));
            bool write = seen & EPT_WRITE;
            seen = (seen & EPT_FRAME) + ((m->start.v >> PAGE_SHIFT) + page) % (1u << inner) * 4096;
            if (m->memory->account) {
                struct gpa inside = gpa((m->first + page) << PAGE_SHIFT);
                unsigned level = 0;
                frame = ept_lookup(&m->memory->map, inside, &inner);
                bool may;
                REQUIRE(frame && way_to(&m->memory->map, m->first + page, &level, &may));
                REQUIRE(!write || may);
                frame = (frame & EPT_FRAME) + (m->first + page) % (1u << inner) * 4096;
            }
            REQUIRE(seen == frame);
        }
    }
    return NULL;
}

static bool overlap(const struct mapping *a, const struct mapping *b) {
    return a->start.v < b->start.v + (b->pages << PAGE_SHIFT) &&
           b->start.v < a->start.v + (a->pages << PAGE_SHIFT);
}

static const char *mappings_wrong(struct domain *d) {
    u64 pages = d->info ? 2 : 0;
    for (const struct mapping *m = d->mappings; m; m = m->next_in_domain) {
        REQUIRE(m->domain == d);
        REQUIRE(!m->through || m->through->object == &m->memory->object);
        for (const struct mapping *n = m->next_in_domain; n; n = n->next_in_domain)
            REQUIRE(!overlap(m, n));
        const char *wrong = mapping_wrong(m, &pages);
        if (wrong) return wrong;
    }
    for (u32 i = 0; d->vm && i < MAX_VCPUS; i++)
        pages += d->vm->vcpus[i] != NULL;
    REQUIRE(pages == d->ept.mapped);
    return NULL;
}

static bool is_in_inbox(const struct vcpu *wanted) {
    const struct vcpu *v = wanted->home->inbox;
    while (v && v != wanted)
        v = v->inbox_next;
    return v;
}

static const char *schedule_wrong(void) {
    for (const struct cpu *cpu = cpus; cpu < cpus + HOST_CPUS; cpu++) {
        const struct vcpu *last = NULL;
        for (const struct vcpu *v = cpu->queue; v; last = v, v = v->queue_next) {
            REQUIRE(v->queued && v->home == cpu && vcpu_runnable(v) && v != cpu->current &&
                    v != cpu->next && !v->throttled && v->ready_since);
            REQUIRE(!last || !queue_before(&v->share, &last->share));
        }
        const struct core *core = cpu->core;
        u32 tenant = cpu->current ? cpu->current->domain->tenant : 0;
        REQUIRE(!core || !core->taken);
        REQUIRE(!core || !tenant || (cpu->in_core && core->tenant == tenant));
        u64 before = 0;
        for (const struct timeout *t = cpu->timeouts; t; before = t->deadline, t = t->next)
            REQUIRE(t->armed && t->cpu == cpu && t->deadline >= before);
        REQUIRE(!cpu->reading);
    }
    REQUIRE(!taken);
    u32 load = 0;
    /* Who is ready runs, or waits for it where it is found. */
    for (const struct domain *d = domains; d; d = d->next)
        for (u32 i = 0; i < MAX_VCPUS; i++) {
            const struct vcpu *v = d->vcpus[i];
            REQUIRE(!v || !vcpu_runnable(v) || v->queued || v == v->home->current ||
                    v == v->home->next || is_in_inbox(v) || (v->throttled && v->replenish.armed));
            REQUIRE(!v || !v->throttled || (v->ready_since && vcpu_runnable(v)));
            REQUIRE(!v || !vcpu_runnable(v) || home_allows(v, v->home));
            REQUIRE(!v || v->share.class != CLASS_DEDICATED ||
                    cpus[__builtin_ctzll(v->share.cpus)].dedicated == v);
            load += v ? load_of(v) : 0;
        }
    for (unsigned i = 0; i < HOST_CPUS; i++)
        load -= cpus[i].load;
    REQUIRE(load == 0);
    return NULL;
}

/* NULL, or what does not hold. `fixed` is what the kernel itself and modules take of the frames. */
static const char *kernel_wrong(u64 fixed) {
    u64 reserved = 0, memory_pages = 0, kernel_pages = 0, tables = 0, promised = 0;
    memset(led_to, 0, sizeof(led_to));
    tables_of_objects = 0;
    for (struct domain *d = domains; d; d = d->next) {
        const char *wrong = caps_wrong(d);
        wrong = wrong ? wrong : mappings_wrong(d);
        if (wrong) return wrong;
        REQUIRE(d->kernel_pages <= d->kernel_quota);
        REQUIRE(!d->vm || d->vm->model == d);
        REQUIRE(!d->model || d->model->vm == d);
        reserved += d->kernel_quota - d->kernel_pages;
        kernel_pages += d->kernel_pages;
        u64 cells = 0, paid = account_pays(d);
        for (const struct mapping *m = d->mappings; m; m = m->next_in_domain)
            cells++;
        for (struct domain *e = domains; e; e = e->next)
            for (u32 slot = 0; slot < e->cap_slots; slot++) {
                struct object *object = e->caps[slot].object;
                if (object && !e->caps[slot].parent && account_of(object) == d) {
                    cells++;
                    if (object->type != OBJECT_MEMORY) continue;
                    paid += memory_of(object)->map.tables;
                    wrong = memory_wrong(memory_of(object));
                    if (wrong) return wrong;
                    tables += memory_of(object)->map.tables;
                    promised += memory_of(object)->promised;
                }
            }
        if (d == control_domain) { /* its RAM has no capability, nor have its images */
            struct memory *ram = mapping_at(d, gpa(GPA_RAM))->memory;
            struct memory *held[] = {images.current, images.before, ram};
            for (unsigned i = 0; i < 3; i++) {
                if (held[i] == images.booted) continue;
                cells++;
                paid += held[i]->map.tables;
                wrong = memory_wrong(held[i]);
                if (wrong) return wrong;
                tables += held[i]->map.tables;
                promised += held[i]->promised;
            }
        }
        REQUIRE(cells == cells_used(d));
        REQUIRE(paid == d->kernel_pages);
    }
    /* Charged as if nothing were shared. */
    REQUIRE(reserved + tables - tables_of_objects == kernel_pages_reserved);
    REQUIRE(frame_kernel_count() == fixed + kernel_pages - (tables - tables_of_objects));
    REQUIRE(promised == pages_promised);
    for (u64 number = 0; number < frame_limit; number++) {
        const struct frame *f = &frames[number];
        if (led_to[number]) REQUIRE(f->shares == led_to[number]);
        if (f->kind == FRAME_RAM || f->kind == FRAME_FREE || f->kind == FRAME_CLEAN) {
            u64 border = ~0ull;
            REQUIRE(f->node == node_at(&acpi, number, &border));
            REQUIRE(number + (1ull << f->order) <= border);
        }
        if (f->kind != FRAME_RAM) continue;
        REQUIRE(led_to[number]);
        memory_pages += 1ull << f->order;
    }
    REQUIRE(frame_total_count() ==
            frame_free_count() + frame_kernel_count() + memory_pages + (MODULE_SIZE + 4095) / 4096);
    REQUIRE(windows_open == 0);
    return schedule_wrong();
}

/* The frames of the kernel that belong to no domain. */
static u64 fixed_frames(void) {
    u64 pages = frame_kernel_count();
    for (const struct domain *d = domains; d; d = d->next)
        pages -= d->kernel_pages;
    return pages;
}
