// A split virtqueue, as the device sees it. Everything in guest memory is read once and checked.
//
//   descriptors  16 bytes each: address u64, length u32, flags u16, next u16
//   available    flags u16, index u16, ring u16[size], used_event u16        the driver writes it
//   used         flags u16, index u16, {id u32, length u32}[size], avail_event u16    the device writes it
//
// Source: virtio 1.2, section 2.7, "Split Virtqueues".

import {
  inMemory,
  loadGuest16,
  readGuestBytes,
  storeGuest32,
  writeGuest,
  writeGuestBytes,
} from "../guest-memory";
import { chain, MAX_SEGMENTS } from "./chain";

export const NO_VECTOR: u32 = 0xffff;

const DESCRIPTOR_SIZE: u32 = 16;
const NEXT: u32 = 1;
const WRITE: u32 = 2;
const INDIRECT: u32 = 4;
const NO_INTERRUPT: u32 = 1;
/** A buffer may have at most this many bytes. */
const BUFFER_MAX: u64 = 0x100000000;

// A table of descriptors, copied once: one of the ring, or a whole indirect table.
const table: usize = memory.data(4096, 16);
const usedElement: usize = memory.data(8, 8);

export class Virtqueue {
  size: u32;
  enabled: bool = false;
  vector: u32 = NO_VECTOR;
  descriptors: u64 = 0;
  available: u64 = 0;
  used: u64 = 0;
  /** What is wrong with the rings; the device stops until it is reset. */
  fault: string = "";

  private eventIndex: bool = false;
  private indirect: bool = false;
  private next: u32 = 0; // of the available ring: the first that has not been taken
  private seen: u32 = 0; // the driver's index, as it was last read
  private usedIndex: u32 = 0;
  private told: u32 = 0; // usedIndex when the driver was last told

  constructor(readonly maxSize: u32) {
    assert(maxSize <= MAX_SEGMENTS && popcnt(maxSize) == 1, "virtqueue: a bad size");
    this.size = maxSize;
  }

  reset(): void {
    this.size = this.maxSize;
    this.enabled = false;
    this.vector = NO_VECTOR;
    this.descriptors = 0;
    this.available = 0;
    this.used = 0;
    this.fault = "";
    this.next = 0;
    this.seen = 0;
    this.usedIndex = 0;
    this.told = 0;
  }

  /** What the driver and the device have agreed on. */
  negotiate(eventIndex: bool, indirect: bool): void {
    this.eventIndex = eventIndex;
    this.indirect = indirect;
  }

  /** The driver has enabled it: are its addresses what they must be? */
  enable(): void {
    this.enabled = true;
    const size = <u64>this.size;
    if (popcnt(this.size) != 1 || this.size > this.maxSize) this.fail("its size is no power of two");
    else if (this.descriptors & 15 || !inMemory(this.descriptors, 16 * size))
      this.fail("its descriptors are no memory");
    else if (this.available & 1 || !inMemory(this.available, 6 + 2 * size))
      this.fail("its available ring is no memory");
    else if (this.used & 3 || !inMemory(this.used, 6 + 8 * size)) this.fail("its used ring is no memory");
  }

  private fail(text: string): bool {
    this.fault = text;
    return false;
  }

  /** Takes the next buffer into `chain`. False: there is none, or `fault` says what is wrong. */
  pop(): bool {
    if (!this.enabled || this.fault.length > 0) return false;
    if (this.next == this.seen && !this.look()) return false;
    const slot = this.next & (this.size - 1);
    const head = loadGuest16(this.available + 4 + 2 * slot);
    this.next = (this.next + 1) & 0xffff;
    if (head >= this.size) return this.fail("a buffer has no descriptor");
    chain.start(head);
    return this.collect(head);
  }

