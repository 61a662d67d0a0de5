// Brings the bytes of the instruction that caused an exit into the decoder's buffer.

import { readGuestBytes, rereadGuest16 } from "../guest-memory";
import { code, INSTRUCTION_MAX } from "./decoder";
import { message } from "./message";
import { isCodeKnown, physical, rememberCode, translateCode } from "./page-walk";

const CS_LONG: u32 = 1 << 13; // VMX access rights: L
const CS_DEFAULT_32: u32 = 1 << 14; // D/B
const EFER_LMA: u64 = 0x400;
const PAGE: u32 = 4096;

/** Size of addresses in the code that runs: 2, 4 or 8. */
export function codeMode(): u32 {
  if (message.cs_access & CS_LONG && message.efer & EFER_LMA) return 8;
  return message.cs_access & CS_DEFAULT_32 ? 4 : 2;
}

/**
 * Copies up to 15 bytes at CS:RIP to `code`; returns how many could be read. Fewer: the fault of the
 * first that could not is noted. What is not in memory reads as ones.
 */
export function fetchInstruction(mode: u32): u32 {
  let linear = message.rip;
  if (mode != 8) linear = (linear + message.cs_base) & 0xffffffff;
  // The usual case in two words: memory is whole pages, and the buffer has one byte more than is decoded.
  if (((<u32>linear) & (PAGE - 1)) <= PAGE - 16) {
    if (isCodeKnown(linear)) {
      rereadGuest16(code, physical);
      return INSTRUCTION_MAX;
    }
    if (!translateCode(linear)) return 0;
    if (readGuestBytes(code, physical, 16)) rememberCode(linear);
    else memory.fill(code, 0xff, 16);
    return INSTRUCTION_MAX;
  }
  let count: u32 = 0;
  while (count < INSTRUCTION_MAX) {
    let from = linear + count;
    if (mode != 8) from &= 0xffffffff;
    const piece = min<u32>(INSTRUCTION_MAX - count, PAGE - ((<u32>from) & (PAGE - 1)));
    if (!translateCode(from)) break;
    if (!readGuestBytes(code + count, physical, piece)) memory.fill(code + count, 0xff, piece);
    count += piece;
  }
  return count;
}
