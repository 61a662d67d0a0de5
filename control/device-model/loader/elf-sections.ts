// The section headers of an ELF image for its kernel: what Multiboot calls symbols.
//
// Source: Multiboot Specification, "Boot information format"; System V ABI, "Sections".

import { bytes, figure, refuse } from "./fail";
import { ElfImage } from "./elf";
import { Info } from "./info";
import { claim, findLowest } from "./room";
import { imageSize, inImage, loadImage, readImage } from "./source";
import { writeGuestBytes } from "../guest-memory";

const SECTION_32: u32 = 40;
const SECTION_64: u32 = 64;
const NONE: u32 = 0;
const NOBITS: u32 = 8;
const ALLOCATED: u64 = 2;
const PAGE: u64 = 4096;
const REACH: u64 = 1 << 32;

const header: usize = memory.data(64, 8);

/** Bytes of all section headers; 0: it has none; u64.MAX_VALUE: refused. */
export function sectionBytes(elf: ElfImage): u64 {
  if (elf.sectionOffset == 0) elf.sectionCount = 0;
  if (elf.sectionCount == 0) return 0;
  const expected = elf.wide ? SECTION_64 : SECTION_32;
  const size = <u64>elf.sectionCount * expected;
  let text = "";
  if (elf.sectionSize != expected) text = `e_shentsize is ${elf.sectionSize}, not ${expected}`;
  else if (!inImage(elf.sectionOffset, size))
    text = `e_shoff ${figure(elf.sectionOffset)}: ${elf.sectionCount} section headers there go beyond the image's end (${bytes(imageSize)})`;
  if (text.length == 0) return size;
  refuse(text);
  return u64.MAX_VALUE;
}

/** Writes the headers. Sections that are not part of the program get a place of their own, if there is room. */
export function writeSections(elf: ElfImage, info: Info): void {
  const size = elf.sectionSize;
  for (let i: u32 = 0; i < elf.sectionCount; i++) {
    readImage(header, elf.sectionOffset + i * size, size);
    const place = placeSection(elf, i);
    if (place != 0) {
      if (elf.wide) store<u64>(header + 16, place);
      else store<u32>(header + 12, <u32>place);
    }
    writeGuestBytes(info.room(size), header, size);
  }
}

// Loads the section whose header was read, if the program does not; returns where, or 0.
function placeSection(elf: ElfImage, index: u32): u64 {
  const wide = elf.wide;
  const type = load<u32>(header + 4);
  const flags: u64 = wide ? load<u64>(header + 8) : load<u32>(header + 8);
  const offset: u64 = wide ? load<u64>(header + 24) : load<u32>(header + 16);
  const size: u64 = wide ? load<u64>(header + 32) : load<u32>(header + 20);
  if (type == NONE || type == NOBITS || flags & ALLOCATED || size == 0 || !inImage(offset, size)) return 0;
  const place = findLowest(size, PAGE, elf.high + elf.shift, REACH);
  if (place == 0) return 0;
  claim(place, size, `section ${index}`);
  loadImage(place, offset, size);
  return place;
}
