/* The local APIC: messages to itself, priorities, the order of ends of interrupt, the timer, HLT, NMI. */
#include "guest.h"

const char title[] = "apic";

#define LOW    0x41
#define MIDDLE 0x51
#define HIGH   0x61
#define TIMER  0x71

static volatile u32 order[16], count, nmis, nested;
static bool cr8_works;

static void note(struct frame *frame) {
    order[count++ & 15] = (u32)frame->vector;
    wrmsr(APIC_EOI, 0);
}

static void note_nmi(struct frame *frame) {
    (void)frame;
    nmis++;
}

/* Lets HIGH in while LOW is in service; an equal or lower one waits. */
static void nest(struct frame *frame) {
    order[count++ & 15] = (u32)frame->vector;
    CHECK_EQUAL(rdmsr(APIC_PPR), LOW & 0xf0);
    CHECK_EQUAL(rdmsr(APIC_ISR + LOW / 32), 1u << LOW % 32);
    wrmsr(APIC_SELF_IPI, HIGH);
    wrmsr(APIC_SELF_IPI, LOW + 1);
    __asm__ volatile("sti; nop; nop; cli");
    CHECK_EQUAL(count, 2);
    CHECK_EQUAL(rdmsr(APIC_IRR + LOW / 32) >> (LOW + 1) % 32 & 1, 1);
    wrmsr(APIC_EOI, 0);
    __asm__ volatile("sti; nop; nop; cli");
    nested = count;
}

static void open_window(void) { __asm__ volatile("sti; nop; nop; cli" ::: "memory"); }

static void set_priority(u32 class) {
    if (cr8_works)
        try_cr8(class);
    else
        wrmsr(APIC_TPR, class << 4);
}

static void check_priorities(void) {
    cr8_works = cpu_has("CR8 that may be written while an interrupt waits: its assertion fails");
    wrmsr(APIC_SELF_IPI, LOW);
    wrmsr(APIC_SELF_IPI, HIGH);
    wrmsr(APIC_SELF_IPI, MIDDLE);
    wrmsr(APIC_SELF_IPI, MIDDLE); /* once is enough */
    CHECK_EQUAL(rdmsr(APIC_IRR + HIGH / 32), 1u << HIGH % 32);
    CHECK_EQUAL(count, 0);
    open_window();
    CHECK_EQUAL(count, 3);
    CHECK_EQUAL(order[0] << 16 | order[1] << 8 | order[2], HIGH << 16 | MIDDLE << 8 | LOW);
    count = 0;
    set_priority(5);
    wrmsr(APIC_SELF_IPI, LOW);
    wrmsr(APIC_SELF_IPI, MIDDLE);
    wrmsr(APIC_SELF_IPI, HIGH);
    open_window();
    CHECK_EQUAL(count, 1); /* HIGH alone is above 5 */
    set_priority(4);
    open_window();
    CHECK_EQUAL(count, 2);
    set_priority(0);
    open_window();
    CHECK_EQUAL(count, 3);
    CHECK_EQUAL(order[0] << 16 | order[1] << 8 | order[2], HIGH << 16 | MIDDLE << 8 | LOW);
    count = 0;
    handlers[LOW] = nest;
    wrmsr(APIC_SELF_IPI, LOW);
    open_window();
    CHECK_EQUAL(nested, 3);
    CHECK_EQUAL(order[1] << 8 | order[2], HIGH << 8 | (LOW + 1));
    handlers[LOW] = note;
    count = 0;
}

static void check_messages(void) {
    u32 id = (u32)rdmsr(APIC_ID), ldr = (u32)rdmsr(APIC_LDR);
    CHECK_EQUAL(ldr, (id >> 4) << 16 | 1u << (id & 15));
    wrmsr(APIC_ICR, (u64)id << 32 | LOW);                   /* physical */
    open_window();
    wrmsr(APIC_ICR, (u64)ldr << 32 | 1u << 11 | LOW);       /* logical */
    open_window();
    wrmsr(APIC_ICR, 0xffffffffull << 32 | LOW);             /* all */
    open_window();
    wrmsr(APIC_ICR, 1u << 18 | LOW);                        /* shorthand: self */
    open_window();
    wrmsr(APIC_ICR, 2u << 18 | LOW);                        /* shorthand: all */
    open_window();
    CHECK_EQUAL(count, 5);
    wrmsr(APIC_ICR, 3u << 18 | LOW);                        /* all but self */
    wrmsr(APIC_ICR, (u64)(id + 1) << 32 | LOW);             /* nobody */
    open_window();
    CHECK_EQUAL(count, 5);
    CHECK_EQUAL(rdmsr(APIC_ERROR), 0);
    wrmsr(APIC_SELF_IPI, 5); /* vectors below 16 are illegal */
    wrmsr(APIC_ICR, 1u << 18 | 5);
    wrmsr(APIC_ERROR, 0);
    CHECK_EQUAL(rdmsr(APIC_ERROR) != 0, true);
    wrmsr(APIC_ERROR, 0);
    CHECK_EQUAL(rdmsr(APIC_ERROR), 0);
    open_window();
    CHECK_EQUAL(count, 5);
    count = 0;
}

