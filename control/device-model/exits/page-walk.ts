// Translates a VM's linear addresses by its own page tables, in every paging mode.
//
// Source: Intel SDM volume 3A, "Paging": 32-bit, PAE, 4-level and 5-level. Every entry is read once; a
// table that lies outside of the VM's memory counts as not present. Accessed and dirty bits are left
// alone. Of the permissions, writable and user are checked.

import { message } from "./message";
import { loadGuest32, loadGuest64 } from "../guest-memory";

const CR0_PG: u64 = 0x80000000;
const CR0_WP: u64 = 0x10000;
const CR4_PSE: u64 = 0x10;
const CR4_PAE: u64 = 0x20;
const CR4_LA57: u64 = 0x1000;
const EFER_LMA: u64 = 0x400;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const LARGE: u64 = 0x80;
const ADDRESS: u64 = 0x000ffffffffff000;

// Error code of a page fault.
const FAULT_PRESENT: u32 = 1;
const FAULT_WRITE: u32 = 2;
const FAULT_USER: u32 = 4;

/** Where the last translate() ended. */
export let physical: u64 = 0;
/** The error code of the page fault that the last translate() met. */
export let faultError: u32 = 0;

/** Privilege level of the code that caused the exit. */
export function currentLevel(): u32 {
  return (message.cs_access >> 5) & 3;
}

/** Translates one address for an access; false: a page fault, see faultError. */
export function translate(linear: u64, write: bool): bool {
  if (!(message.cr0 & CR0_PG)) {
    physical = linear & 0xffffffff;
    return true;
  }
  const user = currentLevel() == 3;
  faultError = (write ? FAULT_WRITE : 0) | (user ? FAULT_USER : 0);
  if (!(message.efer & EFER_LMA)) linear &= 0xffffffff;
  if (!(message.cr4 & CR4_PAE)) return walk32(linear, write, user);
  if (message.efer & EFER_LMA) {
    const levels: u32 = message.cr4 & CR4_LA57 ? 5 : 4;
    return walk64(message.cr3 & ADDRESS, levels, linear, write, user);
  }
  // PAE: four page-directory pointers, which have no permissions.
  const pointer = (message.cr3 & 0xffffffe0) + ((linear >> 30) << 3);
  const top = loadGuest64(pointer);
  if (!(top & PRESENT)) return false;
  return walk64(top & ADDRESS, 2, linear, write, user);
}

function walk64(table: u64, levels: u32, linear: u64, write: bool, user: bool): bool {
  let rights = WRITABLE | USER;
  for (let shift = <u64>(3 + 9 * levels); shift >= 12; shift -= 9) {
    const entry = loadGuest64(table + ((linear >> (shift - 3)) & 0xff8));
    if (!(entry & PRESENT)) return false;
    rights &= entry;
    if (shift == 12 || (entry & LARGE && shift <= 30)) {
      const mask = ((<u64>1) << shift) - 1;
      return finish((entry & ADDRESS & ~mask) | (linear & mask), rights, write, user);
    }
    table = entry & ADDRESS;
  }
  return false;
}

function walk32(linear: u64, write: bool, user: bool): bool {
  const directory = loadGuest32((message.cr3 & 0xfffff000) + ((linear >> 22) << 2));
  if (!(directory & PRESENT)) return false;
  if (directory & LARGE && message.cr4 & CR4_PSE) {
    // PSE-36: bits 13..20 are address bits 32..39.
    const base = (directory & 0xffc00000) | ((directory & 0x1fe000) << 19);
    return finish(base | (linear & 0x3fffff), directory, write, user);
  }
  const entry = loadGuest32((directory & 0xfffff000) + (((linear >> 12) & 1023) << 2));
  if (!(entry & PRESENT)) return false;
  return finish((entry & 0xfffff000) | (linear & 0xfff), directory & entry, write, user);
}

function finish(address: u64, rights: u64, write: bool, user: bool): bool {
  faultError |= FAULT_PRESENT;
  if (user && !(rights & USER)) return false;
  if (write && !(rights & WRITABLE) && (user || message.cr0 & CR0_WP)) return false;
  physical = address;
  return true;
}
