// Interrupt pins of PCI functions: level-triggered lines that functions share.
//
// A line is up while any of its functions asserts its pin.

import { ioapic } from "../chips/ioapic";
import { ELCR, pic } from "../chips/pic";
import { gsiOfSlot, irqOfSlot } from "./layout";

let asserted: u32 = 0; // bit n: the function in slot n

/** Slots that share an I/O APIC input with slot 0, and a PIC input. */
const SAME_GSI: u32 = 0x01010101;
const SAME_IRQ: u32 = 0x55555555;
const LEVEL_10_11: u32 = 0x0c;

/** Makes the PIC's inputs for PCI level-triggered, as firmware does. */
export function initIntx(): void {
  pic.portWrite(ELCR + 1, 1, LEVEL_10_11);
}

/** Asserts or releases the pin of a slot. */
export function setIntx(slot: u32, up: bool): void {
  const bit: u32 = 1 << slot;
  if (((asserted & bit) != 0) == up) return;
  asserted ^= bit;
  ioapic.setLine(gsiOfSlot(slot), (asserted & (SAME_GSI << (slot & 7))) != 0);
  pic.setLine(irqOfSlot(slot), (asserted & (SAME_IRQ << (slot & 1))) != 0);
}
