/* From start.S to kernel_start: brings up what the rest of the kernel stands on, in this order. */
#include "acpi.h"
#include "apic.h"
#include "cpu.h"
#include "features.h"
#include "frame.h"
#include "log.h"
#include "paging.h"
#include "smp.h"
#include "start.h"
#include "time.h"

#define MULTIBOOT2_MAGIC 0x36d76289u
#define EARLY_MAP_END    (4 * GIB) /* start.S maps the boot information below it */

struct acpi_info acpi;
struct boot_info boot;

NORETURN void stack_enter(void *top, void (*function)(void)); /* start.S */

static NORETURN void on_own_stack(void) {
    lapic_init(acpi.lapic);
    cpus[0].apic_id = lapic_id();
    smp_prepare(&acpi, &boot);
    ioapic_init(&acpi);
    time_init(&acpi);
    log_info("memory: %lu MiB in all, %lu MiB free; %u boot modules",
             frame_total_count() * PAGE_SIZE / MIB, frame_free_count() * PAGE_SIZE / MIB,
             boot.module_count);
    for (u32 i = 0; i < boot.module_count; i++)
        log_info("module %u: %s, %lu KiB", i, boot.modules[i].name,
                 (boot.modules[i].size + KIB - 1) / KIB);
    kernel_start(&boot);
}

/* What is missing is told on the screen, too, by way of start.S's map. */
static void screen_early(void) {
    u64 start = boot.screen.memory.v;
    bool mapped = start + boot.screen.size <= EARLY_MAP_END;
    log_screen_set(&boot.screen, mapped ? (void *)start : NULL);
}

NORETURN void kernel_main(u32 magic, u32 information, u64 entry_tsc) {
    log_init();
    cpu_init_early();
    log_info("Plinth %s, kernel ABI %u", PLINTH_VERSION, ABI_VERSION);
    if (magic != MULTIBOOT2_MAGIC) refuse("the boot loader does not speak Multiboot 2.");
    const void *low = (const void *)(uintptr_t)information;
    const char *wrong = multiboot2_parse(low, EARLY_MAP_END - information, &boot);
    if (wrong) refuse("%s.", wrong);
    boot.entry_tsc = entry_tsc;

    screen_early();
    features_require();
    log_screen_set(&boot.screen, NULL);
    paging_init();
    acpi_init(&boot, &acpi);
    frame_init(&boot, &acpi);
    log_screen_set(&boot.screen, mmio_map(boot.screen.memory, boot.screen.size));
    features_name(&acpi);
    log_info("boot: %s; %u CPUs", boot.loader, acpi.cpu_count);
    cpu_init_stacks(&cpus[0]);
    stack_enter((void *)cpus[0].stack_top, on_own_stack);
}
