// The VM generation ID: 16 bytes in the VM's memory that are others after it was restored or cloned, and the event
// that says so. Systems mix them into their random numbers.
//
// Source: Microsoft, "Virtual Machine Generation ID": it lies in memory that is neither RAM nor ACPI's to reclaim.
// Firmware is told of it as by QEMU (docs/specs/vmgenid): it puts a file into memory and says where.

import { entropy } from "../lib/binding";
import { acpiPm, GPE_GENERATION } from "./chips/acpi-pm";
import { fwCfg } from "./chips/fw-cfg";
import { writeGuestBytes } from "./guest-memory";
import { GENERATION_GPA } from "./loader/layout";

export const GENERATION_SIZE: u32 = 16;
export const GENERATION_FILE = "etc/vmgenid_guid";
export const ADDRESS_FILE = "etc/vmgenid_addr";
/** Where it is in the file. So little is behind it that firmware does not take it for an ACPI table. */
export const GENERATION_OFFSET: u32 = 40;

const file: usize = memory.data(56, 8); // GENERATION_OFFSET + GENERATION_SIZE
const id: usize = file + GENERATION_OFFSET;
/** Where the VM has it; 0: nowhere yet. */
const address: usize = memory.data(8, 8);

/** Sets the first one: 16 bytes, or 0: any. Without entropy it stays zero until the first rebirth. */
export function startGeneration(from: usize): void {
  if (from != 0) memory.copy(id, from, GENERATION_SIZE);
  else entropy(id, GENERATION_SIZE);
}

/** Puts it into the memory of a VM that starts without firmware. */
export function writeGeneration(): void {
  store<u64>(address, GENERATION_GPA);
  publish();
}

/** Adds the file with it, and the one by which firmware says where it has put it. */
export function addGenerationFiles(): void {
  fwCfg.addFile(GENERATION_FILE, file, GENERATION_OFFSET + GENERATION_SIZE);
  fwCfg.addWritableFile(ADDRESS_FILE, address, 8);
}

/** From now on it is another one: 16 bytes. */
export function changeGeneration(from: usize): void {
  memory.copy(id, from, GENERATION_SIZE);
  publish();
  acpiPm.raise(GPE_GENERATION);
}

// Where firmware says what is not memory, nothing is written.
function publish(): void {
  const at = load<u64>(address);
  if (at != 0) writeGuestBytes(at, id, GENERATION_SIZE);
}
