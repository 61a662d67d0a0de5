// Reads and checks an ELF image, 32 or 64 bits: every field is hostile.
//
// Source: System V ABI, "Object Files" and "Program Loading".

import { bytes, figure, refuse } from "./fail";
import { claim, whyNotAt } from "./room";
import { imageSize, inImage, loadImage, readImage, scratch } from "./source";

// e_ident and the header; offsets that the two classes share.
const MAGIC: u32 = 0x464c457f;
const CLASS_AT: u32 = 4;
const DATA_AT: u32 = 5;
const TYPE_AT: u32 = 16;
const MACHINE_AT: u32 = 18;
const VERSION_AT: u32 = 20;
const CLASS_32: u32 = 1;
const CLASS_64: u32 = 2;
const LITTLE_ENDIAN: u32 = 1;
const TYPE_EXECUTABLE: u32 = 2;
const TYPE_SHARED: u32 = 3; // position-independent
const MACHINE_386: u32 = 3;
const MACHINE_X86_64: u32 = 62;

const HEADER_32: u32 = 52;
const HEADER_64: u32 = 64;
const SEGMENT_32: u32 = 32;
const SEGMENT_64: u32 = 56;
const MAX_SEGMENTS: u32 = 64;

export const SEGMENT_LOAD: u32 = 1;
export const SEGMENT_NOTE: u32 = 4;

const header: usize = memory.data(64, 8);

/** A program header. */
export class ElfSegment {
  type: u32 = 0;
  offset: u64 = 0;
  virtual: u64 = 0;
  physical: u64 = 0;
  inFile: u64 = 0;
  inMemory: u64 = 0;
  align: u64 = 0;
}

/** An image whose header and program headers have passed the checks. */
export class ElfImage {
  wide: bool = false;
  entry: u64 = 0;
  segments: ElfSegment[] = [];
  sectionOffset: u64 = 0;
  sectionSize: u32 = 0;
  sectionCount: u32 = 0;
  sectionNames: u32 = 0;
  /** Where it is loaded, less where it is linked. */
  shift: u64 = 0;
  /** [low, high): what its segments take, as linked. */
  low: u64 = u64.MAX_VALUE;
  high: u64 = 0;

  /**
   * The physical address of the entry point, as linked; u64.MAX_VALUE: it is in no segment. It is virtual by
   * the specification, and physical in images that were linked for no paging.
   */
  get entryAddress(): u64 {
    for (let i = 0; i < this.segments.length; i++) {
      const segment = this.segments[i];
      if (segment.type != SEGMENT_LOAD || this.entry < segment.virtual) continue;
      const into = this.entry - segment.virtual;
      if (into < segment.inMemory) return segment.physical + into;
    }
    for (let i = 0; i < this.segments.length; i++) {
      const segment = this.segments[i];
      if (segment.type != SEGMENT_LOAD || this.entry < segment.physical) continue;
      if (this.entry - segment.physical < segment.inMemory) return this.entry;
    }
    return u64.MAX_VALUE;
  }
}

/** Whether the image says that it is an ELF image. */
export function isElf(): bool {
  return readImage(header, 0, 4) && load<u32>(header) == MAGIC;
}

function fail(text: string): ElfImage | null {
  refuse(text);
  return null;
}

/** Checks the image. Null: it was refused, and the control domain told. */
export function parseElf(): ElfImage | null {
  if (!readImage(header, 0, HEADER_32)) return fail(`${bytes(imageSize)} are too few for an ELF header`);
  if (load<u32>(header) != MAGIC) return fail("no ELF image: it does not begin with 0x7f, ELF");
  const kind = load<u8>(header + CLASS_AT);
  if (kind != CLASS_32 && kind != CLASS_64) return fail(`EI_CLASS is ${kind.toString()}, not 1 or 2`);
  const elf = new ElfImage();
  elf.wide = kind == CLASS_64;
  if (elf.wide && !readImage(header, 0, HEADER_64)) return fail("the ELF header is truncated");
  if (load<u8>(header + DATA_AT) != LITTLE_ENDIAN) return fail("EI_DATA: not little-endian");
  if (load<u32>(header + VERSION_AT) != 1)
    return fail(`e_version is ${load<u32>(header + VERSION_AT)}, not 1`);
  const type = load<u16>(header + TYPE_AT);
  if (type != TYPE_EXECUTABLE && type != TYPE_SHARED)
    return fail(`e_type is ${type.toString()}: neither executable (2) nor position-independent (3)`);
  const machine = load<u16>(header + MACHINE_AT);
  if (machine != MACHINE_386 && machine != MACHINE_X86_64)
    return fail(`e_machine is ${machine.toString()}: neither i386 (3) nor x86-64 (62)`);
  return readSegments(elf) ? elf : null;
}

