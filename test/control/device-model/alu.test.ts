// Arithmetic on MMIO operands: results and flags against wide integers, and the forms of the instructions.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ACCESS_READ, ExitMessageAt, ExitType, Reply, REPLY_SET_RFLAGS } from "../../../control/gen/abi";
import { type Answer, Rig } from "./rig";

const IOAPIC = 0xfec00000;
const CODE = 0x100000;
const RCX = ExitMessageAt.gpr + 8;

function run(rig: Rig, bytes: number[], rcx: bigint, rflags = 2n): Answer {
  rig.memory.set(bytes, CODE);
  return rig.message(ExitType.MMIO, [
    [ExitMessageAt.gpa, BigInt(IOAPIC)],
    [ExitMessageAt.access, ACCESS_READ],
    [ExitMessageAt.cs_access, 0xa09b],
    [ExitMessageAt.efer, 0x500n],
    [ExitMessageAt.rip, BigInt(CODE)],
    [ExitMessageAt.rflags, rflags],
    [RCX, rcx],
  ]);
}

const rcx = (rig: Rig): bigint => rig.exitMessage().readBigUInt64LE(RCX);
const flagsOf = (rig: Rig): bigint => rig.exitMessage().readBigUInt64LE(ExitMessageAt.rflags) & 0x8d5n;

/** The result and the flags CF, PF, AF, ZF, SF, OF of a op b on `bits` bits. */
function expected(op: number, a: bigint, b: bigint, carry: bigint, bits: number): [bigint, bigint] {
  const width = BigInt(bits);
  const signed = (value: bigint): bigint => BigInt.asIntN(bits, value);
  const c = op === 2 || op === 3 ? carry : 0n;
  const minus = op === 3 || op === 5 || op === 7;
  const logic = op === 1 ? a | b : op === 4 ? a & b : op === 6 ? a ^ b : null;
  const wide = logic ?? (minus ? a - b - c : a + b + c);
  const wideSigned = minus ? signed(a) - signed(b) - c : signed(a) + signed(b) + c;
  const result = BigInt.asUintN(bits, wide);
  let flags = 0n;
  if (logic === null) {
    if (wide < 0n || wide >> width) flags |= 1n;
    if (minus ? (a & 15n) - (b & 15n) - c < 0n : (a & 15n) + (b & 15n) + c > 15n) flags |= 0x10n;
    if (signed(result) !== wideSigned) flags |= 0x800n;
  }
  let ones = 0n;
  for (let bit = 0n; bit < 8n; bit++) ones += (result >> bit) & 1n;
  if (ones % 2n === 0n) flags |= 4n;
  if (result === 0n) flags |= 0x40n;
  if (result >> (width - 1n)) flags |= 0x80n;
  return [result, flags];
}

test("every operation, size and carry gives the right result and flags", () => {
  const rig = new Rig();
  const values = [
    0n,
    1n,
    0xfn,
    0x10n,
    0x7fn,
    0x80n,
    0xffn,
    0x7fffn,
    0x8000n,
    0xffffn,
    0x7fffffffn,
    0x80000000n,
    0xffffffffn,
  ];
  for (const memory of [0, 1, 0x0f, 0x7f, 0x80, 0xff]) {
    rig.mmioWrite(IOAPIC, memory);
    for (let op = 0; op < 8; op++) {
      for (const bits of [8, 16, 32]) {
        for (const value of values) {
          for (const carry of [0n, 1n]) {
            const a = BigInt.asUintN(bits, value);
            const code =
              bits === 8 ? [op * 8 + 2, 0x08] : bits === 16 ? [0x66, op * 8 + 3, 0x08] : [op * 8 + 3, 0x08];
            const answer = run(rig, code, a, 2n | carry | 0x200n);
            const [result, flags] = expected(op, a, BigInt(memory), carry, bits);
            const name = `op ${op}, ${bits} bits, ${a} and ${memory}, carry ${carry}`;
            assert.is(answer.length, code.length, name);
            assert.ok(answer.gprs & REPLY_SET_RFLAGS, name);
            assert.is(flagsOf(rig), flags, name);
            assert.is(BigInt.asUintN(bits, rcx(rig)), op === 7 ? a : result, name);
          }
        }
      }
    }
  }
});

test("forms that change memory", () => {
  const rig = new Rig();
  const forms: [number[], number, number][] = [
    [[0x81, 0x08, 0x03, 0x00, 0x01, 0x00], 0x80, 0x83], // orl $0x10003,(%rax)
    [[0x80, 0x20, 0x7f], 0xff, 0x7f], // andb $0x7f,(%rax)
    [[0x01, 0x08], 0x10, 0x22], // add %ecx,(%rax)
    [[0xf0, 0x30, 0x08], 0x10, 0x02], // lock xor %cl,(%rax)
    [[0x83, 0x28, 0x01], 0x10, 0x0f], // subl $1,(%rax)
  ];
  for (const [bytes, before, after] of forms) {
    rig.mmioWrite(IOAPIC, before);
    const answer = run(rig, bytes, 0x12n);
    assert.is(answer.reply, Reply.ADVANCE);
    assert.is(answer.length, bytes.length);
    assert.is(rig.mmioRead(IOAPIC), after);
  }
});

test("CMP and TEST change flags only; XCHG both operands and no flags", () => {
  const rig = new Rig();
  rig.mmioWrite(IOAPIC, 0x85);
  for (const [bytes, zero] of [
    [[0x83, 0x78, 0x10, 0x85], false], // cmpl $-123,0x10(%rax)
    [[0x80, 0x38, 0x85], true], // cmpb $0x85,(%rax)
    [[0xf6, 0x00, 0x80], false], // testb $0x80,(%rax)
    [[0x85, 0x08], true], // test %ecx,(%rax)
    [[0xf7, 0x00, 0x00, 0x01, 0x00, 0x00], true], // testl $0x100,(%rax)
  ] as [number[], boolean][]) {
    const answer = run(rig, bytes, 0x100n);
    assert.is(answer.length, bytes.length);
    assert.is(answer.gprs, REPLY_SET_RFLAGS);
    assert.is((flagsOf(rig) & 0x40n) !== 0n, zero);
    assert.is(rig.mmioRead(IOAPIC), 0x85);
  }
  const answer = run(rig, [0x87, 0x08], 0xffffffff00000012n); // xchg %ecx,(%rax)
  assert.is(answer.gprs, 1 << 1);
  assert.is(rcx(rig), 0x85n);
  assert.is(rig.mmioRead(IOAPIC), 0x12);
});

test.run();
