// A decoded instruction, as it lies in the decoder's memo.
//
//    0  the 15 bytes, and the mode they were decoded for: the key
//   16  the fields that are small
//   80  immediate, displacement

/** A base or index that is not there, and a base that is RIP. */
export const NO_REGISTER: u32 = 16;
export const BASE_RIP: u32 = 17;

@unmanaged
export class Instruction {
  keyLow: u64;
  keyHigh: u64;
  operation: i32; // Operation
  length: u32;
  memorySize: u32; // of the memory operand in bytes
  registerSize: u32; // of the register operand in bytes
  register: u32; // 0..15; 16..19: AH, CH, DH, BH
  alu: u32; // bits 3..5 of the opcode or the reg field of ModRM; or a condition
  base: u32;
  index: u32;
  scale: u32; // the index is shifted by this
  segment: i32; // Segment
  addressSize: u32; // in bytes
  repeat: u32; // the last of the prefixes F2 and F3, or 0
  lock: u32; // with LOCK
  mode: u32; // 2, 4, 8: 16-, 32-, 64-bit code
  operandSize: u32;
  reserved: u32;
  immediate: u64;
  displacement: u64;
}
