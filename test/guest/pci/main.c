/* PCI from a driver's side: BARs that are sized, moved and switched off, both ways to configuration
   space, MSI-X masks and pending bits, interrupt pins with their level. The function is virtio's
   entropy device. */
#include "virtio.h"

const char title[] = "pci";

#define ECAM         0xd0000000ull
#define VECTOR       0x51
#define PIN_VECTOR   0x61
#define REGISTERS    0x4000
#define MEMORY_SPACE 2u
#define ALL_SPACES   7u
#define INTX_DISABLE 0x400u
#define INTX_STATUS  (1u << 19)
#define MSIX_ENABLE  0x80000000u
#define MSIX_MASK    0x40000000u
#define MASKED       1u
#define PENDING      (0x800 / 4)
#define QUEUE        8

static u32 slot;
static volatile struct common *common;
static volatile u32 messages, pins;
static volatile u8 isr;
static volatile u32 falls_after = 1; /* the ISR is read at the handler's so many-th call */

static struct {
    struct descriptor table[QUEUE];
    u16 driver_flags, driver_index, available[QUEUE + 1], pad[3];
    u16 device_flags, device_index;
    u32 used[2 * QUEUE + 1];
} ring __attribute__((aligned(16)));
static u8 entropy[64];

static void on_message(struct frame *frame) {
    (void)frame;
    messages++;
    wrmsr(APIC_EOI, 0);
}

static void on_pin(struct frame *frame) {
    (void)frame;
    if (++pins == falls_after) isr = *((volatile u8 *)common + VIRTIO_ISR);
    wrmsr(APIC_EOI, 0);
}

/* --- configuration space --- */

