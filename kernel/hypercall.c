/* Hypercalls: each decodes and checks its arguments, which may fail, and then acts, which may not.
 */
#include "hypercall.h"

#include "brake.h"
#include "cow.h"
#include "cpu.h"
#include "cpuid.h"
#include "domain.h"
#include "event.h"
#include "frame.h"
#include "guest.h"
#include "image.h"
#include "log.h"
#include "memory.h"
#include "mitigate.h"
#include "partition.h"
#include "regs.h"
#include "smp.h"
#include "snapshot.h"
#include "start.h"
#include "time.h"
#include "trace.h"
#include "vcpu.h"
#include "x86.h"

/* A call under way; a[] are its arguments, `value` what it returns beside the status. */
struct call {
    struct vcpu *vcpu;
    struct domain *domain;
    u64 a[6];
    u64 value;
    bool again; /* not done: run the instruction again */
};

#define TRY(expression)                                                                            \
    do {                                                                                           \
        u32 status_ = (expression);                                                                \
        if (status_ != STATUS_OK) return status_;                                                  \
    } while (0)

/* --- decoding --- */

static u32 get_root(struct call *c) {
    struct cap *cap;
    return cap_get(c->domain, CAP_ROOT, OBJECT_ROOT, 0, &cap);
}

static u32 get_domain(struct call *c, u64 slot, u32 rights, struct domain **out) {
    struct cap *cap;
    TRY(cap_get(c->domain, slot, OBJECT_DOMAIN, rights, &cap));
    *out = domain_of(cap->object);
    return STATUS_OK;
}

static u32 get_vm(struct call *c, u64 slot, u32 rights, struct domain **out) {
    TRY(get_domain(c, slot, rights, out));
    return (*out)->role == ROLE_VM ? STATUS_OK : STATUS_BAD_CAP;
}

static u32 get_vcpu(struct call *c, u64 slot, u32 rights, struct vcpu **out) {
    struct cap *cap;
    TRY(cap_get(c->domain, slot, OBJECT_VCPU, rights, &cap));
    *out = vcpu_of(cap->object);
    return STATUS_OK;
}

static u32 check_event(u64 event) { return event_valid(event) ? STATUS_OK : STATUS_BAD_ARGUMENT; }

enum { RAX = 0, RDX = 2, RSI = 6, RDI = 7, R8 = 8, R9 = 9, R10 = 10 };

/* --- of the caller itself --- */

/* The VM goes on next if the device model has nothing else to do; else when it is done. */
static ALWAYS_INLINE void answer(struct domain *model, u64 index) {
    struct vcpu *vcpu = model->vm && index < MAX_VCPUS ? model->vm->vcpus[index] : NULL;
    if (!vcpu || !vcpu_answer(vcpu) || model->vm->state != DOMAIN_ACTIVE) return;
    if (model->events || !model->vcpus[0]->waiting)
        sched_queue_next(vcpu);
    else
        sched_hand_over(vcpu);
}

/* Blocks unless events are pending: sched.c returns them when the vCPU runs again. */
void hypercall_wait(struct vcpu *vcpu) {
    u64 answered = vcpu->gpr[RDI];
    vcpu->waiting = true;
    if (answered) answer(vcpu->domain, answered - 1);
    if (likely(!vcpu->domain->events)) vcpu->state = VCPU_HALTED;
    this_cpu()->attention |= ATTENTION_NEXT;
}

static u32 text_of(struct call *c, char *to, u32 size) {
    if (c->a[0] >= size) return STATUS_BAD_ARGUMENT;
    memcpy(to, c->domain->comm, c->a[0]);
    to[c->a[0]] = 0;
    for (char *p = to; *p; p++)
        if ((*p < ' ' && *p != '\n') || *p == 0x7f) *p = '.';
    return STATUS_OK;
}

#define LOG_BYTES 1000 /* of a component's lines a second: none can take the log from others */
#define LOG_FRAME 40   /* what a line has besides its text, about */

static u32 hc_log(struct call *c) {
    char text[512];
    TRY(text_of(c, text, sizeof(text)));
    u32 bytes = (u32)c->a[0] + LOG_FRAME;
    if (c->domain == control_domain ||
        (log_permit(&c->domain->log, bytes, LOG_BYTES) && brake_log(c->domain, bytes)))
        log_info("[%s] %s", c->domain->label, text);
    return STATUS_OK;
}

static u32 hc_trap(struct call *c) {
    char text[1024];
    if (text_of(c, text, sizeof(text)) == STATUS_OK)
        log_info("[%s] trap: %s", c->domain->label, text);
    domain_fail(c->domain, FAILURE_TRAP, 0);
    return STATUS_OK;
}

/* --- capabilities --- */

static struct cap_info describe(const struct cap *cap) {
    struct object *object = cap->object;
    struct cap_info info = {.type = object->type, .rights = cap->rights, .object_id = object->id};
    if (info.type == OBJECT_DOMAIN) {
        const struct domain *domain = domain_of(object);
        info.domain_id = domain->id;
        info.role = domain->role;
        memcpy(info.label, domain->label, LABEL_SIZE);
    } else if (info.type == OBJECT_VCPU) {
        info.domain_id = vcpu_of(object)->domain->id;
        info.index = vcpu_of(object)->index;
    } else if (info.type == OBJECT_MEMORY) {
        info.pages = memory_of(object)->pages;
        info.present = memory_of(object)->map.mapped;
    } else if (info.type == OBJECT_CHANNEL) {
        info.index = cap->end;
    }
    return info;
}

