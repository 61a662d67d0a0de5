// Instructions with two operands, or one on two pages: strings, PUSH and POP, with segments and faults.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ACCESS_READ, ACCESS_WALK, ExitMessageAt, Reply, Segment } from "../../../control/gen/abi";
import { Emulator, SCRATCH } from "./emulator";

const DATA = 0x180000;
const AT = BigInt(SCRATCH);
const SI = 6;
const DI = 7;
const CX = 1;
const PIECE = 256;

const REP = 0xf3;
const REPNE = 0xf2;
const DF = 0x402n;

function fill(bytes: Buffer, from: number): void {
  for (let n = 0; n < bytes.length; n++) bytes[n] = (from + n * 7) & 0xff;
}

test("REP MOVS in every size, both ways", () => {
  for (const size of [1, 2, 4, 8]) {
    const code = [REP, ...(size === 2 ? [0x66] : size === 8 ? [0x48] : []), size === 1 ? 0xa4 : 0xa5];
    for (const out of [true, false]) {
      const machine = new Emulator();
      const memory = machine.rig.memory.subarray(DATA, DATA + 0x100);
      fill(out ? memory : machine.cells.subarray(0x40, 0x140), size);
      const [from, to] = out ? [BigInt(DATA), AT + 0x40n] : [AT + 0x40n, BigInt(DATA)];
      const count = 0x100n / BigInt(size);
      const answer = machine.run(code, { gpr: { [SI]: from, [DI]: to, [CX]: count } });
      assert.is(answer.reply, Reply.ADVANCE);
      assert.is(answer.length, code.length);
      assert.is(answer.gprs, (1 << SI) | (1 << DI) | (1 << CX));
      assert.equal([machine.gpr(SI), machine.gpr(DI), machine.gpr(CX)], [from + 0x100n, to + 0x100n, 0n]);
      assert.ok(memory.equals(machine.cells.subarray(0x40, 0x140)));
      assert.equal(machine.accesses, out ? [0, Number(count)] : [Number(count), 0]);
    }
  }
});

test("backwards, once without REP, and REP with a count of zero", () => {
  const machine = new Emulator();
  machine.rig.memory.write("abcd", DATA);
  const back = machine.run([REP, 0xa4], {
    gpr: { [SI]: BigInt(DATA + 3), [DI]: AT + 3n, [CX]: 4n },
    rflags: DF,
  });
  assert.is(back.reply, Reply.ADVANCE);
  assert.is(machine.cells.toString("latin1", 0, 4), "abcd");
  assert.equal([machine.gpr(SI), machine.gpr(DI)], [BigInt(DATA - 1), AT - 1n]);
  const once = machine.run([0xa4], { gpr: { [SI]: BigInt(DATA), [DI]: AT + 9n, [CX]: 4n } });
  assert.is(once.gprs, (1 << SI) | (1 << DI));
  assert.is(machine.cells[9], 0x61);
  const none = machine.run([REP, 0xa4], { gpr: { [SI]: BigInt(DATA), [DI]: AT } });
  assert.is(none.reply, Reply.ADVANCE);
  assert.is(none.gprs, 0);
});

test("a long REP STOS is done in pieces, and 32-bit addresses wrap", () => {
  const machine = new Emulator();
  const first = machine.run([REP, 0xab], { gpr: { 0: 0x11223344n, [DI]: AT, [CX]: 600n } });
  assert.is(first.reply, Reply.RETRY);
  assert.equal([machine.gpr(DI), machine.gpr(CX)], [AT + 4n * BigInt(PIECE), 600n - BigInt(PIECE)]);
  assert.is(machine.cells.readUInt32LE(4 * PIECE - 4), 0x11223344);
  assert.is(machine.cells.readUInt32LE(4 * PIECE), 0);
  const short = machine.run([0x67, REP, 0xaa], {
    gpr: { [DI]: 0xffffffff00000000n | (AT + 1n), [CX]: 0xffffffff00000002n },
  });
  assert.is(short.reply, Reply.ADVANCE);
  assert.equal([machine.gpr(DI), machine.gpr(CX)], [AT + 3n, 0n]);
});

