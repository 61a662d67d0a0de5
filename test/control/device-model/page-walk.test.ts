// Page walks against a model of the SDM's text: random tables in every paging mode, all rights, A and D.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ACCESS_WALK, ExitMessageAt, Reply } from "../../../control/gen/abi";
import { randomizer } from "../lib/load";
import { CODE, Emulator } from "./emulator";

const random = randomizer(0x2b992ddf);
const MEMORY = 16 << 20;
const PHYSICAL_BITS = 40;
const TABLES = 0x200000;
const FRAMES = 0x400000;

const P = 1n;
const W = 2n;
const U = 4n;
const A = 0x20n;
const D = 0x40n;
const PS = 0x80n;
const NX = 1n << 63n;

interface Mode {
  name: string;
  /** Bits of the linear address that each level takes, the last one first. */
  shifts: number[];
  wide: boolean;
  cr4: bigint;
  efer: bigint;
  cs: number;
}

const MODES: Mode[] = [
  { name: "32-bit", shifts: [12, 22], wide: false, cr4: 0n, efer: 0n, cs: 0xc09b },
  { name: "PAE", shifts: [12, 21, 30], wide: true, cr4: 0x20n, efer: 0n, cs: 0xc09b },
  { name: "4-level", shifts: [12, 21, 30, 39], wide: true, cr4: 0x20n, efer: 0x500n, cs: 0xa09b },
  { name: "5-level", shifts: [12, 21, 30, 39, 48], wide: true, cr4: 0x1020n, efer: 0x500n, cs: 0xa09b },
];

interface State {
  mode: Mode;
  user: boolean;
  write: boolean;
  pse: boolean;
  smap: boolean;
  smep: boolean;
  wp: boolean;
  nxe: boolean;
  ac: boolean;
}

/** What a walk should do: an error code, or an address and entries as they are after it. */
interface Expected {
  error?: number;
  physical?: bigint;
  entries: { at: number; value: bigint }[];
}

class Tables {
  constructor(
    readonly machine: Emulator,
    readonly mode: Mode,
  ) {}

  get size(): number {
    return this.mode.wide ? 8 : 4;
  }

  read(at: number): bigint {
    const { memory } = this.machine.rig;
    return this.mode.wide ? memory.readBigUInt64LE(at) : BigInt(memory.readUInt32LE(at));
  }

  write(at: number, value: bigint): void {
    const { memory } = this.machine.rig;
    if (this.mode.wide) memory.writeBigUInt64LE(BigInt.asUintN(64, value), at);
    else memory.writeUInt32LE(Number(BigInt.asUintN(32, value)), at);
  }

  index(linear: bigint, level: number): number {
    const width = this.mode.wide ? 9n : 10n;
    return Number((linear >> BigInt(this.mode.shifts[level]!)) & ((1n << width) - 1n));
  }

  /** The SDM's walk, from the top. */
  expect(linear: bigint, state: State): Expected {
    const { mode } = this;
    const entries: { at: number; value: bigint }[] = [];
    const bad = (bits: number): Expected => ({
      error: bits | (state.write ? 2 : 0) | (state.user ? 4 : 0),
      entries: [],
    });
    let table = TABLES;
    let writable = true;
    let users = true;
    for (let level = mode.shifts.length - 1; level >= 0; level--) {
      const shift = BigInt(mode.shifts[level]!);
      const pointers = mode.name === "PAE" && level === 2;
      const at = table + this.size * (pointers ? Number((linear >> 30n) & 3n) : this.index(linear, level));
      const entry = this.read(at);
      if (!(entry & P)) return bad(0);
      const large = level > 0 && !pointers && (entry & PS) !== 0n && (mode.wide ? true : state.pse);
      let reserved = 0n;
      if (mode.wide && !state.nxe) reserved |= NX;
      if (mode.name === "PAE") reserved |= 0x7ff0000000000000n;
      if (mode.wide) reserved |= (1n << 52n) - (1n << BigInt(PHYSICAL_BITS));
      if (pointers) reserved |= NX | 0x7ff00000000001e6n;
      if (large && level > 2) reserved |= PS;
      if (large && mode.wide && level <= 2) reserved |= ((1n << shift) - 1n) & ~0x1fffn;
      if (large && !mode.wide) reserved |= 1n << 21n;
      if (entry & reserved) return bad(9);
      if (!pointers) {
        writable &&= (entry & W) !== 0n;
        users &&= (entry & U) !== 0n;
        entries.push({ at, value: entry | A });
      }
      if (level === 0 || large) {
        if (state.user && !users) return bad(1);
        if (!state.user && users && state.smap && !state.ac) return bad(1);
        if (state.write && !writable && (state.user || state.wp)) return bad(1);
        if (state.write) entries[entries.length - 1]!.value |= D;
        const offset = linear & ((1n << shift) - 1n);
        let frame = entry & 0x000ffffffffff000n & ~((1n << shift) - 1n);
        if (large && !mode.wide) frame = (entry & 0xffc00000n) | ((entry & 0x1fe000n) << 19n);
        return { physical: frame | offset, entries };
      }
      table = Number(entry & 0x000ffffffffff000n);
    }
    throw new Error("the walk has no end");
  }
}

