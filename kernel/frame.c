/* The frame table, and two buddy allocators over it. No instruction of the machine is used here, so
   that the tests run it as it is. */
#include "frame.h"

#include "acpi.h"
#include "log.h"

#define LOW_MEMORY   MIB /* below it: firmware, the VGA, the start of other CPUs */
#define EARLY_FRAMES 16u /* for the page tables of the frame table itself: enough for 4 TiB */
#define MAX_TAKEN    (MAX_MODULES + 4)

struct zone {
    u8 free_kind, node;
    unsigned max_order;
    u64 free;                       /* frames */
    u32 heads[FRAME_MAX_ORDER + 1]; /* first free block of each order, 0: none */
};

/* Of each NUMA node; a block has frames of one only. */
static struct zone ram[MAX_NODES], clean[MAX_NODES];
static unsigned node_count;
static struct zone pool = {.free_kind = FRAME_POOL_FREE, .max_order = POOL_MAX_ORDER};

static struct frame *frames;  /* by frame number */
static u64 frame_limit;       /* of the table */
static u64 total, kernel_own; /* frames; kernel_own: all of the kernel's but what the pool holds */
static u64 pool_total;

/* Until the RAM zone is filled, frame_alloc hands these out. */
static struct hpa early_next, early_end;

static u32 frame_number(struct hpa address) { return (u32)(address.v >> PAGE_SHIFT); }
static struct hpa frame_address(u64 number) { return hpa(number << PAGE_SHIFT); }

static void list_push(struct zone *zone, u32 number, unsigned order) {
    u32 next = zone->heads[order];
    frames[number] = (struct frame){
        .next = next, .kind = zone->free_kind, .order = (u8)order, .node = zone->node};
    if (next) frames[next].previous = number;
    zone->heads[order] = number;
}

static void list_remove(struct zone *zone, u32 number) {
    struct frame *f = &frames[number];
    if (f->previous)
        frames[f->previous].next = f->next;
    else
        zone->heads[f->order] = f->next;
    if (f->next) frames[f->next].previous = f->previous;
    f->kind = FRAME_NONE;
}

/* 0: there is none. */
static u32 zone_take(struct zone *zone, unsigned order) {
    unsigned from = order;
    while (from <= zone->max_order && !zone->heads[from])
        from++;
    if (from > zone->max_order) return 0;
    u32 number = zone->heads[from];
    list_remove(zone, number);
    while (from > order) {
        from--;
        list_push(zone, number + (1u << from), from);
    }
    zone->free -= 1ull << order;
    return number;
}

static void zone_give(struct zone *zone, u32 number, unsigned order) {
    zone->free += 1ull << order;
    frames[number].kind = FRAME_NONE;
    for (; order < zone->max_order; order++) {
        u32 buddy = number ^ 1u << order;
        if (buddy >= frame_limit || frames[buddy].kind != zone->free_kind ||
            frames[buddy].order != order || frames[buddy].node != zone->node)
            break;
        list_remove(zone, buddy);
        number &= ~(1u << order);
    }
    list_push(zone, number, order);
}

/* Gives frames [number, end) in the largest aligned blocks. */
static void zone_give_range(struct zone *zone, u64 number, u64 end) {
    while (number < end) {
        unsigned order = 0;
        while (order < zone->max_order && !(number & 1ull << order) &&
               number + (2ull << order) <= end)
            order++;
        zone_give(zone, (u32)number, order);
        number += 1ull << order;
    }
}

static void block_mark(u32 number, unsigned order, enum frame_kind kind, u32 owner) {
    frames[number] = (struct frame){.owner = owner,
                                    .shares = 1,
                                    .kind = (u8)kind,
                                    .order = (u8)order,
                                    .node = frames[number].node};
}

struct frame *frame_of(struct hpa address) {
    u64 number = address.v >> PAGE_SHIFT;
    for (unsigned order = 0; order <= FRAME_MAX_ORDER && number < frame_limit; order++) {
        struct frame *head = &frames[number & ~((1ull << order) - 1)];
        if (head->kind != FRAME_NONE) return head->order >= order ? head : NULL;
    }
    return NULL;
}

enum frame_kind frame_kind(struct hpa address) {
    const struct frame *f = frame_of(address);
    return f ? (enum frame_kind)f->kind : FRAME_NONE;
}

