// A VM that goes on from a snapshot: its generation ID, name, clocks, and what was typed for another one.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ExitMessageAt, ExitType } from "../../../control/gen/abi";
import { Rig, WALL_CLOCK } from "./rig";

const GENERATION_GPA = 0xf1000;
const SMBIOS_GPA = 0xf0000;
const DAY = 86400;
const generation = Buffer.from("fedcba9876543210");
const born = {
  t: "reborn",
  name: "b",
  generation,
  wallClock: WALL_CLOCK + 10 * DAY,
  addresses: [],
  clone: false,
};

function idOf(rig: Rig): Buffer {
  return Buffer.from(rig.memory.subarray(GENERATION_GPA, GENERATION_GPA + 16));
}

/** What the RTC says: hours, minutes, seconds, day of the month. */
function clock(rig: Rig): number[] {
  return [4, 2, 0, 7].map((index) => {
    rig.out(0x70, index);
    const value = rig.in(0x71);
    return (value >> 4) * 10 + (value & 15);
  });
}

function serialNumber(rig: Rig): string {
  return rig.memory.toString("latin1", SMBIOS_GPA + 32 + 27, SMBIOS_GPA + 544).split("\0")[2] ?? "";
}

test("the first generation ID is the configuration's, or any; without entropy none", () => {
  assert.equal(idOf(new Rig({ generation })), generation);
  assert.not.equal(idOf(new Rig()), Buffer.alloc(16));
  assert.equal(idOf(new Rig({ noEntropy: true })), Buffer.alloc(16));
  assert.not.equal(
    idOf(new Rig({ generation: generation.subarray(1) })),
    generation,
    "of another length: none",
  );
});

test("another generation ID comes with an event", () => {
  const rig = new Rig();
  rig.out(0x60e, 0x20);
  rig.ioapic(9, 0x49, 0x8000);
  rig.command(born);
  assert.equal(idOf(rig), generation);
  assert.is(rig.in(0x60c), 0x20);
  assert.is(rig.msis.length, 1);
  assert.equal(rig.events(), [{ t: "ready" }]);
});

test("it has its name and another UUID in the SMBIOS tables", () => {
  const rig = new Rig();
  const uuid = (of: Rig): Buffer => Buffer.from(of.memory.subarray(SMBIOS_GPA + 40, SMBIOS_GPA + 56));
  const before = uuid(rig);
  assert.is(serialNumber(rig), "a");
  rig.command({ ...born, name: "a-longer-name" });
  assert.is(serialNumber(rig), "a-longer-name");
  assert.not.equal(uuid(rig), before);
  rig.command({ t: "reborn", generation });
  assert.is(serialNumber(rig), "a-longer-name", "without a name it stays");
  rig.command({ ...born, name: "a" });
  assert.equal(uuid(rig), before);
});

test("the RTC and KVM's wall clock are right again, and timers go on as if nothing had happened", () => {
  const rig = new Rig();
  rig.advance(3_000_000_000);
  rig.out(0x70, 0x0b);
  rig.out(0x71, 0x12); // 24 hours, an interrupt each second
  rig.command(born);
  assert.equal(clock(rig), [5, 6, 7, 14]);
  rig.ioapic(8, 0x48);
  rig.advance(1_000_000_001);
  assert.is(rig.msis.length, 1);
  assert.equal(clock(rig), [5, 6, 8, 14]);
  rig.message(ExitType.CLOCK, [
    [ExitMessageAt.port, 0],
    [ExitMessageAt.value, 0x3000n],
  ]);
  assert.is(rig.memory.readUInt32LE(0x3004), WALL_CLOCK + 10 * DAY - 3);
});

test("what the guest has set in the RTC stays; a host that does not know the time changes nothing", () => {
  const rig = new Rig();
  rig.out(0x70, 4);
  rig.out(0x71, 0x07); // two hours later
  rig.command(born);
  assert.equal(clock(rig), [7, 6, 7, 14]);
  rig.command({ ...born, wallClock: 0 });
  assert.equal(clock(rig), [7, 6, 7, 14]);
});

test("a clone does not get what was typed for the other, but what its UART has; a VM that goes on does", () => {
  for (const clone of [false, true]) {
    const rig = new Rig();
    rig.out(0x3fa, 1); // its FIFO has 16 places
    rig.type("x".repeat(100));
    rig.command({ ...born, clone });
    let got = 0;
    for (; rig.in(0x3fd) & 1; got++) rig.in(0x3f8);
    assert.is(got, clone ? 16 : 100);
    rig.type("y");
    assert.is(rig.in(0x3f8), 0x79);
  }
});

test("a command that is nonsense is ignored", () => {
  const rig = new Rig();
  const before = idOf(rig);
  for (const change of [
    { generation: generation.subarray(1) },
    { generation: "fedcba9876543210" },
    { generation: undefined },
    { name: 1 },
    { wallClock: -1 },
    { addresses: 3 },
    { addresses: ["02"] },
    { clone: 1 },
  ])
    rig.command({ ...born, ...change });
  assert.equal(idOf(rig), before);
  assert.is(rig.log.filter((line) => line.includes("ignored")).length, 8);
  const wallClock = 2n ** 64n - 1n;
  rig.command({
    t: "reborn",
    generation,
    wallClock,
    addresses: Array(40).fill(wallClock),
    clone: true,
    more: [{}],
  });
  clock(rig);
  assert.equal(idOf(rig), generation);
});

test.run();