test("LODS, SCAS and CMPS, with their ends", () => {
  const machine = new Emulator();
  machine.cells.write("hello, world", 0);
  machine.run([0xac], { gpr: { 0: 0x1234n, [SI]: AT + 4n } });
  assert.equal([machine.gpr(0), machine.gpr(SI)], [0x126fn, AT + 5n]);
  const scan = machine.run([REPNE, 0xae], { gpr: { 0: 0x2cn, [DI]: AT, [CX]: 100n } });
  assert.is(scan.reply, Reply.ADVANCE);
  assert.equal([machine.gpr(DI), machine.gpr(CX), machine.flags & 0x40n], [AT + 6n, 94n, 0x40n]);
  machine.rig.memory.write("help", DATA);
  const compare = machine.run([REP, 0xa6], { gpr: { [SI]: AT, [DI]: BigInt(DATA), [CX]: 12n } });
  assert.is(compare.reply, Reply.ADVANCE);
  assert.equal([machine.gpr(SI), machine.gpr(CX)], [AT + 4n, 8n]);
  assert.is(machine.flags & 0x41n, 1n); // "l" is below "p"
});

test("segments: bases, limits, types", () => {
  const machine = new Emulator();
  const { segments } = machine.rig;
  machine.rig.memory.write("seg", DATA);
  segments[Segment.FS] = { base: BigInt(DATA) - 0x10n, limit: 0x12, access: 0xc091, selector: 8 };
  segments[Segment.ES] = { base: AT, limit: 0xfff, access: 0x4093, selector: 16 };
  const copy = (count: bigint) =>
    machine.run([0x64, REP, 0xa4], { mode: 32, gpr: { [SI]: 0x10n, [DI]: 0x20n, [CX]: count } });
  assert.is(copy(3n).reply, Reply.ADVANCE);
  assert.is(machine.cells.toString("latin1", 0x20, 0x23), "seg");
  // FS ends after three bytes: three elements are done, then there is a fault.
  assert.is(copy(5n).reply, Reply.RETRY);
  assert.equal([machine.gpr(SI), machine.gpr(CX)], [0x13n, 2n]);
  const faults = (bytes: number[], gpr: Record<number, bigint>, vector: number): void => {
    const answer = machine.run(bytes, { mode: 32, gpr });
    assert.is(answer.reply, Reply.INJECT);
    assert.is(answer.vector >>> 0, (0x80000000 | vector) >>> 0);
    assert.is(answer.error, 0);
  };
  faults([0x64, REP, 0xa4], { [SI]: 0x13n, [DI]: 0n, [CX]: 1n }, 13);
  faults([0xab], { [DI]: 0xffdn }, 13); // over the end of ES
  segments[Segment.ES]!.access = 0x4091; // read-only
  faults([0xaa], { [DI]: 0n }, 13);
  segments[Segment.ES] = { base: AT, limit: 0xfff, access: 0x4097, selector: 16 }; // expands down
  faults([0xaa], { [DI]: 0xfffn }, 13);
  assert.is(machine.run([0xaa], { mode: 32, gpr: { 0: 0x99n, [DI]: 0x1000n } }).reply, Reply.ADVANCE);
  assert.is(machine.cells[0x1000], 0x99);
  segments[Segment.ES]!.access = 0x10000; // unusable
  faults([0xaa], { [DI]: 0x1000n }, 13);
  segments[Segment.SS]!.limit = 0xff;
  faults([0x36, 0xac], { [SI]: 0x100n }, 12);
  segments[Segment.DS] = { base: 0n, limit: 0xffffffff, access: 0xc099, selector: 24 }; // code that cannot be read
  faults([0xac], { [SI]: 0n }, 13);
});

