/* The local APIC in xAPIC mode: registers by memory, modes and the ways between them, destinations, errors. */
#include "guest.h"

const char title[] = "xapic";

#define PAGE  0xfee00000ull
#define OTHER 0xfed80000ull /* nothing is there */

enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SPURIOUS = 0xf0,
    ISR = 0x100,
    IRR = 0x200,
    ERROR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    LVT_THERMAL = 0x330,
    LVT_LINT0 = 0x350,
    LVT_LINT1 = 0x360,
    LVT_ERROR = 0x370,
    INITIAL_COUNT = 0x380,
    CURRENT_COUNT = 0x390,
    DIVIDE = 0x3e0,
};
#define MASKED         (1u << 16)
#define ENABLE         0x100u
#define LOGICAL        (1u << 11)
#define SEND_ILLEGAL   (1u << 5)
#define RECEIVE_ILLEGAL (1u << 6)
#define BAD_REGISTER   (1u << 7)

#define LOW   0x41
#define HIGH  0x61
#define FAULT 0x71

static u8 *page;
static volatile u32 got, last;

static u32 get(u32 offset) {
    u32 value;
    __asm__ volatile("movl %1, %0" : "=r"(value) : "m"(*(volatile u32 *)(page + offset)));
    return value;
}

static void put(u32 offset, u32 value) {
    __asm__ volatile("movl %1, %0" : "=m"(*(volatile u32 *)(page + offset)) : "r"(value));
}

static void note(struct frame *frame) {
    last = (u32)frame->vector;
    got++;
    put(EOI, 0);
}

static u32 received(void) {
    __asm__ volatile("sti; nop; nop; cli" ::: "memory");
    u32 count = got;
    got = 0;
    return count;
}

/* As reset leaves it, but for LINT0, through which the PIC's line passes. */
static void check_reset(void) {
    CHECK_EQUAL(rdmsr(MSR_APIC_BASE), PAGE | APIC_BASE_ENABLE | APIC_BASE_BSP);
    CHECK_EQUAL(get(ID), 0);
    CHECK_EQUAL(get(VERSION) & 0xff, 0x15);
    CHECK_EQUAL(get(TPR), 0);
    CHECK_EQUAL(get(LDR), 0);
    CHECK_EQUAL(get(DFR), ~0u);
    CHECK_EQUAL(get(SPURIOUS), 0xff);
    CHECK_EQUAL(get(LVT_TIMER), MASKED);
    CHECK_EQUAL(get(LVT_LINT0), 7u << 8);
    CHECK_EQUAL(get(LVT_LINT1), MASKED);
    CHECK_EQUAL(get(LVT_ERROR), MASKED);
    for (u32 i = 0; i < 8; i++)
        CHECK_EQUAL(get(ISR + 16 * i) | get(IRR + 16 * i), 0);
    /* Switched off by software: the masks cannot be cleared, and nothing is accepted. */
    put(LVT_TIMER, LOW);
    CHECK_EQUAL(get(LVT_TIMER), MASKED | LOW);
    put(ICR, 1u << 18 | LOW);
    CHECK_EQUAL(get(IRR + 16 * (LOW / 32)), 0);
    put(SPURIOUS, ENABLE | 0xff);
    CHECK_EQUAL(get(LVT_TIMER), MASKED | LOW);
    put(LVT_LINT0, MASKED);
}

static void check_registers(void) {
    put(ID, 5u << 24); /* read-only, as on newer CPUs */
    CHECK_EQUAL(get(ID), 0);
    put(LDR, 0x12345678);
    CHECK_EQUAL(get(LDR), 0x12000000);
    put(DFR, 0x0fffffff);
    CHECK_EQUAL(get(DFR), 0x0fffffff);
    put(DFR, 0);
    CHECK_EQUAL(get(DFR), 0x0fffffff);
    put(DFR, ~0u);
    put(TPR, 0x1234);
    CHECK_EQUAL(get(TPR), 0x34);
    CHECK_EQUAL(get(PPR), 0x34);
    CHECK_EQUAL(read_cr8(), 3);
    try_cr8(5);
    CHECK_EQUAL(get(TPR), 0x50);
    try_cr8(0);
    put(ICR_HIGH, ~0u);
    CHECK_EQUAL(get(ICR_HIGH), 0xff000000);
    put(DIVIDE, ~0u);
    CHECK_EQUAL(get(DIVIDE), 0xb);
    put(LVT_THERMAL, ~0u);
    CHECK_EQUAL(get(LVT_THERMAL), 0x107ff);
    put(LVT_THERMAL, MASKED);
    /* All sizes read; other forms of the instruction work too. */
    CHECK_EQUAL(page[VERSION], 0x15);
    __asm__ volatile("orl $0x20, %0" : "+m"(*(volatile u32 *)(page + TPR)));
    CHECK_EQUAL(get(TPR), 0x20);
    put(TPR, 0);
    CHECK_EQUAL(get(ERROR), 0);
}

