// A driver for network cards, for tests, and two VMs whose cards share a cable.

import { CABLE_SIZE, type Options, Rig } from "./rig";
import { Driver, findVirtio, PACKED, PackedDriver, type Segment, VERSION_1 } from "./virtio-driver";

const NET = 1;
const rx = (pair: number): number => 2 * pair;
const tx = (pair: number): number => 2 * pair + 1;
const QUEUE = 32;
const PAIR_STEP = 0x220000; // between the buffers of two pairs
const TX_BUFFERS = 0x1000000;
const RX_BUFFERS = 0x1a00000;
const COMMAND = 0x3000000;

export const F = {
  CSUM: 1n << 0n,
  GUEST_CSUM: 1n << 1n,
  OFFLOADS: 1n << 2n,
  MTU: 1n << 3n,
  MAC: 1n << 5n,
  GUEST_TSO4: 1n << 7n,
  GUEST_TSO6: 1n << 8n,
  GUEST_ECN: 1n << 9n,
  HOST_TSO4: 1n << 11n,
  HOST_TSO6: 1n << 12n,
  HOST_ECN: 1n << 13n,
  MERGE: 1n << 15n,
  STATUS: 1n << 16n,
  CTRL: 1n << 17n,
  CTRL_RX: 1n << 18n,
  CTRL_VLAN: 1n << 19n,
  CTRL_EXTRA: 1n << 20n,
  ANNOUNCE: 1n << 21n,
  MQ: 1n << 22n,
  CTRL_MAC: 1n << 23n,
};

/** The header before a frame. */
export interface Header {
  flags?: number;
  gsoType?: number;
  headerLength?: number;
  gsoSize?: number;
  start?: number;
  offset?: number;
  buffers?: number;
}

export interface Received extends Required<Header> {
  frame: Buffer;
}

function encodeHeader(header: Header): Buffer {
  const bytes = Buffer.alloc(12);
  bytes[0] = header.flags ?? 0;
  bytes[1] = header.gsoType ?? 0;
  [header.headerLength, header.gsoSize, header.start, header.offset, header.buffers].forEach((value, n) =>
    bytes.writeUInt16LE(value ?? 0, 2 + 2 * n),
  );
  return bytes;
}

export interface CardOptions {
  features?: bigint;
  packed?: boolean;
  /** Bytes of a receive buffer, and how many are offered at the start. */
  bufferSize?: number;
  buffers?: number;
  /** Pairs of queues; MQ has to be among the features if there is more than one. */
  pairs?: number;
}

/** A VM's card with its driver running. */
export class NetCard {
  readonly driver: Driver;
  readonly bufferSize: number;
  readonly pairs: number;
  private posted: number[] = [];
  private readonly lengths: number[] = [];

  constructor(
    readonly rig: Rig,
    readonly options: CardOptions = {},
    nth = 0,
  ) {
    const slot = findVirtio(rig, NET, nth);
    this.driver = options.packed ? new PackedDriver(rig, slot) : new Driver(rig, slot);
    this.bufferSize = options.bufferSize ?? 2048;
    this.pairs = options.pairs ?? 1;
    this.start();
  }

  start(): void {
    const { driver, options } = this;
    driver.negotiate(VERSION_1 | (options.packed ? PACKED : 0n) | (options.features ?? 0n));
    for (let queue = 0; queue <= this.control; queue++) driver.addQueue(queue, QUEUE, undefined, queue + 1);
    this.posted = Array<number>(this.pairs).fill(0);
    for (let pair = 0; pair < this.pairs; pair++)
      for (let n = 0; n < (options.buffers ?? 16); n++) this.post(false, pair);
    driver.start();
  }

  /** The control queue. */
  get control(): number {
    return 2 * this.pairs;
  }

  /** Offers one more receive buffer. */
  post(notify = true, pair = 0): void {
    const slot = this.posted[pair]!++ % QUEUE;
    const address = RX_BUFFERS + pair * PAIR_STEP + slot * 0x11000;
    const segment: Segment = { address, length: this.bufferSize, write: true };
    this.offer(rx(pair), [segment], slot);
    if (notify) this.driver.notify(rx(pair));
  }

  private offer(queue: number, segments: Segment[], slot: number): void {
    const { driver } = this;
    if (driver instanceof PackedDriver) driver.offerBuffer(queue, segments, slot);
    else {
      driver.chain(driver.queues[queue]!.descriptors, segments, slot);
      driver.offer(queue, slot);
    }
  }

