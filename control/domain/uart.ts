// COM1: a 16550 driven by interrupts. Nothing here waits; what does not fit stays with the caller.

import { CAP_SELF } from "../gen/abi";
import { irqAck, irqCreate, portIn, portOut, portsMap, capDrop } from "../lib/binding";
import { EVENT_UART, SLOT_UART } from "./slots";

const BASE: u32 = 0x3f8;
const IRQ: u32 = 4;
const FIFO_SIZE: u32 = 16;
const MAX_ROUNDS = 256; /* register reads in one interrupt, at most */

const enum Register {
  DATA = 0 /* divisor low while LCR.DLAB is set */,
  IER = 1 /* divisor high */,
  IIR_FCR = 2,
  LCR = 3,
  MCR = 4,
  LSR = 5,
  MSR = 6,
}
const enum Ier {
  RECEIVED = 1,
  EMPTY = 2,
  LINE = 4,
}
const enum Iir {
  NONE = 1,
  MASK = 0x0e,
  MODEM = 0x00,
  EMPTY = 0x02,
  LINE = 0x06,
}
const enum Lsr {
  DATA_READY = 1,
  OVERRUN = 2 /* reading LSR clears it */,
  EMPTY = 0x20,
}

const QUEUE_SIZE: u32 = 8192;
const queue: usize = memory.data(8192, 16);
let head: u32 = 0;
let tail: u32 = 0;
let emptyEnabled: bool = false;
let present: bool = false;
let overruns: u64 = 0;

function read(register: Register): u32 {
  return portIn(BASE + register, 1);
}

function write(register: Register, value: u32): void {
  portOut(BASE + register, 1, value);
}

/** The line's state. Each overrun is seen by one read only, so that all reads are here. */
function readStatus(): u32 {
  const status = read(Register.LSR);
  if ((status & Lsr.OVERRUN) != 0 && status != 0xff) overruns++;
  return status;
}

/** How often received bytes were lost because the FIFO was full. */
export function uartOverruns(): u64 {
  return overruns;
}

/** 115200 8N1, FIFOs on, interrupts on. False: there is no UART. */
export function uartStart(): bool {
  if (portsMap(CAP_SELF, BASE, 8) < 0) return false;
  write(Register.IER, 0);
  write(Register.LCR, 0x80);
  write(Register.DATA, 1);
  write(Register.IER, 0);
  write(Register.LCR, 3);
  write(Register.IIR_FCR, 0xc7);
  write(Register.MCR, 0x0b);
  present = read(Register.LSR) != 0xff;
  if (!present) return false;
  emptyEnabled = false;
  capDrop(SLOT_UART);
  if (irqCreate(SLOT_UART, IRQ, EVENT_UART) < 0) return false;
  write(Register.IER, Ier.RECEIVED | Ier.LINE);
  irqAck(SLOT_UART);
  return true;
}

/** Bytes that wait to be sent. */
export function uartQueued(): u32 {
  return head - tail;
}

/** Bytes that uartWrite takes. */
export function uartRoom(): u32 {
  return QUEUE_SIZE - (head - tail);
}

/** Queues a byte; the caller has asked uartRoom. */
export function uartPut(byte: u32): void {
  store<u8>(queue + (head & (QUEUE_SIZE - 1)), byte);
  head++;
}

/** Queues bytes; the caller has asked uartRoom. */
export function uartWrite(from: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i++) uartPut(load<u8>(from + i));
}

/** Starts sending what is queued, if nothing is being sent. */
export function uartKick(): void {
  if (!present || emptyEnabled || head == tail) return;
  if ((readStatus() & Lsr.EMPTY) != 0) fillFifo();
  enableEmpty(head != tail);
}

function enableEmpty(on: bool): void {
  if (on == emptyEnabled) return;
  emptyEnabled = on;
  write(Register.IER, Ier.RECEIVED | Ier.LINE | (on ? Ier.EMPTY : 0));
}

function fillFifo(): void {
  for (let i: u32 = 0; i < FIFO_SIZE && head != tail; i++) {
    write(Register.DATA, load<u8>(queue + (tail & (QUEUE_SIZE - 1))));
    tail++;
  }
}

function receiveAll(receive: (byte: u32) => void): void {
  for (let i = 0; i < MAX_ROUNDS && (readStatus() & Lsr.DATA_READY) != 0; i++) receive(read(Register.DATA));
}

/**
 * Looks after the UART: at its interrupt and now and then without one, since an interrupt may be late (a VM
 * that runs with interrupts off holds them up on some machines) or lost. `refill` is called when
 * the transmitter is empty and may queue more.
 */
export function uartEvent(receive: (byte: u32) => void, refill: () => void): void {
  if (!present) return;
  serveCauses(receive, refill);
  receiveAll(receive); // whatever the causes said: an edge may have been lost
  if (emptyEnabled && (readStatus() & Lsr.EMPTY) != 0) transmit(refill);
}

function transmit(refill: () => void): void {
  refill();
  fillFifo();
  enableEmpty(head != tail);
}

/** An edge that comes before the kernel unmasks the line is lost: the cause is read once more after irqAck. */
function serveCauses(receive: (byte: u32) => void, refill: () => void): void {
  let acked = false;
  for (let i = 0; i < MAX_ROUNDS; i++) {
    const cause = read(Register.IIR_FCR);
    if ((cause & Iir.NONE) != 0) {
      if (acked) return;
      irqAck(SLOT_UART);
      acked = true;
      continue;
    }
    const kind = cause & Iir.MASK;
    if (kind == Iir.EMPTY) {
      transmit(refill);
    } else if (kind == Iir.LINE) {
      readStatus();
    } else if (kind == Iir.MODEM) {
      read(Register.MSR);
    } else {
      receiveAll(receive);
    }
  }
  if (!acked) irqAck(SLOT_UART);
}
