/* How long an IPI to another CPU and its answer take: for `make bench`, no test. It prints lines "bench: NAME TICKS"
   like the guest bench. Both CPUs have interrupts on, and handlers that do nothing but answer. */
#include "guest.h"

const char title[] = "ipi";

#define SAMPLES 101
#define PING    0x41
#define PONG    0x42

volatile u64 answered;
static volatile bool halts;
static u64 samples[SAMPLES];

#define SAVE    "push %rax; push %rcx; push %rdx;"
#define END     "xor %eax, %eax; xor %edx, %edx; mov $0x80b, %ecx; wrmsr;" /* APIC_EOI */
#define RESTORE "pop %rdx; pop %rcx; pop %rax; iretq"

/* Sends PONG to CPU 0: APIC_ICR. */
__attribute__((naked)) static void on_ping(void) {
    __asm__ volatile(SAVE "mov $0x42, %eax; xor %edx, %edx; mov $0x830, %ecx; wrmsr;" END RESTORE);
}

__attribute__((naked)) static void on_pong(void) {
    __asm__ volatile(SAVE "rdtsc; shl $32, %rdx; or %rdx, %rax; mov %rax, answered;" END RESTORE);
}

static void wait_for_pings(unsigned cpu) {
    (void)cpu;
    interrupts_on();
    for (;;)
        if (halts) __asm__ volatile("hlt" ::: "memory");
}

static void measure(const char *name, bool halted) {
    halts = halted;
    for (unsigned i = 0; i < SAMPLES; i++) {
        for (u64 start = rdtsc(); rdtsc() - start < 20000;) /* the other CPU comes to rest */
            ;
        answered = 0;
        u64 before = rdtsc();
        wrmsr(APIC_ICR, 1ull << 32 | PING);
        while (!answered)
            ;
        samples[i] = answered - before;
    }
    for (unsigned i = 1; i < SAMPLES; i++)
        for (unsigned j = i; j > 0 && samples[j] < samples[j - 1]; j--) {
            u64 swap = samples[j];
            samples[j] = samples[j - 1];
            samples[j - 1] = swap;
        }
    print("bench: %s %lu\n", name, samples[SAMPLES / 2]);
}

void test_main(void) {
    vector_set(PING, on_ping);
    vector_set(PONG, on_pong);
    apic_enable();
    cpus_start(2, wait_for_pings);
    interrupts_on();
    measure("ipi-running", false);
    measure("ipi-halted", true);
    print("bench: done 0\n");
    interrupts_off();
    for (;;) /* until the VM is stopped */
        __asm__ volatile("hlt");
}
