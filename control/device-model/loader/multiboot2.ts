// Starts an image by Multiboot 2: entered in flat protected mode, EBX points to a list of tags.
//
// Source: Multiboot2 Specification version 2.0.

import { writeAcpiTables } from "../acpi/tables";
import { Config } from "../control-link";
import { readGuestBytes, writeGuest, writeGuestBytes } from "../guest-memory";
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
import { findHighest, findLowest, whyNotAt } from "./room";
import { inImage, readImage } from "./source";

const HEADER_MAGIC: u32 = 0xe85250d6;
const BOOT_MAGIC: u32 = 0x36d76289;
const SEARCHED: u64 = 32768;
const HEADER_SIZE: u32 = 16;
const REACH: u64 = 1 << 32;

// Tags of the header.
const WANT_END: u32 = 0;
const WANT_INFORMATION: u32 = 1;
const WANT_ADDRESSES: u32 = 2;
const WANT_ENTRY: u32 = 3;
const WANT_CONSOLE: u32 = 4;
const WANT_FRAMEBUFFER: u32 = 5;
const WANT_ALIGNED_MODULES: u32 = 6;
const WANT_EFI_SERVICES: u32 = 7; // this and the next two say what the image can do under EFI
const WANT_EFI_ENTRY: u32 = 9;
const WANT_RELOCATION: u32 = 10;
const OPTIONAL: u32 = 1;
const CONSOLE_REQUIRED: u32 = 1;
const PREFER_LOW: u32 = 1;
const PREFER_HIGH: u32 = 2;
const FROM_FILE_START: u32 = 0xffffffff;

// Tags of the information.
const TAG_END: u32 = 0;
const TAG_CMDLINE: u32 = 1;
const TAG_LOADER: u32 = 2;
const TAG_MODULE: u32 = 3;
const TAG_MEMORY: u32 = 4;
const TAG_MAP: u32 = 6;
const TAG_SECTIONS: u32 = 9;
const TAG_RSDP_OLD: u32 = 14;
const TAG_RSDP_NEW: u32 = 15;
const TAG_LOAD_BASE: u32 = 21;
// Bit n: a tag of type n can be given.
const GIVEN: u32 =
  (1 << TAG_CMDLINE) |
  (1 << TAG_LOADER) |
  (1 << TAG_MODULE) |
  (1 << TAG_MEMORY) |
  (1 << TAG_MAP) |
  (1 << TAG_SECTIONS) |
  (1 << TAG_RSDP_OLD) |
  (1 << TAG_RSDP_NEW) |
  (1 << TAG_LOAD_BASE);

const TAG_HEADER: u64 = 8;
const MODULE_SIZE: u64 = 16;
const RANGE_SIZE: u64 = 24;
const SECTIONS_HEADER: u64 = 20;
const RSDP_OLD_SIZE: u32 = 20;
const RSDP_NEW_SIZE: u32 = 36;
/** Room for the headers and padding of all tags but modules. */
const SLACK: u64 = 512;

const header: usize = memory.data(24, 8);
const rsdpBytes: usize = memory.data(40, 8);

class Wishes {
  relocatable: bool = false;
  lowest: u64 = 0;
  highest: u64 = 0;
  alignment: u64 = 1;
  preference: u32 = 0;
}

export function isMultiboot2(): bool {
  return findHeader(HEADER_MAGIC, 8, HEADER_SIZE, SEARCHED, 4) != u64.MAX_VALUE;
}

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadMultiboot2(config: Config): bool {
  const image = new MultibootImage();
  image.headerOffset = findHeader(HEADER_MAGIC, 8, HEADER_SIZE, SEARCHED, 4);
  if (image.headerOffset == u64.MAX_VALUE)
    return refuse(`no Multiboot2 header (0xe85250d6, with its checksum) in the first ${bytes(SEARCHED)}`);
  const wishes = new Wishes();
  if (!readTags(image, wishes) || !needElf(image)) return false;
  if (wishes.relocatable && !relocate(image, wishes)) return false;
  if (!placeImage(image) || !placeModules(config, image.high + image.shift)) return false;
  const elf = image.elf;
  const sections = elf === null ? 0 : sectionBytes(elf);
  if (sections == u64.MAX_VALUE) return false;
  const lists = <u64>bootModules.length * (MODULE_SIZE + 8) + memoryMap().length * RANGE_SIZE + sections;
  const info = new Info();
  if (!info.reserve(SLACK + lists + config.cmdlineLength + moduleTextBytes())) return false;
  loadMultibootImage(image);
  loadModules();
  writeInfo(config, image, wishes, info, writeAcpiTables(config.vcpus));
  return enterFlat(image.entry + image.shift, BOOT_MAGIC, info.start, 0);
}

