// Does a decoded instruction with its memory operand: registers and flags of the exit message change.
//
// Every fault comes before the first effect.

import { Segment } from "../../gen/abi";
import { Alu, compute, count, multiply, negate, scan, setCarry, setZero, shift } from "./alu";
import { holds } from "./conditions";
import { fault, GENERAL_PROTECTION } from "./fault";
import { Instruction } from "./instruction";
import { message } from "./message";
import { maskOf, signExtend, swapBytes } from "./numbers";
import { Operation } from "./opcodes";
import { offsetOf, Place } from "./place";
import { readRegister, writeRegister } from "./registers";
import { segment, stackSize } from "./segments";

const RAX: u32 = 0;
const RCX: u32 = 1;
const RDX: u32 = 2;
const RBX: u32 = 3;
const RSP: u32 = 4;
const BIT_TEST: u32 = 4; // BT; then BTS, BTR, BTC

const operand = new Place();
const stack = new Place();

/** Does an instruction of one operand, whose address the exit tells. */
export function execute(i: Instruction): void {
  operand.set(message.gpa, i.memorySize);
  perform(i);
}

/** Does an instruction other than those of strings, with operands found by registers and page tables. */
export function executeExactly(i: Instruction): bool {
  const size: u32 = i.memorySize;
  operand.forget();
  stack.forget();
  switch (i.operation) {
    case Operation.COMPARE_EXCHANGE_PAIR:
      return exchangePair(i, size);
    case Operation.PUSH:
      return push(i, size);
    case Operation.POP:
      return pop(i, size);
    default: {
      if (!locate(i, offsetOf(i) + bitOffset(i, size), size, writes(i))) return false;
      perform(i);
      return true;
    }
  }
}

function locate(i: Instruction, offset: u64, size: u32, write: bool): bool {
  return operand.locate(i.segment, offset & maskOf(i.addressSize), size, write, i.mode);
}

