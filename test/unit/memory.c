// with:
/* Memory whose pages lose their frames and get others: what every domain that maps it sees. */
#define HOST_NODES 2
#include "control.h"

#define MODEL  100u /* slots of the control domain */
#define VM     101u
#define MEMORY 102u
#define VCPU   103u
#define VM_CPU 104u
#define OTHER  105u
#define REST   106u
#define PAGES  1300u /* two large pages and some small ones */
#define SHIFT  5u    /* in pages: one mapping is out of step with the large pages */

static struct memory *memory_in(u64 slot) { return memory_of(control_domain->caps[slot].object); }

/* A VM that pays for its memory, its device model, and a driver that sees a part of it. */
static void create(u32 vm_quota) {
    bool ok = call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, 100, 64) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, VM, ROLE_VM, vm_quota, 16) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, OTHER, ROLE_DRIVER, 100, 16) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, MEMORY, PAGES, VM) == STATUS_OK;
    ok &= call(HC_MEM_MAP, VM, MEMORY, 0, 0, 600, 7) == STATUS_OK; /* with a hole, as a PC's */
    ok &= call(HC_MEM_MAP, VM, MEMORY, GIB + 600 * PAGE_SIZE, 600, PAGES - 600, 7) == STATUS_OK;
    ok &= call(HC_MEM_MAP, MODEL, MEMORY, GPA_GUEST, 0, PAGES, 3) == STATUS_OK;
    ok &= call(HC_MEM_MAP, OTHER, MEMORY, GIB + SHIFT * PAGE_SIZE, 0, PAGES - 100, 1) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VCPU, MODEL, 0, 0) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VM_CPU, VM, 0, MODEL) == STATUS_OK;
    ok &= call(HC_CAP_GRANT, MODEL, CAP_MEMORY, MEMORY, RIGHT_READ | RIGHT_WRITE) == STATUS_OK;
    check(ok, "memory that a VM pays for is mapped in three domains");
    set_state(VM_CPU);
}

static void destroy(void) {
    to_control();
    (void)call(HC_DOMAIN_DESTROY, VM);
    check(!control_domain->caps[MEMORY].object, "the memory goes with who pays for it");
    to_control();
    (void)call(HC_DOMAIN_DESTROY, MODEL);
    (void)call(HC_DOMAIN_DESTROY, OTHER);
    (void)call(HC_CAP_DROP, REST);
    sound("sound after all is destroyed");
}

static u32 touch(struct domain *domain, struct gpa address, u32 access) {
    struct mapping *m = mapping_at(domain, address);
    return m ? memory_touch(m, address, access) : STATUS_BAD_ARGUMENT;
}

static u64 address_in(unsigned view, u64 page) {
    switch (view) {
    case VM: return (page < 600 ? 0 : GIB) + page * PAGE_SIZE;
    case MODEL: return GPA_GUEST + page * PAGE_SIZE;
    default: return GIB + (SHIFT + page) * PAGE_SIZE;
    }
}

/* A page as a domain sees it; NULL: not mapped. */
static u8 *seen_by(u64 slot, u64 page) {
    unsigned order;
    u64 at = address_in((unsigned)slot, page);
    u64 entry = ept_lookup(&domain_in(slot)->ept, gpa(at), &order);
    u64 mask = (PAGE_SIZE << order) - 1;
    return entry ? arena + (entry & EPT_FRAME & ~mask) + (at & mask) : NULL;
}

static bool filled_with(const u8 *page, u8 value) {
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        if (page[i] != value) return false;
    return true;
}