/** Rights of an entry, mostly those that let an access through. */
function rights(wide: boolean): bigint {
  let bits = random(16) ? P : 0n;
  if (random(6)) bits |= W;
  if (random(3)) bits |= U;
  if (random(2)) bits |= A;
  if (random(2)) bits |= D;
  if (random(4) === 0) bits |= 0x118n & BigInt(random(0x200));
  if (wide && random(6) === 0) bits |= NX;
  if (wide && random(24) === 0) bits |= 1n << BigInt(52 + random(11));
  if (wide && random(24) === 0) bits |= 1n << BigInt(PHYSICAL_BITS + random(52 - PHYSICAL_BITS));
  return bits;
}

/** Builds the way to one linear address; the code's way is made so that it is always there. */
function build(tables: Tables, linear: bigint, state: State): void {
  const { mode } = tables;
  const { memory } = tables.machine.rig;
  memory.fill(0, TABLES, TABLES + 0x20000);
  let free = TABLES + 0x1000;
  for (const [way, isCode] of [
    [BigInt(CODE), true],
    [linear, false],
  ] as const) {
    let table = TABLES;
    for (let level = mode.shifts.length - 1; level >= 0; level--) {
      const pointers = mode.name === "PAE" && level === 2;
      const at = table + tables.size * tables.index(way, level);
      const shared = !isCode && level > 0 && tables.read(at) !== 0n;
      if (shared) {
        table = Number(tables.read(at) & 0xfffff000n);
        continue;
      }
      const shift = mode.shifts[level]!;
      if (isCode) {
        const leaf = level === 0;
        const value = leaf ? BigInt(CODE) : BigInt(free);
        // Code at its level: a page for users only where users run.
        tables.write(at, value | P | (pointers ? 0n : W | (state.user || !leaf ? U : 0n) | A));
        table = free;
        free += 0x1000;
        continue;
      }
      const large = level > 0 && !pointers && random(5) === 0;
      let frame = large ? BigInt(FRAMES) & ~((1n << BigInt(shift)) - 1n) : BigInt(free);
      if (level === 0) frame = BigInt(FRAMES + 0x1000 * random(16));
      if (large && random(6) === 0) frame |= 1n << BigInt(13 + random(shift - 13));
      let value = frame | rights(mode.wide) | (large ? PS : 0n);
      if (pointers)
        value = frame | (random(16) ? P : 0n) | (random(12) === 0 ? 1n << BigInt(1 + random(8)) : 0n);
      tables.write(at, value);
      table = free;
      free += 0x1000;
    }
  }
}

