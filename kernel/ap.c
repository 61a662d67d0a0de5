/* Starts the other CPUs: SDM volume 3, "MP Initialization Protocol Algorithm". */
#include "apic.h"
#include "cpu.h"
#include "early.h"
#include "guest.h"
#include "log.h"
#include "paging.h"
#include "sched.h"
#include "smp.h"
#include "time.h"
#include "x86.h"

/* Between the CPU that starts and its starter: ap.S takes the CPU's record, and with it the right
   to go on. */
struct cpu *ap_cpu;
u64 ap_root;
extern const u8 ap_trampoline[], ap_trampoline_end[];

static u64 reset_at;

void smp_prepare(const struct acpi_info *acpi, const struct boot_info *boot) {
    bool usable = false; /* there is RAM at AP_PAGE */
    for (u32 i = 0; i < boot->region_count; i++) {
        const struct boot_region *r = &boot->regions[i];
        usable |= r->start.v <= AP_PAGE && r->start.v + r->size >= AP_PAGE + PAGE_SIZE;
    }
    if (acpi->cpu_count == 1) return;
    if (!usable) {
        log_info("no RAM at 0x%x to start other CPUs from: only the first is used", AP_PAGE);
        return;
    }
    physical_write(hpa(AP_PAGE), ap_trampoline, (u64)(ap_trampoline_end - ap_trampoline));
    ap_root = paging_root();
    for (u32 i = 0; i < acpi->cpu_count; i++)
        if (acpi->cpu_apic_ids[i] != lapic_id()) lapic_ipi(acpi->cpu_apic_ids[i], IPI_INIT);
    reset_at = rdtsc();
}

static bool wait_us(u64 from, u64 us, const bool *until) {
    while (rdtsc() - from < tsc_hz / 1000000 * us && !(until && atomic_load(until)))
        cpu_pause();
    return until && atomic_load(until);
}

static void start(u32 apic_id) {
    struct cpu *cpu = &cpus[cpus_online];
    cpu->id = cpus_online;
    cpu->apic_id = apic_id;
    if (!cpu->stack_top) cpu_init_stacks(cpu);
    atomic_store(&ap_cpu, cpu);
    lapic_ipi(apic_id, IPI_STARTUP | AP_PAGE >> PAGE_SHIFT);
    if (!wait_us(rdtsc(), 300, &cpu->online))
        lapic_ipi(apic_id, IPI_STARTUP | AP_PAGE >> PAGE_SHIFT);
    if (wait_us(rdtsc(), 200000, &cpu->online))
        cpus_online++;
    else if (atomic_swap(&ap_cpu, NULL))
        log_info("the CPU with APIC id %u does not start: left out", apic_id);
    else /* it has begun, and may go on at any time */
        refuse("the CPU with APIC id %u stopped on its way", apic_id);
}

void smp_start(const struct acpi_info *acpi) {
    if (!reset_at) return;
    wait_us(reset_at, 10000, NULL);
    for (u32 i = 0; i < acpi->cpu_count && cpus_online < MAX_CPUS; i++)
        if (acpi->cpu_apic_ids[i] != lapic_id()) start(acpi->cpu_apic_ids[i]);
    log_info("%u CPUs", cpus_online);
}

/* From ap.S, on the CPU's own stack and the kernel's tables. */
NORETURN void ap_main(struct cpu *cpu) {
    paging_load();
    cpu_load(cpu);
    lapic_init(acpi.lapic);
    time_cpu_init();
    if (!virt_cpu_start()) {
        log_info("CPU %u has not the same virtualization as the first: left out", cpu->id);
        for (;;)
            cpu_halt();
    }
    core_init(cpu);
    atomic_store(&cpu->online, true);
    sched_start();
}
