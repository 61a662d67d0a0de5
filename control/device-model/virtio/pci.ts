// The PCI transport: a virtio device as a PCI function, without the legacy interface.
//
//   BAR 0  memory  0x0000 common   0x1000 ISR   0x2000 the device's own   0x3000 notify, 4 bytes a queue
//   BAR 1  memory  MSI-X           BAR 4  ports: notify, all queues at one port (no instruction to decode)
//
// Source: virtio 1.2, section 4.1, "Virtio Over PCI Bus".

import { log, now } from "../../lib/binding";
import { Count } from "../../lib/link";
import { MmioDevice } from "../mmio-bus";
import { PciFunction } from "../pci/function";
import { PortDevice } from "../port-bus";
import { Timer, TimerClient } from "../timers";
import {
  FEATURE_EVENT_INDEX,
  FEATURE_INDIRECT,
  FEATURE_PACKED,
  FEATURE_QUEUE_RESET,
  FEATURE_VERSION_1,
  Transport,
  VirtioDevice,
} from "./device";
import { allowWork, NO_VECTOR, Virtqueue } from "./queue";

const VENDOR: u32 = 0x1af4;
const DEVICE_BASE: u32 = 0x1040;
const SUBSYSTEM_BASE: u32 = 0x40;
const REVISION: u32 = 1;

export const REGISTERS_BAR_SIZE: u32 = 0x4000;
export const NOTIFY_BAR_SIZE: u32 = 16;
const ISR_OFFSET: u32 = 0x1000;
const DEVICE_OFFSET: u32 = 0x2000;
const NOTIFY_OFFSET: u32 = 0x3000;
const PAGE: u32 = 0x1000;

// Vendor capabilities.
const CAP_VENDOR: u32 = 9;
const CAP_COMMON: u32 = 1;
const CAP_NOTIFY: u32 = 2;
const CAP_ISR: u32 = 3;
const CAP_DEVICE: u32 = 4;
const CAP_PCI: u32 = 5;
const CAP_SIZE: u32 = 16;
const COMMON_SIZE: u32 = 64;

// Common configuration.
const DEVICE_FEATURE_SELECT: u32 = 0x00;
const DEVICE_FEATURE: u32 = 0x04;
const DRIVER_FEATURE_SELECT: u32 = 0x08;
const DRIVER_FEATURE: u32 = 0x0c;
const CONFIG_VECTOR: u32 = 0x10;
const NUM_QUEUES: u32 = 0x12;
const DEVICE_STATUS: u32 = 0x14;
const CONFIG_GENERATION: u32 = 0x15;
const QUEUE_SELECT: u32 = 0x16;
const QUEUE_SIZE: u32 = 0x18;
const QUEUE_VECTOR: u32 = 0x1a;
const QUEUE_ENABLE: u32 = 0x1c;
const QUEUE_NOTIFY_OFF: u32 = 0x1e;
const QUEUE_DESCRIPTORS: u32 = 0x20;
const QUEUE_AVAILABLE: u32 = 0x28;
const QUEUE_USED: u32 = 0x30;
const QUEUE_RESET: u32 = 0x3a;

// Device status.
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 64;
const DRIVER_BITS: u32 = 0x8f;

// Interrupt status.
const ISR_QUEUE: u32 = 1;
const ISR_CONFIG: u32 = 2;

function withLow(wide: u64, low: u32): u64 {
  return (wide & ~0xffffffff) | low;
}

function withHigh(wide: u64, high: u32): u64 {
  return (wide & 0xffffffff) | ((<u64>high) << 32);
}

class Registers extends MmioDevice {
  constructor(private readonly owner: VirtioPci) {
    super();
  }

  mmioRead(offset: u32, size: u32): u64 {
    return this.owner.registerRead(offset, size);
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    this.owner.registerWrite(offset, size, value);
  }
}

class NotifyPort extends PortDevice {
  constructor(private readonly owner: VirtioPci) {
    super();
  }

  portRead(_port: u32, _size: u32): u32 {
    return 0;
  }

