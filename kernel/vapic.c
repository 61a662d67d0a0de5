/* The local APIC of a vCPU: registers, priorities, messages, timer. */
#include "vapic.h"

#include "domain.h"
#include "guest.h"
#include "regs.h"
#include "time.h"
#include "vapic_inline.h"
#include "x86.h"

#define BIT(reg) (1ull << (reg))
#define LVTS     (BIT(REG_LVT_CMCI) | 0x3full << REG_LVT_TIMER)
#define READABLE                                                                                   \
    (BIT(REG_ID) | BIT(REG_VERSION) | BIT(REG_TPR) | BIT(REG_PPR) | BIT(REG_LDR) |                 \
     BIT(REG_SPURIOUS) | 0xffffffull << REG_ISR | BIT(REG_ERROR) | LVTS | BIT(REG_ICR) |           \
     BIT(REG_INITIAL_COUNT) | BIT(REG_CURRENT_COUNT) | BIT(REG_DIVIDE))
#define READABLE_XAPIC (READABLE | BIT(REG_ARBITRATION) | BIT(REG_DFR) | BIT(REG_ICR_HIGH))
#define WRITABLE                                                                                   \
    (BIT(REG_TPR) | BIT(REG_EOI) | BIT(REG_SPURIOUS) | BIT(REG_ERROR) | LVTS | BIT(REG_ICR) |      \
     BIT(REG_INITIAL_COUNT) | BIT(REG_DIVIDE))
#define WRITABLE_X2APIC (WRITABLE | BIT(REG_SELF_IPI))
#define WRITABLE_XAPIC  (WRITABLE | BIT(REG_LDR) | BIT(REG_DFR) | BIT(REG_ICR_HIGH))

static const u32 defined_bits[REGISTERS] = {
    [REG_TPR] = 0xff,           [REG_LDR] = 0xff000000,          [REG_DFR] = 0xf0000000,
    [REG_SPURIOUS] = 0x11ff,    [REG_LVT_CMCI] = 0x107ff,        [REG_ICR] = 0xcdfff,
    [REG_ICR_HIGH] = ~0u << 24, [REG_LVT_TIMER] = 0x700ff,       [REG_LVT_THERMAL] = 0x107ff,
    [REG_LVT_LINT0] = 0x1a7ff,  [REG_LVT_PERFORMANCE] = 0x107ff, [REG_LVT_LINT1] = 0x1a7ff,
    [REG_LVT_ERROR] = 0x100ff,  [REG_INITIAL_COUNT] = ~0u,       [REG_DIVIDE] = 0xb,
    [REG_SELF_IPI] = 0xff,
};

#define VERSION               0x01060015u /* version 15h, 7 LVT entries, EOI-broadcast suppression */
#define SPURIOUS_NO_BROADCAST (1u << 12)
#define LVT_MASKED            (1u << 16)
#define LVT_READ_ONLY         0x5000u /* delivery status and remote IRR: they are not reserved */
#define DELIVERY_MODE(lvt)    ((lvt) >> 8 & 7) /* of an ICR too */
#define LVT_TIMER_MODE(lvt)   ((lvt) >> 17 & 3)
#define DFR_FLAT              0xffffffffu
#define DFR_RESERVED          0x0fffffffu /* ones */
#define ERROR_SEND_ILLEGAL    (1u << 5)
#define ERROR_RECEIVE_ILLEGAL (1u << 6)
#define ERROR_REGISTER        (1u << 7)
#define TIMER_RATE_MAX        20000 /* interrupts a second of a periodic timer */
#define ICR_PENDING           (1u << 12)
#define ICR_TRIGGER_LEVEL     (1u << 15)

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT, MODE_STARTUP, MODE_EXTINT };

static void timer_fired(struct timeout *timeout);
static void timer_expired(struct vcpu *vcpu);

/* --- modes --- */

/* x2APIC ids are fixed, and so are logical ones: the cluster in the upper half, one bit below. */
static u32 x2apic_ldr(u32 id) { return (id >> 4) << 16 | 1u << (id & 15); }

