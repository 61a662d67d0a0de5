/* The life of a vCPU, and its exits to the device model. */
#include "vcpu.h"

#include "cpu.h"
#include "domain.h"
#include "frame.h"
#include "regs.h"
#include "vmcs.h"
#include "vmx.h"
#include "x86.h"

static struct gpa exit_page_at(u32 index) { return gpa(GPA_EXIT + (u64)index * PAGE_SIZE); }

u32 vcpu_create(struct domain *domain, u32 index, struct domain *model, struct vcpu **out) {
    if (index >= (domain->role == ROLE_VM ? MAX_VCPUS : 1) || (domain->role == ROLE_VM) != !!model)
        return STATUS_BAD_ARGUMENT;
    if (domain->vcpus[index]) return STATUS_IN_USE;
    if (model && (model->role != ROLE_DEVICE_MODEL || (model->vm && model->vm != domain) ||
                  (domain->model && domain->model != model)))
        return STATUS_BAD_ARGUMENT;
    if (model && !ept_is_free(&model->ept, exit_page_at(index), 1)) return STATUS_IN_USE;
    struct vcpu *vcpu = domain_pages(domain, 0);
    if (!vcpu) return STATUS_NO_QUOTA;
    _Static_assert(sizeof(struct vcpu) <= PAGE_SIZE, "a vCPU is a page");
    _Static_assert(offsetof(struct vcpu, gpr) == 0 && offsetof(struct vcpu, stack_top) == 128,
                   "known to vmx_entry.S");
    object_init(&vcpu->object, OBJECT_VCPU);
    vcpu->domain = domain;
    vcpu->index = index;
    bool made = vmx_vcpu_init(vcpu);
    if (made && model) {
        vcpu->exit = domain_pages(domain, 0);
        vcpu->unswitched.xsave = domain_pages(domain, xstate_order());
        made = vcpu->exit && vcpu->unswitched.xsave &&
               ept_map(&model->ept, exit_page_at(index), hpa_of(vcpu->exit), 0,
                       RIGHT_READ | RIGHT_WRITE);
        if (made) {
            domain->model = model;
            model->vm = domain;
        }
    }
    domain->vcpus[index] = vcpu;
    domain->vcpu_count++;
    if (!made) {
        vcpu_destroy(vcpu);
        return STATUS_NO_QUOTA;
    }
    vcpu_reset(vcpu);
    *out = vcpu;
    return STATUS_OK;
}

void vcpu_destroy(struct vcpu *vcpu) {
    struct domain *domain = vcpu->domain;
    vcpu_stop(vcpu);
    if (vcpu->exit && domain->model) {
        ept_unmap(&domain->model->ept, exit_page_at(vcpu->index), 1);
        vmx_flush_ept(&domain->model->ept);
        ept_free_tables(&domain->model->ept);
    }
    vmx_vcpu_destroy(vcpu);
    if (vcpu->exit) domain_pages_free(domain, vcpu->exit, 0);
    if (vcpu->unswitched.xsave) domain_pages_free(domain, vcpu->unswitched.xsave, xstate_order());
    domain->vcpus[vcpu->index] = NULL;
    domain->vcpu_count--;
    domain_pages_free(domain, vcpu, 0);
}

void vcpu_reset(struct vcpu *vcpu) {
    vcpu_stop(vcpu);
    vcpu->event = 0;
    vcpu->nmi = false;
    vcpu->extint = -1;
    vcpu->busy_since = vcpu->run_time;
    unswitched_evict(vcpu);
    vapic_reset(&vcpu->apic, vcpu->index);
    unswitched_reset(vcpu);
    memset(&vcpu->mtrrs, 0, sizeof(vcpu->mtrrs));
}

/* A VM's time begins with its first start, at 0 unless VCPU_SET said otherwise; its other vCPUs
   start with the same. */
void vcpu_start(struct vcpu *vcpu) {
    struct domain *domain = vcpu->domain;
    if (domain->role == ROLE_VM) {
        if (!domain->tsc_offset)
            domain->tsc_offset = vcpu->tsc_offset ? vcpu->tsc_offset : -rdtsc();
        if (!vcpu->tsc_offset) {
            vcpu->tsc_offset = domain->tsc_offset;
            vmx_tsc_offset_write(vcpu);
        }
    }
    vcpu->attention = true;
    sched_wake(vcpu, false);
}

void vcpu_stop(struct vcpu *vcpu) {
    sched_remove(vcpu);
    vapic_timer_stop(&vcpu->apic);
    vcpu->waiting = vcpu->answered = false;
    vcpu->state = VCPU_STOPPED;
}

void vcpu_fail(struct vcpu *vcpu) {
    vcpu_stop(vcpu);
    vcpu->state = VCPU_FAILED;
}