  // The value is the queue, wherever it is written: SeaBIOS adds the other capability's multiplier to this address.
  portWrite(_port: u32, size: u32, value: u32): void {
    this.owner.onNotify(size >= 2 ? value & 0xffff : value & 0xff);
  }
}

/** The functions themselves reach their driver through this. */
class PciTransport extends Transport {
  constructor(private readonly owner: VirtioPci) {
    super();
  }

  used(queue: u32): void {
    this.owner.onUsed(queue);
  }

  configChanged(): void {
    this.owner.onConfigChanged();
  }

  needsReset(reason: string): void {
    this.owner.onNeedsReset(reason);
  }

  kick(queue: u32): void {
    this.owner.notify(queue);
  }

  get isLive(): bool {
    return this.owner.isLive;
  }
}

/** Lets devices whose turn is over go on, after everything else that waits has had its turn. */
class Backlog extends TimerClient {
  readonly functions: VirtioPci[] = [];
  private timer: Timer | null = null;

  start(): void {
    if (this.timer === null) this.timer = new Timer(this);
    this.timer!.set(now());
  }

  onTimer(): void {
    for (let i = 0; i < this.functions.length; i++) this.functions[i].goOn();
  }
}

const backlog = new Backlog();

export class VirtioPci extends PciFunction {
  private status: u32 = 0;
  private isr: u32 = 0;
  private generation: u32 = 0;
  private configVector: u32 = NO_VECTOR;
  private deviceSelect: u32 = 0;
  private driverSelect: u32 = 0;
  private driverFeatures: u64 = 0;
  private selected: u32 = 0;
  private pciCap: u32 = 0;
  private offered: u64;

  /** packed: packed rings are offered too. */
  constructor(
    readonly device: VirtioDevice,
    packed: bool,
  ) {
    super(VENDOR, DEVICE_BASE + device.id, device.classCode, REVISION);
    this.offered = device.offered | FEATURE_VERSION_1 | FEATURE_INDIRECT | FEATURE_EVENT_INDEX;
    this.offered |= FEATURE_QUEUE_RESET;
    if (packed) this.offered |= FEATURE_PACKED;
    backlog.functions.push(this);
    this.setSubsystem(VENDOR, SUBSYSTEM_BASE + device.id);
    device.transport = new PciTransport(this);
    const queues = <u32>device.queues.length;
    this.addMemoryBar(0, REGISTERS_BAR_SIZE, new Registers(this));
    this.useMsix(queues + 1, 1);
    this.addPortBar(4, NOTIFY_BAR_SIZE, new NotifyPort(this));
    this.addStructure(CAP_COMMON, 0, 0, COMMON_SIZE, CAP_SIZE);
    this.addStructure(CAP_ISR, 0, ISR_OFFSET, 1, CAP_SIZE);
    if (device.config.length > 0)
      this.addStructure(CAP_DEVICE, 0, DEVICE_OFFSET, device.config.length, CAP_SIZE);
    // A driver takes the first that it can use. The multiplier of the ports' is 0: one port for all queues.
    this.addStructure(CAP_NOTIFY, 4, 0, 4, CAP_SIZE + 4);
    const notify = this.addStructure(CAP_NOTIFY, 0, NOTIFY_OFFSET, 4 * queues, CAP_SIZE + 4);
    this.config.set(notify + CAP_SIZE, 4, 4);
    this.pciCap = this.addStructure(CAP_PCI, 0, 0, 0, CAP_SIZE + 4);
    this.config.allow(this.pciCap + 4, 1, 0xff);
    this.config.allow(this.pciCap + 8, 4, 0xffffffff);
    this.config.allow(this.pciCap + 12, 4, 0xffffffff);
  }

  private addStructure(kind: u32, bar: u32, offset: u32, length: u32, size: u32): u32 {
    const at = this.addCapability(CAP_VENDOR, size);
    this.config.set(at + 2, 1, size);
    this.config.set(at + 3, 1, kind);
    this.config.set(at + 4, 1, bar);
    this.config.set(at + 8, 4, offset);
    this.config.set(at + 12, 4, length);
    return at;
  }

