/* Local APIC and IOAPIC: SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)", and the
   82093AA data sheet. */
#include "apic.h"

#include "log.h"
#include "paging.h"
#include "regs.h"
#include "trap.h"
#include "x86.h"

#define SPURIOUS_ENABLE 0x100
#define LVT_MASKED      (1u << 16)
#define LVT_NMI         (4u << 8)
#define ICR_PENDING     (1u << 12)

static bool x2apic;
static volatile u32 *xapic; /* mapped only without x2APIC */

u32 lapic_read(unsigned reg) { return x2apic ? (u32)rdmsr(MSR_X2APIC_BASE + reg) : xapic[reg * 4]; }

void lapic_write(unsigned reg, u32 value) {
    if (x2apic)
        wrmsr(MSR_X2APIC_BASE + reg, value);
    else
        xapic[reg * 4] = value;
}

void lapic_eoi(void) { lapic_write(LAPIC_EOI, 0); }

void lapic_ipi(u32 apic_id, u32 command) {
    memory_fence(); /* in x2APIC mode a command does not wait for what was written before it */
    if (x2apic) {
        wrmsr(MSR_X2APIC_BASE + LAPIC_ICR, (u64)apic_id << 32 | command);
        return;
    }
    while (lapic_read(LAPIC_ICR) & ICR_PENDING)
        cpu_pause();
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR, command);
}

bool lapic_x2apic(void) { return x2apic; }

u32 lapic_id(void) { return x2apic ? lapic_read(LAPIC_ID) : lapic_read(LAPIC_ID) >> 24; }

void lapic_init(struct hpa address) {
    u64 base = rdmsr(MSR_IA32_APIC_BASE) | APIC_BASE_ENABLE;
    x2apic = cpuid(1, 0).ecx & CPUID_1_ECX_X2APIC;
    if (!x2apic && !xapic) xapic = mmio_map(address, PAGE_SIZE);
    wrmsr(MSR_IA32_APIC_BASE, base); /* xAPIC first: there is no way from off to x2APIC */
    if (x2apic) wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_X2APIC);
    lapic_write(LAPIC_SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
    lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
    lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
    lapic_write(LAPIC_TPR, 0);
}

/* The PICs are moved off the exception vectors, then masked for good. */
enum { PIC1_COMMAND = 0x20, PIC1_DATA = 0x21, PIC2_COMMAND = 0xa0, PIC2_DATA = 0xa1 };
#define PIC_ICW1_INIT 0x11
#define PIC_ICW4_8086 0x01
#define PIC_VECTORS   0x20 /* 16 of them, which nothing else uses */

static void pic_mask(void) {
    outb(PIC1_COMMAND, PIC_ICW1_INIT);
    outb(PIC2_COMMAND, PIC_ICW1_INIT);
    outb(PIC1_DATA, PIC_VECTORS);
    outb(PIC2_DATA, PIC_VECTORS + 8);
    outb(PIC1_DATA, 1u << 2); /* the second is on input 2 of the first */
    outb(PIC2_DATA, 2);
    outb(PIC1_DATA, PIC_ICW4_8086);
    outb(PIC2_DATA, PIC_ICW4_8086);
    outb(PIC1_DATA, 0xff);
    outb(PIC2_DATA, 0xff);
}

enum { IOAPIC_VERSION = 0x01, IOAPIC_REDIRECTION = 0x10 };
#define IOAPIC_SELECT       0 /* in u32 */
#define IOAPIC_DATA         4
#define IOAPIC_PAGE         0x20
#define REDIRECT_ACTIVE_LOW (1u << 13)
#define REDIRECT_LEVEL      (1u << 15)
#define REDIRECT_MASKED     (1u << 16)

static struct ioapic {
    volatile u32 *registers;
    u32 gsi_base, inputs;
} ioapics[ACPI_MAX_IOAPICS];
static u32 ioapic_count;
static struct acpi_route isa[16];

static u32 ioapic_read(const struct ioapic *io, u32 reg) {
    io->registers[IOAPIC_SELECT] = reg;
    return io->registers[IOAPIC_DATA];
}

static void ioapic_write(const struct ioapic *io, u32 reg, u32 value) {
    io->registers[IOAPIC_SELECT] = reg;
    io->registers[IOAPIC_DATA] = value;
}

/* The IOAPIC of an ISA interrupt and its redirection register; NULL: none. */
static const struct ioapic *input_find(u8 isa_irq, u32 *reg) {
    if (isa_irq >= ARRAY_SIZE(isa)) return NULL;
    u32 gsi = isa[isa_irq].gsi;
    for (u32 i = 0; i < ioapic_count; i++) {
        const struct ioapic *io = &ioapics[i];
        if (gsi >= io->gsi_base && gsi - io->gsi_base < io->inputs) {
            *reg = IOAPIC_REDIRECTION + 2 * (gsi - io->gsi_base);
            return io;
        }
    }
    return NULL;
}

void ioapic_init(const struct acpi_info *acpi) {
    pic_mask();
    memcpy(isa, acpi->isa, sizeof(isa));
    ioapic_count = acpi->ioapic_count;
    for (u32 i = 0; i < ioapic_count; i++) {
        struct ioapic *io = &ioapics[i];
        io->registers = mmio_map(acpi->ioapics[i].address, IOAPIC_PAGE);
        io->gsi_base = acpi->ioapics[i].gsi_base;
        io->inputs = (ioapic_read(io, IOAPIC_VERSION) >> 16 & 0xff) + 1;
        for (u32 input = 0; input < io->inputs; input++)
            ioapic_write(io, IOAPIC_REDIRECTION + 2 * input, REDIRECT_MASKED);
    }
}

bool irq_route(u8 isa_irq, u8 vector) {
    u32 reg;
    const struct ioapic *io = input_find(isa_irq, &reg);
    if (!io) return false;
    const struct acpi_route *route = &isa[isa_irq];
    ioapic_write(io, reg + 1, lapic_id() << 24);
    ioapic_write(io, reg,
                 REDIRECT_MASKED | vector | (route->active_low ? REDIRECT_ACTIVE_LOW : 0) |
                     (route->level ? REDIRECT_LEVEL : 0));
    return true;
}

static void mask_set(u8 isa_irq, u32 masked) {
    u32 reg;
    const struct ioapic *io = input_find(isa_irq, &reg);
    if (io) ioapic_write(io, reg, (ioapic_read(io, reg) & ~REDIRECT_MASKED) | masked);
}

void irq_mask(u8 isa_irq) { mask_set(isa_irq, REDIRECT_MASKED); }
void irq_unmask(u8 isa_irq) { mask_set(isa_irq, 0); }