/* Random releases and touches, beside what each page must hold; 0: nothing but zeros. */
static void test_random(void) {
    static u8 holds[PAGES];
    static const u64 views[] = {VM, MODEL, OTHER};
    memset(holds, 0, sizeof(holds));
    create(200);
    u64 released = 0, touched = 0;
    bool same = true, allowed = true, zero = true;
    for (unsigned step = 0; step < 6000; step++) {
        u64 page = unit_random() % PAGES, view = views[unit_random() % 3];
        if (unit_random() % 8 == 0) {
            u64 count = 1 + unit_random() % (unit_random() % 4 ? 5 : 700);
            if (unit_random() % 4 == 0) page &= ~511ull, count = 512;
            if (count > PAGES - page) count = PAGES - page;
            allowed &= memory_release(memory_in(MEMORY), page, count) == STATUS_OK;
            memset(holds + page, 0, count);
            for (u64 i = page; i < page + count; i++)
                same &= !seen_by(VM, i) && !seen_by(MODEL, i);
            released++;
        } else if (view == OTHER && page >= PAGES - 100) {
            allowed &=
                touch(domain_in(OTHER), gpa(address_in(OTHER, page)), 1) == STATUS_BAD_ARGUMENT;
        } else {
            u8 *there = seen_by(view, page);
            if (!there) {
                struct gpa at = gpa(address_in((unsigned)view, page) + unit_random() % PAGE_SIZE);
                allowed &= touch(domain_in(view), at, 1) == STATUS_OK;
                there = seen_by(view, page);
                touched++;
            }
            zero &= there && filled_with(there, holds[page]);
            if (view != OTHER)
                memset(there, holds[page] = (u8)(1 + unit_random() % 255), PAGE_SIZE);
        }
        if (step % 100 == 0 && kernel_wrong(fixed)) {
            check(false, kernel_wrong(fixed));
            break;
        }
        if (step % 1000 == 0)
            while (frame_clean())
                ;
    }
    check(allowed, "every release and every touch of memory succeeds, no other");
    check(same, "what is released is gone in every domain");
    check(zero, "a page holds what was last written to it, or zeros in a new frame");
    check(released > 500 && touched > 500, "both happened often");
    check(!memory_release(memory_in(MEMORY), 0, 1024) &&
              !memory_release(memory_in(MEMORY), 1024, PAGES - 1024) &&
              !memory_in(MEMORY)->map.mapped,
          "all of it can be released");
    sound("sound when nothing is left of it");
    destroy();
}

/* What MEM_NODES says of an object, asked as long as there is more; ~0: it failed. */
static u64 pages_of_node(u64 slot, unsigned node) {
    u64 sum = 0, page = 0, pages = memory_in(slot)->pages;
    while (page < pages) {
        if (call(HC_MEM_NODES, slot, page) != STATUS_OK || entered->gpr[2] <= page) return ~0ull;
        page = entered->gpr[2];
        sum += ((u64 *)control_domain->comm)[node];
    }
    return page == pages ? sum : ~0ull;
}

static u64 host_node(unsigned node) {
    if (call(HC_HOST_INFO) != STATUS_OK) return ~0ull;
    struct host_info *info = control_domain->comm;
    struct node_info *nodes = (struct node_info *)(info + 1);
    return info->nodes == HOST_NODES && nodes[node].id == 10 + node ? nodes[node].free_pages
                                                                    : ~0ull;
}

static void test_nodes(void) {
    u64 free[2] = {host_node(0), host_node(1)};
    check(free[0] == frame_node_free(0) && free[1] == frame_node_free(1),
          "what the host has is told by node");
    for (unsigned node = 0; node < 2; node++) {
        check(call(HC_MEM_CREATE, MEMORY, PAGES, 0, node) == STATUS_OK &&
                  pages_of_node(MEMORY, node) == PAGES && pages_of_node(MEMORY, !node) == 0,
              "memory is of the node that was asked for");
        check(host_node(node) == free[node] - PAGES, "which has as much less");
        check(memory_release(memory_in(MEMORY), 0, 512) == STATUS_OK &&
                  pages_of_node(MEMORY, node) == PAGES - 512 && host_node(node) >= free[node] - 788,
              "what is released goes back there");
        check(call(HC_MEM_CLONE, OTHER, MEMORY, 0, 0, !node) == STATUS_OK, "a clone elsewhere");
        bool moved = false;
        for (u64 page = 600; page < 610; page++)
            if (page_own(memory_in(OTHER), page, &moved) != STATUS_OK) moved = false;
        check(moved && pages_of_node(OTHER, !node) == 10 &&
                  pages_of_node(OTHER, node) == PAGES - 512 - 10 &&
                  pages_of_node(MEMORY, node) == PAGES - 512,
              "has there what it writes to");
        sound("sound with memory of a node");
        (void)call(HC_CAP_DROP, OTHER);
        (void)call(HC_CAP_DROP, MEMORY);
    }
    check(call(HC_MEM_CREATE, MEMORY, PAGES, 0, 2) == STATUS_BAD_ARGUMENT &&
              call(HC_MEM_CREATE, MEMORY, PAGES, 0, 1ull << 32) == STATUS_BAD_ARGUMENT,
          "no memory of a node that there is not");
    u64 more = host_node(1) + 300;
    check(call(HC_MEM_CREATE, MEMORY, more, 0, 1) == STATUS_OK &&
              pages_of_node(MEMORY, 1) >= more - 300 - 511 &&
              pages_of_node(MEMORY, 0) == more - pages_of_node(MEMORY, 1),
          "more than a node has is split");
    check(call(HC_MEM_NODES, MEMORY, more + 1) == STATUS_BAD_ARGUMENT &&
              call(HC_MEM_NODES, MEMORY, more) == STATUS_OK && entered->gpr[2] == more &&
              call(HC_MEM_NODES, CAP_MODULE, 0) == STATUS_BAD_STATE &&
              call(HC_MEM_NODES, CAP_SELF, 0) == STATUS_BAD_CAP,
          "nobody counts what is no memory");
    (void)call(HC_CAP_DROP, MEMORY);
    sound("sound when both nodes have all back");
}