function readSegments(elf: ElfImage): bool {
  const wide = elf.wide;
  elf.entry = wide ? load<u64>(header + 24) : load<u32>(header + 24);
  const offset: u64 = wide ? load<u64>(header + 32) : load<u32>(header + 28);
  elf.sectionOffset = wide ? load<u64>(header + 40) : load<u32>(header + 32);
  const tail = header + (wide ? 54 : 42); // e_phentsize and what follows
  const size: u32 = load<u16>(tail);
  const count: u32 = load<u16>(tail + 2);
  elf.sectionSize = load<u16>(tail + 4);
  elf.sectionCount = load<u16>(tail + 6);
  elf.sectionNames = load<u16>(tail + 8);
  const expected = wide ? SEGMENT_64 : SEGMENT_32;
  if (count == 0) return refuse("e_phnum is 0: there is nothing to load");
  if (count > MAX_SEGMENTS) return refuse(`e_phnum is ${count}, more than ${MAX_SEGMENTS}`);
  if (size != expected) return refuse(`e_phentsize is ${size}, not ${expected}`);
  if (!readImage(scratch, offset, count * size))
    return refuse(
      `e_phoff ${figure(offset)}: ${count} program headers there go beyond the image's end (${bytes(imageSize)})`,
    );
  for (let i: u32 = 0; i < count; i++) {
    const segment = readSegment(scratch + i * size, wide);
    elf.segments.push(segment);
    if (segment.type == SEGMENT_LOAD && !checkSegment(elf, segment, i)) return false;
  }
  return elf.high > elf.low || refuse("no program header of type PT_LOAD holds anything");
}

function readSegment(at: usize, wide: bool): ElfSegment {
  const segment = new ElfSegment();
  segment.type = load<u32>(at);
  segment.offset = wide ? load<u64>(at + 8) : load<u32>(at + 4);
  segment.virtual = wide ? load<u64>(at + 16) : load<u32>(at + 8);
  segment.physical = wide ? load<u64>(at + 24) : load<u32>(at + 12);
  segment.inFile = wide ? load<u64>(at + 32) : load<u32>(at + 16);
  segment.inMemory = wide ? load<u64>(at + 40) : load<u32>(at + 20);
  segment.align = wide ? load<u64>(at + 48) : load<u32>(at + 28);
  return segment;
}

function checkSegment(elf: ElfImage, segment: ElfSegment, index: u32): bool {
  const name = `program header ${index}: `;
  if (segment.inMemory < segment.inFile)
    return refuse(
      `${name}p_filesz ${figure(segment.inFile)} is more than p_memsz ${figure(segment.inMemory)}`,
    );
  if (!inImage(segment.offset, segment.inFile))
    return refuse(
      `${name}p_offset ${figure(segment.offset)} and p_filesz ${figure(segment.inFile)} go beyond the image's end`,
    );
  if (segment.inMemory == 0) return true;
  const end = segment.physical + segment.inMemory;
  if (end < segment.physical) return refuse(`${name}p_paddr and p_memsz go beyond the last address`);
  elf.low = min(elf.low, segment.physical);
  elf.high = max(elf.high, end);
  return true;
}

/** Claims the memory of all segments, as they are linked. False: refused. */
export function placeElf(elf: ElfImage): bool {
  for (let i = 0; i < elf.segments.length; i++) {
    const segment = elf.segments[i];
    if (segment.type != SEGMENT_LOAD) continue;
    const start = segment.physical + elf.shift;
    const why = whyNotAt(start, segment.inMemory);
    if (why.length > 0) return refuse(`program header ${i}: p_paddr, p_memsz: ${why}`);
    claim(start, segment.inMemory, `program header ${i}`);
  }
  return true;
}

/** Copies all segments. What is in memory and not in the file is zero: a VM's memory is new. */
export function loadElf(elf: ElfImage): void {
  for (let i = 0; i < elf.segments.length; i++) {
    const segment = elf.segments[i];
    if (segment.type == SEGMENT_LOAD) loadImage(segment.physical + elf.shift, segment.offset, segment.inFile);
  }
}
