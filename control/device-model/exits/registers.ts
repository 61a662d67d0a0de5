// General-purpose registers of the exit message, by number and size.
//
// Numbers 16..19 are AH, CH, DH and BH (decoder.ts).

import { message } from "./message";
import { maskOf } from "./numbers";

const FIRST_HIGH_BYTE: u32 = 16;

/** Reads a register, zero-extended. size: 1, 2, 4, 8. */
export function readRegister(register: u32, size: u32): u64 {
  if (register >= FIRST_HIGH_BYTE) return (message.gpr[register & 3] >> 8) & 0xff;
  return message.gpr[register] & maskOf(size);
}

/** Writes a register as an instruction does: 4 bytes clear the upper half, 1 and 2 leave the rest. */
export function writeRegister(register: u32, size: u32, value: u64): void {
  const index = register & (register >= FIRST_HIGH_BYTE ? 3 : 15);
  if (register >= FIRST_HIGH_BYTE) {
    message.gpr[index] = (message.gpr[index] & ~0xff00) | ((value & 0xff) << 8);
  } else if (size >= 4) {
    message.gpr[index] = value & maskOf(size);
  } else {
    message.gpr[index] = (message.gpr[index] & ~maskOf(size)) | (value & maskOf(size));
  }
  message.reply_gprs |= 1 << index;
}