static void set_base(struct vapic *apic, u64 base) {
    bool x2apic = base & APIC_BASE_X2APIC;
    int serving = vapic_highest(apic, REG_ISR, apic->isr_any);
    u16 status = serving < 0 ? 0 : (u16)(serving << 8);
    apic->delivers = guest_apic_mode(container_of(apic, struct vcpu, apic), x2apic, status);
    apic->threshold = 0;
    *vapic_reg(apic, REG_ID) = x2apic ? apic->id : apic->id << 24;
    if (x2apic) *vapic_reg(apic, REG_LDR) = x2apic_ldr(apic->id);
    atomic_store(&apic->base, base);
}

/* The mode and the id do not waver meanwhile: a start-up IPI may follow INIT at once. */
void vapic_reset(struct vapic *apic, u32 id, u64 base) {
    u32 *page = apic->page, kept = offsetof(struct vapic, error);
    timeout_cancel(&apic->timer);
    memset((u8 *)apic + kept, 0, sizeof(*apic) - kept);
    apic->id = id;
    apic->timer.fire = timer_fired;
    if (!page) return;
    memset(page, 0, PAGE_SIZE);
    *vapic_reg(apic, REG_VERSION) = VERSION;
    *vapic_reg(apic, REG_DFR) = DFR_FLAT;
    *vapic_reg(apic, REG_SPURIOUS) = 0xff;
    for (u32 reg = REG_LVT_CMCI; reg < REG_INITIAL_COUNT; reg++)
        if (LVTS & BIT(reg)) *vapic_reg(apic, reg) = LVT_MASKED;
    /* As firmware leaves it to a kernel that it starts: the PIC's line passes on the boot CPU. */
    if (id == 0) *vapic_reg(apic, REG_LVT_LINT0) = MODE_EXTINT << 8;
    set_base(apic, base);
}

/* From each mode (bit 1: enabled, bit 0: x2APIC) to which: SDM "x2APIC State Transitions". */
static const u8 mode_follows[] = {1 << 0 | 1 << 2, 0, 1 << 0 | 1 << 2 | 1 << 3, 1 << 0 | 1 << 3};
#define MODE(base)         ((base) >> 10 & 3)
#define APIC_BASE_RESERVED 0x2ffull

bool vapic_base_valid(u64 base) {
    return !(base & (APIC_BASE_RESERVED | ~(EPT_ADDRESS_LIMIT - 1))) && MODE(base) != 1;
}

bool vapic_base_write(struct vcpu *vcpu, u64 value) {
    struct vapic *apic = &vcpu->apic;
    if (!vapic_base_valid(value) || !(mode_follows[MODE(apic->base)] >> MODE(value) & 1))
        return false;
    if (MODE(value) == 0)
        vapic_reset(apic, apic->id, value);
    else
        set_base(apic, value);
    vcpu->attention = true; /* the TPR may be another */
    return true;
}

bool vapic_has_page(const struct vapic *apic, u64 address) {
    return MODE(apic->base) == 2 && (address ^ apic->base) >> PAGE_SHIFT == 0;
}

/* --- priorities --- */

void vapic_look_again(struct vapic *apic) {
    apic->irr_any = apic->isr_any = 0;
    for (u32 word = 0; word < 8; word++) {
        apic->irr_any |= (u32) !!*vapic_reg(apic, REG_IRR + word) << word;
        apic->isr_any |= (u32) !!*vapic_reg(apic, REG_ISR + word) << word;
    }
}

bool vapic_passes_extint(const struct vapic *apic) {
    u32 lint0 = *vapic_reg(apic, REG_LVT_LINT0);
    return !(apic->base & APIC_BASE_ENABLE) ||
           (!(lint0 & LVT_MASKED) && DELIVERY_MODE(lint0) == MODE_EXTINT);
}

/* --- interrupts and errors of its own --- */

static void accept_own(struct vcpu *vcpu, unsigned vector);

static void raise_error(struct vcpu *vcpu, u32 bits) {
    struct vapic *apic = &vcpu->apic;
    u32 lvt = *vapic_reg(apic, REG_LVT_ERROR);
    bool again = apic->error & bits;
    apic->error |= bits;
    if (!again && !(lvt & LVT_MASKED)) accept_own(vcpu, lvt & 0xff);
}

