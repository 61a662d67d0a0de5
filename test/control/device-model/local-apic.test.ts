// The page of the local APIC: registers pass to the kernel, ends of interrupt come back.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Reply } from "../../../control/gen/abi";
import { Rig } from "./rig";

const PAGE = 0xfee00000;

test("32-bit registers are read and written by their address", () => {
  const rig = new Rig();
  assert.is(rig.mmioRead(PAGE + 0x30), 0xa0000030);
  assert.is(rig.mmioRead(PAGE + 0xff0), 0xa0000ff0);
  assert.is(rig.mmioWrite(PAGE + 0x300, 0x4608).reply, Reply.ADVANCE);
  assert.equal(rig.apicWrites, [{ offset: 0x300, value: 0x4608 }]);
});

test("smaller reads see a part, what lies between registers is nothing", () => {
  const rig = new Rig();
  assert.is(rig.load(PAGE + 0x30, 1), 0x30n);
  assert.is(rig.load(PAGE + 0x33, 1), 0xa0n);
  assert.is(rig.load(PAGE + 0x32, 2), 0xa000n);
  assert.is(rig.load(PAGE + 0x34, 4), 0n);
  for (const [offset, size] of [
    [0x80, 1],
    [0x80, 2],
    [0x84, 4],
    [0x8c, 4],
  ] as const) {
    rig.store(PAGE + offset, size, 0x55);
  }
  assert.equal(rig.apicWrites, []);
});

test("the end of a level-triggered interrupt reaches the I/O APIC", () => {
  const rig = new Rig();
  rig.ioapic(9, 0x49, 0x8000);
  rig.out(0x602, 0x100, 2);
  rig.command({ t: "powerbutton" });
  assert.is(rig.msis.length, 1);
  rig.mmioWrite(PAGE + 0xb0, 0); // of another interrupt
  assert.is(rig.msis.length, 1);
  rig.apicEnds = 1 + 0x49;
  rig.mmioWrite(PAGE + 0xb0, 0);
  assert.is(rig.msis.length, 2);
});

test("in x2APIC mode nothing is there", () => {
  const rig = new Rig();
  rig.apicBase = 0xfee00c00n;
  assert.is(rig.mmioRead(PAGE + 0x30), 0xffffffff);
  assert.is(rig.mmioWrite(PAGE + 0xb0, 0).reply, Reply.ADVANCE);
  assert.equal(rig.apicWrites, []);
});

test("it is where IA32_APIC_BASE says, and nowhere else", () => {
  const rig = new Rig();
  rig.apicBase = 0xfed90800n;
  assert.is(rig.mmioRead(0xfed90030), 0xa0000030);
  rig.mmioWrite(0xfed90300, 0x4608);
  assert.equal(rig.apicWrites.splice(0), [{ offset: 0x300, value: 0x4608 }]);
  for (const elsewhere of [PAGE, 0xfed91000]) {
    assert.is(rig.mmioRead(elsewhere + 0x30), 0xffffffff);
    rig.mmioWrite(elsewhere + 0x300, 0x4608);
  }
  rig.apicBase = 0xfed90000n; // switched off
  assert.is(rig.mmioRead(0xfed90030), 0xffffffff);
  assert.equal(rig.apicWrites, []);
});

test.run();
