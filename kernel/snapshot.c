/* Saving and loading of domains and vCPUs: which fields, and what they may be. */
#include "snapshot.h"

#include "capability.h"
#include "domain.h"
#include "event.h"
#include "guest.h"
#include "msr.h"
#include "regs.h"
#include "trap.h"
#include "vapic_inline.h"
#include "vcpu.h"

/* --- domains --- */

#define ROWS_MOST ((PAGE_SIZE - sizeof(struct domain_snapshot)) / sizeof(struct saved_row))

struct saved_domain {
    struct domain_snapshot snapshot;
    struct saved_row rows[ROWS_MOST];
};

static bool has_begun(const struct domain *domain) {
    return domain->tsc_offset || !domain_is_vm(domain);
}

/* 0: its time has not begun. */
static u64 domain_tsc(const struct domain *domain) {
    return has_begun(domain) ? domain->paused_at + domain->tsc_offset : 0;
}

/* Its row, if the capability is one that has one. */
static bool cap_row(const struct cap *cap, struct saved_row *row) {
    unsigned event = 0;
    *row = (struct saved_row){0};
    if (!cap->object) return false;
    if (cap->object->type == OBJECT_TIMER && cap->object->origin == cap) {
        row->kind = SAVED_TIMER;
        timer_get(cap->object, &row->value, &event);
    } else if (cap->object->type == OBJECT_CHANNEL) {
        row->kind = SAVED_BINDING;
        event = channel_bound(cap);
    }
    row->event = event;
    return event;
}

u32 domain_save(const struct domain *domain, void *page, u64 *count) {
    struct saved_domain *to = page;
    struct saved_row row;
    u64 rows = 0;
    for (u32 slot = 0; slot < domain->cap_slots; slot++) {
        if (!cap_row(&domain->caps[slot], &row)) continue;
        if (rows == ROWS_MOST) return STATUS_NO_QUOTA;
        row.slot = slot;
        to->rows[rows++] = row;
    }
    for (unsigned i = 0; i < MAX_DOORBELLS && domain->doorbells[i].event; i++) {
        const struct doorbell *bell = &domain->doorbells[i];
        if (rows == ROWS_MOST) return STATUS_NO_QUOTA;
        to->rows[rows++] = (struct saved_row){
            .kind = SAVED_DOORBELL, .slot = bell->port, .value = bell->value, .event = bell->event};
    }
    to->snapshot = (struct domain_snapshot){
        .tsc = domain_tsc(domain),
        .events = domain->events,
        .started = has_begun(domain),
    };
    *count = rows;
    return STATUS_OK;
}

static bool has_run(const struct domain *domain) {
    for (unsigned i = 0; i < MAX_VCPUS; i++)
        if (domain->vcpus[i] && domain->vcpus[i]->run_time) return true;
    return false;
}

static u32 check_row(struct domain *domain, const struct saved_domain *from, u64 n) {
    const struct saved_row *row = &from->rows[n];
    bool vm = domain_is_vm(domain);
    struct cap *cap;
    u64 bells = 0;
    if (!event_valid(row->event)) return STATUS_BAD_ARGUMENT;
    switch (row->kind) {
    case SAVED_TIMER:
        for (u64 i = 0; i < n; i++)
            if (from->rows[i].kind == SAVED_TIMER && from->rows[i].slot == row->slot)
                return STATUS_BAD_ARGUMENT;
        return vm ? STATUS_BAD_ARGUMENT : cap_empty(domain, row->slot, &cap);
    case SAVED_BINDING:
        return vm ? STATUS_BAD_ARGUMENT : cap_get(domain, row->slot, OBJECT_CHANNEL, 0, &cap);
    case SAVED_DOORBELL:
        for (u64 i = 0; i < n; i++)
            bells += from->rows[i].kind == SAVED_DOORBELL;
        return vm && row->slot <= 0xffff && bells < MAX_DOORBELLS ? STATUS_OK : STATUS_BAD_ARGUMENT;
    default: return STATUS_BAD_ARGUMENT;
    }
}

/* All or none. */
static u32 make_timers(struct domain *domain, const struct saved_domain *from, u64 rows) {
    for (u64 i = 0; i < rows; i++) {
        const struct saved_row *row = &from->rows[i];
        if (row->kind != SAVED_TIMER) continue;
        u32 status = timer_create(domain, &domain->caps[row->slot], row->event);
        if (status == STATUS_OK) {
            timer_set(domain->caps[row->slot].object, row->value);
            continue;
        }
        while (i--)
            if (from->rows[i].kind == SAVED_TIMER) cap_delete(&domain->caps[from->rows[i].slot]);
        return status;
    }
    return STATUS_OK;
}

