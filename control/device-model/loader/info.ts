// Writes what a kernel is told of its machine to the VM's memory, front to back.

import { fillGuest, lowSize, writeGuest, writeGuestBytes } from "../guest-memory";
import { failLoad } from "./fail";
import { HIGH_START, LOW_END } from "./layout";
import { claim, findHighest } from "./room";

const REACH: u64 = 1 << 32;

/** "Plinth", as the name of the boot loader. */
export const LOADER_NAME: usize = memory.data<u8>([0x50, 0x6c, 0x69, 0x6e, 0x74, 0x68]);
export const LOADER_NAME_LENGTH: u32 = 6;

/** RAM below 1 MiB, and from there to the first hole, in KiB. */
export function lowerKib(): u64 {
  return LOW_END >> 10;
}

export function upperKib(): u64 {
  return (lowSize - HIGH_START) >> 10;
}

export class Info {
  start: u64 = 0;
  /** Where the next value goes. */
  at: u64 = 0;
  private end: u64 = 0;

  /** Finds room for `size` bytes, below 640 KiB if it can be. False: refused. */
  reserve(size: u64): bool {
    let start = findHighest(size, 16, 0, LOW_END);
    if (start == 0) start = findHighest(size, 16, HIGH_START, REACH);
    if (start == 0) {
      failLoad("memory", "there is no room for the boot information beside the kernel", "plinth show NAME");
      return false;
    }
    claim(start, size, "the boot information");
    this.start = start;
    this.at = start;
    this.end = start + size;
    return true;
  }

  /** Takes `size` zeroed bytes; returns where they are. */
  room(size: u64): u64 {
    const at = this.at;
    assert(size <= this.end - at, "loader: more boot information than reserved");
    fillGuest(at, 0, size);
    this.at = at + size;
    return at;
  }

  align(alignment: u64): void {
    this.at = (this.at + alignment - 1) & ~(alignment - 1);
  }

  u32(value: u64): void {
    writeGuest(this.room(4), 4, value);
  }

  u64(value: u64): void {
    writeGuest(this.room(8), 8, value);
  }

  /** A text in linear memory and its terminator; returns where it is. */
  text(from: usize, length: u32): u64 {
    const at = this.room(length + 1);
    writeGuestBytes(at, from, length);
    return at;
  }
}
