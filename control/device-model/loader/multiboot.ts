// Starts an image by Multiboot 1: entered in flat protected mode, EBX points to the Multiboot information.
//
// Source: Multiboot Specification version 0.6.96.

import { writeAcpiTables } from "../acpi/tables";
import { Config } from "../control-link";
import { memoryMap } from "../memory-map";
import { sectionBytes, writeSections } from "./elf-sections";
import { enterFlat } from "./entry-state";
import { bytes, figure, refuse } from "./fail";
import { Info, LOADER_NAME, LOADER_NAME_LENGTH, lowerKib, upperKib } from "./info";
import { bootModules, loadModules, moduleTextBytes, placeModules } from "./modules";
import {
  checkRaw,
  findHeader,
  loadMultibootImage,
  MultibootImage,
  needElf,
  placeImage,
  RawImage,
} from "./multiboot-image";
import { readImage } from "./source";

const HEADER_MAGIC: u32 = 0x1badb002;
const BOOT_MAGIC: u32 = 0x2badb002;
const SEARCHED: u64 = 8192;
const HEADER_SIZE: u32 = 12;
const ADDRESSES_SIZE: u32 = 32;

// Flags of the header.
const ALIGN_MODULES: u32 = 1 << 0;
const MEMORY: u32 = 1 << 1;
const VIDEO: u32 = 1 << 2;
const ADDRESSES: u32 = 1 << 16;
const MUST: u32 = 0xffff; // what is asked for here must be granted

// Flags of the information.
const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_SECTIONS: u32 = 1 << 5;
const HAS_MAP: u32 = 1 << 6;
const HAS_LOADER: u32 = 1 << 9;

const INFO_SIZE: u64 = 116;
const MODULE_SIZE: u64 = 16;
const RANGE_SIZE: u64 = 24;
const RANGE_REST: u64 = 20; // all of it but its own size field

const header: usize = memory.data(32, 4);

/** Whether the image has a header. */
export function isMultiboot(): bool {
  return findHeader(HEADER_MAGIC, 4, HEADER_SIZE, SEARCHED, 3) != u64.MAX_VALUE;
}

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadMultiboot(config: Config): bool {
  const image = new MultibootImage();
  image.headerOffset = findHeader(HEADER_MAGIC, 4, HEADER_SIZE, SEARCHED, 3);
  if (image.headerOffset == u64.MAX_VALUE)
    return refuse(`no Multiboot header (0x1badb002, with its checksum) in the first ${bytes(SEARCHED)}`);
  if (!readHeader(image) || !needElf(image) || !placeImage(image)) return false;
  if (!placeModules(config, image.high)) return false;
  const map = memoryMap();
  const elf = image.elf;
  const sections = elf === null ? 0 : sectionBytes(elf);
  if (sections == u64.MAX_VALUE) return false;
  const lists = bootModules.length * MODULE_SIZE + map.length * RANGE_SIZE + sections;
  const text = config.cmdlineLength + 1 + moduleTextBytes() + LOADER_NAME_LENGTH + 1;
  const info = new Info();
  if (!info.reserve(INFO_SIZE + lists + text + 64)) return false;
  loadMultibootImage(image);
  loadModules();
  writeAcpiTables(config.vcpus);
  writeInfo(config, image, info);
  return enterFlat(image.entry, BOOT_MAGIC, info.start, 0);
}

function readHeader(image: MultibootImage): bool {
  readImage(header, image.headerOffset, HEADER_SIZE);
  const flags = load<u32>(header + 4);
  if (flags & VIDEO)
    return refuse("flags bit 2 of the Multiboot header asks for a video mode: this VM has no display");
  if (flags & MUST & ~(ALIGN_MODULES | MEMORY))
    return refuse(`flags ${figure(flags)} of the Multiboot header ask for what nobody knows`);
  if (!(flags & ADDRESSES)) return true;
  if (!readImage(header, image.headerOffset, ADDRESSES_SIZE))
    return refuse("the address fields of the Multiboot header go beyond the image's end");
  const raw = new RawImage();
  raw.header = load<u32>(header + 12);
  raw.load = load<u32>(header + 16);
  raw.loadEnd = load<u32>(header + 20);
  raw.bssEnd = load<u32>(header + 24);
  image.entry = load<u32>(header + 28);
  return checkRaw(image, raw);
}

function writeInfo(config: Config, image: MultibootImage, info: Info): void {
  const map = memoryMap();
  info.room(INFO_SIZE);
  const start = info.start;
  const modules = info.room(bootModules.length * MODULE_SIZE);
  const ranges = info.at;
  for (let i = 0; i < map.length; i++) {
    info.u32(RANGE_REST);
    info.u64(map[i].start);
    info.u64(map[i].size);
    info.u32(map[i].kind);
  }
  const rangesEnd = info.at;
  let flags = HAS_MEMORY | HAS_CMDLINE | HAS_MODULES | HAS_MAP | HAS_LOADER;
  info.at = start + 4;
  info.u32(lowerKib());
  info.u32(upperKib());
  info.at = start + 44;
  info.u32(rangesEnd - ranges);
  info.u32(ranges);
  info.at = start + 20;
  info.u32(bootModules.length);
  info.u32(modules);
  info.at = rangesEnd;
  const cmdline = info.text(config.cmdline, config.cmdlineLength);
  const loader = info.text(LOADER_NAME, LOADER_NAME_LENGTH);
  for (let i = 0; i < bootModules.length; i++) {
    const module = bootModules[i];
    const text = info.text(module.cmdline, module.cmdlineLength);
    const after = info.at;
    info.at = modules + i * MODULE_SIZE;
    info.u32(module.start);
    info.u32(module.start + module.size);
    info.u32(text);
    info.at = after;
  }
  const elf = image.elf;
  if (elf !== null && elf.sectionCount > 0) {
    info.align(8);
    const sections = info.at;
    writeSections(elf, info);
    info.at = start + 28;
    info.u32(elf.sectionCount);
    info.u32(elf.sectionSize);
    info.u32(sections);
    info.u32(elf.sectionNames);
    flags |= HAS_SECTIONS;
  }
  info.at = start + 16;
  info.u32(cmdline);
  info.at = start + 64;
  info.u32(loader);
  info.at = start;
  info.u32(flags);
}
