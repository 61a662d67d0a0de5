// with:
/* What a domain leaves in its frames is in no frame that anybody else gets: memory, a component's
   pages, exit pages, tables and other objects of the kernel. All that is free is filled with a
   pattern, which must then be in nothing that is used. */
#include "control.h"

enum { MODEL = 100, VM, MEMORY, MODEL_RAM, VCPU, CHANNEL, CHANNEL2, TIMER };

#define PATTERN  0x5ca1ab1edeadf00dull
#define FRAMES   (ARENA_SIZE / PAGE_SIZE)
#define VM_PAGES 3000u

static bool tainted[FRAMES];

static u64 *frame_at(u64 frame) { return (u64 *)(arena + frame * PAGE_SIZE); }

static void taint(u64 *page) {
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(u64); i++)
        page[i] = PATTERN;
}

static bool is_free(u64 frame) {
    enum frame_kind kind = frame_kind(hpa(frame * PAGE_SIZE));
    return kind == FRAME_FREE || kind == FRAME_POOL_FREE;
}

/* Whatever was in the free frames: now it is this. */
static void taint_free(void) {
    for (u64 frame = 0; frame < FRAMES; frame++) {
        tainted[frame] = is_free(frame);
        if (tainted[frame]) taint(frame_at(frame));
    }
}

static u64 reused; /* frames that are used now, and held the pattern */

/* NULL, or the kind of the first frame in use that has the pattern. */
static const char *leak(void) {
    static const char *const kinds[] = {"no RAM", "free", "clean", "domain's RAM",
                                        "module", "pool", "kernel"};
    reused = 0;
    for (u64 frame = 0; frame < FRAMES; frame++) {
        if (is_free(frame)) continue;
        reused += tainted[frame];
        const u64 *page = frame_at(frame);
        for (unsigned i = 0; i < PAGE_SIZE / sizeof(u64); i++)
            if (page[i] == PATTERN) return kinds[frame_kind(hpa(frame * PAGE_SIZE))];
    }
    return NULL;
}

static void sealed(const char *name) {
    const char *where = leak();
    if (where) printf("# the pattern is in a frame of: %s\n", where);
    check(!where, name);
}

static struct memory *memory_in(u64 slot) { return memory_of(control_domain->caps[slot].object); }

static u64 *page_of(struct memory *memory, u64 page) {
    unsigned order;
    u64 entry = ept_lookup(&memory->map, gpa(page << PAGE_SHIFT), &order);
    return entry ? (u64 *)(arena + (entry & EPT_FRAME) + (page % (1u << order) << PAGE_SHIFT))
                 : NULL;
}

/* A VM with its device model, and one of each kind of object. */
static void create(void) {
    bool ok = call(HC_DOMAIN_CREATE, MODEL, ROLE_DEVICE_MODEL, 120, 200) == STATUS_OK;
    ok &= call(HC_DOMAIN_CREATE, VM, ROLE_VM, 200, 64) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, MEMORY, VM_PAGES, VM) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, MODEL_RAM, 300) == STATUS_OK;
    ok &= call(HC_MEM_MAP, VM, MEMORY, 0, 0, VM_PAGES, 7) == STATUS_OK;
    ok &= call(HC_MEM_MAP, MODEL, MEMORY, GPA_GUEST + 7 * PAGE_SIZE, 0, VM_PAGES, 3) == STATUS_OK;
    ok &= call(HC_MEM_MAP, MODEL, MODEL_RAM, GPA_RAM, 0, 300, 3) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, VCPU, MODEL, 0, 0) == STATUS_OK;
    for (u64 n = 0; n < 3; n++)
        ok &= call(HC_VCPU_CREATE, 200 + n, VM, n, MODEL) == STATUS_OK;
    ok &= call(HC_CHANNEL_CREATE, CHANNEL, CHANNEL2) == STATUS_OK;
    ok &= call(HC_TIMER_CREATE, TIMER, 33) == STATUS_OK;
    check(ok, "a VM, its device model, channels, timers");
    set_state(200);
    (void)call(HC_VCPU_START, VCPU);
}

