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
    u32 number = zone_take(&ram, 18);
    if (number) zone_give(&clean, number, 18); /* nobody has written to it */
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

    check(frame_free_count() + 8 >= before, "every frame has come back");
    return unit_result();
}
