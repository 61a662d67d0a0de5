// Timer, clock, power and reset: what a guest can read and cause.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ExitMessageAt, ExitType, Reply } from "../../../control/gen/abi";
import { Rig } from "./rig";

function cmos(rig: Rig, index: number): number {
  rig.out(0x70, index);
  return rig.in(0x71);
}

function setCmos(rig: Rig, index: number, value: number): void {
  rig.out(0x70, index);
  rig.out(0x71, value);
}

test("absent ports read as ones and swallow writes", () => {
  const rig = new Rig();
  assert.is(rig.in(0x1234), 0xff);
  assert.is(rig.in(0x1234, 2), 0xffff);
  assert.is(rig.in(0xc123, 4), 0xffffffff);
  rig.out(0xc123, 1, 4);
  assert.is(rig.in(0xffff, 4) & 0xff, 0xff);
});

test("PIT: channel 2 counts down and its output shows in port 0x61", () => {
  const rig = new Rig();
  rig.out(0x61, 1);
  rig.out(0x43, 0xb0); // channel 2, both bytes, mode 0
  rig.out(0x42, 0x10);
  rig.out(0x42, 0x27); // 10,000 ticks: 8.381 ms
  assert.is(rig.in(0x61) & 0x20, 0);
  rig.advance(4_000_000);
  rig.out(0x43, 0x80); // latch
  const count = rig.in(0x42) | (rig.in(0x42) << 8);
  assert.ok(Math.abs(count - (10000 - 4772)) < 3, String(count));
  assert.is(rig.in(0x61) & 0x20, 0);
  rig.advance(4_500_000);
  assert.is(rig.in(0x61) & 0x20, 0x20);
});

test("PIT: channel 0 ticks at its rate through the I/O APIC's input 2", () => {
  const rig = new Rig();
  rig.ioapic(2, 0x30);
  rig.out(0x43, 0x34);
  rig.out(0x40, 0xa9);
  rig.out(0x40, 0x04); // 1193 ticks
  rig.advance(100_000_000);
  assert.ok(Math.abs(rig.msis.length - 100) <= 1, String(rig.msis.length));
  rig.out(0x43, 0x30); // mode 0 stops it
  rig.advance(100_000_000);
  assert.ok(rig.msis.length <= 101);
});

test("PIT: one shot, and read-back of its status", () => {
  const rig = new Rig();
  rig.ioapic(2, 0x30);
  rig.out(0x43, 0x38); // mode 4
  rig.out(0x40, 0);
  rig.out(0x40, 1);
  rig.out(0x43, 0xe2); // status of channel 0
  assert.is(rig.in(0x40) & 0x3f, 0x38);
  rig.advance(1_000_000);
  assert.is(rig.msis.length, 1);
  rig.advance(10_000_000);
  assert.is(rig.msis.length, 1);
});

test("RTC: the wall clock in BCD, and it goes on", () => {
  const rig = new Rig();
  assert.is(cmos(rig, 9), 0x26);
  assert.is(cmos(rig, 8), 0x03);
  assert.is(cmos(rig, 7), 0x04);
  assert.is(cmos(rig, 6), 4); // Wednesday
  assert.is(cmos(rig, 4), 0x05);
  assert.is(cmos(rig, 2), 0x06);
  assert.is(cmos(rig, 0), 0x07);
  assert.is(cmos(rig, 0x32), 0x20);
  assert.is(cmos(rig, 0x0d), 0x80);
  rig.advance(55_500_000_000);
  assert.is(cmos(rig, 2), 0x07);
  assert.is(cmos(rig, 0), 0x02);
});

test("RTC: update in progress at the end of a second only", () => {
  const rig = new Rig();
  rig.advance(500_000_000);
  assert.is(cmos(rig, 10) & 0x80, 0);
  rig.advance(499_900_000);
  assert.is(cmos(rig, 10) & 0x80, 0x80);
});

test("RTC: binary and 12-hour formats, setting the time, and memory", () => {
  const rig = new Rig();
  setCmos(rig, 11, 0x84); // hold, binary, 12-hour
  for (const [index, value] of [
    [9, 31],
    [8, 12],
    [7, 31],
    [4, 0x80 | 11],
    [2, 59],
    [0, 58],
  ] as const) {
    setCmos(rig, index, value);
  }
  rig.advance(3_000_000_000);
  assert.is(cmos(rig, 0), 58); // held
  setCmos(rig, 11, 0x06);
  assert.is(cmos(rig, 4), 23);
  rig.advance(2_000_000_000);
  assert.is(cmos(rig, 9), 32);
  assert.is(cmos(rig, 8), 1);
  assert.is(cmos(rig, 7), 1);
  assert.is(cmos(rig, 4), 0);
  setCmos(rig, 0x40, 0xab);
  assert.is(cmos(rig, 0x40), 0xab);
});