u32 domain_load(struct domain *domain, const void *page, u64 rows) {
    static struct saved_domain copy; /* under the kernel lock */
    if (rows > ROWS_MOST) return STATUS_BAD_ARGUMENT;
    if (has_run(domain)) return STATUS_BAD_STATE;
    memcpy(&copy, page, sizeof(copy));
    u32 status = STATUS_OK;
    for (u64 i = 0; i < rows && status == STATUS_OK; i++)
        status = check_row(domain, &copy, i);
    if (status == STATUS_OK) status = make_timers(domain, &copy, rows);
    if (status != STATUS_OK) return status;
    unsigned bells = 0;
    memset(domain->doorbells, 0, sizeof(domain->doorbells));
    for (const struct saved_row *row = copy.rows; row < copy.rows + rows; row++) {
        if (row->kind == SAVED_BINDING) channel_bind(&domain->caps[row->slot], domain, row->event);
        if (row->kind == SAVED_DOORBELL)
            domain->doorbells[bells++] =
                (struct doorbell){row->value, (u16)row->slot, (u8)row->event};
    }
    domain->events = copy.snapshot.events;
    bool begins = copy.snapshot.started || !domain_is_vm(domain);
    domain->tsc_offset = begins ? copy.snapshot.tsc - domain->paused_at : 0;
    if (begins && !domain->tsc_offset) domain->tsc_offset = 1; /* 0: it has not begun */
    return STATUS_OK;
}

/* --- vCPUs --- */

/* What is in both structures under one name. */
#define EACH_FIELD(field)                                                                          \
    field(state) field(activity) field(event_length) field(exit_type) field(exit_length)           \
        field(exit_size) field(misc_enable) field(clock) field(steal) field(steal_version)
#define EACH_OTHER(field)                                                                          \
    field(nmis, nmi) field(tsc_aux, unswitched.tsc_aux) field(xcr0, unswitched.xcr0)               \
        field(posted_requests, posted.requests) field(count_start, apic.count_start)               \
            field(deadline, apic.deadline) field(apic_error, apic.error)                           \
                field(mtrr_def_type, mtrrs.def_type)
#define EACH_ARRAY(array)                                                                          \
    array(dr, unswitched.dr) array(posted_vectors, posted.vectors)                                 \
        array(posted_level, posted.level) array(mtrr_fixed, mtrrs.fixed)                           \
            array(mtrr_variable, mtrrs.variable)
