// Reads and checks the setup header of a Linux kernel image (bzImage): every field is hostile.
//
// Source: Linux Documentation/arch/x86/boot.rst, "The Linux/x86 Boot Protocol".
//
//   0       0x1f1          (setup_sects + 1) * 512                     size
//   | real-mode code, with  |  protected-mode code, syssize * 16 bytes  | (a signature, perhaps)
//   |   the setup header    |  32-bit entry point at its byte 0, 64-bit |
//   |                       |  entry point at its byte 0x200            |

import { bytes, figure, refuse } from "./fail";
import { imageSize, readImage } from "./source";

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
const VERSION_MIN: u32 = 0x20a; // init_size and pref_address
const VERSION_64: u32 = 0x20c; // xloadflags
const LOADED_HIGH: u32 = 1;
const KERNEL_64: u32 = 1;
const ENTRY_64: u32 = 0x200;
const SECTOR: u64 = 512;
const PARAGRAPH: u64 = 16;
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
  /** It is entered at its 64-bit entry point. */
  wide: bool = false;
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
  refuse(text);
  return null;
}

/** Whether the image says that it is a Linux kernel. */
export function isLinux(): bool {
  return readImage(header, 0, HEADER_LIMIT) && longAt(MAGIC) == HDRS;
}

/**
 * Checks the image. `want`: the entry point to use, 32 or 64; 0: the 64-bit one if it has one.
 * Null: it was refused, and the control domain told.
 */
export function parseImage(want: u32): KernelImage | null {
  const size = imageSize;
  if (!readImage(header, 0, HEADER_LIMIT))
    return fail(`${bytes(size)} are too few for a setup header (${bytes(HEADER_LIMIT)})`);
  if (wordAt(BOOT_FLAG) != 0xaa55) return fail(`boot_flag is ${figure(wordAt(BOOT_FLAG))}, not 0xaa55`);
  if (longAt(MAGIC) != HDRS) return fail('header is not "HdrS": this is no Linux bzImage');
  const version = wordAt(VERSION);
  const least = want == 64 ? VERSION_64 : VERSION_MIN;
  if (version < least)
    return fail(`version ${figure(version)} of the boot protocol is too old (${figure(least)} is the least)`);
  const image = new KernelImage();
  image.headerEnd = MAGIC + byteAt(JUMP_LENGTH);
  if (image.headerEnd < HEADER_NEEDED || image.headerEnd > HEADER_LIMIT) {
    return fail(
      `jump says that the setup header ends at ${figure(image.headerEnd)}, outside of 0x264..0x290`,
    );
  }
  if (!(byteAt(LOADFLAGS) & LOADED_HIGH)) return fail("loadflags: LOADED_HIGH is clear: this is a zImage");
  const has64 = version >= VERSION_64 && (wordAt(XLOADFLAGS) & KERNEL_64) != 0;
  if (want == 64 && !has64)
    return fail("xloadflags: no 64-bit entry point; boot: linux32 uses the 32-bit one");
  image.wide = has64 && want != 32;
  return checkCode(image, size) && checkPlacement(image) ? image : null;
}

function checkCode(image: KernelImage, size: u64): bool {
  let sectors = byteAt(SETUP_SECTS);
  if (sectors == 0) sectors = 4;
  image.codeOffset = (<u64>sectors + 1) * SECTOR;
  image.codeSize = <u64>longAt(SYSSIZE) * PARAGRAPH;
  if (image.codeOffset < HEADER_LIMIT || image.codeOffset >= size)
    return refuse(`setup_sects ${sectors} puts the kernel beyond the end of the image (${bytes(size)})`);
  if (image.codeSize <= (image.wide ? ENTRY_64 : 0))
    return refuse(`syssize ${longAt(SYSSIZE)} is too small to hold the entry point`);
  // syssize counts in paragraphs, and the last one need not be full.
  const there = size - image.codeOffset;
  if (image.codeSize >= there + PARAGRAPH)
    return refuse(
      `syssize says ${bytes(image.codeSize)} of kernel, and the image holds ${bytes(there)}: it is truncated`,
    );
  image.codeSize = min(image.codeSize, there);
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
  if (alignment < 4096 || alignment > ALIGNMENT_MAX || popcnt(alignment) != 1)
    return refuse(`kernel_alignment ${figure(alignment)} is no power of two from 4 KiB to 1 GiB`);
  if (image.initSize < image.codeSize)
    return refuse(
      `init_size ${bytes(image.initSize)} is less than the kernel's own ${bytes(image.codeSize)}`,
    );
  if (!image.relocatable && image.prefAddress % alignment != 0)
    return refuse(`pref_address ${figure(image.prefAddress)} is not a multiple of kernel_alignment`);
  return true;
}