/* An edge that comes from the vCPU itself: its timer, a self-IPI. The caller sees to it that it is
   injected. */
static void accept_own(struct vcpu *vcpu, unsigned vector) {
    struct vapic *apic = &vcpu->apic;
    if (vector < 16) {
        raise_error(vcpu, ERROR_RECEIVE_ILLEGAL);
    } else if (vapic_software_enabled(apic)) {
        vapic_request(apic, vector / 64, 1ull << vector % 64, false);
    }
}

/* --- interrupts from others --- */

void vapic_take_rare(struct vcpu *vcpu, u32 requests) {
    if (requests & POSTED_TIMER) timer_expired(vcpu);
    if (requests & POSTED_ILLEGAL) raise_error(vcpu, ERROR_RECEIVE_ILLEGAL);
    for (u32 n = 0; requests & POSTED_LEVELS && n < ARRAY_SIZE(vcpu->posted.level); n++) {
        u64 vectors = atomic_swap(&vcpu->posted.level[n], 0);
        if (vectors && vcpu->apic.delivers) /* their ends are for the device model */
            guest_eoi_exits_add(n, vectors);
        vapic_request(&vcpu->apic, n, vectors, true);
    }
}

/* --- messages between APICs and from devices --- */

/* SMI, and ExtINT from anywhere but the PIC's own line, are nothing here. */
static void deliver(struct vcpu *vcpu, unsigned mode, unsigned vector, bool level) {
    switch (mode) {
    case MODE_FIXED:
    case MODE_LOWEST: vapic_post(vcpu, vector, level); break;
    case MODE_NMI: vcpu_post_nmi(vcpu); break;
    case MODE_INIT: vcpu_post_init(vcpu); break;
    case MODE_STARTUP: vcpu_post_startup(vcpu, vector); break;
    }
}

/* A destination in the format of its sender: all ones are a broadcast; logical ones are read by the
   receiver's mode. */
struct destination {
    u32 id, broadcast;
    bool logical, lowest; /* lowest: one of them, of the lowest priority */
};

static bool addressed(const struct vapic *apic, const struct destination *to) {
    if (!vapic_enabled(apic)) return false;
    u32 flat = vapic_peek(apic, REG_LDR) >> 24, ldr = x2apic_ldr(apic->id);
    if (to->id == to->broadcast) return true;
    if (!to->logical) return false; /* there is none */
    if (vapic_in_x2apic_mode(apic)) return ldr >> 16 == to->id >> 16 && (ldr & to->id & 0xffff);
    if (vapic_peek(apic, REG_DFR) == DFR_FLAT) return flat & to->id;
    return (flat >> 4 == to->id >> 4 || to->id >> 4 == 15) && (flat & to->id & 15);
}

static NOINLINE void send_to_group(struct domain *vm, const struct destination *to, unsigned mode,
                                   unsigned vector, bool level) {
    struct vcpu *lowest = NULL;
    unsigned first = vm->vcpu_count ? vector % vm->vcpu_count : 0;
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        /* Among equals the vector says who it is, so that devices are spread. */
        struct vcpu *vcpu = vm->vcpus[(i + first) % MAX_VCPUS];
        if (!vcpu || !addressed(&vcpu->apic, to)) continue;
        if (!to->lowest)
            deliver(vcpu, mode, vector, level);
        else if (vapic_software_enabled(&vcpu->apic) &&
                 (!lowest || vapic_peek(&vcpu->apic, REG_TPR) < vapic_peek(&lowest->apic, REG_TPR)))
            lowest = vcpu;
    }
    if (lowest) deliver(lowest, mode, vector, level);
}

/* Ids are the vCPUs' numbers. */
static ALWAYS_INLINE void send(struct domain *vm, struct destination to, unsigned mode,
                               unsigned vector, bool level) {
    if (unlikely(to.logical || to.id >= MAX_VCPUS)) {
        send_to_group(vm, &to, mode, vector, level);
        return;
    }
    struct vcpu *vcpu = vm->vcpus[to.id];
    if (vcpu && vapic_enabled(&vcpu->apic)) deliver(vcpu, mode, vector, level);
}

