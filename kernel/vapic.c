/* The local APIC of a vCPU: registers, priorities, messages, timer. */
#include "vapic.h"

#include "domain.h"
#include "regs.h"
#include "time.h"
#include "vcpu.h"
#include "vmx.h"
#include "x86.h"

/* Registers by number: MSR 0x800 + n. */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_SPURIOUS = 0x0f,
    REG_ISR = 0x10, /* eight words each */
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ERROR = 0x28,
    REG_LVT_CMCI = 0x2f,
    REG_ICR = 0x30,
    REG_LVT_TIMER = 0x32, /* then thermal, performance, LINT0, LINT1, error */
    REG_LVT_ERROR = 0x37,
    REG_INITIAL_COUNT = 0x38,
    REG_CURRENT_COUNT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
};

enum { LVT_CMCI, LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR };

#define VERSION               0x01060015u /* version 15h, 7 LVT entries, EOI-broadcast suppression */
#define SPURIOUS_ENABLE       (1u << 8)
#define SPURIOUS_NO_BROADCAST (1u << 12)
#define LVT_MASKED            (1u << 16)
#define LVT_MODE(lvt)         ((lvt) >> 8 & 7)
#define LVT_TIMER_MODE(lvt)   ((lvt) >> 17 & 3)
#define ERROR_SEND_ILLEGAL    (1u << 5)
#define ERROR_RECEIVE_ILLEGAL (1u << 6)
#define TIMER_RATE_MAX        20000 /* interrupts a second of a periodic timer */
#define ICR_LEVEL_ASSERT      (1u << 14)
#define ICR_TRIGGER_LEVEL     (1u << 15)
#define ICR_RESERVED          0xfff32000ull

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT, MODE_STARTUP, MODE_EXTINT };