for (const mode of MODES) {
  test(`${mode.name} paging: where an access goes, with which fault, and what it marks`, () => {
    const machine = new Emulator({ memory: MEMORY, physicalBits: PHYSICAL_BITS });
    for (let n = FRAMES; n < MEMORY; n += 4) machine.rig.memory.writeUInt32LE((n * 2654435761) >>> 0, n);
    const tables = new Tables(machine, mode);
    let faults = 0;
    for (let round = 0; round < 4000; round++) {
      const coin = (): boolean => random(2) === 0;
      const state: State = {
        mode, user: coin(), write: coin(), pse: coin(), smap: random(3) === 0, smep: coin(), wp: coin(),
        nxe: random(4) !== 0, ac: coin(),
      }; // prettier-ignore
      const top = mode.shifts[mode.shifts.length - 1]!;
      let linear =
        (BigInt(1 + random(mode.name === "PAE" ? 3 : 200)) << BigInt(top)) | BigInt(random(0x40000000));
      if (!mode.efer) linear &= 0xffffffffn;
      build(tables, linear, state);
      const expected = tables.expect(linear, state);
      const target = expected.physical;
      const inMemory = target !== undefined && target < BigInt(MEMORY);
      const before = Buffer.from(machine.rig.memory.subarray(TABLES, TABLES + 0x20000));
      const answer = machine.run([state.write ? 0xaa : 0xac], {
        mode: mode.efer ? 64 : 32,
        gpr: { 0: 0x5an, 6: linear, 7: linear },
        access: ACCESS_WALK,
        rflags: state.ac ? 0x40002n : 2n,
        fields: [
          [ExitMessageAt.cr0, 0x80000001n | (state.wp ? 0x10000n : 0n)],
          [ExitMessageAt.cr3, BigInt(TABLES)],
          [
            ExitMessageAt.cr4,
            mode.cr4 |
              (state.pse ? 0x10n : 0n) |
              (state.smap ? 0x200000n : 0n) |
              (state.smep ? 0x100000n : 0n),
          ],
          [ExitMessageAt.efer, mode.efer | (state.nxe ? 0x800n : 0n)],
          [ExitMessageAt.cs_access, mode.cs | (state.user ? 0x60 : 0)],
        ],
      });
      const what = `round ${round}: ${JSON.stringify({ ...state, mode: mode.name })} at 0x${linear.toString(16)}`;
      if (expected.error !== undefined) {
        faults++;
        assert.is(answer.reply, Reply.INJECT, what);
        assert.is(answer.vector >>> 0, 0x8000000e, what);
        assert.is(answer.error, expected.error, what);
        assert.is(answer.cr2, linear, what);
      } else {
        assert.is(answer.reply, Reply.ADVANCE, what);
        if (inMemory && !state.write)
          assert.is(Number(machine.gpr(0)), machine.rig.memory[Number(target)], what);
        if (inMemory && state.write) {
          assert.is(machine.rig.memory[Number(target)], 0x5a, what);
        }
        if (!inMemory && !state.write) assert.is(machine.gpr(0), 0xffn, what);
      }
      // Of the tables, A and D have changed, where they should.
      for (const { at, value } of expected.entries) {
        if (mode.wide) before.writeBigUInt64LE(value, at - TABLES);
        else before.writeUInt32LE(Number(value), at - TABLES);
      }
      const after = machine.rig.memory.subarray(TABLES, TABLES + 0x20000);
      if (inMemory && state.write && Number(target) >= TABLES && Number(target) < TABLES + 0x20000) {
        before[Number(target) - TABLES] = 0x5a;
      }
      assert.ok(before.equals(after), what);
    }
    assert.ok(faults > 400 && faults < 3600, `${faults} faults`);
  });
}

// A 4-level way to linear 0x40000000, and what another CPU does while it is walked.
function raced(
  change: (machine: Emulator, times: number) => void,
): [Emulator, ReturnType<Emulator["run"]>, number] {
  const machine = new Emulator({ memory: MEMORY });
  const { memory } = machine.rig;
  const entry = (at: number, value: number): void => void memory.writeBigUInt64LE(BigInt(value), at);
  entry(TABLES, TABLES + 0x1027);
  entry(TABLES + 0x1000, TABLES + 0x2027);
  entry(TABLES + 0x1008, TABLES + 0x3027);
  entry(TABLES + 0x2000, 0xa3);
  entry(TABLES + 0x3000, TABLES + 0x4027);
  entry(TABLES + 0x4000, FRAMES + 0x07);
  memory[FRAMES + 0x1000] = 0x77;
  let times = 0;
  machine.rig.onReplace = () => change(machine, times++);
  const answer = machine.run([0xac], {
    gpr: { 6: 0x40000000n },
    access: ACCESS_WALK,
    fields: [
      [ExitMessageAt.cr0, 0x80000001n],
      [ExitMessageAt.cr3, BigInt(TABLES)],
      [ExitMessageAt.cr4, 0x20n],
    ],
  });
  return [machine, answer, times];
}

test("an entry that changes before it is marked is walked again", () => {
  const [moved, answer, times] = raced((machine, n) => {
    if (n === 0) machine.rig.memory.writeBigUInt64LE(BigInt(FRAMES + 0x1007), TABLES + 0x4000);
  });
  assert.is(answer.reply, Reply.ADVANCE);
  assert.is(times, 2);
  assert.is(moved.gpr(0), 0x77n);
  assert.is(moved.rig.memory.readBigUInt64LE(TABLES + 0x4000), BigInt(FRAMES + 0x1027));
  const [, gone] = raced((machine) => machine.rig.memory.writeBigUInt64LE(0n, TABLES + 0x4000));
  assert.is(gone.reply, Reply.INJECT);
  assert.is(gone.error, 0);
  // One that always changes does not hold the device model.
  const [, endless, tries] = raced((machine, n) =>
    machine.rig.memory.writeBigUInt64LE(
      BigInt(FRAMES + 0x07) | ((BigInt(n & 1) << 9n) ^ 0x200n),
      TABLES + 0x4000,
    ),
  );
  assert.is(endless.reply, Reply.ADVANCE);
  assert.ok(tries < 20);
});