function readTags(image: MultibootImage, wishes: Wishes): bool {
  readImage(header, image.headerOffset, HEADER_SIZE);
  const architecture = load<u32>(header + 4);
  if (architecture != 0) return refuse(`architecture is ${architecture}, not 0 (i386)`);
  const length = load<u32>(header + 8);
  if (length < HEADER_SIZE || !inImage(image.headerOffset, length) || image.headerOffset + length > SEARCHED)
    return refuse(`header_length ${bytes(length)} of the Multiboot2 header is impossible`);
  const end = image.headerOffset + length;
  let at = image.headerOffset + HEADER_SIZE;
  while (end - at >= TAG_HEADER) {
    readImage(header, at, <u32>TAG_HEADER);
    const type: u32 = load<u16>(header);
    const optional = (load<u16>(header + 2) & OPTIONAL) != 0;
    const size: u64 = load<u32>(header + 4);
    if (size < TAG_HEADER || size > end - at)
      return refuse(`size ${bytes(size)} of the Multiboot2 header's tag ${type} is impossible`);
    if (type == WANT_END) return true;
    if (!readTag(image, wishes, type, optional, at, size)) return false;
    const next = at + ((size + 7) & ~7);
    if (next > end) break;
    at = next;
  }
  return refuse("the Multiboot2 header has no end tag");
}

// Reads the first `need` bytes of a tag into `header`. False: refused.
function body(type: u32, at: u64, size: u64, need: u32): bool {
  if (size >= need) return readImage(header, at, need);
  return refuse(`size ${bytes(size)} of the Multiboot2 header's tag ${type} is less than ${need}`);
}

function readTag(image: MultibootImage, wishes: Wishes, type: u32, optional: bool, at: u64, size: u64): bool {
  if (type == WANT_INFORMATION) return optional || checkRequests(at, size);
  if (type == WANT_ADDRESSES) return body(type, at, size, 24) && readAddresses(image);
  if (type == WANT_ENTRY) {
    if (!body(type, at, size, 12)) return false;
    image.entry = load<u32>(header + 8);
    return true;
  }
  if (type == WANT_CONSOLE) {
    if (!body(type, at, size, 12)) return false;
    if (optional || !(load<u32>(header + 8) & CONSOLE_REQUIRED)) return true;
    return refuse("console_flags of the Multiboot2 header ask for a display: this VM has none");
  }
  if (type == WANT_FRAMEBUFFER)
    return (
      optional || refuse("tag 5 of the Multiboot2 header asks for a framebuffer: this VM has no display")
    );
  if (type == WANT_RELOCATION) return body(type, at, size, 24) && readRelocation(wishes);
  if (type == WANT_ALIGNED_MODULES || (type >= WANT_EFI_SERVICES && type <= WANT_EFI_ENTRY)) return true;
  return optional || refuse(`tag ${type} of the Multiboot2 header asks for what nobody knows`);
}

function checkRequests(at: u64, size: u64): bool {
  for (let offset: u64 = TAG_HEADER; offset + 4 <= size; offset += 4) {
    readImage(header, at + offset, 4);
    const type = load<u32>(header);
    if (type < 32 && GIVEN & (1 << type)) continue;
    return refuse(`the Multiboot2 header requests information of type ${type}, which there is not`);
  }
  return true;
}

function readAddresses(image: MultibootImage): bool {
  const raw = new RawImage();
  const start = load<u32>(header + 12);
  raw.header = load<u32>(header + 8);
  if (start == FROM_FILE_START && raw.header < image.headerOffset)
    return refuse(`header_addr ${figure(raw.header)} is less than the header's offset`);
  raw.load = start == FROM_FILE_START ? raw.header - image.headerOffset : start;
  raw.loadEnd = load<u32>(header + 16);
  raw.bssEnd = load<u32>(header + 20);
  return checkRaw(image, raw);
}