static void test_arguments(void) {
    create(200);
    struct memory *memory = memory_in(MEMORY);
    u64 before = frame_free_count();
    u32 bad = 0;
    bad += call(HC_MEM_RELEASE, MEMORY, 0, 0) == STATUS_BAD_ARGUMENT;
    bad += call(HC_MEM_RELEASE, MEMORY, 0, RELEASE_MAX + 1) == STATUS_BAD_ARGUMENT;
    bad += call(HC_MEM_RELEASE, MEMORY, PAGES, 1) == STATUS_BAD_ARGUMENT;
    bad += call(HC_MEM_RELEASE, MEMORY, PAGES - 1, 2) == STATUS_BAD_ARGUMENT;
    bad += call(HC_MEM_RELEASE, MEMORY, ~0ull, 1) == STATUS_BAD_ARGUMENT;
    bad += call(HC_MEM_RELEASE, MEMORY, 1, ~0ull) == STATUS_BAD_ARGUMENT;
    bad += call(HC_MEM_RELEASE, CAP_MODULE, 0, 1) == STATUS_NO_RIGHT;
    bad += call(HC_MEM_RELEASE, VM, 0, 1) == STATUS_BAD_CAP;
    check(bad == 8 && frame_free_count() == before, "bad ranges are refused and change nothing");
    check(touch(domain_in(VM), gpa(600 * PAGE_SIZE), 1) == STATUS_BAD_ARGUMENT &&
              touch(domain_in(VM), gpa(GIB + 599 * PAGE_SIZE), 1) == STATUS_BAD_ARGUMENT &&
              touch(domain_in(VM), gpa(~0ull), 1) == STATUS_BAD_ARGUMENT,
          "what is not mapped is not memory");
    check(touch(domain_in(OTHER), gpa(address_in(OTHER, 0)), 3) == STATUS_BAD_ARGUMENT,
          "nor is read-only memory for writing");
    (void)call(HC_VCPU_START, VCPU);
    while (entered->domain != domain_in(MODEL))
        (void)call(HC_WAIT);
    check(call(HC_MEM_RELEASE, CAP_MEMORY, 512, 512) == STATUS_OK &&
              frame_free_count() == before + 512 && memory->map.mapped == PAGES - 512,
          "a device model gives a large page of its VM back");
    to_control();
    check(call(HC_CAP_INFO, MEMORY) == STATUS_OK &&
              ((struct cap_info *)control_domain->comm)->present == PAGES - 512 &&
              ((struct cap_info *)control_domain->comm)->pages == PAGES,
          "CAP_INFO tells how much of it has frames");
    destroy();
    /* With a quota that is used up, nothing is split and nothing changes. */
    create(21);
    u32 used = domain_in(VM)->kernel_pages, quota = domain_in(VM)->kernel_quota;
    domain_in(VM)->kernel_quota = used;
    kernel_pages_reserved -= quota - used;
    before = frame_free_count();
    check(call(HC_MEM_RELEASE, MEMORY, 3, 4) == STATUS_NO_QUOTA && frame_free_count() == before &&
              seen_by(VM, 3) && seen_by(MODEL, 600),
          "without quota for its table a large page is not split");
    sound("sound after that");
    domain_in(VM)->kernel_quota = quota;
    kernel_pages_reserved += quota - used;
    destroy();
}