test("64-bit code: FS and GS have bases, addresses must be canonical", () => {
  const machine = new Emulator();
  machine.rig.segments[Segment.GS]!.base = AT - 0x1000n;
  machine.rig.segments[Segment.DS]!.base = 0x5555n; // ignored
  machine.cells[0x10] = 0x42;
  machine.run([0x65, 0xac], { gpr: { [SI]: 0x1010n } });
  assert.is(machine.gpr(0), 0x42n);
  machine.run([0xac], { gpr: { [SI]: AT + 0x10n } });
  assert.is(machine.gpr(0), 0x42n);
  const wild = machine.run([0xac], { gpr: { [SI]: 0x800000000000n } });
  assert.equal([wild.reply, wild.vector >>> 0], [Reply.INJECT, 0x8000000d]);
  const stack = machine.run([0x8b, 0x04, 0x24], {
    gpr: { 4: 0x7ffffffffffdn },
    access: ACCESS_READ | ACCESS_WALK,
  });
  assert.equal([stack.reply, stack.vector >>> 0], [Reply.INJECT, 0x8000000c]);
});

test("real mode: 16-bit addresses, bases and limits, no error code to see", () => {
  const machine = new Emulator();
  machine.rig.segments[Segment.DS] = { base: 0x10000n, limit: 0xffff, access: 0x93, selector: 0x1000 };
  machine.rig.segments[Segment.ES] = { base: AT, limit: 0xffff, access: 0x93, selector: 0x2000 };
  machine.rig.memory.write("real", 0x10000 + 0x8000);
  const answer = machine.run([REP, 0xa4], {
    mode: 16,
    gpr: { [SI]: 0x7fff8000n, [DI]: 0x12340010n, [CX]: 0x50004n },
    fields: [[ExitMessageAt.cr0, 0n]],
  });
  assert.is(answer.reply, Reply.ADVANCE);
  assert.is(machine.cells.toString("latin1", 0x10, 0x14), "real");
  assert.equal([machine.gpr(SI), machine.gpr(DI), machine.gpr(CX)], [0x7fff8004n, 0x12340014n, 0x50000n]);
  const over = machine.run([0xad], { mode: 16, gpr: { [SI]: 0xffffn }, fields: [[ExitMessageAt.cr0, 0n]] });
  assert.is(over.vector & 31, 13);
});

test("PUSH and POP of MMIO", () => {
  const machine = new Emulator();
  machine.cells.writeBigUInt64LE(0x1122334455667788n, 8);
  const stack = BigInt(DATA) + 0x80n;
  machine.run([0xff, 0x77, 0x08], { gpr: { 4: stack, 7: AT } }); // push 8(%rdi)
  assert.is(machine.gpr(4), stack - 8n);
  assert.is(machine.rig.memory.readBigUInt64LE(DATA + 0x78), 0x1122334455667788n);
  machine.run([0x66, 0xff, 0x77, 0x08], { gpr: { 4: stack, 7: AT } });
  assert.is(machine.gpr(4), stack - 2n);
  machine.run([0x8f, 0x47, 0x10], { gpr: { 4: stack - 8n, 7: AT } }); // pop 0x10(%rdi)
  assert.is(machine.gpr(4), stack);
  assert.is(machine.cells.readUInt16LE(0x16), 0x7788);
  // An address by the stack pointer is by its value after the POP.
  machine.cells.writeUInt32LE(0xabcd1234, 0x100);
  machine.run([0x8f, 0x44, 0x24, 0x04], { mode: 32, gpr: { 4: AT + 0x100n } });
  assert.is(machine.cells.readUInt32LE(0x108), 0xabcd1234);
  machine.rig.segments[Segment.SS] = { base: BigInt(DATA), limit: 0xffff, access: 0x93, selector: 8 };
  machine.run([0xff, 0x37], { mode: 32, gpr: { 4: 0x70000n, 7: AT + 0x100n } }); // a 16-bit stack wraps
  assert.equal([machine.gpr(4), machine.rig.memory.readUInt32LE(DATA + 0xfffc)], [0x7fffcn, 0xabcd1234]);
  const half = machine.run([0xff, 0x37], { mode: 32, gpr: { 4: 2n, 7: AT } }); // but no operand does
  assert.equal([half.reply, half.vector >>> 0], [Reply.INJECT, 0x8000000c]);
});

// Page tables at 2 MiB: code as it is; linear 0x40000000 and on: a memory page, two pages of MMIO that are
// in the wrong order, a page that is not there, a read-only memory page.
const PAGED: [number, number | bigint][] = [
  [ExitMessageAt.cr0, 0x80010001n],
  [ExitMessageAt.cr3, 0x200000n],
  [ExitMessageAt.cr4, 0x20n],
];
const BASE = 0x40000000n;