  // --- the window on BAR 0 in configuration space ---

  private inWindow(offset: u32, size: u32): bool {
    const data = this.pciCap + CAP_SIZE;
    return offset >= data && offset + size <= data + 4;
  }

  // Offset of the access in BAR 0, or ~0 if it is none that is allowed.
  private windowTarget(): u32 {
    const length = this.config.read(this.pciCap + 12, 4);
    const offset = this.config.read(this.pciCap + 8, 4);
    if (this.config.read(this.pciCap + 4, 1) != 0 || (length != 1 && length != 2 && length != 4)) return ~0;
    return offset % length == 0 && offset <= REGISTERS_BAR_SIZE - length ? offset : ~0;
  }

  configRead(offset: u32, size: u32): u32 {
    if (this.inWindow(offset, size)) {
      const target = this.windowTarget();
      if (target == ~0) return 0xffffffff;
      const value = <u32>this.registerRead(target, this.config.read(this.pciCap + 12, 4));
      return value >> ((offset - this.pciCap - CAP_SIZE) * 8);
    }
    return super.configRead(offset, size);
  }

  configWrite(offset: u32, size: u32, value: u32): bool {
    if (this.inWindow(offset, size)) {
      const target = this.windowTarget();
      const length = this.config.read(this.pciCap + 12, 4);
      if (target != ~0 && offset == this.pciCap + CAP_SIZE) this.registerWrite(target, length, value);
      return false;
    }
    const wasMaster = this.isBusMaster;
    const changed = super.configWrite(offset, size, value);
    if (!wasMaster && this.isBusMaster) this.processAll();
    return changed;
  }

  // --- registers ---

  registerRead(offset: u32, size: u32): u64 {
    const page = offset & ~(PAGE - 1);
    if (page == 0) {
      const word = this.readCommon(offset & ~3) >> ((offset & 3) * 8);
      return size == 8 ? (<u64>word) | ((<u64>this.readCommon((offset & ~3) + 4)) << 32) : word;
    }
    if (page == ISR_OFFSET) return offset == ISR_OFFSET ? this.readIsr() : 0;
    if (page == DEVICE_OFFSET) return this.readDevice(offset - DEVICE_OFFSET, size);
    return 0;
  }

  registerWrite(offset: u32, size: u32, value: u64): void {
    const page = offset & ~(PAGE - 1);
    if (page == NOTIFY_OFFSET) {
      if (!(offset & 3)) this.onNotify((<u32>value) & 0xffff);
    } else if (page == DEVICE_OFFSET) {
      for (let i: u32 = 0; i < size; i++) {
        const at = offset - DEVICE_OFFSET + i;
        if (at < <u32>this.device.config.length)
          this.device.writeConfig(at, (<u32>(value >> (8 * i))) & 0xff);
      }
    } else if (page == 0) {
      if (size == 8) {
        this.writeCommon(offset, 4, <u32>value);
        this.writeCommon(offset + 4, 4, <u32>(value >> 32));
      } else this.writeCommon(offset, size, <u32>value);
    }
  }

  private readIsr(): u32 {
    const isr = this.isr;
    this.isr = 0;
    this.setPin(false);
    return isr;
  }

  private readDevice(offset: u32, size: u32): u64 {
    const config = this.device.config;
    let value: u64 = 0;
    for (let i: u32 = 0; i < size && offset + i < <u32>config.length; i++) {
      value |= (<u64>config[offset + i]) << (8 * i);
    }
    return value;
  }

  /** The queue that the driver has selected, null: there is no such queue. */
  private queue(): Virtqueue | null {
    return this.selected < <u32>this.device.queues.length ? this.device.queues[this.selected] : null;
  }

