// Byte rings in memory shared with another domain, which is taken to be hostile.
//
//   header:  +0 u32 head: bytes ever written, modulo 2^32    +4 u32 tail: bytes ever read
//   data:    `size` bytes (a power of two); the byte at position p is at data + p % size
//
// A ring has one writer and one reader. What is the peer's is loaded once per call and checked; what
// is our own is kept here and only published. Nobody is signalled: see Link.signal().

import { sharedLoad32, sharedRead, sharedStore32, sharedWrite } from "./binding";

const TAIL: u64 = 4;

/** A writer of a looping ring publishes at least this often, and a reader keeps this distance. */
const LOOP_MARGIN: u32 = 1024;

const lengthBytes: usize = memory.data(2, 2);

/** Copies `length` bytes, at most `size`, to position `position` of a ring. */
function put(data: u64, size: u32, position: u32, from: usize, length: u32): void {
  const offset = position & (size - 1);
  const first = min(length, size - offset);
  sharedWrite(data + offset, from, first);
  if (first < length) sharedWrite(data, from + first, length - first);
}

/** Copies `length` bytes, at most `size`, from position `position` of a ring. */
function take(data: u64, size: u32, position: u32, to: usize, length: u32): void {
  const offset = position & (size - 1);
  const first = min(length, size - offset);
  sharedRead(to, data + offset, first);
  if (first < length) sharedRead(to + first, data, length - first);
}

/** The writing end of a ring that waits for its reader. */
export class RingWriter {
  private head: u32;

  constructor(
    private readonly header: u64,
    private readonly data: u64,
    private readonly size: u32,
  ) {
    this.head = sharedLoad32(header);
  }

  /** Bytes that can be written now. A tail that cannot be true counts as a full ring. */
  get room(): u32 {
    const used = this.head - sharedLoad32(this.header + TAIL);
    return used > this.size ? 0 : this.size - used;
  }

  /** Where the next byte goes. */
  get position(): u32 {
    return this.head;
  }

  /** Writes what fits; returns how much that was. */
  write(from: usize, length: u32): u32 {
    const piece = min(length, this.room);
    if (piece == 0) return 0;
    put(this.data, this.size, this.head, from, piece);
    this.publish(piece);
    return piece;
  }

  /** Writes a message of 1..65535 bytes with its length, or nothing if it does not fit. */
  send(from: usize, length: u32): bool {
    if (length == 0 || length > 0xffff || this.room < length + 2) return false;
    store<u16>(lengthBytes, <u16>length);
    put(this.data, this.size, this.head, lengthBytes, 2);
    put(this.data, this.size, this.head + 2, from, length);
    this.publish(length + 2);
    return true;
  }

  private publish(length: u32): void {
    this.head += length;
    sharedStore32(this.header, this.head);
  }
}

/** The reading end of a ring. */
export class RingReader {
  private tail: u32;

  constructor(
    private readonly header: u64,
    private readonly data: u64,
    private readonly size: u32,
  ) {
    this.tail = sharedLoad32(header + TAIL);
  }

  /** Bytes that can be read now. A head that cannot be true empties the ring. */
  get available(): u32 {
    const head = sharedLoad32(this.header);
    const available = head - this.tail;
    if (available <= this.size) return available;
    this.publish(head);
    return 0;
  }

  /** Where the next byte is read. */
  get position(): u32 {
    return this.tail;
  }

  /** Reads up to `limit` bytes; returns how many. */
  read(to: usize, limit: u32): u32 {
    const piece = this.peek(to, limit);
    if (piece > 0) this.publish(this.tail + piece);
    return piece;
  }

  /** The same, and they stay in the ring. */
  peek(to: usize, limit: u32): u32 {
    const piece = min(limit, this.available);
    if (piece > 0) take(this.data, this.size, this.tail, to, piece);
    return piece;
  }

  /** Drops what is before `position`. False: that is not in the ring. */
  skipTo(position: u32): bool {
    if (position - this.tail > this.available) return false;
    this.publish(position);
    return true;
  }

  /**
   * Reads a message: its length, 0: there is none, -1: the peer has written nonsense or more than
   * `limit`, and all that was in the ring is dropped.
   */
  receive(to: usize, limit: u32): i32 {
    const available = this.available;
    if (available == 0) return 0;
    let length: u32 = 0;
    if (available >= 2) {
      take(this.data, this.size, this.tail, lengthBytes, 2);
      length = load<u16>(lengthBytes);
    }
    if (length == 0 || length + 2 > available || length > limit) {
      this.publish(this.tail + available);
      return -1;
    }
    take(this.data, this.size, this.tail + 2, to, length);
    this.publish(this.tail + 2 + length);
    return <i32>length;
  }

  private publish(tail: u32): void {
    this.tail = tail;
    sharedStore32(this.header + TAIL, tail);
  }
}

/** The writing end of a ring that never waits: new bytes overwrite the oldest. */
export class LoopWriter {
  private head: u32;

  constructor(
    private readonly header: u64,
    private readonly data: u64,
    private readonly size: u32,
  ) {
    this.head = sharedLoad32(header);
  }

  write(from: usize, length: u32): void {
    while (length > 0) {
      const piece = min(length, LOOP_MARGIN);
      put(this.data, this.size, this.head, from, piece);
      this.head += piece;
      sharedStore32(this.header, this.head);
      from += piece;
      length -= piece;
    }
  }
}

/**
 * The reading end of a ring whose writer never waits. It keeps no cursor: callers hold positions,
 * 64-bit counts of bytes that start at the ring's head when the reader is made (so that positions are
 * not small numbers only because this component is new).
 */
export class LoopReader {
  private end: u64;

  constructor(
    private readonly header: u64,
    private readonly data: u64,
    private readonly size: u32,
  ) {
    this.end = sharedLoad32(header);
  }

  /** The position behind the newest byte. Call it at least once per 2 GiB written. */
  get head(): u64 {
    this.end += sharedLoad32(this.header) - <u32>this.end;
    return this.end;
  }

  /** The position of the oldest byte that can be read. */
  get oldest(): u64 {
    const head = this.head;
    const kept = <u64>(this.size - LOOP_MARGIN);
    return head > kept ? head - kept : 0;
  }

  /**
   * Reads up to `limit` bytes at `position`, which must not be before `oldest`: clamp it first. Returns
   * how many; 0 also if the writer has overwritten them meanwhile.
   */
  read(position: u64, to: usize, limit: u32): u32 {
    const head = this.head;
    if (position >= head || head - position > <u64>(this.size - LOOP_MARGIN)) return 0;
    const piece = min(limit, <u32>(head - position));
    take(this.data, this.size, <u32>position, to, piece);
    return this.head - position > <u64>this.size ? 0 : piece;
  }
}
