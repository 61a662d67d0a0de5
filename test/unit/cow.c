// with:
/* Memory objects that share frames and tables until one of them is written to: what each domain
   sees of each, beside what it must see, with translations that a CPU keeps until it is told. */
#define ARENA_SIZE (2 * GIB) /* so that there is a page of 1 GiB */
#include "control.h"

enum { OBJECTS = 6, VIEWS = 8, PAYERS = 2, OBJECT = 100, DOMAIN = 110, PAYER = 120 };

/* The pages of an object that are looked at: around its beginning, and around 1 GiB or its end. */
enum { WINDOW = 700, PAGES = 2 * WINDOW };
static u64 object_pages, second; /* where the other window is */

static u64 page_at(u64 index) { return index < WINDOW ? index : second + index - WINDOW; }

static struct memory *memory_in(u64 slot) { return memory_of(control_domain->caps[slot].object); }

/* --- what must be seen --- */

static u8 holds[OBJECTS][PAGES][PAGE_SIZE];
static int paid_by[OBJECTS]; /* -1: nobody, there is none; PAYERS: the control domain */

static struct view {
    int object; /* -1: none */
    u64 start, first, pages;
    u32 access;
} views[VIEWS];

static struct domain *domain_of_view(unsigned v) { return domain_in(DOMAIN + v / 2); }

/* --- what a CPU keeps --- */

struct walked {
    u64 frame; /* of 4 KiB; 0: nothing */
    bool write;
    unsigned level;
    const u64 *tables[EPT_LEVELS];
};

static struct walked walk(const struct ept *ept, u64 address) {
    struct walked w = {.write = true};
    const u64 *table = ept->root;
    for (unsigned l = EPT_LEVELS - 1;; l--) {
        u64 entry = table[ept_index(address, l)];
        w.tables[l] = table;
        w.level = l;
        if (!(entry & EPT_ACCESS)) return w;
        w.write &= entry >> 1 & 1;
        if (l == 0 || (entry & EPT_LARGE)) {
            u64 inside = address & ((PAGE_SIZE << ept_order(l)) - 1);
            w.frame = ((entry & EPT_FRAME) + inside) >> PAGE_SHIFT;
            return w;
        }
        table = ept_table(entry);
    }
}

static struct walked kept[VIEWS][PAGES];

static void forget(struct ept *ept) {
    for (unsigned v = 0; v < VIEWS; v++)
        if (&domain_of_view(v)->ept == ept) memset(kept[v], 0, sizeof(kept[v]));
}

static u64 address_in(unsigned v, u64 index) {
    return views[v].start + ((page_at(index) - views[v].first) << PAGE_SHIFT);
}

static bool sees(unsigned v, u64 index) {
    return views[v].object >= 0 && page_at(index) - views[v].first < views[v].pages;
}

/* Whether what a CPU keeps is no wider than what is there now, and comes from the same tables. */
static bool kept_right(void) {
    for (unsigned v = 0; v < VIEWS; v++)
        for (u64 i = 0; i < PAGES; i++) {
            const struct walked *k = &kept[v][i];
            if (!k->frame) continue;
            if (!sees(v, i)) return false;
            struct walked w = walk(&domain_of_view(v)->ept, address_in(v, i));
            if (w.frame != k->frame || k->write > w.write) return false;
            for (unsigned l = k->level; l < EPT_LEVELS; l++)
                if (w.tables[l] != k->tables[l]) return false;
        }
    return true;
}

/* --- steps --- */

static unsigned touched, copied, diffs, clones, released;

/* The frame that a domain gets to; NULL: it is refused. */
static u8 *access_page(unsigned v, u64 index, u32 access, u32 *status) {
    struct walked *k = &kept[v][index];
    struct domain *domain = domain_of_view(v);
    struct gpa address = gpa(address_in(v, index) + unit_random() % PAGE_SIZE);
    *status = STATUS_OK;
    for (unsigned tries = 0; tries < 3; tries++) {
        if (!k->frame || (access == RIGHT_WRITE && !k->write)) *k = walk(&domain->ept, address.v);
        if (k->frame && (access == RIGHT_READ || k->write)) {
            u8 *page = arena + (k->frame << PAGE_SHIFT);
            if (unit_random() % 4 == 0) k->frame = 0;
            return page;
        }
        k->frame = 0; /* a violation drops it */
        touched++;
        u64 free = frame_free_count();
        *status = memory_touch(mapping_at(domain, address), address, access);
        copied += access == RIGHT_WRITE && frame_free_count() + 1 == free;
        if (*status != STATUS_OK) return NULL;
    }
    return NULL;
}