  // 32 bits of the common configuration, from an aligned offset.
  private readCommon(offset: u32): u32 {
    const queue = this.queue();
    switch (offset) {
      case DEVICE_FEATURE_SELECT:
        return this.deviceSelect;
      case DEVICE_FEATURE:
        return this.deviceSelect < 2 ? <u32>(this.offered >> (32 * this.deviceSelect)) : 0;
      case DRIVER_FEATURE_SELECT:
        return this.driverSelect;
      case DRIVER_FEATURE:
        return this.driverSelect < 2 ? <u32>(this.driverFeatures >> (32 * this.driverSelect)) : 0;
      case CONFIG_VECTOR:
        return this.configVector | ((<u32>this.device.queues.length) << 16);
      case DEVICE_STATUS:
        return this.status | (this.generation << 8) | (this.selected << 16);
      case QUEUE_SIZE:
        return queue === null ? NO_VECTOR << 16 : queue.size | (queue.vector << 16);
      case QUEUE_ENABLE:
        return queue === null ? 0 : (queue.enabled ? 1 : 0) | (this.selected << 16);
      case QUEUE_DESCRIPTORS:
        return queue === null ? 0 : <u32>queue.descriptors;
      case QUEUE_DESCRIPTORS + 4:
        return queue === null ? 0 : <u32>(queue.descriptors >> 32);
      case QUEUE_AVAILABLE:
        return queue === null ? 0 : <u32>queue.available;
      case QUEUE_AVAILABLE + 4:
        return queue === null ? 0 : <u32>(queue.available >> 32);
      case QUEUE_USED:
        return queue === null ? 0 : <u32>queue.used;
      case QUEUE_USED + 4:
        return queue === null ? 0 : <u32>(queue.used >> 32);
      default:
        return 0;
    }
  }

  // The driver writes fields in their own width; other accesses do nothing.
  private writeCommon(offset: u32, size: u32, value: u32): void {
    if (size == 4) this.writeWide(offset, value);
    else if (size == 2) this.writeNarrow(offset, value & 0xffff);
    else if (offset == DEVICE_STATUS) this.writeStatus(value & 0xff);
  }

  private writeWide(offset: u32, value: u32): void {
    if (offset == DEVICE_FEATURE_SELECT) this.deviceSelect = value;
    else if (offset == DRIVER_FEATURE_SELECT) this.driverSelect = value;
    else if (offset == DRIVER_FEATURE) {
      if (this.status & FEATURES_OK) return;
      if (this.driverSelect == 0) this.driverFeatures = withLow(this.driverFeatures, value);
      else if (this.driverSelect == 1) this.driverFeatures = withHigh(this.driverFeatures, value);
    } else this.writeAddress(offset, value);
  }

  private writeAddress(offset: u32, value: u32): void {
    const queue = this.queue();
    if (queue === null || queue.enabled) return;
    if (offset == QUEUE_DESCRIPTORS) queue.descriptors = withLow(queue.descriptors, value);
    else if (offset == QUEUE_DESCRIPTORS + 4) queue.descriptors = withHigh(queue.descriptors, value);
    else if (offset == QUEUE_AVAILABLE) queue.available = withLow(queue.available, value);
    else if (offset == QUEUE_AVAILABLE + 4) queue.available = withHigh(queue.available, value);
    else if (offset == QUEUE_USED) queue.used = withLow(queue.used, value);
    else if (offset == QUEUE_USED + 4) queue.used = withHigh(queue.used, value);
  }

  private writeNarrow(offset: u32, value: u32): void {
    if (offset == CONFIG_VECTOR) this.configVector = this.checkVector(value);
    else if (offset == QUEUE_SELECT) this.selected = value;
    const queue = this.queue();
    if (queue === null) return;
    if (offset == QUEUE_RESET && value == 1 && this.driverFeatures & FEATURE_QUEUE_RESET) queue.reset();
    else if (offset == QUEUE_VECTOR) queue.vector = this.checkVector(value);
    else if (offset == QUEUE_SIZE && !queue.enabled) queue.size = value;
    else if (offset == QUEUE_ENABLE && value == 1 && !queue.enabled) {
      queue.enable();
      if (queue.fault.length > 0) this.onNeedsReset(queue.fault);
    }
  }

  private checkVector(value: u32): u32 {
    return value < this.msix!.vectors ? value : NO_VECTOR;
  }