void vapic_message(struct domain *vm, u64 address, u64 data) {
    unsigned mode = data >> 8 & 7;
    struct destination to = {.id = address >> 12 & 0xff,
                             .broadcast = 0xff,
                             .logical = address >> 2 & 1,
                             .lowest = mode == MODE_LOWEST || (address >> 3 & 1)};
    send(vm, to, mode, data & 0xff, data >> 15 & 1);
}

static void send_ipi(struct vcpu *from, u32 icr) {
    unsigned vector = icr & 0xff, mode = DELIVERY_MODE(icr), shorthand = icr >> 18 & 3;
    const struct vapic *apic = &from->apic;
    *vapic_reg(apic, REG_ICR) = icr & ~ICR_PENDING;
    from->ipis++;
    if (mode == MODE_INIT && (icr & (ICR_LEVEL_ASSERT | ICR_TRIGGER_LEVEL)) == ICR_TRIGGER_LEVEL)
        return; /* INIT level de-assert: nothing since the Pentium 4 */
    if (unlikely(!(icr & (0xf0 | 6 << 8)))) { /* below 16, of mode fixed or lowest priority */
        from->attention = true;
        return raise_error(from, ERROR_SEND_ILLEGAL);
    }
    if (likely(shorthand == 0)) {
        bool x2apic = vapic_in_x2apic_mode(apic);
        struct destination to = {.id = x2apic ? vapic_reg(apic, REG_ICR)[1]
                                              : *vapic_reg(apic, REG_ICR_HIGH) >> 24,
                                 .broadcast = x2apic ? ~0u : 0xff,
                                 .logical = icr >> 11 & 1,
                                 .lowest = mode == MODE_LOWEST};
        return send(from->domain, to, mode, vector, false);
    }
    for (unsigned i = 0; i < MAX_VCPUS; i++) {
        struct vcpu *to = from->domain->vcpus[i];
        if (to && vapic_enabled(&to->apic) && (shorthand == 2 || (to == from) == (shorthand == 1)))
            deliver(to, mode, vector, false);
    }
}

/* --- the timer --- */

static u32 divider(const struct vapic *apic) {
    u32 divide = *vapic_reg(apic, REG_DIVIDE), code = (divide & 3) | (divide >> 1 & 4);
    return code == 7 ? 1 : 2u << code;
}

static u64 guest_tsc(const struct vcpu *vcpu) { return rdtsc() + vcpu->tsc_offset; }

void vapic_timer_stop(struct vapic *apic) { timeout_cancel(&apic->timer); }

/* Ticks of the TSC, at whose rate the counting modes run; 0: the timer does not count. */
static u64 timer_period(const struct vapic *apic) {
    if (apic->timer_mode == TIMER_DEADLINE || apic->count_over) return 0;
    return (u64)*vapic_reg(apic, REG_INITIAL_COUNT) * divider(apic);
}

/* Guest TSC of the timer's next interrupt; 0: none. */
static u64 timer_next(const struct vapic *apic) {
    if (apic->timer_mode == TIMER_DEADLINE) return apic->deadline;
    u64 period = timer_period(apic);
    return period ? apic->count_start + period : 0;
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
    guest_tsc_offset_write(vcpu);
    vapic_timer_start(vcpu);
}

static void timer_fired(struct timeout *timeout) {
    struct vapic *apic = container_of(timeout, struct vapic, timer);
    vcpu_post(container_of(apic, struct vcpu, apic), POSTED_TIMER);
}

