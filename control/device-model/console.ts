// The VM's console: bytes between the serial port and the link's rings, in batches.
//
// A byte that goes out costs a store. A batch is handed over when it is full or FLUSH_AFTER old, so that
// a line of text costs one timer and one signal, and a single echoed key is late by 2 ms at most.

import { now } from "../lib/binding";
import { tscHz } from "./clock";
import { link } from "./control-link";
import { Timer, TimerClient } from "./timers";

const BATCH: u32 = 1024;
const FLUSHES_PER_SECOND: u64 = 500;

const output: usize = memory.data(1024, 8);
const input: usize = memory.data(64, 8);
const INPUT: u32 = 64;

let pending: u32 = 0;
let inputAt: u32 = 0;
let inputEnd: u32 = 0;

class FlushTimer extends TimerClient {
  onTimer(): void {
    flushConsole();
  }
}

const timer = new Timer(new FlushTimer());

/** Sends a byte to whoever watches the console. */
export function consoleOutput(byte: u32): void {
  store<u8>(output + pending, <u8>byte);
  if (++pending == BATCH) flushConsole();
  else if (timer.deadline == 0) timer.set(now() + tscHz / FLUSHES_PER_SECOND);
}

/** Hands over what has been sent so far. */
export function flushConsole(): void {
  if (pending == 0) return;
  link.consoleOut.write(output, pending);
  pending = 0;
  link.signal();
}

let toVirtio = false;

/** What is typed goes to the virtio console from now on, not to the serial port. */
export function consoleInputToVirtio(): void {
  toVirtio = true;
}

/** Whether there is something for the virtio console. */
export function consoleInputReady(): bool {
  return toVirtio && link.consoleIn.available > 0;
}

/** Takes what was typed, for the virtio console; returns how much that is. */
export function consoleInputBytes(to: usize, limit: u32): u32 {
  const length = link.consoleIn.read(to, limit);
  if (length > 0) link.signal(); // there may be a writer that waits for room
  return length;
}

/** Drops what was typed and not taken. */
export function forgetConsoleInput(): void {
  inputAt = inputEnd;
  link.consoleIn.skipTo(link.consoleIn.position + link.consoleIn.available);
}

/** The next byte that was typed for the serial port, or -1. */
export function consoleInput(): i32 {
  if (toVirtio) return -1;
  if (inputAt == inputEnd) {
    inputAt = 0;
    inputEnd = link.consoleIn.read(input, INPUT);
    if (inputEnd == 0) return -1;
    // There may be a writer that waits for room.
    link.signal();
  }
  return load<u8>(input + inputAt++);
}
