// Arithmetic and logic on two operands, with the status flags that the instruction leaves.
//
// Source: Intel SDM volume 1, "Status Flags", and volume 2 for each instruction. Flags that it leaves
// undefined are what comes easily.

import { REPLY_SET_RFLAGS } from "../../gen/abi";
import { message } from "./message";
import { maskOf, signExtend } from "./numbers";

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
export function compute(op: u32, a: u64, b: u64, size: u32): u64 {
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
  // Bit n of the number is set for an n of even parity.
  if ((0x9669 >> (((<u32>result) ^ ((<u32>result) >> 4)) & 15)) & 1) flags |= PARITY;
  replaceFlags(STATUS, flags);
}

function replaceFlags(which: u64, flags: u64): void {
  message.rflags = (message.rflags & ~which) | (flags & which);
  message.reply_gprs |= REPLY_SET_RFLAGS;
}

export function setCarry(carry: bool): void {
  replaceFlags(CARRY, carry ? CARRY : 0);
}

export function setZero(zero: bool): void {
  replaceFlags(ZERO, zero ? ZERO : 0);
}

/** INC and DEC: as ADD or SUB of 1, but the carry stays. */
export function count(a: u64, op: Alu, size: u32): u64 {
  const carry = message.rflags & CARRY;
  const result = compute(op, a, 1, size);
  replaceFlags(CARRY, carry);
  return result;
}

/** NEG. */
export function negate(a: u64, size: u32): u64 {
  return compute(Alu.SUB, 0, a, size);
}

/** Of a value that is not 0: the number of its lowest bit, or its highest. */
export function scan(a: u64, highest: bool): u64 {
  return highest ? 63 - clz(a) : ctz(a);
}

/** IMUL of two registers' width: carry and overflow say that the product does not fit. */
export function multiply(a: u64, b: u64, size: u32): u64 {
  const x = <i64>signExtend(a, size);
  const y = <i64>signExtend(b, size);
  const product = x * y;
  const fits = size < 8 ? <i64>signExtend(<u64>product, size) == product : fits64(x, y, product);
  const result = (<u64>product) & maskOf(size);
  setFlags(result, size, fits ? 0 : CARRY | OVERFLOW);
  return result;
}

function fits64(x: i64, y: i64, product: i64): bool {
  if (x == 0) return true;
  if (x == -1) return y != i64.MIN_VALUE;
  return product / x == y;
}

/** ROL, ROR, RCL, RCR, SHL, SHR, SHL again, SAR, by `times` as the CPU cuts it. */
export function shift(op: u32, a: u64, times: u32, size: u32): u64 {
  const bits = size * 8;
  times &= size == 8 ? 63 : 31;
  if (times == 0) return a;
  switch (op) {
    case 0:
    case 1:
      return rotate(op == 0 ? times : bits - (times % bits), op == 0, a, bits);
    case 2:
    case 3:
      return rotateCarry(op == 2, times, a, bits);
    default:
      return shiftOut(op, a, times, size);
  }
}

function rotate(times: u32, left: bool, a: u64, bits: u32): u64 {
  const n = <u64>(times % bits);
  const result = n == 0 ? a : ((a << n) | (a >> (bits - n))) & maskOf(bits / 8);
  const top = (result >> (bits - 1)) & 1;
  const carry = left ? result & 1 : top;
  const beside = left ? carry : (result >> (bits - 2)) & 1;
  replaceFlags(CARRY | OVERFLOW, (carry ? CARRY : 0) | (top != beside ? OVERFLOW : 0));
  return result;
}

// Through the carry, a bit at a time: at most 63 of them.
function rotateCarry(left: bool, times: u32, a: u64, bits: u32): u64 {
  let carry = message.rflags & CARRY;
  times %= bits + 1;
  if (bits == 64) times = times & 63;
  for (let n: u32 = 0; n < times; n++) {
    if (left) {
      const out = (a >> (bits - 1)) & 1;
      a = ((a << 1) | carry) & maskOf(bits / 8);
      carry = out;
    } else {
      const out = a & 1;
      a = (a >> 1) | (carry << (bits - 1));
      carry = out;
    }
  }
  const top = (a >> (bits - 1)) & 1;
  const beside = left ? carry : (a >> (bits - 2)) & 1;
  replaceFlags(CARRY | OVERFLOW, (carry ? CARRY : 0) | (top != beside ? OVERFLOW : 0));
  return a;
}

function shiftOut(op: u32, a: u64, times: u32, size: u32): u64 {
  const bits = size * 8;
  const n = <u64>times;
  let result: u64 = 0;
  let out: u64 = 0;
  let flags: u64 = 0;
  if (op == 7) {
    const wide = <i64>signExtend(a, size);
    result = (<u64>(wide >> n)) & maskOf(size);
    out = (<u64>(wide >> (n - 1))) & 1;
  } else if (op == 5) {
    result = a >> n;
    out = (a >> (n - 1)) & 1;
    if (topBit(a, size)) flags |= OVERFLOW;
  } else {
    result = (a << n) & maskOf(size);
    out = times <= bits ? (a >> (bits - n)) & 1 : 0;
    if (topBit(result, size) != (out != 0)) flags |= OVERFLOW;
  }
  setFlags(result, size, flags | (out ? CARRY : 0));
  return result;
}
