/* The chips that several tests use: the interrupt controllers, CMOS, PCI configuration space. */
#pragma once

#include "guest.h"

/* --- waiting for a device: never for ever --- */

/* Whether the condition comes true within ten seconds of guest time. */
#define COMES_TRUE(condition)                                                                      \
    ({                                                                                             \
        u64 end = rdtsc() + 10 * tsc_hz();                                                         \
        bool is_true;                                                                              \
        while (!(is_true = (condition)) && rdtsc() < end)                                          \
            ;                                                                                      \
        is_true;                                                                                   \
    })

/* Lets in what is pending. */
static inline void open_window(void) { __asm__ volatile("sti; nop; nop; cli" ::: "memory"); }

/* --- the 8259A pair --- */

#define PIC_MASTER 0x20
#define PIC_SLAVE  0xa0
#define PIC_VECTOR 0x60 /* of IRQ 0 */
#define IRQ_TIMER  0
#define IRQ_COM1   4
#define IRQ_RTC    8
#define IRQ_SCI    9

#define OCW2_EOI 0x20
#define OCW3_IRR 0x0a
#define OCW3_ISR 0x0b

/* Initializes one chip; every input is masked. */
static inline void pic_init(u16 port, u8 vector, u8 icw4) {
    out8(port, 0x11);
    out8(port + 1, vector);
    out8(port + 1, port == PIC_MASTER ? 4 : 2);
    out8(port + 1, icw4);
    out8(port + 1, 0xff);
}

/* Initializes both, with these IRQs unmasked. */
static inline void pic_start(u16 irqs) {
    pic_init(PIC_MASTER, PIC_VECTOR, 1);
    pic_init(PIC_SLAVE, PIC_VECTOR + 8, 1);
    out8(PIC_MASTER + 1, (u8) ~(irqs | (irqs > 0xff ? 4 : 0)));
    out8(PIC_SLAVE + 1, (u8)(~irqs >> 8));
}

static inline void pic_eoi(unsigned irq) {
    if (irq >= 8) out8(PIC_SLAVE, OCW2_EOI);
    out8(PIC_MASTER, OCW2_EOI);
}

static inline u8 pic_read(u16 port, u8 ocw3) {
    out8(port, ocw3);
    return in8(port);
}

/* --- the I/O APIC --- */

#define IOAPIC_BASE       0xfec00000ull
#define IOAPIC_MASKED     (1u << 16)
#define IOAPIC_LEVEL      (1u << 15)
#define IOAPIC_REMOTE_IRR (1u << 14)

static inline volatile u32 *ioapic_registers(unsigned page) {
    return window(page, IOAPIC_BASE | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
}

static inline u32 ioapic_read(volatile u32 *io, u32 reg) {
    io[0] = reg;
    return io[4];
}

static inline void ioapic_write(volatile u32 *io, u32 reg, u32 value) {
    io[0] = reg;
    io[4] = value;
}

static inline void ioapic_route(volatile u32 *io, unsigned pin, u8 destination, u32 low) {
    ioapic_write(io, 0x10 + 2 * pin, IOAPIC_MASKED);
    ioapic_write(io, 0x11 + 2 * pin, (u32)destination << 24);
    ioapic_write(io, 0x10 + 2 * pin, low);
}

/* --- CMOS --- */

static inline u8 cmos_read(u8 reg) {
    out8(0x70, reg);
    return in8(0x71);
}

static inline void cmos_write(u8 reg, u8 value) {
    out8(0x70, reg);
    out8(0x71, value);
}

/* --- PCI bus 0, by ports --- */

#define PCI_COMMAND      0x04
#define PCI_BAR(n)       (0x10 + 4 * (n))
#define PCI_CAPABILITIES 0x34
#define PCI_SLOTS        32
#define PCI_CAP_MSIX     0x11

static inline u32 pci_read(u32 slot, u32 offset) {
    out32(0xcf8, 0x80000000u | slot << 11 | offset);
    return in32(0xcfc);
}

static inline void pci_write(u32 slot, u32 offset, u32 value) {
    out32(0xcf8, 0x80000000u | slot << 11 | offset);
    out32(0xcfc, value);
}

/* The `nth` function with this device and vendor. */
static inline u32 pci_find(u32 id, unsigned nth) {
    unsigned seen = 0;
    for (u32 slot = 0; slot < PCI_SLOTS; slot++)
        if (pci_read(slot, 0) == id && seen++ == nth) return slot;
    error("a device is missing");
}

static inline u32 pci_capability(u32 slot, u8 id) {
    for (u32 at = pci_read(slot, PCI_CAPABILITIES) & 0xff; at; at = pci_read(slot, at) >> 8 & 0xff)
        if ((pci_read(slot, at) & 0xff) == id) return at;
    error("a capability is missing");
}

/* A BAR of memory, through a page of the window. */
static inline void *pci_map(u32 slot, unsigned bar, unsigned page) {
    return window(page,
                  (pci_read(slot, PCI_BAR(bar)) & ~15u) | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED);
}
