// Every access of the device model to its VM's memory: each is checked against the VM's size.
//
// VM guest-physical address g is at GPA_GUEST + g of this component. An access that does not lie wholly
// inside of the VM's memory is not done, and the function returns false. Memory is read once into linear
// memory; nothing here reads a guest value twice.

import {
  sharedCopy,
  sharedFill,
  sharedLoad32,
  sharedLoad64,
  sharedRead,
  sharedStore32,
  sharedWrite,
} from "../lib/binding";
import { GPA_GUEST } from "../gen/abi64";

/** The VM's memory in bytes, set once from the configuration. */
export let memorySize: u64 = 0;

export function setMemorySize(size: u64): void {
  memorySize = size;
}

// One value on its way in or out.
const cell: usize = memory.data(8, 8);

/** Whether [gpa, gpa + length) is memory of the VM. */
export function inMemory(gpa: u64, length: u64): bool {
  return length <= memorySize && gpa <= memorySize - length;
}

/** Reads 1 to 8 bytes, little endian, into `value`. False: not memory, and `value` is all ones. */
export function readGuest(gpa: u64, size: u32): bool {
  store<u64>(cell, 0);
  if (size > 8 || !inMemory(gpa, size)) {
    value = ~0;
    return false;
  }
  sharedRead(cell, GPA_GUEST + gpa, size);
  value = load<u64>(cell);
  return true;
}

/** Loads an aligned u64; 0 where there is no memory, as an entry of a page table that is not present. */
export function loadGuest64(gpa: u64): u64 {
  return inMemory(gpa, 8) ? sharedLoad64(GPA_GUEST + gpa) : 0;
}

/** The same for 4 bytes. */
export function loadGuest32(gpa: u64): u64 {
  return inMemory(gpa, 4) ? sharedLoad32(GPA_GUEST + gpa) : 0;
}

/** What the last readGuest found. */
export let value: u64 = 0;

/** Writes the low 1 to 8 bytes of `data`. False: not memory, nothing was written. */
export function writeGuest(gpa: u64, size: u32, data: u64): bool {
  if (size > 8 || !inMemory(gpa, size)) return false;
  store<u64>(cell, data);
  sharedWrite(GPA_GUEST + gpa, cell, size);
  return true;
}

/** Copies guest memory to linear memory. */
export function readGuestBytes(to: usize, gpa: u64, length: u32): bool {
  if (!inMemory(gpa, length)) return false;
  sharedRead(to, GPA_GUEST + gpa, length);
  return true;
}

/** Copies linear memory to guest memory. */
export function writeGuestBytes(gpa: u64, from: usize, length: u32): bool {
  if (!inMemory(gpa, length)) return false;
  sharedWrite(GPA_GUEST + gpa, from, length);
  return true;
}

/** Copies from another mapping of this component (an image) to guest memory. */
export function copyToGuest(gpa: u64, from: u64, length: u64): bool {
  if (!inMemory(gpa, length)) return false;
  sharedCopy(GPA_GUEST + gpa, from, length);
  return true;
}

/** Fills guest memory with a byte. */
export function fillGuest(gpa: u64, byte: u32, length: u64): bool {
  if (!inMemory(gpa, length)) return false;
  sharedFill(GPA_GUEST + gpa, byte, length);
  return true;
}

/** Copies guest memory to another mapping of this component (a disk). */
export function copyFromGuest(to: u64, gpa: u64, length: u64): bool {
  if (!inMemory(gpa, length)) return false;
  sharedCopy(to, GPA_GUEST + gpa, length);
  return true;
}

/**
 * Loads an aligned u16 that the guest may store to at any time, before anything that is read after it.
 * Zero if the 4 bytes around it are not memory.
 */
export function loadGuest16(gpa: u64): u32 {
  const around = gpa & ~3;
  if (!inMemory(around, 4)) return 0;
  return (sharedLoad32(GPA_GUEST + around) >> (((<u32>gpa) & 2) * 8)) & 0xffff;
}

/** Stores an aligned u32 for the guest, after everything written before and before anything read after it. */
export function storeGuest32(gpa: u64, data: u32): bool {
  if (gpa & 3 || !inMemory(gpa, 4)) return false;
  sharedStore32(GPA_GUEST + gpa, data);
  return true;
}
