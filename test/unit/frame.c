// with:
/* The frame table and both buddy allocators, on a machine made of one anonymous mapping. */
#include <sys/mman.h>

#include "unit.h"

#include "../../kernel/frame.c"

#define ARENA_SIZE   (256 * MIB)
#define IMAGE_START  MIB
#define IMAGE_SIZE   (300 * KIB)
#define MODULE_START (5 * MIB)
#define MODULE_SIZE  (3 * MIB + 5)

static u8 *arena;
static bool chunk_mapped[ARENA_SIZE / (2 * MIB)];
static unsigned windows_open;

/* The kernel's side of memory, which paging.c does for it. */
struct hpa hpa_of(const void *pointer) {
    return hpa((u64)((const u8 *)pointer - arena));
}
void *pool_pointer(struct hpa address) { return arena + address.v; }
struct boot_region image_region(void) {
    return (struct boot_region){hpa(IMAGE_START), IMAGE_SIZE};
}
void physmap_map(struct hpa block) { chunk_mapped[block.v / (2 * MIB)] = true; }
void physmap_prepare(struct hpa start, u64 size) {
    struct hpa frame;
    (void)start, (void)size;
    if (!frame_alloc(0, OWNER_KERNEL, 0, &frame, NULL)) panic("no frame for a page table");
}
void *window_map(struct hpa address) {
    windows_open++;
    return arena + address.v;
}
void window_unmap(void *pointer) {
    (void)pointer;
    windows_open--;
}
void *window_map_2m(struct hpa block) {
    windows_open++;
    return arena + block.v;
}
void window_unmap_2m(void) { windows_open--; }

static const struct boot_info machine = {
    .region_count = 3,
    .regions = {{{0}, 636 * KIB}, {{MIB}, 99 * MIB}, {{128 * MIB}, 128 * MIB}},
    .module_count = 1,
    .modules = {{{MODULE_START}, MODULE_SIZE, "control"}},
};
#define MACHINE_FRAMES ((99 * MIB + 128 * MIB) / PAGE_SIZE)

static struct acpi_info nodes = {.node_count = 1};

/* By SRAT, the node of a frame. */
static unsigned node_of(u64 number) {
    for (u32 i = 0; i < nodes.range_count; i++)
        if (number >= nodes.ranges[i].start.v >> PAGE_SHIFT &&
            number < nodes.ranges[i].end.v >> PAGE_SHIFT)
            return nodes.ranges[i].node;
    return 0;
}

static void reset(void) {
    memset(arena, 0xa5, ARENA_SIZE);
    memset(chunk_mapped, 0, sizeof(chunk_mapped));
    memset(pool.heads, 0, sizeof(pool.heads));
    pool.free = pool_total = total = kernel_own = frame_limit = 0;
    early_next = early_end = hpa(0);
    frames = NULL;
    frame_init(&machine, &nodes);
}

static bool usable(u64 address) {
    return (address >= MIB && address < 100 * MIB) || (address >= 128 * MIB && address < 256 * MIB);
}

/* Every free block is aligned, usable, in one list only, and the lists add up to the count. */
static bool zone_sound(const struct zone *zone) {
    static u8 seen[ARENA_SIZE / PAGE_SIZE];
    u64 count = 0;
    memset(seen, 0, sizeof(seen));
    for (unsigned order = 0; order <= zone->max_order; order++) {
        for (u32 n = zone->heads[order], previous = 0; n; previous = n, n = frames[n].next) {
            if (frames[n].kind != zone->free_kind || frames[n].order != order ||
                n & ((1u << order) - 1) || (previous && frames[n].previous != previous))
                return false;
            for (u32 i = n; i < n + (1u << order); i++)
                if (seen[i]++ || !usable((u64)i << PAGE_SHIFT) ||
                    (zone != &pool && node_of(i) != zone->node))
                    return false;
            count += 1u << order;
        }
    }
    return count == zone->free;
}

static bool sound(void) {
    bool all = zone_sound(&pool) && !windows_open;
    for (unsigned node = 0; node < MAX_NODES; node++)
        all &= zone_sound(&ram[node]) && zone_sound(&clean[node]);
    return all;
}

static void test_init(void) {
    reset();
    check(frame_total_count() == MACHINE_FRAMES, "total is the RAM above 1 MiB");
    check(frame_total_count() ==
              frame_free_count() + frame_kernel_count() + 3 * MIB / PAGE_SIZE + 1,
          "total = free + kernel + modules");
    check(sound(), "the lists are sound after init");
    check(frame_kind(hpa(MODULE_START)) == FRAME_MODULE &&
              frame_kind(hpa(MODULE_START + MODULE_SIZE)) == FRAME_MODULE,
          "first and last frame of a module are marked");
    check(frame_kind(hpa(IMAGE_START)) == FRAME_NONE && frame_kind(hpa(110 * MIB)) == FRAME_NONE,
          "image and hole are not RAM to give out");
    check(frame_kind(hpa(~0ull)) == FRAME_NONE && !frame_of(hpa(1ull << 45)),
          "an address beyond the table is no frame");
}

