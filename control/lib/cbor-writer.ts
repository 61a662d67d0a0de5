// Writes CBOR to linear memory. See cbor.ts.

import { Major } from "./cbor-format";
import { utf8Length, utf8Write } from "./text";

export class CborWriter {
  /** False once something did not fit. */
  ok: bool = true;
  /** The next byte to write. */
  at: usize;
  readonly end: usize;

  constructor(
    readonly start: usize,
    capacity: u32,
  ) {
    this.at = start;
    this.end = start + capacity;
  }

  /** Starts again. */
  clear(): void {
    this.at = this.start;
    this.ok = true;
  }

  /** Bytes written. */
  get length(): u32 {
    return <u32>(this.at - this.start);
  }

  /** Bytes that still fit. */
  get room(): u32 {
    return <u32>(this.end - this.at);
  }

  uint(value: u64): void {
    this.head(Major.UINT, value);
  }

  int(value: i64): void {
    if (value < 0) this.head(Major.NEGATIVE, <u64>(-1 - value));
    else this.head(Major.UINT, <u64>value);
  }

  bool(value: bool): void {
    this.byte(value ? 0xf5 : 0xf4);
  }

  null(): void {
    this.byte(0xf6);
  }

  bytes(from: usize, length: u32): void {
    this.span(Major.BYTES, from, length);
  }

  /** Text that is UTF-8 in linear memory already (and valid: the writer does not check). */
  textBytes(from: usize, length: u32): void {
    this.span(Major.TEXT, from, length);
  }

  /** A text string, also for the keys of a map. */
  text(text: string): void {
    const length = utf8Length(text);
    this.head(Major.TEXT, length);
    if (!this.reserve(length)) return;
    this.at += utf8Write(this.at, text);
  }

  /** Opens an array of `count` items. */
  array(count: u32): void {
    this.head(Major.ARRAY, count);
  }

  /** Opens a map of `count` pairs. */
  map(count: u32): void {
    this.head(Major.MAP, count);
  }

  /** Opens an array whose count is not known yet; pass what it returns to close(). */
  openArray(): usize {
    return this.open(0x99);
  }

  /** Opens a map whose count is not known yet; pass what it returns to close(). */
  openMap(): usize {
    return this.open(0xb9);
  }

  /** Sets the count of items (of pairs) of what openArray() or openMap() opened, at most 65535. */
  close(opened: usize, count: u32): void {
    if (this.ok) store<u16>(opened, bswap<u16>(<u16>count));
  }

  private open(first: u8): usize {
    if (!this.reserve(3)) return 0;
    store<u8>(this.at, first);
    this.at += 3;
    return this.at - 2;
  }

  private span(major: Major, from: usize, length: u32): void {
    this.head(major, length);
    if (!this.reserve(length)) return;
    memory.copy(this.at, from, length);
    this.at += length;
  }

  private byte(value: u8): void {
    if (!this.reserve(1)) return;
    store<u8>(this.at++, value);
  }

  private head(major: Major, value: u64): void {
    const top = <u8>((<u32>major) << 5);
    if (value < 24) this.byte(top | (<u8>value));
    else if (value <= 0xff) {
      if (!this.reserve(2)) return;
      store<u8>(this.at, top | 24);
      store<u8>(this.at, <u8>value, 1);
      this.at += 2;
    } else if (value <= 0xffff) {
      if (!this.reserve(3)) return;
      store<u8>(this.at, top | 25);
      store<u16>(this.at, bswap<u16>(<u16>value), 1);
      this.at += 3;
    } else if (value <= 0xffffffff) {
      if (!this.reserve(5)) return;
      store<u8>(this.at, top | 26);
      store<u32>(this.at, bswap<u32>(<u32>value), 1);
      this.at += 5;
    } else {
      if (!this.reserve(9)) return;
      store<u8>(this.at, top | 27);
      store<u64>(this.at, bswap<u64>(value), 1);
      this.at += 9;
    }
  }

  private reserve(size: u32): bool {
    if (!this.ok || <usize>size > this.end - this.at) this.ok = false;
    return this.ok;
  }
}
