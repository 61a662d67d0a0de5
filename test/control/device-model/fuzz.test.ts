// Random accesses by a hostile guest: the device model must answer every one and never trap.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ExitMessageAt, ExitType } from "../../../control/gen/abi";
import { fuzz, Fuzzer } from "./fuzzer";
import { SEEDS } from "./fuzz-seeds";
import { Rig } from "./rig";

const REPLIES = 4;
/** Machines that are made and driven for so many steps; fuzz.long.test.ts takes more. */
const MACHINES = 80;
const STEPS = 2000;
let seed = 0x9e3779b9;

function random(below: number): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) % below;
}

function random64(): bigint {
  const edges = [0n, 1n, 0xfffn, 0xffffffffn, 0xffffffffffffffffn, 0x8000000000000000n, 0x4000000n - 1n];
  if (random(3) === 0) return edges[random(edges.length)] ?? 0n;
  return BigInt.asUintN(
    64,
    (BigInt(random(0x100000000)) << BigInt(random(40))) ^ BigInt(random(0x100000000)),
  );
}

const PORTS = [0x20, 0xa0, 0x40, 0x60, 0x70, 0x90, 0x3f8, 0x402, 0x4d0, 0x510, 0x600, 0xcf8, 0xfff8];

test("ports", () => {
  const rig = new Rig();
  for (let i = 0; i < 60000; i++) {
    const port = random(4) ? (PORTS[random(PORTS.length)] ?? 0) + random(16) : random(65536);
    const size = [1, 2, 4][random(3)] ?? 1;
    if (random(2)) rig.in(port & 0xffff, size);
    else
      assert.ok(rig.out(port & 0xffff, random(4) ? random(256) : random(0x100000000), size).reply < REPLIES);
    if (random(64) === 0) rig.advance(random(3_000_000));
    if (random(512) === 0) rig.type("some input\n");
    if (random(4096) === 0) rig.command({ t: "powerbutton" });
    if (random(1024) === 0) {
      rig.events();
      rig.output();
      rig.msis.length = 0;
    }
  }
});

test("the I/O APIC", () => {
  const rig = new Rig();
  for (let i = 0; i < 20000; i++) {
    rig.mmioWrite(0xfec00000 + random(0x44), random(2) ? random(64) : random(0x100000000));
    rig.mmioRead(0xfec00000 + random(0x1000));
    if (random(16) === 0) rig.message(ExitType.EOI, [[ExitMessageAt.value, random64()]]);
    if (random(16) === 0) rig.command({ t: "powerbutton" });
    rig.msis.length = 0;
  }
});

test("whole messages with random state and code", () => {
  const rig = new Rig({ memory: 32 << 20 });
  for (let i = 0; i < rig.memory.length; i += 4) {
    if (random(3) === 0 && i > 0x200000 && i < 0x300000) rig.memory.writeUInt32LE(random(0x100000000), i);
  }
  const opcodes = [0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa3, 0xc6, 0xc7, 0x0f, 0x66, 0x67, 0x48, 0xf3, 0x63];
  for (let i = 0; i < 60000; i++) {
    for (let at = 0; at < 16; at++) {
      rig.memory[0x100ff8 + at] = random(2) ? random(256) : (opcodes[random(opcodes.length)] ?? 0);
    }
    const fields: [number, number | bigint][] = [];
    for (let offset = 4; offset < ExitMessageAt.reply; offset += 8) fields.push([offset & ~7, random64()]);
    fields.push([ExitMessageAt.size, [1, 2, 4][random(3)] ?? 1], [ExitMessageAt.access, random(16)]);
    fields.push([ExitMessageAt.cs_access, [0x9b, 0xc09b, 0xa09b, 0xa0fb][random(4)] ?? 0]);
    if (random(4)) fields.push([ExitMessageAt.rip, BigInt(0x100ff8)], [ExitMessageAt.cs_base, 0n]);
    if (random(4)) fields.push([ExitMessageAt.cr3, BigInt(0x200000 + 4096 * random(256))]);
    if (random(2)) fields.push([ExitMessageAt.gpa, BigInt(0xfec00000 + random(0x1010))]);
    fields.push(
      [ExitMessageAt.cr0, random(2) ? 0x80000001n : 1n],
      [ExitMessageAt.efer, random(2) ? 0x500n : 0n],
    );
    const type = [ExitType.MMIO, ExitType.PORT_STRING, random(10)][random(3)] ?? 0;
    assert.ok(rig.message(type, fields).reply < REPLIES);
    rig.msis.length = 0;
  }
});

test("garbage from the control domain", () => {
  const rig = new Rig();
  for (let i = 0; i < 2000; i++) {
    rig.scribble(random(4), random(2), random(2) ? random(0x100000000) : random(5000));
    rig.type(String.fromCharCode(random(256)).repeat(random(20)));
    rig.in(0x3f8);
    rig.command({ t: ["run", "powerbutton", "?", ""][random(4)], x: random(9) });
  }
});

for (const [seed, steps, what] of SEEDS) test(`once: ${what}`, () => fuzz(seed, steps));

test("whole machines: ports, instructions, PCI, rings, time, the control domain", () => {
  for (let n = 0; n < MACHINES; n++) fuzz(n, STEPS);
});

test("the fuzzer sees a trap", () => {
  const { rig } = new Fuzzer(0);
  assert.throws(() => rig.command({ t: "trap" }), /was told to trap/);
});

test.run();