static u32 hc_cap_info(struct call *c) {
    struct cap *cap;
    struct cap_info info = {0};
    if (c->a[0] >= c->domain->cap_slots) return STATUS_BAD_CAP;
    if (cap_get(c->domain, c->a[0], OBJECT_NONE, 0, &cap) == STATUS_OK) info = describe(cap);
    info.slots = c->domain->cap_slots;
    memcpy(c->domain->comm, &info, sizeof(info));
    return STATUS_OK;
}

#define LIST_ROWS (PAGE_SIZE / sizeof(struct cap_info))

static unsigned list_caps(const struct domain *domain, u64 slot, struct cap_info *rows) {
    unsigned count = 0;
    for (; slot < domain->cap_slots && count < LIST_ROWS; slot++) {
        if (!domain->caps[slot].object) continue;
        rows[count] = describe(&domain->caps[slot]);
        rows[count++].first = slot;
    }
    return count;
}

static unsigned list_mappings(const struct domain *domain, u64 skip, struct cap_info *rows) {
    unsigned count = 0;
    for (const struct mapping *m = domain->mappings; m && count < LIST_ROWS; m = m->next_in_domain)
        if (skip)
            skip--;
        else
            rows[count++] = (struct cap_info){.type = OBJECT_MEMORY,
                                              .rights = m->access,
                                              .object_id = m->memory->object.id,
                                              .pages = m->pages,
                                              .address = m->start.v,
                                              .first = m->first};
    return count;
}

static unsigned list_ports(const struct domain *domain, u64 port, struct cap_info *rows) {
    unsigned count = 0;
    bool run = false;
    for (; domain->io_bitmap && port < 0x10000; port++) {
        bool open = !(domain->io_bitmap[port / 8] >> port % 8 & 1);
        if (open && !run) {
            if (count == LIST_ROWS) break;
            rows[count++] = (struct cap_info){.address = port};
        }
        if (open) rows[count - 1].pages++;
        run = open;
    }
    return count;
}

static u32 hc_cap_list(struct call *c) {
    struct domain *domain;
    TRY(get_root(c));
    TRY(get_domain(c, c->a[0], RIGHT_READ, &domain));
    struct cap_info *rows = c->domain->comm;
    switch (c->a[1]) {
    case HOLDING_CAPS: c->value = list_caps(domain, c->a[2], rows); return STATUS_OK;
    case HOLDING_MAPPINGS: c->value = list_mappings(domain, c->a[2], rows); return STATUS_OK;
    case HOLDING_PORTS: c->value = list_ports(domain, c->a[2], rows); return STATUS_OK;
    }
    return STATUS_BAD_ARGUMENT;
}

static u32 hc_cap_grant(struct call *c) {
    struct domain *to;
    struct cap *from, *slot;
    TRY(get_domain(c, c->a[0], RIGHT_CONTROL, &to));
    TRY(cap_get(c->domain, c->a[2], OBJECT_NONE, RIGHT_GRANT, &from));
    TRY(cap_empty(to, c->a[1], &slot));
    cap_derive(slot, to, from, (u32)c->a[3]);
    return STATUS_OK;
}

static u32 hc_cap_revoke(struct call *c) {
    struct cap *cap;
    TRY(cap_get(c->domain, c->a[0], OBJECT_NONE, 0, &cap));
    cap_revoke(cap);
    return STATUS_OK;
}

static u32 hc_cap_drop(struct call *c) {
    struct cap *cap;
    TRY(cap_get(c->domain, c->a[0], OBJECT_NONE, 0, &cap));
    if (cap->object == &c->domain->object) return STATUS_BAD_STATE; /* nobody lets go of himself */
    cap_delete(cap);
    return STATUS_OK;
}

/* --- domains --- */

static u32 hc_domain_create(struct call *c) {
    struct cap *slot;
    struct domain *domain;
    char label[LABEL_SIZE];
    TRY(get_root(c));
    TRY(cap_empty(c->domain, c->a[0], &slot));
    if (c->a[1] == ROLE_CONTROL || c->a[1] > ROLE_VM || c->a[2] > 1u << 20 || c->a[3] > 4096)
        return STATUS_BAD_ARGUMENT;
    memcpy(label, c->domain->comm, LABEL_SIZE);
    TRY(domain_create((u32)c->a[1], (u32)c->a[4], label, (u32)c->a[2], (u32)c->a[3], &domain));
    cap_create(slot, c->domain, &domain->object, RIGHT_ALL, 0);
    if (domain->role != ROLE_VM) cap_derive(&domain->caps[CAP_SELF], domain, slot, RIGHT_READ);
    return STATUS_OK;
}

static u32 hc_domain_destroy(struct call *c) {
    struct domain *domain;
    TRY(get_domain(c, c->a[0], RIGHT_CONTROL, &domain));
    if (domain == c->domain || domain == control_domain) return STATUS_BAD_STATE;
    object_delete(&domain->object);
    return STATUS_OK;
}