/* Where a mapping has no frames just now nothing else may come. */
static void test_holes(void) {
    create(200);
    struct domain *vm = domain_in(VM);
    check(call(HC_MEM_MAP, MODEL, MEMORY, GPA_EXIT + PAGE_SIZE, 0, 2, 3) == STATUS_OK,
          "memory where another vCPU's exit page would be");
    check(call(HC_MEM_RELEASE, MEMORY, 0, 512) == STATUS_OK &&
              call(HC_MEM_CREATE, REST, 512) == STATUS_OK,
          "pages are released, and others are there");
    u32 refused = 0, pages = vm->kernel_pages;
    refused += call(HC_MEM_MAP, VM, REST, 0, 0, 512, 7) == STATUS_IN_USE;
    refused += call(HC_MEM_MAP, VM, REST, 17 * PAGE_SIZE, 0, 1, 1) == STATUS_IN_USE;
    refused += call(HC_MEM_MAP, OTHER, REST, GIB, 0, SHIFT + 1, 1) == STATUS_IN_USE;
    refused += call(HC_MEM_MAP, MODEL, REST, GPA_GUEST + 511 * PAGE_SIZE, 0, 1, 1) == STATUS_IN_USE;
    check(refused == 4, "no other memory is mapped in their place");
    check(call(HC_VCPU_CREATE, REST + 1, VM, 1, MODEL) == STATUS_IN_USE, "nor an exit page");
    check(call(HC_MEM_MAP, OTHER, REST, GIB, 0, SHIFT, 1) == STATUS_OK, "beside them it is");
    check(touch(vm, gpa(0), 2) == STATUS_OK && touch(domain_in(OTHER), gpa(GIB), 1) == STATUS_OK &&
              vm->kernel_pages == pages && call(HC_MEM_RELEASE, MEMORY, 0, 512) == STATUS_OK,
          "they get frames again");
    sound("sound after holes");
    destroy();
}

static void violate(u64 at, u32 access) {
    next_page(at, access);
    leave(REASON_PAGE);
}

static void release_first(void) {
    check(memory_release(memory_in(MEMORY), 0, 512) == STATUS_OK, "the first 2 MiB are released");
}

/* All but what the accounts were promised. */
static void take_rest(void) {
    check(call(HC_MEM_CREATE, REST, frame_free_count() - kernel_pages_reserved) == STATUS_OK,
          "somebody takes the rest of the frames");
}

/* Who touches a page when there is no frame waits for one. */
static void test_starving(void) {
    create(200);
    (void)call(HC_VCPU_START, VCPU);
    (void)call(HC_VCPU_START, VM_CPU);
    struct domain *vm = domain_in(VM), *model = domain_in(MODEL);
    release_first();
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    u64 rip = guest_rip(entered);
    violate(5 * PAGE_SIZE, 2);
    check(entered->domain == vm && guest_rip(entered) == rip && seen_by(VM, 5) &&
              filled_with(seen_by(VM, 5), 0),
          "a VM's touch gets a frame without its device model");
    release_first();
    to_control();
    take_rest();
    control_domain->events = 0;
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    violate(5 * PAGE_SIZE, 2);
    check(vm->state == DOMAIN_PAUSED && vm->failure == FAILURE_NO_MEMORY &&
              model->state == DOMAIN_ACTIVE && entered->domain == control_domain &&
              (entered->gpr[2] >> EVENT_DOMAIN & 1),
          "without a frame the VM is paused, with the reason, and the control domain hears of it");
    check(call(HC_DOMAIN_RESUME, VM) == STATUS_OK && vm->failure == FAILURE_NONE,
          "it can be resumed");
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    check(guest_rip(entered) == rip, "the same instruction runs again");
    violate(5 * PAGE_SIZE, 2);
    check(vm->state == DOMAIN_PAUSED, "and waits again while there is none");
    to_control();
    (void)call(HC_CAP_DROP, REST);
    (void)call(HC_DOMAIN_RESUME, VM);
    while (entered->domain != vm)
        (void)call(HC_WAIT);
    violate(5 * PAGE_SIZE, 2);
    check(entered->domain == vm && seen_by(VM, 5), "with one it goes on");

    /* The same in its device model, in the middle of its work. */
    to_control();
    release_first();
    take_rest();
    domain_signal(model, 1ull << 20);
    while (entered->domain != model)
        (void)(entered->domain == vm ? leave(REASON_PREEMPTION_TIMER) : (void)call(HC_WAIT));
    violate(GPA_GUEST + 7 * PAGE_SIZE, 1);
    check(vm->state == DOMAIN_PAUSED && model->state == DOMAIN_PAUSED,
          "a device model that finds no frame is paused with its VM");
    to_control();
    (void)call(HC_CAP_DROP, REST);
    (void)call(HC_DOMAIN_RESUME, VM);
    check(vm->state == DOMAIN_ACTIVE && model->state == DOMAIN_ACTIVE, "both are resumed");
    while (entered->domain != model)
        (void)(entered->domain == vm ? leave(REASON_PREEMPTION_TIMER) : (void)call(HC_WAIT));
    violate(GPA_GUEST + 7 * PAGE_SIZE, 1);
    check(entered->domain == model && seen_by(MODEL, 7), "and it goes on where it was");
    sound("sound after starving");
    destroy();
}