static void check_ecam(void) {
    volatile u32 *by_memory =
        window(2, (ECAM + slot * 0x8000) | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    for (u32 at = 0; at < 0x100; at += 4)
        if (at < pci_capability(slot, 9)) /* behind it there may be a window on registers */
            CHECK_EQUAL(by_memory[at / 4], pci_read(slot, at));
    by_memory[0x0c / 4] = 0x10;
    CHECK_EQUAL(pci_read(slot, 0x0c) & 0xff, 0x10);
    CHECK_EQUAL(*((volatile u16 *)by_memory + 1), pci_read(slot, 0) >> 16);
    CHECK_EQUAL(by_memory[0x100 / 4], 0); /* no extended capability */
    CHECK_EQUAL(*(volatile u32 *)window(3, (ECAM + 31 * 0x8000) | PTE_PRESENT | PTE_UNCACHED), ~0u);
    pci_write(slot, 0, 0x12345678);
    CHECK_EQUAL(pci_read(slot, 0), VIRTIO_RNG); /* read-only */
}

/* --- BARs --- */

static u32 size_of(unsigned bar) {
    u32 before = pci_read(slot, PCI_BAR(bar));
    pci_write(slot, PCI_BAR(bar), ~0u);
    u32 bits = pci_read(slot, PCI_BAR(bar));
    pci_write(slot, PCI_BAR(bar), before);
    CHECK_EQUAL(pci_read(slot, PCI_BAR(bar)), before);
    return bits & (bits & 1 ? ~3u : ~15u) ? ~(bits & (bits & 1 ? ~3u : ~15u)) + 1 : 0;
}

static void check_sizes(void) {
    CHECK_EQUAL(size_of(0), REGISTERS);
    CHECK_EQUAL(size_of(1), 0x1000);
    CHECK_EQUAL(size_of(2) | size_of(3) | size_of(5), 0);
    CHECK_EQUAL(size_of(4), 16);
    CHECK_EQUAL(pci_read(slot, PCI_BAR(4)) & 3, 1);
}

static u32 queues_at(u64 address) {
    volatile struct common *c = window(4, address | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
    return c->queues;
}

static void check_memory_bar(void) {
    u32 home = pci_read(slot, PCI_BAR(0)), away = home + 0x200000;
    CHECK_EQUAL(queues_at(home), 1);
    CHECK_EQUAL(queues_at(away), 0xffff);
    pci_write(slot, PCI_BAR(0), away + 0x123); /* aligned by the function */
    CHECK_EQUAL(pci_read(slot, PCI_BAR(0)), away);
    CHECK_EQUAL(queues_at(home), 0xffff);
    CHECK_EQUAL(queues_at(away), 1);
    pci_write(slot, PCI_COMMAND, ALL_SPACES & ~MEMORY_SPACE);
    CHECK_EQUAL(queues_at(away), 0xffff);
    pci_write(slot, PCI_COMMAND, ALL_SPACES);
    CHECK_EQUAL(queues_at(away), 1);
    /* Over the local APIC, the I/O APIC and RAM it is not decoded. */
    static const u32 taken[] = {0xfee00000, 0xfec00000, 0x00800000};
    for (unsigned i = 0; i < 3; i++) {
        u32 before = *(volatile u32 *)window(4, taken[i] | PTE_PRESENT | PTE_UNCACHED);
        pci_write(slot, PCI_BAR(0), taken[i]);
        CHECK_EQUAL(*(volatile u32 *)window(4, taken[i] | PTE_PRESENT | PTE_UNCACHED), before);
    }
    pci_write(slot, PCI_BAR(0), home);
    CHECK_EQUAL(queues_at(home), 1);
}

static void check_port_bar(void) {
    u16 home = (u16)(pci_read(slot, PCI_BAR(4)) & ~3u), away = 0xc700;
    CHECK_EQUAL(in16(home), 0);
    CHECK_EQUAL(in16(away), 0xffff);
    pci_write(slot, PCI_BAR(4), away);
    CHECK_EQUAL(in16(home), 0xffff);
    CHECK_EQUAL(in16(away), 0);
    pci_write(slot, PCI_COMMAND, ALL_SPACES & ~1u);
    CHECK_EQUAL(in16(away), 0xffff);
    pci_write(slot, PCI_COMMAND, ALL_SPACES);
    pci_write(slot, PCI_BAR(4), home);
    CHECK_EQUAL(in16(home), 0);
}

/* --- interrupts --- */

static void start(void) {
    virtio_negotiate(common, VIRTIO_VERSION_1);
    ring.driver_index = ring.device_index = 0;
    virtio_queue(common, 0, QUEUE, 0, (u64)ring.table, (u64)&ring.driver_flags,
                 (u64)&ring.device_flags);
    common->status = STATUS_DRIVER_OK;
}

/* One buffer: the device fills it, and interrupts. */
static void ask(void) {
    u16 index = ring.driver_index;
    ring.table[0] = (struct descriptor){(u64)entropy, sizeof(entropy), WRITE, 0};
    ring.available[index % QUEUE] = 0;
    __asm__ volatile("" ::: "memory");
    *(volatile u16 *)&ring.driver_index = (u16)(index + 1);
    out16((u16)(pci_read(slot, PCI_BAR(4)) & ~3u), 0);
    CHECK_EQUAL(*(volatile u16 *)&ring.device_index, index + 1);
}

static u32 arrived(void) {
    messages = 0;
    open_window();
    return messages;
}

static void check_pin(void) {
    volatile u32 *io = ioapic_registers(5);
    start();
    ioapic_route(io, 16 + slot % 8, 0, IOAPIC_LEVEL | PIN_VECTOR);
    CHECK_EQUAL(pci_read(slot, 0x3c) >> 8 & 0xff, 1); /* pin A */
    ask();
    CHECK(pci_read(slot, PCI_COMMAND) & INTX_STATUS);
    open_window();
    CHECK_EQUAL(pins, 1);
    CHECK_EQUAL(isr, 1);
    CHECK_EQUAL(pci_read(slot, PCI_COMMAND) & INTX_STATUS, 0);
    /* As long as nobody reads the ISR it comes again. */
    pins = 0;
    falls_after = 4;
    ask();
    interrupts_on();
    CHECK(COMES_TRUE(pins == 4));
    interrupts_off();
    open_window();
    CHECK_EQUAL(pins, 4);
    /* Switched off: the status stays, the pin falls. */
    pins = 0;
    falls_after = 1;
    pci_write(slot, PCI_COMMAND, ALL_SPACES | INTX_DISABLE);
    ask();
    open_window();
    CHECK_EQUAL(pins, 0);
    CHECK(pci_read(slot, PCI_COMMAND) & INTX_STATUS);
    pci_write(slot, PCI_COMMAND, ALL_SPACES);
    open_window();
    CHECK_EQUAL(pins, 1);
    pins = 0;
}

static void check_msix(void) {
    volatile u32 *table = pci_map(slot, 1, 6);
    u32 at = pci_capability(slot, PCI_CAP_MSIX), control = pci_read(slot, at);
    CHECK_EQUAL(control >> 16 & 0x7ff, 1); /* two vectors */
    CHECK_EQUAL(table[3], MASKED);
    table[0] = 0xfee00000;
    table[1] = 0;
    table[2] = VECTOR;
    CHECK_EQUAL(table[2], VECTOR);
    pci_write(slot, at, control | MSIX_ENABLE);
    start();
    ask();
    CHECK_EQUAL(arrived(), 0);
    CHECK_EQUAL(table[PENDING], 1);
    table[PENDING] = 0; /* read-only */
    table[3] = 0;
    CHECK_EQUAL(table[PENDING], 0);
    CHECK_EQUAL(arrived(), 1);
    ask();
    CHECK_EQUAL(arrived(), 1);
    pci_write(slot, at, control | MSIX_ENABLE | MSIX_MASK);
    ask();
    CHECK_EQUAL(arrived(), 0);
    CHECK_EQUAL(table[PENDING], 1);
    pci_write(slot, at, control | MSIX_ENABLE);
    CHECK_EQUAL(arrived(), 1);
    CHECK_EQUAL(pins, 0);            /* the pin is silent */
    table[0] = 0xfee00000 | 5 << 12; /* nobody's id */
    ask();
    CHECK_EQUAL(arrived(), 0);
    table[0] = (u32)(u64)entropy & ~3u; /* no local APIC: written nowhere */
    u64 before = *(volatile u64 *)entropy;
    out16((u16)(pci_read(slot, PCI_BAR(4)) & ~3u), 0);
    CHECK_EQUAL(*(volatile u64 *)entropy, before);
    CHECK_EQUAL(arrived(), 0);
    pci_write(slot, at, control);
}

/* Without leave to master the bus it touches no memory. */
static void check_master(void) {
    start();
    pci_write(slot, PCI_COMMAND, ALL_SPACES & ~4u);
    ring.table[0] = (struct descriptor){(u64)entropy, sizeof(entropy), WRITE, 0};
    *(volatile u16 *)&ring.driver_index = 1;
    out16((u16)(pci_read(slot, PCI_BAR(4)) & ~3u), 0);
    CHECK_EQUAL(*(volatile u16 *)&ring.device_index, 0);
    pci_write(slot, PCI_COMMAND, ALL_SPACES);
    CHECK_EQUAL(*(volatile u16 *)&ring.device_index, 1);
}

void test_main(void) {
    handlers[VECTOR] = on_message;
    handlers[PIN_VECTOR] = on_pin;
    apic_enable();
    slot = pci_find(VIRTIO_RNG, 0);
    check_ecam();
    check_sizes();
    pci_write(slot, PCI_COMMAND, ALL_SPACES);
    check_memory_bar();
    check_port_bar();
    common = pci_map(slot, 0, 0);
    window(1, ((pci_read(slot, PCI_BAR(0)) & ~15u) + VIRTIO_ISR) | PTE_PRESENT | PTE_WRITE |
                  PTE_UNCACHED);
    check_pin();
    check_msix();
    check_master();
}