static u32 hc_domain_pause(struct call *c) {
    struct domain *domain;
    TRY(get_vm(c, c->a[0], RIGHT_CONTROL, &domain));
    if (c->a[1] > 1) return STATUS_BAD_ARGUMENT;
    const struct domain *model = c->a[1] ? domain->model : NULL;
    if (domain->state == DOMAIN_FAILED || (model && model->state == DOMAIN_FAILED))
        return STATUS_BAD_STATE;
    return domain_pause(domain, c->a[1]) ? STATUS_OK : STATUS_BAD_STATE;
}

static u32 hc_domain_resume(struct call *c) {
    struct domain *domain;
    TRY(get_domain(c, c->a[0], RIGHT_CONTROL, &domain));
    if (domain->role != ROLE_VM && domain->role != ROLE_DEVICE_MODEL) return STATUS_BAD_CAP;
    return domain_resume(domain) ? STATUS_OK : STATUS_BAD_STATE;
}

static u32 hc_domain_info(struct call *c) {
    struct domain *domain;
    TRY(get_domain(c, c->a[0], RIGHT_READ, &domain));
    const struct domain *peer = domain->model ? domain->model : domain->vm;
    struct domain_info info = {
        .id = domain->id,
        .role = domain->role,
        .state = domain->state,
        .failure = domain->failure,
        .detail = domain->failure_detail,
        .mapped_pages = domain->ept.mapped,
        .kernel_pages = domain->kernel_pages,
        .kernel_quota = domain->kernel_quota,
        .vcpus = domain->vcpu_count,
        .caps = domain->caps_used,
        .peer = peer ? peer->id : 0,
        .log_dropped = domain->log.dropped_ever,
        .throttled = domain->throttled,
    };
    memcpy(info.label, domain->label, LABEL_SIZE);
    memcpy(c->domain->comm, &info, sizeof(info));
    return STATUS_OK;
}

/* --- memory --- */

/* Who pays for a new object in the slot a[0]: the caller, or the domain a[2], which then has the
   first capability to it, in its slot `in`. */
struct payer {
    struct domain *domain;
    struct cap *slot, *own;
};

static u32 get_payer(struct call *c, u64 in, struct payer *payer) {
    *payer = (struct payer){.domain = c->domain};
    TRY(cap_empty(c->domain, c->a[0], &payer->slot));
    if (!c->a[2]) return STATUS_OK;
    TRY(get_domain(c, c->a[2], RIGHT_CONTROL, &payer->domain));
    TRY(cap_empty(payer->domain, in, &payer->own));
    return payer->own == payer->slot ? STATUS_IN_USE : STATUS_OK;
}

static void give(struct call *c, const struct payer *payer, struct memory *memory) {
    struct cap *first = payer->own ? payer->own : payer->slot;
    cap_create(first, payer->domain, &memory->object, RIGHT_ALL, 0);
    if (payer->own) cap_derive(payer->slot, c->domain, payer->own, RIGHT_ALL);
}

static u32 mem_create(struct call *c) {
    struct payer payer;
    struct memory *memory;
    TRY(get_payer(c, CAP_MEMORY, &payer));
    if (c->a[3] >= frame_nodes()) return STATUS_BAD_ARGUMENT;
    TRY(memory_create(payer.domain, c->a[1], (u32)c->a[3], &memory));
    give(c, &payer, memory);
    return STATUS_OK;
}

/* Long: a little at a time, so that others can run between. */
static u32 hc_mem_create(struct call *c) {
    struct cap *cap;
    TRY(get_root(c));
    if (cap_get(c->domain, c->a[0], OBJECT_MEMORY, 0, &cap) != STATUS_OK) {
        TRY(mem_create(c));
        TRY(cap_get(c->domain, c->a[0], OBJECT_MEMORY, 0, &cap));
    }
    struct memory *memory = memory_of(cap->object);
    if (memory->clean == memory->pages || memory->pages != c->a[1]) return STATUS_IN_USE;
    u32 status = memory_fill(memory);
    if (status != STATUS_OK) object_delete(&memory->object);
    c->again = status == STATUS_OK && memory->clean < memory->pages;
    return status;
}

static u32 hc_mem_map(struct call *c) {
    struct domain *domain;
    struct cap *cap;
    if (c->a[5] & ~7ull) return STATUS_BAD_ARGUMENT;
    TRY(get_domain(c, c->a[0], RIGHT_WRITE, &domain));
    TRY(cap_get(c->domain, c->a[1], OBJECT_MEMORY, (u32)c->a[5], &cap));
    return memory_map(domain, memory_of(cap->object), cap, gpa(c->a[2]), c->a[3], c->a[4],
                      (u32)c->a[5]);
}

static u32 hc_mem_unmap(struct call *c) {
    struct domain *domain;
    TRY(get_domain(c, c->a[0], RIGHT_WRITE, &domain));
    return memory_unmap(domain, gpa(c->a[1]), c->a[2]);
}

static u32 hc_mem_release(struct call *c) {
    struct cap *cap;
    TRY(cap_get(c->domain, c->a[0], OBJECT_MEMORY, RIGHT_WRITE, &cap));
    return memory_release(memory_of(cap->object), c->a[1], c->a[2]);
}

static u32 hc_mem_clone(struct call *c) {
    struct payer payer;
    struct cap *from;
    struct memory *memory;
    TRY(get_root(c));
    TRY(cap_get(c->domain, c->a[1], OBJECT_MEMORY, RIGHT_READ, &from));
    TRY(get_payer(c, c->a[3], &payer));
    if (c->a[4] >= frame_nodes()) return STATUS_BAD_ARGUMENT;
    TRY(memory_clone(payer.domain, memory_of(from->object), (u32)c->a[4], &memory));
    give(c, &payer, memory);
    return STATUS_OK;
}