  /** Puts a frame into the transmit queue; `pieces` segments. */
  send(frame: Uint8Array, header: Header = {}, notify = true, pieces = 1, pair = 0): void {
    const bytes = Buffer.concat([encodeHeader(header), frame]);
    const slot = (this.lengths.length * 4) % QUEUE;
    const address = TX_BUFFERS + pair * PAIR_STEP + slot * 0x11000;
    this.rig.memory.set(bytes, address);
    this.lengths.push(bytes.length);
    const step = Math.ceil(bytes.length / pieces);
    const segments: Segment[] = [];
    for (let at = 0; at < bytes.length; at += step)
      segments.push({ address: address + at, length: Math.min(step, bytes.length - at) });
    this.offer(tx(pair), segments, slot);
    if (notify) this.driver.notify(tx(pair));
  }

  /** How many sent frames came back. */
  sent(pair = 0): number {
    let count = 0;
    while (this.driver.take(tx(pair))) count++;
    return count;
  }

  /** The frames that were received; their buffers are offered again. */
  receive(repost = true, pair = 0): Received[] {
    const frames: Received[] = [];
    for (;;) {
      const used = this.driver.take(rx(pair));
      if (!used) return frames;
      const first = this.bytesOf(used, pair);
      const pieces = [first.subarray(12)];
      const count = first.readUInt16LE(10);
      for (let n = 1; n < count; n++) pieces.push(this.bytesOf(this.driver.take(rx(pair))!, pair));
      for (let n = 0; n < count && repost; n++) this.post(true, pair);
      frames.push({
        flags: first[0]!,
        gsoType: first[1]!,
        headerLength: first.readUInt16LE(2),
        gsoSize: first.readUInt16LE(4),
        start: first.readUInt16LE(6),
        offset: first.readUInt16LE(8),
        buffers: count,
        frame: Buffer.concat(pieces),
      });
    }
  }

  private bytesOf(used: { id: number; length: number }, pair: number): Buffer {
    const at = RX_BUFFERS + pair * PAIR_STEP + used.id * 0x11000;
    return Buffer.from(this.rig.memory.subarray(at, at + used.length));
  }

  /** A command on the control queue: its answer. */
  command(kind: number, number: number, data: Uint8Array = Buffer.alloc(0)): number {
    return this.rawCommand(Buffer.from([kind, number, ...data]));
  }

  /** The same of any bytes. */
  rawCommand(bytes: Uint8Array, size = bytes.length): number {
    this.rig.memory.set(bytes, COMMAND);
    this.rig.memory[COMMAND + 0x8000] = 0x55;
    const answer = { address: COMMAND + 0x8000, length: 1, write: true };
    this.offer(this.control, size > 0 ? [{ address: COMMAND, length: size }, answer] : [answer], 0);
    this.driver.notify(this.control);
    this.driver.take(this.control);
    return this.rig.memory[COMMAND + 0x8000]!;
  }

  /** The configuration's status. */
  get status(): number {
    return this.driver.get(0x2006, 2);
  }

  /** What the device model has counted, as `show` tells it. */
  get counts(): {
    out: number;
    in: number;
    bytesOut: number;
    bytesIn: number;
    dropsOut: number;
    dropsIn: number;
  } {
    const values = this.rig.counters(1); // behind the entropy device
    const [out = 0, in_ = 0, bytesOut = 0, bytesIn = 0, dropsOut = 0, dropsIn = 0] = values.slice(6);
    return { out, in: in_, bytesOut, bytesIn, dropsOut, dropsIn };
  }
}

/** Two VMs with a card each on one cable; signals are delivered by settle(). */
export class Pair {
  readonly cable = Buffer.alloc(CABLE_SIZE);
  readonly rigs: Rig[] = [];
  private readonly pending = [false, false];

  constructor(options: Options = {}) {
    for (const side of [0, 1]) this.boot(side, options);
  }

  /** Starts (again) the VM of a side, with a new device model. */
  boot(side: number, options: Options = {}): Rig {
    const rig = new Rig({
      ...options,
      memory: 64 << 20,
      cards: [{ address: [0x0100000000a2, 0x0200000000a2][side]!, side, cable: this.cable }],
    });
    this.rigs[side] = rig;
    rig.onCable = () => (this.pending[1 - side] = true);
    this.pending[1 - side] = true;
    return rig;
  }

  /** The control domain has ended a side's device model. */
  end(side: number): void {
    this.cable.writeUInt32LE(0, side * 64);
    this.pending[side] = false;
    this.pending[1 - side] = true;
    this.rigs[side]!.onCable = () => undefined;
  }

  /** Delivers signals until there are no more. */
  settle(): void {
    for (let n = 0; n < 100; n++) {
      const side = this.pending.indexOf(true);
      if (side < 0) return;
      this.pending[side] = false;
      this.rigs[side]!.signalCable(0);
    }
    throw new Error("the two sides signal each other for ever");
  }
}
