// A driver for virtio devices on PCI, for tests: finds functions, sets up queues, and can do all of it wrongly.

import * as assert from "uvu/assert";
import type { Rig } from "./rig";

export const VIRTIO_VENDOR = 0x1af4;
export const COMMON = 0;
export const ISR = 0x1000;
export const DEVICE = 0x2000;
export const NOTIFY = 0x3000;

export const STATUS = 0x14;
export const DRIVER_OK = 0x0f;
export const NEEDS_RESET = 0x40;
export const VERSION_1 = 1n << 32n;
export const INDIRECT_DESC = 1n << 28n;
export const EVENT_IDX = 1n << 29n;
export const PACKED = 1n << 34n;
export const RING_RESET = 1n << 40n;

/** Descriptor flags. */
export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;

export function configRead(rig: Rig, slot: number, register: number, size = 4): number {
  rig.out(CONFIG_ADDRESS, (0x80000000 | (slot << 11) | (register & 0xfc)) >>> 0, 4);
  return rig.in(CONFIG_DATA + (register & 3), size);
}

export function configWrite(rig: Rig, slot: number, register: number, value: number, size = 4): void {
  rig.out(CONFIG_ADDRESS, (0x80000000 | (slot << 11) | (register & 0xfc)) >>> 0, 4);
  rig.out(CONFIG_DATA + (register & 3), value, size);
}

/** The slot of the n-th virtio device of a kind, by its virtio id. */
export function findVirtio(rig: Rig, id: number, nth = 0): number {
  for (let slot = 0; slot < 32; slot++) {
    if (configRead(rig, slot, 0) !== (((0x1040 + id) << 16) | VIRTIO_VENDOR) >>> 0) continue;
    if (nth-- === 0) return slot;
  }
  throw new Error(`no virtio device ${id}`);
}

/** Where a queue lies in guest memory. */
export interface QueueLayout {
  size: number;
  descriptors: number;
  available: number;
  used: number;
}

/** One segment of a buffer. */
export interface Segment {
  address: number | bigint;
  length: number;
  write?: boolean;
}

export class Driver {
  readonly base: number;
  readonly queues: QueueLayout[] = [];
  features = 0n;
  private readonly next: number[] = [];
  private readonly taken: number[] = [];

  constructor(
    readonly rig: Rig,
    readonly slot: number,
  ) {
    this.base = configRead(rig, slot, 0x10) & ~15;
    this.base >>>= 0;
    configWrite(rig, slot, 4, 7, 2);
  }

  get(offset: number, size: number): number {
    return Number(this.rig.load(this.base + offset, size));
  }

  set(offset: number, size: number, value: number | bigint): void {
    this.rig.store(this.base + offset, size, value);
  }

  get status(): number {
    return this.get(STATUS, 1);
  }

  get offered(): bigint {
    this.set(0, 4, 0);
    const low = BigInt(this.get(4, 4));
    this.set(0, 4, 1);
    return low | (BigInt(this.get(4, 4)) << 32n);
  }

  /** Resets, and accepts features. */
  negotiate(features: bigint): void {
    this.features = features;
    this.set(STATUS, 1, 0);
    this.set(STATUS, 1, 1);
    this.set(STATUS, 1, 3);
    this.set(8, 4, 0);
    this.set(12, 4, features & 0xffffffffn);
    this.set(8, 4, 1);
    this.set(12, 4, features >> 32n);
    this.set(STATUS, 1, 0x0b);
  }

  /** Sets up a queue at `at` in guest memory, its rings one page apart. */
  addQueue(index: number, size: number, at = 0x400000 + index * 0x10000, vector = 0xffff): QueueLayout {
    const layout = { size, descriptors: at, available: at + 0x2000, used: at + 0x4000 };
    this.rig.memory.fill(0, at, at + 0x8000);
    this.setQueue(index, layout, vector);
    this.queues[index] = layout;
    this.next[index] = 0;
    this.taken[index] = 0;
    return layout;
  }

  setQueue(index: number, layout: QueueLayout, vector = 0xffff): void {
    this.set(0x16, 2, index);
    this.set(0x18, 2, layout.size);
    this.set(0x1a, 2, vector);
    this.set(0x20, 8, layout.descriptors);
    this.set(0x28, 8, layout.available);
    this.set(0x30, 8, layout.used);
    this.set(0x1c, 2, 1);
  }