  private writeStatus(value: u32): void {
    if (value == 0) {
      this.resetDevice();
      return;
    }
    const before = this.status;
    let status = (before & NEEDS_RESET) | (value & DRIVER_BITS);
    if (status & FEATURES_OK && !(before & FEATURES_OK)) {
      if (this.acceptsFeatures()) this.negotiate();
      else status &= ~FEATURES_OK;
    }
    this.status = status;
    if (!(status & DRIVER_OK) || before & DRIVER_OK) return;
    this.device.ready();
    this.processAll();
  }

  private acceptsFeatures(): bool {
    return (this.driverFeatures & ~this.offered) == 0 && (this.driverFeatures & FEATURE_VERSION_1) != 0;
  }

  private negotiate(): void {
    const features = this.driverFeatures;
    const queues = this.device.queues;
    this.device.features = features;
    for (let i = 0; i < queues.length; i++) {
      queues[i].negotiate(
        (features & FEATURE_PACKED) != 0,
        (features & FEATURE_EVENT_INDEX) != 0,
        (features & FEATURE_INDIRECT) != 0,
      );
    }
  }

  private resetDevice(): void {
    const queues = this.device.queues;
    this.status = 0;
    this.isr = 0;
    this.setPin(false);
    this.msix!.forgetPending();
    this.configVector = NO_VECTOR;
    this.driverFeatures = 0;
    this.deviceSelect = 0;
    this.driverSelect = 0;
    this.selected = 0;
    this.device.features = 0;
    for (let i = 0; i < queues.length; i++) queues[i].reset();
    this.device.reset();
  }

  // --- work ---

  // DRIVER_OK, not broken, and allowed to touch memory.
  get isLive(): bool {
    return (this.status & (DRIVER_OK | NEEDS_RESET)) == DRIVER_OK && this.isBusMaster;
  }

  /** The driver says that a queue has buffers. */
  onNotify(index: u32): void {
    this.device.counters.add(Count.NOTIFIES, 1);
    this.notify(index);
  }

  /** There may be something for a queue to do. */
  notify(index: u32): void {
    if (index >= <u32>this.device.queues.length || !this.isLive) return;
    const queue = this.device.queues[index];
    if (!queue.enabled) return;
    allowWork();
    this.device.process(index);
    this.device.counters.publish();
    if (queue.unfinished) backlog.start();
  }

  /** Devices whose turn was over have theirs again. */
  goOn(): void {
    const queues = this.device.queues;
    for (let i = 0; i < queues.length; i++) {
      if (!queues[i].unfinished) continue;
      queues[i].unfinished = false;
      this.notify(i);
    }
  }

  private processAll(): void {
    for (let i = 0; i < this.device.queues.length; i++) this.notify(i);
  }

  onUsed(index: u32): void {
    const queue = this.device.queues[index];
    if (queue.wantsInterrupt()) this.interrupt(queue.vector, ISR_QUEUE);
  }

  onConfigChanged(): void {
    this.generation = (this.generation + 1) & 0xff;
    if (this.status & DRIVER_OK) this.interrupt(this.configVector, ISR_CONFIG);
  }

  onNeedsReset(reason: string): void {
    if (this.status & NEEDS_RESET) return;
    this.status |= NEEDS_RESET;
    this.report(reason);
    this.device.stopped();
    if (this.status & DRIVER_OK) this.interrupt(this.configVector, ISR_CONFIG);
  }

  private reported: bool = false;

  private report(reason: string): void {
    if (this.reported) return; // a guest can do this as often as it likes
    this.reported = true;
    log(`device model: virtio ${this.device.name} stops until its driver resets it: ${reason}`);
  }

  private interrupt(vector: u32, cause: u32): void {
    const msix = this.msix!;
    this.device.counters.add(Count.INTERRUPTS, 1);
    if (msix.isEnabled) {
      if (vector != NO_VECTOR) msix.raise(vector);
      return;
    }
    this.isr |= cause;
    this.setPin(true);
  }
}