static void check_destinations(void) {
    static const struct {
        u32 dfr, ldr, to, mode, arrives;
    } cases[] = {
        {~0u, 0x02, 0x00, 0, 1},       {~0u, 0x02, 0x01, 0, 0},
        {~0u, 0x02, 0xff, 0, 1},       {~0u, 0x02, 0x02, LOGICAL, 1},
        {~0u, 0x02, 0x06, LOGICAL, 1}, {~0u, 0x02, 0x05, LOGICAL, 0},
        {~0u, 0x00, 0xff, LOGICAL, 1}, {0x0fffffff, 0x32, 0x32, LOGICAL, 1},
        {0x0fffffff, 0x32, 0x37, LOGICAL, 1}, {0x0fffffff, 0x32, 0x31, LOGICAL, 0},
        {0x0fffffff, 0x32, 0x42, LOGICAL, 0}, {0x0fffffff, 0x32, 0xf2, LOGICAL, 1},
        {0x0fffffff, 0x32, 0xff, LOGICAL, 1},
    };
    for (u32 i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        put(DFR, cases[i].dfr);
        put(LDR, cases[i].ldr << 24);
        for (u32 lowest = 0; lowest < 2; lowest++) {
            put(ICR_HIGH, cases[i].to << 24);
            put(ICR, cases[i].mode | lowest << 8 | LOW);
            u32 count = received();
            if (count != cases[i].arrives)
                print("destination %u, lowest %u: %u\n", i, lowest, count);
            check(count == cases[i].arrives, "a message arrives where it should");
        }
    }
    put(DFR, ~0u);
    put(ICR, 1u << 18 | HIGH); /* self */
    CHECK_EQUAL(received(), 1);
    put(ICR, 2u << 18 | HIGH); /* all */
    CHECK_EQUAL(received(), 1);
    CHECK_EQUAL(last, HIGH);
    put(ICR, 3u << 18 | HIGH); /* all but self */
    CHECK_EQUAL(received(), 0);
    put(ICR, 1u << 18 | 2u << 8 | HIGH); /* an SMI is nothing here */
    CHECK_EQUAL(received(), 0);
    /* The deeper priority waits for the end of the higher one, a higher vector goes first. */
    put(TPR, 0x40);
    put(ICR, 1u << 18 | LOW);
    put(ICR, 1u << 18 | HIGH);
    CHECK_EQUAL(received(), 1);
    CHECK_EQUAL(last, HIGH);
    CHECK_EQUAL(get(IRR + 16 * (LOW / 32)), 1u << LOW % 32);
    put(TPR, 0);
    CHECK_EQUAL(received(), 1);
}

static u32 errors(void) {
    put(ERROR, 0);
    return get(ERROR);
}

static void check_errors(void) {
    CHECK_EQUAL(errors(), 0);
    put(ICR, 1u << 18 | 15);
    CHECK_EQUAL(get(ERROR), 0); /* not before it is written */
    CHECK_EQUAL(errors(), SEND_ILLEGAL);
    CHECK_EQUAL(errors(), 0);
    (void)get(0x3f0);
    put(0x40, 1);
    CHECK_EQUAL(errors(), BAD_REGISTER);
    put(LVT_ERROR, FAULT);
    put(ICR, 1u << 18 | 3);
    put(ICR, 1u << 18 | 4); /* already noted: no second interrupt */
    CHECK_EQUAL(received(), 1);
    CHECK_EQUAL(last, FAULT);
    CHECK_EQUAL(errors(), SEND_ILLEGAL);
    put(LVT_ERROR, 5); /* an error that cannot be told */
    put(ICR, 1u << 18 | 3);
    CHECK_EQUAL(received(), 0);
    CHECK_EQUAL(errors(), SEND_ILLEGAL | RECEIVE_ILLEGAL);
    put(LVT_ERROR, MASKED);
}

static void wait_ticks(u32 ticks) {
    while (got < ticks)
        wait_interrupt();
    got = 0;
}

static volatile u32 nmis;

static void note_nmi(struct frame *frame) {
    (void)frame;
    nmis++;
}

/* It is there before the next instruction but one, whether interrupts are on or not. */
static void check_nmi(void) {
    static const u32 commands[] = {1u << 18 | 4u << 8, 1u << 14 | 4u << 8}; /* shorthand, id 0 */
    handlers[VECTOR_NMI] = note_nmi;
    put(ICR_HIGH, 0);
    for (u32 i = 0; i < 4; i++) {
        if (i & 2) interrupts_on();
        put(ICR, commands[i & 1]);
        __asm__ volatile("nop");
        CHECK_EQUAL(nmis, i + 1);
    }
    interrupts_off();
    handlers[VECTOR_NMI] = NULL;
}

