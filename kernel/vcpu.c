/* The life of a vCPU, and its exits to the device model. */
#include "vcpu.h"

#include "apic.h"
#include "cpu.h"
#include "domain.h"
#include "frame.h"
#include "guest.h"
#include "memory.h"
#include "paging.h"
#include "regs.h"
#include "smp.h"
#include "time.h"
#include "trap.h"
#include "x86.h"

#define GIGA 1000000000ull

u64 vcpus_past_time;

static struct gpa exit_page_at(u32 index) { return gpa(GPA_EXIT + (u64)index * PAGE_SIZE); }

u32 vcpu_create(struct domain *domain, u32 index, struct domain *model, struct vcpu **out) {
    if (index >= (domain->role == ROLE_VM ? MAX_VCPUS : 1) || (domain->role == ROLE_VM) != !!model)
        return STATUS_BAD_ARGUMENT;
    if (domain->vcpus[index]) return STATUS_IN_USE;
    if (model && (model->role != ROLE_DEVICE_MODEL || (model->vm && model->vm != domain) ||
                  ((domain->model || domain->vcpu_count) && domain->model != model)))
        return STATUS_BAD_ARGUMENT; /* nor if it had another, where its exit pages were */
    if (model && !memory_is_free(model, exit_page_at(index), 1)) return STATUS_IN_USE;
    struct vcpu *vcpu = domain_pages(domain, 0);
    if (!vcpu) return STATUS_NO_QUOTA;
    _Static_assert(sizeof(struct vcpu) <= PAGE_SIZE, "a vCPU is a page");
    _Static_assert(offsetof(struct vcpu, gpr) == 0 && offsetof(struct vcpu, stack_top) == 128 &&
                       offsetof(struct vcpu, vmcb) == 136 && offsetof(struct vcpu, host) == 152,
                   "known to assembly");
    object_init(&vcpu->object, OBJECT_VCPU);
    vcpu->domain = domain;
    vcpu->index = index;
    vcpu->home = this_cpu();
    share_init(&vcpu->share);
    vcpu->replenish.fire = sched_replenished;
    home_count(vcpu, 1);
    bool made = guest_init(vcpu);
    if (made && model) {
        vcpu->exit = domain_pages(domain, 0);
        vcpu->unswitched.xsave = domain_pages(domain, xstate_order());
        vcpu->apic.page = domain_pages(domain, 0);
        made = vcpu->exit && vcpu->unswitched.xsave && vcpu->apic.page &&
               ept_map(&model->ept, exit_page_at(index), hpa_of(vcpu->exit), 1,
                       RIGHT_READ | RIGHT_WRITE);
        if (made) {
            domain->model = model;
            model->vm = domain;
        }
    }
    domain->vcpu_count++;
    if (!made) {
        vcpu_destroy(vcpu);
        return STATUS_NO_QUOTA;
    }
    vcpu_reset(vcpu);
    atomic_store(&domain->vcpus[index], vcpu);
    *out = vcpu;
    return STATUS_OK;
}

/* A domain and its device model or VM: only they touch each other without the kernel lock. */
static void pair_each(struct domain *domain, void (*function)(struct vcpu *)) {
    struct domain *pair[] = {domain, domain->model, domain->vm};
    for (unsigned p = 0; p < ARRAY_SIZE(pair); p++)
        for (unsigned i = 0; pair[p] && i < MAX_VCPUS; i++)
            if (pair[p]->vcpus[i]) function(pair[p]->vcpus[i]);
}

void pair_take(struct domain *domain) { pair_each(domain, sched_take); }
void pair_place(struct domain *domain) { pair_each(domain, sched_place); }

void vcpu_destroy(struct vcpu *vcpu) {
    struct domain *domain = vcpu->domain;
    pair_take(domain);
    vcpu_stop(vcpu);
    domain->vcpus[vcpu->index] = NULL;
    sched_settle();
    if (vcpu->exit && domain->model) ept_remove(&domain->model->ept, exit_page_at(vcpu->index), 1);
    guest_destroy(vcpu);
    if (vcpu->exit) domain_pages_free(domain, vcpu->exit, 0);
    if (vcpu->apic.page) domain_pages_free(domain, vcpu->apic.page, 0);
    if (vcpu->unswitched.xsave) domain_pages_free(domain, vcpu->unswitched.xsave, xstate_order());
    domain->vcpu_count--;
    vcpus_past_time += vcpu->run_time;
    home_forget(vcpu);
    domain_pages_free(domain, vcpu, 0);
    pair_place(domain);
}

