// Reads and checks the setup header of a Linux kernel image (bzImage): every field is hostile.
//
// Source: Linux Documentation/arch/x86/boot.rst, "The Linux/x86 Boot Protocol".
//
//   0       0x1f1          (setup_sects + 1) * 512                     size
//   | real-mode code, with  |  protected-mode code, syssize * 16 bytes  | (a signature, perhaps)
//   |   the setup header    |  64-bit entry point at its byte 0x200     |

import { sharedRead } from "../../lib/binding";
import { bytes, failLoad, figure } from "./fail";

/** Where the image is mapped, read-only. */
export const KERNEL_GPA: u64 = 0x20000000;

/** The setup header in the image and in boot_params. */
export const HEADER_START: u32 = 0x1f1;
const HEADER_NEEDED: u32 = 0x264; // up to init_size
const HEADER_LIMIT: u32 = 0x290; // where boot_params goes on with something else

const SETUP_SECTS: u32 = 0x1f1;
const SYSSIZE: u32 = 0x1f4;
const BOOT_FLAG: u32 = 0x1fe;
const JUMP_LENGTH: u32 = 0x201;
const MAGIC: u32 = 0x202;
const VERSION: u32 = 0x206;
const LOADFLAGS: u32 = 0x211;
const INITRD_ADDR_MAX: u32 = 0x22c;
const KERNEL_ALIGNMENT: u32 = 0x230;
const RELOCATABLE: u32 = 0x234;
const XLOADFLAGS: u32 = 0x236;
const CMDLINE_SIZE: u32 = 0x238;
const PREF_ADDRESS: u32 = 0x258;
const INIT_SIZE: u32 = 0x260;

const HDRS: u32 = 0x53726448;
const VERSION_MIN: u32 = 0x20c; // xloadflags
const LOADED_HIGH: u32 = 1;
const KERNEL_64: u32 = 1;
const ENTRY_64: u32 = 0x200;
const SECTOR: u64 = 512;
const ALIGNMENT_MAX: u32 = 0x40000000;

/** The image's first bytes, copied once: nothing is read twice. */
export const header: usize = memory.data(0x290, 16);

/** What the loader needs of an image that has passed the checks. */
export class KernelImage {
  headerEnd: u32 = 0; // the setup header is [HEADER_START, headerEnd) of `header`
  codeOffset: u64 = 0; // of the protected-mode code in the image
  codeSize: u64 = 0;
  alignment: u32 = 0;
  relocatable: bool = false;
  prefAddress: u64 = 0;
  initSize: u64 = 0;
  initrdMax: u64 = 0; // the highest address an initrd may have
  cmdlineMax: u32 = 0;
}

function byteAt(offset: u32): u32 {
  return load<u8>(header + offset);
}

function wordAt(offset: u32): u32 {
  return load<u16>(header + offset);
}

function longAt(offset: u32): u32 {
  return load<u32>(header + offset);
}

function fail(text: string): KernelImage | null {
  failLoad("kernel image", text, "plinth images");
  return null;
}

/** Checks the image of `size` bytes at KERNEL_GPA. Null: it was refused, and the control domain told. */
export function parseImage(size: u64): KernelImage | null {
  if (size < HEADER_LIMIT) {
    return fail(`${bytes(size)} are too few for a setup header (${bytes(HEADER_LIMIT)})`);
  }
  sharedRead(header, KERNEL_GPA, HEADER_LIMIT);
  if (wordAt(BOOT_FLAG) != 0xaa55) return fail(`boot_flag is ${figure(wordAt(BOOT_FLAG))}, not 0xaa55`);
  if (longAt(MAGIC) != HDRS) return fail('header is not "HdrS": this is no Linux bzImage');
  if (wordAt(VERSION) < VERSION_MIN) {
    return fail(`version ${figure(wordAt(VERSION))} of the boot protocol is too old (0x20c is the least)`);
  }
  const image = new KernelImage();
  image.headerEnd = MAGIC + byteAt(JUMP_LENGTH);
  if (image.headerEnd < HEADER_NEEDED || image.headerEnd > HEADER_LIMIT) {
    return fail(
      `jump says that the setup header ends at ${figure(image.headerEnd)}, outside of 0x264..0x290`,
    );
  }
  if (!(byteAt(LOADFLAGS) & LOADED_HIGH)) return fail("loadflags: LOADED_HIGH is clear: this is a zImage");
  if (!(wordAt(XLOADFLAGS) & KERNEL_64)) return fail("xloadflags: no 64-bit entry point");
  return checkCode(image, size) && checkPlacement(image) ? image : null;
}

function checkCode(image: KernelImage, size: u64): bool {
  let sectors = byteAt(SETUP_SECTS);
  if (sectors == 0) sectors = 4;
  image.codeOffset = (<u64>sectors + 1) * SECTOR;
  image.codeSize = <u64>longAt(SYSSIZE) * 16;
  if (image.codeOffset < HEADER_LIMIT || image.codeOffset >= size) {
    fail(`setup_sects ${sectors} puts the kernel beyond the end of the image (${bytes(size)})`);
    return false;
  }
  if (image.codeSize <= ENTRY_64) {
    fail(`syssize ${longAt(SYSSIZE)} is too small to hold the 64-bit entry point`);
    return false;
  }
  if (image.codeSize > size - image.codeOffset) {
    const there = bytes(size - image.codeOffset);
    fail(`syssize says ${bytes(image.codeSize)} of kernel, and the image holds ${there}: it is truncated`);
    return false;
  }
  return true;
}

function checkPlacement(image: KernelImage): bool {
  image.alignment = longAt(KERNEL_ALIGNMENT);
  image.relocatable = byteAt(RELOCATABLE) != 0;
  image.prefAddress = load<u64>(header + PREF_ADDRESS);
  image.initSize = longAt(INIT_SIZE);
  image.initrdMax = longAt(INITRD_ADDR_MAX);
  image.cmdlineMax = longAt(CMDLINE_SIZE);
  const alignment = image.alignment;
  if (alignment < 4096 || alignment > ALIGNMENT_MAX || popcnt(alignment) != 1) {
    fail(`kernel_alignment ${figure(alignment)} is no power of two from 4 KiB to 1 GiB`);
    return false;
  }
  if (image.initSize < image.codeSize) {
    fail(`init_size ${bytes(image.initSize)} is less than the kernel's own ${bytes(image.codeSize)}`);
    return false;
  }
  if (!image.relocatable && image.prefAddress % alignment != 0) {
    fail(`pref_address ${figure(image.prefAddress)} is not a multiple of kernel_alignment`);
    return false;
  }
  return true;
}