function readRelocation(wishes: Wishes): bool {
  wishes.relocatable = true;
  wishes.lowest = load<u32>(header + 8);
  wishes.highest = load<u32>(header + 12);
  wishes.alignment = max<u32>(load<u32>(header + 16), 1);
  wishes.preference = load<u32>(header + 20);
  if (popcnt(wishes.alignment) != 1)
    return refuse(`align ${figure(wishes.alignment)} of the Multiboot2 header's tag 10 is no power of two`);
  return (
    wishes.preference <= PREFER_HIGH ||
    refuse(`preference of the Multiboot2 header's tag 10 is ${wishes.preference}`)
  );
}

// Without a preference the image stays where it is linked, if it can.
function relocate(image: MultibootImage, wishes: Wishes): bool {
  const size = image.high - image.low;
  const end = min(wishes.highest + 1, REACH);
  const linked = image.low;
  const suits =
    linked % wishes.alignment == 0 && linked >= wishes.lowest && size <= end && linked <= end - size;
  if (wishes.preference == 0 && suits && whyNotAt(linked, size).length == 0) return true;
  const at =
    wishes.preference == PREFER_HIGH
      ? findHighest(size, wishes.alignment, wishes.lowest, end)
      : findLowest(size, wishes.alignment, wishes.lowest, end);
  image.shift = at - linked;
  if (at != 0) return true;
  const where = `min_addr ${figure(wishes.lowest)} and max_addr ${figure(wishes.highest)}`;
  return refuse(`${bytes(size)} between ${where} are not to be had in the VM's RAM`);
}

// Opens a tag; closed by `closeTag`, which writes its size.
function openTag(info: Info, type: u32): u64 {
  info.align(8);
  const at = info.at;
  info.u32(type);
  info.u32(0);
  return at;
}

function closeTag(info: Info, at: u64): void {
  writeGuest(at + 4, 4, info.at - at);
}

function textTag(info: Info, type: u32, text: usize, length: u32): void {
  const at = openTag(info, type);
  info.text(text, length);
  closeTag(info, at);
}

function copyTag(info: Info, type: u32, from: u64, size: u32): void {
  const at = openTag(info, type);
  readGuestBytes(rsdpBytes, from, size);
  writeGuestBytes(info.room(size), rsdpBytes, size);
  closeTag(info, at);
}

function writeInfo(config: Config, image: MultibootImage, wishes: Wishes, info: Info, rsdp: u64): void {
  info.u64(0); // its size, written at the end
  textTag(info, TAG_CMDLINE, config.cmdline, config.cmdlineLength);
  textTag(info, TAG_LOADER, LOADER_NAME, LOADER_NAME_LENGTH);
  for (let i = 0; i < bootModules.length; i++) {
    const module = bootModules[i];
    const at = openTag(info, TAG_MODULE);
    info.u32(module.start);
    info.u32(module.start + module.size);
    info.text(module.cmdline, module.cmdlineLength);
    closeTag(info, at);
  }
  const basic = openTag(info, TAG_MEMORY);
  info.u32(lowerKib());
  info.u32(upperKib());
  closeTag(info, basic);
  writeMap(info);
  const elf = image.elf;
  if (elf !== null && elf.sectionCount > 0) {
    const at = openTag(info, TAG_SECTIONS);
    info.u32(elf.sectionCount);
    info.u32(elf.sectionSize);
    info.u32(elf.sectionNames);
    writeSections(elf, info);
    closeTag(info, at);
  }
  copyTag(info, TAG_RSDP_OLD, rsdp, RSDP_OLD_SIZE);
  copyTag(info, TAG_RSDP_NEW, rsdp, RSDP_NEW_SIZE);
  if (wishes.relocatable) {
    const at = openTag(info, TAG_LOAD_BASE);
    info.u32(image.low + image.shift);
    closeTag(info, at);
  }
  closeTag(info, openTag(info, TAG_END));
  writeGuest(info.start, 4, info.at - info.start);
}

function writeMap(info: Info): void {
  const map = memoryMap();
  const at = openTag(info, TAG_MAP);
  info.u32(RANGE_SIZE);
  info.u32(0); // version
  for (let i = 0; i < map.length; i++) {
    info.u64(map[i].start);
    info.u64(map[i].size);
    info.u32(map[i].kind);
    info.u32(0);
  }
  closeTag(info, at);
}