test("RTC: update, alarm and periodic interrupts", () => {
  const rig = new Rig();
  rig.ioapic(8, 0x38);
  const count = (): number => rig.msis.splice(0).length;
  rig.advance(10_500_000_000);
  assert.is(count(), 0);
  setCmos(rig, 11, 0x12); // update-ended
  rig.advance(1_000_000_000);
  assert.is(count(), 1);
  assert.is(cmos(rig, 12), 0xd0); // the rate of register A is told too
  assert.is(cmos(rig, 12), 0);
  rig.advance(1_000_000_000);
  assert.is(count(), 1);
  rig.advance(1_000_000_000); // C was not read: no new edge
  assert.is(count(), 0);
  cmos(rig, 12);
  setCmos(rig, 1, 0x25); // 05:06:25
  setCmos(rig, 3, 0x06);
  setCmos(rig, 5, 0xff);
  setCmos(rig, 11, 0x22);
  rig.advance(4_000_000_000);
  assert.is(count(), 0);
  rig.advance(3_000_000_000);
  assert.is(count(), 1);
  assert.is(cmos(rig, 12) & 0xa0, 0xa0);
  setCmos(rig, 11, 0x42); // 1024 Hz
  for (let i = 0; i < 1000; i++) {
    rig.advance(976_563);
    cmos(rig, 12);
  }
  assert.ok(Math.abs(count() - 1000) <= 2);
  setCmos(rig, 11, 0x02);
  rig.advance(5_000_000_000);
  assert.is(count(), 0);
});

test("RTC: register C tells what nobody is interrupted for", () => {
  const rig = new Rig();
  cmos(rig, 12);
  rig.advance(900_000);
  assert.is(cmos(rig, 12), 0);
  rig.advance(100_000); // 1024 Hz
  assert.is(cmos(rig, 12), 0x40);
  rig.advance(1_000_000_000);
  assert.is(cmos(rig, 12), 0x50);
  setCmos(rig, 10, 0x20); // no rate
  rig.advance(500_000_000);
  assert.is(cmos(rig, 12), 0);
  rig.advance(500_000_000);
  assert.is(cmos(rig, 12), 0x10);
});

test("PIT: the gate of channel 2 stops, triggers and starts again", () => {
  const rig = new Rig();
  const count = (): number => {
    rig.out(0x43, 0x80);
    return rig.in(0x42) | (rig.in(0x42) << 8);
  };
  const load = (mode: number, value: number): void => {
    rig.out(0x43, 0xb0 | (mode << 1));
    rig.out(0x42, value & 0xff);
    rig.out(0x42, value >> 8);
  };
  const gate = (up: boolean): void => void rig.out(0x61, up ? 1 : 0);
  const output = (): number => rig.in(0x61) & 0x20;
  load(0, 10000);
  rig.advance(5_000_000);
  assert.is(count(), 10000);
  gate(true);
  rig.advance(5_000_000);
  const left = count();
  assert.ok(left < 4040 && left > 4030, String(left));
  gate(false);
  rig.advance(50_000_000);
  assert.is(count(), left);
  assert.is(output(), 0);
  gate(true);
  rig.advance(5_000_000);
  assert.is(output(), 0x20);

  gate(false);
  load(1, 10000);
  rig.advance(20_000_000);
  assert.is(output(), 0x20);
  gate(true);
  assert.is(output(), 0);
  gate(false); // does not mind
  load(1, 10000);
  rig.advance(5_000_000);
  rig.out(0x42, 0xff); // for the next time
  rig.out(0x42, 0xff);
  gate(true);
  assert.is(output(), 0);
  rig.advance(20_000_000);
  assert.is(output(), 0);
  rig.advance(40_000_000);
  assert.is(output(), 0x20);

  gate(false);
  load(3, 10000);
  assert.is(output(), 0x20);
  gate(true);
  rig.advance(5_000_000);
  assert.is(output(), 0);
  gate(false);
  assert.is(output(), 0x20);
});

test("RTC: whatever is written, nothing traps", () => {
  const rig = new Rig();
  for (let index = 0; index < 128; index++) {
    for (const value of [0, 1, 0x7f, 0x80, 0x99, 0xff]) {
      setCmos(rig, index, value);
      for (let i = 0; i < 128; i++) cmos(rig, i);
    }
  }
});

test("the PM timer runs at 3.579545 MHz, in guest time", () => {
  const rig = new Rig();
  const first = rig.in(0x608, 4);
  rig.advance(1_000_000_000);
  assert.ok(Math.abs(rig.in(0x608, 4) - first - 3579545) <= 1);
  // The kernel has kept the VM's time back by 3 s, as in a pause.
  const before = rig.in(0x608, 4);
  rig.tscOffset = (rig.tscOffset ?? 0n) - 3_000_000_000n;
  rig.advance(3_000_000_000);
  assert.ok(Math.abs(rig.in(0x608, 4) - before) <= 1);
});