static void timer_expired(struct vcpu *vcpu) {
    struct vapic *apic = &vcpu->apic;
    u32 lvt = *vapic_reg(apic, REG_LVT_TIMER);
    u64 next = timer_next(apic), now = guest_tsc(vcpu);
    if (!next || next > now + TIMER_ADVANCE) return; /* set again since it fired */
    while (now + TIMER_TAIL < next)
        now = guest_tsc(vcpu);
    switch (apic->timer_mode) {
    case TIMER_PERIODIC: {
        u64 period = timer_period(apic);
        if (period < tsc_hz / TIMER_RATE_MAX) /* slower than asked for, but the guest gets on */
            period = tsc_hz / TIMER_RATE_MAX;
        u64 missed = (now - apic->count_start) / period;
        apic->count_start += (missed ? missed : 1) * period;
        vapic_timer_start(vcpu);
        break;
    }
    case TIMER_DEADLINE: apic->deadline = 0; break;
    default: apic->count_over = true; break;
    }
    if (!(lvt & LVT_MASKED)) accept_own(vcpu, lvt & 0xff);
}

void vapic_deadline_write(struct vcpu *vcpu, u64 deadline) {
    struct vapic *apic = &vcpu->apic;
    if (apic->timer_mode != TIMER_DEADLINE) return; /* ignored in the other modes */
    apic->deadline = deadline;
    if (deadline)
        timeout_set(&apic->timer, deadline - vcpu->tsc_offset);
    else
        timeout_cancel(&apic->timer);
}

u64 vapic_deadline_read(const struct vapic *apic) { return apic->deadline; }

static u32 current_count(const struct vcpu *vcpu) {
    const struct vapic *apic = &vcpu->apic;
    u64 period = timer_period(apic), passed = guest_tsc(vcpu) - apic->count_start;
    if (!period || (passed >= period && apic->timer_mode != TIMER_PERIODIC)) return 0;
    return (u32)((period - passed % period + divider(apic) - 1) / divider(apic));
}

static void set_divide(struct vcpu *vcpu, u32 value) {
    struct vapic *apic = &vcpu->apic;
    u64 done = *vapic_reg(apic, REG_INITIAL_COUNT) - current_count(vcpu);
    *vapic_reg(apic, REG_DIVIDE) = value;
    if (!timer_period(apic)) return;
    apic->count_start = guest_tsc(vcpu) - done * divider(apic); /* what is left goes on */
    vapic_timer_start(vcpu);
}

static void set_timer_mode(struct vcpu *vcpu, u32 mode) {
    struct vapic *apic = &vcpu->apic;
    if ((mode == TIMER_DEADLINE) != (apic->timer_mode == TIMER_DEADLINE)) {
        apic->deadline = 0;
        *vapic_reg(apic, REG_INITIAL_COUNT) = 0;
        vapic_timer_stop(apic);
    }
    apic->timer_mode = mode;
}

/* --- APIC virtualization: SDM volume 3, chapter of that name --- */

/* Not the current count, and without interrupt delivery not the PPR: nobody keeps them in the page.
 */
void vapic_msrs_virtual(u8 *bitmap, bool delivery, void (*allow)(u8 *bitmap, u32 msr, u32 rights)) {
    u64 readable = READABLE & ~BIT(REG_CURRENT_COUNT) & ~(delivery ? 0 : BIT(REG_PPR));
    for (u32 reg = 0; reg < REGISTERS; reg++)
        if (readable & BIT(reg)) allow(bitmap, MSR_X2APIC_BASE + reg, RIGHT_READ);
    u64 writable = BIT(REG_TPR) | (delivery ? BIT(REG_EOI) | BIT(REG_SELF_IPI) : 0);
    for (u32 reg = 0; reg < REGISTERS; reg++)
        if (writable & BIT(reg)) allow(bitmap, MSR_X2APIC_BASE + reg, RIGHT_WRITE);
}

void vapic_virtual_sync(struct vcpu *vcpu, bool waits) {
    struct vapic *apic = &vcpu->apic;
    if (apic->delivers) { /* of what was accepted here: the rest the CPU knows of */
        while (apic->irr_any && !*vapic_reg(apic, REG_IRR + vapic_top(apic->irr_any)))
            apic->irr_any &= ~(1u << vapic_top(apic->irr_any));
        guest_interrupt_request(vapic_highest(apic, REG_IRR, apic->irr_any));
        return;
    }
    int vector = waits ? -1 : vapic_highest(apic, REG_IRR, apic->irr_any);
    u8 class = vector < 0 ? 0 : (u8)(vector >> 4);
    u8 threshold = class <= *vapic_reg(apic, REG_TPR) >> 4 ? class : 0;
    if (threshold == apic->threshold) return;
    apic->threshold = threshold;
    guest_threshold_write(vcpu, threshold);
}

