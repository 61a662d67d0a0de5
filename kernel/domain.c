/* Domains: their account of kernel memory, their life, and the events of components. */
#include "domain.h"

#include "apic.h"
#include "cpu.h"
#include "cpuid.h"
#include "event.h"
#include "features.h"
#include "frame.h"
#include "guest.h"
#include "log.h"
#include "memory.h"
#include "mitigate.h"
#include "regs.h"
#include "sched.h"
#include "smp.h"
#include "time.h"
#include "trace.h"
#include "vcpu.h"
#include "x86.h"

struct domain *domains;
struct domain *control_domain;
u64 kernel_pages_reserved, pages_promised;

static const char *const role_names[] = {"control", "device model", "driver", "VM"};
static const char *const failure_names[] = {
    "none",
    "trap",
    "triple fault",
    "VM entry failed",
    "touched memory that is not its own",
    "forbidden exit",
    "does not come back",
    "lost its device model",
    "no memory for a page of it",
    "replaced",
};

/* --- the account --- */

/* The pool grows in chunks: a promise must stand when most of one is not used. */
bool room_for(u64 pages, u64 kernel_pages) {
    u64 unused = pages_promised ? (1u << POOL_MAX_ORDER) - 1 : 0;
    return frame_has(pages_promised + pages, kernel_pages_reserved + kernel_pages + unused);
}

void *domain_pages(struct domain *domain, unsigned order) {
    u32 count = 1u << order;
    if (count > domain->kernel_quota - domain->kernel_pages) return NULL;
    void *pages = kpage_alloc(order);
    if (pages) {
        domain->kernel_pages += count;
        kernel_pages_reserved -= count;
    }
    return pages;
}

void domain_pages_free(struct domain *domain, void *pages, unsigned order) {
    kpage_free(pages, order);
    domain->kernel_pages -= 1u << order;
    kernel_pages_reserved += 1u << order;
}

struct cell_page {
    struct cell_page *next;
};

void *cell_alloc(struct domain *domain) {
    if (!domain->free_cells) {
        struct cell_page *page = domain_pages(domain, 0);
        if (!page) return NULL;
        page->next = domain->cell_pages;
        domain->cell_pages = page;
        for (u8 *cell = (u8 *)page + CELL_SIZE; cell < (u8 *)page + PAGE_SIZE; cell += CELL_SIZE) {
            *(void **)cell = domain->free_cells;
            domain->free_cells = cell;
        }
    }
    void *cell = domain->free_cells;
    domain->free_cells = *(void **)cell;
    memset(cell, 0, CELL_SIZE);
    return cell;
}

void cell_free(struct domain *domain, void *cell) {
    *(void **)cell = domain->free_cells;
    domain->free_cells = cell;
}

static void *table_alloc(void *owner) { return domain_pages(owner, 0); }

static void table_free(void *owner, void *table) { domain_pages_free(owner, table, 0); }

bool domain_tables(struct domain *domain, struct ept *ept, unsigned levels) {
    *ept = (struct ept){
        .table_alloc = table_alloc, .table_free = table_free, .owner = domain, .levels = levels};
    return ept_init(ept);
}

/* --- life --- */

static unsigned order_for(u64 bytes) {
    unsigned order = 0;
    while ((u64)PAGE_SIZE << order < bytes)
        order++;
    return order;
}

u32 domain_create(u32 role, u32 tenant, const char label[LABEL_SIZE], u32 kernel_quota,
                  u32 cap_slots, struct domain **out) {
    static u32 last_id;
    if (role > ROLE_VM || cap_slots < 2 || cap_slots > 8192 || kernel_quota < 8)
        return STATUS_BAD_ARGUMENT;
    if (!room_for(0, kernel_quota)) return STATUS_NO_MEMORY;
    struct domain *domain = kpage_alloc(0);
    if (!domain) return STATUS_NO_MEMORY;
    _Static_assert(sizeof(struct domain) <= PAGE_SIZE, "a domain is a page");
    object_init(&domain->object, OBJECT_DOMAIN);
    domain->role = role;
    domain->tenant = tenant;
    domain->kernel_quota = kernel_quota;
    domain->kernel_pages = 1;
    kernel_pages_reserved += kernel_quota - 1;
    memcpy(domain->label, label, LABEL_SIZE - 1);
    domain->id = ++last_id;
    domain->cap_slots = cap_slots;
    domain->next = domains;
    domains = domain;

    domain->caps = domain_pages(domain, order_for(cap_slots * sizeof(struct cap)));
    domain->cpuid = domain_pages(domain, 0);
    bool made = domain->caps && domain->cpuid && domain_tables(domain, &domain->ept, EPT_LEVELS) &&
                cpuid_set(domain, NULL, 0) == STATUS_OK;
    if (made && role != ROLE_VM) {
        domain->info = domain_pages(domain, 0);
        domain->comm = domain_pages(domain, 0);
        made =
            domain->info && domain->comm &&
            ept_map(&domain->ept, gpa(GPA_INFO), hpa_of(domain->info), 1, RIGHT_READ) &&
            ept_map(&domain->ept, gpa(GPA_COMM), hpa_of(domain->comm), 1, RIGHT_READ | RIGHT_WRITE);
    }
    if (!made) {
        domain_destroy(domain);
        return STATUS_NO_QUOTA;
    }
    *out = domain;
    return STATUS_OK;
}

