// Answers an access to memory space that is not memory: decodes the instruction and does it on the bus.

import { Reply } from "../../gen/abi";
import { log } from "../../lib/binding";
import { mmioRead, mmioWrite } from "../mmio-bus";
import { Alu, compute } from "./alu";
import {
  alu,
  code,
  decode,
  decodeAt,
  INSTRUCTION_MAX,
  immediate,
  length,
  memorySize,
  operation,
  register,
  registerSize,
} from "./decoder";
import { codeMode, fetchInstruction } from "./fetch";
import { answerException, message } from "./message";
import { Operation } from "./opcodes";
import { maskOf, signExtend } from "./numbers";
import { readRegister, writeRegister } from "./registers";

const INVALID_OPCODE: u32 = 6;

let reported = false;

export function onMmio(): void {
  const available = fetchInstruction();
  const mode = codeMode();
  if (!(available == INSTRUCTION_MAX ? decodeAt(message.rip, mode) : decode(available, mode))) {
    report(available);
    answerException(INVALID_OPCODE);
    return;
  }
  message.reply_gprs = 0;
  execute(message.gpa);
  message.reply = Reply.ADVANCE;
  message.reply_length = length;
}

// Does the decoded instruction on the memory operand at `gpa`.
function execute(gpa: u64): void {
  const size = memorySize;
  switch (operation) {
    case Operation.LOAD: {
      if (registerSize == 4 && size == 4) {
        message.gpr[register] = mmioRead(gpa, 4) & 0xffffffff;
        message.reply_gprs |= 1 << register;
        return;
      }
      writeRegister(register, registerSize, readOperand(gpa));
      return;
    }
    case Operation.LOAD_SIGNED: {
      writeRegister(register, registerSize, signExtend(readOperand(gpa), size));
      return;
    }
    case Operation.STORE: {
      mmioWrite(gpa, size, readRegister(register, size));
      return;
    }
    case Operation.STORE_IMMEDIATE: {
      mmioWrite(gpa, size, immediate & maskOf(size));
      return;
    }
    case Operation.ALU_MEMORY: {
      change(gpa, readRegister(register, size));
      return;
    }
    case Operation.ALU_IMMEDIATE: {
      change(gpa, immediate);
      return;
    }
    case Operation.ALU_REGISTER: {
      const result = compute(<Alu>alu, readRegister(register, size), readOperand(gpa), size);
      if (alu != Alu.CMP) writeRegister(register, size, result);
      return;
    }
    case Operation.TEST_REGISTER: {
      compute(Alu.AND, readOperand(gpa), readRegister(register, size), size);
      return;
    }
    case Operation.TEST_IMMEDIATE: {
      compute(Alu.AND, readOperand(gpa), immediate, size);
      return;
    }
    default: {
      const old = readOperand(gpa); // EXCHANGE
      mmioWrite(gpa, size, readRegister(register, size));
      writeRegister(register, size, old);
    }
  }
}

function readOperand(gpa: u64): u64 {
  return mmioRead(gpa, memorySize) & maskOf(memorySize);
}

function change(gpa: u64, operand: u64): void {
  const result = compute(<Alu>alu, readOperand(gpa), operand, memorySize);
  if (alu != Alu.CMP) mmioWrite(gpa, memorySize, result);
}

// Says once which instruction it was; the guest gets #UD for it.
function report(available: u32): void {
  if (reported) return;
  reported = true;
  let text = "";
  for (let i: u32 = 0; i < available; i++) text += ` ${load<u8>(code + i).toString(16)}`;
  const where = `RIP 0x${message.rip.toString(16)}, GPA 0x${message.gpa.toString(16)}`;
  log(`device model: MMIO by an instruction that is not known:${text} (${where})`);
}
