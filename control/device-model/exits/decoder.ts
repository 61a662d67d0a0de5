// Decodes one instruction with a memory operand: how long it is, and what it does.
//
// Source: Intel SDM volume 2, "Instruction Format". The address of the operand is not worked out here:
// the exit message has it. The tables are in opcodes.ts.

import {
  BYTE,
  IMMEDIATE,
  IMMEDIATE_8,
  MEMORY_16,
  MEMORY_32,
  MEMORY_8,
  MODRM,
  OFFSET,
  oneByteRow,
  ONLY_64,
  Operation,
  OPERATION_MASK,
  REG_IS_ZERO,
  twoByteRow,
} from "./opcodes";
import { signExtend } from "./numbers";

/** The longest instruction in bytes. */
export const INSTRUCTION_MAX: u32 = 15;

/** Where the bytes to be decoded are put. */
export const code: usize = memory.data(16, 16);

// The decoded instruction.
export let operation: Operation = Operation.UNKNOWN;
export let length: u32 = 0;
/** Size of the memory operand in bytes. */
export let memorySize: u32 = 0;
/** Size of the register operand in bytes. */
export let registerSize: u32 = 0;
/** The register operand, 0..15; 16..19: AH, CH, DH, BH. */
export let register: u32 = 0;
export let immediate: u64 = 0;
/** Of an arithmetic instruction: ADD, OR, ADC, SBB, AND, SUB, XOR, CMP. */
export let alu: u32 = 0;
/** Size of an address in bytes. */
export let addressSize: u32 = 0;

const REX_W: u32 = 8;
const REX_R: u32 = 4;
const FIRST_HIGH_BYTE: u32 = 16;

let at: u32 = 0;
let end: u32 = 0;
let rex: u32 = 0;
let operandSize: u32 = 0;

// Instructions decoded last, by their bytes: a driver uses the same few. A row: the 15 bytes and the mode,
// then at 16 the operation, length, sizes, register and alu as bytes, at 24 the immediate.
const ROW: u32 = 32;
const ROWS: u32 = 16; // a power of two
const memo: usize = memory.data(512, 16); // ROW * ROWS

/** As decode(), for the INSTRUCTION_MAX bytes at `code` that are the code at `rip`. */
export function decodeAt(rip: u64, mode: u32): bool {
  const low = load<u64>(code);
  const high = (load<u64>(code, 8) & 0x00ffffffffffffff) | ((<u64>mode) << 56);
  const row = memo + ((<u32>(rip ^ (rip >> 4))) & (ROWS - 1)) * ROW;
  if (load<u64>(row) == low && load<u64>(row, 8) == high) {
    operation = load<u8>(row, 16);
    length = load<u8>(row, 17);
    memorySize = load<u8>(row, 18);
    registerSize = load<u8>(row, 19);
    register = load<u8>(row, 20);
    alu = load<u8>(row, 21);
    immediate = load<u64>(row, 24);
    return true;
  }
  if (!decode(INSTRUCTION_MAX, mode)) return false;
  store<u64>(row, low);
  store<u64>(row, high, 8);
  store<u8>(row, <u8>operation, 16);
  store<u8>(row, <u8>length, 17);
  store<u8>(row, <u8>memorySize, 18);
  store<u8>(row, <u8>registerSize, 19);
  store<u8>(row, <u8>register, 20);
  store<u8>(row, <u8>alu, 21);
  store<u64>(row, immediate, 24);
  return true;
}

// The next byte of the instruction; beyond the end 0, and `at` shows that it was too long.
function next(): u32 {
  const byte: u32 = at < end ? load<u8>(code + at) : 0;
  at++;
  return byte;
}

/**
 * Decodes the `available` bytes at `code`, for code of `mode` 2 (16-bit), 4 or 8. False: not known, or
 * more bytes are needed than there are.
 */
export function decode(available: u32, mode: u32): bool {
  beginDecode(available);
  operation = Operation.UNKNOWN;
  const opcode = prefixes(mode);
  const row = opcode == 0x0f ? twoByteRow(next()) : oneByteRow(opcode);
  operation = <Operation>(row & OPERATION_MASK);
  if (operation == Operation.UNKNOWN || (row & ONLY_64 && mode != 8)) return false;
  sizes(row);
  register = 0;
  alu = (opcode >> 3) & 7;
  if (row & MODRM && !modrm(row)) return false;
  if (row & OFFSET) at += addressSize;
  if (row & IMMEDIATE) readImmediate(min<u32>(registerSize, 4));
  if (row & IMMEDIATE_8) readImmediate(1);
  length = at;
  return at <= end;
}

/** Starts at the first of the `available` bytes at `code`. */
export function beginDecode(available: u32): void {
  at = 0;
  end = min(available, INSTRUCTION_MAX);
}

/** Goes past all prefixes; returns the first opcode byte. */
export function prefixes(mode: u32): u32 {
  rex = 0;
  operandSize = mode == 2 ? 2 : 4;
  addressSize = mode;
  while (at < end) {
    const byte = next();
    if (mode == 8 && (byte & 0xf0) == 0x40) {
      rex = byte;
      continue;
    }
    if (!isPrefix(byte)) {
      if (rex & REX_W) operandSize = 8;
      return byte;
    }
    rex = 0; // a REX prefix that is not the last one does not count
    if (byte == 0x66) operandSize = mode == 2 ? 4 : 2;
    if (byte == 0x67) addressSize = mode == 4 ? 2 : 4;
  }
  return 0;
}

function isPrefix(byte: u32): bool {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

function sizes(row: u32): void {
  registerSize = row & BYTE ? 1 : operandSize;
  memorySize = registerSize;
  if (row & MEMORY_8) memorySize = 1;
  else if (row & MEMORY_16) memorySize = 2;
  else if (row & MEMORY_32) memorySize = 4;
}

function modrm(row: u32): bool {
  const byte = next();
  const mod = byte >> 6;
  const reg = (byte >> 3) & 7;
  if (mod == 3) return false; // no memory operand
  if (row & REG_IS_ZERO && reg != 0) return false;
  if (operation == Operation.ALU_IMMEDIATE) alu = reg;
  register = reg | ((rex & REX_R) << 1);
  if (registerSize == 1 && rex == 0 && reg >= 4) register = FIRST_HIGH_BYTE + reg - 4;
  if (addressSize == 2) skipDisplacement16(mod, byte & 7);
  else skipDisplacement(mod, byte & 7);
  return true;
}

function skipDisplacement16(mod: u32, rm: u32): void {
  if (mod == 1) at += 1;
  else if (mod == 2 || rm == 6) at += 2;
}

function skipDisplacement(mod: u32, rm: u32): void {
  const base = rm == 4 ? next() & 7 : rm;
  if (mod == 1) at += 1;
  else if (mod == 2 || base == 5) at += 4;
}

// Immediates are sign-extended to the operand size.
function readImmediate(size: u32): void {
  immediate = 0;
  for (let i: u32 = 0; i < size; i++) immediate |= (<u64>next()) << (8 * i);
  immediate = signExtend(immediate, size);
}