static void pages_release(struct domain *domain, void *pages, unsigned order) {
    if (pages) domain_pages_free(domain, pages, order);
}

static void delete_caps(struct domain *domain) {
    for (u32 slot = 0; domain->caps && slot < domain->cap_slots; slot++)
        if (domain->caps[slot].object) cap_delete(&domain->caps[slot]);
}

void domain_destroy(struct domain *domain) {
    domain->state = DOMAIN_FAILED;
    for (u32 i = 0; i < MAX_VCPUS; i++)
        if (domain->vcpus[i]) object_delete(&domain->vcpus[i]->object);
    delete_caps(domain);
    memory_unmap_below(domain, gpa(EPT_ADDRESS_LIMIT));
    struct domain *vm = domain->vm, *model = domain->model;
    pair_take(domain);
    if (vm) vm->model = NULL;
    if (model) model->vm = NULL;
    pair_place(domain);
    if (vm) domain_fail(vm, FAILURE_ORPHAN, 0);
    mitigate_forget(domain);
    guest_flush(&domain->ept);
    ept_destroy(&domain->ept);
    pages_release(domain, domain->caps, order_for(domain->cap_slots * sizeof(struct cap)));
    pages_release(domain, domain->cpuid, 0);
    pages_release(domain, domain->info, 0);
    pages_release(domain, domain->comm, 0);
    pages_release(domain, domain->io_bitmap, IO_BITMAP_ORDER);
    for (struct cell_page *page = domain->cell_pages; page;) {
        struct cell_page *next = page->next;
        domain_pages_free(domain, page, 0);
        page = next;
    }
    struct domain **link = &domains;
    while (*link != domain)
        link = &(*link)->next;
    *link = domain->next;
    kernel_pages_reserved -= domain->kernel_quota - 1;
    kpage_free(domain, 0);
}

/* Another CPU may end the domain at the same time. */
static bool state_change(struct domain *domain, u32 from, u32 to) {
    return atomic_replace(&domain->state, &from, to);
}

static void take_vcpus(struct domain *domain) {
    for (u32 i = 0; i < MAX_VCPUS; i++)
        if (domain->vcpus[i]) sched_take(domain->vcpus[i]);
}

/* Both states first, so that neither goes on for the other's sake; one time for both. */
bool domain_pause(struct domain *domain, bool with_model) {
    struct domain *pair[] = {domain, with_model ? domain->model : NULL};
    bool paused[ARRAY_SIZE(pair)] = {false};
    for (unsigned i = 0; i < ARRAY_SIZE(pair) && pair[i]; i++)
        paused[i] = state_change(pair[i], DOMAIN_ACTIVE, DOMAIN_PAUSED);
    for (unsigned i = 0; i < ARRAY_SIZE(pair); i++)
        if (paused[i]) take_vcpus(pair[i]);
    u64 now = rdtsc();
    for (unsigned i = 0; i < ARRAY_SIZE(pair); i++) {
        if (!paused[i]) continue;
        pair[i]->paused_at = now;
        timers_stop(pair[i]);
    }
    return paused[0] || paused[1];
}

static bool resume(struct domain *domain, u64 now) {
    domain->failure = FAILURE_NONE;
    if (!state_change(domain, DOMAIN_PAUSED, DOMAIN_ACTIVE)) return false;
    u64 away = now - domain->paused_at;
    if (domain->tsc_offset || !domain_is_vm(domain)) domain->tsc_offset -= away;
    timers_start(domain);
    for (u32 i = 0; i < MAX_VCPUS; i++)
        if (domain->vcpus[i]) vcpu_thaw(domain->vcpus[i], away);
    return true;
}

bool domain_resume(struct domain *domain) {
    struct domain *model = domain->model;
    if (domain->state != DOMAIN_PAUSED) return false;
    if (model && model->state != DOMAIN_PAUSED) model = NULL;
    take_vcpus(domain); /* they may have been placed meanwhile */
    if (model) take_vcpus(model);
    u64 now = rdtsc();
    return (!model || resume(model, now)) && resume(domain, now);
}

