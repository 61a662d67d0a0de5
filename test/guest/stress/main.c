/* Interrupts of all kinds between all CPUs at once; afterwards every counter must add up.

   Words of the command line: cpus=N, rounds=N. It waits for a byte on COM1 before it begins and after it has
   printed its totals, so that the host's counters can be read in between. */
#include "guest.h"

const char title[] = "stress";

#define PING       0x40 /* + sender */
#define PONG       0x50 /* + sender */
#define SHOOT      0x60
#define TIMER      0x70
#define PIT        0x80
#define RTC        0x90
#define ALL_OTHERS (3u << 18)
#define NMI        (4u << 8)

#define IOAPIC          0xfec00000ull
#define IOAPIC_LOGICAL  (1u << 11)
#define IOAPIC_LOWEST   (1u << 8)
#define IOAPIC_MASKED   (1u << 16)
#define PIT_PIN         2
#define RTC_PIN         8

#define DEADLINE_STEP 40000
#define PERIOD        50000
#define PIT_COUNT     1193 /* 1 ms */
#define FRAMES        8
#define FRAME_BASE    0x800000ull
#define POLL_TICKS    2000000

struct cpu {
    u32 sent[MAX_CPUS], received[MAX_CPUS], answered[MAX_CPUS];
    u32 armed, fired, early;
    u32 ticks;
    u64 period_start, period_ticks, deadline;
    u32 shot, stale;
    u64 seen; /* the generation that this CPU has been told of */
    u32 nmis, pits, rtcs;
    u32 halts, cpuids;
} __attribute__((aligned(64)));

static volatile struct cpu cpus[MAX_CPUS];
static unsigned count, rounds;
static volatile bool go, stopping;
static volatile u32 arrived, left;

static volatile u64 *page; /* whose mapping changes */
static volatile u64 generation;
static volatile u32 acknowledged, lock, shots;
static volatile u32 pit_armed, pit_fired, rtc_fired, rtc_idle, nmis_sent;
static volatile u32 *ioapic;

static void ipi(unsigned to, u32 what) { wrmsr(APIC_ICR, (u64)to << 32 | what); }
static void end_of_interrupt(void) { wrmsr(APIC_EOI, 0); }

/* --- handlers --- */

static void on_ping(struct frame *frame) {
    unsigned me = cpu_number(), from = (unsigned)frame->vector - PING;
    cpus[me].received[from]++;
    ipi(from, PONG + me);
    end_of_interrupt();
}

static void on_pong(struct frame *frame) {
    cpus[cpu_number()].answered[frame->vector - PONG]++;
    end_of_interrupt();
}

static void on_shoot(struct frame *frame) {
    (void)frame;
    volatile struct cpu *me = &cpus[cpu_number()];
    __asm__ volatile("invlpg (%0)" ::"r"(page) : "memory");
    me->seen = generation;
    me->stale += *page != generation;
    me->shot++;
    __atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
    end_of_interrupt();
}

static void arm(volatile struct cpu *me) {
    me->armed++;
    me->deadline = rdtsc() + DEADLINE_STEP;
    wrmsr(MSR_TSC_DEADLINE, me->deadline);
}

static void on_timer(struct frame *frame) {
    (void)frame;
    unsigned number = cpu_number();
    volatile struct cpu *me = &cpus[number];
    if (number % 2) {
        me->ticks++;
    } else {
        me->early += rdtsc() < me->deadline;
        me->fired++;
        if (!stopping)
            arm(me);
    }
    end_of_interrupt();
}

static void pit_arm(void) {
    __atomic_fetch_add(&pit_armed, 1, __ATOMIC_SEQ_CST);
    out8(0x43, 0x30); /* channel 0, mode 0: one edge */
    out8(0x40, PIT_COUNT & 0xff);
    out8(0x40, PIT_COUNT >> 8);
}

static void on_pit(struct frame *frame) {
    (void)frame;
    cpus[cpu_number()].pits++;
    if (!stopping) /* so that it is never seen as stopped between the two */
        pit_arm();
    __atomic_fetch_add(&pit_fired, 1, __ATOMIC_SEQ_CST);
    end_of_interrupt();
}

static u8 cmos(u8 reg) {
    out8(0x70, reg);
    return in8(0x71);
}