static int any_object(void) {
    for (unsigned tries = 0; tries < 50; tries++) {
        int o = (int)(unit_random() % OBJECTS);
        if (paid_by[o] >= 0) return o;
    }
    return -1;
}

static u64 any_index(void) {
    static u64 last;
    u64 r = unit_random() % 4;
    last = r == 0 ? last : r == 1 ? (last + 1) % PAGES : unit_random() % PAGES;
    return last;
}

static bool step_access(void) {
    unsigned v = (unsigned)(unit_random() % VIEWS);
    u64 index = any_index();
    if (!sees(v, index)) return true;
    u32 access = unit_random() % 2 ? RIGHT_WRITE : RIGHT_READ, status;
    u8 *page = access_page(v, index, access, &status);
    u8 *wanted = holds[views[v].object][index];
    if (access == RIGHT_WRITE && !(views[v].access & RIGHT_WRITE))
        return !page && status == STATUS_BAD_ARGUMENT;
    if (!page || memcmp(page, wanted, PAGE_SIZE)) return false;
    if (access == RIGHT_WRITE) {
        u64 at = unit_random() % PAGE_SIZE;
        page[at] = wanted[at] = (u8)unit_random();
    }
    return true;
}

static void view_forget(unsigned v) { views[v].object = -1; }

static void gone(int object) {
    paid_by[object] = -1;
    for (unsigned v = 0; v < VIEWS; v++)
        if (views[v].object == object) view_forget(v);
}

static bool step_clone(void) {
    int from = any_object(), to = (int)(unit_random() % OBJECTS);
    if (from < 0 || paid_by[to] >= 0) return true;
    int payer = (int)(unit_random() % (PAYERS + 1));
    u32 status = call(HC_MEM_CLONE, OBJECT + (u64)to, OBJECT + (u64)from,
                      payer < PAYERS ? PAYER + (u64)payer : 0, 8 + (u64)to);
    if (status == STATUS_NO_QUOTA) return true;
    if (status != STATUS_OK) return false;
    paid_by[to] = payer;
    memcpy(holds[to], holds[from], sizeof(holds[to]));
    clones++;
    return true;
}

static bool step_delete(void) {
    int o = any_object(), others = -1;
    for (int i = 0; i < OBJECTS; i++)
        others += paid_by[i] >= 0;
    if (o < 0 || !others) return true;
    if (unit_random() % 4 || paid_by[o] == PAYERS) {
        gone(o);
        object_delete(&memory_in(OBJECT + (u64)o)->object);
        return true;
    }
    int payer = paid_by[o], left = 0;
    for (int i = 0; i < OBJECTS; i++)
        left += paid_by[i] >= 0 && paid_by[i] != payer;
    if (!left) return true;
    for (int i = 0; i < OBJECTS; i++)
        if (paid_by[i] == payer) gone(i);
    return call(HC_DOMAIN_DESTROY, PAYER + (u64)payer) == STATUS_OK &&
           call(HC_DOMAIN_CREATE, PAYER + (u64)payer, ROLE_VM, 700, 16) == STATUS_OK;
}

static bool step_map(void) {
    unsigned v = (unsigned)(unit_random() % VIEWS);
    int o = any_object();
    if (o < 0 || views[v].object >= 0) return true;
    static const u32 rights[] = {1, 3, 3, 7, 7, 5};
    u64 whole = unit_random() % 3, shift = unit_random() % 2 ? 0 : unit_random() % 2 ? 5 : 512;
    u64 first = whole ? 0 : page_at(unit_random() % PAGES);
    u64 pages = whole ? object_pages : 1 + unit_random() % 1200;
    if (pages > object_pages - first) pages = object_pages - first;
    if (whole == 1 && object_pages < 10000) first = 512, pages -= 512; /* whole large pages of it */
    struct view view = {o, (16 + 8 * (v % 2)) * GIB + ((first + shift) << PAGE_SHIFT), first, pages,
                        rights[unit_random() % ARRAY_SIZE(rights)]};
    u32 status =
        call(HC_MEM_MAP, DOMAIN + v / 2, OBJECT + (u64)o, view.start, first, pages, view.access);
    if (status == STATUS_NO_QUOTA) return true;
    views[v] = view;
    return status == STATUS_OK;
}