/* --- registers --- */

static int end_of_interrupt(struct vcpu *vcpu) {
    struct vapic *apic = &vcpu->apic;
    int vector = vapic_highest(apic, REG_ISR, apic->isr_any);
    if (vector < 0) return -1;
    u32 *isr = vapic_reg(apic, REG_ISR + (u32)vector / 32);
    *isr &= ~(1u << vector % 32);
    if (!*isr) apic->isr_any &= ~(1u << vector / 32);
    if (apic->irr_any) vcpu->attention = true;
    bool level = *vapic_reg(apic, REG_TMR + (u32)vector / 32) >> vector % 32 & 1;
    return level && !(*vapic_reg(apic, REG_SPURIOUS) & SPURIOUS_NO_BROADCAST) ? vector : -1;
}

u64 vapic_levels(const struct vapic *apic, unsigned n) {
    return *vapic_reg(apic, REG_TMR + 2 * n) | (u64)*vapic_reg(apic, REG_TMR + 2 * n + 1) << 32;
}

void vapic_ended(struct vcpu *vcpu, unsigned vector) {
    const struct vapic *apic = &vcpu->apic;
    if (!(*vapic_reg(apic, REG_TMR + vector / 32) >> vector % 32 & 1) ||
        (*vapic_reg(apic, REG_SPURIOUS) & SPURIOUS_NO_BROADCAST))
        return;
    vcpu->exit->value = vector;
    vcpu_forward(vcpu, EXIT_EOI);
}

static u32 read_register(const struct vcpu *vcpu, u32 reg) {
    switch (reg) {
    case REG_ARBITRATION:
    case REG_PPR: return vapic_priority(&vcpu->apic);
    case REG_CURRENT_COUNT: return current_count(vcpu);
    default: return *vapic_reg(&vcpu->apic, reg);
    }
}

static void write_spurious(struct vapic *apic, u32 value) {
    *vapic_reg(apic, REG_SPURIOUS) = value;
    for (u32 reg = REG_LVT_CMCI; reg < REG_INITIAL_COUNT && !(value & SPURIOUS_ENABLE); reg++)
        if (LVTS & BIT(reg)) *vapic_reg(apic, reg) |= LVT_MASKED;
}

/* Only defined bits of a register that there is; returns what vapic_page_write does. */
static int write_register(struct vcpu *vcpu, u32 reg, u32 value) {
    struct vapic *apic = &vcpu->apic;
    u32 *word = vapic_reg(apic, reg);
    if (reg == REG_ICR) {
        send_ipi(vcpu, value);
        return -1;
    }
    vcpu->attention = true;
    switch (reg) {
    case REG_SPURIOUS: write_spurious(apic, value); break;
    case REG_DFR: *word = value | DFR_RESERVED; break;
    case REG_ERROR:
        *word = apic->error;
        apic->error = 0;
        break;
    case REG_SELF_IPI:
        if (value < 16) raise_error(vcpu, ERROR_SEND_ILLEGAL);
        accept_own(vcpu, value);
        break;
    case REG_INITIAL_COUNT:
        if (apic->timer_mode == TIMER_DEADLINE) break;
        *word = value;
        apic->count_start = guest_tsc(vcpu);
        apic->count_over = false;
        vapic_timer_start(vcpu);
        break;
    case REG_DIVIDE: set_divide(vcpu, value); break;
    default:
        *word = value;
        if (reg == REG_LVT_TIMER) set_timer_mode(vcpu, LVT_TIMER_MODE(value));
        if ((LVTS & BIT(reg)) && !vapic_software_enabled(apic)) *word |= LVT_MASKED;
    }
    return -1;
}