static void fail_vcpus(struct domain *domain) {
    for (u32 i = 0; i < MAX_VCPUS; i++) {
        struct vcpu *vcpu = domain->vcpus[i];
        if (vcpu && atomic_load(&vcpu->home) == this_cpu())
            vcpu_look(vcpu);
        else if (vcpu)
            sched_mail(vcpu);
    }
}

void domain_fail(struct domain *domain, u32 failure, u64 detail) {
    if (atomic_swap(&domain->state, DOMAIN_FAILED) == DOMAIN_FAILED) return;
    domain->failure = failure;
    domain->failure_detail = detail;
    trace(rdtsc(), TRACE_FAIL, domain, 0, failure);
    log_info("domain %u (%s %s) ended: %s, 0x%lx", domain->id, role_names[domain->role],
             domain->label, failure_names[failure], detail);
    fail_vcpus(domain);
    if (domain == control_domain) {
        this_cpu()->restart_control = true;
        this_cpu()->attention = true;
        return;
    }
    if (domain->vm) domain_fail(domain->vm, FAILURE_ORPHAN, 0);
    domain_signal(control_domain, 1ull << EVENT_DOMAIN);
}

void domain_starve(struct domain *domain) {
    struct domain *vm = domain->role == ROLE_VM ? domain : domain->vm;
    if (!vm) {
        domain_fail(domain, FAILURE_NO_MEMORY, 0);
        return;
    }
    domain_pause(vm, domain != vm);
    vm->failure = FAILURE_NO_MEMORY;
    domain_signal(control_domain, 1ull << EVENT_DOMAIN);
}

/* --- components --- */

void domain_signal(struct domain *domain, u64 events) {
    u64 before = atomic_or(&domain->events, events);
    struct vcpu *vcpu = domain->vcpus[0];
    if (!vcpu) return;
    if (atomic_load(&vcpu->home) == this_cpu()) {
        if (vcpu->state == VCPU_HALTED) vcpu_look(vcpu);
    } else if (!before) { /* else it is told already */
        sched_mail(vcpu);
    }
}

void component_reset(struct domain *domain) {
    struct vcpu_state state = {0};
    struct segment_state *segments = (struct segment_state *)state.segments;
    /* Flat 32-bit protected mode, as the contract with control/native/start.S says. */
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_GS; s++)
        segments[s] = (struct segment_state){
            .selector = 0x10, .limit = 0xffffffff, .access = SEGMENT_ACCESS_DATA};
    segments[SEGMENT_CS] = (struct segment_state){
        .selector = 0x08, .limit = 0xffffffff, .access = SEGMENT_ACCESS_CODE};
    segments[SEGMENT_LDTR].access = SEGMENT_ACCESS_UNUSABLE;
    segments[SEGMENT_TR] = (struct segment_state){.limit = 0x67, .access = SEGMENT_ACCESS_TSS};
    state.gpr[0] = ABI_VERSION;
    state.rip = GPA_IMAGE;
    /* No interrupt ever arrives in it; IF is set because some CPUs hold back the host's while a
       guest has it clear (Bochs does). */
    state.rflags = RFLAGS_FIXED | RFLAGS_IF;
    state.cr0 = CR0_PE | CR0_ET | CR0_NE;
    domain->events = 0;
    vcpu_reset(domain->vcpus[0]);
    guest_state_write(domain->vcpus[0], &state);
}

static u64 mapped_size(const struct domain *domain, u64 start) {
    const struct mapping *m = mapping_at(domain, gpa(start));
    return m ? m->pages << PAGE_SHIFT : 0;
}

static u32 host_features(void) {
    return virt_features() | FEATURE_XSAVE | (lapic_x2apic() ? FEATURE_X2APIC : 0) |
           (host_timer_deadline_mode() ? FEATURE_TSC_DEADLINE : 0) |
           (cpuid(0x80000007, 0).edx >> 8 & 1 ? FEATURE_INVARIANT_TSC : 0);
}

void component_info(struct domain *domain) {
    struct info *info = domain->info;
    info->abi_version = ABI_VERSION;
    info->domain_id = domain->id;
    info->role = domain->role;
    info->ram_size = mapped_size(domain, GPA_RAM);
    info->image_size = mapped_size(domain, GPA_IMAGE);
    info->tsc_hz = tsc_hz;
    info->cpus = cpus_online;
    info->features = host_features();
    memcpy(info->cpu_name, machine.cpu_name, sizeof(info->cpu_name));
    memcpy(info->rig, machine.rig, sizeof(info->rig));
    memcpy(info->kernel_version, PLINTH_VERSION, sizeof(PLINTH_VERSION));
    if (domain->role != ROLE_CONTROL) return;
    for (u32 i = 0; i < cpus_online; i++)
        info->apic_ids[i] = cpus[i].apic_id;
    info->arch_capabilities = mitigations.arch_capabilities;
    info->mitigations = mitigations.available;
}