/* Of this node, else of those behind it. Blocks of 2 MiB of the node before larger ones of others.
 */
static u32 ram_take(unsigned order, unsigned node, bool *is_clean) {
    for (unsigned i = 0; i < node_count; i++, node = (node + 1) % node_count) {
        struct zone *zone = is_clean ? &clean[node] : &ram[node];
        u32 number = zone_take(zone, order);
        if (is_clean) *is_clean = number;
        if (!number) number = zone_take(is_clean ? &ram[node] : &clean[node], order);
        if (number) return number;
        if (order > FRAME_2M_ORDER && frame_node_free(node) >= 1u << FRAME_2M_ORDER) break;
    }
    return 0;
}

bool frame_alloc(unsigned order, u32 owner, unsigned node, struct hpa *out, bool *is_clean) {
    if (order > FRAME_MAX_ORDER) return false;
    if (early_next.v < early_end.v && order == 0) {
        *out = early_next;
        early_next.v += PAGE_SIZE;
        return true;
    }
    u32 number = ram_take(order, node < node_count ? node : 0, is_clean);
    if (!number) return false;
    block_mark(number, order, FRAME_RAM, owner);
    if (owner == OWNER_KERNEL) kernel_own += 1ull << order;
    *out = frame_address(number);
    return true;
}

/* The caller is the kernel: a wrong block is its bug. */
static struct frame *block_check(struct hpa block, unsigned order, enum frame_kind kind) {
    u64 number = block.v >> PAGE_SHIFT;
    assert(number < frame_limit && block.v % PAGE_SIZE == 0);
    assert(frames[number].kind == kind && frames[number].order == order);
    return &frames[number];
}

void frame_free(struct hpa block, unsigned order) {
    struct frame *f = block_check(block, order, FRAME_RAM);
    if (f->owner == OWNER_KERNEL) kernel_own -= 1ull << order;
    zone_give(&ram[f->node], frame_number(block), order);
}

void frame_split(struct hpa block, unsigned order, unsigned into) {
    struct frame part = *block_check(block, order, FRAME_RAM);
    part.order = (u8)into;
    for (u32 i = 0; i < 1u << order; i += 1u << into)
        frames[frame_number(block) + i] = part;
}

/* The block that begins at `number`, in a range of 2^order frames. */
static struct frame *block_in(u32 number, unsigned order) {
    struct frame *f = &frames[number];
    assert(number < frame_limit && f->kind == FRAME_RAM && f->order <= order);
    return f;
}

void frame_share(struct hpa start, unsigned order) {
    u32 number = frame_number(start), end = number + (1u << order);
    while (number < end) {
        struct frame *f = block_in(number, order);
        f->shares++;
        number += 1u << f->order;
    }
}

void frame_drop(struct hpa start, unsigned order) {
    u32 number = frame_number(start), end = number + (1u << order);
    while (number < end) {
        struct frame *f = block_in(number, order);
        unsigned size = f->order;
        if (--f->shares == 0) frame_free(frame_address(number), size);
        number += 1u << size;
    }
}

bool frame_is_shared(struct hpa start, unsigned order) {
    u32 number = frame_number(start), end = number + (1u << order);
    while (number < end) {
        const struct frame *f = block_in(number, order);
        if (f->shares > 1) return true;
        number += 1u << f->order;
    }
    return false;
}

bool frame_clean(void) {
    for (unsigned node = 0; node < node_count; node++) {
        u32 number = zone_take(&ram[node], 0);
        if (!number) continue;
        frame_scrub(frame_address(number), 0);
        zone_give(&clean[node], number, 0);
        return true;
    }
    return false;
}

void frame_scrub(struct hpa block, unsigned order) {
    u64 end = block.v + ((u64)PAGE_SIZE << order);
    if (order >= FRAME_2M_ORDER) {
        for (; block.v < end; block.v += 2 * MIB) {
            memset(window_map_2m(block), 0, 2 * MIB);
            window_unmap_2m();
        }
        return;
    }
    for (; block.v < end; block.v += PAGE_SIZE) {
        void *page = window_map(block);
        memset(page, 0, PAGE_SIZE);
        window_unmap(page);
    }
}

