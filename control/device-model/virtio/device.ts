// What every virtio device has: features, queues, and a configuration of its own.

import { Counters } from "../counters";
import { Virtqueue } from "./queue";

/** Features that belong to the transport and the queues. */
export const FEATURE_INDIRECT: u64 = 1 << 28;
export const FEATURE_EVENT_INDEX: u64 = 1 << 29;
export const FEATURE_VERSION_1: u64 = 1 << 32;
export const FEATURE_PACKED: u64 = 1 << 34;
export const FEATURE_QUEUE_RESET: u64 = 1 << 40;

/** How a device reaches its driver. */
export abstract class Transport {
  /** Buffers have been given back: an interrupt, if the driver wants one. */
  abstract used(queue: u32): void;
  /** The configuration has changed. */
  abstract configChanged(): void;
  /** The driver has done what it must not: nothing goes on until it resets the device. */
  abstract needsReset(reason: string): void;
  /** There is something for a queue to do that the driver has not asked for. */
  abstract kick(queue: u32): void;
  /** Whether the driver is ready and lets the device work. */
  abstract get isLive(): bool;
}

export abstract class VirtioDevice {
  readonly queues: StaticArray<Virtqueue>;
  /** The device's own configuration, as the driver reads it. */
  readonly config: StaticArray<u8>;
  /** What the driver has accepted. */
  features: u64 = 0;
  transport: Transport | null = null;
  /** What `show` tells of it. */
  readonly counters: Counters;

  constructor(
    readonly name: string,
    readonly id: u32,
    readonly classCode: u32,
    readonly offered: u64,
    queueCount: u32,
    queueSize: u32,
    configSize: u32,
  ) {
    const queues = new StaticArray<Virtqueue>(<i32>queueCount);
    const counters = new Counters(id);
    this.counters = counters;
    for (let i: u32 = 0; i < queueCount; i++) queues[i] = new Virtqueue(queueSize, counters);
    this.queues = queues;
    this.config = new StaticArray<u8>(<i32>configSize);
  }

  /** Sets a little-endian field of the configuration. */
  setConfig(offset: u32, size: u32, value: u64): void {
    for (let i: u32 = 0; i < size; i++) this.config[offset + i] = <u8>(value >> (8 * i));
  }

  /** The driver writes a byte of the configuration. */
  writeConfig(_offset: u32, _value: u32): void {}

  /** The driver is ready; the queues are processed next. */
  ready(): void {}

  /** The driver has done what it must not. */
  stopped(): void {}

  /** Back to the state after power-on; the queues have been reset already. */
  reset(): void {}

  /** The driver has put buffers into a queue, or is ready. Takes all that it can use. */
  abstract process(queue: u32): void;

  /** After a device has taken buffers: interrupts, or the end of its work. */
  protected finish(index: u32): void {
    const queue = this.queues[index];
    this.transport!.used(index);
    if (queue.fault.length > 0) this.transport!.needsReset(queue.fault);
  }
}