static u32 hc_mem_promise(struct call *c) {
    struct cap *cap;
    TRY(get_root(c));
    TRY(cap_get(c->domain, c->a[0], OBJECT_MEMORY, 0, &cap));
    return memory_promise(memory_of(cap->object), c->a[1]);
}

static u32 hc_mem_nodes(struct call *c) {
    struct cap *cap;
    u64 counts[MAX_NODES] = {0};
    TRY(get_root(c));
    TRY(cap_get(c->domain, c->a[0], OBJECT_MEMORY, RIGHT_READ, &cap));
    const struct memory *memory = memory_of(cap->object);
    if (!memory->account) return STATUS_BAD_STATE;
    if (c->a[1] > memory->pages) return STATUS_BAD_ARGUMENT;
    c->value = memory_nodes(memory, c->a[1], counts);
    memcpy(c->domain->comm, counts, sizeof(counts));
    return STATUS_OK;
}

#define DIFF_RANGES ((PAGE_SIZE - sizeof(struct page_ranges)) / sizeof(struct page_range))

static u32 hc_mem_diff(struct call *c) {
    struct cap *cap, *other;
    const struct memory *memory, *base = NULL;
    struct page_ranges *out = c->domain->comm;
    u64 page = c->a[2];
    TRY(get_root(c)); /* long, with the kernel lock: not for everybody */
    TRY(cap_get(c->domain, c->a[0], OBJECT_MEMORY, RIGHT_READ, &cap));
    memory = memory_of(cap->object);
    if (c->a[1]) {
        TRY(cap_get(c->domain, c->a[1], OBJECT_MEMORY, RIGHT_READ, &other));
        base = memory_of(other->object);
    }
    if (page > memory->pages || (base && base->pages != memory->pages)) return STATUS_BAD_ARGUMENT;
    if (!memory->account || (base && !base->account)) return STATUS_BAD_STATE;
    c->value = cow_diff(&memory->map, base ? &base->map : NULL, &page, memory->pages,
                        (struct page_range *)(out + 1), DIFF_RANGES);
    *out = (struct page_ranges){.next = page};
    return STATUS_OK;
}

/* --- vCPUs --- */

static u32 hc_vcpu_create(struct call *c) {
    struct cap *slot;
    struct domain *domain, *model = NULL;
    struct vcpu *vcpu;
    TRY(get_root(c)); /* so that no vCPU hangs on a capability of a domain that it may end */
    TRY(cap_empty(c->domain, c->a[0], &slot));
    TRY(get_domain(c, c->a[1], RIGHT_CONTROL, &domain));
    if (c->a[3]) TRY(get_domain(c, c->a[3], RIGHT_CONTROL, &model));
    if (c->a[2] >= MAX_VCPUS) return STATUS_BAD_ARGUMENT;
    TRY(vcpu_create(domain, (u32)c->a[2], model, &vcpu));
    cap_create(slot, c->domain, &vcpu->object, RIGHT_ALL, 0);
    if (domain->role != ROLE_VM) component_reset(domain);
    return STATUS_OK;
}

static u32 take_stopped(struct vcpu *vcpu) {
    sched_take(vcpu);
    if (vcpu->state == VCPU_STOPPED) return STATUS_OK;
    sched_place(vcpu);
    return STATUS_BAD_STATE;
}

static u32 hc_vcpu_set(struct call *c) {
    struct vcpu *vcpu;
    struct vcpu_state state;
    TRY(get_vcpu(c, c->a[0], RIGHT_CONTROL, &vcpu));
    if (vcpu->domain->role != ROLE_VM) return STATUS_BAD_STATE;
    TRY(take_stopped(vcpu));
    memcpy(&state, c->domain->comm, sizeof(state));
    if (state.tsc_offset) state.tsc_offset += c->vcpu->tsc_offset;
    guest_state_write(vcpu, &state);
    return STATUS_OK;
}

static u32 hc_vcpu_get(struct call *c) {
    struct vcpu *vcpu;
    TRY(get_vcpu(c, c->a[0], RIGHT_READ, &vcpu));
    if (vcpu->domain->role != ROLE_VM) return STATUS_BAD_STATE;
    sched_take(vcpu);
    struct vcpu_state *state = c->domain->comm;
    guest_state_read(vcpu, state);
    if (state->tsc_offset) state->tsc_offset -= c->vcpu->tsc_offset; /* to the caller's TSC */
    sched_place(vcpu);
    return STATUS_OK;
}

static u32 hc_vcpu_start(struct call *c) {
    struct vcpu *vcpu;
    TRY(get_vcpu(c, c->a[0], RIGHT_CONTROL, &vcpu));
    TRY(take_stopped(vcpu));
    if (vcpu->domain->role != ROLE_VM) component_info(vcpu->domain);
    vcpu_start(vcpu);
    return STATUS_OK;
}

static u32 hc_vcpu_stop(struct call *c) {
    struct vcpu *vcpu;
    TRY(get_vcpu(c, c->a[0], RIGHT_CONTROL, &vcpu));
    if (vcpu == c->vcpu || vcpu->state == VCPU_FAILED) return STATUS_BAD_STATE;
    sched_take(vcpu);
    vcpu_stop(vcpu);
    return STATUS_OK;
}

