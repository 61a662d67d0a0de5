// Starts an ELF image by PVH: a note names its 32-bit entry point, and EBX points to hvm_start_info.
//
// Source: Xen, "x86/HVM direct boot ABI" (docs/misc/pvh.pandoc) and public/arch-x86/hvm/start_info.h.

import { writeAcpiTables } from "../acpi/tables";
import { Config } from "../control-link";
import { memoryMap } from "../memory-map";
import { ElfImage, loadElf, placeElf, SEGMENT_LOAD, SEGMENT_NOTE } from "./elf";
import { enterFlat } from "./entry-state";
import { figure, refuse } from "./fail";
import { Info } from "./info";
import { bootModules, loadModules, moduleTextBytes, placeModules } from "./modules";
import { inImage, readImage } from "./source";

const START_MAGIC: u32 = 0x336ec578;
const START_VERSION: u32 = 1; // with a memory map
const START_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;
const RANGE_SIZE: u64 = 24;
const SLACK: u64 = 64;

// ELF notes.
const NOTE_HEADER: u32 = 12;
const XEN: u32 = 0x006e6558; // "Xen\0"
const PHYS32_ENTRY: u32 = 18;
export const NO_ENTRY: u64 = u64.MAX_VALUE;

const note: usize = memory.data(16, 8);

/** The entry point that the image's notes name; u64.MAX_VALUE: none does. */
export function pvhEntry(elf: ElfImage): u64 {
  for (let i = 0; i < elf.segments.length; i++) {
    const segment = elf.segments[i];
    if (segment.type != SEGMENT_NOTE || !inImage(segment.offset, segment.inFile)) continue;
    const entry = entryInNotes(segment.offset, segment.offset + segment.inFile, segment.align == 8 ? 8 : 4);
    if (entry != NO_ENTRY) return entry;
  }
  return NO_ENTRY;
}

function entryInNotes(start: u64, end: u64, alignment: u64): u64 {
  let at = start;
  while (end - at >= NOTE_HEADER && readImage(note, at, NOTE_HEADER)) {
    const nameSize: u64 = load<u32>(note);
    const size: u64 = load<u32>(note + 4);
    const type = load<u32>(note + 8);
    const name = at + NOTE_HEADER;
    const value = (name + nameSize + alignment - 1) & ~(alignment - 1);
    const next = (value + size + alignment - 1) & ~(alignment - 1);
    if (next > end) break;
    if (type == PHYS32_ENTRY && nameSize == 4 && (size == 4 || size == 8) && readImage(note, name, 4)) {
      store<u64>(note + 8, 0);
      if (load<u32>(note) == XEN && readImage(note + 8, value, <u32>size)) return load<u64>(note + 8);
    }
    at = next;
  }
  return NO_ENTRY;
}

function checkEntry(elf: ElfImage, entry: u64): bool {
  if (entry == NO_ENTRY) return refuse("no note XEN_ELFNOTE_PHYS32_ENTRY (18): it does not start by PVH");
  for (let i = 0; i < elf.segments.length; i++) {
    const segment = elf.segments[i];
    if (segment.type != SEGMENT_LOAD || entry < segment.physical) continue;
    if (entry - segment.physical < segment.inMemory) return true;
  }
  return refuse(`XEN_ELFNOTE_PHYS32_ENTRY ${figure(entry)} is in no program header of type PT_LOAD`);
}

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadPvh(config: Config, elf: ElfImage): bool {
  const entry = pvhEntry(elf);
  if (!placeElf(elf) || !checkEntry(elf, entry) || !placeModules(config, elf.high)) return false;
  const map = memoryMap();
  const lists = bootModules.length * MODULE_SIZE + map.length * RANGE_SIZE;
  const info = new Info();
  if (!info.reserve(START_SIZE + lists + config.cmdlineLength + moduleTextBytes() + SLACK)) return false;
  loadElf(elf);
  loadModules();
  writeStartInfo(config, info, writeAcpiTables(config.vcpus));
  return enterFlat(entry, 0, info.start, 0);
}

function writeStartInfo(config: Config, info: Info, rsdp: u64): void {
  const map = memoryMap();
  const modules = info.start + START_SIZE;
  const ranges = modules + bootModules.length * MODULE_SIZE;
  const cmdline = ranges + map.length * RANGE_SIZE;
  info.u32(START_MAGIC);
  info.u32(START_VERSION);
  info.u32(0); // flags
  info.u32(bootModules.length);
  info.u64(bootModules.length > 0 ? modules : 0);
  info.u64(cmdline);
  info.u64(rsdp);
  info.u64(ranges);
  info.u32(map.length);
  info.u32(0);
  let text = cmdline + config.cmdlineLength + 1;
  for (let i = 0; i < bootModules.length; i++) {
    const module = bootModules[i];
    info.u64(module.start);
    info.u64(module.size);
    info.u64(module.cmdlineLength > 0 ? text : 0);
    info.u64(0);
    text += module.cmdlineLength + 1;
  }
  for (let i = 0; i < map.length; i++) {
    info.u64(map[i].start);
    info.u64(map[i].size);
    info.u32(map[i].kind);
    info.u32(0);
  }
  info.text(config.cmdline, config.cmdlineLength);
  for (let i = 0; i < bootModules.length; i++)
    info.text(bootModules[i].cmdline, bootModules[i].cmdlineLength);
}