void vcpu_reset(struct vcpu *vcpu) {
    vcpu_stop(vcpu);
    vcpu->event = 0;
    vcpu->nmi = 0;
    vcpu->extint = -1;
    vcpu->clock = vcpu->steal = 0;
    vcpu->misc_enable = MISC_ENABLE_FAST_STRINGS;
    vcpu->activity = WAIT_FOR_SIPI; /* unless VCPU_SET says where to begin */
    vcpu->posted = (struct posted){0};
    vcpu->busy_since = vcpu->run_time;
    unswitched_evict(vcpu);
    vapic_reset(&vcpu->apic, vcpu->index, VAPIC_BASE_RESET | (vcpu->index ? 0 : APIC_BASE_BSP));
    unswitched_reset(vcpu);
    memset(&vcpu->mtrrs, 0, sizeof(vcpu->mtrrs));
}

/* A VM's time begins with its first start, at 0 unless VCPU_SET said otherwise; its other vCPUs
   start with the same. */
void vcpu_start(struct vcpu *vcpu) {
    struct domain *domain = vcpu->domain;
    if (domain->role == ROLE_VM && !domain->tsc_offset)
        domain->tsc_offset = vcpu->tsc_offset ? vcpu->tsc_offset : -rdtsc();
    if (vcpu->tsc_offset != domain->tsc_offset && (!vcpu->tsc_offset || domain->role != ROLE_VM)) {
        vcpu->tsc_offset = domain->tsc_offset;
        guest_tsc_offset_write(vcpu);
    }
    vcpu->share.vtime = VTIME_NONE;
    vcpu->attention = true;
    vcpu->state = VCPU_READY;
    sched_place(vcpu);
}

void vcpu_stop(struct vcpu *vcpu) {
    sched_remove(vcpu);
    vapic_timer_stop(&vcpu->apic);
    vcpu->waiting = vcpu->answered = false;
    vcpu->state = VCPU_STOPPED;
}

void vcpu_look(struct vcpu *vcpu) {
    struct domain *domain = vcpu->domain;
    bool vm = domain->role == ROLE_VM, urgent = false;
    if (domain->state == DOMAIN_FAILED) {
        vcpu_stop(vcpu);
        vcpu->state = VCPU_FAILED;
        return;
    }
    if (domain->state != DOMAIN_ACTIVE || vcpu->state == VCPU_STOPPED) return;
    if (vcpu->arriving && vm) vapic_timer_start(vcpu);
    vcpu->arriving = false;
    if (vcpu->state == VCPU_EXITED)
        urgent = atomic_load(&vcpu->answered);
    else if (vcpu->state == VCPU_HALTED)
        urgent = vm ? vcpu->attention : atomic_load(&domain->events) != 0;
    else if (vcpu->state == VCPU_READY)
        sched_wake(vcpu, false);
    if (!urgent) return;
    vcpu->state = VCPU_READY;
    struct cpu *follow = atomic_swap(&vcpu->follow, NULL);
    if (!vm && follow && follow != vcpu->home && home_allows(vcpu, follow))
        sched_move(vcpu, follow);
    else
        sched_wake(vcpu, true);
}

/* SDM volume 3, "Processor State After Reset"; the column of INIT. */
static void real_mode_reset(struct vcpu *vcpu, u16 selector, u64 base, u64 rip) {
    struct vcpu_state state = {.rflags = RFLAGS_FIXED, .rip = rip, .cr0 = CR0_ET};
    struct segment_state *segments = (struct segment_state *)state.segments;
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_IDTR; s++)
        segments[s] = (struct segment_state){.limit = 0xffff, .access = SEGMENT_ACCESS_REAL_DATA};
    segments[SEGMENT_CS] = (struct segment_state){
        .selector = selector, .limit = 0xffff, .access = SEGMENT_ACCESS_REAL_CODE, .base = base};
    segments[SEGMENT_LDTR].access = SEGMENT_ACCESS_LDT;
    segments[SEGMENT_TR].access = SEGMENT_ACCESS_TSS;
    state.cr0 |= guest_cr0(vcpu) & (CR0_CD | CR0_NW);
    state.gpr[2] = cpuid(1, 0).eax;
    guest_state_write(vcpu, &state);
}

/* INIT leaves vector state, MSRs and the time alone. The boot CPU begins at the reset vector, the
   others wait for a start-up IPI. */
static void take_init(struct vcpu *vcpu) {
    u64 base = vcpu->apic.base;
    vapic_reset(&vcpu->apic, vcpu->index, base);
    vcpu->event = 0;
    vcpu->nmi = 0;
    guest_cr2_write(vcpu, 0);
    write_dr0(0);
    write_dr1(0);
    write_dr2(0);
    write_dr3(0);
    write_dr6(DR6_RESET);
    real_mode_reset(vcpu, 0xf000, 0xffff0000, 0xfff0);
    vcpu->activity = base & APIC_BASE_BSP ? ACTIVE : WAIT_FOR_SIPI;
}