static bool step_unmap(void) {
    unsigned v = (unsigned)(unit_random() % VIEWS);
    if (views[v].object < 0) return true;
    u64 start = views[v].start, pages = views[v].pages;
    view_forget(v);
    return call(HC_MEM_UNMAP, DOMAIN + v / 2, start, pages) == STATUS_OK;
}

static bool step_release(void) {
    int o = any_object();
    u64 index = any_index(), count = 1 + unit_random() % (unit_random() % 3 ? 4 : 600);
    if (o < 0) return true;
    if (unit_random() % 3 == 0) index = WINDOW * (index / WINDOW), count = 512;
    if (count > WINDOW - index % WINDOW) count = WINDOW - index % WINDOW;
    u64 first = page_at(index);
    if (first >= object_pages) return true;
    if (count > object_pages - first) count = object_pages - first;
    u32 status = memory_release(memory_in(OBJECT + (u64)o), first, count);
    if (status == STATUS_NO_QUOTA) return true;
    memset(holds[o][index], 0, count * PAGE_SIZE);
    released++;
    return status == STATUS_OK;
}

static u64 frame_in(u64 slot, u64 page) {
    unsigned order;
    u64 entry = ept_lookup(&memory_in(slot)->map, gpa(page << PAGE_SHIFT), &order);
    return entry ? ((entry & EPT_FRAME) >> PAGE_SHIFT) + (page & ((1ull << order) - 1)) : 0;
}

/* What MEM_DIFF says of two objects, against where each page is. */
static bool diff_right(u64 slot, u64 base) {
    static bool differs[(GIB >> PAGE_SHIFT) + 2 * WINDOW];
    struct page_ranges *out = control_domain->comm;
    const u64(*range)[2] = (void *)(out + 1);
    memset(differs, 0, sizeof(differs));
    for (u64 page = 0, calls = 0; page < object_pages; page = out->next) {
        u64 count;
        if (++calls > 2000 || call(HC_MEM_DIFF, slot, base, page) != STATUS_OK) return false;
        count = entered->gpr[2];
        if (count > 255 || out->next <= page || out->next > object_pages) return false;
        for (u64 i = 0, end = page; i < count; end = range[i][0] + range[i][1], i++) {
            if (range[i][0] < end || !range[i][1] || range[i][0] + range[i][1] > out->next)
                return false;
            memset(differs + range[i][0], 1, range[i][1]);
        }
    }
    for (u64 page = 0; page < object_pages; page++)
        if (differs[page] != (frame_in(slot, page) != (base ? frame_in(base, page) : 0)))
            return false;
    diffs++;
    return true;
}

static bool step_diff(void) {
    int a = any_object(), b = any_object();
    if (a < 0 || b < 0 || unit_random() % 8) return true;
    return diff_right(OBJECT + (u64)a, unit_random() % 4 ? OBJECT + (u64)b : 0);
}

static bool step_promise(void) {
    int o = any_object();
    if (o < 0) return true;
    return call(HC_MEM_PROMISE, OBJECT + (u64)o, unit_random() % 3 ? unit_random() % 400 : 0) ==
           STATUS_OK;
}

static bool random_step(void) {
    u64 r = unit_random() % 100;
    return r < 80   ? step_access()
           : r < 84 ? step_clone()
           : r < 87 ? step_delete()
           : r < 92 ? step_map()
           : r < 94 ? step_unmap()
           : r < 97 ? step_release()
           : r < 99 ? step_diff()
                    : step_promise();
}

static bool one_gib_clean(void) {
    u32 number = zone_take(&ram[0], 18);
    if (number) zone_give(&clean[0], number, 18); /* nobody has written to it */
    return number;
}