static const u32 lvt_writable[] = {
    [LVT_CMCI] = 0x107ff,        [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff,
    [LVT_PERFORMANCE] = 0x107ff, [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,
    [LVT_ERROR] = 0x100ff,
};

static void timer_fired(struct timeout *timeout);

void vapic_reset(struct vapic *apic, u32 id) {
    timeout_cancel(&apic->timer);
    *apic = (struct vapic){
        .base = 0xfee00000 | APIC_BASE_ENABLE | APIC_BASE_X2APIC | (id ? 0 : APIC_BASE_BSP),
        .id = id,
        .spurious = 0xff,
        .timer.fire = timer_fired,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(apic->lvt); i++)
        apic->lvt[i] = LVT_MASKED;
    /* As firmware leaves it to a kernel that it starts: the PIC's line passes on the boot CPU. */
    if (id == 0) apic->lvt[LVT_LINT0] = MODE_EXTINT << 8;
    apic->lvt[LVT_LINT1] = MODE_NMI << 8;
}

static struct vcpu *vcpu_of_apic(struct vapic *apic) {
    return container_of(apic, struct vcpu, apic);
}

/* --- priorities --- */

static int highest(const struct vectors *set) {
    if (!set->any) return -1;
    int word = 31 - __builtin_clz(set->any);
    return 32 * word + 31 - __builtin_clz(set->words[word]);
}

static void vector_add(struct vectors *set, unsigned vector) {
    set->words[vector / 32] |= 1u << vector % 32;
    set->any |= 1u << vector / 32;
}

static void vector_remove(struct vectors *set, unsigned vector) {
    set->words[vector / 32] &= ~(1u << vector % 32);
    if (!set->words[vector / 32]) set->any &= ~(1u << vector / 32);
}

static u32 processor_priority(const struct vapic *apic) {
    int in_service = highest(&apic->isr);
    u32 service = in_service < 0 ? 0 : (u32)in_service & 0xf0;
    return (apic->tpr & 0xf0) >= service ? apic->tpr : service;
}

int vapic_pending(const struct vapic *apic) {
    int vector = highest(&apic->irr);
    if (vector < 0 || !(apic->spurious & SPURIOUS_ENABLE)) return -1;
    return ((u32)vector & 0xf0) > (processor_priority(apic) & 0xf0) ? vector : -1;
}

void vapic_accept(struct vapic *apic, unsigned vector) {
    vector_remove(&apic->irr, vector);
    vector_add(&apic->isr, vector);
}

bool vapic_passes_extint(const struct vapic *apic) {
    u32 lint0 = apic->lvt[LVT_LINT0];
    return !(apic->base & APIC_BASE_ENABLE) ||
           (!(lint0 & LVT_MASKED) && LVT_MODE(lint0) == MODE_EXTINT);
}

static void accept_fixed(struct vcpu *vcpu, unsigned vector, bool level) {
    struct vapic *apic = &vcpu->apic;
    if (vector < 16) {
        apic->error |= ERROR_RECEIVE_ILLEGAL;
        return;
    }
    if (!(apic->spurious & SPURIOUS_ENABLE)) return;
    vector_add(&apic->irr, vector);
    if (level)
        vector_add(&apic->tmr, vector);
    else
        vector_remove(&apic->tmr, vector);
    vcpu_kick(vcpu);
}

/* --- messages between APICs and from devices --- */

static void deliver(struct vcpu *vcpu, unsigned mode, unsigned vector, bool level) {
    switch (mode) {
    case MODE_FIXED:
    case MODE_LOWEST: accept_fixed(vcpu, vector, level); break;
    case MODE_NMI:
        vcpu->nmi = true;
        vcpu_kick(vcpu);
        break;
    case MODE_INIT: vcpu_init(vcpu); break;
    case MODE_STARTUP: vcpu_startup(vcpu, vector); break;
    }
}

/* Logical x2APIC id: the cluster in the upper half, one bit in the lower. */
static u32 logical_id(u32 id) { return (id >> 4) << 16 | 1u << (id & 15); }

static bool addressed(const struct vapic *apic, u32 destination, u32 broadcast, bool logical) {
    if (destination == broadcast) return true;
    if (!logical) return apic->id == destination;
    u32 own = logical_id(apic->id);
    return own >> 16 == destination >> 16 && (own & destination & 0xffff);
}

static void broadcast(struct domain *vm, u32 destination, u32 all, bool logical, unsigned mode,
                      unsigned vector, bool level) {
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        struct vcpu *vcpu = vm->vcpus[i];
        if (!vcpu || !addressed(&vcpu->apic, destination, all, logical)) continue;
        deliver(vcpu, mode, vector, level);
        if (mode == MODE_LOWEST) return; /* one of them: the first is as good as any */
    }
}

void vapic_message(struct domain *vm, u64 address, u64 data) {
    bool logical = address >> 2 & 1;
    broadcast(vm, address >> 12 & 0xff, 0xff, logical, data >> 8 & 7, data & 0xff, data >> 15 & 1);
}

static void send_ipi(struct vcpu *from, u64 icr) {
    unsigned vector = icr & 0xff, mode = icr >> 8 & 7, shorthand = icr >> 18 & 3;
    bool logical = icr >> 11 & 1;
    if (mode == MODE_INIT && (icr & (ICR_LEVEL_ASSERT | ICR_TRIGGER_LEVEL)) == ICR_TRIGGER_LEVEL)
        return; /* INIT level de-assert: nothing since the Pentium 4 */
    if (vector < 16 && (mode == MODE_FIXED || mode == MODE_LOWEST)) {
        from->apic.error |= ERROR_SEND_ILLEGAL;
        return;
    }
    if (shorthand == 0) {
        broadcast(from->domain, icr >> 32, ~0u, logical, mode, vector, false);
        return;
    }
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        struct vcpu *to = from->domain->vcpus[i];
        if (to && (shorthand == 2 || (to == from) == (shorthand == 1)))
            deliver(to, mode, vector, false);
    }
}

/* --- the timer --- */

static u32 divider(const struct vapic *apic) {
    u32 code = (apic->divide & 3) | (apic->divide >> 1 & 4);
    return code == 7 ? 1 : 2u << code;
}

static u64 guest_tsc(const struct vcpu *vcpu) { return rdtsc() + vcpu->tsc_offset; }

void vapic_timer_stop(struct vapic *apic) { timeout_cancel(&apic->timer); }

