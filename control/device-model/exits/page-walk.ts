// Translates a VM's linear addresses by its own page tables, in every paging mode, as the CPU would.
//
// Source: Intel SDM volume 3A, "Paging": 32-bit, PAE, 4-level and 5-level. Every entry is read once; a
// table that lies outside of the VM's memory reads as ones. Checked are writable and user, no-execute,
// SMEP, SMAP and reserved bits. A translation that succeeds sets accessed and dirty bits, unless the CPU
// has done so already (the code that runs).

import { inMemory, loadTable32, loadTable64, reloadTable64, replaceTable } from "../guest-memory";
import { fault, PAGE_FAULT } from "./fault";
import { message } from "./message";
import { currentLevel, isConforming } from "./segments";

const CR0_PG: u64 = 0x80000000;
const CR0_WP: u64 = 0x10000;
const CR4_PSE: u64 = 0x10;
const CR4_PAE: u64 = 0x20;
const CR4_LA57: u64 = 0x1000;
const CR4_SMEP: u64 = 0x100000;
const CR4_SMAP: u64 = 0x200000;
const EFER_LMA: u64 = 0x400;
const EFER_NXE: u64 = 0x800;
const RFLAGS_AC: u64 = 0x40000;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;
const ADDRESS: u64 = 0x000ffffffffff000;
const IGNORED: u64 = 0x7ff0000000000000; // of 4-level and 5-level paging
const NO_EXECUTE: u64 = 0x8000000000000000;

// Error code of a page fault.
const FAULT_PRESENT: u32 = 1;
const FAULT_WRITE: u32 = 2;
const FAULT_USER: u32 = 4;
const FAULT_RESERVED: u32 = 8;
const FAULT_FETCH: u32 = 16;

/** Kinds of access, as in the error code. */
const READ: u32 = 0;
const WRITE: u32 = FAULT_WRITE;
const FETCH: u32 = FAULT_FETCH;

const MAX_LEVELS: u32 = 5;
/** Times that a walk begins again because another CPU changes the tables. */
const TRIES: u32 = 8;

/** Where the last translation ended. */
export let physical: u64 = 0;

/** Bits of a physical address that the VM's CPU has not. */
let beyond: u64 = 0;

/** The width of physical addresses that the VM's CPUID shows. */
export function setPhysicalBits(bits: u64): void {
  beyond = bits > 0 && bits < 52 ? ADDRESS & ~(((<u64>1) << bits) - 1) : 0;
}

// The entries of the last walk: where they are, and what they were.
const entryAt = new StaticArray<u64>(MAX_LEVELS);
const entryValue = new StaticArray<u64>(MAX_LEVELS);
let entries: u32 = 0;
let entrySize: u32 = 8;

/** Translates one address for an access; false: a page fault, which is noted. */
export function translate(linear: u64, write: bool): bool {
  return resolve(linear, write ? WRITE : READ);
}

/** The same for a byte of code. It sets no bits. */
export function translateCode(linear: u64): bool {
  return resolve(linear, FETCH);
}

function resolve(linear: u64, access: u32): bool {
  if (!(message.cr0 & CR0_PG)) {
    physical = linear & 0xffffffff;
    return true;
  }
  const user = currentLevel() == 3;
  if (!(message.efer & EFER_LMA)) linear &= 0xffffffff;
  let error = walk(linear, access, user);
  for (let n: u32 = 0; error < 0 && access != FETCH && !mark(access == WRITE) && n < TRIES; n++) {
    error = walk(linear, access, user);
  }
  return error < 0 || fault(PAGE_FAULT, error | faultBits(access, user), linear);
}

function faultBits(access: u32, user: bool): i32 {
  const fetchKnown = (message.efer & EFER_NXE && message.cr4 & CR4_PAE) || message.cr4 & CR4_SMEP;
  return (access == FETCH && !fetchKnown ? 0 : access) | (user ? FAULT_USER : 0);
}

// Bits P and RSVD of the error code, or -1: `physical` is the result.
function walk(linear: u64, access: u32, user: bool): i32 {
  entries = 0;
  if (!(message.cr4 & CR4_PAE)) return walk32(linear, access, user);
  if (message.efer & EFER_LMA) {
    const levels: u32 = message.cr4 & CR4_LA57 ? 5 : 4;
    return walk64(message.cr3 & ADDRESS, levels, linear, access, user);
  }
  // PAE: four page-directory pointers, which have no permissions.
  const top = loadTable64((message.cr3 & 0xffffffe0) + ((linear >> 30) << 3));
  if (!(top & PRESENT)) return 0;
  if (top & (NO_EXECUTE | IGNORED | beyond | 0x1e6)) return FAULT_PRESENT | FAULT_RESERVED;
  return walk64(top & ADDRESS, 2, linear, access, user);
}

function note(at: u64, value: u64, size: u32): void {
  unchecked((entryAt[entries] = at));
  unchecked((entryValue[entries] = value));
  entries++;
  entrySize = size;
}

