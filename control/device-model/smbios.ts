// SMBIOS tables: what a VM is called, and its UUID. In its memory, or as the fw_cfg files that firmware puts there.
//
// Source: SMBIOS 3.2 (DMTF DSP0134), "SMBIOS 3.0 (64-bit) Entry Point", "System Information (Type 1)", "System
// Enclosure (Type 3)". The UUID follows from the name alone: it stays what it is wherever the VM goes.

import { fwCfg } from "./chips/fw-cfg";
import { writeGuestBytes } from "./guest-memory";
import { SMBIOS_GPA } from "./loader/layout";

const ANCHOR_FILE = "etc/smbios/smbios-anchor";
const TABLES_FILE = "etc/smbios/smbios-tables";

const ANCHOR: u32 = 24;
const ANCHOR_CHECKSUM: u32 = 5;
const ANCHOR_MAXIMUM: u32 = 12;
const ANCHOR_ADDRESS: u32 = 16;
/** Where the tables lie behind the anchor. */
const TABLES_AT: u32 = 32;
const TABLES_MAX: u32 = 512;

const SYSTEM: u32 = 1;
const SYSTEM_LENGTH: u32 = 27;
const POWER_SWITCH: u8 = 6;
const ENCLOSURE: u32 = 3;
const ENCLOSURE_LENGTH: u32 = 22;
const OTHER: u8 = 1;
const UNKNOWN: u8 = 2;
const END: u32 = 127;
const HEADER: u32 = 4;

const UUID_AT: u32 = 8;
export const UUID_SIZE: u32 = 16;
const VERSION_8: u8 = 0x80;
const VARIANT: u8 = 0x80;

const FNV_OFFSET: u64 = 0xcbf29ce484222325;
const FNV_PRIME: u64 = 0x100000001b3;

const NAME_MAX: i32 = 64;

const anchor: usize = memory.data(24, 8);
const tables: usize = memory.data(512, 8);
const uuid: usize = memory.data(16, 8);
let length: u32 = 0;
let handle: u32 = 0;
let isWritten = false;

/** Puts the tables into the memory of a VM that starts without firmware. */
export function writeSmbios(name: string): void {
  build(name);
  store<u64>(anchor, SMBIOS_GPA + TABLES_AT, ANCHOR_ADDRESS);
  store<u8>(anchor, 0, ANCHOR_CHECKSUM);
  let sum: u32 = 0;
  for (let i: u32 = 0; i < ANCHOR; i++) sum += load<u8>(anchor + i);
  store<u8>(anchor, <u8>(0 - sum), ANCHOR_CHECKSUM);
  writeGuestBytes(SMBIOS_GPA, anchor, ANCHOR);
  writeGuestBytes(SMBIOS_GPA + TABLES_AT, tables, length);
  isWritten = true;
}

/** The VM has another name. What firmware has made of its files stays as it is. */
export function renameSmbios(name: string): void {
  if (isWritten && name != "") writeSmbios(name);
}

/** Adds the files; firmware sets the address and the checksum. Returns where the UUID is, as it is written out. */
export function addSmbiosFiles(name: string): usize {
  build(name);
  fwCfg.addFile(ANCHOR_FILE, anchor, ANCHOR);
  fwCfg.addFile(TABLES_FILE, tables, length);
  return uuid;
}

function build(name: string): void {
  length = 0;
  handle = 0;
  makeUuid(name);
  const system = begin(SYSTEM, SYSTEM_LENGTH);
  store<u8>(system, 1, 4); // manufacturer, product, and name as the serial number
  store<u8>(system, 2, 5);
  store<u8>(system, 3, 7);
  store<u32>(system + UUID_AT, bswap(load<u32>(uuid)));
  store<u16>(system + UUID_AT, bswap(load<u16>(uuid, 4)), 4);
  store<u16>(system + UUID_AT, bswap(load<u16>(uuid, 6)), 6);
  store<u64>(system + UUID_AT, load<u64>(uuid, 8), 8);
  store<u8>(system, POWER_SWITCH, 24);
  text("Plinth");
  text("Virtual machine");
  text(name);
  end();
  const enclosure = begin(ENCLOSURE, ENCLOSURE_LENGTH);
  store<u8>(enclosure, 1, 4);
  store<u8>(enclosure, OTHER, 5);
  for (let state: u32 = 9; state <= 12; state++) store<u8>(enclosure + state, UNKNOWN);
  text("Plinth");
  end();
  begin(END, HEADER);
  end();
  end(); // no texts: two zeros
  memory.fill(anchor, 0, ANCHOR);
  const head = "_SM3_";
  for (let i = 0; i < head.length; i++) store<u8>(anchor + i, <u8>head.charCodeAt(i));
  store<u8>(anchor, <u8>ANCHOR, 6);
  store<u8>(anchor, 3, 7);
  store<u8>(anchor, 2, 8);
  store<u8>(anchor, 1, 10); // revision of the entry point
  store<u32>(anchor, length, ANCHOR_MAXIMUM);
}

// Starts a structure; its texts follow, and end().
function begin(kind: u32, size: u32): usize {
  const at = tables + length;
  memory.fill(at, 0, size);
  store<u8>(at, <u8>kind);
  store<u8>(at, <u8>size, 1);
  store<u16>(at, <u16>handle, 2);
  handle++;
  length += size;
  return at;
}

function text(value: string): void {
  assert(length + <u32>NAME_MAX + 64 < TABLES_MAX, "smbios: the tables are too long");
  for (let i = 0; i < min<i32>(value.length, NAME_MAX); i++) {
    const code = value.charCodeAt(i);
    store<u8>(tables + length++, code > 0x20 && code < 0x7f ? <u8>code : 0x20);
  }
  end();
}

function end(): void {
  store<u8>(tables + length++, 0);
}

// Two hashes of the name (FNV-1a, forwards and backwards), marked as a UUID of our own making.
function makeUuid(name: string): void {
  let first = FNV_OFFSET;
  let second = ~FNV_OFFSET;
  for (let i = 0; i < name.length; i++) {
    first = (first ^ name.charCodeAt(i)) * FNV_PRIME;
    second = (second ^ name.charCodeAt(name.length - 1 - i)) * FNV_PRIME;
  }
  store<u64>(uuid, first);
  store<u64>(uuid, second, 8);
  store<u8>(uuid, (load<u8>(uuid, 6) & 0x0f) | VERSION_8, 6);
  store<u8>(uuid, (load<u8>(uuid, 8) & 0x3f) | VARIANT, 8);
}
