/* From the low half to the first guest: turns VT-x on and starts the control domain. */
#include "start.h"

#include "cpu.h"
#include "domain.h"
#include "features.h"
#include "frame.h"
#include "guest.h"
#include "image.h"
#include "log.h"
#include "memory.h"
#include "paging.h"
#include "sched.h"
#include "smp.h"
#include "time.h"
#include "vcpu.h"

#define CONTROL_RAM          (8 * MIB)
#define CONTROL_SLOTS        8192
#define CONTROL_KERNEL_PAGES 3072

static struct object root;
static struct memory modules[MAX_MODULES];

static void need(u32 status, const char *what) {
    if (status != STATUS_OK)
        refuse("cannot start the control domain: %s (status %u); it needs %lu MiB of RAM", what,
               status, CONTROL_RAM / MIB + 8);
}

static u64 pages_of(u64 bytes) { return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT; }

static void give_module(struct domain *control, struct info *info, unsigned n,
                        const struct boot_module *module) {
    struct module_info *to = (struct module_info *)info->modules + n;
    to->size = module->size;
    memcpy(to->name, module->name, sizeof(to->name));
    memory_from_module(&modules[n], module->start, pages_of(module->size));
    cap_create(&control->caps[CAP_MODULE + n], control, &modules[n].object,
               RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT, 0);
}

static struct domain *create_control(const struct boot_info *boot) {
    struct domain *control;
    struct memory *ram;
    struct vcpu *vcpu;
    u32 image_size;
    if (boot->module_count == 0 || memcmp(boot->modules[0].name, "control", sizeof("control")))
        refuse(
            "the first of %u boot modules is not \"control\": it is missing on the boot medium, or "
            "cannot be read. Write the boot image again",
            boot->module_count);
    physical_read(&image_size, hpa(boot->modules[0].start.v + IMAGE_SIZE_OFFSET),
                  sizeof(image_size));
    if (boot->modules[0].size < image_size)
        refuse(
            "the boot module \"control\" is truncated: it has %lu of its %u bytes. Write the boot "
            "image again",
            boot->modules[0].size, image_size);
    need(domain_create(ROLE_CONTROL, 0, (char[LABEL_SIZE]){"control"}, CONTROL_KERNEL_PAGES,
                       CONTROL_SLOTS, &control),
         "no memory for its tables");
    control_domain = control;
    object_init(&root, OBJECT_ROOT);
    cap_create(&control->caps[CAP_SELF], control, &control->object, RIGHT_ALL, 0);
    cap_create(&control->caps[CAP_ROOT], control, &root, RIGHT_READ, 0); /* not to be granted */
    control->info->boot_tsc = boot->entry_tsc;
    control->info->efi = boot->efi;
    memcpy(control->info->rsdp, boot->rsdp, sizeof(control->info->rsdp));
    control->info->module_count = boot->module_count;
    for (unsigned n = 0; n < boot->module_count; n++)
        give_module(control, control->info, n, &boot->modules[n]);

    need(memory_create(control, CONTROL_RAM >> PAGE_SHIFT, 0, &ram), "no memory for it");
    while (ram->clean < ram->pages)
        need(memory_fill(ram), "no memory for it");
    need(image_boot(&modules[0]), "its image does not fit");
    need(memory_map(control, ram, NULL, gpa(GPA_RAM), 0, ram->pages, RIGHT_READ | RIGHT_WRITE),
         "no memory for its tables");
    need(vcpu_create(control, 0, NULL, &vcpu), "no memory for its vCPU");
    /* Before every VM for its part of its CPU, and then one of them. */
    vcpu->share.class = CLASS_RESERVED;
    vcpu->share.cpus = 1ull << this_cpu()->id;
    vcpu->share.period = tsc_hz / 100;
    vcpu->share.budget = vcpu->share.period * CONTROL_PERCENT / 100;
    component_info(control);
    component_reset(control);
    vcpu_start(vcpu);
    return control;
}

/* "apicv=off", "apicv=registers" or "apicv=on" on the kernel's command line; else all that the CPU
   has, but under Bochs no virtual-interrupt delivery: while a virtual interrupt waits for
   RFLAGS.IF, an interrupt of the host's makes Bochs deliver it (InterruptAcknowledge, in its
   cpu/event.cc, asks whether one is pending, not whether it is masked). The test guest `masked`
   sees that. */
static enum apicv apicv_option(const char *line) {
    for (; *line; line++)
        if (!memcmp(line, "apicv=", 6))
            return line[6] == 'r' ? APICV_REGISTERS : line[7] == 'f' ? APICV_OFF : APICV_ON;
    return memcmp(machine.rig, "bochs", 6) ? APICV_ON : APICV_REGISTERS;
}

void kernel_start(const struct boot_info *boot) {
    virt_init(apicv_option(boot->command_line));
    smp_init();
    core_init(this_cpu());
    spans_init();
    bool alone = kernel_try_lock(); /* the others zero free memory as soon as they idle */
    assert(alone);
    smp_start(&acpi);
    create_control(boot);
    log_info("%lu MiB of RAM, %lu MiB free; starting %s (%lu KiB)", frame_total_count() / 256,
             frame_free_count() / 256, boot->modules[0].name, boot->modules[0].size / KIB);
    kernel_unlock(true);
    sched_start();
}