static void start(u64 pages, u64 other) {
    object_pages = pages;
    second = other;
    memset(holds, 0, sizeof(holds));
    memset(kept, 0, sizeof(kept));
    for (int i = 0; i < OBJECTS; i++)
        paid_by[i] = -1;
    for (unsigned v = 0; v < VIEWS; v++)
        views[v].object = -1;
    bool ok = true;
    for (u64 d = 0; d < VIEWS / 2; d++)
        ok &= call(HC_DOMAIN_CREATE, DOMAIN + d, ROLE_DRIVER, 400, 16) == STATUS_OK;
    for (u64 d = 0; d < PAYERS; d++)
        ok &= call(HC_DOMAIN_CREATE, PAYER + d, ROLE_VM, 700, 16) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, OBJECT, pages) == STATUS_OK;
    paid_by[0] = PAYERS;
    check(ok, "an object, and domains to map it");
    on_flush = forget;
}

static void finish(void) {
    on_flush = NULL;
    for (u64 o = 0; o < OBJECTS; o++)
        if (control_domain->caps[OBJECT + o].object)
            object_delete(control_domain->caps[OBJECT + o].object);
    for (u64 d = 0; d < VIEWS / 2; d++)
        (void)call(HC_DOMAIN_DESTROY, DOMAIN + d);
    for (u64 d = 0; d < PAYERS; d++)
        (void)call(HC_DOMAIN_DESTROY, PAYER + d);
    sound("sound when all is deleted");
    check(!pages_promised, "and nothing is promised any more");
}

static void test_random(unsigned steps, unsigned every) {
    touched = copied = diffs = clones = released = 0;
    bool right = true, told = true;
    for (unsigned i = 0; i < steps && right && told; i++) {
        right = random_step();
        if (!right) printf("# step %u\n", i);
        if (i % 20 == 0) told = kept_right();
        if (i % every == 0 && kernel_wrong(fixed)) {
            printf("# step %u\n", i);
            sound("sound");
            break;
        }
    }
    printf("# %u touches, %u copies, %u clones, %u releases, %u differences\n", touched, copied,
           clones, released, diffs);
    check(right, "each domain sees what was written to its object last, and to no other");
    check(told, "no CPU keeps a translation that is over");
    check(copied > steps / 40 && clones > steps / 100 && released > steps / 100 && diffs > 8,
          "all of it happened often");
}

/* --- what a clone costs, and what happens without --- */

enum { A = 0, B = 1, C = 2, REST = 130, LITTLE = 131 };

/* A payer may use so many kernel pages more. */
static void quota_left(u64 slot, u32 pages) {
    struct domain *d = domain_in(slot);
    u32 quota = d->kernel_pages + pages;
    kernel_pages_reserved += (u64)quota - d->kernel_quota;
    d->kernel_quota = quota;
}

static void view(unsigned v, int object, u64 start, u64 first, u64 pages, u32 access) {
    views[v] = (struct view){object, start, first, pages, access};
    check(call(HC_MEM_MAP, DOMAIN + v / 2, OBJECT + (u64)object, start, first, pages, access) == 0,
          "it is mapped");
}

static u32 use(unsigned v, u64 index, u32 access) {
    u32 status;
    u8 *page = access_page(v, index, access, &status);
    if (page && access == RIGHT_WRITE) holds[views[v].object][index][7] = page[7] = 0x77;
    return status;
}

static bool all_seen(unsigned v) {
    u32 status;
    for (u64 i = 0; i < PAGES; i++) {
        if (!sees(v, i)) continue;
        u8 *page = access_page(v, i, RIGHT_READ, &status);
        if (!page || memcmp(page, holds[views[v].object][i], PAGE_SIZE)) return false;
    }
    return true;
}

/* Two objects of a table, which is linked in domains, a large page, and another table; the second
   one cloned from the first. */
static void start_clone(void) {
    start(2 * WINDOW, WINDOW);
    check(memory_release(memory_in(OBJECT + A), 10, 1) == STATUS_OK, "a large page is split");
    view(0, A, 16 * GIB, 0, object_pages, 7);
    for (u64 i = 0; i < PAGES; i += 10)
        (void)use(0, i, RIGHT_WRITE);
    check(call(HC_MEM_CLONE, OBJECT + B, OBJECT + A, PAYER, 9) == STATUS_OK, "a clone");
    memcpy(holds[B], holds[A], sizeof(holds[B]));
    view(2, B, 16 * GIB, 0, object_pages, 7);
    view(4, B, 16 * GIB + 5 * PAGE_SIZE, 0, object_pages, 3);
}

