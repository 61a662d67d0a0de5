// The device model with its decoder in the open, and with a piece of MMIO that behaves like memory.

import { claimMmio, MmioDevice } from "../../../control/device-model/mmio-bus";
import { code, decode, decoded } from "../../../control/device-model/exits/decoder";

export { init, exitBuffer, onExit, onEvents } from "../../../control/device-model/index";

const SIZE: u32 = 0x4000;
const cells: usize = memory.data(0x4000, 16);

/** How often it was read and written. */
let reads: u32 = 0;
let writes: u32 = 0;

class Scratch extends MmioDevice {
  mmioRead(offset: u32, size: u32): u64 {
    reads++;
    const at = cells + offset;
    return size == 8 ? load<u64>(at) : size == 4 ? load<u32>(at) : size == 2 ? load<u16>(at) : load<u8>(at);
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    writes++;
    const at = cells + offset;
    if (size == 8) store<u64>(at, value);
    else if (size == 4) store<u32>(at, <u32>value);
    else if (size == 2) store<u16>(at, <u16>value);
    else store<u8>(at, <u8>value);
  }
}

/** Puts the piece at an address; returns where its bytes are. */
export function scratch(gpa: u64): usize {
  claimMmio(new Scratch(), gpa, SIZE);
  return cells;
}

export function readCount(): u32 {
  return reads;
}

export function writeCount(): u32 {
  return writes;
}

/** Where the bytes to be decoded go. */
export function codeAt(): usize {
  return code;
}

/** Decodes; the result is an Outcome, the instruction lies at instructionAt(). */
export function tryDecode(available: u32, mode: u32): u32 {
  return decode(available, mode);
}

export function instructionAt(): usize {
  return changetype<usize>(decoded);
}
