/* How late its timer's interrupts come, as a histogram: the numbers hz= and ticks= say how many. */
#include "guest.h"

const char title[] = "jitter";

#define VECTOR_TICK 0x40
#define FIRST       7 /* the first bucket holds what is less than 1 << FIRST ticks of the TSC */
#define BUCKETS     20

static volatile u64 ticks;
static u64 period, due, largest, buckets[BUCKETS];

static void tick(struct frame *frame) {
    u64 late = rdtsc() - due;
    unsigned bucket = 0;
    (void)frame;
    while (bucket < BUCKETS - 1 && late >> (FIRST + bucket))
        bucket++;
    buckets[bucket]++;
    if (late > largest) largest = late;
    ticks++;
    for (due += period; due <= rdtsc(); due += period)
        buckets[BUCKETS - 1]++; /* missed */
    wrmsr(MSR_TSC_DEADLINE, due);
    wrmsr(APIC_EOI, 0);
}

void test_main(void) {
    u64 wanted = word_value("ticks");
    period = tsc_hz() / word_value("hz");
    handlers[VECTOR_TICK] = tick;
    apic_enable();
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | VECTOR_TICK);
    due = rdtsc() + period;
    wrmsr(MSR_TSC_DEADLINE, due);
    while (ticks < wanted)
        wait_interrupt();
    interrupts_off();
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
        if (buckets[bucket] && bucket < BUCKETS - 1)
            print("late less than %lu: %lu\n", 1ul << (FIRST + bucket), buckets[bucket]);
    print("late missed: %lu\n", buckets[BUCKETS - 1]);
    print("late largest: %lu\n", largest);
}