static void test_accounts(void) {
    start(2 * WINDOW, WINDOW);
    struct domain *payer = domain_in(PAYER);
    u32 tables = memory_in(OBJECT)->map.tables;
    quota_left(PAYER, tables); /* and one for the cell */
    check(call(HC_MEM_CLONE, OBJECT + B, OBJECT + A, PAYER, 9) == STATUS_NO_QUOTA,
          "whoever pays for a clone pays for all its tables");
    quota_left(PAYER, tables);
    u64 kernel = frame_kernel_count(), free = frame_free_count();
    u32 charged = payer->kernel_pages;
    check(call(HC_MEM_CLONE, OBJECT + B, OBJECT + A, PAYER, 9) == STATUS_OK &&
              payer->kernel_pages == charged + tables,
          "with quota for them it can be had");
    check(frame_kernel_count() == kernel + 1 && frame_free_count() == free - 1 && tables == 2,
          "but only its root has been made");
    check(control_domain->caps[OBJECT + B].parent == &payer->caps[9], "it goes with who pays");
    sound("sound with a clone");
    view(2, B, 16 * GIB, 0, object_pages, 3);
    free = frame_free_count();
    check(use(2, page_at(PAGES - 1), RIGHT_WRITE) == STATUS_OK && frame_free_count() == free - 2,
          "a page is copied, and its table, without quota");
    check(use(2, 3, RIGHT_WRITE) == STATUS_NO_MEMORY && frame_free_count() == free - 2,
          "a large page is not split without");
    check(use(2, 3, RIGHT_READ) == STATUS_OK && all_seen(2), "reading needs nothing");
    quota_left(PAYER, 1);
    check(use(2, 3, RIGHT_WRITE) == STATUS_OK && frame_free_count() == free - 4 && all_seen(2),
          "with quota it is, and 4 KiB of it are copied");
    sound("sound after that");
    check(use(2, 3, RIGHT_WRITE) == STATUS_OK && frame_free_count() == free - 4, "once");
    view(0, A, 16 * GIB, 0, object_pages, 3);
    check(use(2, 0, RIGHT_WRITE) == STATUS_OK && use(0, 0, RIGHT_WRITE) == STATUS_OK &&
              use(0, 1, RIGHT_WRITE) == STATUS_OK && all_seen(0) && all_seen(2),
          "a large page of which some is its own and some is not is split, too");
    sound("sound with both of it split");
    finish();
}

/* All free memory, but what is given back. */
static struct {
    struct hpa block;
    unsigned order;
} taken_blocks[4096];
static void *taken_pages[1024];
static unsigned blocks, pool_pages;

static void memory_take(void) {
    blocks = pool_pages = 0;
    for (unsigned order = FRAME_MAX_ORDER + 1; order-- > 0;)
        while (frame_alloc(order, 1, 0, &taken_blocks[blocks].block, NULL))
            taken_blocks[blocks++].order = order;
    while ((taken_pages[pool_pages] = kpage_alloc(0)))
        pool_pages++;
}
static void frame_give(void) {
    struct hpa block = taken_blocks[--blocks].block;
    unsigned order = taken_blocks[blocks].order; /* the smallest */
    frame_split(block, order, 0);
    for (u64 i = 1; i < 1u << order; i++) {
        taken_blocks[blocks].block = hpa(block.v + i * PAGE_SIZE);
        taken_blocks[blocks++].order = 0;
    }
    frame_free(block, 0);
}
static void memory_give(void) {
    while (blocks--)
        frame_free(taken_blocks[blocks].block, taken_blocks[blocks].order);
    while (pool_pages--)
        kpage_free(taken_pages[pool_pages], 0);
}

/* What can be looked at while memory is taken. */
static bool followed(void) {
    for (u64 d = 0; d < VIEWS / 2; d++)
        if (mappings_wrong(domain_in(DOMAIN + d))) return false;
    return kept_right();
}

