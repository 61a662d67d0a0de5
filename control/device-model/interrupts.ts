// Interrupt lines: a device drives one by number, and both interrupt controllers see it.
//
// GSI 0..23 are the inputs of the I/O APIC. ISA IRQ n is GSI n, but the timer's IRQ 0 is GSI 2, as the
// MADT says (acpi/tables.ts).

import { pic } from "./chips/pic";
import { ioapic } from "./chips/ioapic";

export const IRQ_TIMER: u32 = 0;
export const IRQ_COM1: u32 = 4;
export const IRQ_RTC: u32 = 8;
export const IRQ_SCI: u32 = 9;
export const GSI_TIMER: u32 = 2;

/** Raises or lowers an ISA interrupt line. */
export function setIrq(irq: u32, up: bool): void {
  pic.setLine(irq, up);
  ioapic.setLine(irq == IRQ_TIMER ? GSI_TIMER : irq, up);
}

/** A short pulse on an ISA line: one interrupt of an edge-triggered input. */
export function pulseIrq(irq: u32): void {
  setIrq(irq, true);
  setIrq(irq, false);
}

/** Raises or lowers an input of the I/O APIC that is no ISA line. */
export function setGsi(gsi: u32, up: bool): void {
  ioapic.setLine(gsi, up);
}
