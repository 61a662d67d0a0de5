// Answers an access to memory space that is not memory: decodes the instruction and does it on the bus.

import { Reply } from "../../gen/abi";
import { log } from "../../lib/binding";
import { mmioRead, mmioWrite } from "../mmio-bus";
import { code, decode, immediate, length, memorySize, operation, register, registerSize } from "./decoder";
import { codeMode, fetchInstruction } from "./fetch";
import { answerException, message } from "./message";
import { Operation } from "./opcodes";
import { maskOf, readRegister, signExtend, writeRegister } from "./registers";

const INVALID_OPCODE: u32 = 6;

let reported = false;

export function onMmio(): void {
  const available = fetchInstruction();
  if (!decode(available, codeMode())) {
    report(available);
    answerException(INVALID_OPCODE);
    return;
  }
  const gpa = message.gpa;
  message.reply_gprs = 0;
  if (operation == Operation.STORE) mmioWrite(gpa, memorySize, readRegister(register, memorySize));
  else if (operation == Operation.STORE_IMMEDIATE) mmioWrite(gpa, memorySize, immediate & maskOf(memorySize));
  else if (operation == Operation.LOAD_SIGNED) {
    writeRegister(register, registerSize, signExtend(mmioRead(gpa, memorySize), memorySize));
  } else writeRegister(register, registerSize, mmioRead(gpa, memorySize) & maskOf(memorySize));
  message.reply = Reply.ADVANCE;
  message.reply_length = length;
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