#define SAME_SIZE(name, of)                                                                        \
    _Static_assert(sizeof(((struct vcpu_snapshot *)0)->name) == sizeof(((struct vcpu *)0)->of),    \
                   "not of one size: " #name);
EACH_ARRAY(SAME_SIZE)

static void save_vm(struct vcpu *vcpu, struct vcpu_snapshot *s) {
    s->event = vcpu->event;
    s->event_error = vcpu->event_error;
#define SAVE(name)           s->name = vcpu->name;
#define SAVE_OTHER(name, of) s->name = vcpu->of;
#define SAVE_ARRAY(name, of) memcpy(s->name, vcpu->of, sizeof(s->name));
    EACH_FIELD(SAVE)
    EACH_OTHER(SAVE_OTHER)
    EACH_ARRAY(SAVE_ARRAY)
    guest_snapshot_read(vcpu, s);
    if (!(s->event & EVENT_VALID)) {
        s->event = s->event_error = s->event_length = 0;
    } else if (EVENT_TYPE(s->event) == 2) { /* it waits again */
        s->event = s->event_error = s->event_length = 0;
        s->nmis += s->nmis < 2;
    }
    s->stolen = vcpu->stolen_before + vcpu->stolen;
    s->extint = (u32)vcpu->extint;
    s->apic_base = vcpu->apic.base;
    s->flags = (vcpu->answered ? SAVED_FLAG_ANSWERED : 0) |
               (vcpu->interruptible ? SAVED_FLAG_INTERRUPTIBLE : 0) |
               (vcpu->apic.count_over ? SAVED_FLAG_COUNT_OVER : 0);
    if (vcpu->tsc_offset)
        s->tsc_adjust = vcpu->domain->paused_at + vcpu->tsc_offset - domain_tsc(vcpu->domain);
}

static u64 save_registers(struct vcpu *vcpu, struct vcpu_snapshot *s) {
    struct vcpu_state *state = (struct vcpu_state *)s->registers;
    memset(s, 0, sizeof(*s));
    guest_state_read(vcpu, state);
    state->tsc_offset = 0;
    s->state = vcpu->state;
    if (domain_is_vm(vcpu->domain))
        save_vm(vcpu, s);
    else
        s->flags = vcpu->waiting ? SAVED_FLAG_WAITING : 0;
    return sizeof(*s);
}

/* Where a part is, and how much of it there is; 0: none. */
static u64 part_at(const struct vcpu *vcpu, u64 part, void **at) {
    u32 area = xstate_area_size();
    u32 from = part == PART_VECTORS_HIGH ? PAGE_SIZE : 0, rest = area > from ? area - from : 0;
    bool vm = domain_is_vm(vcpu->domain);
    if (vm == (part == PART_COMM)) return 0;
    switch (part) {
    case PART_COMM: *at = vcpu->domain->comm; return PAGE_SIZE;
    case PART_APIC: *at = vcpu->apic.page; return VAPIC_SAVED;
    case PART_EXIT: *at = vcpu->exit; return sizeof(struct exit_message);
    case PART_VECTORS:
    case PART_VECTORS_HIGH:
        *at = (u8 *)vcpu->unswitched.xsave + from;
        return rest < PAGE_SIZE ? rest : PAGE_SIZE;
    }
    return 0;
}

u32 vcpu_save(struct vcpu *vcpu, u64 part, void *page, u64 *bytes) {
    void *at;
    if (part >= PART_COUNT) return STATUS_BAD_ARGUMENT;
    if (part == PART_REGISTERS) {
        *bytes = save_registers(vcpu, page);
        return STATUS_OK;
    }
    *bytes = part_at(vcpu, part, &at);
    if (*bytes) memcpy(page, at, *bytes);
    return STATUS_OK;
}

/* --- what is loaded --- */

#define VECTORS_NEVER 0xffffull /* below 16, of the first 64 */
#define POSTED_KNOWN                                                                               \
    (POSTED_EDGES | POSTED_LEVELS | POSTED_TIMER | POSTED_ILLEGAL | POSTED_NMI |                   \
     POSTED_NMI_AGAIN | POSTED_INIT | POSTED_STARTUP | 0xffu << POSTED_PAGE_SHIFT)
#define PENDING_DEBUG 0x500full /* B0 to B3, enabled breakpoint, BS */
#define DR7_KNOWN     0xffff2bffull
#define DR7_FIXED     0x400ull
#define VM_FLAGS      (SAVED_FLAG_ANSWERED | SAVED_FLAG_INTERRUPTIBLE | SAVED_FLAG_COUNT_OVER)

static bool canonical(u64 address) { return (u64)((i64)(address << 16) >> 16) == address; }

static bool pat_valid(u64 pat) {
    for (unsigned i = 0; i < 64; i += 8)
        if ((pat >> i & 0xff) > 7 || (pat >> i & 0xfe) == 2) return false;
    return true;
}

/* As an entry wants it, on which the CPU would fail else, by the kernel's fault. */
static bool event_fits(struct vcpu_snapshot *s, u64 rflags) {
    u32 type = EVENT_TYPE(s->event), vector = EVENT_VECTOR(s->event);
    bool error = s->event & EVENT_HAS_ERROR;
    if (!s->event) return true;
    if (!(s->event & EVENT_VALID) || s->event & ~EVENT_FIELDS || !(EVENT_TYPES >> type & 1))
        return false;
    s->event_error &= 0x7fff;
    if (type == 3) {
        s->event &= ~EVENT_HAS_ERROR;
        if (vector < 32 && (VECTORS_WITH_ERROR >> vector & 1)) s->event |= EVENT_HAS_ERROR;
        return vector < 32 && vector != VECTOR_NMI;
    }
    if (type == 0) return !error && (rflags & RFLAGS_IF) && !(s->blocking & ~BLOCKING_NMI);
    return !error && s->event_length >= 1 && s->event_length <= 15;
}

/* What hardware or the kernel would fault at is refused, reserved bits go. The rest is the guest's
   own harm: an entry that fails is its end. */
static bool vm_fits(struct vcpu_snapshot *s) {
    u64 rflags = ((const struct vcpu_state *)s->registers)->rflags;
    s->blocking &= BLOCKING_STI | BLOCKING_MOV_SS | BLOCKING_NMI;
    if (!(rflags & RFLAGS_IF)) s->blocking &= ~BLOCKING_STI;
    s->pending_debug &= PENDING_DEBUG;
    s->dr6 = (s->dr6 & DR6_CAUSES) | DR6_RESET;
    s->dr7 = (s->dr7 & DR7_KNOWN) | DR7_FIXED;
    s->sysenter_cs = (u32)s->sysenter_cs;
    s->fmask = (u32)s->fmask;
    s->tsc_aux = (u32)s->tsc_aux;
    s->misc_enable &= MISC_ENABLE_KNOWN;
    s->steal &= ~STEAL_TIME_RESERVED;
    s->posted_requests &= POSTED_KNOWN;
    s->posted_vectors[0] &= ~VECTORS_NEVER;
    s->posted_level[0] &= ~VECTORS_NEVER;
    s->apic_error &= 0xff;
    return s->state <= VCPU_EXITED && s->activity <= WAIT_FOR_SIPI && !(s->flags & ~VM_FLAGS) &&
           s->nmis <= 2 && (s->extint <= 255 || s->extint == ~0u) && s->exit_type <= EXIT_CLOCK &&
           (s->blocking & 3) != 3 && canonical(s->lstar) && canonical(s->cstar) &&
           canonical(s->kernel_gs_base) && canonical(s->sysenter_esp) &&
           canonical(s->sysenter_eip) && pat_valid(s->pat) && xstate_allowed(s->xcr0) &&
           vapic_base_valid(s->apic_base) && event_fits(s, rflags);
}

/* SYSCALL would go where the last VM's MSRs point. */
static bool component_fits(struct vcpu_snapshot *s) {
    ((struct vcpu_state *)s->registers)->efer &= ~EFER_SCE;
    return s->state <= VCPU_HALTED && !(s->flags & ~SAVED_FLAG_WAITING) &&
           (s->state != VCPU_HALTED || s->flags);
}

static void load_vm(struct vcpu *vcpu, const struct vcpu_snapshot *s) {
    guest_snapshot_write(vcpu, s);
    vcpu->event = s->event;
    vcpu->event_error = s->event_error;
    vapic_base_load(&vcpu->apic, s->apic_base);
#define LOAD(name)           vcpu->name = (__typeof__(vcpu->name))s->name;
#define LOAD_OTHER(name, of) vcpu->of = (__typeof__(vcpu->of))s->name;
#define LOAD_ARRAY(name, of) memcpy(vcpu->of, s->name, sizeof(s->name));
    EACH_FIELD(LOAD)
    EACH_OTHER(LOAD_OTHER)
    EACH_ARRAY(LOAD_ARRAY)
    vcpu->stolen_before = s->stolen;
    vcpu->stolen_told = ~0ull;
    vcpu->extint = (int)s->extint;
    vcpu->answered = s->flags & SAVED_FLAG_ANSWERED;
    vcpu->interruptible = s->flags & SAVED_FLAG_INTERRUPTIBLE;
    vcpu->apic.count_over = s->flags & SAVED_FLAG_COUNT_OVER;
    u64 tsc = domain_tsc(vcpu->domain) + s->tsc_adjust;
    vcpu->tsc_offset = tsc ? tsc - vcpu->domain->paused_at : 0;
    guest_tsc_offset_write(vcpu);
}

static u32 load_registers(struct vcpu *vcpu, const void *page, u64 bytes) {
    struct vcpu_snapshot s;
    bool vm = domain_is_vm(vcpu->domain);
    if (bytes != sizeof(s)) return STATUS_BAD_ARGUMENT;
    memcpy(&s, page, sizeof(s));
    struct vcpu_state *state = (struct vcpu_state *)s.registers;
    if (!(vm ? vm_fits(&s) : component_fits(&s))) return STATUS_BAD_ARGUMENT;
    state->tsc_offset = 0;
    vcpu_reset(vcpu);
    guest_state_write(vcpu, state);
    if (vm)
        load_vm(vcpu, &s);
    else
        component_info(vcpu->domain); /* as VCPU_START does */
    vcpu->waiting = s.flags & SAVED_FLAG_WAITING;
    vcpu->state = s.state;
    vcpu->attention = true;
    vcpu->share.vtime = s.state == VCPU_READY ? VTIME_NONE : 0; /* it begins with the others */
    return STATUS_OK;
}

u32 vcpu_load(struct vcpu *vcpu, u64 part, const void *page, u64 bytes) {
    void *at;
    if (part >= PART_COUNT || bytes > PAGE_SIZE) return STATUS_BAD_ARGUMENT;
    if (vcpu->run_time) return STATUS_BAD_STATE;
    if (part == PART_REGISTERS) return load_registers(vcpu, page, bytes);
    u64 size = part_at(vcpu, part, &at);
    if (!size) return STATUS_BAD_ARGUMENT;
    if (part == PART_VECTORS || part == PART_VECTORS_HIGH)
        return xstate_load(vcpu, part == PART_VECTORS ? 0 : PAGE_SIZE, page, bytes)
                   ? STATUS_OK
                   : STATUS_BAD_ARGUMENT;
    if (bytes != size) return STATUS_BAD_ARGUMENT;
    if (part == PART_APIC)
        vapic_load(&vcpu->apic, page);
    else
        memcpy(at, page, size);
    return STATUS_OK;
}