/* 1 GiB pages, by tables alone: nothing lies behind them. */
static void test_large_tables(void) {
    struct ept object, vm;
    check(call(HC_DOMAIN_CREATE, OTHER, ROLE_DRIVER, 100, 16) == STATUS_OK, "an account");
    struct domain *account = domain_in(OTHER);
    u32 used = account->kernel_pages;
    ept_has_1g = true;
    unsigned order;
    u64 pages = 2 * 262144 + 700;
    bool ok = domain_tables(account, &object, 3) && domain_tables(account, &vm, EPT_LEVELS);
    ok &= ept_map(&object, gpa(0), hpa(4 * GIB), pages, 7);
    ok &= ept_share(&vm, gpa(8 * GIB), &object, 0, pages, 5);
    check(ok && object.mapped == pages && vm.mapped == pages, "two GiB and some are shared");
    check((ept_lookup(&vm, gpa(9 * GIB), &order) & EPT_FRAME) == 5 * GIB && order == 18,
          "in pages of 1 GiB");
    u64 page = 262144 + 1000;
    check(ept_split(&object, gpa(page * PAGE_SIZE)), "one is split in the object");
    ept_follow(&vm, gpa(8 * GIB + page * PAGE_SIZE), &object, page, 1, 5);
    check(ept_split(&object, gpa(page * PAGE_SIZE)), "and a 2 MiB page of it");
    ept_follow(&vm, gpa(8 * GIB + page * PAGE_SIZE), &object, page, 1, 5);
    u64 seen = ept_lookup(&vm, gpa(8 * GIB + page * PAGE_SIZE), &order);
    check(order == 0 && (seen & EPT_FRAME) == 4 * GIB + page * PAGE_SIZE &&
              (seen & 7) == (ept_access(5) & 7),
          "the domain follows, with its own rights");
    *ept_entry(&object, gpa(page * PAGE_SIZE), &order) = 0;
    check(!ept_lookup(&vm, gpa(8 * GIB + page * PAGE_SIZE), &order) &&
              ept_lookup(&vm, gpa(8 * GIB + (page + 1) * PAGE_SIZE), &order),
          "what the object loses the domain loses");
    bool right = true;
    for (u64 p = 0; p < pages; p += 1 + unit_random() % 300) {
        u64 entry = ept_lookup(&vm, gpa(8 * GIB + p * PAGE_SIZE), &order);
        u64 frame = (entry & EPT_FRAME) + ((p & ((1ull << order) - 1)) << PAGE_SHIFT);
        right &= p == page || frame == 4 * GIB + p * PAGE_SIZE;
    }
    check(right, "every other page is where it was");
    ept_unmap(&vm, gpa(8 * GIB), pages);
    check(!vm.mapped && ept_is_free(&vm, gpa(0), 1 << 27), "unmapped, nothing is left");
    ept_destroy(&vm);
    ept_destroy(&object);
    check(account->kernel_pages == used, "and every table comes back, once");
    ept_has_1g = false;
    (void)call(HC_DOMAIN_DESTROY, OTHER);
}

int main(void) {
    machine_start();
    fixed = fixed_frames();
    u64 before = frame_free_count();
    test_nodes();
    test_arguments();
    test_random();
    test_holes();
    test_starving();
    test_large_tables();
    check(frame_free_count() + 1 >= before, "every frame has come back");
    return unit_result();
}
