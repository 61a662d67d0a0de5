// The paravirtual clock: what a write of its MSRs puts into the guest's memory.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ExitMessageAt, ExitType, Reply } from "../../../control/gen/abi";
import { Rig, TSC_HZ, WALL_CLOCK } from "./rig";

const WALL = 0;
const TIME = 1;

function write(rig: Rig, port: number, value: bigint, timestamp = 0n): void {
  const answer = rig.message(ExitType.CLOCK, [
    [ExitMessageAt.port, port],
    [ExitMessageAt.value, value],
    [ExitMessageAt.gpa, timestamp],
  ]);
  assert.is(answer.reply, Reply.RETRY);
}

test("the time's multiplier, shift and stable flag", () => {
  const rig = new Rig();
  write(rig, TIME, 0x2001n, 77n);
  const page = rig.memory.subarray(0x2000, 0x2020);
  assert.is(page.readUInt32LE(0) & 1, 0);
  assert.is(page.readBigUInt64LE(8), 77n);
  assert.is(page.readBigUInt64LE(16), 0n);
  const shift = page.readInt8(28);
  const second = shift >= 0 ? TSC_HZ << BigInt(shift) : TSC_HZ >> BigInt(-shift);
  const nanoseconds = Number((second * BigInt(page.readUInt32LE(24))) >> 32n);
  assert.ok(Math.abs(nanoseconds - 1e9) <= 2, String(nanoseconds));
  assert.is(page.readUInt8(29), 1);
});

test("the wall clock at the VM's start", () => {
  const rig = new Rig();
  rig.advance(5_000_000_000);
  write(rig, WALL, 0x3000n);
  assert.is(rig.memory.readUInt32LE(0x3004), WALL_CLOCK);
  assert.is(rig.memory.readUInt32LE(0x3008), 0);
});

test("an address that is not memory, and a clock that is off", () => {
  const rig = new Rig();
  const before = Buffer.from(rig.memory);
  for (const address of [BigInt(rig.memory.length - 8), 0xfee00000n, 0xffff_ffff_ffff_fff0n]) {
    write(rig, TIME, address | 1n);
    write(rig, WALL, address);
  }
  write(rig, TIME, 0x2000n);
  assert.ok(before.equals(rig.memory));
});

test.run();
