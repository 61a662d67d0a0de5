// UTF-8 text in linear memory: comparing, checking, and building it without allocating.

/** Whether the bytes are `text`. `text` must be ASCII. */
export function bytesAre(at: usize, length: u32, text: string): bool {
  if (length != <u32>text.length) return false;
  for (let i = 0; i < text.length; i++) {
    if (load<u8>(at + i) != <u8>text.charCodeAt(i)) return false;
  }
  return true;
}

/** A string of UTF-8 bytes. Allocates; check hostile bytes with utf8Valid first. */
export function textOf(at: usize, length: u32): string {
  return String.UTF8.decodeUnsafe(at, length);
}

/** A string of a zero-padded field of at most `size` bytes. Allocates. */
export function textOfField(at: usize, size: u32): string {
  let length: u32 = 0;
  while (length < size && load<u8>(at + length) != 0) length++;
  return textOf(at, length);
}

/** Bytes that `text` takes in UTF-8. */
export function utf8Length(text: string): u32 {
  return String.UTF8.byteLength(text);
}

/** Writes `text` at `to` without a terminator; the caller has checked the room with utf8Length. */
export function utf8Write(to: usize, text: string): u32 {
  return <u32>(
    String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, to, false, String.UTF8.ErrorMode.REPLACE)
  );
}

/** Whether the bytes are well-formed UTF-8: shortest forms, no surrogates, at most U+10FFFF. */
export function utf8Valid(at: usize, length: u32): bool {
  const end = at + length;
  while (at < end) {
    const first = <u32>load<u8>(at++);
    if (first < 0x80) continue;
    let more: u32 = 0;
    let low: u32 = 0x80;
    let high: u32 = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) more = 1;
    else if (first >= 0xe0 && first <= 0xef) {
      more = 2;
      if (first == 0xe0) low = 0xa0;
      if (first == 0xed) high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
      more = 3;
      if (first == 0xf0) low = 0x90;
      if (first == 0xf4) high = 0x8f;
    } else return false;
    if (<usize>more > end - at) return false;
    for (let i: u32 = 0; i < more; i++) {
      const byte = <u32>load<u8>(at++);
      if (byte < low || byte > high) return false;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}

/**
 * Text that grows in a fixed piece of linear memory. What does not fit is left out and `full` set;
 * methods return the buffer, for chaining.
 */
export class TextBuffer {
  /** Bytes so far. */
  length: u32 = 0;
  full: bool = false;

  constructor(
    readonly start: usize,
    readonly capacity: u32,
  ) {}

  /** Starts again. */
  clear(): TextBuffer {
    this.length = 0;
    this.full = false;
    return this;
  }

  byte(value: u32): TextBuffer {
    if (this.length < this.capacity) store<u8>(this.start + this.length++, <u8>value);
    else this.full = true;
    return this;
  }

  bytes(from: usize, length: u32): TextBuffer {
    const piece = min(length, this.capacity - this.length);
    memory.copy(this.start + this.length, from, piece);
    this.length += piece;
    if (piece < length) this.full = true;
    return this;
  }

  text(text: string): TextBuffer {
    const length = utf8Length(text);
    if (length > this.capacity - this.length) {
      this.full = true;
      return this;
    }
    this.length += utf8Write(this.start + this.length, text);
    return this;
  }

  /** Decimal, at least `width` characters, filled on the left with `fill`. */
  uint(value: u64, width: u32 = 0, fill: u32 = 0x20): TextBuffer {
    let digits: u32 = 1;
    let power: u64 = 10;
    while (digits < 20 && value >= power) {
      digits++;
      if (digits < 20) power *= 10;
    }
    for (let i = digits; i < width; i++) this.byte(fill);
    if (digits > this.capacity - this.length) {
      this.full = true;
      return this;
    }
    let at = this.start + this.length + digits;
    this.length += digits;
    do {
      store<u8>(--at, <u8>(0x30 + (value % 10)));
      value /= 10;
    } while (value != 0);
    return this;
  }

  int(value: i64): TextBuffer {
    if (value < 0) this.byte(0x2d);
    return this.uint(value < 0 ? 0 - <u64>value : <u64>value);
  }

  /** Hexadecimal with 0x, at least `width` digits. */
  hex(value: u64, width: u32 = 1): TextBuffer {
    this.byte(0x30).byte(0x78);
    let digits: u32 = 16;
    while (digits > max<u32>(width, 1) && value >> ((digits - 1) * 4) == 0) digits--;
    while (digits > 0) {
      const digit = (<u32>(value >> (--digits * 4))) & 15;
      this.byte(digit < 10 ? 0x30 + digit : 0x57 + digit);
    }
    return this;
  }

  /** Bytes as the largest unit that divides them: "128 MiB", "1536 KiB", "7 B". */
  size(bytes: u64): TextBuffer {
    if (bytes != 0 && (bytes & 0x3fffffff) == 0) return this.uint(bytes >> 30).text(" GiB");
    if (bytes != 0 && (bytes & 0xfffff) == 0) return this.uint(bytes >> 20).text(" MiB");
    if (bytes != 0 && (bytes & 0x3ff) == 0) return this.uint(bytes >> 10).text(" KiB");
    return this.uint(bytes).text(" B");
  }

  /** Fills up with spaces to column `width` counted from byte `from` (counts bytes, so ASCII). */
  pad(from: u32, width: u32): TextBuffer {
    while (this.length - from < width && !this.full) this.byte(0x20);
    return this;
  }

  /** What is in the buffer. Allocates. */
  toString(): string {
    return textOf(this.start, this.length);
  }
}
