/* What must hold of the kernel's objects at any time, looked at from outside. */
#pragma once

#include "machine.h"

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return #condition;                                                                     \
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
        if (!cap->object)
            continue;
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
    struct cursor cursor = cursor_start(memory);
    for (u64 extent; (extent = cursor_read(&cursor));) {
        REQUIRE(!memory->account || frame_kind(extent_start(extent)) == FRAME_RAM);
        sum += 1ull << extent_order(extent);
    }
    REQUIRE(sum == memory->pages && memory->clean <= memory->pages);
    for (const struct mapping *m = memory->mappings; m; m = m->next_in_memory)
        mappings++;
    for (const struct domain *d = domains; d; d = d->next)
        for (const struct mapping *m = d->mappings; m; m = m->next_in_domain)
            listed += m->memory == memory;
    REQUIRE(mappings == listed);
    *pages += memory->account ? sum : 0;
    return NULL;
}

static const char *mappings_wrong(struct domain *d) {
    u64 pages = d->info ? 2 : 0;
    for (const struct mapping *m = d->mappings; m; m = m->next_in_domain) {
        unsigned order;
        u64 last = m->start.v + ((m->pages - 1) << PAGE_SHIFT);
        REQUIRE(m->domain == d);
        REQUIRE(!m->through || m->through->object == &m->memory->object);
        REQUIRE((ept_lookup(&d->ept, m->start, &order) & 7) == m->access);
        REQUIRE((ept_lookup(&d->ept, gpa(last), &order) & 7) == m->access);
        pages += m->pages;
    }
    for (u32 i = 0; d->vm && i < MAX_VCPUS; i++)
        pages += d->vm->vcpus[i] != NULL;
    REQUIRE(pages == d->ept.mapped);
    return NULL;
}

static const char *schedule_wrong(void) {
    const struct vcpu *last = NULL;
    for (const struct vcpu *v = host_cpu.queue; v; last = v, v = v->queue_next)
        REQUIRE(v->queued && vcpu_runnable(v) && v != host_cpu.current && v != host_cpu.next);
    REQUIRE(host_cpu.queue_last == last);
    u64 before = 0;
    for (const struct timeout *t = host_cpu.timeouts; t; before = t->deadline, t = t->next)
        REQUIRE(t->armed && t->deadline >= before);
    /* Who is ready runs, or waits for it where it is found. */
    for (const struct domain *d = domains; d; d = d->next)
        for (u32 i = 0; i < MAX_VCPUS; i++) {
            const struct vcpu *v = d->vcpus[i];
            REQUIRE(!v || !vcpu_runnable(v) || v->queued || v == host_cpu.current ||
                    v == host_cpu.next);
        }
    return NULL;
}

/* NULL, or what does not hold. `fixed` is what the kernel itself and modules take of the frames. */
static const char *kernel_wrong(u64 fixed) {
    u64 reserved = 0, memory_pages = 0, kernel_pages = 0;
    for (struct domain *d = domains; d; d = d->next) {
        const char *wrong = caps_wrong(d);
        wrong = wrong ? wrong : mappings_wrong(d);
        if (wrong)
            return wrong;
        REQUIRE(d->kernel_pages <= d->kernel_quota);
        REQUIRE(!d->vm || d->vm->model == d);
        REQUIRE(!d->model || d->model->vm == d);
        reserved += d->kernel_quota - d->kernel_pages;
        kernel_pages += d->kernel_pages;
        u64 cells = 0;
        for (const struct mapping *m = d->mappings; m; m = m->next_in_domain)
            cells++;
        for (struct domain *e = domains; e; e = e->next)
            for (u32 slot = 0; slot < e->cap_slots; slot++) {
                struct object *object = e->caps[slot].object;
                if (object && !e->caps[slot].parent && account_of(object) == d) {
                    cells++;
                    wrong = object->type == OBJECT_MEMORY
                                ? memory_wrong(memory_of(object), &memory_pages)
                                : NULL;
                    if (wrong)
                        return wrong;
                }
            }
        if (d == control_domain) { /* its RAM has no capability */
            cells++;
            memory_pages += CONTROL_RAM >> PAGE_SHIFT;
        }
        REQUIRE(cells == cells_used(d));
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
