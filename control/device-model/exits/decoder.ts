// Decodes one instruction with a memory operand: how long it is, what it does, and with which operands.
//
// Source: Intel SDM volume 2, "Instruction Format". The tables are in opcodes.ts.

import { Segment } from "../../gen/abi";
import { BASE_RIP, Instruction, NO_REGISTER } from "./instruction";
import { signExtend } from "./numbers";
import {
  BYTE,
  CONDITION,
  groupRow,
  IMMEDIATE,
  IMMEDIATE_8,
  LOCKABLE,
  MEMORY_16,
  MEMORY_32,
  MEMORY_8,
  MODRM,
  NEEDS_66,
  NO_66,
  NO_F3,
  NO_REPEAT,
  NOT_64,
  OFFSET,
  oneByteRow,
  ONLY_64,
  ONLY_MEMORY,
  Operation,
  OPERATION_MASK,
  PAIR,
  SHIFT,
  STACK,
  threeByteRow,
  twoByteRow,
} from "./opcodes";

/** The longest instruction in bytes. */
export const INSTRUCTION_MAX: u32 = 15;

/** Where the bytes to be decoded are put. */
export const code: usize = memory.data(16, 16);

/** What decode() says. */
export const enum Outcome {
  OK = 0,
  UNKNOWN = 1, // not emulated
  INVALID = 2, // no instruction
  TOO_LONG = 3, // more than 15 bytes
  CUT_SHORT = 4, // more bytes are needed than there are
}

const REX_W: u32 = 8;
const REX_R: u32 = 4;
const REX_X: u32 = 2;
const REX_B: u32 = 1;
const FIRST_HIGH_BYTE: u32 = 16;
const RSP: u32 = 4;
const RBP: u32 = 5;
const RBX: u32 = 3;
const RSI: u32 = 6;
const RDI: u32 = 7;
/** No segment prefix. */
const NO_CHOICE: i32 = 0xff;

// Instructions decoded last, by their bytes: a driver uses the same few. And one row for the rest.
const ROW: u32 = 96;
const ROWS: u32 = 16; // a power of two
const memo: usize = memory.data(1632, 16); // ROW * (ROWS + 1)

/** The instruction that was decoded last. */
export let decoded: Instruction = changetype<Instruction>(memo);

let at: u32 = 0;
let end: u32 = 0;
let rex: u32 = 0;
let chosen: i32 = 0;
let prefix66: bool = false;
let repeat: u32 = 0;
let lock: bool = false;
let operandSize: u32 = 0;
/** Size of an address in bytes. */
export let addressSize: u32 = 0;

/** As decode(), for the INSTRUCTION_MAX bytes at `code` that are the code at `rip`. */
export function decodeAt(rip: u64, mode: u32): Outcome {
  const low = load<u64>(code);
  const high = (load<u64>(code, 8) & 0x00ffffffffffffff) | ((<u64>mode) << 56);
  const row = changetype<Instruction>(memo + ((<u32>(rip ^ (rip >> 4))) & (ROWS - 1)) * ROW);
  decoded = row;
  if (row.keyLow == low && row.keyHigh == high) return Outcome.OK;
  row.keyHigh = 0; // no mode: matches nothing
  const outcome = decodeInto(row, INSTRUCTION_MAX, mode);
  if (outcome == Outcome.OK) {
    row.keyLow = low;
    row.keyHigh = high;
  }
  return outcome;
}

/** Decodes the `available` bytes at `code`, for code of `mode` 2 (16-bit), 4 or 8. */
export function decode(available: u32, mode: u32): Outcome {
  decoded = changetype<Instruction>(memo + ROWS * ROW);
  return decodeInto(decoded, available, mode);
}

function decodeInto(i: Instruction, available: u32, mode: u32): Outcome {
  beginDecode(available);
  const outcome = parse(i, mode);
  i.length = at;
  // What was read behind the end is not what is there.
  if (at > end) return end == INSTRUCTION_MAX ? Outcome.TOO_LONG : Outcome.CUT_SHORT;
  return outcome;
}

