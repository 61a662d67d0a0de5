/* A hostile guest: each of its CPUs does one thing without end, as fast as it can. The words of its
   command line say what, in the order of `storms`. */
#include "virtio.h"

const char title[] = "storm";

#define VECTOR_STORM 0x40
#define VECTOR_TIMER 0x41
#define ALL_OTHERS   (3u << 18)
#define MSR_ABSENT   0x10f00
#define NMI          (4u << 8)
#define QUEUE        8
#define AT_ONCE      1

static volatile u64 count;

/* --- exits --- */

static void do_cpuid(void) { (void)cpuid(0, 0); }
static void do_msr(void) {
    u64 value;
    (void)try_rdmsr(MSR_ABSENT, &value);
}
static void do_vmcall(void) { (void)hypercall(count); }
static void do_port(void) { out8(0x70, (u8)count), (void)in8(0x71); }
static void do_mmio(void) { (void)*(volatile u32 *)(WINDOW); }

static u16 bell;
static void do_doorbell(void) { out16(bell, 0); }

/* --- interrupts --- */

static void do_ipi(void) { wrmsr(APIC_ICR, ALL_OTHERS | VECTOR_STORM); }
static void do_self(void) { wrmsr(APIC_SELF_IPI, VECTOR_STORM); }
static void do_nmi(void) { wrmsr(APIC_ICR, (u64)cpu_number() << 32 | NMI); }
static void do_nothing(void) {}

static void on_interrupt(struct frame *frame) {
    (void)frame;
    wrmsr(APIC_EOI, 0);
}

static void on_nmi(struct frame *frame) { (void)frame; }

/* The next one is due before this one ends. */
static void on_timer(struct frame *frame) {
    (void)frame;
    wrmsr(MSR_TSC_DEADLINE, AT_ONCE);
    wrmsr(APIC_EOI, 0);
}

/* --- the console --- */

static void do_print(void) { print("%lu %lx %lx %lx %lx\n", count, count, count, count, count); }

/* --- what each needs --- */

static void set_up_mmio(void) { (void)ioapic_registers(0); }

static void set_up_timer(void) {
    handlers[VECTOR_TIMER] = on_timer;
    wrmsr(APIC_LVT_TIMER, TIMER_DEADLINE | VECTOR_TIMER);
    wrmsr(MSR_TSC_DEADLINE, AT_ONCE);
}

static void set_up_doorbell(void) {
    static struct descriptor table[QUEUE] __attribute__((aligned(16)));
    static u16 driver[QUEUE + 3];
    static u32 device[2 * QUEUE + 2];
    u32 slot = pci_find(VIRTIO_RNG, 0);
    pci_write(slot, PCI_COMMAND, 7);
    volatile struct common *common = pci_map(slot, 0, 1);
    virtio_negotiate(common, VIRTIO_VERSION_1);
    virtio_queue(common, 0, QUEUE, NO_VECTOR, (u64)table, (u64)driver, (u64)device);
    common->status = STATUS_DRIVER_OK;
    bell = (u16)(pci_read(slot, PCI_BAR(4)) & ~3u);
}

static const struct storm {
    const char *name;
    void (*turn)(void);
    void (*set_up)(void);
} storms[] = {
    {"cpuid", do_cpuid, NULL},      {"msr", do_msr, NULL},
    {"vmcall", do_vmcall, NULL},    {"port", do_port, NULL},
    {"mmio", do_mmio, set_up_mmio}, {"doorbell", do_doorbell, set_up_doorbell},
    {"ipi", do_ipi, NULL},          {"self", do_self, NULL},
    {"nmi", do_nmi, NULL},          {"timer", do_nothing, set_up_timer},
    {"print", do_print, NULL},
};
static const struct storm *chosen[MAX_CPUS];
static volatile bool go;

static void rage(unsigned cpu) {
    const struct storm *storm = chosen[cpu];
    while (!go)
        __builtin_ia32_pause();
    if (storm->set_up) storm->set_up();
    interrupts_on();
    for (;; count++)
        storm->turn();
}

void test_main(void) {
    unsigned cpus = 0;
    for (unsigned i = 0; i < sizeof(storms) / sizeof(*storms); i++)
        if (has_word(storms[i].name)) chosen[cpus++] = &storms[i];
    if (!cpus) error("no such storm");
    handlers[VECTOR_STORM] = on_interrupt;
    handlers[VECTOR_NMI] = on_nmi;
    apic_enable();
    cpus_start(cpus, rage);
    print("storm: %u\n", cpus);
    go = true;
    rage(0);
}