COLD void vcpu_take_rare(struct vcpu *vcpu, u32 requests) {
    unsigned nmis = vcpu->nmi + !!(requests & POSTED_NMI) + !!(requests & POSTED_NMI_AGAIN);
    vcpu->nmi = nmis > 2 ? 2 : (u8)nmis; /* one, where one is being served: inject.c */
    if (requests & POSTED_INIT) take_init(vcpu);
    if ((requests & POSTED_STARTUP) && vcpu->activity == WAIT_FOR_SIPI) {
        unsigned page = requests >> POSTED_PAGE_SHIFT;
        real_mode_reset(vcpu, (u16)(page << 8), (u64)page << PAGE_SHIFT, 0);
    }
}

void vcpu_thaw(struct vcpu *vcpu, u64 away) {
    bool vm = domain_is_vm(vcpu->domain);
    if (vcpu->tsc_offset || !vm) { /* else it has not begun */
        vcpu->tsc_offset = vm ? vcpu->tsc_offset - away : vcpu->domain->tsc_offset;
        guest_tsc_offset_write(vcpu);
    }
    sched_place(vcpu);
}

/* --- what others ask of it --- */

/* Whoever enters it looks at its attention behind what says that it does; so does who halts it. */
static ALWAYS_INLINE void kick(struct vcpu *vcpu, bool edges) {
    atomic_set(&vcpu->attention, true);
    struct cpu *home = atomic_load(&vcpu->home);
    bool halted = atomic_load(&vcpu->state) == VCPU_HALTED;
    if (likely(home != this_cpu())) {
        if (halted)
            sched_mail(vcpu);
        else if (atomic_load(&home->current) != vcpu)
            return;
        else if (unlikely(edges && virt_posted && vcpu->apic.delivers))
            lapic_ipi(home->apic_id, IPI_FIXED | POSTED_VECTOR);
        else
            cpu_poke(home);
    } else if (halted) {
        sched_wake(vcpu, true);
    }
}

void vcpu_kick(struct vcpu *vcpu) { kick(vcpu, false); }

void vcpu_post(struct vcpu *vcpu, u32 requests) {
    atomic_or(&vcpu->posted.requests, requests);
    kick(vcpu, requests <= POSTED_EDGES);
}

/* A CPU takes the first at once, and keeps one more until that is served: a vCPU that does not run
   just then must find both. */
void vcpu_post_nmi(struct vcpu *vcpu) {
    if (atomic_or(&vcpu->posted.requests, POSTED_NMI) & POSTED_NMI)
        atomic_or(&vcpu->posted.requests, POSTED_NMI_AGAIN);
    vcpu_kick(vcpu);
}

/* INIT goes before a start-up IPI that is posted with it: one that came earlier is void. */
void vcpu_post_init(struct vcpu *vcpu) {
    atomic_and(&vcpu->posted.requests, POSTED_STARTUP - 1);
    vcpu_post(vcpu, POSTED_INIT);
}

/* The first of several counts: the others find the CPU started. */
void vcpu_post_startup(struct vcpu *vcpu, unsigned page) {
    u32 old = atomic_load(&vcpu->posted.requests);
    u32 startup = POSTED_STARTUP | page << POSTED_PAGE_SHIFT;
    while (!(old & POSTED_STARTUP) && !atomic_replace(&vcpu->posted.requests, &old, old | startup))
        ;
    vcpu_kick(vcpu);
}

/* What is posted while it falls asleep wakes it again. */
void vcpu_halt(struct vcpu *vcpu) {
    atomic_set(&vcpu->state, VCPU_HALTED);
    this_cpu()->attention = true;
    if (unlikely(atomic_load(&vcpu->attention))) vcpu_kick(vcpu);
}

/* --- exits that the device model answers --- */

void vcpu_forward(struct vcpu *vcpu, u32 type) {
    struct domain *model = vcpu->domain->model;
    if (!model || model->state == DOMAIN_FAILED || !model->vcpus[0]) {
        domain_fail(vcpu->domain, FAILURE_ORPHAN, 0);
        return;
    }
    vcpu->exit->type = vcpu->exit_type = type;
    vcpu->state = VCPU_EXITED;
    vcpu->forwarded++;
    struct vcpu *companion = model->vcpus[0];
    if (unlikely(atomic_load(&companion->home) != this_cpu())) { /* it comes here, if it is idle */
        atomic_store(&companion->follow, this_cpu());
        if (!atomic_or(&model->events, 1ull << vcpu->index)) sched_mail(companion);
        sched_remove(vcpu);
        return;
    }
    atomic_or(&model->events, 1ull << vcpu->index);
    if (companion->state == VCPU_HALTED) companion->state = VCPU_READY;
    if (companion->state == VCPU_READY)
        sched_hand_over(companion);
    else
        sched_remove(vcpu); /* it is stopped, and so waits for long: another one's turn */
}

