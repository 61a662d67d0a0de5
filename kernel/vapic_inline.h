/* The inline part of the local APIC: its registers, and what is on the way of each interrupt. */
#pragma once

#include "domain.h"
#include "regs.h"
#include "vcpu.h"

/* Registers by number: MSR 0x800 + n, or offset 16 * n. */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_ARBITRATION = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SPURIOUS = 0x0f,
    REG_ISR = 0x10, /* eight words each */
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ERROR = 0x28,
    REG_LVT_CMCI = 0x2f,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT_TIMER = 0x32,
    REG_LVT_THERMAL = 0x33,
    REG_LVT_PERFORMANCE = 0x34,
    REG_LVT_LINT0 = 0x35,
    REG_LVT_LINT1 = 0x36,
    REG_LVT_ERROR = 0x37,
    REG_INITIAL_COUNT = 0x38,
    REG_CURRENT_COUNT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
    REGISTERS = 0x40,
};

#define SPURIOUS_ENABLE  (1u << 8)
#define ICR_LEVEL_ASSERT (1u << 14)

static inline u32 *vapic_reg(const struct vapic *apic, u32 reg) { return &apic->page[4 * reg]; }

static inline u32 vapic_top(u32 any) { return 31 - (u32)__builtin_clz(any); }

/* Of any vCPU, on any CPU. */
static inline u32 vapic_peek(const struct vapic *apic, u32 reg) {
    return atomic_load(vapic_reg(apic, reg));
}

static inline bool vapic_in_x2apic_mode(const struct vapic *apic) {
    return atomic_load(&apic->base) & APIC_BASE_X2APIC;
}

static inline bool vapic_enabled(const struct vapic *apic) {
    return atomic_load(&apic->base) & APIC_BASE_ENABLE;
}

static inline bool vapic_software_enabled(const struct vapic *apic) {
    return vapic_peek(apic, REG_SPURIOUS) & SPURIOUS_ENABLE;
}

/* The highest vector in the eight words from `reg` on; bit n of `any`: word n is not 0. */
static inline int vapic_highest(const struct vapic *apic, u32 reg, u32 any) {
    if (!any) return -1;
    u32 word = vapic_top(any);
    return (int)(32 * word) + 31 - __builtin_clz(*vapic_reg(apic, reg + word));
}

static inline u32 vapic_priority(const struct vapic *apic) {
    u32 tpr = *vapic_reg(apic, REG_TPR);
    int in_service = vapic_highest(apic, REG_ISR, apic->isr_any);
    u32 service = likely(in_service < 0) ? 0 : (u32)in_service & 0xf0;
    return (tpr & 0xf0) >= service ? tpr : service;
}

void vapic_look_again(struct vapic *apic); /* the CPU has changed IRR and ISR */

/* The interrupt that the CPU would take now, or -1. */
static inline int vapic_pending(struct vapic *apic) {
    if (unlikely(apic->delivers)) vapic_look_again(apic);
    int vector = vapic_highest(apic, REG_IRR, apic->irr_any);
    if (vector < 0) return -1;
    return ((u32)vector & 0xf0) > (vapic_priority(apic) & 0xf0) ? vector : -1;
}

/* It is being delivered: from the IRR to the ISR. */
static inline void vapic_accept(struct vapic *apic, u32 vector) {
    u32 word = vector / 32, bit = 1u << vector % 32;
    u32 *irr = vapic_reg(apic, REG_IRR + word);
    *irr &= ~bit;
    if (!*irr) apic->irr_any &= ~(1u << word);
    *vapic_reg(apic, REG_ISR + word) |= bit;
    apic->isr_any |= 1u << word;
}

/* Requests 64 vectors, two words of the registers. */
static inline void vapic_request(struct vapic *apic, u32 n, u64 vectors, bool level) {
    for (u32 word = 2 * n; vectors; word++, vectors >>= 32) {
        u32 bits = (u32)vectors, *tmr = vapic_reg(apic, REG_TMR + word);
        if (!bits) continue;
        *vapic_reg(apic, REG_IRR + word) |= bits;
        apic->irr_any |= 1u << word;
        *tmr = level ? *tmr | bits : *tmr & ~bits;
    }
}

/* Takes what others have posted. */
static inline void vapic_take_posted(struct vcpu *vcpu, u32 requests) {
    for (u32 left = requests & POSTED_EDGES; left; left &= left - 1) {
        u32 n = (u32)__builtin_ctz(left);
        vapic_request(&vcpu->apic, n, atomic_swap(&vcpu->posted.vectors[n], 0), false);
    }
    if (unlikely(requests > POSTED_EDGES)) vapic_take_rare(vcpu, requests);
}

/* A fixed interrupt from another CPU, a device, or the vCPU itself. */
static inline void vapic_post(struct vcpu *vcpu, u32 vector, bool level) {
    u32 n = vector / 64;
    if (unlikely(vector < 16)) return vcpu_post(vcpu, POSTED_ILLEGAL);
    if (!vapic_software_enabled(&vcpu->apic)) return;
    atomic_or(level ? &vcpu->posted.level[n] : &vcpu->posted.vectors[n], 1ull << vector % 64);
    vcpu_post(vcpu, level ? POSTED_LEVELS : POSTED_EDGE(n));
}

/* What guests send most, in x2APIC mode: a fixed interrupt to one CPU by its number, by a write to
   the ICR. False: it is another message. */
static inline bool vapic_send_fixed(struct vcpu *from, u64 icr) {
    const struct vapic *apic = &from->apic;
    u32 vector = icr & 0xff, id = (u32)(icr >> 32);
    if (((u32)icr & ~(ICR_LEVEL_ASSERT | 0xff)) || vector < 16 || id >= MAX_VCPUS ||
        !vapic_in_x2apic_mode(apic))
        return false;
    *vapic_reg(apic, REG_ICR) = (u32)icr;
    vapic_reg(apic, REG_ICR)[1] = id;
    struct vcpu *to = from->domain->vcpus[id];
    if (to && vapic_enabled(&to->apic)) vapic_post(to, vector, false);
    return true;
}

/* The same of a write to the register for self-IPIs. */
static inline bool vapic_send_self(struct vcpu *vcpu, u64 value) {
    if (value - 16 > 0xff - 16 || !vapic_in_x2apic_mode(&vcpu->apic)) return false;
    vapic_post(vcpu, (u32)value, false);
    return true;
}
