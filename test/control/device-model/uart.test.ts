// The 16550A as a driver sees it: probing, interrupts, FIFO, and the console behind it.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";

const COM1 = 0x3f8;
const IER = COM1 + 1;
const IIR = COM1 + 2;
const FCR = COM1 + 2;
const LCR = COM1 + 3;
const MCR = COM1 + 4;
const LSR = COM1 + 5;
const MSR = COM1 + 6;
const VECTOR = 0x34;

// Routes IRQ 4 through the I/O APIC, edge-triggered, and counts what arrives.
function rigWithIrq(): Rig {
  const rig = new Rig();
  rig.ioapic(4, VECTOR);
  rig.out(MCR, 0x0b); // OUT2, RTS, DTR
  rig.out(FCR, 0x01);
  return rig;
}

test("Linux's probe finds a 16550A", () => {
  const rig = new Rig();
  rig.out(IER, 0);
  assert.is(rig.in(IER), 0);
  rig.out(IER, 0x0f);
  assert.is(rig.in(IER), 0x0f);
  rig.out(IER, 0xff);
  assert.is(rig.in(IER), 0x0f);
  rig.out(IER, 0);
  rig.out(MCR, 0x1a); // loopback with OUT2 and RTS
  assert.is(rig.in(MSR) & 0xf0, 0x90);
  rig.out(MCR, 0);
  rig.out(FCR, 0x01);
  assert.is(rig.in(IIR) >> 6, 3);
  rig.out(LCR, 0xbf);
  assert.is.not(rig.in(FCR), 0); // no EFR
  rig.out(LCR, 0);
  rig.out(FCR, 0x21);
  assert.is(rig.in(IIR) & 0x20, 0); // no 64-byte FIFO
  rig.out(COM1 + 7, 0x5a);
  assert.is(rig.in(COM1 + 7), 0x5a);
});

test("the divisor latch hides behind DLAB", () => {
  const rig = new Rig();
  rig.out(LCR, 0x83);
  rig.out(COM1, 0x34);
  rig.out(COM1 + 1, 0x12);
  assert.is(rig.in(COM1), 0x34);
  assert.is(rig.in(COM1 + 1), 0x12);
  rig.out(LCR, 3);
  assert.is(rig.in(IER), 0);
  assert.is(rig.in(LSR), 0x60);
});

test("output arrives in one batch after 2 ms, with one timer and one signal", () => {
  const rig = new Rig();
  rig.output();
  const signals = rig.signals;
  const timers = rig.timerSets;
  for (const c of Buffer.from("hello, world\r\n")) rig.out(COM1, c);
  assert.is(rig.output(), "");
  rig.advance(2_100_000);
  assert.is(rig.output(), "hello, world\r\n");
  assert.is(rig.signals - signals, 1);
  assert.is(rig.timerSets - timers, 1);
});

test("a full batch does not wait for the timer", () => {
  const rig = new Rig();
  for (let i = 0; i < 70000; i++) rig.out(COM1, 65 + (i % 26));
  assert.ok(rig.output().length >= 65536 - 1024);
});

test("input raises an interrupt, is read in order, and ends it", () => {
  const rig = rigWithIrq();
  rig.out(IER, 0x01);
  rig.type("ab");
  assert.equal(rig.msis, [{ address: 0xfee00000, data: 0x4000 | VECTOR }]);
  assert.is(rig.in(IIR) & 0x0f, 0x04); // trigger level 1
  assert.is(rig.in(LSR), 0x61);
  assert.is(rig.in(COM1), 97);
  assert.is(rig.in(COM1), 98);
  assert.is(rig.in(IIR) & 0x0f, 0x01);
  assert.is(rig.in(LSR), 0x60);
});

test("bytes below the trigger level are a timeout", () => {
  const rig = rigWithIrq();
  rig.out(FCR, 0xc1); // 14 bytes
  rig.out(IER, 0x01);
  rig.type("a");
  assert.is(rig.in(IIR) & 0x0f, 0x0c);
  rig.type("bcdefghijklmnop");
  assert.is(rig.in(IIR) & 0x0f, 0x04);
});

test("a long paste goes through the 16-byte FIFO without loss", () => {
  const rig = rigWithIrq();
  const text = "0123456789".repeat(40);
  rig.type(text);
  let seen = "";
  while (rig.in(LSR) & 1) seen += String.fromCharCode(rig.in(COM1));
  assert.is(seen, text);
});

test("without the FIFO one byte waits at a time", () => {
  const rig = new Rig();
  rig.out(FCR, 0);
  rig.type("xyz");
  assert.is(rig.in(COM1), 120);
  assert.is(rig.in(COM1), 121);
  assert.is(rig.in(COM1), 122);
  assert.is(rig.in(LSR) & 1, 0);
});

test("the THRE interrupt comes when it is enabled, goes with IIR, and comes again after a write", () => {
  const rig = rigWithIrq();
  rig.out(IER, 0x02);
  assert.is(rig.msis.length, 1);
  assert.is(rig.in(IIR) & 0x0f, 0x02);
  assert.is(rig.in(IIR) & 0x0f, 0x01);
  rig.out(COM1, 65);
  assert.is(rig.msis.length, 2);
  rig.out(COM1, 66); // the line is up: no new edge
  assert.is(rig.msis.length, 2);
  rig.out(IER, 0);
  rig.out(IER, 0x02);
  assert.is(rig.msis.length, 3);
});

test("priorities: received data before THRE", () => {
  const rig = rigWithIrq();
  rig.out(IER, 0x03);
  rig.type("a");
  assert.is(rig.in(IIR) & 0x0f, 0x04);
  rig.in(COM1);
  assert.is(rig.in(IIR) & 0x0f, 0x02);
});

test("OUT2 gates the interrupt line", () => {
  const rig = rigWithIrq();
  rig.out(MCR, 0);
  rig.out(IER, 0x02);
  assert.is(rig.msis.length, 0);
  rig.out(MCR, 8);
  assert.is(rig.msis.length, 1);
});

test("loopback returns what is written and sends nothing", () => {
  const rig = new Rig();
  rig.out(FCR, 1);
  rig.out(MCR, 0x10);
  rig.out(COM1, 0x41);
  assert.is(rig.in(LSR) & 1, 1);
  assert.is(rig.in(COM1), 0x41);
  rig.advance(10_000_000);
  assert.is(rig.output(), "");
});

test("a hostile ring header loses input and nothing else", () => {
  const rig = new Rig();
  for (const value of [0xffffffff, 0x80000000, 5000, 0]) {
    rig.scribble(3, 0, value);
    rig.scribble(1, 0, value);
  }
  rig.in(LSR);
});

test.run();