static u32 hc_brake(struct call *c) {
    TRY(get_root(c));
    return brake_set(c->a[0], c->a[1], c->a[2], c->a[3], c->a[4]) ? STATUS_OK : STATUS_BAD_ARGUMENT;
}

static u32 hc_vcpu_share(struct call *c) {
    struct vcpu *vcpu;
    struct vcpu_share asked;
    TRY(get_root(c)); /* what it gets, others do not */
    TRY(get_vcpu(c, c->a[0], RIGHT_CONTROL, &vcpu));
    memcpy(&asked, c->domain->comm, sizeof(asked));
    return sched_admit(vcpu, &asked);
}

static u32 hc_vcpu_interrupt(struct call *c) {
    struct vcpu *vcpu;
    TRY(get_vcpu(c, c->a[0], RIGHT_INTERRUPT, &vcpu));
    if (vcpu->domain->role != ROLE_VM || c->a[1] > INTERRUPT_NMI || c->a[2] > 255)
        return STATUS_BAD_ARGUMENT;
    if (c->a[1] == INTERRUPT_NMI)
        vcpu_post_nmi(vcpu);
    else
        atomic_set(&vcpu->extint, c->a[1] == INTERRUPT_EXTINT ? (int)c->a[2] : -1);
    if (c->a[1] == INTERRUPT_EXTINT) vcpu_kick(vcpu);
    return STATUS_OK;
}

static u32 hc_vcpu_info(struct call *c) {
    struct vcpu *vcpu;
    TRY(get_vcpu(c, c->a[0], RIGHT_READ, &vcpu));
    struct vcpu_info *info = c->domain->comm;
    memset(info, 0, sizeof(*info));
    info->state = vcpu->state;
    info->cpu = atomic_load(&vcpu->home)->id;
    info->run_time = sched_run_time(vcpu);
    info->interrupts = vcpu->interrupts;
    info->forwarded = vcpu->forwarded;
    info->ipis = vcpu->ipis;
    info->ready_time = sched_ready_time(vcpu);
    info->throttles = vcpu->throttles;
    info->scheduling = vcpu->share.class;
    memcpy(info->counters, vcpu->counters, sizeof(info->counters));
    for (unsigned reason = 0; reason < MAX_EXIT_REASONS; reason++)
        info->exits += info->counters[reason]; /* the copy: it may run */
    return STATUS_OK;
}

static u32 hc_msi(struct call *c) {
    struct domain *vm;
    TRY(get_vm(c, c->a[0], RIGHT_INTERRUPT, &vm));
    if (c->a[1] >> 20 != 0xfee) return STATUS_BAD_ARGUMENT;
    vapic_message(vm, c->a[1], c->a[2]);
    return STATUS_OK;
}

static u32 apic_access(struct call *c, struct vcpu *vcpu) {
    if (vcpu->state != VCPU_EXITED) return STATUS_BAD_STATE;
    if (!vapic_has_page(&vcpu->apic, c->a[1])) return STATUS_BAD_ARGUMENT;
    u32 offset = c->a[1] & (PAGE_SIZE - 1);
    c->value = c->a[3] ? (u64)(1 + vapic_page_write(vcpu, offset, (u32)c->a[2]))
                       : vapic_page_read(vcpu, offset);
    return STATUS_OK;
}

/* MMIO to the page of a local APIC in xAPIC mode, decoded by the device model. */
static u32 hc_apic_access(struct call *c) {
    struct vcpu *vcpu;
    TRY(get_vcpu(c, c->a[0], RIGHT_INTERRUPT, &vcpu));
    if (vcpu->domain->role != ROLE_VM || vcpu->domain->model != c->domain) return STATUS_BAD_STATE;
    if (vcpu->home == this_cpu()) return apic_access(c, vcpu);
    sched_take(vcpu); /* only its home may touch it: that is here now, and stays so if it may */
    vapic_timer_start(vcpu);
    u32 status = apic_access(c, vcpu);
    if (vcpu->state != VCPU_EXITED || !home_allows(vcpu, this_cpu())) sched_place(vcpu);
    return status;
}

static u32 hc_cpuid_set(struct call *c) {
    struct domain *domain;
    TRY(get_domain(c, c->a[0], RIGHT_CONTROL, &domain));
    return cpuid_set(domain, c->domain->comm, c->a[1]);
}

static u32 hc_doorbell(struct call *c) {
    struct domain *vm;
    TRY(get_vm(c, c->a[0], RIGHT_INTERRUPT, &vm));
    if (c->a[1] > 0xffff || (c->a[3] && check_event(c->a[3]) != STATUS_OK))
        return STATUS_BAD_ARGUMENT;
    struct doorbell *found = NULL;
    unsigned last = 0;
    for (unsigned i = 0; i < MAX_DOORBELLS; i++) {
        struct doorbell *bell = &vm->doorbells[i];
        if (bell->event) last = i;
        if (bell->event && bell->port == c->a[1] && bell->value == c->a[2]) found = bell;
    }
    if (!c->a[3]) { /* remove: the last one takes its place, so that the used ones stay together */
        if (!found) return STATUS_BAD_ARGUMENT;
        *found = vm->doorbells[last];
        vm->doorbells[last] = (struct doorbell){0};
        return STATUS_OK;
    }
    if (!found) found = &vm->doorbells[vm->doorbells[last].event ? last + 1 : last];
    if (found == vm->doorbells + MAX_DOORBELLS) return STATUS_NO_QUOTA;
    *found = (struct doorbell){c->a[2], (u16)c->a[1], (u8)c->a[3]};
    return STATUS_OK;
}