static void test_alloc(void) {
    reset();
    u64 before = frame_free_count();
    struct hpa block, page;
    check(frame_alloc(9, 7, 0, &block, NULL) && block.v % (2 * MIB) == 0, "2 MiB block is aligned");
    check(frame_of(hpa(block.v + 1234 * 1024))->owner == 7, "every frame of it finds its owner");
    check(frame_free_count() == before - 512, "it is gone from the free count");
    check(panics(frame_free(block, 8)), "freeing with the wrong order panics");
    check(panics(frame_free(hpa(block.v + PAGE_SIZE), 0)), "freeing an inner frame panics");
    frame_free(block, 9);
    check(panics(frame_free(block, 9)), "freeing twice panics");
    check(frame_free_count() == before && sound(), "free gives it back to the frame");
    check(!frame_alloc(18, 1, 0, &block, NULL), "no 1 GiB block on a small machine");
    check(!frame_alloc(19, 1, 0, &block, NULL), "no block of an order that does not exist");

    u64 kernel = frame_kernel_count();
    check(frame_alloc(0, OWNER_KERNEL, 0, &page, NULL) && frame_kernel_count() == kernel + 1,
          "a frame of the kernel's counts as the kernel's");
    frame_free(page, 0);
    check(frame_kernel_count() == kernel, "and no longer when it is freed");
}

static void test_scrub(void) {
    reset();
    struct hpa small, large;
    check(frame_alloc(3, 1, 0, &small, NULL) && frame_alloc(10, 1, 0, &large, NULL),
          "blocks to scrub");
    memset(arena + small.v, 1, 8 * PAGE_SIZE);
    memset(arena + large.v, 1, 4 * MIB);
    frame_scrub(small, 3);
    frame_scrub(large, 10);
    bool zero = true;
    for (u64 i = 0; i < 8 * PAGE_SIZE; i++)
        zero &= !arena[small.v + i];
    for (u64 i = 0; i < 4 * MIB; i++)
        zero &= !arena[large.v + i];
    check(zero && !windows_open, "scrubbed blocks are zero, windows closed");
}

static void test_pool(void) {
    reset();
    u64 before = frame_free_count(), kernel = frame_kernel_count();
    enum { COUNT = 3000 };
    static void *pages[COUNT];
    static unsigned orders[COUNT];
    bool zero = true, mapped = true;
    for (unsigned i = 0; i < COUNT; i++) {
        orders[i] = (unsigned)(unit_random() % 4);
        pages[i] = kpage_alloc(orders[i]);
        u64 size = PAGE_SIZE << orders[i];
        for (u64 b = 0; pages[i] && b < size; b += 8)
            zero &= *(u64 *)((u8 *)pages[i] + b) == 0;
        mapped &= chunk_mapped[hpa_of(pages[i]).v / (2 * MIB)];
        memset(pages[i], 0xff, size);
    }
    check(zero, "pool pages come zeroed");
    check(mapped, "pool pages lie in mapped chunks");
    check(sound(), "the lists are sound with the pool in use");
    check(panics(kpage_free(pages[0], orders[0] + 1)), "kpage_free with the wrong order panics");
    check(panics(frame_free(hpa_of(pages[0]), orders[0])), "frame_free of a pool page panics");
    for (unsigned i = 0; i < COUNT; i++)
        kpage_free(pages[i], orders[i]);
    check(frame_free_count() == before && frame_kernel_count() == kernel,
          "the pool's pages are back to the frame");
    check(sound(), "the lists are sound afterwards");
    void *chunk = kpage_alloc(9);
    check(chunk && hpa_of(chunk).v % (2 * MIB) == 0, "a whole chunk can be had");
    check(!kpage_alloc(10), "more than a chunk cannot");
}

static void test_exhaustion(void) {
    reset();
    u64 before = frame_free_count();
    static struct hpa blocks[MACHINE_FRAMES];
    u64 count = 0, kernel_pages = 0;
    while (frame_alloc(0, 9, 0, &blocks[count], NULL))
        count++;
    while (kpage_alloc(0))
        kernel_pages++;
    check(count + kernel_pages == before && frame_free_count() == 0,
          "every free frame can be had, no more");
    for (u64 i = 0; i < count; i++)
        frame_free(blocks[i], 0);
    check(frame_free_count() == count && sound(), "and all come back");
    unsigned largest = 0;
    for (unsigned order = 0; order <= FRAME_MAX_ORDER; order++)
        if (ram[0].heads[order]) largest = order;
    check(largest == 15, "merged into the largest blocks");
}

