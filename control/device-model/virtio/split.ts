// A split ring.
//
//   descriptors  16 bytes each: address u64, length u32, flags u16, next u16
//   driver       flags u16, index u16, ring u16[size], used_event u16
//   device       flags u16, index u16, {id u32, length u32}[size], avail_event u16
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
import { chain } from "./chain";
import { DESCRIPTOR_SIZE, INDIRECT, NEXT, Ring, table } from "./ring";

const NO_INTERRUPT: u32 = 1;

const usedElement: usize = memory.data(8, 8);

export class SplitRing extends Ring {
  private next: u32 = 0; // of the available ring: the first that has not been taken
  private kept: u32 = 0; // next, at the last flush
  private seen: u32 = 0; // the driver's index, as it was last read
  private filled: u32 = 0; // the index of the used ring, what is not flushed included
  private usedIndex: u32 = 0;
  private told: u32 = 0; // usedIndex when the driver was last told

  protected startOver(): void {
    this.next = 0;
    this.kept = 0;
    this.seen = 0;
    this.filled = 0;
    this.usedIndex = 0;
    this.told = 0;
  }

  protected check(): void {
    const size = <u64>this.size;
    if (popcnt(this.size) != 1 || this.size > this.maxSize) this.fail("its size is no power of two");
    else if (this.descriptors & 15 || !inMemory(this.descriptors, 16 * size))
      this.fail("its descriptors are no memory");
    else if (this.driver & 1 || !inMemory(this.driver, 6 + 2 * size))
      this.fail("its available ring is no memory");
    else if (this.device & 3 || !inMemory(this.device, 6 + 8 * size)) this.fail("its used ring is no memory");
  }

  pop(): bool {
    if (this.next == this.seen && !this.look()) return false;
    const slot = this.next & (this.size - 1);
    const head = loadGuest16(this.driver + 4 + 2 * slot);
    this.next = (this.next + 1) & 0xffff;
    if (head >= this.size) return this.fail("a buffer has no descriptor");
    chain.start(head);
    return this.collect(head);
  }

  // Reads the driver's index. Before it gives up, it asks to be notified, and looks again.
  private look(): bool {
    if (this.readIndex()) return true;
    if (!this.eventIndex || this.fault.length > 0) return false;
    writeGuest(this.device + 4 + 8 * this.size, 2, this.next);
    this.publish(); // what was asked must be visible before the index is read again
    return this.readIndex();
  }

  private readIndex(): bool {
    const index = loadGuest16(this.driver + 2);
    if (((index - this.next) & 0xffff) > this.size)
      return this.fail("more buffers than its size are available");
    this.seen = index;
    return index != this.next;
  }

  private collect(head: u32): bool {
    let index = head;
    for (let count: u32 = 0; count < this.size; count++) {
      readGuestBytes(table, this.descriptors + DESCRIPTOR_SIZE * index, DESCRIPTOR_SIZE);
      const flags = <u32>load<u16>(table, 12);
      if (flags & INDIRECT) {
        if (!this.indirect || flags & NEXT) return this.fail("a descriptor is indirect and must not be");
        return this.collectIndirect();
      }
      if (!this.addSegment(table, flags)) return false;
      if (!(flags & NEXT)) return this.checkTotal();
      index = load<u16>(table, 14);
      if (index >= this.size) return this.fail("a chain leaves the table");
    }
    return this.fail("a chain is longer than the queue");
  }

  // The table may be a whole buffer, but its chain no longer than the queue.
  private collectIndirect(): bool {
    const reach = this.readIndirect();
    let index: u32 = 0;
    for (let count: u32 = 0; count < this.size && index < reach; count++) {
      const at = table + index * DESCRIPTOR_SIZE;
      const flags = <u32>load<u16>(at, 12);
      if (flags & INDIRECT) return this.fail("an indirect descriptor is in an indirect table");
      if (!this.addSegment(at, flags)) return false;
      if (!(flags & NEXT)) return this.checkTotal();
      index = load<u16>(at, 14);
      if (index >= reach) return this.fail("a chain leaves its indirect table");
    }
    return reach == 0 ? false : this.fail("a chain is longer than the queue");
  }

  fill(): void {
    store<u32>(usedElement, chain.head);
    store<u32>(usedElement, chain.written, 4);
    writeGuestBytes(this.device + 4 + 8 * (this.filled & (this.size - 1)), usedElement, 8);
    this.filled = (this.filled + 1) & 0xffff;
  }

  flush(): void {
    this.kept = this.next;
    this.usedIndex = this.filled;
    this.publish();
  }

  rewind(): void {
    this.next = this.kept;
    this.filled = this.usedIndex;
  }

  private publish(): void {
    storeGuest32(this.device, this.usedIndex << 16); // flags are 0
  }

  wantsInterrupt(): bool {
    const from = this.told;
    const to = this.usedIndex;
    if (from == to) return false;
    this.told = to;
    if (!this.eventIndex) return !(loadGuest16(this.driver) & NO_INTERRUPT);
    const event = loadGuest16(this.driver + 4 + 2 * this.size);
    return ((to - event - 1) & 0xffff) < ((to - from) & 0xffff);
  }
}