/* --- saving and loading --- */

static u32 get_paused(struct call *c, u32 rights, struct domain **domain) {
    TRY(get_root(c));
    TRY(get_domain(c, c->a[0], rights, domain));
    return (*domain)->state == DOMAIN_PAUSED ? STATUS_OK : STATUS_BAD_STATE;
}

static u32 hc_domain_save(struct call *c) {
    struct domain *domain;
    TRY(get_paused(c, RIGHT_READ, &domain));
    return domain_save(domain, c->domain->comm, &c->value);
}

static u32 hc_domain_load(struct call *c) {
    struct domain *domain;
    TRY(get_paused(c, RIGHT_CONTROL, &domain));
    return domain_load(domain, c->domain->comm, c->a[1]);
}

static u32 take_paused(struct call *c, u32 rights, struct vcpu **vcpu) {
    TRY(get_root(c));
    TRY(get_vcpu(c, c->a[0], rights, vcpu));
    if ((*vcpu)->domain->state != DOMAIN_PAUSED) return STATUS_BAD_STATE;
    sched_take(*vcpu); /* where it stays until it is resumed */
    return STATUS_OK;
}

static u32 hc_vcpu_save(struct call *c) {
    struct vcpu *vcpu;
    TRY(take_paused(c, RIGHT_READ, &vcpu));
    return vcpu_save(vcpu, c->a[1], c->domain->comm, &c->value);
}

static u32 hc_vcpu_load(struct call *c) {
    struct vcpu *vcpu;
    TRY(take_paused(c, RIGHT_CONTROL, &vcpu));
    return vcpu_load(vcpu, c->a[1], c->domain->comm, c->a[2]);
}

/* --- events --- */

static u32 hc_channel_create(struct call *c) {
    struct cap *a, *b;
    TRY(cap_empty(c->domain, c->a[0], &a));
    TRY(cap_empty(c->domain, c->a[1], &b));
    if (a == b) return STATUS_BAD_ARGUMENT;
    return channel_create(c->domain, a, b);
}

static u32 hc_channel_bind(struct call *c) {
    struct cap *end;
    TRY(cap_get(c->domain, c->a[0], OBJECT_CHANNEL, 0, &end));
    TRY(check_event(c->a[1]));
    channel_bind(end, c->domain, (unsigned)c->a[1]);
    return STATUS_OK;
}

static u32 hc_channel_signal(struct call *c) {
    struct cap *end;
    TRY(cap_get(c->domain, c->a[0], OBJECT_CHANNEL, 0, &end));
    channel_signal(end);
    return STATUS_OK;
}

static u32 hc_timer_create(struct call *c) {
    struct cap *slot;
    TRY(cap_empty(c->domain, c->a[0], &slot));
    TRY(check_event(c->a[1]));
    return timer_create(c->domain, slot, (unsigned)c->a[1]);
}

static u32 hc_timer_set(struct call *c) {
    struct cap *timer;
    TRY(cap_get(c->domain, c->a[0], OBJECT_TIMER, 0, &timer));
    timer_set(timer->object, c->a[1]);
    return STATUS_OK;
}

static u32 hc_irq_create(struct call *c) {
    struct cap *slot;
    TRY(get_root(c));
    TRY(cap_empty(c->domain, c->a[0], &slot));
    TRY(check_event(c->a[2]));
    return c->a[1] < 16 ? irq_create(c->domain, slot, (u8)c->a[1], (unsigned)c->a[2])
                        : STATUS_BAD_ARGUMENT;
}

static u32 hc_irq_ack(struct call *c) {
    struct cap *irq;
    TRY(cap_get(c->domain, c->a[0], OBJECT_IRQ, 0, &irq));
    irq_ack(irq->object);
    return STATUS_OK;
}

/* --- the host --- */

#define PORT_COM1 0x3f8

static u32 hc_ports_map(struct call *c) {
    struct domain *domain;
    TRY(get_root(c));
    TRY(get_domain(c, c->a[0], RIGHT_READ, &domain));
    if (c->a[1] > 0xffff || c->a[2] == 0 || c->a[2] > 0x10000 - c->a[1] ||
        domain->role == ROLE_VM || domain->role == ROLE_DEVICE_MODEL)
        return STATUS_BAD_ARGUMENT;
    if (!domain->io_bitmap) {
        domain->io_bitmap = domain_pages(domain, IO_BITMAP_ORDER);
        if (!domain->io_bitmap) return STATUS_NO_QUOTA;
        memset(domain->io_bitmap, 0xff, PAGE_SIZE << IO_BITMAP_ORDER);
    }
    for (u64 port = c->a[1]; port < c->a[1] + c->a[2]; port++)
        domain->io_bitmap[port / 8] &= (u8) ~(1u << port % 8);
    pair_take(domain); /* only the home of its vCPU may touch that: here, now */
    guest_io_bitmap_set(domain);
    pair_place(domain);
    if (c->a[1] <= PORT_COM1 && PORT_COM1 < c->a[1] + c->a[2]) log_serial_release();
    return STATUS_OK;
}

