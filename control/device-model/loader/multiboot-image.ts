// What Multiboot 1 and 2 share: the header's place in the image, images that the header describes, their loading.
//
// Source: Multiboot Specification 0.6.96 and Multiboot2 Specification 2.0.

import { ElfImage, isElf, loadElf, parseElf, placeElf } from "./elf";
import { figure, refuse } from "./fail";
import { claim, whyNotAt } from "./room";
import { imageSize, inImage, loadImage, readImage, scratch, SCRATCH } from "./source";

/** Address fields of a header, as they are in it; then what follows from them. */
export class RawImage {
  header: u64 = 0;
  load: u64 = 0;
  loadEnd: u64 = 0;
  bssEnd: u64 = 0;
  /** Part of the file. */
  offset: u64 = 0;
  size: u64 = 0;
  /** Bytes in memory. */
  inMemory: u64 = 0;
}

/** An image that Multiboot loads: ELF, or what the header says. */
export class MultibootImage {
  headerOffset: u64 = 0;
  raw: RawImage | null = null;
  elf: ElfImage | null = null;
  /** The entry point that the header names, NO_ENTRY: it names none. */
  entry: u64 = NO_ENTRY;
  /** Where it is loaded, less where it is linked. */
  shift: u64 = 0;

  get low(): u64 {
    const raw = this.raw;
    return raw !== null ? raw.load : this.elf!.low;
  }

  get high(): u64 {
    const raw = this.raw;
    return raw !== null ? raw.load + raw.inMemory : this.elf!.high;
  }
}

export const NO_ENTRY: u64 = u64.MAX_VALUE;
const NOT_FOUND: u64 = u64.MAX_VALUE;

/**
 * The offset of the header: `magic`, aligned, with all `size` bytes in the first `limit`, its first `words` words
 * summing up to 0; u64.MAX_VALUE: there is none.
 */
export function findHeader(magic: u32, alignment: u32, size: u64, limit: u64, words: u32): u64 {
  const end = min(limit, imageSize);
  for (let chunk: u64 = 0; chunk < end; chunk += SCRATCH) {
    const length = <u32>min<u64>(SCRATCH, end - chunk);
    readImage(scratch, chunk, length);
    for (let at: u32 = 0; at + 4 <= length; at += alignment) {
      if (load<u32>(scratch + at) != magic || size > end - chunk - at) continue;
      if (sumOf(chunk + at, words) == 0) return chunk + at;
    }
  }
  return NOT_FOUND;
}

const words_: usize = memory.data(16, 4);

function sumOf(offset: u64, words: u32): u32 {
  let sum: u32 = 0;
  readImage(words_, offset, words * 4);
  for (let i: u32 = 0; i < words; i++) sum += load<u32>(words_ + i * 4);
  return sum;
}

/** Checks the addresses that a header gives. False: refused. */
export function checkRaw(image: MultibootImage, raw: RawImage): bool {
  if (raw.load > raw.header)
    return refuse(`load_addr ${figure(raw.load)} is above header_addr ${figure(raw.header)}`);
  const before = raw.header - raw.load;
  if (before > image.headerOffset)
    return refuse(
      `header_addr less load_addr is ${figure(before)}, and the header is at ${figure(image.headerOffset)}`,
    );
  raw.offset = image.headerOffset - before;
  if (raw.loadEnd == 0) raw.size = imageSize - raw.offset;
  else if (raw.loadEnd <= raw.load)
    return refuse(`load_end_addr ${figure(raw.loadEnd)} is not above load_addr`);
  else raw.size = raw.loadEnd - raw.load;
  if (!inImage(raw.offset, raw.size))
    return refuse(`load_end_addr ${figure(raw.loadEnd)} lies beyond the image's end`);
  raw.inMemory = raw.size;
  if (raw.bssEnd != 0) {
    if (raw.bssEnd < raw.load + raw.size)
      return refuse(`bss_end_addr ${figure(raw.bssEnd)} is below the end of what is loaded`);
    raw.inMemory = raw.bssEnd - raw.load;
  }
  image.raw = raw;
  return true;
}

/** Without addresses in the header the image must be ELF. False: refused. */
export function needElf(image: MultibootImage): bool {
  if (image.raw !== null) return true;
  if (!isElf()) return refuse("neither an ELF image nor addresses in its Multiboot header");
  image.elf = parseElf();
  return image.elf !== null;
}

/** Finds the entry point, as linked, and claims the memory at `shift`. False: refused. */
export function placeImage(image: MultibootImage): bool {
  const elf = image.elf;
  const raw = image.raw;
  if (raw !== null) {
    const why = whyNotAt(raw.load + image.shift, raw.inMemory);
    if (why.length > 0) return refuse(`load_addr: ${why}`);
    claim(raw.load + image.shift, raw.inMemory, "the kernel");
  } else {
    elf!.shift = image.shift;
    if (!placeElf(elf!)) return false;
    if (image.entry == NO_ENTRY) image.entry = elf!.entryAddress;
    if (image.entry == NO_ENTRY)
      return refuse(`e_entry ${figure(elf!.entry)} is in no program header of type PT_LOAD`);
  }
  if (image.entry < image.low || image.entry >= image.high)
    return refuse(
      `entry_addr ${figure(image.entry)} is outside of the image, ${figure(image.low)}..${figure(image.high)}`,
    );
  return true;
}

export function loadMultibootImage(image: MultibootImage): void {
  const raw = image.raw;
  if (raw !== null) loadImage(raw.load + image.shift, raw.offset, raw.size);
  else loadElf(image.elf!);
}
