/* Further CPUs: INIT, a start-up IPI, and a stack, a GDT and a TSS for each. */
#include "guest.h"

#define LOW_PAGE   0x60000u /* known to smp.S */
#define STACK_SIZE 8192
#define INIT       (5u << 8 | 1u << 14)
#define STARTUP    (6u << 8 | 1u << 14)
#define MSR_GS_BASE 0xc0000101

extern const u8 ap_begin[], ap_end[], ap_cr3[];
u64 ap_stack;
static u8 stacks[MAX_CPUS][STACK_SIZE] __attribute__((aligned(16)));
static u64 numbers[MAX_CPUS]; /* what GS points to */
static void (*run)(unsigned cpu);
static volatile unsigned started;

void ap_main(void) {
    unsigned cpu = started + 1;
    traps_load(cpu);
    wrmsr(MSR_GS_BASE, (u64)&numbers[cpu]);
    apic_enable();
    started = cpu;
    run(cpu);
}

void cpus_start(unsigned count, void (*function)(unsigned cpu)) {
    u8 *low = (u8 *)(u64)LOW_PAGE;
    run = function;
    for (unsigned i = 0; i < MAX_CPUS; i++)
        numbers[i] = i;
    wrmsr(MSR_GS_BASE, (u64)&numbers[0]);
    for (u64 i = 0; i < (u64)(ap_end - ap_begin); i++)
        low[i] = ap_begin[i];
    *(u32 *)(low + (ap_cr3 - ap_begin)) = (u32)read_cr3();
    for (unsigned cpu = 1; cpu < count; cpu++) {
        ap_stack = (u64)stacks[cpu] + STACK_SIZE;
        wrmsr(APIC_ICR, (u64)cpu << 32 | INIT);
        wrmsr(APIC_ICR, (u64)cpu << 32 | STARTUP | LOW_PAGE >> 12);
        while (started != cpu)
            __builtin_ia32_pause();
    }
}