  start(): void {
    this.set(STATUS, 1, 0x0f);
  }

  /** All of the above for a device with one queue. */
  static start(rig: Rig, slot: number, features = VERSION_1, size = 8, vector = 0xffff): Driver {
    const driver = new Driver(rig, slot);
    driver.negotiate(features);
    driver.addQueue(0, size, undefined, vector);
    driver.start();
    return driver;
  }

  descriptor(at: number, address: number | bigint, length: number, flags: number, next = 0): void {
    this.rig.memory.writeBigUInt64LE(BigInt(address), at);
    this.rig.memory.writeUInt32LE(length >>> 0, at + 8);
    this.rig.memory.writeUInt16LE(flags, at + 12);
    this.rig.memory.writeUInt16LE(next, at + 14);
  }

  /** Writes a chain into a table, from `first` on. */
  chain(table: number, segments: Segment[], first = 0): void {
    segments.forEach((segment, n) => {
      const last = n === segments.length - 1;
      const flags = (segment.write ? WRITE : 0) | (last ? 0 : NEXT);
      this.descriptor(table + 16 * (first + n), segment.address, segment.length, flags, first + n + 1);
    });
  }

  /** Makes descriptor `head` available; no notification. */
  offer(index: number, head: number): void {
    const { size, available } = this.queues[index]!;
    const next = this.next[index]!;
    this.rig.memory.writeUInt16LE(head, available + 4 + 2 * (next % size));
    this.next[index] = (next + 1) & 0xffff;
    this.rig.memory.writeUInt16LE(this.next[index]!, available + 2);
  }

  notify(index: number): void {
    this.set(NOTIFY + 4 * index, 2, index);
  }

  /** A buffer from descriptor 0 on: offered, notified. */
  send(index: number, segments: Segment[]): void {
    this.chain(this.queues[index]!.descriptors, segments);
    this.offer(index, 0);
    this.notify(index);
  }

  usedIndex(index: number): number {
    return this.rig.memory.readUInt16LE(this.queues[index]!.used + 2);
  }

  /** The next buffer that the device has given back. */
  take(index: number): { id: number; length: number } | undefined {
    const { size, used } = this.queues[index]!;
    const taken = this.taken[index]!;
    if (this.usedIndex(index) === taken) return undefined;
    this.taken[index] = (taken + 1) & 0xffff;
    const at = used + 4 + 8 * (taken % size);
    return { id: this.rig.memory.readUInt32LE(at), length: this.rig.memory.readUInt32LE(at + 4) };
  }

  /** Switches MSI-X on; message n goes to vector 0x40 + n. */
  useMsix(vectors: number): void {
    const table = (configRead(this.rig, this.slot, 0x14) & ~15) >>> 0;
    for (let n = 0; n < vectors; n++) {
      this.rig.store(table + 16 * n, 4, 0xfee00000);
      this.rig.store(table + 16 * n + 8, 4, 0x40 + n);
      this.rig.store(table + 16 * n + 12, 4, 0);
    }
    const at = findCapability(this.rig, this.slot, 0x11);
    configWrite(this.rig, this.slot, at + 2, 0x8000, 2);
  }
}

/** Flags of a packed descriptor, and of event suppression. */
export const AVAIL = 1 << 7;
export const USED = 1 << 15;
export const EVENTS_OFF = 1;
export const EVENTS_AT = 2;

/** The same with packed rings: `available` is the driver's event suppression, `used` the device's. */
export class PackedDriver extends Driver {
  /** Where the next descriptor goes, and where the next used one is expected; both count for ever. */
  private readonly nextAt: number[] = [];
  private readonly usedAt: number[] = [];
  /** Descriptors of a buffer by its id. */
  private readonly lengths: Map<number, number>[] = [];

  override addQueue(index: number, size: number, at?: number, vector?: number): QueueLayout {
    this.nextAt[index] = 0;
    this.usedAt[index] = 0;
    this.lengths[index] = new Map();
    return super.addQueue(index, size, at, vector);
  }