static void cmos_write(u8 reg, u8 value) {
    out8(0x70, reg);
    out8(0x71, value);
}

static void on_rtc(struct frame *frame) {
    (void)frame;
    cpus[cpu_number()].rtcs++;
    rtc_fired++;
    rtc_idle += !(cmos(0x0c) & 0x40);
    end_of_interrupt();
}

static void on_nmi(struct frame *frame) {
    (void)frame;
    cpus[cpu_number()].nmis++;
}

/* --- what each CPU does --- */

static bool all_answered(volatile struct cpu *me) {
    for (unsigned i = 0; i < count; i++)
        if (me->answered[i] != me->sent[i])
            return false;
    return true;
}

/* In turns: spinning, and halted. */
static void wait_answers(volatile struct cpu *me, bool halted) {
    while (!halted && !all_answered(me))
        __builtin_ia32_pause();
    interrupts_off();
    while (!all_answered(me)) {
        me->halts++;
        wait_interrupt();
    }
    interrupts_on();
}

static void ping_all(unsigned number, u32 round) {
    volatile struct cpu *me = &cpus[number];
    for (unsigned i = 1; i < count; i++)
        me->sent[(number + i) % count]++;
    if (round % 4 == 0)
        ipi(0, ALL_OTHERS | (PING + number));
    else
        for (unsigned i = 1; i < count; i++)
            ipi((number + i) % count, PING + number);
    wait_answers(me, round % 2);
}