/* Guest TSC of the timer's next interrupt; 0: none. The counting modes run at the TSC's rate. */
static u64 timer_next(const struct vapic *apic) {
    if (LVT_TIMER_MODE(apic->lvt[LVT_TIMER]) == TIMER_DEADLINE) return apic->deadline;
    if (apic->initial_count == 0 || apic->count_over) return 0;
    return apic->count_start + (u64)apic->initial_count * divider(apic);
}

void vapic_timer_start(struct vcpu *vcpu) {
    u64 next = timer_next(&vcpu->apic);
    if (next)
        timeout_set(&vcpu->apic.timer, next - vcpu->tsc_offset);
    else
        timeout_cancel(&vcpu->apic.timer);
}

void vapic_tsc_write(struct vcpu *vcpu, u64 value) {
    u64 change = value - guest_tsc(vcpu);
    vcpu->tsc_offset += change;
    vcpu->apic.count_start += change;
    vmx_tsc_offset_write(vcpu);
    vapic_timer_start(vcpu);
}

static void timer_fired(struct timeout *timeout) {
    struct vapic *apic = container_of(timeout, struct vapic, timer);
    struct vcpu *vcpu = vcpu_of_apic(apic);
    u32 lvt = apic->lvt[LVT_TIMER];
    switch (LVT_TIMER_MODE(lvt)) {
    case TIMER_PERIODIC: {
        u64 period = (u64)apic->initial_count * divider(apic);
        if (period < tsc_hz / TIMER_RATE_MAX) /* slower than asked for, but the guest gets on */
            period = tsc_hz / TIMER_RATE_MAX;
        u64 missed = (guest_tsc(vcpu) - apic->count_start) / period;
        apic->count_start += (missed ? missed : 1) * period;
        vapic_timer_start(vcpu);
        break;
    }
    case TIMER_DEADLINE: apic->deadline = 0; break;
    default: apic->count_over = true; break;
    }
    if (!(lvt & LVT_MASKED)) accept_fixed(vcpu, lvt & 0xff, false);
}

void vapic_deadline_write(struct vcpu *vcpu, u64 deadline) {
    struct vapic *apic = &vcpu->apic;
    if (LVT_TIMER_MODE(apic->lvt[LVT_TIMER]) != TIMER_DEADLINE)
        return; /* the write is ignored in the other modes */
    apic->deadline = deadline;
    vapic_timer_start(vcpu);
}

u64 vapic_deadline_read(const struct vapic *apic) { return apic->deadline; }

static u32 current_count(const struct vcpu *vcpu) {
    const struct vapic *apic = &vcpu->apic;
    if (apic->initial_count == 0 || apic->count_over ||
        LVT_TIMER_MODE(apic->lvt[LVT_TIMER]) == TIMER_DEADLINE)
        return 0;
    u64 ticks = (guest_tsc(vcpu) - apic->count_start) / divider(apic);
    if (LVT_TIMER_MODE(apic->lvt[LVT_TIMER]) == TIMER_PERIODIC) ticks %= apic->initial_count;
    return ticks >= apic->initial_count ? 0 : apic->initial_count - (u32)ticks;
}

/* --- registers --- */

static void end_of_interrupt(struct vcpu *vcpu) {
    struct vapic *apic = &vcpu->apic;
    int vector = highest(&apic->isr);
    if (vector < 0) return;
    vector_remove(&apic->isr, (unsigned)vector);
    if (highest(&apic->irr) >= 0) vcpu_kick(vcpu);
    bool level = apic->tmr.words[vector / 32] >> vector % 32 & 1;
    if (level && !(apic->spurious & SPURIOUS_NO_BROADCAST) && vcpu->exit) {
        vcpu->exit->value = (u64)vector;
        vcpu_forward(vcpu, EXIT_EOI);
    }
}

static int lvt_index(u32 reg) {
    if (reg == REG_LVT_CMCI) return LVT_CMCI;
    return reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR ? (int)(reg - REG_LVT_TIMER + LVT_TIMER)
                                                        : -1;
}

