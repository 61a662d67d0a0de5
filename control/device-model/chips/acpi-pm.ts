// The ACPI fixed hardware: PM1a events and control, the power-management timer, and general-purpose events.
//
// Source: ACPI specification 6.5, "ACPI Register Model". ACPI mode is always on (SCI_EN reads as one and
// there is no SMI command port). The timer is 32 bits wide; its overflow event is not raised.

import { ticks } from "../clock";
import { IRQ_SCI, setIrq } from "../interrupts";
import { PortDevice } from "../port-bus";
import { endOff } from "../power";

export const PM1_EVENT_PORT: u32 = 0x600;
export const PM1_CONTROL_PORT: u32 = 0x604;
export const PM_TIMER_PORT: u32 = 0x608;
export const GPE0_PORT: u32 = 0x60c;
/** Bytes of its status and, behind it, of what is enabled. */
export const GPE0_SIZE: u32 = 4;
export const PM_PORTS: u32 = 16;
/** Where the block may be besides: at any multiple of this. */
export const PM_ALIGNMENT: u32 = 64;
export const PM_TIMER_HZ: u64 = 3579545;

/** SLP_TYP of S5, which the DSDT's _S5 names. */
export const SLEEP_S5: u32 = 5;

/** General-purpose events; the DSDT has a method for each. */
export const GPE_GENERATION: u32 = 5;
const GPE_BITS: u32 = 1 << GPE_GENERATION;

const POWER_BUTTON: u32 = 1 << 8; // PM1 status and enable
const STATUS_BITS: u32 = 0x8731;
const ENABLE_BITS: u32 = 0x0721;
const SCI_EN: u32 = 1;
const SLP_EN: u32 = 1 << 13;

class AcpiPm extends PortDevice {
  private status: u32 = 0;
  private enable: u32 = 0;
  private control: u32 = 0;
  private events: u32 = 0; // general-purpose ones: status, and which are enabled
  private eventsEnabled: u32 = 0;

  /** False: nothing in the VM has asked to be told of it. */
  pressPowerButton(): bool {
    this.status |= POWER_BUTTON;
    this.update();
    return (this.enable & POWER_BUTTON) != 0;
  }

  /** Raises a general-purpose event. */
  raise(event: u32): void {
    this.events |= 1 << event;
    this.update();
  }

  private update(): void {
    setIrq(IRQ_SCI, ((this.status & this.enable) | (this.events & this.eventsEnabled)) != 0);
  }

  // The block as it lies in port space, 32 bits at a time.
  private readBlock(block: u32): u32 {
    if (block == 0) return this.status | (this.enable << 16);
    if (block == 4) return this.control | SCI_EN;
    if (block == 12) return this.events | (this.eventsEnabled << 16);
    return <u32>ticks(PM_TIMER_HZ);
  }

  portRead(port: u32, _size: u32): u32 {
    const offset = port & (PM_ALIGNMENT - 1);
    return this.readBlock(offset & 12) >> ((offset & 3) * 8);
  }

  portWrite(port: u32, size: u32, value: u32): void {
    const offset = port & (PM_ALIGNMENT - 1);
    const shift = (offset & 3) * 8;
    const mask = (size == 4 ? 0xffffffff : ((<u32>1) << (size * 8)) - 1) << shift;
    value = (value << shift) & mask;
    const block = offset & 12;
    if (block == 0) this.writeEvents(value, mask);
    else if (block == 4) this.writeControl(value, mask);
    else if (block == 12) this.writeGeneral(value, mask);
  }

  private writeEvents(value: u32, mask: u32): void {
    this.status &= ~(value & STATUS_BITS); // a one clears
    const enableMask = mask >> 16;
    this.enable = (this.enable & ~enableMask) | ((value >> 16) & enableMask & ENABLE_BITS);
    this.update();
  }

  private writeGeneral(value: u32, mask: u32): void {
    this.events &= ~value; // a one clears
    const enableMask = mask >> 16;
    this.eventsEnabled = (this.eventsEnabled & ~enableMask) | ((value >> 16) & GPE_BITS);
    this.update();
  }

  private writeControl(value: u32, mask: u32): void {
    this.control = ((this.control & ~mask) | value) & 0x1c03 & ~SCI_EN;
    if (!(value & SLP_EN)) return;
    if (((this.control >> 10) & 7) == SLEEP_S5) endOff();
  }
}

export const acpiPm = new AcpiPm();