/* At each allocation of a write there is nothing left. */
static void test_shortage(void) {
    start_clone();
    check(call(HC_MEM_PROMISE, OBJECT + B, 4) == STATUS_OK, "four pages are promised");
    check(call(HC_MEM_CLONE, OBJECT + C, OBJECT + A, PAYER, 10) == STATUS_OK, "one more");
    check(all_seen(0) && all_seen(2) && all_seen(4), "all is read, and kept by CPUs");
    memory_take();
    check(use(2, 20, RIGHT_WRITE) == STATUS_NO_MEMORY && use(4, 600, RIGHT_WRITE) != STATUS_OK,
          "without memory nothing is copied");
    kpage_free(taken_pages[--pool_pages], 0);
    check(use(2, 20, RIGHT_WRITE) == STATUS_NO_MEMORY && !frame_free_count() && followed(),
          "nor with a page for its table alone");
    check(all_seen(0) && all_seen(2) && all_seen(4), "every domain sees what it saw");
    frame_give();
    check(use(2, 20, RIGHT_WRITE) == STATUS_OK && !frame_free_count() &&
              memory_in(OBJECT + B)->promised == 3,
          "with a frame, too, it is, off its promise");
    kpage_free(taken_pages[--pool_pages], 0);
    check(use(4, 600, RIGHT_WRITE) == STATUS_NO_MEMORY && followed(), "split, but not copied");
    frame_give();
    check(use(4, 600, RIGHT_WRITE) == STATUS_OK && followed() && all_seen(0) && all_seen(2) &&
              all_seen(4),
          "then that, too");
    kpage_free(taken_pages[--pool_pages], 0);
    check(memory_release(memory_in(OBJECT + A), 510, 5) == STATUS_NO_QUOTA && followed() &&
              all_seen(0),
          "of a range, for which not all tables can be had, nothing is released");
    kpage_free(taken_pages[--pool_pages], 0);
    check(memory_release(memory_in(OBJECT + A), 510, 5) == STATUS_OK && followed(),
          "with them it is");
    memset(holds[A][510], 0, 5 * PAGE_SIZE);
    check(all_seen(2) && all_seen(4), "the clone sees all of it");
    memory_give();
    check(all_seen(0), "a released page comes back");
    sound("sound with memory again");
    finish();
}

/* All but what was promised. */
static void take_rest(void) {
    u64 most = 0;
    for (u64 part = 1u << 20; part; part /= 2)
        if (room_for(most + part, 0)) most += part;
    ept_has_1g = true;
    bool ok = call(HC_MEM_CREATE, REST, most) == STATUS_OK;
    ept_has_1g = false;
    check(ok && !room_for(1, 0), "somebody takes the rest");
}

static void test_promises(void) {
    start_clone();
    (void)call(HC_MEM_CREATE, OBJECT + C, 600);
    paid_by[C] = PAYERS;
    check(memory_release(memory_in(OBJECT + C), 0, 600) == STATUS_OK &&
              call(HC_MEM_PROMISE, OBJECT + A, 1000) == STATUS_OK && pages_promised == 1000 &&
              call(HC_MEM_PROMISE, OBJECT + A, 300) == STATUS_OK && pages_promised == 300,
          "the last promise holds");
    view(6, C, 16 * GIB, 0, 600, 3);
    take_rest();
    check(call(HC_HOST_INFO) == STATUS_OK &&
              ((struct host_info *)control_domain->comm)->promised_pages == 300,
          "HOST_INFO tells of it");
    u64 free = frame_free_count();
    check(call(HC_MEM_CREATE, LITTLE, 1) == STATUS_NO_MEMORY &&
              call(HC_DOMAIN_CREATE, LITTLE, ROLE_DRIVER, 8, 16) == STATUS_NO_MEMORY &&
              call(HC_MEM_PROMISE, OBJECT + A, 301) == STATUS_NO_MEMORY &&
              call(HC_MEM_PROMISE, OBJECT + B, 1) == STATUS_NO_MEMORY &&
              use(6, 0, RIGHT_READ) == STATUS_NO_MEMORY &&
              use(2, 9, RIGHT_WRITE) == STATUS_NO_MEMORY && frame_free_count() >= free - 2,
          "nobody else gets what is promised");
    bool ok = true;
    for (u64 i = 0; i < 290; i++)
        ok &= use(0, i, RIGHT_WRITE) == STATUS_OK;
    ok &= memory_release(memory_in(OBJECT + A), 0, 1) == STATUS_OK;
    memset(holds[A][0], 0, PAGE_SIZE);
    ok &= use(0, 0, RIGHT_READ) == STATUS_OK;
    check(ok && pages_promised == 9 && memory_in(OBJECT + A)->promised == 9,
          "whom it was promised to does, for copies and for what it lacks");
    check(use(2, 9, RIGHT_WRITE) == STATUS_OK && pages_promised == 9,
          "what is copied leaves the other one its frame");
    sound("sound without free memory");
    (void)call(HC_CAP_DROP, OBJECT + A);
    gone(A);
    check(!pages_promised && use(2, PAGES - 1, RIGHT_WRITE) == STATUS_OK,
          "a promise goes with its object");
    (void)call(HC_CAP_DROP, REST);
    check(all_seen(2), "the clone of what is gone has all of it");
    finish();
}

