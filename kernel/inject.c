/* Events into a guest: exceptions, NMIs, interrupts, windows, and what an exit cut short. */
#include "domain.h"
#include "guest.h"
#include "regs.h"
#include "trap.h"
#include "vapic_inline.h"

/* Contributory exceptions: #DE #TS #NP #SS #GP. */
#define CONTRIBUTORY (1u << 0 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13)

static u32 exception_event(unsigned vector) {
    return EVENT_VALID | EVENT_TYPE_EXCEPTION | vector |
           (VECTORS_WITH_ERROR >> vector & 1 ? EVENT_HAS_ERROR : 0);
}

/* Faults leave RFLAGS.RF set on the stack, so that a breakpoint on their instruction is not met
   again: not #DB, the traps #BP and #OF, the aborts #DF and #MC. SDM volume 3,
   "Instruction-Breakpoint Exception Condition". */
static bool is_fault(unsigned vector) {
    return !(1u << vector &
             (1u << VECTOR_DB | 1u << 3 | 1u << 4 | 1u << VECTOR_DF | 1u << VECTOR_MC));
}

static bool is_exception(u32 event) { return (event & EVENT_VALID) && (EVENT_TYPE(event) == 3); }

/* Whether a second exception while `first` is delivered makes a double fault. */
static bool doubles(unsigned first, unsigned second) {
    bool contributory = CONTRIBUTORY >> second & 1;
    if (first == VECTOR_PF) return contributory || second == VECTOR_PF;
    return (CONTRIBUTORY >> first & 1) && contributory;
}

void inject_exception(struct vcpu *vcpu, unsigned vector, u32 error_code) {
    if (is_exception(vcpu->event)) {
        unsigned first = EVENT_VECTOR(vcpu->event);
        if (first == VECTOR_DF) {
            domain_fail(vcpu->domain, FAILURE_TRIPLE_FAULT, 0);
            return;
        }
        if (doubles(first, vector)) {
            vector = VECTOR_DF;
            error_code = 0;
        }
    }
    if (vcpu->event && EVENT_TYPE(vcpu->event) == 2)
        vcpu->nmi += vcpu->nmi < 2; /* it goes first, and the NMI that it cut short comes again */
    if (is_fault(vector)) guest_rflags_write(vcpu, guest_rflags(vcpu) | RFLAGS_RF);
    vcpu->event = exception_event(vector);
    /* The upper half would make the entry fail. */
    vcpu->event_error = error_code == NO_ERROR_CODE ? 0 : error_code & 0x7fff;
    vcpu->attention = true;
}

bool inject_requeue(struct vcpu *vcpu) {
    u32 event = guest_vectoring(vcpu);
    if (likely(!event)) return false;
    vcpu->event = event;
    return vcpu->attention = true;
}

static void put_event(struct vcpu *vcpu, u32 event) {
    /* In real mode nothing pushes an error code. */
    if (!(guest_cr0(vcpu) & CR0_PE)) event &= ~EVENT_HAS_ERROR;
    guest_exception_write(vcpu, event);
    vcpu->event = 0;
}

static void put_interrupt(struct vcpu *vcpu, u32 type, unsigned vector) {
    guest_event_write(vcpu, EVENT_VALID | type | vector);
    vcpu->interrupts++;
}

/* The vector that waits at the CPU's door, or -1. The PIC's interrupt goes before the local APIC's.
 */
static int external_vector(struct vcpu *vcpu) {
    int extint = atomic_load(&vcpu->extint);
    if (unlikely(extint >= 0) && vapic_passes_extint(&vcpu->apic)) return extint;
    return vcpu->apic.delivers ? -1 : vapic_pending(&vcpu->apic);
}

/* Returns what waits then: never one of the local APIC, which gives its highest class. */
static int put_external(struct vcpu *vcpu, unsigned vector) {
    if (unlikely(vcpu->extint >= 0) && vapic_passes_extint(&vcpu->apic)) {
        int extint = atomic_swap(&vcpu->extint, -1);
        if (extint >= 0) { /* else the line went down just now */
            put_interrupt(vcpu, EVENT_TYPE_INTERRUPT, (u32)extint);
            vcpu->exit->value = (u32)extint;
            vcpu_forward(vcpu, EXIT_EXTINT_ACK);
        }
        return external_vector(vcpu);
    }
    put_interrupt(vcpu, EVENT_TYPE_INTERRUPT, vector);
    vapic_accept(&vcpu->apic, vector);
    return -1;
}

