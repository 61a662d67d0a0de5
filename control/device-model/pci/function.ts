// One PCI function: its header, BARs, capabilities and interrupts.
//
// Source: PCI Local Bus Specification 3.0, chapter 6. A BAR is decoded while the command register allows it
// and it lies in what the host bridge forwards (layout.ts).

import { claimMmio, MmioDevice, Region } from "../mmio-bus";
import { PortDevice } from "../port-bus";
import {
  BAR0,
  CACHE_LINE_SIZE,
  CAPABILITIES,
  COMMAND,
  ConfigSpace,
  DEVICE_ID,
  HEADER_END,
  HEADER_TYPE,
  INTERRUPT_LINE,
  INTERRUPT_PIN,
  LATENCY_TIMER,
  REVISION,
  STATUS,
  SUBSYSTEM_ID,
  SUBSYSTEM_VENDOR,
  VENDOR_ID,
} from "./config-space";
import { irqOfSlot, setIntx } from "./intx";
import { memoryWindow, MEMORY_WINDOW_END } from "./layout";
import { Msix, MSIX_BAR_SIZE, MSIX_PENDING } from "./msix";

const BARS: u32 = 6;

// Command register.
const IO_SPACE: u32 = 1 << 0;
const MEMORY_SPACE: u32 = 1 << 1;
const BUS_MASTER: u32 = 1 << 2;
const INTX_DISABLE: u32 = 1 << 10;
const COMMAND_BITS: u32 = IO_SPACE | MEMORY_SPACE | BUS_MASTER | INTX_DISABLE;
// Status register.
const INTERRUPT_STATUS: u32 = 1 << 3;
const CAPABILITY_LIST: u32 = 1 << 4;

const IO_BAR: u32 = 1;

const CAP_MSIX: u32 = 0x11;
const MSIX_CONTROL: u32 = 2;
const MSIX_ENABLE: u32 = 1 << 15;
const MSIX_FUNCTION_MASK: u32 = 1 << 14;

/** A BAR: of memory (with a region) or of ports (with a device that the bus asks). */
export class Bar {
  /** Where it is decoded; `size` bytes there are its own. */
  base: u32 = 0;
  decoded: bool = false;

  constructor(
    readonly size: u32,
    readonly region: Region | null,
    readonly ports: PortDevice | null,
  ) {}
}

export abstract class PciFunction {
  readonly config: ConfigSpace = new ConfigSpace();
  readonly bars: StaticArray<Bar | null> = new StaticArray<Bar | null>(<i32>BARS);
  msix: Msix | null = null;
  /** Its slot on bus 0, set by the bus. */
  slot: u32 = 0;
  private msixControl: u32 = 0;
  private capabilitiesEnd: u32 = HEADER_END;
  private lastLink: u32 = CAPABILITIES;
  private pinUp: bool = false;

  /** classCode: base class, sub-class and interface as one number. */
  constructor(vendor: u32, device: u32, classCode: u32, revision: u32) {
    const config = this.config;
    config.set(VENDOR_ID, 2, vendor);
    config.set(DEVICE_ID, 2, device);
    config.set(REVISION, 4, (classCode << 8) | revision);
    config.allow(COMMAND, 2, COMMAND_BITS);
    config.allow(CACHE_LINE_SIZE, 1, 0xff);
    config.allow(LATENCY_TIMER, 1, 0xff);
    config.allow(INTERRUPT_LINE, 1, 0xff);
  }

  setSubsystem(vendor: u32, id: u32): void {
    this.config.set(SUBSYSTEM_VENDOR, 2, vendor);
    this.config.set(SUBSYSTEM_ID, 2, id);
  }

  /** Says that its slot has more functions. */
  setMultifunction(): void {
    this.config.set(HEADER_TYPE, 1, 0x80);
  }

  /** Gives it interrupt pin A. The slot must be known. */
  usePin(): void {
    this.config.set(INTERRUPT_PIN, 1, 1);
    this.config.set(INTERRUPT_LINE, 1, irqOfSlot(this.slot));
  }

  /** Adds a BAR of memory; size: a power of two from 4 KiB. */
  addMemoryBar(index: u32, size: u32, device: MmioDevice): void {
    const region = claimMmio(device, 0, size);
    region.place(0, false);
    this.bars[index] = new Bar(size, region, null);
    this.config.allow(BAR0 + 4 * index, 4, ~(size - 1));
  }

