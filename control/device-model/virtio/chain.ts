// One buffer of a virtqueue: the guest's segments that the device may read, then those it may write.
//
// There is one chain at a time, in static memory: devices finish a buffer before they take the next. Both
// parts are used in order, like a stream; what a segment may not hold was refused when it was collected.

import { copyFromGuest, copyToGuest, readGuestBytes, writeGuestBytes } from "../guest-memory";

export const MAX_SEGMENTS: u32 = 256;

const addresses = new StaticArray<u64>(<i32>MAX_SEGMENTS);
const lengths = new StaticArray<u32>(<i32>MAX_SEGMENTS);

class Chain {
  /** The first descriptor, by which the driver knows the buffer. */
  head: u32 = 0;
  /** Bytes that the device may read, and may write, that have not been taken yet. */
  readable: u64 = 0;
  writable: u64 = 0;
  /** Bytes that the device has written. */
  written: u32 = 0;
  /** Bytes that were copied, either way. */
  moved: i64 = 0;

  private count: u32 = 0;
  private readers: u32 = 0; // segments before this one are to be read
  private reader: u32 = 0;
  private readerAt: u32 = 0;
  private writer: u32 = 0;
  private writerAt: u32 = 0;

  start(head: u32): void {
    this.head = head;
    this.readable = 0;
    this.writable = 0;
    this.written = 0;
    this.moved = 0;
    this.count = 0;
    this.readers = 0;
    this.reader = 0;
    this.readerAt = 0;
    this.writerAt = 0;
  }

  /** Appends a segment. False: too many, or one to be read behind one to be written. */
  add(address: u64, length: u32, writable: bool): bool {
    if (this.count == MAX_SEGMENTS || (!writable && this.readers != this.count)) return false;
    addresses[this.count] = address;
    lengths[this.count] = length;
    this.count++;
    if (writable) {
      this.writable += length;
    } else {
      this.readers = this.count;
      this.readable += length;
    }
    this.writer = this.readers;
    return true;
  }

  /** Takes the next bytes to be read to linear memory. False: there are fewer. */
  take(to: usize, length: u32): bool {
    if (length > this.readable) return false;
    while (length > 0) {
      const piece = this.nextReadable(length);
      readGuestBytes(to, this.pieceAt, piece);
      to += piece;
      length -= piece;
    }
    return true;
  }

  /** Takes the next bytes to be read to another mapping of this component. */
  takeTo(to: u64, length: u64): bool {
    if (length > this.readable) return false;
    while (length > 0) {
      const piece = this.nextReadable(length);
      copyFromGuest(to, this.pieceAt, piece);
      to += piece;
      length -= piece;
    }
    return true;
  }

  /** Writes bytes of linear memory. False: they do not fit. */
  put(from: usize, length: u32): bool {
    if (length > this.writable) return false;
    while (length > 0) {
      const piece = this.nextWritable(length);
      writeGuestBytes(this.pieceAt, from, piece);
      from += piece;
      length -= piece;
    }
    return true;
  }

  /** Writes bytes of another mapping of this component. */
  putFrom(from: u64, length: u64): bool {
    if (length > this.writable) return false;
    while (length > 0) {
      const piece = this.nextWritable(length);
      copyToGuest(this.pieceAt, from, piece);
      from += piece;
      length -= piece;
    }
    return true;
  }

  /** Leaves bytes that could be written as they are. */
  skip(length: u64): void {
    while (length > 0) length -= this.nextWritable(length);
  }

  /** Leaves bytes that could be read. */
  leave(length: u64): void {
    while (length > 0) length -= this.nextReadable(length);
  }

  /** Leaves what is left of the next segment to be written; returns its length. */
  skipSegment(): u32 {
    return this.nextWritable(this.writable);
  }

  /** Guest address of the next byte to be written; there must be one. */
  nextByte(): u64 {
    this.findWritable();
    return addresses[this.writer] + this.writerAt;
  }

  // Where the piece lies that nextReadable() or nextWritable() has found.
  private pieceAt: u64 = 0;

  private nextReadable(length: u64): u32 {
    while (this.readerAt == lengths[this.reader]) {
      this.reader++;
      this.readerAt = 0;
    }
    const piece = <u32>min<u64>(length, lengths[this.reader] - this.readerAt);
    this.pieceAt = addresses[this.reader] + this.readerAt;
    this.readerAt += piece;
    this.readable -= piece;
    this.moved += piece;
    return piece;
  }

  private findWritable(): void {
    while (this.writerAt == lengths[this.writer]) {
      this.writer++;
      this.writerAt = 0;
    }
  }

  private nextWritable(length: u64): u32 {
    this.findWritable();
    const piece = <u32>min<u64>(length, lengths[this.writer] - this.writerAt);
    this.pieceAt = addresses[this.writer] + this.writerAt;
    this.writerAt += piece;
    this.writable -= piece;
    this.written += piece;
    this.moved += piece;
    return piece;
  }
}

export const chain = new Chain();