bool vapic_read(struct vcpu *vcpu, u32 msr, u64 *value) {
    const struct vapic *apic = &vcpu->apic;
    u32 reg = msr - MSR_X2APIC_BASE;
    if (!(apic->base & APIC_BASE_X2APIC)) return false;
    if (reg >= REG_ISR && reg < REG_ERROR) {
        const struct vectors *set = reg < REG_TMR   ? &apic->isr
                                    : reg < REG_IRR ? &apic->tmr
                                                    : &apic->irr;
        *value = set->words[reg & 7];
        return true;
    }
    if (lvt_index(reg) >= 0) {
        *value = apic->lvt[lvt_index(reg)];
        return true;
    }
    switch (reg) {
    case REG_ID: *value = apic->id; return true;
    case REG_VERSION: *value = VERSION; return true;
    case REG_TPR: *value = apic->tpr; return true;
    case REG_PPR: *value = processor_priority(apic); return true;
    case REG_LDR: *value = logical_id(apic->id); return true;
    case REG_SPURIOUS: *value = apic->spurious; return true;
    case REG_ERROR: *value = apic->error_written; return true;
    case REG_ICR: *value = apic->icr; return true;
    case REG_INITIAL_COUNT: *value = apic->initial_count; return true;
    case REG_CURRENT_COUNT: *value = current_count(vcpu); return true;
    case REG_DIVIDE: *value = apic->divide; return true;
    default: return false;
    }
}

static bool write_lvt(struct vcpu *vcpu, int index, u64 value) {
    struct vapic *apic = &vcpu->apic;
    if (value & ~(u64)lvt_writable[index]) return false;
    u32 before = apic->lvt[index];
    apic->lvt[index] = (u32)value | (apic->spurious & SPURIOUS_ENABLE ? 0 : LVT_MASKED);
    if (index == LVT_TIMER && LVT_TIMER_MODE(before) != LVT_TIMER_MODE((u32)value)) {
        apic->deadline = 0;
        apic->initial_count = 0;
        vapic_timer_stop(apic);
    }
    vcpu_kick(vcpu); /* LINT0 may pass now what it held back */
    return true;
}

bool vapic_write(struct vcpu *vcpu, u32 msr, u64 value) {
    struct vapic *apic = &vcpu->apic;
    u32 reg = msr - MSR_X2APIC_BASE;
    if (!(apic->base & APIC_BASE_X2APIC) || (reg != REG_ICR && value >> 32)) return false;
    switch (reg) {
    case REG_EOI:
        if (value) return false;
        end_of_interrupt(vcpu);
        return true;
    case REG_TPR:
        if (value & ~0xffull) return false;
        apic->tpr = (u32)value;
        vcpu_kick(vcpu);
        return true;
    case REG_SPURIOUS:
        if (value & ~(0x1ffull | SPURIOUS_NO_BROADCAST)) return false;
        apic->spurious = (u32)value;
        if (!(value & SPURIOUS_ENABLE))
            for (unsigned i = 0; i < ARRAY_SIZE(apic->lvt); i++)
                apic->lvt[i] |= LVT_MASKED;
        vcpu_kick(vcpu);
        return true;
    case REG_ERROR:
        if (value) return false;
        apic->error_written = apic->error;
        apic->error = 0;
        return true;
    case REG_ICR:
        if (value & ICR_RESERVED) return false;
        apic->icr = value;
        send_ipi(vcpu, value);
        return true;
    case REG_INITIAL_COUNT:
        if (LVT_TIMER_MODE(apic->lvt[LVT_TIMER]) == TIMER_DEADLINE) return true;
        apic->initial_count = (u32)value;
        apic->count_start = guest_tsc(vcpu);
        apic->count_over = false;
        vapic_timer_start(vcpu);
        return true;
    case REG_DIVIDE:
        if (value & ~0xbull) return false;
        apic->divide = (u32)value;
        vapic_timer_start(vcpu);
        return true;
    case REG_SELF_IPI:
        if (value & ~0xffull) return false;
        accept_fixed(vcpu, (unsigned)value, false);
        return true;
    default: return lvt_index(reg) >= 0 && write_lvt(vcpu, lvt_index(reg), value);
    }
}

/* x2APIC mode, in which a vCPU starts, is not left: xAPIC mode comes with the MMIO page. */
bool vapic_base_write(struct vapic *apic, u64 value) { return value == apic->base; }
