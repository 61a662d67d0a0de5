// Brings the bytes of the instruction that caused an exit into the decoder's buffer.

import { ACCESS_EXECUTE } from "../../gen/abi";
import { readGuestBytes } from "../guest-memory";
import { code, INSTRUCTION_MAX } from "./decoder";
import { message } from "./message";
import { physical, translate } from "./page-walk";

const CS_LONG: u32 = 1 << 13; // VMX access rights: L
const CS_DEFAULT_32: u32 = 1 << 14; // D/B
const EFER_LMA: u64 = 0x400;
const PAGE: u32 = 4096;

/** Size of addresses in the code that runs: 2, 4 or 8. */
export function codeMode(): u32 {
  if (message.cs_access & CS_LONG && message.efer & EFER_LMA) return 8;
  return message.cs_access & CS_DEFAULT_32 ? 4 : 2;
}

/** Copies up to 15 bytes at CS:RIP to `code`; returns how many could be read. */
export function fetchInstruction(): u32 {
  if (message.access & ACCESS_EXECUTE) return 0; // the code itself is not in memory
  let linear = message.rip;
  if (codeMode() != 8) linear = (linear + message.cs_base) & 0xffffffff;
  // The usual case in two words: memory is whole pages, and the buffer has one byte more than is decoded.
  if (((<u32>linear) & (PAGE - 1)) <= PAGE - 16) {
    return translate(linear, false) && readGuestBytes(code, physical, 16) ? INSTRUCTION_MAX : 0;
  }
  let count: u32 = 0;
  while (count < INSTRUCTION_MAX) {
    const from = linear + count;
    const piece = min<u32>(INSTRUCTION_MAX - count, PAGE - ((<u32>from) & (PAGE - 1)));
    if (!translate(from, false) || !readGuestBytes(code + count, physical, piece)) break;
    count += piece;
  }
  return count;
}
