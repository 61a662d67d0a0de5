// A memory operand: where its bytes are, on one page or two, in memory or on the bus.

import { readGuest, value, writeGuest } from "../guest-memory";
import { mmioRead, mmioWrite } from "../mmio-bus";
import { message } from "./message";
import { BASE_RIP, Instruction, NO_REGISTER } from "./instruction";
import { maskOf } from "./numbers";
import { physical, translate } from "./page-walk";
import { linear, segmentLinear } from "./segments";

const PAGE: u64 = 4096;
const NO_PAGE: u64 = ~0;

/** The operand's offset in its segment, before it is cut to the size of an address. */
@inline
function sum(i: Instruction): u64 {
  let offset = i.displacement;
  const base = i.base;
  if (base < NO_REGISTER) offset += message.gpr[base];
  else if (base == BASE_RIP) offset += message.rip + i.length;
  if (i.index < NO_REGISTER) offset += message.gpr[i.index] << i.scale;
  return offset;
}

/** The operand's offset in its segment, as ModRM or the instruction gives it. */
export function offsetOf(i: Instruction): u64 {
  return sum(i) & maskOf(i.addressSize);
}

export class Place {
  /** Where it begins. */
  gpa: u64 = 0;
  /** Bytes on the first page. */
  private head: u32 = 0;
  /** Where the rest is. */
  private tail: u64 = 0;
  // The page that was translated last, and for what.
  private page: u64 = NO_PAGE;
  private frame: u64 = 0;
  private writable: bool = false;

  /** It is `size` bytes at an address, on one page. */
  set(gpa: u64, size: u32): void {
    this.gpa = gpa;
    this.head = size;
  }

  /** Goes on to the `size` bytes behind it, which are on the same page. */
  next(size: u32): Place {
    this.set(this.gpa + size, size);
    return this;
  }

  /** A new exit: what was translated is to be translated again. */
  forget(): void {
    this.page = NO_PAGE;
  }

  /** Finds `size` bytes at an offset in a segment. False: a fault, which is noted. */
  locate(number: i32, offset: u64, size: u32, write: bool, mode: u32): bool {
    if (!segmentLinear(number, offset, size, write, mode)) return false;
    const at = linear;
    const left = <u32>(PAGE - (at & (PAGE - 1)));
    this.head = min(size, left);
    if (left < size) {
      let next = at + left;
      if (mode != 8) next &= 0xffffffff;
      if (!translate(at, write)) return false;
      this.gpa = physical;
      if (!translate(next, write)) return false;
      this.tail = physical;
      return true;
    }
    if (this.page != at >> 12 || (write && !this.writable)) {
      if (!translate(at, write)) return false;
      this.page = at >> 12;
      this.frame = physical & ~(PAGE - 1);
      this.writable = write;
    }
    this.gpa = this.frame | (at & (PAGE - 1));
    return true;
  }

  /** Reads all of it, zero-extended. size: as it was located, at most 8. */
  read(size: u32): u64 {
    const head = this.head;
    if (head == size) return readAt(this.gpa, size);
    let result: u64 = 0;
    for (let n: u32 = 0; n < size; n++) {
      const at = n < head ? this.gpa + n : this.tail + (n - head);
      result |= readAt(at, 1) << (8 * n);
    }
    return result;
  }

  write(size: u32, data: u64): void {
    const head = this.head;
    if (head == size) return writeAt(this.gpa, size, data);
    for (let n: u32 = 0; n < size; n++) {
      const at = n < head ? this.gpa + n : this.tail + (n - head);
      writeAt(at, 1, (data >> (8 * n)) & 0xff);
    }
  }
}

function readAt(at: u64, size: u32): u64 {
  return (readGuest(at, size) ? value : mmioRead(at, size)) & maskOf(size);
}

function writeAt(at: u64, size: u32, data: u64): void {
  if (!writeGuest(at, size, data)) mmioWrite(at, size, data & maskOf(size));
}