/* SDM volume 3, "Processor State After Reset". */
static void real_mode_reset(struct vcpu *vcpu, unsigned vector) {
    struct vcpu_state state = {.rflags = RFLAGS_FIXED, .cr0 = CR0_CD | CR0_NW | CR0_ET};
    struct segment_state *segments = (struct segment_state *)state.segments;
    for (unsigned s = SEGMENT_ES; s <= SEGMENT_IDTR; s++)
        segments[s] = (struct segment_state){.limit = 0xffff, .access = SEGMENT_ACCESS_REAL_DATA};
    segments[SEGMENT_CS] = (struct segment_state){.selector = (u16)(vector << 8),
                                                  .limit = 0xffff,
                                                  .access = SEGMENT_ACCESS_REAL_CODE,
                                                  .base = (u64)vector << PAGE_SHIFT};
    segments[SEGMENT_LDTR].access = SEGMENT_ACCESS_LDT;
    segments[SEGMENT_TR].access = SEGMENT_ACCESS_TSS;
    state.gpr[2] = cpuid(1, 0).eax;
    vmx_state_write(vcpu, &state);
}

void vcpu_init(struct vcpu *vcpu) {
    if (vcpu->state == VCPU_FAILED) return;
    u64 base = vcpu->apic.base;
    vcpu_reset(vcpu);
    vcpu->apic.base = base;
    vcpu->waits_for_startup = true;
}

void vcpu_startup(struct vcpu *vcpu, unsigned vector) {
    if (vcpu->state != VCPU_STOPPED || !vcpu->waits_for_startup) return;
    vcpu->waits_for_startup = false;
    real_mode_reset(vcpu, vector);
    vcpu_start(vcpu);
}

bool vcpu_runnable(const struct vcpu *vcpu) {
    return vcpu->state == VCPU_READY && vcpu->domain->state == DOMAIN_ACTIVE;
}

void vcpu_freeze(struct vcpu *vcpu) {
    sched_remove(vcpu);
    vapic_timer_stop(&vcpu->apic);
}

void vcpu_thaw(struct vcpu *vcpu, u64 away) {
    if (vcpu->tsc_offset) { /* else it has not begun */
        vcpu->tsc_offset -= away;
        vmx_tsc_offset_write(vcpu);
    }
    vapic_timer_start(vcpu);
    if (vcpu->state == VCPU_READY) sched_wake(vcpu, false);
}

void vcpu_kick(struct vcpu *vcpu) {
    vcpu->attention = true;
    if (vcpu->state == VCPU_HALTED && inject_waiting(vcpu)) sched_wake(vcpu, true);
}

/* --- exits that the device model answers --- */

void vcpu_forward(struct vcpu *vcpu, u32 type) {
    struct domain *model = vcpu->domain->model;
    if (!model || model->state != DOMAIN_ACTIVE || !model->vcpus[0]) {
        domain_fail(vcpu->domain, FAILURE_ORPHAN, 0);
        return;
    }
    vcpu->exit->type = vcpu->exit_type = type;
    vcpu->state = VCPU_EXITED;
    vcpu->forwarded++;
    model->events |= 1ull << vcpu->index;
    struct vcpu *companion = model->vcpus[0];
    if (companion->state == VCPU_HALTED) companion->state = VCPU_READY;
    if (companion->state == VCPU_READY)
        sched_hand_over(companion);
    else
        sched_remove(vcpu); /* it is stopped, and so waits for long: another one's turn */
}

bool vcpu_answer(struct vcpu *vcpu) {
    if (vcpu->state != VCPU_EXITED) return false;
    vcpu->state = VCPU_READY;
    vcpu->answered = true;
    return true;
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
    for (unsigned i = 0; i < 16; i++)
        if ((which >> i & 1) && i != 4) vcpu->gpr[i] = vcpu->exit->gpr[i];
    if (which & 1u << 4) vmwrite64(VMCS_GUEST_RSP, vcpu->exit->gpr[4]);
    if (which & REPLY_SET_RFLAGS) {
        u64 change = RFLAGS_STATUS | RFLAGS_RF;
        vmwrite64(VMCS_GUEST_RFLAGS,
                  (vmread64(VMCS_GUEST_RFLAGS) & ~change) | (vcpu->exit->rflags & change));
    }
}

/* The page is the device model's to change at any time: each field is read once. */
void vcpu_apply_answer(struct vcpu *vcpu) {
    volatile struct exit_message *message = vcpu->exit;
    u32 reply = message->reply;
    vcpu->answered = false;
    if (vcpu->exit_type > EXIT_MMIO) return; /* nothing of the guest is in question */
    if (reply == REPLY_STOP) {
        vcpu_stop(vcpu);
        return;
    }
    if (reply == REPLY_INJECT) {
        u32 vector = message->reply_vector & 31;
        if (vector == VECTOR_PF) write_cr2(message->reply_cr2);
        inject_exception(vcpu, vector == 2 ? VECTOR_GP : vector, message->reply_error);
        return;
    }
    if (vcpu->exit_type == EXIT_PORT_IN && reply == REPLY_ADVANCE)
        vcpu->gpr[0] = merge_in(vcpu->gpr[0], message->reply_value, vcpu->exit_size);
    if (vcpu->exit_type >= EXIT_PORT_STRING) take_gprs(vcpu, message->reply_gprs);
    if (reply == REPLY_ADVANCE) {
        u32 length = vcpu->exit_length ? vcpu->exit_length : message->reply_length;
        vmcs_advance(length & 15);
    }
}
