/* The TSC's rate, and the timer of this CPU's local APIC. */
#include "time.h"

#include "apic.h"
#include "cpu.h"
#include "log.h"
#include "regs.h"
#include "trap.h"
#include "x86.h"

u64 tsc_hz;

static bool deadline_mode;
static u64 lapic_hz; /* only without deadline mode */

#define MEASURE_HZ 400  /* a measurement takes 1/400 s: within 0.04 % by either clock */
#define AGREE      2000 /* two that differ by less than this part are right */
#define TRIES      8

#define PM_TIMER_HZ    3579545
#define PM_TIMER_24BIT 0xffffff

#define PIT_HZ 1193182
enum { PIT_CHANNEL2 = 0x42, PIT_COMMAND = 0x43, PORT_B = 0x61 };
#define PIT_CHANNEL2_ONE_SHOT 0xb0 /* channel 2, both bytes, mode 0 */
#define PORT_B_GATE           1
#define PORT_B_SPEAKER        2
#define PORT_B_OUT            0x20

#define PATIENCE 10000000 /* polls of a clock that may stand still */

#define LVT_ONE_SHOT      0
#define LVT_TSC_DEADLINE  (2u << 17)
#define TIMER_DIVIDE_BY_1 0xb

/* Both waits take about 1/MEASURE_HZ s from `measure_start` on, and return the ticks of their clock
   in it; 0: the clock stands still. */
static u64 start_tsc;

static void measure_start(void) {
    lapic_write(LAPIC_TIMER_INITIAL, ~0u);
    start_tsc = rdtsc();
}

static u32 pm_timer_wait(u16 port, u32 mask) {
    u32 before = inl(port), start = before, passed = 0, i = 0;
    while (start == before && i++ < PATIENCE) /* begin where it ticks, for precision */
        start = inl(port);
    measure_start();
    while (passed < PM_TIMER_HZ / MEASURE_HZ && i++ < PATIENCE)
        passed = (inl(port) - start) & mask;
    return passed;
}

static u32 pit_wait(void) {
    u32 count = PIT_HZ / MEASURE_HZ, i = 0;
    outb(PORT_B, (inb(PORT_B) & ~PORT_B_SPEAKER) | PORT_B_GATE);
    outb(PIT_COMMAND, PIT_CHANNEL2_ONE_SHOT);
    outb(PIT_CHANNEL2, (u8)count);
    outb(PIT_CHANNEL2, (u8)(count >> 8));
    measure_start();
    while (!(inb(PORT_B) & PORT_B_OUT))
        if (i++ == PATIENCE) return 0;
    return count;
}

static const char *measure_once(const struct acpi_info *acpi) {
    const char *source = "the ACPI timer";
    u64 clock_hz = PM_TIMER_HZ, passed = 0;
    if (acpi->pm_timer_port)
        passed = pm_timer_wait(acpi->pm_timer_port, acpi->pm_timer_32bit ? ~0u : PM_TIMER_24BIT);
    if (!passed) {
        source = "the PIT";
        clock_hz = PIT_HZ;
        passed = pit_wait();
    }
    if (!passed) refuse("neither the ACPI timer nor the PIT runs, so time cannot be measured.");
    tsc_hz = (rdtsc() - start_tsc) * clock_hz / passed;
    lapic_hz = (~0u - lapic_read(LAPIC_TIMER_CURRENT)) * clock_hz / passed;
    lapic_write(LAPIC_TIMER_INITIAL, 0);
    return source;
}

static u64 difference(u64 a, u64 b) { return a > b ? a - b : b - a; }

/* What interrupts the machine between a look at one clock and at the other spoils a measurement
   (firmware, the host of a virtual machine), but hardly two of them by as much. */
static const char *measure(const struct acpi_info *acpi) {
    lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    const char *source = measure_once(acpi);
    for (unsigned i = 0; i < TRIES; i++) {
        u64 before = tsc_hz;
        source = measure_once(acpi);
        if (difference(tsc_hz, before) < tsc_hz / AGREE) break;
    }
    return source;
}

/* The CPU may state its rate exactly; some emulators state a wrong one, so it must agree with the
   measurement. SDM volume 2, "CPUID", leaf 15H. */
static const char *refine(const char *source) {
    struct cpuid_regs r = {0};
    if (cpuid(0, 0).eax >= 0x15) r = cpuid(0x15, 0);
    if (!r.eax || !r.ebx || !r.ecx) return source;
    u64 stated = (u64)r.ecx * r.ebx / r.eax;
    if (difference(stated, tsc_hz) > tsc_hz / 500) return source;
    tsc_hz = stated;
    return "CPUID";
}

static void on_timer(u8 vector) {
    (void)vector;
    struct cpu *cpu = this_cpu();
    if (rdtsc() < cpu->timer_deadline) { /* stale, or the counter was too short for the deadline */
        host_timer_set(cpu->timer_deadline);
        return;
    }
    cpu->timer_deadline = TIMER_OFF;
    timer_interrupt();
}

void time_cpu_init(void) {
    this_cpu()->timer_deadline = TIMER_OFF;
    lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, TIMER_VECTOR | (deadline_mode ? LVT_TSC_DEADLINE : LVT_ONE_SHOT));
    memory_fence(); /* the mode is in force before the deadline is written */
}

void time_init(const struct acpi_info *acpi) {
    const char *source = refine(measure(acpi));
    deadline_mode = cpuid(1, 0).ecx & CPUID_1_ECX_TSC_DEADLINE;
    irq_handler(TIMER_VECTOR, on_timer);
    time_cpu_init();
    log_info("time: TSC at %lu kHz by %s; timer: %s", tsc_hz / 1000, source,
             deadline_mode ? "TSC deadline" : "local APIC one-shot");
}

/* For the one-shot counter: rounded up, and no more than it can hold. */
static u32 counter_value(u64 tsc_deadline) {
    u64 now = rdtsc(), ticks = tsc_deadline > now ? tsc_deadline - now : 0;
    if (ticks >= tsc_hz) ticks = tsc_hz; /* on_timer sets it again */
    u64 count = ticks * lapic_hz / tsc_hz + 1;
    return count > ~0u ? ~0u : (u32)count;
}

void host_timer_set(u64 tsc_deadline) {
    this_cpu()->timer_deadline = tsc_deadline;
    bool off = tsc_deadline == TIMER_OFF;
    if (deadline_mode)
        wrmsr(MSR_IA32_TSC_DEADLINE, off ? 0 : tsc_deadline ? tsc_deadline : 1);
    else
        lapic_write(LAPIC_TIMER_INITIAL, off ? 0 : counter_value(tsc_deadline));
}

bool host_timer_deadline_mode(void) { return deadline_mode; }

u64 time_ms(u64 tsc) { return tsc_hz ? tsc / (tsc_hz / 1000) : 0; }