// The next byte of the instruction; beyond the end 0, and `at` shows that it was too long.
function next(): u32 {
  const byte: u32 = at < end ? load<u8>(code + at) : 0;
  at++;
  return byte;
}

function parse(i: Instruction, mode: u32): Outcome {
  let opcode = prefixes(mode);
  let row = opcode == 0x0f ? 0 : oneByteRow(opcode);
  if (opcode == 0x0f) {
    opcode = next();
    row = opcode == 0x38 ? threeByteRow(next()) : twoByteRow(opcode);
  }
  i.alu = row & CONDITION ? opcode & 15 : (opcode >> 3) & 7;
  if ((row & OPERATION_MASK) == Operation.GROUP || row & SHIFT) {
    i.alu = (peek() >> 3) & 7;
    if (!(row & SHIFT)) row = groupRow(row, i.alu);
  }
  const outcome = check(row, mode);
  if (outcome != Outcome.OK) return outcome;
  i.operation = <i32>(row & OPERATION_MASK);
  i.mode = mode;
  i.repeat = repeat;
  i.lock = lock ? 1 : 0;
  sizes(i, row, mode);
  i.register = 0;
  i.base = NO_REGISTER;
  i.index = NO_REGISTER;
  i.scale = 0;
  i.displacement = 0;
  i.segment = chosen == NO_CHOICE ? Segment.DS : chosen;
  if (row & MODRM) {
    const wrong = modrm(i, row);
    if (wrong != Outcome.OK) return wrong;
  }
  if (row & OFFSET) i.displacement = bytes(i.addressSize);
  i.immediate = 0;
  if (row & IMMEDIATE) i.immediate = signExtended(min<u32>(i.registerSize, 4));
  if (row & IMMEDIATE_8) i.immediate = signExtended(1);
  return Outcome.OK;
}

// The byte that next() would give.
function peek(): u32 {
  return at < end ? load<u8>(code + at) : 0;
}

// What the prefixes and the mode make of a row.
function check(row: u32, mode: u32): Outcome {
  const operation = row & OPERATION_MASK;
  if (operation == Operation.UNKNOWN) return Outcome.UNKNOWN;
  if (row & ONLY_64 && mode != 8) return Outcome.UNKNOWN;
  if (operation == Operation.INVALID || (row & NOT_64 && mode == 8)) return Outcome.INVALID;
  if (row & NO_REPEAT && repeat != 0) return Outcome.UNKNOWN;
  if (row & NO_F3 && repeat == 0xf3) return Outcome.UNKNOWN;
  if (row & NO_66 && prefix66) return Outcome.UNKNOWN;
  if (row & NEEDS_66 && !prefix66) return Outcome.UNKNOWN;
  return lock && !(row & LOCKABLE) ? Outcome.INVALID : Outcome.OK;
}

/** Starts at the first of the `available` bytes at `code`. */
export function beginDecode(available: u32): void {
  at = 0;
  end = min(available, INSTRUCTION_MAX);
}

/** Goes past all prefixes; returns the first opcode byte. */
export function prefixes(mode: u32): u32 {
  rex = 0;
  chosen = NO_CHOICE;
  prefix66 = false;
  repeat = 0;
  lock = false;
  addressSize = mode;
  let byte: u32 = 0;
  while (at < end) {
    byte = next();
    if (mode == 8 && (byte & 0xf0) == 0x40) {
      rex = byte;
      byte = 0;
      continue;
    }
    if (!prefix(byte, mode)) break;
    rex = 0; // a REX prefix that is not the last one does not count
    byte = 0;
  }
  operandSize = prefix66 == (mode == 2) ? 4 : 2;
  if (rex & REX_W) operandSize = 8;
  return byte;
}

