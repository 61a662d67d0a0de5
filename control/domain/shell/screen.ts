// What is on its way to the person's terminal: text in a queue, and a pager for what is longer than the terminal is high.
//
// The terminal is asked for its height when a command has printed nearly as much as the smallest usual one shows; until
// it has answered, or its time is over, output and input wait. One that does not answer gets everything at once.

import { ByteQueue } from "../byte-queue";
import { uptimeMs } from "../host";
import { linePut } from "../line";
import { utf8 } from "../text";
import { Terminal } from "./terminal";

/** Bytes that wait to be printed, at most. */
export const OUTPUT_LIMIT: u32 = 65536;
const PIECE: u32 = 256;
const MORE: string = "--more--  space: a page, Enter: a line, q: enough ";
const ERASE: string = "\r\x1b[K";
/** A terminal is asked for its height before more lines than this. */
const SAFE_LINES: i32 = 22;
const LF: u32 = 10;
const CTRL_C: u32 = 3;
const ENDLESS: i64 = i64.MAX_VALUE;

const output: ByteQueue = new ByteQueue(OUTPUT_LIMIT);
/** What goes before the output. */
const aside: ByteQueue = new ByteQueue(1024);
export const terminal: Terminal = new Terminal();

let lastByte: u32 = LF;
/** Whether the pager counts lines, and whether the person has to say how to go on. */
let paging: bool = false;
let held: bool = false;
/** The pager waits for the terminal's answer; it was asked for this command. */
let waiting: bool = false;
let askedNow: bool = false;
let lines: i32 = 0;
let column: i32 = 0;
/** Bytes sent of what the command has printed (below 0: of what was before), and where its output ends. */
let taken: i64 = 0;
let end: i64 = ENDLESS;

/** Whether the next byte begins a line. */
export function atLineStart(): bool {
  return lastByte == LF;
}

export function outputLength(): u32 {
  return output.length;
}

export function outputClear(): void {
  output.clear();
}

function putByte(byte: u32): void {
  output.push(byte);
  lastByte = byte;
}

/** Prints text; "\n" becomes what a terminal needs. */
export function print(text: string): void {
  const bytes = utf8(text);
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] == LF) putByte(13);
    if (bytes[i] != 0) putByte(bytes[i]);
  }
}

/** Prints raw bytes of a VM or the log; a 0x00 would open a frame. */
export function printRaw(data: usize, length: u32, isLog: bool): void {
  for (let i: u32 = 0; i < length; i++) {
    const byte = <u32>load<u8>(data + i);
    if (byte == 0) continue;
    if (isLog && byte == LF && lastByte != 13) putByte(13);
    putByte(byte);
  }
}

function say(text: string): void {
  for (let i = 0; i < text.length; i++) aside.push(text.charCodeAt(i));
}

/** Asks the terminal for its size. */
export function askTerminal(): void {
  say(terminal.ask(uptimeMs()));
}

/** A command begins to print: its output is paged until pagerEnd(). */
export function pagerBegin(): void {
  paging = true;
  askedNow = false;
  lines = 0;
  column = 0;
  taken = -(<i64>output.length);
  end = ENDLESS;
}

/** All of its output is printed. */
export function pagerEnd(): void {
  end = taken + output.length;
}

/** No paging: what is printed is not the output of a command. */
export function pagerOff(): void {
  paging = false;
}

/** Whether typed bytes are for the pager. */
export function pagerHolds(): bool {
  return held;
}

/** Whether everything waits for the terminal's answer. */
export function pagerWaits(): bool {
  return waiting;
}

/** A key while the pager holds. True: the person has seen enough. */
export function pagerTake(key: u32): bool {
  if (key == LF) return false; // behind the CR of Enter
  const quit = key == 0x71 || key == 0x51 || key == CTRL_C;
  if (!quit && key != 0x20 && key != 13) {
    say("\x07");
    return false;
  }
  held = false;
  say(ERASE);
  lines = key == 13 ? terminal.rows - 2 : 0;
  if (!quit) return false;
  paging = false;
  while (output.length > 0 && taken < end) {
    output.shift();
    taken++;
  }
  lastByte = LF;
  return true;
}

/** The terminal has answered, or will not. */
function answered(): void {
  waiting = false;
}

/** A received byte; returns those that were typed. */
export function terminalTake(byte: u32): u32[] {
  const typed = terminal.take(byte);
  if (!terminal.asked) answered();
  return typed;
}

/** Returns bytes that were typed after all. */
export function terminalTick(now: u64): u32[] {
  const typed = terminal.tick(now);
  if (!terminal.asked) answered();
  return typed;
}

/** Counts a byte that was sent; true: the page is full. */
function count(byte: u32): bool {
  if (byte == LF) {
    lines++;
    column = 0;
  } else if (byte >= 0x20 && ++column > terminal.columns && terminal.columns > 0) {
    lines++;
    column = 1;
  }
  const rows = terminal.rows;
  if (byte != LF || taken >= end) return false;
  if (!askedNow && !terminal.silent && lines >= (rows > 0 ? min(SAFE_LINES, rows - 1) : SAFE_LINES)) {
    askedNow = true;
    waiting = true;
    askTerminal();
    return true;
  }
  return isFull();
}

function isFull(): bool {
  if (terminal.rows == 0 || lines < terminal.rows - 1) return false;
  held = true;
  say(MORE);
  return true;
}

/** Whether there is nothing to send, and more could be printed. */
export function screenEmpty(): bool {
  return output.length == 0 && aside.length == 0 && !held && !waiting;
}

/** Sends a piece of what there is; false: there is nothing that may be sent now. */
export function screenPull(): bool {
  let sent = 0;
  while (aside.length > 0) {
    linePut(aside.shift());
    sent++;
  }
  if (held || waiting) return sent > 0;
  // It has answered since, and is lower than what it was asked for.
  if (paging && lines > 0 && column == 0 && taken < end && output.length > 0 && isFull()) return screenPull();
  for (let i: u32 = 0; i < PIECE && output.length > 0; i++) {
    const byte = output.shift();
    linePut(byte);
    sent++;
    taken++;
    if (!paging || taken <= 0) continue;
    if (taken > end) paging = false;
    else if (count(byte)) break;
  }
  return sent > 0;
}
