/* The host's local APICs and IOAPICs. */
#pragma once

#include "acpi.h"
#include "types.h"

/* Enables this CPU's local APIC, in x2APIC mode where the CPU has it; it is never disabled again.
 */
void lapic_init(struct hpa address);
u32 lapic_id(void);
void lapic_eoi(void);

/* Interrupt commands: SDM "Interrupt Command Register (ICR)". */
#define IPI_FIXED   0u /* and a vector */
#define IPI_NMI     (4u << 8)
#define IPI_INIT    (5u << 8 | 1u << 14)
#define IPI_STARTUP (6u << 8 | 1u << 14) /* and a page below 1 MiB */
void lapic_ipi(u32 apic_id, u32 command);
bool lapic_x2apic(void);

enum { /* register numbers: offset in the xAPIC page / 16, MSR 0x800 + n in x2APIC mode */
       LAPIC_ID = 0x02,
       LAPIC_TPR = 0x08,
       LAPIC_EOI = 0x0b,
       LAPIC_SPURIOUS = 0x0f,
       LAPIC_ICR = 0x30,
       LAPIC_ICR_HIGH = 0x31, /* xAPIC only */
       LAPIC_LVT_TIMER = 0x32,
       LAPIC_LVT_LINT0 = 0x35,
       LAPIC_LVT_LINT1 = 0x36,
       LAPIC_LVT_ERROR = 0x37,
       LAPIC_TIMER_INITIAL = 0x38,
       LAPIC_TIMER_CURRENT = 0x39,
       LAPIC_TIMER_DIVIDE = 0x3e,
};
u32 lapic_read(unsigned reg);
void lapic_write(unsigned reg, u32 value);

/* Masks the PICs and every IOAPIC input. */
void ioapic_init(const struct acpi_info *acpi);
/* Sends an ISA interrupt to `vector` on the boot CPU; it stays masked. False: no IOAPIC has it. */
MUST_USE bool irq_route(u8 isa_irq, u8 vector);
void irq_mask(u8 isa_irq);
void irq_unmask(u8 isa_irq);
