// What split and packed rings have in common, as the device sees them: a buffer is collected into `chain`,
// every descriptor is copied once and then checked, and what a driver must not do is a `fault`.
//
// Source: virtio 1.2, sections 2.6 to 2.8.

import { inMemory, readGuestBytes } from "../guest-memory";
import { chain, MAX_SEGMENTS } from "./chain";

export const DESCRIPTOR_SIZE: u32 = 16;

/** Flags of a descriptor. */
export const NEXT: u32 = 1;
export const WRITE: u32 = 2;
export const INDIRECT: u32 = 4;

/** A buffer may have at most this many bytes. */
const BUFFER_MAX: u64 = 0x100000000;

/** Descriptors, copied once: one of the ring, or a whole indirect table. */
export const table: usize = memory.data(4096, 16);

export abstract class Ring {
  /** What is wrong; nothing is taken any more until a reset. */
  fault: string = "";

  protected size: u32 = 0;
  protected descriptors: u64 = 0;
  protected driver: u64 = 0; // where the driver writes: available ring, or its event suppression
  protected device: u64 = 0; // where the device writes: used ring, or its event suppression
  protected eventIndex: bool = false;
  protected indirect: bool = false;

  constructor(protected readonly maxSize: u32) {}

  /** What the driver and the device have agreed on. */
  negotiate(eventIndex: bool, indirect: bool): void {
    this.eventIndex = eventIndex;
    this.indirect = indirect;
  }

  /** The driver has enabled the queue. What it gave may be wrong: `fault` says why. */
  start(size: u32, descriptors: u64, driver: u64, device: u64): void {
    this.size = size;
    this.descriptors = descriptors;
    this.driver = driver;
    this.device = device;
    this.fault = "";
    this.startOver();
    this.check();
  }

  /** Are size and addresses what they must be? */
  protected abstract check(): void;

  /** The ring is new: neither side has done anything. */
  protected abstract startOver(): void;

  /** Takes the next buffer into `chain`. False: there is none, or `fault`. */
  abstract pop(): bool;

  /** Notes the buffer in `chain` as used; the driver sees it after flush(). */
  abstract fill(): void;

  /** Gives all that was filled to the driver, at once. */
  abstract flush(): void;

  /** What was taken since the last flush() becomes available again. */
  abstract rewind(): void;

  /** Whether the driver wants an interrupt for what was flushed since this was last asked. */
  abstract wantsInterrupt(): bool;

  /** The driver has done what it must not. */
  fail(text: string): bool {
    this.fault = text;
    this.rewind();
    return false;
  }

  /** The descriptor at `at`, in linear memory, is a segment. */
  protected addSegment(at: usize, flags: u32): bool {
    const address = load<u64>(at);
    const length = load<u32>(at, 8);
    if (!inMemory(address, length)) return this.fail("a buffer is no memory");
    if (chain.add(address, length, (flags & WRITE) != 0)) return true;
    return this.fail("a buffer is to be read after one to be written, or has too many parts");
  }

  /** The descriptor in `table` names an indirect table: copies it, and returns its descriptors, 0: fault. */
  protected readIndirect(): u32 {
    const address = load<u64>(table);
    const length = load<u32>(table, 8);
    if (length == 0 || length % DESCRIPTOR_SIZE != 0) this.fail("an indirect table has a bad length");
    else if (!inMemory(address, length)) this.fail("an indirect table is no memory");
    else {
      // A longer table is allowed, if its chain is not: what lies behind is out of reach then.
      const reach = min<u32>(length / DESCRIPTOR_SIZE, MAX_SEGMENTS);
      readGuestBytes(table, address, reach * DESCRIPTOR_SIZE);
      return reach;
    }
    return 0;
  }

  protected checkTotal(): bool {
    if (chain.readable + chain.writable <= BUFFER_MAX) return true;
    return this.fail("a buffer is longer than 4 GiB");
  }
}