  /** Adds a BAR of ports; size: a power of two from 16. The device gets offsets from the BAR's start. */
  addPortBar(index: u32, size: u32, device: PortDevice): void {
    this.bars[index] = new Bar(size, null, device);
    this.config.set(BAR0 + 4 * index, 4, IO_BAR);
    this.config.allow(BAR0 + 4 * index, 4, ~(size - 1));
  }

  /** Appends a capability of `length` bytes, zeros after its header; returns where it is. */
  addCapability(id: u32, length: u32): u32 {
    const at = this.capabilitiesEnd;
    this.config.set(this.lastLink, 1, at);
    this.config.set(at, 1, id);
    this.lastLink = at + 1;
    this.capabilitiesEnd = (at + length + 3) & ~3;
    this.config.set(STATUS, 2, this.config.read(STATUS, 2) | CAPABILITY_LIST);
    return at;
  }

  /** Gives it MSI-X with its table in a BAR of its own. */
  useMsix(vectors: u32, barIndex: u32): void {
    const msix = new Msix(vectors);
    this.msix = msix;
    this.addMemoryBar(barIndex, MSIX_BAR_SIZE, msix);
    const at = this.addCapability(CAP_MSIX, 12);
    this.msixControl = at + MSIX_CONTROL;
    this.config.set(at + MSIX_CONTROL, 2, vectors - 1);
    this.config.allow(at + MSIX_CONTROL, 2, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    this.config.set(at + 4, 4, barIndex);
    this.config.set(at + 8, 4, MSIX_PENDING | barIndex);
  }

  /** Whether it may read and write memory, and send messages. */
  get isBusMaster(): bool {
    return (this.config.read(COMMAND, 2) & BUS_MASTER) != 0;
  }

  /** Where firmware would put a BAR. */
  assignBar(index: u32, base: u32): void {
    const at = BAR0 + 4 * index;
    this.config.set(at, 4, base | (this.config.read(at, 4) & 15));
  }

  configRead(offset: u32, size: u32): u32 {
    return this.config.read(offset, size);
  }

  /** True: what is decoded where may have changed. */
  configWrite(offset: u32, size: u32, value: u32): bool {
    this.config.write(offset, size, value);
    const end = offset + size;
    const msix = this.msix;
    if (msix !== null && offset < this.msixControl + 2 && end > this.msixControl) this.onMsixControl(msix);
    if (offset < COMMAND + 2 && end > COMMAND) this.updatePin();
    else if (offset >= BAR0 + 4 * BARS || end <= BAR0) return false;
    this.decode();
    return true;
  }

  private onMsixControl(msix: Msix): void {
    const control = this.config.read(this.msixControl, 2);
    msix.configure((control & MSIX_ENABLE) != 0, (control & MSIX_FUNCTION_MASK) != 0);
    this.updatePin();
  }

  /** Works out where the BARs answer. */
  private decode(): void {
    const command = this.config.read(COMMAND, 2);
    for (let i: u32 = 0; i < BARS; i++) {
      const bar = this.bars[i];
      if (bar === null) continue;
      bar.base = this.config.read(BAR0 + 4 * i, 4) & ~(bar.size - 1);
      const region = bar.region;
      if (region === null) {
        bar.decoded = (command & IO_SPACE) != 0;
        continue;
      }
      const inside = bar.base >= memoryWindow && bar.base <= MEMORY_WINDOW_END - bar.size;
      bar.decoded = (command & MEMORY_SPACE) != 0 && inside;
      region.place(bar.base, bar.decoded);
    }
  }

  /** Drives the function's interrupt pin. While MSI-X is on, the pin stays silent. */
  setPin(up: bool): void {
    if (this.pinUp == up) return;
    this.pinUp = up;
    const status = this.config.read(STATUS, 2) & ~INTERRUPT_STATUS;
    this.config.set(STATUS, 2, up ? status | INTERRUPT_STATUS : status);
    this.updatePin();
  }

  private updatePin(): void {
    const msix = this.msix;
    const silent = (this.config.read(COMMAND, 2) & INTX_DISABLE) != 0 || (msix !== null && msix.isEnabled);
    setIntx(this.slot, this.pinUp && !silent);
  }
}
