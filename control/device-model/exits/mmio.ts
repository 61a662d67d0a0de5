// Answers an access to memory space that is not memory: decodes the instruction and does it on the bus.
//
// The exit tells the address of one access. Where that is all there is to know, the instruction is done
// with it; where there may be more (a second operand, a second page, a page table that is no memory) the
// addresses are worked out from registers, segments and page tables, with every check of the CPU.

import { ACCESS_EVENT, ACCESS_EXECUTE, ACCESS_WALK, Reply, Segment } from "../../gen/abi";
import { log } from "../../lib/binding";
import { mmioRead, mmioWrite } from "../mmio-bus";
import { endBroken } from "../power";
import { code, decode, decodeAt, decoded, INSTRUCTION_MAX, Outcome } from "./decoder";
import { execute, executeExactly } from "./execute";
import { answerFault, GENERAL_PROTECTION, INVALID_OPCODE } from "./fault";
import { codeMode, fetchInstruction } from "./fetch";
import { Instruction } from "./instruction";
import { answerException, message } from "./message";
import { maskOf } from "./numbers";
import { Operation } from "./opcodes";
import { offsetOf } from "./place";
import { currentLevel, forgetSegments } from "./segments";
import { doStrings } from "./string-moves";
import { readRegister, writeRegister } from "./registers";

let reported = false;

export function onMmio(): void {
  message.reply_gprs = 0;
  forgetSegments();
  if (message.access & (ACCESS_EVENT | ACCESS_EXECUTE)) return unusual();
  const mode = codeMode();
  const available = fetchInstruction(mode);
  const outcome = available == INSTRUCTION_MAX ? decodeAt(message.rip, mode) : decode(available, mode);
  if (outcome != Outcome.OK) return refuse(outcome, available);
  const i = decoded;
  message.reply = Reply.ADVANCE; // a device that ends the VM makes it a STOP
  message.reply_length = i.length;
  if (!oneAddress(i)) return exactly(i);
  const size: u32 = i.memorySize;
  if (i.operation == Operation.LOAD) {
    writeRegister(i.register, i.registerSize, mmioRead(message.gpa, size) & maskOf(size));
  } else if (i.operation == Operation.STORE) {
    mmioWrite(message.gpa, size, readRegister(i.register, size));
  } else {
    execute(i);
  }
}

// Whether the exit's address is the address of the instruction's only operand, and that is on one page.
// The access to the second page of an operand on two begins with that page.
function oneAddress(i: Instruction): bool {
  if (i.operation > Operation.LAST_SIMPLE || message.access & ACCESS_WALK) return false;
  const at = (<u32>message.gpa) & 0xfff;
  const size: u32 = i.memorySize;
  if (at != 0) return at + size <= 4096;
  if (size == 1) return true;
  return i.mode == 8 && i.segment < Segment.FS && ((<u32>offsetOf(i)) & 0xfff) == 0;
}

function exactly(i: Instruction): void {
  if (i.operation > Operation.LAST_MODRM) doStrings(i);
  else if (!executeExactly(i)) answerFault();
}

// Not by the instruction at RIP, or it is not in memory.
function unusual(): void {
  if (message.access & ACCESS_EVENT) {
    log(
      `device model: an event was to be delivered through GPA 0x${message.gpa.toString(16)}, which is no memory`,
    );
    return endBroken("an event's stack or descriptor table is not in memory, at GPA", message.gpa);
  }
  answerException(INVALID_OPCODE); // where there is no memory there are ones
}

function refuse(outcome: Outcome, available: u32): void {
  if (outcome == Outcome.CUT_SHORT) return answerFault(); // the fetch's
  if (outcome == Outcome.TOO_LONG) return answerException(GENERAL_PROTECTION, 0);
  if (outcome == Outcome.INVALID) return answerException(INVALID_OPCODE);
  const process = currentLevel() == 3; // which must not end the VM, nor fill the heap with texts
  if (process) answerException(INVALID_OPCODE);
  if (process && reported) return;
  reported = true;
  let text = "";
  for (let n: u32 = 0; n < available; n++) text += ` ${hex(load<u8>(code + n))}`;
  const where = `RIP 0x${message.rip.toString(16)}, GPA 0x${message.gpa.toString(16)}`;
  log(`device model: MMIO by an instruction that is not emulated:${text} (${where})`);
  if (!process) endBroken(`MMIO by an instruction that is not emulated:${text}`, message.rip);
}

function hex(byte: u32): string {
  const text = byte.toString(16);
  return byte < 16 ? "0" + text : text;
}
