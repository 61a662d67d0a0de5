// Writes boot_params, the "zero page" that a Linux kernel is started with, and its command line.
//
// Source: Linux Documentation/arch/x86/zero-page.rst and boot.rst.

import { fillGuest, writeGuest, writeGuestBytes } from "../guest-memory";
import { header, HEADER_START, KernelImage } from "./image";
import { ECAM_BASE, ECAM_SIZE } from "../pci/layout";
import { ACPI_GPA, ACPI_ROOM, BOOT_PARAMS_GPA, CMDLINE_GPA, HIGH_START, LOW_END } from "./layout";

const ACPI_RSDP_ADDR: u64 = 0x070;
const E820_ENTRIES: u64 = 0x1e8;
const TYPE_OF_LOADER: u64 = 0x210;
const CODE32_START: u64 = 0x214;
const RAMDISK_IMAGE: u64 = 0x218;
const RAMDISK_SIZE: u64 = 0x21c;
const CMD_LINE_PTR: u64 = 0x228;
const SETUP_DATA: u64 = 0x250;
const E820_TABLE: u64 = 0x2d0;
const E820_ENTRY: u64 = 20;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
const E820_ACPI: u32 = 3;
const LOADER_UNDEFINED: u32 = 0xff;

let entries: u64 = 0;

function addRange(start: u64, end: u64, kind: u32): void {
  const at = BOOT_PARAMS_GPA + E820_TABLE + entries * E820_ENTRY;
  writeGuest(at, 8, start);
  writeGuest(at + 8, 8, end - start);
  writeGuest(at + 16, 4, kind);
  entries++;
}

/** What is where, for boot_params. */
export class Placement {
  kernel: u64 = 0;
  initrd: u64 = 0;
  initrdSize: u64 = 0;
  rsdp: u64 = 0;
}

export function writeBootParams(image: KernelImage, place: Placement, memory: u64): void {
  fillGuest(BOOT_PARAMS_GPA, 0, 4096);
  writeGuestBytes(BOOT_PARAMS_GPA + HEADER_START, header + HEADER_START, image.headerEnd - HEADER_START);
  writeGuest(BOOT_PARAMS_GPA + ACPI_RSDP_ADDR, 8, place.rsdp);
  writeGuest(BOOT_PARAMS_GPA + TYPE_OF_LOADER, 1, LOADER_UNDEFINED);
  writeGuest(BOOT_PARAMS_GPA + CODE32_START, 4, place.kernel);
  writeGuest(BOOT_PARAMS_GPA + RAMDISK_IMAGE, 4, place.initrd);
  writeGuest(BOOT_PARAMS_GPA + RAMDISK_SIZE, 4, place.initrdSize);
  writeGuest(BOOT_PARAMS_GPA + CMD_LINE_PTR, 4, CMDLINE_GPA);
  writeGuest(BOOT_PARAMS_GPA + SETUP_DATA, 8, 0);
  entries = 0;
  addRange(0, LOW_END, E820_RAM);
  addRange(LOW_END, ACPI_GPA, E820_RESERVED);
  addRange(ACPI_GPA, ACPI_GPA + ACPI_ROOM, E820_ACPI);
  addRange(ACPI_GPA + ACPI_ROOM, HIGH_START, E820_RESERVED);
  addRange(HIGH_START, memory, E820_RAM);
  addRange(ECAM_BASE, ECAM_BASE + ECAM_SIZE, E820_RESERVED);
  writeGuest(BOOT_PARAMS_GPA + E820_ENTRIES, 1, entries);
}

/** Writes the command line with its terminator. */
export function writeCommandLine(from: usize, length: u32): void {
  writeGuestBytes(CMDLINE_GPA, from, length);
  writeGuest(CMDLINE_GPA + length, 1, 0);
}
