/* A neighbour: ticks a hundred times a second and says, ten ticks apart, what it missed. (The CPU of
   the rig does 100 million instructions a second: its hundredth is a server's third of a millisecond.) */
#include "guest.h"

const char title[] = "ticker";

#define VECTOR_TICK      0x40
#define TICKS_PER_SECOND 100
#define TICKS_PER_LINE   10
#define MICROSECONDS     1000000

static volatile u64 ticks, missed, largest;
static u64 period, due, last;

static void tick(struct frame *frame) {
    u64 now = rdtsc();
    (void)frame;
    if (now - last > largest)
        largest = now - last;
    last = now;
    ticks++;
    for (due += period; due <= now; due += period)
        missed++;
    wrmsr(MSR_TSC_DEADLINE, due);
    wrmsr(APIC_EOI, 0);
}

void test_main(void) {
    u64 hz = tsc_hz();
    period = hz / TICKS_PER_SECOND;
    handlers[VECTOR_TICK] = tick;
    apic_enable();
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | VECTOR_TICK);
    last = rdtsc();
    due = last + period;
    wrmsr(MSR_TSC_DEADLINE, due);
    for (u64 line = 1;; line++) {
        while (ticks < line * TICKS_PER_LINE)
            wait_interrupt();
        u64 gap = largest;
        largest = 0;
        interrupts_on();
        print("ticks %lu missed %lu largest gap %lu us\n", ticks, missed, gap * MICROSECONDS / hz);
        interrupts_off();
    }
}
