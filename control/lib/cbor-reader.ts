// Reads CBOR from linear memory. See cbor.ts.

import { CBOR_MAX_DEPTH, Major } from "./cbor-format";
import { bytesAre, textOf, utf8Valid } from "./text";

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;

export class CborReader {
  /** False from the first error on. */
  ok: bool = true;
  /** The next byte to read. */
  at: usize;
  readonly end: usize;
  /** After bytes() and key(): where the content is, and its length. */
  span: usize = 0;
  spanLength: u32 = 0;
  private major: i32 = 0;
  private value: u64 = 0;

  constructor(from: usize, length: u32) {
    this.at = from;
    this.end = from + length;
  }

  get atEnd(): bool {
    return this.at == this.end;
  }

  /** Major type of the next item, -1 at the end. */
  peek(): i32 {
    return this.ok && this.at < this.end ? load<u8>(this.at) >> 5 : -1;
  }

  /** Whether the next item is null. */
  isNull(): bool {
    return this.ok && this.at < this.end && load<u8>(this.at) == 0xf6;
  }

  uint(): u64 {
    return this.expect(Major.UINT);
  }

  /** An integer of either sign that fits i64. */
  int(): i64 {
    if (!this.head()) return 0;
    if (this.major > Major.NEGATIVE || this.value > <u64>i64.MAX_VALUE) return this.fail();
    return this.major == Major.NEGATIVE ? -1 - <i64>this.value : <i64>this.value;
  }

  bool(): bool {
    const value = this.expect(Major.SIMPLE);
    if (value != TRUE && value != FALSE) this.fail();
    return value == TRUE;
  }

  null(): void {
    if (this.expect(Major.SIMPLE) != NULL) this.fail();
  }

  /** A byte string; it is then at `span`, `spanLength` bytes. Returns the length. */
  bytes(): u32 {
    return this.content(this.expect(Major.BYTES));
  }

  /** A text string as UTF-8; it is then at `span`, `spanLength` bytes. Returns the length. */
  key(): u32 {
    return this.content(this.expect(Major.TEXT));
  }

  /** A text string. Allocates. */
  text(): string {
    const length = this.key();
    if (!this.ok || !utf8Valid(this.span, length)) {
      this.fail();
      return "";
    }
    return textOf(this.span, length);
  }

  /** Whether what bytes() or key() has just read is this ASCII text. */
  is(text: string): bool {
    return this.ok && bytesAre(this.span, this.spanLength, text);
  }

  /** Opens an array: the number of items that follow. */
  array(): u32 {
    return this.count(this.expect(Major.ARRAY), 1);
  }

  /** Opens a map: the number of key and value pairs that follow. */
  map(): u32 {
    return this.count(this.expect(Major.MAP), 2);
  }

  /** Goes past one item, whatever it is. */
  skip(): void {
    this.walk(0, false);
  }

  /** Like skip(), and refuses invalid UTF-8, and maps with a key twice or keys that are no scalars. */
  check(depth: u32): void {
    this.walk(depth, true);
  }

  /**
   * The reader is before a map: looks for an ASCII text key. If it is there, the reader is then before
   * its value; if not, it has not moved. Use it on a copy: `reader.copy()`.
   */
  find(key: string): bool {
    const start = this.at;
    const pairs = this.map();
    for (let i: u32 = 0; i < pairs && this.ok; i++) {
      if (this.peek() == Major.TEXT) {
        this.key();
        if (this.is(key)) return true;
      } else this.skip();
      this.skip();
    }
    if (this.ok) this.at = start;
    return false;
  }

  /** A reader of its own at the same place. Allocates. */
  copy(): CborReader {
    const reader = new CborReader(this.at, <u32>(this.end - this.at));
    reader.ok = this.ok;
    return reader;
  }

  private walk(depth: u32, strict: bool): void {
    if (!this.head()) return;
    switch (this.major) {
      case Major.UINT:
      case Major.NEGATIVE:
        return;
      case Major.BYTES:
      case Major.TEXT: {
        this.content(this.value);
        if (strict && this.ok && this.major == Major.TEXT && !utf8Valid(this.span, this.spanLength))
          this.fail();
        return;
      }
      case Major.ARRAY:
      case Major.MAP: {
        const map = this.major == Major.MAP;
        const count = this.count(this.value, map ? 2 : 1);
        if (depth >= CBOR_MAX_DEPTH) this.fail();
        const first = this.at;
        for (let i: u32 = 0; i < count && this.ok; i++) {
          if (map) {
            const key = this.at;
            if (strict && this.peek() > Major.TEXT) this.fail();
            this.walk(depth + 1, strict);
            if (strict && this.ok && this.repeated(first, i, key)) this.fail();
          }
          this.walk(depth + 1, strict);
        }
        return;
      }
      case Major.SIMPLE: {
        if (this.value < FALSE || this.value > NULL) this.fail();
        return;
      }
      default:
        this.fail();
    }
  }

  /** Whether one of the `count` keys from `first` on equals the key at `key`, all of them scalars. */
  private repeated(first: usize, count: u32, key: usize): bool {
    const after = this.at;
    let found = false;
    this.at = key;
    this.scalar();
    const major = this.major;
    const value = this.value;
    const span = this.span;
    this.at = first;
    for (let i: u32 = 0; i < count && !found; i++) {
      this.scalar();
      found = this.major == major && this.value == value;
      if (found && major >= Major.BYTES) found = memory.compare(this.span, span, <usize>value) == 0;
      this.skip();
    }
    this.at = after;
    return found && this.ok;
  }

  private scalar(): void {
    this.head();
    if (this.major >= Major.BYTES) this.content(this.value);
  }

  /** Reads an item's head into `major` and `value`. Simple values take one byte only. */
  private head(): bool {
    if (!this.ok || this.at >= this.end) return this.failed();
    const first = <u32>load<u8>(this.at++);
    this.major = <i32>(first >> 5);
    const info = first & 31;
    this.value = info;
    if (info < 24) return true;
    const size: usize = 1 << (info - 24);
    if (info > 27 || this.major >= Major.TAG || this.end - this.at < size) return this.failed();
    switch (info) {
      case 24: {
        this.value = load<u8>(this.at);
        break;
      }
      case 25: {
        this.value = bswap<u16>(load<u16>(this.at));
        break;
      }
      case 26: {
        this.value = bswap<u32>(load<u32>(this.at));
        break;
      }
      default:
        this.value = bswap<u64>(load<u64>(this.at));
    }
    this.at += size;
    return true;
  }

  private expect(major: Major): u64 {
    if (!this.head()) return 0;
    if (this.major != major) return this.fail();
    return this.value;
  }

  private content(length: u64): u32 {
    this.span = this.at;
    this.spanLength = 0;
    if (length > <u64>(this.end - this.at)) return <u32>this.fail();
    if (!this.ok) return 0;
    this.spanLength = <u32>length;
    this.at += <usize>length;
    return <u32>length;
  }

  /** A count of items that take at least a byte each, so that a hostile one cannot make us loop. */
  private count(count: u64, each: u64): u32 {
    if (count > <u64>(this.end - this.at) / each) return <u32>this.fail();
    return <u32>count;
  }

  private fail(): i64 {
    this.ok = false;
    this.at = this.end;
    return 0;
  }

  private failed(): bool {
    this.fail();
    return false;
  }
}
