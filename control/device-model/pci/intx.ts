// Interrupt pins of PCI functions: level-triggered lines that functions share.
//
// A line is up while any of its functions asserts its pin.

import { ioapic } from "../chips/ioapic";
import { ELCR, pic } from "../chips/pic";
import { setIrq } from "../interrupts";
import { gsiOfSlot, PIRQS, pirqOfSlot } from "./layout";

let asserted: u32 = 0; // bit n: the function in slot n

/** Slots that share an I/O APIC input with slot 0, and a line of the interrupt router. */
const SAME_GSI: u32 = 0x01010101;
const SAME_PIRQ: u32 = 0x11111111;
const LEVEL_10_11: u32 = 0x0c;

// The router: which IRQ each of its four lines is, 0: none. By default so that slot n has IRQ 10 + n % 2.
const irqs = StaticArray.fromArray<u32>([11, 10, 11, 10]);
const ROUTE_OFF: u32 = 0x80;
const ROUTABLE: u32 = 0xdef8; // IRQ 3..7, 9..12, 14, 15

/** Makes the PIC's inputs for PCI level-triggered, as firmware does. */
export function initIntx(): void {
  pic.portWrite(ELCR + 1, 1, LEVEL_10_11);
}

/** The IRQ of a slot's pin at systems without I/O APIC. */
export function irqOfSlot(slot: u32): u32 {
  return irqs[pirqOfSlot(slot)];
}

/** Routes a line as a register of the PIIX says: an IRQ, or bit 7 for none. */
export function routePirq(line: u32, route: u32): void {
  const old = irqs[line];
  const irq = route & 15;
  irqs[line] = route & ROUTE_OFF || !((ROUTABLE >> irq) & 1) ? 0 : irq;
  if (irqs[line] == old) return;
  driveIrq(old);
  driveIrq(irqs[line]);
}

// An IRQ is up while any line that is routed to it is.
function driveIrq(irq: u32): void {
  if (irq == 0) return;
  let up = false;
  for (let line: u32 = 0; line < PIRQS; line++) {
    // Line n is that of slots n + 1, n + 5 and so on.
    if (irqs[line] == irq && asserted & rotl<u32>(SAME_PIRQ, line + 1)) up = true;
  }
  setIrq(irq, up);
}

/** Asserts or releases the pin of a slot. */
export function setIntx(slot: u32, up: bool): void {
  const bit: u32 = 1 << slot;
  if (((asserted & bit) != 0) == up) return;
  asserted ^= bit;
  ioapic.setLine(gsiOfSlot(slot), (asserted & (SAME_GSI << (slot & 7))) != 0);
  driveIrq(irqOfSlot(slot));
}
