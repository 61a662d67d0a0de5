// MOVS, CMPS, STOS, LODS and SCAS with an operand that is not memory.
//
// Source: Intel SDM volume 2, each instruction and "REP/REPE/REPZ/REPNE/REPNZ". An exit does at most LIMIT
// elements; if there is more to do, the registers are updated and the instruction runs again, so an
// interrupt can come in between. The same after a fault in the middle, which is then the first element's.

import { Reply, Segment } from "../../gen/abi";
import { Alu, compute } from "./alu";
import { answerFault } from "./fault";
import { Instruction } from "./instruction";
import { message } from "./message";
import { maskOf } from "./numbers";
import { Operation } from "./opcodes";
import { Place } from "./place";
import { readRegister, writeRegister } from "./registers";

const RAX: u32 = 0;
const RCX: u32 = 1;
const RSI: u32 = 6;
const RDI: u32 = 7;
const DIRECTION: u64 = 0x400; // RFLAGS.DF
const ZERO: u64 = 0x40;
const REPEAT_EQUAL: u32 = 0xf3;
const LIMIT: u64 = 256;

const source = new Place();
const target = new Place();

/** Does a string instruction, and answers the exit. */
export function doStrings(i: Instruction): void {
  source.forget();
  target.forget();
  const width: u32 = i.addressSize;
  const repeated = i.repeat != 0;
  const total: u64 = repeated ? readRegister(RCX, width) : 1;
  const limit = min(total, LIMIT);
  let done: u64 = 0;
  let ended = total == 0;
  while (done < limit && !ended) {
    if (!element(i)) break;
    done++;
    ended = compares(i) && repeated && ((message.rflags & ZERO) != 0) != (i.repeat == REPEAT_EQUAL);
  }
  if (repeated && done > 0) writeRegister(RCX, width, total - done);
  if (done == total || ended) return; // the answer is to go on behind the instruction
  if (done == 0) return answerFault();
  message.reply = Reply.RETRY;
}

function compares(i: Instruction): bool {
  return i.operation == Operation.COMPARE_STRING || i.operation == Operation.SCAN_STRING;
}

// One element, and the registers behind it. False: a fault, and nothing has changed.
function element(i: Instruction): bool {
  const operation = i.operation;
  const size: u32 = i.memorySize;
  const usesSource = operation != Operation.STORE_STRING && operation != Operation.SCAN_STRING;
  const usesTarget = operation != Operation.LOAD_STRING;
  const writes = operation == Operation.MOVE_STRING || operation == Operation.STORE_STRING;
  if (usesSource && !source.locate(i.segment, readRegister(RSI, i.addressSize), size, false, i.mode))
    return false;
  if (usesTarget && !target.locate(Segment.ES, readRegister(RDI, i.addressSize), size, writes, i.mode))
    return false;
  switch (operation) {
    case Operation.MOVE_STRING: {
      target.write(size, source.read(size));
      break;
    }
    case Operation.STORE_STRING: {
      target.write(size, readRegister(RAX, size));
      break;
    }
    case Operation.LOAD_STRING: {
      writeRegister(RAX, size, source.read(size));
      break;
    }
    case Operation.COMPARE_STRING: {
      const first = source.read(size);
      compute(Alu.CMP, first, target.read(size), size);
      break;
    }
    default:
      compute(Alu.CMP, readRegister(RAX, size), target.read(size), size);
  }
  if (usesSource) step(RSI, i, size);
  if (usesTarget) step(RDI, i, size);
  return true;
}

function step(register: u32, i: Instruction, size: u32): void {
  const by: u64 = message.rflags & DIRECTION ? 0 - <u64>size : size;
  const width: u32 = i.addressSize;
  writeRegister(register, width, (readRegister(register, width) + by) & maskOf(width));
}