/* By exits: a VM goes on behind a write, or waits for memory. */
static void test_exits(void) {
    enum { MODEL = 140, VM, VCPU, VM_CPU };
    start(2 * WINDOW, WINDOW);
    bool ok = call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, 100, 64) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, VM, ROLE_VM, 100, 16) == STATUS_OK;
    ok &= call(HC_MEM_MAP, VM, OBJECT + A, 0, 0, object_pages, 7) == STATUS_OK;
    ok &= call(HC_MEM_MAP, MODEL, OBJECT + A, GPA_GUEST, 0, object_pages, 3) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VCPU, MODEL, 0, 0) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VM_CPU, VM, 0, MODEL) == STATUS_OK;
    set_state(VM_CPU);
    ok &= call(HC_VCPU_START, VCPU) == STATUS_OK && call(HC_VCPU_START, VM_CPU) == STATUS_OK;
    ok &= call(HC_MEM_CLONE, OBJECT + B, OBJECT + A) == STATUS_OK;
    struct domain *vm = domain_in(VM), *model = domain_in(MODEL);
    check(ok && !walk(&vm->ept, 7).write && !walk(&model->ept, GPA_GUEST).write,
          "a VM whose memory has been cloned may not write to it");
    (void)call(HC_WAIT);
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    u64 rip = guest_rip(entered), old = walk(&vm->ept, 7).frame;
    next_page(7, RIGHT_WRITE);
    leave(REASON_PAGE);
    struct walked now_there = walk(&vm->ept, 7);
    check(entered->domain == vm && guest_rip(entered) == rip && now_there.write &&
              now_there.frame != old && walk(&model->ept, GPA_GUEST).frame == now_there.frame &&
              walk(&model->ept, GPA_GUEST).write,
          "until it writes: it has a copy, its device model sees it");
    check(!walk(&vm->ept, PAGE_SIZE).write && frame_in(OBJECT + B, 0) == old, "of that page alone");
    to_control();
    take_rest();
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    next_page(PAGE_SIZE, RIGHT_WRITE);
    leave(REASON_PAGE);
    check(vm->state == DOMAIN_PAUSED && vm->failure == FAILURE_NO_MEMORY,
          "without a frame for a copy it is paused");
    to_control();
    (void)call(HC_CAP_DROP, OBJECT + B);
    (void)call(HC_DOMAIN_RESUME, VM);
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    next_page(PAGE_SIZE, RIGHT_WRITE);
    leave(REASON_PAGE);
    check(entered->domain == vm && walk(&vm->ept, PAGE_SIZE).write,
          "without the clone it needs none");
    to_control();
    (void)call(HC_CAP_DROP, REST);
    (void)call(HC_DOMAIN_DESTROY, VM);
    (void)call(HC_DOMAIN_DESTROY, MODEL);
    finish();
}

int main(void) {
    machine_start();
    fixed = fixed_frames();
    u64 before = frame_free_count();

    ept_has_1g = true;
    check(one_gib_clean(), "a page of 1 GiB");
    start((GIB >> PAGE_SHIFT) + WINDOW / 2, (GIB >> PAGE_SHIFT) - WINDOW / 2);
    test_random(6000, 1000);
    finish();
    ept_has_1g = false;

    start(2 * WINDOW, WINDOW); /* no tables but of 4 KiB pages below the root */
    test_random(20000, 500);
    finish();

    start((GIB >> PAGE_SHIFT) + WINDOW / 2, (GIB >> PAGE_SHIFT) - WINDOW / 2);
    test_random(6000, 1000);
    finish();

    test_accounts();
    test_shortage();
    test_promises();
    test_exits();
    check(frame_free_count() + 8 >= before, "every frame has come back");
    return unit_result();
}