// BT and its kin with a register count bits from the operand on, in both directions.
function bitOffset(i: Instruction, size: u32): u64 {
  if (i.operation != Operation.BIT_REGISTER) return 0;
  const bits = <i64>signExtend(readRegister(i.register, size), size);
  return <u64>((bits >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size);
}

function writes(i: Instruction): bool {
  switch (i.operation) {
    case Operation.ALU_MEMORY:
    case Operation.ALU_IMMEDIATE:
      return i.alu != Alu.CMP;
    case Operation.BIT_IMMEDIATE:
    case Operation.BIT_REGISTER:
      return i.alu != BIT_TEST;
    case Operation.STORE:
    case Operation.STORE_IMMEDIATE:
    case Operation.STORE_SWAPPED:
    case Operation.STORE_SEGMENT:
    case Operation.SET_CONDITION:
    case Operation.EXCHANGE:
    case Operation.EXCHANGE_ADD:
    case Operation.COMPARE_EXCHANGE:
    case Operation.INCREMENT:
    case Operation.DECREMENT:
    case Operation.NOT:
    case Operation.NEGATE:
    case Operation.SHIFT_IMMEDIATE:
    case Operation.SHIFT_ONE:
    case Operation.SHIFT_CL:
      return true;
    default:
      return false;
  }
}

function perform(i: Instruction): void {
  const size: u32 = i.memorySize;
  const register: u32 = i.register;
  switch (i.operation) {
    case Operation.LOAD:
      return writeRegister(register, i.registerSize, operand.read(size));
    case Operation.LOAD_SIGNED:
      return writeRegister(register, i.registerSize, signExtend(operand.read(size), size));
    case Operation.LOAD_SWAPPED:
      return writeRegister(register, size, swapBytes(operand.read(size), size));
    case Operation.STORE:
      return operand.write(size, readRegister(register, size));
    case Operation.STORE_IMMEDIATE:
      return operand.write(size, i.immediate);
    case Operation.STORE_SWAPPED:
      return operand.write(size, swapBytes(readRegister(register, size), size));
    case Operation.STORE_SEGMENT:
      return operand.write(size, segment(<i32>register).selector);
    case Operation.SET_CONDITION:
      return operand.write(1, holds(i.alu) ? 1 : 0);
    case Operation.MOVE_CONDITION: {
      const data = operand.read(size);
      // A 32-bit destination loses its upper half in any case.
      return writeRegister(register, size, holds(i.alu) ? data : readRegister(register, size));
    }
    case Operation.ALU_MEMORY:
      return change(i, readRegister(register, size));
    case Operation.ALU_IMMEDIATE:
      return change(i, i.immediate);
    case Operation.ALU_REGISTER: {
      const result = compute(i.alu, readRegister(register, size), operand.read(size), size);
      if (i.alu != Alu.CMP) writeRegister(register, size, result);
      return;
    }
    case Operation.TEST_REGISTER: {
      compute(Alu.AND, operand.read(size), readRegister(register, size), size);
      return;
    }
    case Operation.TEST_IMMEDIATE: {
      compute(Alu.AND, operand.read(size), i.immediate, size);
      return;
    }
    case Operation.EXCHANGE: {
      const old = operand.read(size);
      operand.write(size, readRegister(register, size));
      return writeRegister(register, size, old);
    }
    case Operation.EXCHANGE_ADD: {
      const old = operand.read(size);
      operand.write(size, compute(Alu.ADD, old, readRegister(register, size), size));
      return writeRegister(register, size, old);
    }
    case Operation.COMPARE_EXCHANGE: {
      const old = operand.read(size);
      compute(Alu.CMP, readRegister(RAX, size), old, size);
      if (readRegister(RAX, size) == old) operand.write(size, readRegister(register, size));
      else writeRegister(RAX, size, old);
      return;
    }
    case Operation.INCREMENT:
      return operand.write(size, count(operand.read(size), Alu.ADD, size));
    case Operation.DECREMENT:
      return operand.write(size, count(operand.read(size), Alu.SUB, size));
    case Operation.NOT:
      return operand.write(size, ~operand.read(size));
    case Operation.NEGATE:
      return operand.write(size, negate(operand.read(size), size));
    case Operation.SHIFT_IMMEDIATE:
      return operand.write(size, shift(i.alu, operand.read(size), <u32>i.immediate, size));
    case Operation.SHIFT_ONE:
      return operand.write(size, shift(i.alu, operand.read(size), 1, size));
    case Operation.SHIFT_CL:
      return operand.write(size, shift(i.alu, operand.read(size), <u32>message.gpr[RCX], size));
    case Operation.BIT_IMMEDIATE:
      return changeBit(i, i.immediate, size);
    case Operation.BIT_REGISTER:
      return changeBit(i, readRegister(register, size), size);
    case Operation.MULTIPLY:
      return writeRegister(register, size, multiply(readRegister(register, size), operand.read(size), size));
    case Operation.MULTIPLY_IMMEDIATE:
      return writeRegister(register, size, multiply(operand.read(size), i.immediate, size));
    case Operation.SCAN_FORWARD:
    case Operation.SCAN_REVERSE: {
      const data = operand.read(size);
      setZero(data == 0);
      if (data == 0) return; // the register stays
      return writeRegister(register, size, scan(data, i.operation == Operation.SCAN_REVERSE));
    }
    default:
      return; // NOTHING
  }
}

function change(i: Instruction, other: u64): void {
  const size: u32 = i.memorySize;
  const result = compute(i.alu, operand.read(size), other, size);
  if (i.alu != Alu.CMP) operand.write(size, result);
}

function changeBit(i: Instruction, position: u64, size: u32): void {
  const data = operand.read(size);
  const bit = (<u64>1) << (position & (8 * size - 1));
  setCarry((data & bit) != 0);
  const kind = i.alu;
  if (kind != BIT_TEST) operand.write(size, kind == 5 ? data | bit : kind == 6 ? data & ~bit : data ^ bit);
}

// CMPXCHG8B and CMPXCHG16B: the lower half, then the upper.
function exchangePair(i: Instruction, size: u32): bool {
  const half = size / 2;
  const offset = offsetOf(i);
  if (!locate(i, offset, size == 16 ? 8 : size, true)) return false;
  if (size == 16 && operand.gpa & 15) return fault(GENERAL_PROTECTION);
  let low: u64 = 0;
  let high: u64 = 0;
  if (size == 8) {
    const both = operand.read(8);
    low = both & 0xffffffff;
    high = both >> 32;
  } else {
    low = operand.read(8);
    high = operand.next(8).read(8);
  }
  const same = readRegister(RAX, half) == low && readRegister(RDX, half) == high;
  setZero(same);
  if (!same) {
    writeRegister(RAX, half, low);
    writeRegister(RDX, half, high);
    return true;
  }
  low = readRegister(RBX, half);
  high = readRegister(RCX, half);
  if (size == 8) {
    operand.write(8, low | (high << 32));
    return true;
  }
  operand.set(operand.gpa - 8, 8);
  operand.write(8, low);
  operand.next(8).write(8, high);
  return true;
}

function push(i: Instruction, size: u32): bool {
  const width = stackSize(i.mode);
  const top = (readRegister(RSP, width) - size) & maskOf(width);
  if (!locate(i, offsetOf(i), size, false)) return false;
  if (!stack.locate(Segment.SS, top, size, true, i.mode)) return false;
  stack.write(size, operand.read(size));
  writeRegister(RSP, width, top);
  return true;
}

// An address by rSP is by rSP after the POP.
function pop(i: Instruction, size: u32): bool {
  const width = stackSize(i.mode);
  const top = readRegister(RSP, width);
  const after = (top + size) & maskOf(width);
  if (!stack.locate(Segment.SS, top, size, false, i.mode)) return false;
  const offset = offsetOf(i) + (i.base == RSP ? size : 0);
  if (!locate(i, offset, size, true)) return false;
  operand.write(size, stack.read(size));
  writeRegister(RSP, width, after);
  return true;
}