/* Random allocations beside a shadow map of who owns each frame. */
static void test_random(void) {
    reset();
    enum { SLOTS = 400, ROUNDS = 40000 };
    static struct {
        struct hpa block;
        unsigned order;
        bool used;
    } slots[SLOTS];
    static u8 owned[ARENA_SIZE / PAGE_SIZE];
    memset(slots, 0, sizeof(slots));
    memset(owned, 0, sizeof(owned));
    u64 before = frame_free_count(), used = 0;
    bool exact = true, exclusive = true;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned s = (unsigned)(unit_random() % SLOTS);
        unsigned order = slots[s].used ? slots[s].order : (unsigned)(unit_random() % 11);
        if (slots[s].used)
            frame_free(slots[s].block, order);
        else if (!frame_alloc(order, s + 1, s % MAX_NODES, &slots[s].block, NULL))
            continue;
        slots[s].used = !slots[s].used;
        slots[s].order = order;
        used += slots[s].used ? 1u << order : -(1ull << order);
        for (u64 i = 0; i < 1u << order; i++) {
            u8 *owner = &owned[(slots[s].block.v >> PAGE_SHIFT) + i];
            exclusive &= *owner != slots[s].used;
            *owner = slots[s].used;
        }
        exact &= frame_free_count() == before - used;
    }
    check(exclusive, "no frame has two owners");
    check(exact, "the free count is right at every step");
    check(sound(), "the lists are sound after 40,000 steps");
}

static bool all_zero(struct hpa block, unsigned order) {
    for (u64 i = 0; i < (u64)PAGE_SIZE << order; i++)
        if (arena[block.v + i]) return false;
    return true;
}

/* Everything is 0xa5 at first: what is said to be clean must have been zeroed. */
static void test_clean(void) {
    reset();
    u64 before = frame_free_count();
    struct hpa block, other;
    bool is_clean = true;
    check(frame_alloc(4, 1, 0, &block, &is_clean) && !is_clean, "nothing is clean at first");
    for (unsigned i = 0; i < 100; i++)
        (void)frame_clean();
    check(frame_clean_count() == 100 && sound(), "some frames have been cleaned");
    check(frame_alloc(4, 1, 0, &other, &is_clean) && is_clean && all_zero(other, 4),
          "a clean block is preferred where one is wanted, and is zero");
    memset(arena + other.v, 1, 16 * PAGE_SIZE);
    frame_free(other, 4);
    check(frame_alloc(4, 1, 0, &other, NULL) && frame_clean_count() == 84,
          "and spared where contents do not matter");
    frame_free(other, 4);
    frame_free(block, 4);
    while (frame_clean())
        ;
    check(frame_clean_count() + pool.free == before && frame_free_count() == before && sound(),
          "all that is free can be cleaned");
    u64 taken = 0, largest = 0;
    bool zero = true;
    for (unsigned order = 15; order + 1 > 0; order--)
        while (frame_alloc(order, 2, 0, &block, &is_clean)) {
            zero &= is_clean && all_zero(block, order);
            taken += 1u << order;
            largest = order > largest ? order : largest;
            if (order == 0) break;
        }
    check(zero && largest == 15, "it is zero, and merged into the largest blocks");
    check(taken > before * 9 / 10, "most of it was looked at");
}

static void test_split(void) {
    reset();
    u64 before = frame_free_count();
    struct hpa block;
    check(frame_alloc(9, 5, 0, &block, NULL), "a block to split");
    frame_split(block, 9, 0);
    struct hpa inner = hpa(block.v + 77 * PAGE_SIZE);
    check(frame_of(inner)->owner == 5 && frame_kind(inner) == FRAME_RAM, "its parts are blocks");
    check(panics(frame_free(block, 9)), "it is none any more");
    for (u64 i = 0; i < 512; i += 2)
        frame_free(hpa(block.v + i * PAGE_SIZE), 0);
    check(sound() && frame_free_count() == before - 256, "half of them can be freed");
    for (u64 i = 1; i < 512; i += 2)
        frame_free(hpa(block.v + i * PAGE_SIZE), 0);
    check(sound() && frame_free_count() == before && frame_alloc(15, 1, 0, &block, NULL),
          "and with the rest they are whole again");
}