static u32 hc_host_info(struct call *c) {
    TRY(get_root(c));
    struct host_info info = {
        .total_pages = frame_total_count(),
        .free_pages = frame_free_count(),
        .kernel_pages = frame_kernel_count(),
        .reserved_pages = kernel_pages_reserved,
        .promised_pages = pages_promised,
        .log_position = log_position(),
        .idle_time = sched_idle_time(),
        .uptime = rdtsc(),
        .cpus = cpus_online,
        .clean_pages = frame_clean_count(),
        .past_time = vcpus_past_time,
        .control_time = sched_run_time(c->vcpu),
    };
    for (struct domain *domain = domains; domain; domain = domain->next)
        info.domains++;
    for (u32 i = 0; i < cpus_online; i++) {
        u64 threads = 0;
        for (u64 left = cpus[i].siblings; left; left &= left - 1)
            threads++;
        info.dedicated |= (u64) !!cpus[i].dedicated << i;
        if (threads > info.threads) info.threads = threads;
    }
    info.nodes = frame_nodes();
    memcpy(c->domain->comm, &info, sizeof(info));
    struct node_info *node = (struct node_info *)((struct host_info *)c->domain->comm + 1);
    for (unsigned i = 0; i < frame_nodes(); i++)
        node[i] = (struct node_info){.id = acpi.nodes[i], .free_pages = frame_node_free(i)};
    return STATUS_OK;
}

static u32 hc_host_cpuid(struct call *c) {
    TRY(get_root(c));
    struct cpuid_regs r = cpuid((u32)c->a[0], (u32)c->a[1]);
    memcpy(c->domain->comm, &r, sizeof(r));
    return STATUS_OK;
}

/* RAM or not is the same for all of a page. */
static bool is_ram(u64 address) {
    for (u32 i = 0; i < boot.region_count; i++)
        if (address - boot.regions[i].start.v < boot.regions[i].size) return true;
    return false;
}

static u32 hc_firmware_read(struct call *c) {
    u64 from = c->a[0];
    TRY(get_root(c));
    if (from >> (cpuid(CPUID_ADDRESS_SIZES, 0).eax & 0x3f) || is_ram(from) ||
        c->a[1] > PAGE_SIZE - from % PAGE_SIZE)
        return STATUS_BAD_ARGUMENT;
    physical_read(c->domain->comm, hpa(from), c->a[1]);
    return STATUS_OK;
}

static u32 hc_host_log(struct call *c) {
    TRY(get_root(c));
    u64 position = c->a[0];
    unsigned length = log_read(&position, c->domain->comm, PAGE_SIZE - 1);
    c->value = (position - length) << 12 | length;
    return STATUS_OK;
}

#define PORT_RESET   0xcf9
#define RESET_SYSTEM 0x0e

/* RDRAND; ten tries are what the SDM advises ("Random Number Generator Instructions"). */
static u32 hc_entropy(struct call *c) {
    u64 length = c->a[0];
    if (length > ENTROPY_MAX) return STATUS_BAD_ARGUMENT;
    if (!(cpuid(1, 0).ecx & CPUID_1_ECX_RDRAND)) return STATUS_BAD_STATE;
    u64 words[ENTROPY_MAX / sizeof(u64)];
    for (u64 i = 0; i < (length + 7) / 8; i++) {
        unsigned tries = 10;
        while (!rdrand(&words[i]))
            if (!--tries) return STATUS_BAD_STATE;
    }
    memcpy(c->domain->comm, words, length);
    return STATUS_OK;
}

static u32 hc_host_reset(struct call *c) {
    TRY(get_root(c));
    log_info("reset, by the control domain");
    outb(PORT_RESET, RESET_SYSTEM);
    return STATUS_OK;
}

/* The caller ends here, unless it confirms. */
static u32 hc_upgrade(struct call *c) {
    struct cap *cap;
    TRY(get_root(c));
    if (!c->a[0]) return image_confirm() ? STATUS_OK : STATUS_BAD_STATE;
    TRY(cap_get(c->domain, c->a[0], OBJECT_MEMORY, RIGHT_ALL, &cap)); /* no boot module */
    if (memory_of(cap->object)->pages > IMAGE_MAX >> PAGE_SHIFT) return STATUS_BAD_ARGUMENT;
    return image_upgrade(cap) ? STATUS_OK : STATUS_BAD_STATE;
}

static u32 hc_partition(struct call *c) {
    TRY(get_root(c));
    return partition_set(c->a[0], c->a[1], c->a[2], c->a[3]) ? STATUS_OK : STATUS_BAD_ARGUMENT;
}

static u32 hc_mitigate(struct call *c) {
    TRY(get_root(c));
    return mitigate_set(c->a) ? STATUS_OK : STATUS_BAD_ARGUMENT;
}