bool vapic_read(struct vcpu *vcpu, u32 msr, u64 *value) {
    u32 reg = msr - MSR_X2APIC_BASE;
    if (!vapic_in_x2apic_mode(&vcpu->apic) || reg >= REGISTERS || !(READABLE & BIT(reg)))
        return false;
    *value = read_register(vcpu, reg);
    if (reg == REG_ICR) *value |= (u64)vapic_reg(&vcpu->apic, reg)[1] << 32;
    return true;
}

bool vapic_write(struct vcpu *vcpu, u32 msr, u64 value) {
    struct vapic *apic = &vcpu->apic;
    u32 reg = msr - MSR_X2APIC_BASE;
    if (reg < REGISTERS && (LVTS & BIT(reg))) value &= ~(u64)LVT_READ_ONLY;
    if (!vapic_in_x2apic_mode(apic) || reg >= REGISTERS || !(WRITABLE_X2APIC & BIT(reg)) ||
        ((u32)value & ~defined_bits[reg]) || (value >> 32 && reg != REG_ICR))
        return false;
    if (reg == REG_EOI) {
        int vector = end_of_interrupt(vcpu);
        if (unlikely(vector >= 0)) {
            vcpu->exit->value = (u32)vector;
            vcpu_forward(vcpu, EXIT_EOI);
        }
        return true;
    }
    if (reg == REG_ICR) {
        vapic_reg(apic, reg)[1] = (u32)(value >> 32);
        send_ipi(vcpu, (u32)value);
    } else {
        (void)write_register(vcpu, reg, (u32)value);
    }
    return true;
}

u32 vapic_page_read(struct vcpu *vcpu, u32 offset) {
    u32 reg = offset / 16;
    if (reg < REGISTERS && (READABLE_XAPIC & BIT(reg))) return read_register(vcpu, reg);
    vcpu->attention = true;
    raise_error(vcpu, ERROR_REGISTER);
    return 0;
}

int vapic_page_write(struct vcpu *vcpu, u32 offset, u32 value) {
    u32 reg = offset / 16;
    vcpu->attention = true;
    if (reg == REG_EOI) return end_of_interrupt(vcpu);
    if (reg < REGISTERS && (WRITABLE_XAPIC & BIT(reg)))
        return write_register(vcpu, reg, value & defined_bits[reg]);
    if (reg >= REGISTERS || !(READABLE_XAPIC & BIT(reg))) raise_error(vcpu, ERROR_REGISTER);
    return -1;
}

/* Only a self-IPI that is illegal comes here. */
void vapic_written(struct vcpu *vcpu, u32 offset) {
    if (offset / 16 == REG_SELF_IPI)
        (void)write_register(vcpu, REG_SELF_IPI, *vapic_reg(&vcpu->apic, REG_SELF_IPI) & 0xff);
}

/* --- saved and loaded --- */

/* Of the words of IRR, ISR and TMR only vectors below 16 are never set. */
static u32 loadable_bits(u32 reg) {
    if (reg >= REG_ISR && reg < REG_ERROR) return (reg - REG_ISR) % 8 ? ~0u : ~0xffffu;
    return reg == REG_ERROR ? 0xff : defined_bits[reg];
}

void vapic_load(struct vapic *apic, const u32 *registers) {
    for (u32 reg = 0; reg < REGISTERS; reg++)
        if (loadable_bits(reg)) *vapic_reg(apic, reg) = registers[4 * reg] & loadable_bits(reg);
    *vapic_reg(apic, REG_DFR) |= DFR_RESERVED;
    *vapic_reg(apic, REG_ICR) &= ~ICR_PENDING;
    vapic_reg(apic, REG_ICR)[1] = registers[4 * REG_ICR + 1];
    apic->timer_mode = LVT_TIMER_MODE(*vapic_reg(apic, REG_LVT_TIMER));
    vapic_base_load(apic, apic->base);
}

void vapic_base_load(struct vapic *apic, u64 base) {
    vapic_look_again(apic);
    set_base(apic, base);
}

void vapic_tpr_write(struct vcpu *vcpu, u32 value) { (void)write_register(vcpu, REG_TPR, value); }
u32 vapic_tpr_read(const struct vapic *apic) { return *vapic_reg(apic, REG_TPR); }
