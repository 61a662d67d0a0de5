// The I/O APIC: 24 inputs, each sent as a message to the local APICs.
//
// Source: Intel 82093AA datasheet (290566), with the EOI register of version 0x20. An input is "up" when
// it is asserted, whatever polarity its redirection entry says: our devices have no voltage.

import { msi } from "../../lib/binding";
import { CAP_VM } from "../../gen/abi";
import { MmioDevice } from "../mmio-bus";

export const IOAPIC_BASE: u64 = 0xfec00000;
export const IOAPIC_SIZE: u32 = 0x1000;
export const IOAPIC_PINS: u32 = 24;

const VERSION: u32 = 0x20;

// Registers in memory space.
const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
const EOI: u32 = 0x40;

// Indirect registers.
const REG_ID: u32 = 0x00;
const REG_VERSION: u32 = 0x01;
const REG_ARBITRATION: u32 = 0x02;
const REG_TABLE: u32 = 0x10;

// Redirection entry.
const VECTOR: u64 = 0xff;
const DELIVERY_STATUS: u64 = 1 << 12;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const READ_ONLY: u64 = DELIVERY_STATUS | REMOTE_IRR;
const WRITABLE: u64 = 0xff0000000001ffff;
const DELIVERY_EXTINT: u32 = 7;

class IoApic extends MmioDevice {
  private entries: StaticArray<u64> = new StaticArray<u64>(<i32>IOAPIC_PINS);
  private lines: u32 = 0;
  private selected: u32 = 0;
  private id: u32 = 0;

  constructor() {
    super();
    for (let pin: u32 = 0; pin < IOAPIC_PINS; pin++) this.entries[pin] = MASKED;
  }

  setLine(pin: u32, up: bool): void {
    const bit: u32 = 1 << pin;
    if (((this.lines & bit) != 0) == up) return;
    this.lines ^= bit;
    if (up) this.service(pin, true);
  }

  /** A local APIC has ended a level-triggered interrupt. */
  endOfInterrupt(vector: u32): void {
    for (let pin: u32 = 0; pin < IOAPIC_PINS; pin++) {
      const entry = unchecked(this.entries[pin]);
      if (((<u32>entry) & 0xff) != vector || !(entry & REMOTE_IRR)) continue;
      unchecked((this.entries[pin] = entry & ~REMOTE_IRR));
      this.service(pin, false);
    }
  }

  // Sends an input's message if it has something to say. An edge that finds the input masked is lost.
  private service(pin: u32, edge: bool): void {
    const entry = unchecked(this.entries[pin]);
    if (entry & MASKED) return;
    if (entry & LEVEL) {
      if (!(this.lines & (1 << pin)) || entry & REMOTE_IRR) return;
      unchecked((this.entries[pin] = entry | REMOTE_IRR));
    } else if (!edge) {
      return;
    }
    this.send(entry);
  }

  // SDM, "Message Signalled Interrupts": the same fields in other places.
  private send(entry: u64): void {
    const delivery = ((<u32>entry) >> 8) & 7;
    if (delivery == DELIVERY_EXTINT) return; // the PIC is wired to LINT0 of vCPU 0
    const destination = <u32>(entry >> 56);
    const logical = ((<u32>entry) >> 11) & 1;
    const level = <u32>((entry >> 15) & 1);
    const lowest: u32 = delivery == 1 ? 1 : 0;
    const address: u32 = 0xfee00000 | (destination << 12) | (lowest << 3) | (logical << 2);
    msi(CAP_VM, address, (<u32>(entry & VECTOR)) | (delivery << 8) | (1 << 14) | (level << 15));
  }

  private readRegister(): u32 {
    const index = this.selected;
    if (index == REG_ID || index == REG_ARBITRATION) return this.id;
    if (index == REG_VERSION) return VERSION | ((IOAPIC_PINS - 1) << 16);
    if (index < REG_TABLE || index >= REG_TABLE + 2 * IOAPIC_PINS) return 0xffffffff;
    const entry = this.entries[(index - REG_TABLE) >> 1];
    return index & 1 ? <u32>(entry >> 32) : <u32>entry;
  }

  private writeRegister(value: u32): void {
    const index = this.selected;
    if (index == REG_ID) this.id = value & 0x0f000000;
    if (index < REG_TABLE || index >= REG_TABLE + 2 * IOAPIC_PINS) return;
    const pin = (index - REG_TABLE) >> 1;
    const old = this.entries[pin];
    let entry: u64 = index & 1 ? (old & 0xffffffff) | ((<u64>value) << 32) : (old & ~0xffffffff) | value;
    entry = (entry & WRITABLE & ~READ_ONLY) | (old & READ_ONLY);
    // An entry that becomes edge-triggered forgets that a level was in service.
    if (!(entry & LEVEL)) entry &= ~REMOTE_IRR;
    this.entries[pin] = entry;
    this.service(pin, false);
  }

  mmioRead(offset: u32, size: u32): u64 {
    const shift = (offset & 3) * 8;
    const register = offset & ~3;
    if (size > 4) return ~0;
    if (register == SELECT) return this.selected >> shift;
    if (register == WINDOW) return this.readRegister() >> shift;
    return ~0;
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    if (offset == SELECT) this.selected = (<u32>value) & 0xff;
    else if (offset == WINDOW && size >= 4) this.writeRegister(<u32>value);
    else if (offset == EOI) this.endOfInterrupt((<u32>value) & 0xff);
  }
}

export const ioapic = new IoApic();
