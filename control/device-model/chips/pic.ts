// The two 8259A interrupt controllers of a PC, and their INTR line to vCPU 0.
//
// Source: Intel 8259A datasheet (231468); edge/level registers as in the 82371SB (PIIX3).
// All lines are masked at reset. Not done: poll mode, buffered mode, MCS-80 mode.

import { vcpuInterrupt } from "../../lib/binding";
import { CAP_VCPU, InterruptKind } from "../../gen/abi";
import { PortDevice } from "../port-bus";

export const PIC_MASTER: u32 = 0x20;
export const PIC_SLAVE: u32 = 0xa0;
export const ELCR: u32 = 0x4d0;
const CASCADE: u32 = 2;

/** One 8259A. */
class Chip {
  irr: u32 = 0; // requests: latched edges, and levels that are up
  isr: u32 = 0; // in service
  imr: u32 = 0xff; // masked
  lines: u32 = 0; // the input pins
  levels: u32 = 0; // ELCR: level-triggered inputs
  base: u32 = 0; // ICW2: vector of input 0
  private lowest: u32 = 7; // the input of the lowest priority
  private initStep: u32 = 0; // the ICW that port 1 expects: 2, 3, 4; 0: none, it is the mask
  private needsIcw4: bool = false;
  private autoEoi: bool = false;
  private rotateOnAutoEoi: bool = false;
  private readsIsr: bool = false;
  private specialMask: bool = false;
  ready: bool = false; // has been initialized since reset

  setLine(input: u32, up: bool): void {
    const bit: u32 = 1 << input;
    const was = (this.lines & bit) != 0;
    if (up == was) return;
    this.lines ^= bit;
    if (up) this.irr |= bit;
    else if (this.levels & bit) this.irr &= ~bit;
  }

  // Inputs in the order of their priority: bit 0 of the result is the highest.
  @inline
  private ordered(bits: u32): u32 {
    const first = (this.lowest + 1) & 7;
    return ((bits >> first) | (bits << (8 - first))) & 0xff;
  }

  /** The input to be served next, or -1. */
  pending(): i32 {
    if (!this.ready) return -1;
    const requests = this.ordered(this.irr & ~this.imr);
    if (requests == 0) return -1;
    const best = ctz(requests);
    const serving = this.specialMask ? this.isr & ~this.imr : this.isr;
    const served = this.ordered(serving);
    if (served != 0 && ctz(served) <= best) return -1;
    return <i32>((best + this.lowest + 1) & 7);
  }

  /** The processor takes an input's interrupt. */
  acknowledge(input: u32): void {
    const bit: u32 = 1 << input;
    if (!(this.levels & bit)) this.irr &= ~bit;
    if (!this.autoEoi) this.isr |= bit;
    else if (this.rotateOnAutoEoi) this.lowest = input;
  }

  read(a0: u32): u32 {
    if (a0) return this.imr;
    return this.readsIsr ? this.isr : this.irr;
  }

  write(a0: u32, value: u32): void {
    if (a0) this.writeData(value);
    else if (value & 0x10) this.startInit(value);
    else if (value & 0x08) this.writeOcw3(value);
    else this.writeOcw2(value);
  }

  private startInit(icw1: u32): void {
    this.irr = this.lines & this.levels;
    this.isr = 0;
    this.imr = 0;
    this.lowest = 7;
    this.readsIsr = false;
    this.specialMask = false;
    this.autoEoi = false;
    this.rotateOnAutoEoi = false;
    this.ready = false;
    this.needsIcw4 = (icw1 & 1) != 0;
    this.initStep = 2;
  }

  private writeData(value: u32): void {
    if (this.initStep == 0) {
      this.imr = value;
    } else if (this.initStep == 2) {
      this.base = value & 0xf8;
      this.initStep = 3;
    } else if (this.initStep == 3) {
      // ICW3, the cascade, is wired on a PC.
      this.initStep = this.needsIcw4 ? 4 : 0;
      this.ready = this.initStep == 0;
    } else {
      this.autoEoi = (value & 2) != 0;
      this.initStep = 0;
      this.ready = true;
    }
  }

  private writeOcw3(value: u32): void {
    if (value & 0x02) this.readsIsr = (value & 1) != 0;
    if (value & 0x40) this.specialMask = (value & 0x20) != 0;
  }

  // OCW2: bit 7 rotate, bit 6 specific, bit 5 end of interrupt.
  private writeOcw2(value: u32): void {
    const rotate = (value & 0x80) != 0;
    const input = value & 0x40 ? value & 7 : this.highestInService();
    if (value & 0x20) {
      if (input > 7) return;
      this.isr &= ~(1 << input);
      if (rotate) this.lowest = input;
    } else if (value & 0x40) {
      if (rotate) this.lowest = value & 7;
    } else {
      this.rotateOnAutoEoi = rotate;
    }
  }

  private highestInService(): u32 {
    const served = this.ordered(this.isr);
    return served == 0 ? 8 : (ctz(served) + this.lowest + 1) & 7;
  }
}

/** The pair, with the second on input 2 of the first. */
class PicPair extends PortDevice {
  private master: Chip = new Chip();
  private slave: Chip = new Chip();
  private announced: i32 = -1; // the vector that the vCPU has been told, -1: its line is down, -2: unknown

  setLine(irq: u32, up: bool): void {
    if (irq < 8) this.master.setLine(irq, up);
    else this.slave.setLine(irq - 8, up);
    this.update();
  }

  /** The vCPU has taken this vector; another one may have been announced since. */
  acknowledge(vector: u32): void {
    this.announced = this.announced == <i32>vector ? -1 : -2;
    const bySlave = (vector & 0xf8) == this.slave.base && this.slave.base != this.master.base;
    this.master.acknowledge(bySlave ? CASCADE : vector & 7);
    if (bySlave) this.slave.acknowledge(vector & 7);
    this.update();
  }

  // Drives the cascade input and the INTR line.
  private update(): void {
    const second = this.slave.pending();
    // The second chip's output is a level as far as the first is concerned.
    this.master.setLine(CASCADE, second >= 0);
    if (second < 0) this.master.irr &= ~(1 << CASCADE);
    const input = this.master.pending();
    let vector = -1;
    if (input == CASCADE) vector = second < 0 ? -1 : this.slave.base + second;
    else if (input >= 0) vector = this.master.base + input;
    if (vector == this.announced) return;
    this.announced = vector;
    if (vector < 0) vcpuInterrupt(CAP_VCPU, InterruptKind.EXTINT_CLEAR, 0);
    else vcpuInterrupt(CAP_VCPU, InterruptKind.EXTINT, vector);
  }

  portRead(port: u32, _size: u32): u32 {
    if (port == ELCR) return this.master.levels;
    if (port == ELCR + 1) return this.slave.levels;
    return port >= PIC_SLAVE ? this.slave.read(port & 1) : this.master.read(port & 1);
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    value &= 0xff;
    // IRQ 0, 1, 2, 8 and 13 are always edge-triggered.
    if (port == ELCR) this.master.levels = value & 0xf8;
    else if (port == ELCR + 1) this.slave.levels = value & 0xde;
    else if (port >= PIC_SLAVE) this.slave.write(port & 1, value);
    else this.master.write(port & 1, value);
    this.update();
  }
}

export const pic = new PicPair();