  // Reads the driver's index. Before it gives up, it asks to be notified, and looks again.
  private look(): bool {
    if (this.readIndex()) return true;
    if (!this.eventIndex || this.fault.length > 0) return false;
    writeGuest(this.used + 4 + 8 * this.size, 2, this.next);
    this.publish(); // what was asked must be visible before the index is read again
    return this.readIndex();
  }

  private readIndex(): bool {
    const index = loadGuest16(this.available + 2);
    if (((index - this.next) & 0xffff) > this.size)
      return this.fail("more buffers than its size are available");
    this.seen = index;
    return index != this.next;
  }

  private collect(head: u32): bool {
    let index = head;
    for (let count: u32 = 0; count < this.size; count++) {
      readGuestBytes(table, this.descriptors + DESCRIPTOR_SIZE * index, DESCRIPTOR_SIZE);
      const flags = load<u16>(table, 12);
      if (flags & INDIRECT) {
        if (!this.indirect || flags & NEXT) return this.fail("a descriptor is indirect and must not be");
        return this.collectIndirect(load<u64>(table), load<u32>(table, 8));
      }
      if (!this.addSegment(table)) return false;
      if (!(flags & NEXT)) return this.checkTotal();
      index = load<u16>(table, 14);
      if (index >= this.size) return this.fail("a chain leaves the table");
    }
    return this.fail("a chain is longer than the queue");
  }

  // The table may be a whole buffer, but no longer than the queue.
  private collectIndirect(address: u64, length: u32): bool {
    const entries = length / DESCRIPTOR_SIZE;
    if (length == 0 || length % DESCRIPTOR_SIZE != 0) return this.fail("an indirect table has a bad length");
    // A longer table is allowed, if its chain is not: what lies behind the queue's size is out of reach then.
    const reach = min<u32>(entries, MAX_SEGMENTS);
    if (!inMemory(address, length)) return this.fail("an indirect table is no memory");
    readGuestBytes(table, address, reach * DESCRIPTOR_SIZE);
    let index: u32 = 0;
    for (let count: u32 = 0; count < this.size; count++) {
      const at = table + index * DESCRIPTOR_SIZE;
      const flags = load<u16>(at, 12);
      if (flags & INDIRECT) return this.fail("an indirect descriptor is in an indirect table");
      if (!this.addSegment(at)) return false;
      if (!(flags & NEXT)) return this.checkTotal();
      index = load<u16>(at, 14);
      if (index >= reach) return this.fail("a chain leaves its indirect table");
    }
    return this.fail("a chain is longer than the queue");
  }

  private addSegment(at: usize): bool {
    const address = load<u64>(at);
    const length = load<u32>(at, 8);
    if (!inMemory(address, length)) return this.fail("a buffer is no memory");
    if (chain.add(address, length, (load<u16>(at, 12) & WRITE) != 0)) return true;
    return this.fail("a buffer is to be read after one to be written");
  }

  private checkTotal(): bool {
    if (chain.readable + chain.writable <= BUFFER_MAX) return true;
    return this.fail("a buffer is longer than 4 GiB");
  }

  /** Gives the buffer in `chain` back, with what was written to it. Then interrupt, if it says so. */
  push(): void {
    store<u32>(usedElement, chain.head);
    store<u32>(usedElement, chain.written, 4);
    writeGuestBytes(this.used + 4 + 8 * (this.usedIndex & (this.size - 1)), usedElement, 8);
    this.usedIndex = (this.usedIndex + 1) & 0xffff;
    this.publish();
  }

  private publish(): void {
    storeGuest32(this.used, this.usedIndex << 16); // flags are 0
  }

  /** Whether the driver wants an interrupt for what was given back since the last one. */
  wantsInterrupt(): bool {
    const from = this.told;
    const to = this.usedIndex;
    if (from == to) return false;
    this.told = to;
    if (!this.eventIndex) return !(loadGuest16(this.available) & NO_INTERRUPT);
    const event = loadGuest16(this.available + 4 + 2 * this.size);
    return ((to - event - 1) & 0xffff) < ((to - from) & 0xffff);
  }
}