function walk64(table: u64, levels: u32, linear: u64, access: u32, user: bool): i32 {
  let reserved = beyond;
  if (!(message.efer & EFER_NXE)) reserved |= NO_EXECUTE;
  if (levels == 2) reserved |= IGNORED;
  let rights = WRITABLE | USER;
  let noExecute: u64 = 0;
  let shift = <u64>(3 + 9 * levels);
  while (true) {
    const at = table + ((linear >> (shift - 3)) & 0xff8);
    const entry = loadTable64(at);
    if (!(entry & PRESENT)) return 0;
    note(at, entry, 8);
    rights &= entry;
    noExecute |= entry;
    const large = shift > 12 && entry & LARGE;
    // A large page's address is aligned, but for the PAT bit; levels 4 and 5 have no large pages.
    if (large) reserved |= shift > 30 ? LARGE : (((<u64>1) << shift) - 1) & ~0x1fff;
    if (entry & reserved) return FAULT_PRESENT | FAULT_RESERVED;
    if (large || shift == 12) {
      const mask = ((<u64>1) << shift) - 1;
      return finish((entry & ADDRESS & ~mask) | (linear & mask), rights, noExecute, access, user);
    }
    table = entry & ADDRESS;
    shift -= 9;
  }
}

function walk32(linear: u64, access: u32, user: bool): i32 {
  const at = (message.cr3 & 0xfffff000) + ((linear >> 22) << 2);
  const directory = loadTable32(at);
  if (!(directory & PRESENT)) return 0;
  note(at, directory, 4);
  if (directory & LARGE && message.cr4 & CR4_PSE) {
    // PSE-36: bits 13..20 are address bits 32..39.
    const base = (directory & 0xffc00000) | ((directory & 0x1fe000) << 19);
    if (directory & 0x200000 || base & beyond) return FAULT_PRESENT | FAULT_RESERVED;
    return finish(base | (linear & 0x3fffff), directory, 0, access, user);
  }
  const below = (directory & 0xfffff000) + (((linear >> 12) & 1023) << 2);
  const entry = loadTable32(below);
  if (!(entry & PRESENT)) return 0;
  note(below, entry, 4);
  return finish((entry & 0xfffff000) | (linear & 0xfff), directory & entry, 0, access, user);
}

function finish(address: u64, rights: u64, noExecute: u64, access: u32, user: bool): i32 {
  if (user) {
    if (!(rights & USER)) return FAULT_PRESENT;
  } else if (rights & USER) {
    if (access == FETCH ? message.cr4 & CR4_SMEP : message.cr4 & CR4_SMAP && !(message.rflags & RFLAGS_AC))
      return FAULT_PRESENT;
  }
  if (access == WRITE && !(rights & WRITABLE) && (user || message.cr0 & CR0_WP)) return FAULT_PRESENT;
  if (access == FETCH && noExecute & NO_EXECUTE && message.efer & EFER_NXE) return FAULT_PRESENT;
  physical = address;
  return -1;
}

// Sets accessed, and dirty in the last entry. False: an entry is no longer what it was.
function mark(write: bool): bool {
  for (let n: u32 = 0; n < entries; n++) {
    const old = unchecked(entryValue[n]);
    const value = old | ACCESSED | (write && n == entries - 1 ? DIRTY : 0);
    if (value != old && !replaceTable(unchecked(entryAt[n]), entrySize, old, value)) return false;
  }
  return true;
}

// The page that code was last translated for, in 4- and 5-level paging, if it and its tables are memory: as
// long as control registers and entries are the same, so is the result.
let codePage: u64 = ~0;
let codePhysical: u64 = 0;
let codeCr0: u64 = 0;
let codeCr3: u64 = 0;
let codeCr4: u64 = 0;
let codeEfer: u64 = 0;
let codeAccess: u32 = 0;
let codeEntries: u32 = 0;
const codeAt = new StaticArray<u64>(MAX_LEVELS);
const codeValue = new StaticArray<u64>(MAX_LEVELS);

/** Whether a byte of code is on the page that rememberCode() has noted, and still is: then at `physical`. */
export function isCodeKnown(linear: u64): bool {
  if (
    codePage != linear >> 12 ||
    codeCr3 != message.cr3 ||
    codeCr0 != message.cr0 ||
    codeCr4 != message.cr4 ||
    codeEfer != message.efer ||
    codeAccess != message.cs_access
  )
    return false;
  for (let n = codeEntries; n > 0; n--) {
    if (reloadTable64(unchecked(codeAt[n - 1])) != unchecked(codeValue[n - 1])) return false;
  }
  physical = codePhysical | (linear & 0xfff);
  return true;
}

/** Notes the translation that translateCode() has just made, for a page that is memory. */
export function rememberCode(linear: u64): void {
  codePage = ~0;
  if (!(message.cr0 & CR0_PG) || !(message.efer & EFER_LMA) || isConforming()) return;
  for (let n: u32 = 0; n < entries; n++) {
    if (!inMemory(entryAt[n], 8)) return;
    codeAt[n] = entryAt[n];
    codeValue[n] = entryValue[n];
  }
  codeEntries = entries;
  codePage = linear >> 12;
  codePhysical = physical & ~0xfff;
  codeCr0 = message.cr0;
  codeCr3 = message.cr3;
  codeCr4 = message.cr4;
  codeEfer = message.efer;
  codeAccess = message.cs_access;
}
