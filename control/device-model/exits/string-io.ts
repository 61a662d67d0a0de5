// Answers INS and OUTS: moves elements between a port and memory, page by page.
//
// Source: Intel SDM volume 2, "INS/INSB/INSW/INSD" and "OUTS/OUTSB/OUTSW/OUTSD". An exit moves at most
// LIMIT elements; if REP has more to do, the registers are updated and the instruction runs again, so an
// interrupt can come in between.

import { ACCESS_READ, ACCESS_REP, Reply } from "../../gen/abi";
import { readGuest, value, writeGuest } from "../guest-memory";
import { portRead, portWrite } from "../port-bus";
import { addressSize, beginDecode, prefixes } from "./decoder";
import { codeMode, fetchInstruction } from "./fetch";
import { answerFault } from "./fault";
import { message } from "./message";
import { physical, translate } from "./page-walk";
import { forgetSegments } from "./segments";
import { maskOf } from "./numbers";
import { readRegister, writeRegister } from "./registers";

const RCX: u32 = 1;
const RSI: u32 = 6;
const RDI: u32 = 7;
const DIRECTION: u64 = 0x400; // RFLAGS.DF
const LIMIT: u64 = 1024;

export function onPortString(): void {
  forgetSegments();
  const mode = codeMode();
  beginDecode(fetchInstruction(mode));
  prefixes(mode);
  const size = message.size;
  const input = (message.access & ACCESS_READ) != 0;
  const repeated = (message.access & ACCESS_REP) != 0;
  const index = input ? RDI : RSI;
  const step: u64 = message.rflags & DIRECTION ? 0 - <u64>size : size;
  const total: u64 = repeated ? readRegister(RCX, addressSize) : 1;
  message.reply = Reply.RETRY;
  message.reply_gprs = 0;

  let done: u64 = 0;
  let linear = message.linear;
  while (done < min(total, LIMIT)) {
    if (!move(linear, size, input)) break;
    linear += step;
    done++;
  }
  writeRegister(index, addressSize, readRegister(index, addressSize) + step * done);
  if (repeated) writeRegister(RCX, addressSize, total - done);
  if (done == total) {
    message.reply = Reply.ADVANCE;
    message.reply_length = message.length;
  } else if (done > 0) {
    message.reply = Reply.RETRY; // a fault will come again, as the first element's
  } else {
    answerFault();
  }
}

// One element. An element on two pages goes byte by byte. What is not memory reads as ones.
function move(linear: u64, size: u32, input: bool): bool {
  const crosses = (linear & 4095) + size > 4096;
  if (!translate(linear, input)) return false;
  const first = physical;
  if (crosses && !translate(linear + size - 1, input)) return false;
  const second = physical;
  if (!crosses) {
    if (input) writeGuest(first, size, portRead(message.port, size));
    else {
      readGuest(first, size);
      portWrite(message.port, size, <u32>(value & maskOf(size)));
    }
    return true;
  }
  // The second page's part ends at `second`.
  const head: u32 = 4096 - ((<u32>linear) & 4095);
  const data: u64 = input ? portRead(message.port, size) : 0;
  let out: u64 = 0;
  for (let i: u32 = 0; i < size; i++) {
    const at = i < head ? first + i : second - (size - 1 - i);
    if (input) writeGuest(at, 1, data >> (8 * i));
    else {
      readGuest(at, 1);
      out |= (value & 0xff) << (8 * i);
    }
  }
  if (!input) portWrite(message.port, size, <u32>out);
  return true;
}
