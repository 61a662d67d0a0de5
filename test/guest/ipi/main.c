/* How long an IPI to another CPU and its answer take: for `make bench`, no test. It prints lines
   "bench: NAME TICKS" like the guest bench. Both CPUs have interrupts on, and handlers that do
   nothing but answer. */
#include "guest.h"

const char title[] = "ipi";

#define SAMPLES 101
#define PING    0x41
#define PONG    0x42
#define REST    10000 /* turns of a loop of two instructions */
#define CLEAN   7500 /* rests until an idle CPU has zeroed a host's memory: an IPI waits for a page \
                      */

volatile u64 answered;
static volatile bool halts;
static u64 samples[SAMPLES], waits[SAMPLES];

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

/* The other CPU comes to rest. */
static void rest(void) {
    u64 turns = REST;
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(turns)::"cc");
}

/* Returns its own instructions. */
static u64 wait_for_answer(void) {
    u64 turns = 0;
    __asm__ volatile("1: inc %0; cmpq $0, answered; je 1b" : "+r"(turns)::"memory", "cc");
    return 3 * turns;
}

/* How long it takes, and how many instructions of that the CPU just waits. */
static void measure(const char *name, bool halted) {
    halts = halted;
    for (unsigned i = 0; i < SAMPLES; i++) {
        rest();
        answered = 0;
        u64 before = rdtsc();
        wrmsr(APIC_ICR, 1ull << 32 | PING);
        waits[i] = wait_for_answer();
        samples[i] = answered - before;
    }
    print("bench: %s %lu\n", name, median(samples, SAMPLES));
    print("bench: %s-waits %lu\n", name, median(waits, SAMPLES));
}

void test_main(void) {
    vector_set(PING, on_ping);
    vector_set(PONG, on_pong);
    apic_enable();
    cpus_start(2, wait_for_pings);
    interrupts_on();
    measure("ipi-running", false);
    halts = true;
    for (unsigned i = 0; i < CLEAN; i++)
        rest();
    measure("ipi-halted", true);
    print("bench: done 0\n");
    interrupts_off();
    for (;;) /* until the VM is stopped */
        __asm__ volatile("hlt");
}