static void check_timer(void) {
    u32 step = (u32)(tsc_hz() / 4000);
    put(DIVIDE, 3); /* by 16 */
    put(LVT_TIMER, HIGH);
    u64 began = rdtsc();
    put(INITIAL_COUNT, step / 16);
    u32 count = get(CURRENT_COUNT);
    CHECK(count <= step / 16 && (count > 0 || rdtsc() - began >= step));
    wait_ticks(1);
    CHECK_EQUAL(get(CURRENT_COUNT), 0);
    CHECK_EQUAL(get(INITIAL_COUNT), step / 16);
    put(LVT_TIMER, TIMER_PERIODIC | HIGH);
    CHECK_EQUAL(get(CURRENT_COUNT), 0); /* the mode alone starts nothing */
    u64 start = rdtsc();
    put(INITIAL_COUNT, step / 16);
    wait_ticks(3);
    CHECK(rdtsc() - start >= 3 * (step / 16 * 16));
    put(LVT_TIMER, MASKED | TIMER_PERIODIC | HIGH); /* it counts on without a word */
    CHECK(get(CURRENT_COUNT) > 0);
    /* A change of divisor keeps what is left. */
    put(LVT_TIMER, MASKED | HIGH);
    began = rdtsc();
    put(INITIAL_COUNT, 1000000);
    u32 left = get(CURRENT_COUNT);
    put(DIVIDE, 0xa); /* by 128 */
    count = get(CURRENT_COUNT);
    CHECK(count <= left && count + (rdtsc() - began) / 16 >= left);
    put(LVT_TIMER, TIMER_DEADLINE | HIGH);
    CHECK_EQUAL(get(CURRENT_COUNT), 0);
    CHECK_EQUAL(get(INITIAL_COUNT), 0);
    put(INITIAL_COUNT, step);
    CHECK_EQUAL(get(INITIAL_COUNT), 0);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + step);
    wait_ticks(1);
    put(LVT_TIMER, MASKED);
    CHECK_EQUAL(rdmsr(MSR_TSC_DEADLINE), 0);
}

static u64 try_base(u64 value) { return try_wrmsr(MSR_APIC_BASE, value); }

static void check_modes(void) {
    u64 xapic = rdmsr(MSR_APIC_BASE), off = xapic & ~APIC_BASE_ENABLE;
    u64 x2apic = xapic | APIC_BASE_X2APIC;
    for (unsigned bit = 0; bit < 64; bit++)
        if (bit != 8 && bit < 10)
            CHECK_EQUAL(try_base(xapic | 1ull << bit), VECTOR_GP);
    CHECK_EQUAL(try_base(xapic | 1ull << 63), VECTOR_GP);
    CHECK_EQUAL(try_base(off | APIC_BASE_X2APIC), VECTOR_GP);
    put(SPURIOUS, ENABLE | 0xff);
    put(TPR, 0x20);
    CHECK_EQUAL(try_base(x2apic), NO_FAULT);
    CHECK_EQUAL(rdmsr(APIC_TPR), 0x20); /* what both modes have stays */
    CHECK_EQUAL(rdmsr(APIC_LDR), 1);
    CHECK_EQUAL(get(VERSION), ~0u); /* no registers in memory any more */
    CHECK_EQUAL(try_base(xapic), VECTOR_GP);
    CHECK_EQUAL(try_base(off), NO_FAULT);
    CHECK_EQUAL(cpuid(1, 0).edx >> 9 & 1, 0);
    CHECK_EQUAL(get(VERSION), ~0u);
    CHECK_EQUAL(try_base(x2apic), VECTOR_GP);
    CHECK_EQUAL(try_base(xapic), NO_FAULT);
    CHECK_EQUAL(cpuid(1, 0).edx >> 9 & 1, 1);
    CHECK_EQUAL(get(SPURIOUS), 0xff); /* as after reset */
    CHECK_EQUAL(get(TPR), 0);
    put(SPURIOUS, ENABLE | 0xff);
    /* Where nothing else is, the page may be. */
    CHECK_EQUAL(try_base((xapic & 0xfff) | OTHER), NO_FAULT);
    CHECK_EQUAL(get(VERSION), ~0u);
    u8 *there = window(2, OTHER | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    CHECK_EQUAL(*(volatile u32 *)(there + SPURIOUS), ENABLE | 0xff);
    CHECK_EQUAL(try_base(xapic), NO_FAULT);
    CHECK_EQUAL(get(SPURIOUS), ENABLE | 0xff);
}

void test_main(void) {
    page = window(1, PAGE | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    handlers[LOW] = handlers[HIGH] = handlers[FAULT] = note;
    check_reset();
    check_registers();
    check_destinations();
    check_errors();
    check_nmi();
    check_timer();
    check_modes();
}
