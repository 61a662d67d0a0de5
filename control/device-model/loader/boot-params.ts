// Writes boot_params, the "zero page" that a Linux kernel is started with, and its command line.
//
// Source: Linux Documentation/arch/x86/zero-page.rst and boot.rst.

import { fillGuest, writeGuest, writeGuestBytes } from "../guest-memory";
import { memoryMap } from "../memory-map";
import { header, HEADER_START, KernelImage } from "./image";
import { BOOT_PARAMS_GPA, CMDLINE_GPA } from "./layout";

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

const LOADER_UNDEFINED: u32 = 0xff;

/** What is where, for boot_params. */
export class Placement {
  kernel: u64 = 0;
  initrd: u64 = 0;
  initrdSize: u64 = 0;
  rsdp: u64 = 0;
}

export function writeBootParams(image: KernelImage, place: Placement): void {
  fillGuest(BOOT_PARAMS_GPA, 0, 4096);
  writeGuestBytes(BOOT_PARAMS_GPA + HEADER_START, header + HEADER_START, image.headerEnd - HEADER_START);
  writeGuest(BOOT_PARAMS_GPA + ACPI_RSDP_ADDR, 8, place.rsdp);
  writeGuest(BOOT_PARAMS_GPA + TYPE_OF_LOADER, 1, LOADER_UNDEFINED);
  writeGuest(BOOT_PARAMS_GPA + CODE32_START, 4, place.kernel);
  writeGuest(BOOT_PARAMS_GPA + RAMDISK_IMAGE, 4, place.initrd);
  writeGuest(BOOT_PARAMS_GPA + RAMDISK_SIZE, 4, place.initrdSize);
  writeGuest(BOOT_PARAMS_GPA + CMD_LINE_PTR, 4, CMDLINE_GPA);
  writeGuest(BOOT_PARAMS_GPA + SETUP_DATA, 8, 0);
  const map = memoryMap();
  for (let i = 0; i < map.length; i++) {
    const at = BOOT_PARAMS_GPA + E820_TABLE + i * E820_ENTRY;
    writeGuest(at, 8, map[i].start);
    writeGuest(at + 8, 8, map[i].size);
    writeGuest(at + 16, 4, map[i].kind);
  }
  writeGuest(BOOT_PARAMS_GPA + E820_ENTRIES, 1, map.length);
}

/** Writes the command line with its terminator. */
export function writeCommandLine(from: usize, length: u32): void {
  writeGuestBytes(CMDLINE_GPA, from, length);
  writeGuest(CMDLINE_GPA + length, 1, 0);
}