void frame_copy(struct hpa to, struct hpa from) {
    void *target = window_map(to), *source = window_map(from);
    memcpy(target, source, PAGE_SIZE);
    window_unmap(source);
    window_unmap(target);
}

static u64 ram_free(void) {
    u64 sum = 0;
    for (unsigned node = 0; node < node_count; node++)
        sum += frame_node_free(node);
    return sum;
}

bool frame_has(u64 pages, u64 pool_pages) {
    u64 more = pool_pages > pool.free ? pool_pages - pool.free : 0;
    return ram_free() >= pages + more;
}

unsigned frame_nodes(void) { return node_count; }
u64 frame_node_free(unsigned node) { return ram[node].free + clean[node].free; }
u64 frame_free_count(void) { return ram_free() + pool.free; }
u64 frame_clean_count(void) {
    u64 sum = 0;
    for (unsigned node = 0; node < node_count; node++)
        sum += clean[node].free;
    return sum;
}
u64 frame_total_count(void) { return total; }
u64 frame_kernel_count(void) { return kernel_own + pool_total - pool.free; }

/* Moves 2 MiB of RAM into the pool, for ever: chunks are never unmapped again. */
static bool pool_grow(void) {
    u32 number = ram_take(FRAME_2M_ORDER, 0, NULL);
    if (!number) return false;
    physmap_map(frame_address(number));
    pool_total += 1ull << FRAME_2M_ORDER;
    zone_give(&pool, number, FRAME_2M_ORDER);
    return true;
}

void *kpage_alloc(unsigned order) {
    if (order > POOL_MAX_ORDER) return NULL;
    u32 number = zone_take(&pool, order);
    if (!number && pool_grow()) number = zone_take(&pool, order);
    if (!number) return NULL;
    block_mark(number, order, FRAME_KERNEL, OWNER_KERNEL);
    void *pages = pool_pointer(frame_address(number));
    memset(pages, 0, (u64)PAGE_SIZE << order);
    return pages;
}

void kpage_free(void *pages, unsigned order) {
    struct hpa block = hpa_of(pages);
    (void)block_check(block, order, FRAME_KERNEL);
    zone_give(&pool, frame_number(block), order);
}

/* At boot: what of the RAM is in use already. */
struct taken {
    u64 start, end;
};
struct taken_list {
    struct taken list[MAX_TAKEN];
    unsigned count;
};

static void taken_add(struct taken_list *taken, u64 start, u64 end) {
    assert(taken->count < MAX_TAKEN);
    end = (end + PAGE_SIZE - 1) & ~(u64)(PAGE_SIZE - 1);
    taken->list[taken->count++] = (struct taken){start, end};
}

/* The first range in use that ends above `at`: the one around it, or else the next; NULL: none. */
static const struct taken *taken_next(const struct taken_list *taken, u64 at) {
    const struct taken *next = NULL;
    for (unsigned i = 0; i < taken->count; i++) {
        const struct taken *t = &taken->list[i];
        if (t->end > at && (!next || t->start < next->start)) next = t;
    }
    return next;
}

/* Takes `size` bytes of RAM that nothing uses. */
static struct hpa carve(const struct boot_info *info, struct taken_list *taken, u64 size,
                        u64 align) {
    for (u32 i = 0; i < info->region_count; i++) {
        u64 at = info->regions[i].start.v, end = at + info->regions[i].size;
        for (;;) {
            at = (at + align - 1) & ~(align - 1);
            if (at >= end || end - at < size) break;
            const struct taken *t = taken_next(taken, at);
            if (!t || t->start >= at + size) {
                taken_add(taken, at, at + size);
                return hpa(at);
            }
            at = t->end;
        }
    }
    panic("no %lu KiB of RAM in one piece for the frame table", size / KIB);
}

/* The node of a frame; `end` comes down to where it may be another. */
static u8 node_at(const struct acpi_info *acpi, u64 number, u64 *end) {
    for (u32 i = 0; i < acpi->range_count; i++) {
        const struct acpi_range *range = &acpi->ranges[i];
        u64 first = range->start.v >> PAGE_SHIFT, last = range->end.v >> PAGE_SHIFT;
        bool inside = number >= first && number < last;
        u64 border = inside ? last : first;
        if (border > number && border < *end) *end = border;
        if (inside) return (u8)range->node;
    }
    return 0;
}