/* They write wherever they can. */
static void write_all(void) {
    for (u64 page = 0; page < VM_PAGES; page++)
        taint(page_of(memory_in(MEMORY), page));
    for (u64 page = 0; page < 300; page++)
        taint(page_of(memory_in(MODEL_RAM), page));
    taint(domain_in(MODEL)->comm);
    for (u64 n = 0; n < 3; n++) {
        struct vcpu *vcpu = vcpu_of(control_domain->caps[200 + n].object);
        taint((u64 *)vcpu->exit);
        if (vcpu->unswitched.xsave) taint(vcpu->unswitched.xsave);
        for (unsigned i = 0; i < 16; i++)
            vcpu->gpr[i] = PATTERN;
    }
}

static void destroy(void) {
    to_control();
    (void)call(HC_DOMAIN_DESTROY, VM);
    (void)call(HC_DOMAIN_DESTROY, MODEL);
    (void)call(HC_CAP_DROP, MODEL_RAM);
    (void)call(HC_CAP_DROP, CHANNEL2);
    (void)call(HC_CAP_DROP, CHANNEL);
    (void)call(HC_CAP_DROP, TIMER);
}

static void test_reuse(void) {
    create();
    write_all();
    check(leak(), "the pattern is found where it is");
    destroy();
    for (u64 frame = 0; frame < FRAMES; frame++)
        tainted[frame] = is_free(frame);
    memset(control_domain->comm, 0, PAGE_SIZE);
    sealed("what they have left is in nothing that is used");
    create();
    sealed("nor in what others get, frames and objects of the kernel");
    check(reused > VM_PAGES, "which are in part the same");
    destroy();
    taint_free();
    create();
    sealed("nor anything else that was in free memory");
    check(reused > VM_PAGES + 300 + 20, "of domains and of the kernel's pool");
}

static void test_release(void) {
    for (u64 page = 512; page < 1000; page++)
        taint(page_of(memory_in(MEMORY), page));
    (void)call(HC_MEM_RELEASE, MEMORY, 512, 488);
    taint_free();
    sealed("a balloon's pages are gone with what was in them");
    struct domain *vm = domain_in(VM), *model = domain_in(MODEL);
    bool ok = true;
    for (u64 page = 512; page < 1000; page += 2) {
        struct gpa at = gpa(page * PAGE_SIZE);
        ok &= memory_touch(mapping_at(vm, at), at, RIGHT_WRITE) == STATUS_OK;
        at = gpa(GPA_GUEST + (page + 8) * PAGE_SIZE);
        ok &= memory_touch(mapping_at(model, at), at, RIGHT_WRITE) == STATUS_OK;
    }
    check(ok, "they are touched again");
    sealed("and are empty");
    check(reused >= 488, "in frames that held the pattern");
}

static void test_cleaning(void) {
    destroy();
    taint_free();
    u64 before = frame_clean_count();
    while (frame_clean())
        ;
    check(frame_clean_count() > before + VM_PAGES, "an idle CPU cleans what is free");
    sealed("which is clean then");
    create();
    sealed("and is given out so");
    destroy();
}

static void test_restart(void) {
    struct memory *ram = mapping_at(control_domain, gpa(GPA_RAM))->memory;
    for (u64 page = 0; page < ram->pages; page++)
        taint(page_of(ram, page));
    taint(control_domain->comm);
    taint_free();
    (void)call(HC_TRAP, 0);
    check(control_domain->info->restarts == 1, "the control domain is started again");
    sealed("and finds nothing of what it had");
}

int main(void) {
    machine_start();
    fixed = fixed_frames();
    test_reuse();
    test_release();
    test_cleaning();
    test_restart();
    sound("sound after that");
    return unit_result();
}