  static override start(
    rig: Rig,
    slot: number,
    features = VERSION_1,
    size = 8,
    vector = 0xffff,
  ): PackedDriver {
    const driver = new PackedDriver(rig, slot);
    driver.negotiate(features | PACKED);
    driver.addQueue(0, size, undefined, vector);
    driver.start();
    return driver;
  }

  /** Where descriptor number `n` is, and the wrap counter of its lap. */
  place(index: number, n: number): { at: number; wrap: boolean } {
    const { size, descriptors } = this.queues[index]!;
    return { at: descriptors + 16 * (n % size), wrap: Math.floor(n / size) % 2 === 0 };
  }

  /** The AVAIL and USED bits of an available descriptor. */
  static available(wrap: boolean): number {
    return wrap ? AVAIL : USED;
  }

  private write(at: number, segment: Segment, id: number, flags: number): void {
    this.descriptor(at, segment.address, segment.length, id, flags);
  }

  /** Makes a buffer available, its first descriptor last; `flags` are added to each. Returns its number. */
  offerBuffer(index: number, segments: Segment[], id = 0, flags = 0): number {
    const first = this.nextAt[index]!;
    for (let n = segments.length - 1; n >= 0; n--) {
      const { at, wrap } = this.place(index, first + n);
      const next = n < segments.length - 1 ? NEXT : 0;
      const bits = PackedDriver.available(wrap) | next | (segments[n]!.write ? WRITE : 0) | flags;
      this.write(at, segments[n]!, id, bits);
    }
    this.nextAt[index] = first + segments.length;
    this.lengths[index]!.set(id, segments.length);
    return first;
  }

  /** Makes an indirect table available. */
  offerTable(index: number, table: number, segments: Segment[], id = 0): void {
    segments.forEach((segment, n) => this.write(table + 16 * n, segment, 0, segment.write ? WRITE : 0));
    this.offerBuffer(index, [{ address: table, length: 16 * segments.length }], id, INDIRECT);
  }

  override send(index: number, segments: Segment[], id = 0): void {
    this.offerBuffer(index, segments, id);
    this.notify(index);
  }

  override take(index: number): { id: number; length: number } | undefined {
    const { at, wrap } = this.place(index, this.usedAt[index]!);
    const flags = this.rig.memory.readUInt16LE(at + 14);
    if (((flags & AVAIL) !== 0) !== wrap || ((flags & USED) !== 0) !== wrap) return undefined;
    const id = this.rig.memory.readUInt16LE(at + 12);
    this.usedAt[index] = this.usedAt[index]! + this.lengths[index]!.get(id)!;
    return { id, length: this.rig.memory.readUInt32LE(at + 8) };
  }

  /** Says when the driver wants interrupts: at descriptor number `n`, or by a flag. */
  wantEvents(index: number, flags: number, n = 0): void {
    const { size, available } = this.queues[index]!;
    const wrap = Math.floor(n / size) % 2 === 0 ? 0x8000 : 0;
    this.rig.memory.writeUInt16LE((n % size) | wrap, available);
    this.rig.memory.writeUInt16LE(flags, available + 2);
  }

  /** When the device wants notifications: flags, and the descriptor's place with its wrap counter in bit 15. */
  deviceEvents(index: number): { flags: number; place: number } {
    const { used } = this.queues[index]!;
    return { place: this.rig.memory.readUInt16LE(used), flags: this.rig.memory.readUInt16LE(used + 2) };
  }
}

/** A queue that is laid out wrongly stops its device, whatever is asked of that then. */
export function refuseQueue(driver: Driver, features: bigint, change: Partial<QueueLayout>): void {
  driver.negotiate(features);
  const layout = { size: 8, descriptors: 0x400000, available: 0x402000, used: 0x404000 };
  driver.setQueue(0, { ...layout, ...change });
  driver.start();
  assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
  driver.notify(0);
  assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
}

/** Where a capability is in configuration space, 0: it is not there. */
export function findCapability(rig: Rig, slot: number, id: number, nth = 0): number {
  for (let at = configRead(rig, slot, 0x34, 1); at !== 0; at = configRead(rig, slot, at + 1, 1)) {
    if (configRead(rig, slot, at, 1) === id && nth-- === 0) return at;
  }
  return 0;
}