/** A machine with a 4-level way to its code, whose last entry is still to be written. */
function codeTables(): { machine: Emulator; memory: Buffer; leaf: number } {
  const machine = new Emulator({ memory: MEMORY });
  const { memory } = machine.rig;
  for (const [at, value] of [
    [0, 0x1007],
    [0x1000, 0x2007],
    [0x2000, 0x3007],
  ] as const) {
    memory.writeBigUInt64LE(BigInt(TABLES + value), TABLES + at); // prettier-ignore
  }
  const leaf = TABLES + 0x3000 + 8 * (CODE >> 12);
  return { machine, memory, leaf };
}

test("code that cannot be fetched is a page fault of a fetch", () => {
  const { machine, memory, leaf } = codeTables();
  const fetch = (value: bigint, cr4: bigint, efer: bigint, user: boolean) => {
    memory.writeBigUInt64LE(value, leaf);
    return machine.run([0x8b, 0x08], {
      fields: [
        [ExitMessageAt.cr0, 0x80000001n],
        [ExitMessageAt.cr3, BigInt(TABLES)],
        [ExitMessageAt.cr4, 0x20n | cr4],
        [ExitMessageAt.efer, 0x500n | efer],
        [ExitMessageAt.cs_access, user ? 0xa0fb : 0xa09b],
      ],
    });
  };
  const SMEP = 0x100000n;
  const NXE = 0x800n;
  const page = BigInt(CODE) | A;
  assert.is(fetch(page | P, 0n, 0n, false).reply, Reply.ADVANCE);
  assert.is(fetch(page, 0n, 0n, false).error, 0);
  assert.is(fetch(page, 0n, NXE, false).error, 0x10);
  assert.is(fetch(page, SMEP, 0n, true).error, 0x14);
  assert.is(fetch(page | P | NX, 0n, NXE, false).error, 0x11);
  assert.is(fetch(page | P | NX, 0n, 0n, false).error, 9); // reserved without NXE
  assert.is(fetch(page | P, 0n, 0n, true).error, 5);
  assert.is(fetch(page | P | U, 0n, 0n, true).reply, Reply.ADVANCE);
  assert.is(fetch(page | P | U, 0n, 0n, false).reply, Reply.ADVANCE);
  assert.is(fetch(page | P | U, SMEP, 0n, false).error, 0x11);
  assert.is(fetch(page | P | U, SMEP, 0n, true).reply, Reply.ADVANCE);
  const faulted = fetch(page, 0n, NXE, false);
  assert.equal([faulted.vector >>> 0, faulted.cr2], [0x8000000e, BigInt(CODE)]);
});

test("the walk that was remembered holds only as long as its entries", () => {
  const { machine, memory, leaf } = codeTables();
  memory.set([0x8b, 0x50, 0x10], FRAMES); // the same place in another frame: into EDX
  const run = (value: bigint, extra: [number, number | bigint][] = []) => {
    memory.writeBigUInt64LE(value, leaf);
    return machine.run([0x8b, 0x08], {
      fields: [
        [ExitMessageAt.cr0, 0x80000001n],
        [ExitMessageAt.cr3, BigInt(TABLES)],
        [ExitMessageAt.cr4, 0x20n],
        ...extra,
      ],
    });
  };
  const page = BigInt(CODE) | P | A;
  assert.is(run(page).gprs, 1 << 1);
  assert.is(run(page).gprs, 1 << 1);
  assert.is(run(BigInt(FRAMES) | P | A).gprs, 1 << 2);
  assert.is(run(page).gprs, 1 << 1);
  assert.is(run(page & ~P).reply, Reply.INJECT);
  assert.is(run(page).reply, Reply.ADVANCE);
  assert.is(run(page, [[ExitMessageAt.cs_access, 0xa0fb]]).error, 5);
  assert.is(run(page, [[ExitMessageAt.cr3, BigInt(TABLES + 0x1000)]]).reply, Reply.INJECT);
  memory.writeBigUInt64LE(0n, TABLES + 0x2000);
  assert.is(run(page).reply, Reply.INJECT);
});

test.run();