static void check_nmi(void) {
    handlers[VECTOR_NMI] = note_nmi;
    wrmsr(APIC_ICR, 1u << 18 | 4u << 8); /* interrupts are off: an NMI does not ask */
    __asm__ volatile("nop");
    CHECK_EQUAL(nmis, 1);
    wrmsr(APIC_ICR, 1u << 18 | 4u << 8);
    __asm__ volatile("nop");
    CHECK_EQUAL(nmis, 2);
    handlers[VECTOR_NMI] = NULL;
}

/* Waits in HLT for `ticks` interrupts. */
static void wait_ticks(u32 ticks) {
    while (count < ticks)
        wait_interrupt();
}

static void check_timer(void) {
    u64 hz = tsc_hz(), step = hz / 2000;
    u64 later = hz / 20; /* a busy machine may do something else between two instructions */
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | TIMER);
    u64 due = rdtsc() + later;
    wrmsr(MSR_TSC_DEADLINE, due);
    CHECK_EQUAL(rdmsr(MSR_TSC_DEADLINE), due);
    wait_ticks(1);
    check(rdtsc() >= due, "the deadline has passed when it fires");
    CHECK_EQUAL(rdmsr(MSR_TSC_DEADLINE), 0);
    wrmsr(MSR_TSC_DEADLINE, 1); /* long past: at once */
    wait_ticks(2);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + later);
    wrmsr(MSR_TSC_DEADLINE, 0); /* disarmed */
    CHECK_EQUAL(rdmsr(APIC_INITIAL_COUNT), 0);

    count = 0;
    wrmsr(APIC_LVT_TIMER, TIMER); /* one-shot */
    wrmsr(APIC_DIVIDE, 0xb);      /* by 1 */
    wrmsr(MSR_TSC_DEADLINE, 1);
    CHECK_EQUAL(rdmsr(MSR_TSC_DEADLINE), 0);
    u64 start = rdtsc();
    wrmsr(APIC_INITIAL_COUNT, step);
    CHECK(rdmsr(APIC_CURRENT_COUNT) <= step);
    wait_ticks(1);
    CHECK(rdtsc() - start >= step);
    CHECK_EQUAL(rdmsr(APIC_CURRENT_COUNT), 0);
    while (rdtsc() - start < 3 * step)
        ;
    open_window();
    CHECK_EQUAL(count, 1);

    count = 0;
    wrmsr(APIC_LVT_TIMER, TIMER_PERIODIC | TIMER);
    wrmsr(APIC_DIVIDE, 0); /* by 2 */
    start = rdtsc();
    wrmsr(APIC_INITIAL_COUNT, step / 2);
    wait_ticks(5);
    u64 took = rdtsc() - start;
    check(took >= 5 * step, "five periods take five periods");
    wrmsr(APIC_INITIAL_COUNT, 0);
    wrmsr(APIC_LVT_TIMER, 1u << 16);
    open_window(); /* one may have come meanwhile */
    count = 0;
    while (rdtsc() - start < took + 2 * step)
        ;
    open_window();
    CHECK_EQUAL(count, 0);
}

/* HLT goes on at once if something waits already. */
static void check_hlt(void) {
    wrmsr(APIC_SELF_IPI, LOW);
    wait_interrupt();
    CHECK_EQUAL(count, 1);
    handlers[VECTOR_NMI] = note_nmi;
    u32 before = nmis;
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | TIMER);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 100000);
    wait_ticks(2);
    CHECK_EQUAL(nmis, before);
    count = 0;
}

void test_main(void) {
    apic_enable();
    handlers[LOW] = handlers[LOW + 1] = handlers[MIDDLE] = handlers[HIGH] = handlers[TIMER] = note;
    CHECK_EQUAL(rdmsr(MSR_APIC_BASE) & 0xfff, 0xd00); /* enabled, x2APIC, boot CPU */
    check_priorities();
    check_messages();
    check_nmi();
    check_timer();
    check_hlt();
}