/* The page gets another frame; nobody may see the old one once he has acknowledged. */
static void remap(unsigned number) {
    volatile struct cpu *me = &cpus[number];
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
    u64 next = generation + 1, frame = FRAME_BASE + next % FRAMES * 4096;
    *(volatile u64 *)frame = next;
    acknowledged = 0;
    generation = next;
    window(3, frame | PTE_PRESENT | PTE_WRITE);
    me->seen = next;
    me->stale += *page != next;
    shots++;
    ipi(0, ALL_OTHERS | SHOOT);
    while (acknowledged != count - 1)
        __builtin_ia32_pause();
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

static void look(volatile struct cpu *me) {
    u64 known = me->seen; /* before the page is read */
    me->stale += *page < known;
}

static void send_nmis(void) {
    for (unsigned i = 1; i < count; i++) {
        u32 before = cpus[i].nmis;
        nmis_sent++;
        ipi(i, NMI);
        while (cpus[i].nmis == before)
            __builtin_ia32_pause();
    }
}

static void start_timer(unsigned number) {
    volatile struct cpu *me = &cpus[number];
    wrmsr(APIC_LVT_TIMER, (number % 2 ? TIMER_PERIODIC : TIMER_DEADLINE) | TIMER);
    wrmsr(APIC_DIVIDE, 0xb);
    me->period_start = rdtsc();
    if (number % 2)
        wrmsr(APIC_INITIAL_COUNT, PERIOD);
    else
        arm(me);
}

static void stop_timer(unsigned number) {
    volatile struct cpu *me = &cpus[number];
    if (number % 2)
        wrmsr(APIC_INITIAL_COUNT, 0);
    me->period_ticks = rdtsc() - me->period_start;
    while (me->fired != me->armed)
        __builtin_ia32_pause();
}

/* Once for each counter. */
static void wait_all(volatile u32 *counter) {
    __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
    while (*counter != count)
        __builtin_ia32_pause();
}

static void work(unsigned number) {
    volatile struct cpu *me = &cpus[number];
    while (!go)
        __builtin_ia32_pause();
    interrupts_on();
    start_timer(number);
    for (u32 round = 0; round < rounds; round++) {
        ping_all(number, round);
        look(me);
        if (round % 4 == number % 4)
            remap(number);
        look(me);
        cpuid(0, 0);
        me->cpuids++;
        if (number == 0 && round % 16 == 0)
            send_nmis();
    }
    if (number == count - 1) { /* whose handler uses the same registers */
        interrupts_off();
        cmos_write(0x0b, 0x02);
        interrupts_on();
    }
    wait_all(&left); /* the others' messages are answered until all are done */
    stopping = true;
    stop_timer(number);
}

static void idle_work(unsigned number) {
    work(number);
    wait_all(&arrived);
    interrupts_off();
    for (;;)
        __asm__ volatile("hlt");
}

/* --- around it --- */

static void redirect(unsigned pin, u32 low, u32 destination) {
    ioapic[0] = 0x11 + 2 * pin;
    ioapic[4] = destination << 24;
    ioapic[0] = 0x10 + 2 * pin;
    ioapic[4] = low;
}

static void await_byte(void) {
    while (!(in8(0x3fd) & 1))
        for (u64 start = rdtsc(); rdtsc() - start < POLL_TICKS;)
            __builtin_ia32_pause();
    (void)in8(0x3f8);
}

static void set_up(void) {
    for (unsigned i = 0; i < MAX_CPUS; i++) {
        handlers[PING + i] = on_ping;
        handlers[PONG + i] = on_pong;
    }
    handlers[SHOOT] = on_shoot;
    handlers[TIMER] = on_timer;
    handlers[PIT] = on_pit;
    handlers[RTC] = on_rtc;
    handlers[VECTOR_NMI] = on_nmi;
    page = window(3, FRAME_BASE | PTE_PRESENT | PTE_WRITE);
    *page = 0;
    ioapic = window(4, IOAPIC | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    redirect(PIT_PIN, IOAPIC_LOGICAL | IOAPIC_LOWEST | PIT, (1u << count) - 1);
    redirect(RTC_PIN, RTC, count - 1);
}

static void start_devices(void) {
    pit_arm();
    cmos_write(0x0a, 0x26); /* 1024 Hz */
    (void)cmos(0x0c);
    cmos_write(0x0b, 0x42);
}

/* Totals, which the host compares with its own. */
static void report(void) {
    u32 sent = 0, received = 0, answered = 0, armed = 0, fired = 0, ticks = 0, wrong = 0;
    u32 stale = 0, shot = 0, nmis = 0, pits = 0, rtcs = 0, halts = 0, cpuids = 0;
    for (unsigned i = 0; i < count; i++) {
        volatile struct cpu *c = &cpus[i];
        for (unsigned j = 0; j < count; j++) {
            sent += c->sent[j];
            received += c->received[j];
            answered += c->answered[j];
            wrong += c->sent[j] != cpus[j].received[i];
        }
        armed += c->armed, fired += c->fired, ticks += c->ticks;
        wrong += c->early;
        if (i % 2)
            wrong += c->ticks == 0 || c->ticks > c->period_ticks / PERIOD + 1;
        stale += c->stale, shot += c->shot, nmis += c->nmis;
        pits += c->pits, rtcs += c->rtcs, halts += c->halts, cpuids += c->cpuids;
    }
    print("stress: sent %u received %u answered %u\n", sent, received, answered);
    print("stress: deadlines %u of %u, periods %u\n", fired, armed, ticks);
    print("stress: remaps %u, acknowledged %u, stale %u\n", shots, shot, stale);
    print("stress: PIT %u of %u, RTC %u, NMIs %u of %u\n", pits, pit_armed, rtcs, nmis, nmis_sent);
    CHECK_EQUAL(received, sent);
    CHECK_EQUAL(answered, sent);
    CHECK_EQUAL(sent, rounds * count * (count - 1));
    CHECK_EQUAL(wrong, 0);
    CHECK_EQUAL(fired, armed);
    CHECK_EQUAL(stale, 0);
    CHECK_EQUAL(shot, shots * (count - 1));
    CHECK_EQUAL(nmis, nmis_sent);
    CHECK_EQUAL(pits, pit_armed);
    CHECK_EQUAL(pit_fired, pit_armed);
    CHECK_EQUAL(rtcs, rtc_fired);
    CHECK_EQUAL(rtc_idle, 0);
    CHECK(rtcs > 0);
    print("stress: cpuid %u hlt %u\n", cpuids, halts);
}

void test_main(void) {
    count = (unsigned)word_value("cpus");
    rounds = (unsigned)word_value("rounds");
    if (count < 2 || count > 8 || !rounds)
        error("cpus= must be 2 to 8, rounds= at least 1");
    apic_enable();
    set_up();
    cpus_start(count, idle_work);
    print("stress: ready\n");
    await_byte();
    start_devices();
    go = true;
    work(0);
    while (pit_fired != pit_armed)
        __builtin_ia32_pause();
    wait_all(&arrived);
    interrupts_off();
    report();
    print("stress: done\n");
    await_byte();
}