function paged(): Emulator {
  const machine = new Emulator();
  const entry = (table: number, index: number, value: bigint): void => {
    machine.rig.memory.writeBigUInt64LE(value, table + 8 * index);
  };
  entry(0x200000, 0, 0x201007n);
  entry(0x201000, 0, 0x202007n);
  entry(0x201000, 1, 0x203007n);
  entry(0x202000, 0, 0x83n);
  entry(0x203000, 0, 0x204007n);
  [BigInt(DATA), AT + 0x1000n, AT, 0n, BigInt(DATA + 0x1000)].forEach((gpa, n) =>
    entry(0x204000, n, gpa === 0n ? 0n : gpa | (n === 4 ? 1n : 3n)),
  );
  return machine;
}

test("an operand on two pages: memory and MMIO, MMIO twice, and a fault on the second", () => {
  const machine = paged();
  machine.rig.memory.set([1, 2, 3, 4], DATA + 0xffc);
  machine.cells.set([5, 6, 7, 8], 0x1000);
  const load = (at: bigint, gpa: number) =>
    machine.run([0x48, 0x8b, 0x0f], { gpr: { 7: at }, gpa, fields: PAGED });
  assert.is(load(BASE + 0xffcn, SCRATCH + 0x1000).reply, Reply.ADVANCE);
  assert.is(machine.gpr(1), 0x0807060504030201n);
  machine.cells.set([9, 10], 0x1ffe);
  machine.cells.set([11, 12, 13, 14, 15, 16], 0);
  load(BASE + 0x1ffen, SCRATCH + 0x1ffe);
  assert.is(machine.gpr(1), 0x100f0e0d0c0b0a09n);
  machine.run([0x48, 0x89, 0x0f], {
    gpr: { 7: BASE + 0xffcn, 1: 0x8877665544332211n },
    gpa: SCRATCH + 0x1000,
    fields: PAGED,
  });
  assert.is(machine.rig.memory.readUInt32LE(DATA + 0xffc), 0x44332211);
  assert.is(machine.cells.readUInt32LE(0x1000), 0x88776655);
  const [reads] = machine.accesses;
  const absent = load(BASE + 0x2ffcn, SCRATCH + 0xffc);
  assert.is(absent.reply, Reply.INJECT);
  assert.equal([absent.vector >>> 0, absent.error, absent.cr2], [0x8000000e, 0, BASE + 0x3000n]);
  assert.is(machine.accesses[0], reads);
});

test("a string that meets a page fault: what is done is done, then the fault", () => {
  const machine = paged();
  const copy = (from: bigint, to: bigint, count: bigint) =>
    machine.run([REP, 0xa5], { gpr: { [SI]: from, [DI]: to, [CX]: count }, fields: PAGED });
  const first = copy(BASE + 0x2ff0n, BASE, 100n); // from MMIO to memory, over the end
  assert.is(first.reply, Reply.RETRY);
  assert.equal([machine.gpr(SI), machine.gpr(DI), machine.gpr(CX)], [BASE + 0x3000n, BASE + 0x10n, 96n]);
  const [reads, writes] = machine.accesses;
  const second = copy(BASE + 0x3000n, BASE + 0x10n, 96n);
  assert.equal([second.reply, second.error, second.cr2], [Reply.INJECT, 0, BASE + 0x3000n]);
  // A fault of the target comes before the source is read.
  const target = copy(BASE + 0x2000n, BASE + 0x4000n, 1n);
  assert.equal([target.reply, target.error, target.cr2], [Reply.INJECT, 3, BASE + 0x4000n]);
  assert.equal(machine.accesses, [reads, writes]);
});

test("a string crosses from MMIO into memory", () => {
  const machine = paged();
  machine.run([REP, 0xab], { gpr: { 0: 0xcafef00dn, [DI]: BASE + 0xff8n, [CX]: 4n }, fields: PAGED });
  assert.is(machine.rig.memory.readBigUInt64LE(DATA + 0xff8), 0xcafef00dcafef00dn);
  assert.is(machine.cells.readBigUInt64LE(0x1000), 0xcafef00dcafef00dn);
});

test.run();