typedef u32 (*handler)(struct call *);
static const handler handlers[HC_COUNT] = {
    [HC_LOG] = hc_log,
    [HC_TRAP] = hc_trap,
    [HC_CAP_INFO] = hc_cap_info,
    [HC_CAP_GRANT] = hc_cap_grant,
    [HC_CAP_REVOKE] = hc_cap_revoke,
    [HC_CAP_DROP] = hc_cap_drop,
    [HC_DOMAIN_CREATE] = hc_domain_create,
    [HC_DOMAIN_DESTROY] = hc_domain_destroy,
    [HC_DOMAIN_PAUSE] = hc_domain_pause,
    [HC_DOMAIN_RESUME] = hc_domain_resume,
    [HC_DOMAIN_INFO] = hc_domain_info,
    [HC_MEM_CREATE] = hc_mem_create,
    [HC_MEM_MAP] = hc_mem_map,
    [HC_MEM_UNMAP] = hc_mem_unmap,
    [HC_VCPU_CREATE] = hc_vcpu_create,
    [HC_VCPU_SET] = hc_vcpu_set,
    [HC_VCPU_GET] = hc_vcpu_get,
    [HC_VCPU_START] = hc_vcpu_start,
    [HC_VCPU_STOP] = hc_vcpu_stop,
    [HC_VCPU_INTERRUPT] = hc_vcpu_interrupt,
    [HC_VCPU_INFO] = hc_vcpu_info,
    [HC_MSI] = hc_msi,
    [HC_APIC_ACCESS] = hc_apic_access,
    [HC_CPUID_SET] = hc_cpuid_set,
    [HC_DOORBELL] = hc_doorbell,
    [HC_CHANNEL_CREATE] = hc_channel_create,
    [HC_CHANNEL_BIND] = hc_channel_bind,
    [HC_CHANNEL_SIGNAL] = hc_channel_signal,
    [HC_TIMER_CREATE] = hc_timer_create,
    [HC_TIMER_SET] = hc_timer_set,
    [HC_IRQ_CREATE] = hc_irq_create,
    [HC_IRQ_ACK] = hc_irq_ack,
    [HC_PORTS_MAP] = hc_ports_map,
    [HC_HOST_INFO] = hc_host_info,
    [HC_HOST_CPUID] = hc_host_cpuid,
    [HC_FIRMWARE_READ] = hc_firmware_read,
    [HC_HOST_LOG] = hc_host_log,
    [HC_HOST_RESET] = hc_host_reset,
    [HC_ENTROPY] = hc_entropy,
    [HC_MEM_RELEASE] = hc_mem_release,
    [HC_VCPU_SHARE] = hc_vcpu_share,
    [HC_BRAKE] = hc_brake,
    [HC_UPGRADE] = hc_upgrade,
    [HC_CAP_LIST] = hc_cap_list,
    [HC_MITIGATE] = hc_mitigate,
    [HC_MEM_CLONE] = hc_mem_clone,
    [HC_MEM_PROMISE] = hc_mem_promise,
    [HC_MEM_DIFF] = hc_mem_diff,
    [HC_DOMAIN_SAVE] = hc_domain_save,
    [HC_DOMAIN_LOAD] = hc_domain_load,
    [HC_VCPU_SAVE] = hc_vcpu_save,
    [HC_VCPU_LOAD] = hc_vcpu_load,
    [HC_MEM_NODES] = hc_mem_nodes,
    [HC_PARTITION] = hc_partition,
};

/* Those that only read what capabilities lead to, and are on the way of every device's work. */
static bool is_busy(u64 number) {
    return number == HC_MSI || number == HC_VCPU_INTERRUPT || number == HC_CHANNEL_SIGNAL;
}

#define CALL_PERIODS 10    /* a second */
#define CALLS_MOST   10000 /* of a component in each, that take the kernel lock alone */

/* Whoever calls without end keeps others from the lock. It loses its time slice instead, until the
   next period. */
static bool calls_too_often(struct vcpu *vcpu) {
    struct domain *domain = vcpu->domain;
    u64 now = rdtsc();
    if (now - domain->calls_since > tsc_hz / CALL_PERIODS) {
        domain->calls_since = now;
        domain->calls = 0;
    }
    if (domain == control_domain) return false;
    if (domain->calls < CALLS_MOST) {
        if (likely(brake_call(domain, now))) {
            domain->calls++;
            return false;
        }
        vcpu->busy_since = vcpu->run_time; /* its tenant's limit: it waits, and does not hang */
    }
    domain->throttled++;
    sched_spins();
    return true;
}

enum outcome hypercall(struct vcpu *vcpu) {
    const u64 *r = vcpu->gpr;
    u64 number = r[RAX];
    switch (number) {
    case HC_NULL: vcpu->gpr[RAX] = STATUS_OK; return CALL_DONE;
    case HC_ANSWER:
        answer(vcpu->domain, r[RDI]);
        vcpu->gpr[RAX] = STATUS_OK;
        return CALL_DONE;
    }
    bool alone = !is_busy(number);
    if (alone && unlikely(calls_too_often(vcpu))) return CALL_AGAIN;
    if (!kernel_lock(alone)) {
        kernel_unlock(alone);
        return CALL_GONE;
    }
    struct call call = {
        vcpu, vcpu->domain, {r[RDI], r[RSI], r[RDX], r[R10], r[R8], r[R9]}, 0, false};
    u32 status = STATUS_BAD_CALL;
    if (number < HC_COUNT && handlers[number]) status = handlers[number](&call);
    if (alone && !call.again)
        trace(rdtsc(), TRACE_CALL, vcpu->domain, vcpu->index, (u32)(number << 8 | status));
    kernel_unlock(alone);
    if (call.again) {
        vcpu->busy_since = vcpu->run_time; /* each part is progress: it does not hang */
        return CALL_AGAIN;
    }
    vcpu->gpr[RAX] = status;
    vcpu->gpr[RDX] = call.value;
    return CALL_DONE;
}
