// The 8259A pair and the I/O APIC.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ExitMessageAt, ExitType, Reply } from "../../../control/gen/abi";
import { Rig } from "./rig";

// As Linux does it: vectors 0x30 and 0x38, all but IRQ 4, the cascade and IRQ 8 masked.
function initPic(rig: Rig): void {
  for (const [base, vector, cascade] of [
    [0x20, 0x30, 4],
    [0xa0, 0x38, 2],
  ] as const) {
    rig.out(base, 0x11);
    rig.out(base + 1, vector);
    rig.out(base + 1, cascade);
    rig.out(base + 1, 1);
  }
  rig.out(0x21, 0xeb);
  rig.out(0xa1, 0xfe);
}

function raiseUart(rig: Rig): void {
  rig.out(0x3fc, 8);
  rig.out(0x3f9, 0);
  rig.out(0x3f9, 2);
}

test("Linux finds a PIC, and all lines are masked at reset", () => {
  const rig = new Rig();
  assert.is(rig.in(0x21), 0xff);
  assert.is(rig.in(0xa1), 0xff);
  rig.out(0x21, 0xfb);
  assert.is(rig.in(0x21), 0xfb);
  raiseUart(rig);
  assert.is(rig.extint, -1);
});

test("an edge is announced, taken, and ended", () => {
  const rig = new Rig();
  initPic(rig);
  raiseUart(rig);
  assert.is(rig.extint, 0x34);
  const answer = rig.message(ExitType.EXTINT_ACK, [[ExitMessageAt.value, 0x34n]]);
  assert.is(answer.reply, Reply.RETRY);
  rig.out(0x20, 0x0b); // read ISR
  assert.is(rig.in(0x20), 0x10);
  raiseUart(rig); // a second edge while the first is in service
  rig.extint = -1;
  rig.out(0x20, 0x64); // specific EOI
  assert.is(rig.extint, 0x34);
});

test("masking takes the announcement back", () => {
  const rig = new Rig();
  initPic(rig);
  raiseUart(rig);
  rig.out(0x21, 0xff);
  assert.is(rig.extint, -1);
  rig.out(0x21, 0xeb);
  assert.is(rig.extint, 0x34);
});

test("the timer goes before the serial port", () => {
  const rig = new Rig();
  initPic(rig);
  rig.out(0x21, 0xea);
  raiseUart(rig);
  assert.is(rig.extint, 0x34);
  rig.out(0x43, 0x34);
  rig.out(0x40, 0xa9);
  rig.out(0x40, 0x04); // 1000 Hz
  rig.advance(1_100_000);
  assert.is(rig.extint, 0x30);
  rig.message(ExitType.EXTINT_ACK, [[ExitMessageAt.value, 0x30n]]);
  rig.out(0x20, 0x20);
  assert.is(rig.extint, 0x34);
});

test("the second chip's interrupts come through the cascade", () => {
  const rig = new Rig();
  initPic(rig);
  rig.out(0xa1, 0xfd); // IRQ 9: SCI
  rig.out(0x602, 0x100, 2);
  rig.command({ t: "powerbutton" });
  assert.is(rig.extint, 0x39);
  rig.message(ExitType.EXTINT_ACK, [[ExitMessageAt.value, 0x39n]]);
  rig.out(0xa0, 0x0b);
  assert.is(rig.in(0xa0), 2);
  rig.out(0xa0, 0x20);
  rig.out(0x20, 0x20);
  rig.out(0xa0, 0x0b);
  assert.is(rig.in(0xa0), 0);
});

test("I/O APIC: version, reset state, and an edge as a message", () => {
  const rig = new Rig();
  assert.is(rig.ioapicRead(1), 0x00170020);
  assert.is(rig.ioapicRead(0x10), 0x10000);
  rig.ioapic(4, 0x51, 0, 3); // to the local APIC 3
  assert.is(rig.ioapicRead(0x10 + 8), 0x51);
  assert.is(rig.ioapicRead(0x11 + 8), 0x03000000);
  raiseUart(rig);
  assert.equal(rig.msis, [{ address: 0xfee03000, data: 0x4051 }]);
  raiseUart(rig);
  assert.is(rig.msis.length, 2);
});

test("I/O APIC: a level stays in service until its EOI and comes again while it is up", () => {
  const rig = new Rig();
  const level = 0x8000;
  rig.ioapic(9, 0x49, level);
  rig.out(0x602, 0x100, 2);
  rig.command({ t: "powerbutton" });
  assert.equal(rig.msis, [{ address: 0xfee00000, data: 0xc049 }]);
  assert.is(rig.ioapicRead(0x10 + 18) & 0x4000, 0x4000);
  rig.message(ExitType.EOI, [[ExitMessageAt.value, 0x49n]]);
  assert.is(rig.msis.length, 2);
  rig.out(0x600, 0x100, 2); // the handler clears the cause
  rig.message(ExitType.EOI, [[ExitMessageAt.value, 0x49n]]);
  assert.is(rig.msis.length, 2);
  assert.is(rig.ioapicRead(0x10 + 18) & 0x4000, 0);
  rig.command({ t: "powerbutton" });
  rig.mmioWrite(0xfec00040, 0x49); // the EOI register
  assert.is(rig.msis.length, 4);
});

test("I/O APIC: a level that is up is sent when it is unmasked, an edge is not", () => {
  const rig = new Rig();
  rig.out(0x602, 0x100, 2);
  rig.command({ t: "powerbutton" });
  raiseUart(rig);
  rig.ioapic(4, 0x44);
  assert.is(rig.msis.length, 0);
  rig.ioapic(9, 0x49, 0x8000);
  assert.is(rig.msis.length, 1);
});

test("I/O APIC: registers that do not exist, lowest priority and logical mode", () => {
  const rig = new Rig();
  assert.is(rig.ioapicRead(0x40), 0xffffffff);
  assert.is(rig.ioapicRead(0xff), 0xffffffff);
  rig.ioapic(4, 0x61, 0x900, 0xf); // lowest priority, logical destination
  raiseUart(rig);
  assert.equal(rig.msis, [{ address: 0xfee0f00c, data: 0x4161 }]);
});

test.run();
