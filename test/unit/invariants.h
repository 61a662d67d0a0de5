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
    for (unsigned i = 0; level && i < ENTRIES; i++)
        if (table[i] && !is_leaf(table[i], level))
            tables += tables_below(table_of(table[i]), level - 1);
    return tables;
}
static u64 tables_of(const struct ept *ept) { return tables_below(ept->root, ept->levels - 1); }

/* What a domain's account pays for, but the tables of its memory objects. */
static u64 paid_by(const struct domain *d) {
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

static const char *memory_wrong(struct memory *memory, u64 *pages) {
    u64 sum = 0, mappings = 0, listed = 0;
    unsigned order;
    for (u64 page = 0; memory->account && page < memory->pages; page += 1ull << order) {
        u64 entry = *ept_entry(&memory->map, gpa(page << PAGE_SHIFT), &order);
        const struct frame *frame = entry ? frame_of(hpa(entry & EPT_FRAME)) : NULL;
        REQUIRE(!entry || ((entry & 7) == 7 && frame->kind == FRAME_RAM && frame->order == order));
        sum += entry ? 1ull << order : 0;
    }
    REQUIRE(sum == memory->map.mapped && memory->clean <= memory->pages);
    REQUIRE(!memory->account || memory->clean == memory->pages || memory->clean <= sum);
    for (const struct mapping *m = memory->mappings; m; m = m->next_in_memory)
        mappings++;
    for (const struct domain *d = domains; d; d = d->next)
        for (const struct mapping *m = d->mappings; m; m = m->next_in_domain)
            listed += m->memory == memory;
    REQUIRE(mappings == listed);
    *pages += sum;
    return NULL;
}

/* What a domain sees through a mapping is what the object has there now, or nothing. */
static const char *mapping_wrong(const struct mapping *m, u64 *mapped) {
    unsigned order, inner;
    for (u64 next, at = 0; at < m->pages; at = next) {
        struct gpa address = gpa(m->start.v + (at << PAGE_SHIFT));
        if (*ept_entry(&m->domain->ept, address, &order)) *mapped += 1ull << order;
        /* An empty entry may begin before the mapping. */
        next = (next_at(address.v, order / 9) - m->start.v) >> PAGE_SHIFT;
        for (u64 page = at; page < next && page < m->pages; page++) {
            u64 seen = ept_lookup(&m->domain->ept, gpa(m->start.v + (page << PAGE_SHIFT)), &inner);
            u64 frame = m->memory->base.v + ((m->first + page) << PAGE_SHIFT);
            if (!seen) continue;
            REQUIRE((seen & 7) == (ept_access(m->access) & 7));
            seen = (seen & EPT_FRAME) + ((m->start.v >> PAGE_SHIFT) + page) % (1u << inner) * 4096;
            if (m->memory->account) {
                struct gpa inside = gpa((m->first + page) << PAGE_SHIFT);
                frame = ept_lookup(&m->memory->map, inside, &inner);
                REQUIRE(frame);
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
    u64 reserved = 0, memory_pages = 0, kernel_pages = 0;
    for (struct domain *d = domains; d; d = d->next) {
        const char *wrong = caps_wrong(d);
        wrong = wrong ? wrong : mappings_wrong(d);
        if (wrong) return wrong;
        REQUIRE(d->kernel_pages <= d->kernel_quota);
        REQUIRE(!d->vm || d->vm->model == d);
        REQUIRE(!d->model || d->model->vm == d);
        reserved += d->kernel_quota - d->kernel_pages;
        kernel_pages += d->kernel_pages;
        u64 cells = 0, paid = paid_by(d);
        for (const struct mapping *m = d->mappings; m; m = m->next_in_domain)
            cells++;
        for (struct domain *e = domains; e; e = e->next)
            for (u32 slot = 0; slot < e->cap_slots; slot++) {
                struct object *object = e->caps[slot].object;
                if (object && !e->caps[slot].parent && account_of(object) == d) {
                    cells++;
                    if (object->type != OBJECT_MEMORY) continue;
                    paid += tables_of(&memory_of(object)->map);
                    wrong = memory_wrong(memory_of(object), &memory_pages);
                    if (wrong) return wrong;
                }
            }
        if (d == control_domain) { /* its RAM has no capability, nor have its images */
            cells++;
            memory_pages += CONTROL_RAM >> PAGE_SHIFT;
            paid += tables_of(&mapping_at(d, gpa(GPA_RAM))->memory->map);
            struct memory *held[] = {images.current, images.before};
            for (unsigned i = 0; i < 2; i++) {
                if (held[i] == images.booted) continue;
                cells++;
                paid += tables_of(&held[i]->map);
                wrong = memory_wrong(held[i], &memory_pages);
                if (wrong) return wrong;
            }
        }
        REQUIRE(cells == cells_used(d));
        REQUIRE(paid == d->kernel_pages);
    }
    REQUIRE(reserved == kernel_pages_reserved);
    REQUIRE(frame_kernel_count() == fixed + kernel_pages);
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