// Takes one prefix. In 64-bit code the segments other than FS and GS cannot be chosen.
function prefix(byte: u32, mode: u32): bool {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e: {
      if (mode != 8) chosen = <i32>((byte >> 3) & 3); // ES, CS, SS, DS
      return true;
    }
    case 0x64:
    case 0x65: {
      chosen = byte == 0x64 ? Segment.FS : Segment.GS;
      return true;
    }
    case 0x66: {
      prefix66 = true;
      return true;
    }
    case 0x67: {
      addressSize = mode == 4 ? 2 : 4;
      return true;
    }
    case 0xf0: {
      lock = true;
      return true;
    }
    case 0xf2:
    case 0xf3: {
      repeat = byte;
      return true;
    }
    default:
      return false;
  }
}

function sizes(i: Instruction, row: u32, mode: u32): void {
  let size = operandSize;
  if (row & STACK && mode == 8 && size == 4) size = 8;
  if (row & BYTE) size = 1;
  let memory = size;
  if (row & MEMORY_8) memory = 1;
  else if (row & MEMORY_16) memory = 2;
  else if (row & MEMORY_32) memory = min<u32>(size, 4);
  if (row & PAIR) {
    size = rex & REX_W ? 8 : 4;
    memory = 2 * size;
  }
  // MOVNTI has no 16-bit form, and with 66 it is not MOVNTI: in 16-bit code it has 32 bits.
  if (row & NO_F3 && repeat == 0xf3) return Outcome.UNKNOWN;
  if (row & NO_66 && size == 2) memory = size = 4;
  i.operandSize = operandSize;
  i.registerSize = size;
  i.memorySize = memory;
  i.addressSize = addressSize;
}

function modrm(i: Instruction, row: u32): Outcome {
  const byte = next();
  const mod = byte >> 6;
  const reg = (byte >> 3) & 7;
  if (mod == 3) {
    // No memory operand. What can be locked cannot be locked then.
    return lock || row & ONLY_MEMORY ? Outcome.INVALID : Outcome.UNKNOWN;
  }
  let register = reg | ((rex & REX_R) << 1);
  if (i.operation == Operation.STORE_SEGMENT) {
    register = reg;
    if (reg > <u32>Segment.GS) return Outcome.INVALID;
  } else if (i.registerSize == 1 && rex == 0 && reg >= 4) register = FIRST_HIGH_BYTE + reg - 4;
  i.register = register;
  if (addressSize == 2) address16(i, mod, byte & 7);
  else address(i, mod, byte & 7);
  return Outcome.OK;
}

// The segment unless a prefix says otherwise.
function stackSegment(i: Instruction): void {
  if (chosen == NO_CHOICE) i.segment = Segment.SS;
}

function address16(i: Instruction, mod: u32, rm: u32): void {
  if (rm == 6 && mod == 0) {
    i.displacement = bytes(2);
    return;
  }
  // BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP, BX
  if (rm < 4) {
    i.base = rm & 2 ? RBP : RBX;
    i.index = rm & 1 ? RDI : RSI;
  } else {
    i.base = rm == 4 ? RSI : rm == 5 ? RDI : rm == 6 ? RBP : RBX;
  }
  if (i.base == RBP) stackSegment(i);
  if (mod != 0) i.displacement = signExtended(mod);
}

function address(i: Instruction, mod: u32, rm: u32): void {
  let base = rm;
  if (rm == 4) {
    const sib = next();
    const index = ((sib >> 3) & 7) | ((rex & REX_X) << 2);
    if (index != RSP) {
      i.index = index;
      i.scale = sib >> 6;
    }
    base = sib & 7;
  }
  if (base == 5 && mod == 0) {
    if (rm == 5 && i.mode == 8) i.base = BASE_RIP;
    i.displacement = signExtended(4);
    return;
  }
  base |= (rex & REX_B) << 3;
  i.base = base;
  if (base == RSP || base == RBP) stackSegment(i);
  if (mod != 0) i.displacement = signExtended(mod == 1 ? 1 : 4);
}

function bytes(size: u32): u64 {
  let value: u64 = 0;
  for (let n: u32 = 0; n < size; n++) value |= (<u64>next()) << (8 * n);
  return value;
}

function signExtended(size: u32): u64 {
  return signExtend(bytes(size), size);
}
