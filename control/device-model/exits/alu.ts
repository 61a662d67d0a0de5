// Arithmetic and logic on two operands, with the status flags that the instruction leaves.
//
// Source: Intel SDM volume 1, "Status Flags", and volume 2 for each instruction.

import { REPLY_SET_RFLAGS } from "../../gen/abi";
import { message } from "./message";
import { maskOf } from "./numbers";

/** What the instruction does, in the order of the opcode map. */
export const enum Alu {
  ADD = 0,
  OR = 1,
  ADC = 2,
  SBB = 3,
  AND = 4,
  SUB = 5,
  XOR = 6,
  CMP = 7,
}

const CARRY: u64 = 1 << 0;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;
const STATUS: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;

/** a op b, for operands of `size` bytes; sets the flags of the exit message. CMP gives a - b. */
export function compute(op: Alu, a: u64, b: u64, size: u32): u64 {
  const mask = maskOf(size);
  a &= mask;
  b &= mask;
  switch (op) {
    case Alu.OR:
      return logic(a | b, size);
    case Alu.AND:
      return logic(a & b, size);
    case Alu.XOR:
      return logic(a ^ b, size);
    case Alu.ADD:
      return add(a, b, 0, size);
    case Alu.ADC:
      return add(a, b, message.rflags & CARRY, size);
    case Alu.SBB:
      return subtract(a, b, message.rflags & CARRY, size);
    default:
      return subtract(a, b, 0, size);
  }
}

function logic(result: u64, size: u32): u64 {
  setFlags(result, size, 0);
  return result;
}

function topBit(value: u64, size: u32): bool {
  return ((value >> (size * 8 - 1)) & 1) != 0;
}

function add(a: u64, b: u64, carry: u64, size: u32): u64 {
  const result = (a + b + carry) & maskOf(size);
  let flags: u64 = 0;
  // The carry out of each bit: both are set, or one is and the sum is not.
  if (topBit((a & b) | ((a | b) & ~result), size)) flags |= CARRY;
  if ((a ^ b ^ result) & 0x10) flags |= ADJUST;
  if (topBit((a ^ result) & (b ^ result), size)) flags |= OVERFLOW;
  setFlags(result, size, flags);
  return result;
}

function subtract(a: u64, b: u64, borrow: u64, size: u32): u64 {
  const result = (a - b - borrow) & maskOf(size);
  let flags: u64 = 0;
  if (topBit((~a & b) | ((~a | b) & result), size)) flags |= CARRY;
  if ((a ^ b ^ result) & 0x10) flags |= ADJUST;
  if (topBit((a ^ b) & (a ^ result), size)) flags |= OVERFLOW;
  setFlags(result, size, flags);
  return result;
}

// Adds the flags that depend on the result only.
function setFlags(result: u64, size: u32, flags: u64): void {
  if (result == 0) flags |= ZERO;
  if (topBit(result, size)) flags |= SIGN;
  if ((popcnt(result & 0xff) & 1) == 0) flags |= PARITY;
  message.rflags = (message.rflags & ~STATUS) | flags;
  message.reply_gprs |= REPLY_SET_RFLAGS;
}
