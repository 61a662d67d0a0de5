// A virtqueue as the transport and the devices see it; how its ring is laid out the driver has chosen.
//
// A device takes buffers with pop(), which fills `chain`, and gives each back with push() before it takes
// the next; fill() and flush() give several back at once, rewind() none. What one call of a device may do
// is limited: pop() ends, `unfinished` is set, and the transport lets the device go on later.

import { Count } from "../../lib/link";
import { Counters } from "../counters";
import { chain, MAX_SEGMENTS } from "./chain";
import { PackedRing } from "./packed";
import { Ring } from "./ring";
import { SplitRing } from "./split";

export const NO_VECTOR: u32 = 0xffff;

/** What a device may do before others get their turn: a buffer is 1, and each 4 KiB in it are 1. */
const WORK: i64 = 512;
let work: i64 = 0;

/** A device is about to be called. */
export function allowWork(): void {
  work = WORK;
}

export class Virtqueue {
  size: u32;
  enabled: bool = false;
  vector: u32 = NO_VECTOR;
  descriptors: u64 = 0;
  available: u64 = 0;
  used: u64 = 0;
  /** There may be more to take, but this device's turn is over. */
  unfinished: bool = false;

  private readonly split: Ring;
  private readonly packed: Ring;
  private ring: Ring;

  constructor(
    readonly maxSize: u32,
    private readonly counters: Counters,
  ) {
    assert(maxSize <= MAX_SEGMENTS && popcnt(maxSize) == 1, "virtqueue: a bad size");
    this.size = maxSize;
    const split = new SplitRing(maxSize);
    this.split = split;
    this.packed = new PackedRing(maxSize);
    this.ring = split;
  }

  /** What is wrong with the rings, or what the device does not accept; it stops until it is reset. */
  get fault(): string {
    return this.ring.fault;
  }

  set fault(text: string) {
    this.ring.fail(text);
  }

  reset(): void {
    this.size = this.maxSize;
    this.enabled = false;
    this.vector = NO_VECTOR;
    this.descriptors = 0;
    this.available = 0;
    this.used = 0;
    this.unfinished = false;
    this.ring.fault = "";
  }

  /** What the driver and the device have agreed on. */
  negotiate(packed: bool, eventIndex: bool, indirect: bool): void {
    this.ring = packed ? this.packed : this.split;
    this.ring.fault = "";
    this.ring.negotiate(eventIndex, indirect);
  }

  /** The driver has enabled it: `fault`, if size or addresses are not what they must be. */
  enable(): void {
    this.enabled = true;
    this.ring.start(this.size, this.descriptors, this.available, this.used);
  }

  /** Whether this device's turn goes on; if not, it comes again. */
  hasTurn(): bool {
    if (work <= 0) this.unfinished = true;
    return work > 0;
  }

  /** The device has done something that took no buffer. */
  spend(): void {
    work--;
  }

  /** Takes the next buffer into `chain`. False: there is none for now, or `fault`. */
  pop(): bool {
    if (!this.enabled || this.ring.fault.length > 0) return false;
    return this.hasTurn() && this.ring.pop();
  }

  /** Gives the buffer in `chain` back, with what was written to it. */
  push(): void {
    this.fill();
    this.ring.flush();
  }

  /** Notes the buffer in `chain` as used; the driver sees it after flush(). */
  fill(): void {
    work -= 1 + (chain.moved >> 12);
    this.counters.add(Count.REQUESTS, 1);
    this.counters.add(Count.BYTES_OUT, chain.moved - chain.written);
    this.counters.add(Count.BYTES_IN, chain.written);
    this.ring.fill();
  }

  /** Gives all that was filled back. */
  flush(): void {
    this.ring.flush();
  }

  /** What was taken and not given back is available again. */
  rewind(): void {
    this.ring.rewind();
  }

  /** Whether the driver wants an interrupt for what was given back since the last one. */
  wantsInterrupt(): bool {
    return this.ring.wantsInterrupt();
  }
}