test("the power button sets its status and raises SCI if it is enabled", () => {
  const rig = new Rig();
  rig.ioapic(9, 0x49, 0x8000);
  rig.command({ t: "powerbutton" });
  assert.is(rig.in(0x600, 2), 0x100);
  assert.is(rig.msis.length, 0);
  assert.equal(rig.events().slice(-1), [{ t: "unheard" }]);
  rig.out(0x602, 0x100, 2);
  assert.is(rig.in(0x602, 2), 0x100);
  assert.is(rig.msis.length, 1);
  rig.out(0x600, 0x100, 2);
  assert.is(rig.in(0x600, 2), 0);
  assert.is(rig.in(0x604, 2) & 1, 1); // SCI_EN
  rig.command({ t: "powerbutton" });
  assert.equal(rig.events(), []);
});

test("a general-purpose event raises SCI if it is enabled, beside the power button", () => {
  const rig = new Rig();
  rig.ioapic(9, 0x49, 0x8000);
  const generation = Buffer.alloc(16, 1);
  assert.is(rig.in(0x60c, 4), 0);
  rig.command({ t: "reborn", generation });
  assert.is(rig.in(0x60c, 2), 0x20);
  assert.is(rig.msis.length, 0);
  rig.out(0x60e, 0xffff, 2);
  assert.is(rig.in(0x60e, 2), 0x20);
  assert.is(rig.msis.length, 1);
  rig.out(0x60c, 0x20); // a one clears
  assert.is(rig.in(0x60c), 0);
  rig.out(0x602, 0x100, 2);
  rig.command({ t: "powerbutton" });
  rig.out(0x60e, 0);
  assert.equal([rig.in(0x60f), rig.in(0x602, 2), rig.in(0x600, 2)], [0, 0x100, 0x100]);
});

test("a debug exit ends the VM with its code, where the specification has one", () => {
  const plain = new Rig();
  plain.events();
  assert.is(plain.out(0xf4, 3, 4).reply, Reply.ADVANCE);
  assert.equal(plain.events(), []);
  for (const [size, code] of [
    [1, 7],
    [2, 0x1234],
    [4, 0xfedcba98],
  ] as const) {
    const rig = new Rig({ debugExit: true });
    rig.events();
    assert.is(rig.in(0xf4), 0);
    assert.is(rig.out(0xf4, code, size).reply, Reply.STOP);
    assert.equal(rig.events(), [{ t: "off", value: code }]);
  }
});

test("with it come ports for the inputs of the I/O APIC", () => {
  const plain = new Rig();
  plain.ioapic(20, 0x55);
  plain.out(0x2014, 1);
  assert.equal(plain.msis, []);
  const rig = new Rig({ debugExit: true });
  rig.ioapic(20, 0x55);
  for (const level of [1, 1, 0, 1]) rig.out(0x2014, level);
  assert.equal(
    rig.msis.map((msi) => msi.data & 0xff),
    [0x55, 0x55],
  );
});

test("S5 ends the VM, once, after its last words", () => {
  const rig = new Rig();
  rig.events();
  for (const c of Buffer.from("bye")) rig.out(0x3f8, c);
  assert.is(rig.out(0x604, (5 << 10) | 0x2000, 2).reply, Reply.STOP);
  assert.equal(rig.events(), [{ t: "off" }]);
  assert.is(rig.output(), "bye");
  assert.is(rig.out(0x604, (5 << 10) | 0x2000, 2).reply, Reply.STOP);
  assert.equal(rig.events(), []);
});

test("other sleep states are ignored", () => {
  const rig = new Rig();
  rig.events();
  assert.is(rig.out(0x604, (1 << 10) | 0x2000, 2).reply, Reply.ADVANCE);
  assert.equal(rig.events(), []);
});

for (const [name, port, values] of [
  ["0xCF9", 0xcf9, [0x02, 0x06]],
  ["the keyboard controller", 0x64, [0xfe]],
  ["port 0x92", 0x92, [0x01]],
] as const) {
  test(`reset by ${name}`, () => {
    const rig = new Rig();
    rig.events();
    const replies = values.map((value) => rig.out(port, value).reply);
    assert.is(replies[replies.length - 1], Reply.STOP);
    assert.equal(rig.events(), [{ t: "reset" }]);
  });
}

test("a keyboard driver's probe gives up at once", () => {
  const rig = new Rig();
  assert.is(rig.in(0x64) & 3, 1); // output full for ever, input empty
  assert.is(rig.in(0x60), 0xff);
});

test("a triple fault and a failed entry are the VM's end", () => {
  const rig = new Rig();
  rig.events();
  assert.is(rig.message(ExitType.SHUTDOWN).reply, Reply.STOP);
  assert.equal(rig.events(), [{ t: "ended", reason: "triple fault", value: 0 }]);
  const other = new Rig();
  other.events();
  other.message(ExitType.FAILED, [[ExitMessageAt.value, 33n]]);
  assert.equal(other.events(), [{ t: "ended", reason: "entry failed", value: 33 }]);
});

test.run();
