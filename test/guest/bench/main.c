/* What exits cost, measured from inside: medians in TSC ticks around one operation, less an empty
   measurement. Under Bochs with `clock: sync=none` a tick is an instruction. Not a test of anything:
   it prints lines "bench: NAME TICKS" for `make bench`. */
#include "guest.h"

const char title[] = "bench";

#define SAMPLES 101
#define VECTOR_TIMER 0x40
#define VECTOR_SELF 0x41
#define MSR_DEBUGCTL 0x1d9
#define IOAPIC 0xfec00000ull
#define UNCLAIMED_MMIO 0xfed90000ull
#define UNCLAIMED_PORT 0x5555
#define TIMER_AHEAD 20000
#define FAR_AHEAD 1000000000ull
#define BLOCK (2ull << 20)
#define SHARED (16ull << 20)

static u64 samples[SAMPLES];
static u64 empty;
static volatile u64 arrived;

static void report(const char *name, u64 less) {
    print("bench: %s %lu\n", name, median(samples, SAMPLES) - less);
}

#define MEASURE(name, operation)                                                                   \
    do {                                                                                           \
        for (unsigned i = 0; i < SAMPLES; i++) {                                                   \
            u64 before = rdtsc();                                                                  \
            operation;                                                                             \
            samples[i] = rdtsc() - before;                                                         \
        }                                                                                          \
        report(name, empty);                                                                       \
    } while (0)

/* Notes the time first, and touches nothing else before that. */
__attribute__((naked)) static void note_arrival(void) {
    __asm__ volatile("push %rax; push %rcx; push %rdx; rdtsc; shl $32, %rdx; or %rdx, %rax;"
                     "mov %rax, arrived; xor %eax, %eax; xor %edx, %edx; mov $0x80b, %ecx; wrmsr;"
                     "pop %rdx; pop %rcx; pop %rax; iretq");
}


static void self_ipi(void) {
    for (unsigned i = 0; i < SAMPLES; i++) {
        arrived = 0;
        u64 before = rdtsc();
        wrmsr(APIC_SELF_IPI, VECTOR_SELF);
        while (!arrived)
            ;
        samples[i] = arrived - before;
    }
    report("self-ipi", 0);
}

static void timer_late(const char *name, bool halted) {
    for (unsigned i = 0; i < SAMPLES; i++) {
        arrived = 0;
        u64 deadline = rdtsc() + TIMER_AHEAD;
        wrmsr(MSR_TSC_DEADLINE, deadline);
        while (!arrived)
            if (halted)
                __asm__ volatile("cli; cmpq $0, arrived; jne 1f; sti; hlt; 1: sti" : : : "memory");
        samples[i] = arrived - deadline;
    }
    report(name, 0);
}

/* Writes to memory that is shared with another VM by then: to the first pages of 2 MiB each, to
   other pages of the first of these, and to them again. */
static void writes(void) {
    print("bench: waiting\n");
    while (!(in8(0x3fd) & 1))
        ;
    MEASURE("empty", (void)0);
    empty = median(samples, SAMPLES);
    MEASURE("write-split", *(volatile u64 *)(SHARED + i * BLOCK) = 1);
    MEASURE("write-copy", *(volatile u64 *)(SHARED + (i + 1) * 4096) = 1);
    MEASURE("write-again", *(volatile u64 *)(SHARED + (i + 1) * 4096) = 2);
    print("bench: done 0\n");
    for (;;)
        __asm__ volatile("hlt");
}

void test_main(void) {
    volatile u32 *ioapic = window(0, IOAPIC | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    volatile u32 *hole = window(1, UNCLAIMED_MMIO | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    vector_set(VECTOR_TIMER, note_arrival);
    vector_set(VECTOR_SELF, note_arrival);
    apic_enable();
    if (has_word("write")) writes();

    MEASURE("empty", (void)0);
    empty = median(samples, SAMPLES);
    if (on_amd())
        MEASURE("hypercall", __asm__ volatile("vmmcall" : : "a"(0ul) : "memory", "rdx"));
    else
        MEASURE("hypercall", __asm__ volatile("vmcall" : : "a"(0ul) : "memory", "rdx"));
    MEASURE("cpuid", cpuid(0, 0));
    MEASURE("rdmsr", rdmsr(MSR_APIC_BASE));
    MEASURE("wrmsr", wrmsr(MSR_DEBUGCTL, 0));
    MEASURE("port-in", in8(0x3fd));
    MEASURE("port-out", out8(0x3ff, 0));
    MEASURE("port-unclaimed", in8(UNCLAIMED_PORT));
    MEASURE("mmio-read", (void)ioapic[0]);
    MEASURE("mmio-unclaimed", (void)hole[0]);
    MEASURE("apic-eoi", wrmsr(APIC_EOI, 0));
    MEASURE("apic-read", rdmsr(APIC_ID));
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | VECTOR_TIMER);
    MEASURE("timer-arm", wrmsr(MSR_TSC_DEADLINE, before + FAR_AHEAD));
    wrmsr(MSR_TSC_DEADLINE, 0);
    __asm__ volatile("sti");
    self_ipi();
    timer_late("timer-late-running", false);
    timer_late("timer-late-halted", true);
    __asm__ volatile("cli");
    volatile u8 *fresh = (volatile u8 *)(memory_size - (SAMPLES + 1) * 4096ull);
    MEASURE("first-touch", fresh[i * 4096ull] = 1);
    print("bench: done 0\n");
    for (;;) /* with interrupts off: until the VM is stopped */
        __asm__ volatile("hlt");
}
