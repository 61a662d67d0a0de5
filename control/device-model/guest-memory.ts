// Every access of the device model to its VM's memory: each is checked against the VM's size.
//
// VM guest-physical address g is at GPA_GUEST + g of this component, the hole below 4 GiB included. An access
// that does not lie wholly inside of the VM's low or high memory (lib/pc-memory.ts) is not done, and the
// function returns false. Memory is read once into linear memory; nothing here reads a guest value twice.

import {
  sharedCopy,
  sharedFill,
  sharedLoad32,
  sharedLoad64,
  sharedRead,
  sharedReplace,
  sharedStore32,
  sharedWrite,
} from "../lib/binding";
import { GPA_GUEST } from "../gen/abi64";
import { HIGH_MEMORY, highMemory, lowMemory } from "../lib/pc-memory";

/** The VM's memory in bytes below the hole, and from 4 GiB on; set once from the configuration. */
export let lowSize: u64 = 0;
export let highSize: u64 = 0;

export function setMemorySize(size: u64): void {
  lowSize = lowMemory(size);
  highSize = highMemory(size);
}

// Where firmware starts that ends at 4 GiB, and where its flash memory ends; the rest can only be read.
let flashStart: u64 = HIGH_MEMORY;
let flashEnd: u64 = HIGH_MEMORY;

/** Firmware of `size` bytes, of which the first `flash` are flash memory. */
export function setFirmware(size: u64, flash: u64): void {
  flashStart = HIGH_MEMORY - size;
  flashEnd = flashStart + flash;
}

// Whether [gpa, gpa + length) lies in the firmware.
function inFirmware(gpa: u64, length: u64): bool {
  return gpa >= flashStart && length <= HIGH_MEMORY && gpa <= HIGH_MEMORY - length;
}

// Whether it lies in flash memory.
function inFlash(gpa: u64, length: u64): bool {
  return gpa >= flashStart && length <= flashEnd && gpa <= flashEnd - length;
}

// One value on its way in or out.
const cell: usize = memory.data(8, 8);

/** Whether [gpa, gpa + length) is memory of the VM. */
export function inMemory(gpa: u64, length: u64): bool {
  if (gpa < HIGH_MEMORY) return length <= lowSize && gpa <= lowSize - length;
  return length <= highSize && gpa - HIGH_MEMORY <= highSize - length;
}

/** Reads 1 to 8 bytes, little endian, into `value`. False: not memory, and `value` is all ones. */
export function readGuest(gpa: u64, size: u32): bool {
  store<u64>(cell, 0);
  value = ~0;
  if (size > 8 || !readGuestBytes(cell, gpa, size)) return false;
  value = load<u64>(cell);
  return true;
}

/** Loads an aligned u32; 0 where there is no memory. */
export function loadGuest32(gpa: u64): u64 {
  return inMemory(gpa, 4) ? sharedLoad32(GPA_GUEST + gpa) : 0;
}

/** Loads an aligned entry of a page table; ones where there is no memory. */
export function loadTable64(gpa: u64): u64 {
  return inMemory(gpa, 8) ? sharedLoad64(GPA_GUEST + gpa) : ~0;
}

/** Loads an entry again, from an address at which loadTable64() has found memory. */
// @ts-ignore: decorator
@inline
export function reloadTable64(gpa: u64): u64 {
  return sharedLoad64(GPA_GUEST + gpa);
}

/** Reads the 16 bytes at an address that is known to be memory, with all of its page. */
// @ts-ignore: decorator
@inline
export function rereadGuest16(to: usize, gpa: u64): void {
  sharedRead(to, GPA_GUEST + gpa, 16);
}

/** The same as loadTable64() for 4 bytes. */
export function loadTable32(gpa: u64): u64 {
  return inMemory(gpa, 4) ? sharedLoad32(GPA_GUEST + gpa) : 0xffffffff;
}

/** Replaces an entry of 4 or 8 bytes, in one step, if it is still what it was. There is no entry where there is no memory. */
export function replaceTable(gpa: u64, size: u32, old: u64, value: u64): bool {
  return !inMemory(gpa, size) || sharedReplace(GPA_GUEST + gpa, size, old, value);
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

/** Copies guest memory, or firmware, to linear memory. */
export function readGuestBytes(to: usize, gpa: u64, length: u32): bool {
  if (!inMemory(gpa, length) && !inFirmware(gpa, length)) return false;
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

/** Writes the low 1 to 8 bytes of `data` to flash memory, for the chip and for nobody else. */
export function writeFlash(gpa: u64, size: u32, data: u64): bool {
  if (size > 8 || !inFlash(gpa, size)) return false;
  store<u64>(cell, data);
  sharedWrite(GPA_GUEST + gpa, cell, size);
  return true;
}

/** Sets all bits of flash memory. */
export function eraseFlash(gpa: u64, length: u64): bool {
  if (!inFlash(gpa, length)) return false;
  sharedFill(GPA_GUEST + gpa, 0xff, length);
  return true;
}

/** Fills all of flash memory from another mapping of this component (an image). */
export function fillFlash(from: u64): void {
  sharedCopy(GPA_GUEST + flashStart, from, flashEnd - flashStart);
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