bool vcpu_answer(struct vcpu *vcpu) {
    if (atomic_load(&vcpu->state) != VCPU_EXITED) return false;
    atomic_store(&vcpu->answered, true);
    if (unlikely(atomic_load(&vcpu->home) != this_cpu())) {
        sched_mail(vcpu);
        return false;
    }
    vcpu->state = VCPU_READY;
    return true;
}

/* struct kvm_steal_time: Linux Documentation/virt/kvm/x86/msr.rst. */
struct steal_time {
    u64 nanoseconds;
    u32 version; /* odd while it is written */
    u32 flags;
};

/* A page that is shared with a clone becomes its own first; if others are busy, next time. */
static bool steal_page(struct vcpu *vcpu, struct hpa *at) {
    struct gpa address = gpa(vcpu->steal & ~63ull);
    if (ept_translate(&vcpu->domain->ept, address, RIGHT_WRITE, at)) return true;
    if (!kernel_try_lock()) return false;
    struct mapping *mapping = mapping_at(vcpu->domain, address);
    bool own = mapping && memory_touch(mapping, address, RIGHT_WRITE) == STATUS_OK;
    kernel_unlock(true);
    return own && ept_translate(&vcpu->domain->ept, address, RIGHT_WRITE, at);
}

void vcpu_tell_steal(struct vcpu *vcpu) {
    struct hpa at;
    vcpu->stolen_told = vcpu->stolen;
    u64 ticks = vcpu->stolen_before + vcpu->stolen;
    if (!steal_page(vcpu, &at)) return;
    struct steal_time *to = window_map(at);
    atomic_store(&to->version, ++vcpu->steal_version);
    atomic_store(&to->nanoseconds, ticks / tsc_hz * GIGA + ticks % tsc_hz * GIGA / tsc_hz);
    atomic_store(&to->version, ++vcpu->steal_version);
    window_unmap(to);
}

/* RAX after IN: 8- and 16-bit data leave the rest of it, 32-bit data clear the upper half. */
static u64 merge_in(u64 rax, u64 value, u32 size) {
    switch (size) {
    case 1: return (rax & ~0xffull) | (u8)value;
    case 2: return (rax & ~0xffffull) | (u16)value;
    default: return (u32)value;
    }
}

#define RFLAGS_STATUS 0x8d5ull /* CF PF AF ZF SF OF */

static void take_gprs(struct vcpu *vcpu, u32 which) {
    for (u32 left = (u16)which & ~(1u << 4); left; left &= left - 1) {
        int i = __builtin_ctz(left);
        vcpu->gpr[i] = vcpu->exit->gpr[i];
    }
    if (which & 1u << 4) guest_rsp_write(vcpu, vcpu->exit->gpr[4]);
    if (which & REPLY_SET_RFLAGS) {
        u64 change = RFLAGS_STATUS | RFLAGS_RF;
        guest_rflags_write(vcpu, (guest_rflags(vcpu) & ~change) | (vcpu->exit->rflags & change));
    }
}

static NOINLINE void apply_exception(struct vcpu *vcpu) {
    volatile struct exit_message *message = vcpu->exit;
    u32 vector = message->reply_vector & 31;
    if (vector == VECTOR_PF) guest_cr2_write(vcpu, message->reply_cr2);
    inject_exception(vcpu, vector == 2 ? VECTOR_GP : vector, message->reply_error);
}

/* The page is the device model's to change at any time: each field is read once. */
void vcpu_apply_answer(struct vcpu *vcpu) {
    volatile struct exit_message *message = vcpu->exit;
    u32 reply = message->reply;
    vcpu->answered = false;
    if (vcpu->exit_type > EXIT_MMIO) return; /* nothing of the guest is in question */
    if (unlikely(reply == REPLY_STOP)) return vcpu_stop(vcpu);
    if (unlikely(reply == REPLY_INJECT)) return apply_exception(vcpu);
    if (vcpu->exit_type == EXIT_PORT_IN && reply == REPLY_ADVANCE)
        vcpu->gpr[0] = merge_in(vcpu->gpr[0], message->reply_value, vcpu->exit_size);
    if (vcpu->exit_type >= EXIT_PORT_STRING) take_gprs(vcpu, message->reply_gprs);
    if (reply == REPLY_ADVANCE) {
        u32 length = vcpu->exit_length ? vcpu->exit_length : message->reply_length;
        guest_advance(vcpu, length & 15);
    }
}