bool inject_waiting(struct vcpu *vcpu) {
    return vcpu->nmi ||
           (vcpu->interruptible && (external_vector(vcpu) >= 0 || vapic_pending(&vcpu->apic) >= 0));
}

/* Exceptions first, then an NMI; whether an interrupt may follow. */
static bool put_urgent(struct vcpu *vcpu, u32 blocking) {
    bool shadow = blocking & (BLOCKING_STI | BLOCKING_MOV_SS);
    if (vcpu->event) {
        put_event(vcpu, vcpu->event);
        return false;
    }
    if (vcpu->nmi && (blocking & BLOCKING_NMI)) {
        vcpu->nmi = 1;
    } else if (vcpu->nmi && !shadow) {
        vcpu->nmi--;
        put_interrupt(vcpu, EVENT_TYPE_NMI, VECTOR_NMI);
        return false;
    }
    return true;
}

static void prepare(struct vcpu *vcpu) {
    /* What an earlier pass gave to the CPU, and no entry has delivered yet, stays. */
    bool free = !guest_has_event(vcpu);
    u32 blocking = guest_blocking(vcpu);
    if (unlikely(vcpu->event | vcpu->nmi) && free) free = put_urgent(vcpu, blocking);
    int vector = external_vector(vcpu);
    if (free && vector >= 0 && !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)) &&
        (guest_rflags(vcpu) & RFLAGS_IF)) {
        vector = put_external(vcpu, (unsigned)vector);
    }
    if (virt_apic && unlikely(vcpu->apic.irr_any | vcpu->apic.threshold))
        vapic_virtual_sync(vcpu, vector >= 0);
    guest_windows_set(vcpu, vcpu->nmi, vector);
}

/* The one edge of word n, to a guest that takes it now: past the IRR, where nothing waits. False:
   it is still to be taken. Who posts more meanwhile asks again. */
static ALWAYS_INLINE bool deliver_edge(struct vcpu *vcpu, u32 n) {
    struct vapic *apic = &vcpu->apic;
    if (vcpu->event | vcpu->nmi | apic->irr_any | apic->delivers || vcpu->activity > HALTED ||
        atomic_load(&vcpu->extint) >= 0 || guest_has_event(vcpu) ||
        guest_blocking(vcpu) & (BLOCKING_STI | BLOCKING_MOV_SS) ||
        !(guest_rflags(vcpu) & RFLAGS_IF))
        return false;
    u64 vectors = atomic_load(&vcpu->posted.vectors[n]);
    if (unlikely(!vectors || (vectors & (vectors - 1)))) return false;
    u32 vector = 64 * n + (u32)__builtin_ctzll(vectors), bit = 1u << vector % 32;
    if ((vector & 0xf0) <= (vapic_priority(apic) & 0xf0)) return false;
    atomic_and(&vcpu->posted.vectors[n], ~vectors);
    *vapic_reg(apic, REG_TMR + vector / 32) &= ~bit;
    *vapic_reg(apic, REG_ISR + vector / 32) |= bit;
    apic->isr_any |= 1u << vector / 32;
    vcpu->activity = ACTIVE;
    put_interrupt(vcpu, EVENT_TYPE_INTERRUPT, vector);
    return true;
}

static NOINLINE void attend_slowly(struct vcpu *vcpu, u32 requests) {
    vapic_take_posted(vcpu, requests);
    if (unlikely(requests >= POSTED_NMI)) vcpu_take_rare(vcpu, requests);
    if (unlikely(vcpu->activity != ACTIVE)) {
        if (vcpu->activity != HALTED || !inject_waiting(vcpu)) return vcpu_halt(vcpu);
        vcpu->activity = ACTIVE;
    }
    prepare(vcpu);
}

/* Attention is cleared before the requests are taken, so that none is overlooked. */
void vcpu_attend(struct vcpu *vcpu) {
    vcpu->attention = false;
    u32 requests = atomic_swap(&vcpu->posted.requests, 0);
    bool edge = requests - 1 < POSTED_EDGES && !(requests & (requests - 1));
    if (unlikely(!edge || !deliver_edge(vcpu, (u32)__builtin_ctz(requests))))
        attend_slowly(vcpu, requests);
}