static void test_shares(void) {
    reset();
    u64 before = frame_free_count();
    struct hpa block, copy;
    check(frame_alloc(9, 5, 0, &block, NULL) && !frame_is_shared(block, 9),
          "a block of one sharer");
    frame_share(block, 9);
    check(frame_is_shared(block, 9), "and of two");
    frame_split(block, 9, 0);
    check(frame_of(hpa(block.v + PAGE_SIZE))->shares == 2, "its parts have as many");
    for (u64 i = 0; i < 511; i++)
        frame_drop(hpa(block.v + i * PAGE_SIZE), 0);
    check(frame_is_shared(block, 9) && !frame_is_shared(block, 8) &&
              frame_free_count() == before - 512,
          "one part after the other is let go by one of them");
    frame_share(block, 9);
    frame_drop(block, 9);
    check(frame_is_shared(block, 9), "a range is shared and let go whatever its blocks are");
    frame_drop(block, 9);
    check(frame_free_count() == before - 1 && sound(), "the other one frees all but one");
    frame_drop(hpa(block.v + 511 * PAGE_SIZE), 0);
    check(frame_free_count() == before && sound(), "the last one that");
    check(frame_alloc(9, 5, 0, &block, NULL) && panics(frame_drop(hpa(block.v + PAGE_SIZE), 0)),
          "a part of a block cannot be dropped");
    check(frame_alloc(0, 5, 0, &copy, NULL), "a frame");
    memset(arena + block.v, 0x11, PAGE_SIZE);
    frame_copy(copy, block);
    check(!memcmp(arena + copy.v, arena + block.v, PAGE_SIZE) && !windows_open, "is a copy");

    u64 all = frame_node_free(0), spare = pool.free;
    check(frame_has(all, spare) && !frame_has(all + 1, 0) && !frame_has(all, spare + 1) &&
              frame_has(all - 1, spare + 1),
          "what the pool has serves the kernel first, and nobody else");
}

/* Three nodes, with borders within blocks, ranges out of order and one over another, and a range
   that is no range; RAM behind the last is the first node's. */
static void three_nodes(void) {
    nodes = (struct acpi_info){.node_count = 3,
                               .range_count = 6,
                               .ranges = {{{200 * MIB + 5}, {201 * MIB + PAGE_SIZE}, 1},
                                          {{0}, {40 * MIB}, 0},
                                          {{130 * MIB}, {130 * MIB}, 2},
                                          {{39 * MIB}, {130 * MIB + 3 * PAGE_SIZE}, 1},
                                          {{130 * MIB}, {210 * MIB}, 2},
                                          {{90 * MIB}, {80 * MIB}, 2}}};
}

static void test_nodes(void) {
    three_nodes();
    reset();
    u64 before = frame_free_count(), sum = pool.free;
    for (unsigned node = 0; node < frame_nodes(); node++)
        sum += frame_node_free(node);
    check(sound() && sum == before && frame_nodes() == 3, "every free frame is its node's");
    static struct hpa blocks[MACHINE_FRAMES];
    u64 count = 0, own = frame_node_free(1), left = frame_node_free(0) + frame_node_free(2);
    bool right = true;
    for (; count < own; count++)
        right &= frame_alloc(0, 9, 1, &blocks[count], NULL) &&
                 node_of(blocks[count].v >> PAGE_SHIFT) == 1;
    check(right && !frame_node_free(1), "all of a node's frames before those of others");
    check(frame_alloc(0, 9, 1, &blocks[count], NULL) &&
              node_of(blocks[count].v >> PAGE_SHIFT) == 2 && frame_has(left - 1, 0) &&
              !frame_has(left, pool.free),
          "then those of the next");
    for (u64 i = 0; i <= count; i++)
        frame_free(blocks[i], 0);
    check(sound() && frame_free_count() == before && frame_node_free(1) == own,
          "each goes back to its own");
    struct hpa block;
    check(frame_alloc(9, 9, 7, &block, NULL) && !node_of(block.v >> PAGE_SHIFT),
          "a node that there is not is the first");
    frame_free(block, 9);
    for (unsigned i = 0; i < 20000; i++)
        (void)frame_clean();
    check(sound() && frame_clean_count() == 20000 && frame_free_count() == before,
          "cleaned frames stay with their nodes");
    check(!frame_alloc(15, 9, 1, &block, NULL) && frame_alloc(9, 9, 1, &block, NULL) &&
              node_of(block.v >> PAGE_SHIFT) == 1,
          "2 MiB of the node before more of another");
    frame_free(block, 9);
    test_random();
    nodes.node_count = 1;
    nodes.range_count = 0;
}

int main(void) {
    arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) return 1;
    test_init();
    test_alloc();
    test_scrub();
    test_pool();
    test_exhaustion();
    test_random();
    test_clean();
    test_split();
    test_shares();
    test_nodes();
    return unit_result();
}
