/* What a switch between two VMs on one CPU costs: for `make bench`, no test. The one (word "nap")
   is woken by its timer now and then, and halts again soon; it prints how long it was awake. The
   other spins meanwhile, and prints how long it stood still. The difference is two switches. */
#include "guest.h"

const char title[] = "switch";

#define SAMPLES  101
#define TIMER    0x40
#define NAP      30000
#define STANDING 150 /* ticks between two looks at the clock that only an exit explains */

static u64 samples[SAMPLES];
static volatile u64 arrived;

/* Notes the time first. */
__attribute__((naked)) static void on_timer(void) {
    __asm__ volatile("push %rax; push %rcx; push %rdx; rdtsc; shl $32, %rdx; or %rdx, %rax;"
                     "mov %rax, arrived; xor %eax, %eax; xor %edx, %edx; mov $0x80b, %ecx; wrmsr;"
                     "pop %rdx; pop %rcx; pop %rax; iretq");
}

/* Returns when it went to sleep again. */
static u64 nap(void) {
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + NAP);
    u64 leaving = rdtsc();
    __asm__ volatile("sti; hlt; cli" ::: "memory");
    return leaving;
}

static void nap_for_ever(void) {
    vector_set(TIMER, on_timer);
    apic_enable();
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | TIMER);
    nap();
    print("bench: napping\n");
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 woken = arrived;
        samples[i] = nap() - woken;
    }
    print("bench: switch-awake %lu\n", median(samples, SAMPLES));
    for (;;)
        nap();
}

static void spin(void) {
    u64 last = rdtsc();
    for (unsigned i = 0; i < SAMPLES;) {
        u64 now = rdtsc();
        if (now - last > STANDING) samples[i++] = now - last;
        last = now;
    }
    print("bench: switch-standing %lu\n", median(samples, SAMPLES));
}

void test_main(void) {
    if (has_word("nap")) nap_for_ever();
    spin();
    print("bench: done\n");
}
