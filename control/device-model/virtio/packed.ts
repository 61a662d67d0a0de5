// A packed ring: descriptors that driver and device overwrite in turn.
//
//   descriptors  16 bytes each: address u64, length u32, id u16, flags u16
//   driver       event suppression: position u15 and wrap u1, flags u16       the driver writes it
//   device       the same, for the driver's notifications                     the device writes it
//
// A descriptor is available when its AVAIL bit is the driver's wrap counter and its USED bit is not; it is
// used when both are the device's. Both counters begin at 1 and change at the ring's end.
//
// Source: virtio 1.2, section 2.8, "Packed Virtqueues".

import { inMemory, loadGuest32, readGuestBytes, storeGuest32, writeGuest } from "../guest-memory";
import { chain, MAX_SEGMENTS } from "./chain";
import { DESCRIPTOR_SIZE, INDIRECT, NEXT, Ring, table, WRITE } from "./ring";

const AVAIL: u32 = 1 << 7;
const USED: u32 = 1 << 15;

// Flags of an event suppression structure.
const EVENTS_OFF: u32 = 1;
const EVENTS_AT: u32 = 2;
const WRAP: u32 = 1 << 15;

// Buffers that are filled but not flushed, of the one ring that is at work: id and descriptors << 16, length.
const heads = new StaticArray<u32>(<i32>MAX_SEGMENTS);
const written = new StaticArray<u32>(<i32>MAX_SEGMENTS);
let pending = 0;

export class PackedRing extends Ring {
  // Positions have the wrap counter in bit 15, as the event suppression structures have.
  private next: u32 = WRAP;
  private kept: u32 = WRAP; // next, at the last flush
  private used: u32 = WRAP; // where the next used descriptor goes
  private slots: u32 = 0; // descriptors that the buffer in `chain` takes in the ring
  private pendingSlots: u32 = 0; // and those that are filled but not flushed
  private since: u32 = 0; // descriptors given back since the driver was last told

  protected startOver(): void {
    this.next = WRAP;
    this.kept = WRAP;
    this.used = WRAP;
    this.since = 0;
    this.forget();
  }

  protected check(): void {
    if (this.size == 0 || this.size > this.maxSize) this.fail("its size is not what was offered");
    else if (this.descriptors & 15 || !inMemory(this.descriptors, 16 * <u64>this.size))
      this.fail("its descriptors are no memory");
    else if (this.driver & 3 || !inMemory(this.driver, 4))
      this.fail("its driver event suppression is no memory");
    else if (this.device & 3 || !inMemory(this.device, 4))
      this.fail("its device event suppression is no memory");
  }

  private advance(position: u32, count: u32): u32 {
    const to = (position & ~WRAP) + count;
    return to < this.size ? (position & WRAP) | to : ((position & WRAP) ^ WRAP) | (to - this.size);
  }

  private address(position: u32): u64 {
    return this.descriptors + DESCRIPTOR_SIZE * <u64>(position & ~WRAP);
  }

  // Copies the descriptor at a position to `table` if it is available. Id and flags are read first, at once.
  private read(position: u32): bool {
    const at = this.address(position);
    const word = <u32>loadGuest32(at + 12);
    const flags = word >> 16;
    const wrap = (position & WRAP) != 0;
    if (((flags & AVAIL) != 0) != wrap || ((flags & USED) != 0) == wrap) return false;
    readGuestBytes(table, at, 12);
    store<u32>(table, word, 12);
    return true;
  }

  pop(): bool {
    if (!this.read(this.next) && !this.look()) return false;
    chain.start(0);
    return this.collect();
  }

  // Before it gives up, it asks to be notified, and looks again.
  private look(): bool {
    if (!this.eventIndex) return false;
    storeGuest32(this.device, this.next | (EVENTS_AT << 16));
    return this.read(this.next);
  }

  private collect(): bool {
    let position = this.next;
    for (let count: u32 = 1; count <= this.size; count++) {
      const flags = <u32>load<u16>(table, 14);
      chain.head = load<u16>(table, 12);
      position = this.advance(position, 1);
      if (flags & INDIRECT) {
        if (!this.indirect || flags & NEXT || count > 1)
          return this.fail("a descriptor is indirect and must not be");
        if (!this.collectIndirect()) return false;
      } else if (!this.addSegment(table, flags)) return false;
      if (!(flags & NEXT)) {
        this.next = position;
        this.slots = count;
        return this.checkTotal();
      }
      if (!this.read(position)) return this.fail("a chain goes on with a descriptor that is not available");
    }
    return this.fail("a chain is longer than the queue");
  }

  // Its descriptors follow each other; of their flags only WRITE means anything.
  private collectIndirect(): bool {
    const entries = load<u32>(table, 8) / DESCRIPTOR_SIZE;
    const reach = this.readIndirect();
    if (reach == 0) return false;
    if (entries > reach) return this.fail("an indirect table is longer than any buffer may be");
    for (let n: u32 = 0; n < reach; n++) {
      const at = table + n * DESCRIPTOR_SIZE;
      const flags = <u32>load<u16>(at, 14);
      if (flags & INDIRECT) return this.fail("an indirect descriptor is in an indirect table");
      if (!this.addSegment(at, flags)) return false;
    }
    return true;
  }

  fill(): void {
    if (this.pendingSlots + this.slots > this.size || pending == <i32>MAX_SEGMENTS) {
      this.fail("more buffers than its size are available");
      return;
    }
    heads[pending] = chain.head | (this.slots << 16);
    written[pending++] = chain.written;
    this.pendingSlots += this.slots;
  }

  // The first one's flags are written last: behind them the driver does not look.
  flush(): void {
    this.kept = this.next;
    const first = this.used;
    for (let n = 0; n < pending; n++) {
      writeGuest(this.address(this.used) + 8, 4, written[n]);
      if (n > 0) storeGuest32(this.address(this.used) + 12, this.usedWord(n, this.used));
      this.used = this.advance(this.used, heads[n] >> 16);
    }
    if (pending > 0) storeGuest32(this.address(first) + 12, this.usedWord(0, first));
    this.since += this.pendingSlots;
    this.forget();
  }

  private usedWord(n: i32, position: u32): u32 {
    const flags = (position & WRAP ? AVAIL | USED : 0) | (written[n] > 0 ? WRITE : 0);
    return (heads[n] & 0xffff) | (flags << 16);
  }

  private forget(): void {
    pending = 0;
    this.pendingSlots = 0;
  }

  rewind(): void {
    this.next = this.kept;
    this.forget();
  }

  wantsInterrupt(): bool {
    const since = this.since;
    if (since == 0) return false;
    this.since = 0;
    const word = <u32>loadGuest32(this.driver);
    const flags = (word >> 16) & 3;
    if (flags == EVENTS_OFF) return false;
    if (flags != EVENTS_AT || !this.eventIndex) return true;
    // Where the event is, counted from the beginning of the lap in which the device is.
    const here = <i32>(this.used & ~WRAP);
    const lap = (word ^ this.used) & WRAP ? <i32>this.size : 0;
    const event = <i32>(word & 0x7fff) - lap;
    return event < here && event >= here - <i32>since;
  }
}