static void ram_give(const struct acpi_info *acpi, u64 number, u64 end) {
    for (u64 stop; number < end; number = stop) {
        stop = end;
        struct zone *zone = &ram[node_at(acpi, number, &stop)];
        zone_give_range(zone, number, stop);
    }
}

static void region_give(const struct boot_region *region, const struct taken_list *taken,
                        const struct acpi_info *acpi) {
    u64 at = region->start.v, end = at + region->size;
    while (at < end) {
        const struct taken *t = taken_next(taken, at);
        u64 stop = t && t->start < end ? t->start : end;
        if (at < stop) ram_give(acpi, at >> PAGE_SHIFT, stop >> PAGE_SHIFT);
        at = t && t->start < end ? t->end : end;
    }
}

static void modules_mark(const struct boot_info *info) {
    for (u32 i = 0; i < info->module_count; i++) {
        u64 start = info->modules[i].start.v, end = start + info->modules[i].size;
        for (u64 at = start; at < end && at >> PAGE_SHIFT < frame_limit; at += PAGE_SIZE)
            block_mark((u32)(at >> PAGE_SHIFT), 0, FRAME_MODULE, OWNER_KERNEL);
    }
}

/* RAM above LOW_MEMORY; also finds the end of the last region. */
static void ram_measure(const struct boot_info *info) {
    for (u32 i = 0; i < info->region_count; i++) {
        u64 start = info->regions[i].start.v, end = start + info->regions[i].size;
        if (end > LOW_MEMORY)
            total += (end - (start > LOW_MEMORY ? start : LOW_MEMORY)) >> PAGE_SHIFT;
        if (end >> PAGE_SHIFT > frame_limit) frame_limit = end >> PAGE_SHIFT;
    }
}

void frame_init(const struct boot_info *info, const struct acpi_info *acpi) {
    struct taken_list taken = {0};
    struct boot_region image = image_region();
    ram_measure(info);
    node_count = acpi->node_count;
    for (u8 node = 0; node < MAX_NODES; node++) {
        ram[node] = (struct zone){FRAME_FREE, node, FRAME_MAX_ORDER, 0, {0}};
        clean[node] = (struct zone){FRAME_CLEAN, node, FRAME_MAX_ORDER, 0, {0}};
    }
    taken_add(&taken, 0, LOW_MEMORY);
    taken_add(&taken, image.start.v, image.start.v + image.size);
    for (u32 i = 0; i < info->module_count; i++)
        taken_add(&taken, info->modules[i].start.v,
                  info->modules[i].start.v + info->modules[i].size);

    u64 table_size = frame_limit * sizeof(struct frame);
    u64 mapped_size = (table_size + 2 * MIB - 1) & ~(2 * MIB - 1);
    early_next = carve(info, &taken, EARLY_FRAMES * PAGE_SIZE, PAGE_SIZE);
    early_end = hpa(early_next.v + EARLY_FRAMES * PAGE_SIZE);
    struct taken *early = &taken.list[taken.count - 1];
    struct hpa table = carve(info, &taken, mapped_size, 2 * MIB);
    physmap_prepare(table, mapped_size);
    for (u64 at = 0; at < mapped_size; at += 2 * MIB)
        physmap_map(hpa(table.v + at));
    frames = pool_pointer(table);
    memset(frames, 0, table_size);

    early->end = early_next.v; /* the rest of them is free */
    early_end = early_next;
    for (u32 i = 0; i < info->region_count; i++)
        region_give(&info->regions[i], &taken, acpi);
    modules_mark(info);
    kernel_own = (image.size + (early->end - early->start) + mapped_size) >> PAGE_SHIFT;

    /* What the last chunk of the table does not need is the first of the pool. */
    u64 spare = (table.v + table_size + PAGE_SIZE - 1) >> PAGE_SHIFT;
    u64 spare_end = (table.v + mapped_size) >> PAGE_SHIFT;
    zone_give_range(&pool, spare, spare_end);
    pool_total = spare_end - spare;
    kernel_own -= pool_total;
    for (u32 i = 0; i < info->region_count; i++)
        physmap_prepare(info->regions[i].start, info->regions[i].size);
}
