// Arithmetic on MMIO operands: results and flags against wide integers, and the forms of the instructions.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Reply, REPLY_SET_RFLAGS } from "../../../control/gen/abi";
import { Emulator } from "./emulator";

const AT = 0x40;
const WIDTHS = [8, 16, 32, 64];

/** The prefix of an operand's width; the opcode is even for bytes. */
function sized(bits: number, opcode: number[], tail: number[] = [0x08]): number[] {
  const head = opcode.slice(0, -1);
  const last = opcode[opcode.length - 1]! - (bits === 8 ? 1 : 0);
  return [...(bits === 16 ? [0x66] : bits === 64 ? [0x48] : []), ...head, last, ...tail];
}

function put(machine: Emulator, value: bigint): void {
  machine.cells.writeBigUInt64LE(BigInt.asUintN(64, value), AT);
}

function got(machine: Emulator, bits = 64): bigint {
  return BigInt.asUintN(bits, machine.cells.readBigUInt64LE(AT));
}

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

const VALUES = [
  0n, 1n, 2n, 0xfn, 0x10n, 0x55n, 0x7fn, 0x80n, 0xaan, 0xfen, 0xffn, 0x7fffn, 0x8000n, 0xffffn, 0x7fffffffn, 0x80000000n,
  0xffffffffn, 0x123456789abcdef0n, 0x7fffffffffffffffn, 0x8000000000000000n, 0xffffffffffffffffn,
]; // prettier-ignore

/** Values of a width, each once. */
function valuesOf(bits: number): bigint[] {
  return [...new Set(VALUES.map((value) => BigInt.asUintN(bits, value)))];
}

test("every operation, size and carry gives the right result and flags, in both directions", () => {
  const machine = new Emulator();
  for (let op = 0; op < 8; op++) {
    for (const bits of WIDTHS) {
      for (const memory of valuesOf(bits)) {
        for (const register of valuesOf(bits)) {
          const carry = (register & 1n) ^ ((memory >> 1n) & 1n);
          const name = `op ${op}, ${bits} bits, ${register} and ${memory}, carry ${carry}`;
          const old = memory | (0x1122334455667788n << BigInt(bits));
          put(machine, old);
          const code = sized(bits, [op * 8 + 3]);
          const into = machine.run(code, { gpr: { 1: register }, rflags: 0x202n | carry });
          const [result, flags] = expected(op, register, memory, carry, bits);
          assert.is(into.length, code.length, name);
          assert.ok(into.gprs & REPLY_SET_RFLAGS, name);
          assert.is(machine.flags, flags, name);
          assert.is(BigInt.asUintN(bits, machine.gpr(1)), op === 7 ? register : result, name);
          assert.is(got(machine), BigInt.asUintN(64, old), name);

          const out = machine.run(sized(bits, [op * 8 + 1]), {
            gpr: { 1: register },
            rflags: 0x8d7n - 1n + carry,
          });
          const [back, after] = expected(op, memory, register, carry, bits);
          assert.is(out.gprs, REPLY_SET_RFLAGS, name);
          assert.is(machine.flags, after, name);
          assert.is(got(machine, bits), op === 7 ? memory : back, name);
          assert.is(got(machine) >> BigInt(bits), BigInt.asUintN(64, old) >> BigInt(bits), name);
        }
      }
    }
  }
});

/** Rotations and shifts, a bit at a time: the result, carry and (for one bit) overflow. */
function shifted(
  kind: number,
  a: bigint,
  count: number,
  carry: bigint,
  bits: number,
): [bigint, bigint, bigint] {
  const top = BigInt(bits - 1);
  const first = a;
  let c = carry;
  for (let n = 0; n < count; n++) {
    const high = (a >> top) & 1n;
    const low = a & 1n;
    const into = kind < 2 ? (kind === 0 ? high : low) : kind < 4 ? c : kind === 7 ? high : 0n;
    const left = kind % 2 === 0;
    a = left ? BigInt.asUintN(bits, a << 1n) | into : (a >> 1n) | (into << top);
    c = left ? high : low;
  }
  const high = (a >> top) & 1n;
  const overflow =
    kind % 2 === 0
      ? high ^ c
      : kind === 5
        ? (first >> top) & 1n
        : kind === 7
          ? 0n
          : high ^ ((a >> (top - 1n)) & 1n);
  return [a, c, overflow];
}

test("rotations and shifts by any count", () => {
  const machine = new Emulator();
  for (let kind = 0; kind < 8; kind++) {
    for (const bits of WIDTHS) {
      for (const value of valuesOf(bits)) {
        for (let cl = 0; cl < 70; cl += 1 + (cl % 3)) {
          const carry = BigInt(cl >> 1) & 1n;
          const count = cl & (bits === 64 ? 63 : 31);
          put(machine, value);
          machine.run(sized(bits, [0xd3], [kind << 3]), {
            gpr: { 1: BigInt(cl) | 0x1200n },
            rflags: 0x202n | carry,
          });
          const name = `${kind}, ${bits} bits, ${value} by ${cl}, carry ${carry}`;
          const [result, out, overflow] = shifted(kind, value, count, carry, bits);
          assert.is(got(machine, bits), result, name);
          if (count === 0) {
            assert.is(machine.flags, carry, name);
            continue;
          }
          // The carry of a shift by more than the width is undefined.
          if (kind < 4 || count <= bits) assert.is(machine.flags & 1n, out, name);
          if (count === 1) assert.is((machine.flags >> 11n) & 1n, overflow, name);
          if (kind >= 4) assert.is((machine.flags >> 6n) & 1n, result === 0n ? 1n : 0n, name);
          if (kind >= 4) assert.is((machine.flags >> 7n) & 1n, result >> BigInt(bits - 1), name);
          // The forms with an immediate and with one bit do the same.
          put(machine, value);
          machine.run(sized(bits, [0xc1], [kind << 3, cl]), { rflags: 0x202n | carry });
          assert.is(got(machine, bits), result, name);
          if (count !== 1) continue;
          put(machine, value);
          machine.run(sized(bits, [0xd1], [kind << 3]), { rflags: 0x202n | carry });
          assert.is(got(machine, bits), result, name);
        }
      }
    }
  }
});

test("INC, DEC, NOT and NEG", () => {
  const machine = new Emulator();
  for (const bits of WIDTHS) {
    for (const value of valuesOf(bits)) {
      for (const carry of [0n, 1n]) {
        const one = (op: number, a: bigint, b: bigint): [bigint, bigint] => expected(op, a, b, 0n, bits);
        const kept = ([result, flags]: [bigint, bigint]): [bigint, bigint] => [result, (flags & ~1n) | carry];
        for (const [opcode, modrm, [result, flags]] of [
          [0xff, 0x00, kept(one(0, value, 1n))],
          [0xff, 0x08, kept(one(5, value, 1n))],
          [0xf7, 0x10, [BigInt.asUintN(bits, ~value), carry]],
          [0xf7, 0x18, one(5, 0n, value)],
        ] as [number, number, [bigint, bigint]][]) {
          put(machine, value);
          machine.run(sized(bits, [opcode], [modrm]), { rflags: 0x202n | carry });
          assert.is(got(machine, bits), result, `${opcode} ${modrm} ${value}`);
          assert.is(machine.flags, flags, `${opcode} ${modrm} ${value}`);
        }
      }
    }
  }
});

test("IMUL, BSF and BSR", () => {
  const machine = new Emulator();
  for (const bits of WIDTHS.slice(1)) {
    for (const a of valuesOf(bits)) {
      put(machine, a);
      for (const b of valuesOf(bits)) {
        const wide = BigInt.asIntN(bits, a) * BigInt.asIntN(bits, b);
        const overflow = BigInt.asIntN(bits, wide) === wide ? 0n : 0x801n;
        machine.run(sized(bits, [0x0f, 0xaf]), { gpr: { 1: b } });
        assert.is(BigInt.asUintN(bits, machine.gpr(1)), BigInt.asUintN(bits, wide));
        assert.is(machine.flags & 0x801n, overflow, `${a} * ${b}, ${bits} bits`);
      }
      const by = BigInt.asUintN(bits, BigInt.asIntN(bits, a) * -3n);
      machine.run(sized(bits, [0x6b], [0x08, 0xfd]));
      assert.is(BigInt.asUintN(bits, machine.gpr(1)), by);
      const binary = a.toString(2);
      for (const [opcode, found] of [
        [0xbc, binary.length - 1 - binary.lastIndexOf("1")],
        [0xbd, binary.length - 1],
      ] as [number, number][]) {
        machine.run(sized(bits, [0x0f, opcode]), { gpr: { 1: 0x99n } });
        assert.is(machine.flags & 0x40n, a === 0n ? 0x40n : 0n);
        assert.is(machine.gpr(1), a === 0n ? 0x99n : BigInt(found));
      }
    }
  }
});

test("BT, BTS, BTR and BTC, by an immediate and by a register", () => {
  const machine = new Emulator();
  for (const bits of WIDTHS.slice(1)) {
    for (const value of valuesOf(bits)) {
      for (let bit = 0; bit < bits; bit += 3) {
        const mask = 1n << BigInt(bit);
        [value, value | mask, value & ~mask, value ^ mask].forEach((result, kind) => {
          const carry = value & mask ? 1n : 0n;
          put(machine, value);
          machine.run(sized(bits, [0x0f, 0xba], [0x20 | (kind << 3), bit + 128]), {
            rflags: 0x8d6n | (1n - carry),
          });
          assert.is(got(machine, bits), result);
          assert.is(machine.flags, 0x8d4n | carry);
          put(machine, value);
          machine.run(sized(bits, [0x0f, 0xa3 + 8 * kind]), {
            gpr: { 0: 0xe8000040n, 1: BigInt(bit) },
            rflags: 2n,
          });
          assert.is(got(machine, bits), result);
          assert.is(machine.flags, carry);
        });
      }
    }
  }
  // The register's upper bits choose another word, before or behind.
  machine.cells.fill(0);
  machine.run([0x0f, 0xab, 0x08], { gpr: { 0: 0xe8000040n, 1: 100n } });
  assert.is(machine.cells.readUInt32LE(0x4c), 1 << 4);
  machine.run([0x48, 0x0f, 0xab, 0x08], { gpr: { 0: 0xe8000040n, 1: -1n } });
  assert.is(machine.cells.readBigUInt64LE(0x38), 1n << 63n);
  machine.run([0x66, 0x0f, 0xab, 0x08], { gpr: { 0: 0xe8000040n, 1: 0xffefn } });
  assert.is(machine.cells.readUInt16LE(0x3c), 1 << 15);
});

test("XCHG, XADD and CMPXCHG, with LOCK and without", () => {
  const machine = new Emulator();
  for (const lock of [[], [0xf0]]) {
    for (const bits of WIDTHS) {
      for (const a of valuesOf(bits)) {
        for (const b of valuesOf(bits)) {
          put(machine, a);
          machine.run([...lock, ...sized(bits, [0x87])], { gpr: { 1: b } });
          assert.is(got(machine, bits), b);
          assert.is(BigInt.asUintN(bits, machine.gpr(1)), a);

          put(machine, a);
          machine.run([...lock, ...sized(bits, [0x0f, 0xc1])], { gpr: { 1: b } });
          const [sum, flags] = expected(0, a, b, 0n, bits);
          assert.is(got(machine, bits), sum);
          assert.is(BigInt.asUintN(bits, machine.gpr(1)), a);
          assert.is(machine.flags, flags);

          put(machine, a);
          machine.run([...lock, ...sized(bits, [0x0f, 0xb1])], { gpr: { 0: b, 1: 0x77n } });
          assert.is(got(machine, bits), a === b ? 0x77n : a);
          assert.is(BigInt.asUintN(bits, machine.gpr(0)), a);
          assert.is(machine.flags, expected(7, b, a, 0n, bits)[1]);
        }
      }
    }
  }
});

test("CMPXCHG8B and CMPXCHG16B", () => {
  const machine = new Emulator();
  const at = 0xe8000040n;
  const run = (bytes: number[], low: bigint, high: bigint) =>
    machine.run(bytes, {
      gpr: { 0: low, 2: high, 3: 0x1111111122222222n, 1: 0x3333333344444444n, 7: at },
      rflags: 0x893n,
    });
  put(machine, 0xaaaaaaaabbbbbbbbn);
  assert.is(run([0xf0, 0x0f, 0xc7, 0x0f], 0xbbbbbbbcn, 0xaaaaaaaan).reply, Reply.ADVANCE);
  assert.is(machine.flags, 0x891n);
  assert.is(machine.gpr(0), 0xbbbbbbbbn);
  assert.is(machine.gpr(2), 0xaaaaaaaan);
  run([0xf0, 0x0f, 0xc7, 0x0f], 0xbbbbbbbbn, 0xaaaaaaaan);
  assert.is(machine.flags, 0x8d1n);
  assert.is(got(machine), 0x4444444422222222n);

  machine.cells.writeBigUInt64LE(5n, AT);
  machine.cells.writeBigUInt64LE(6n, AT + 8);
  run([0xf0, 0x48, 0x0f, 0xc7, 0x0f], 5n, 7n);
  assert.equal([machine.flags, machine.gpr(0), machine.gpr(2)], [0x891n, 5n, 6n]);
  run([0xf0, 0x48, 0x0f, 0xc7, 0x0f], 5n, 6n);
  assert.is(machine.flags, 0x8d1n);
  assert.is(got(machine), 0x1111111122222222n);
  assert.is(machine.cells.readBigUInt64LE(AT + 8), 0x3333333344444444n);
  const misaligned = machine.run([0x48, 0x0f, 0xc7, 0x0f], { gpr: { 7: at + 8n } });
  assert.is(misaligned.vector >>> 0, 0x8000000d);
});

test("every condition, for SETcc and CMOVcc", () => {
  const machine = new Emulator();
  const of = (flags: bigint): boolean[] => {
    const [c, p, z, s, o] = [0n, 2n, 6n, 7n, 11n].map((bit) => ((flags >> bit) & 1n) === 1n) as [
      boolean,
      boolean,
      boolean,
      boolean,
      boolean,
    ];
    return [o, c, z, c || z, s, p, s !== o, z || s !== o].flatMap((holds) => [holds, !holds]);
  };
  for (let n = 0; n < 32; n++) {
    const flags = [1n, 4n, 0x40n, 0x80n, 0x800n].reduce((sum, bit, k) => sum | (n & (1 << k) ? bit : 0n), 2n);
    of(flags).forEach((holds, condition) => {
      put(machine, 0x1234n);
      machine.run([0x0f, 0x90 + condition, 0x00], { rflags: flags });
      assert.is(got(machine), holds ? 0x1201n : 0x1200n);
      put(machine, 0x99aabbccn);
      machine.run([0x0f, 0x40 + condition, 0x08], { rflags: flags, gpr: { 1: 0x1122334455667788n } });
      assert.is(machine.gpr(1), holds ? 0x99aabbccn : 0x55667788n);
      machine.run([0x66, 0x0f, 0x40 + condition, 0x08], { rflags: flags, gpr: { 1: 0x1122334455667788n } });
      assert.is(machine.gpr(1), holds ? 0x112233445566bbccn : 0x1122334455667788n);
    });
  }
});

test("MOVBE, MOVNTI, MOV of a segment register, CLFLUSH", () => {
  const machine = new Emulator();
  put(machine, 0x1122334455667788n);
  machine.run([0x48, 0x0f, 0x38, 0xf0, 0x08]);
  assert.is(machine.gpr(1), 0x8877665544332211n);
  machine.run([0x0f, 0x38, 0xf0, 0x08], { gpr: { 1: -1n } });
  assert.is(machine.gpr(1), 0x88776655n);
  machine.run([0x66, 0x0f, 0x38, 0xf1, 0x08], { gpr: { 1: 0xabcdn } });
  assert.is(got(machine), 0x112233445566cdabn);
  machine.run([0x0f, 0xc3, 0x08], { gpr: { 1: 0xffn } });
  assert.is(got(machine), 0x11223344000000ffn);
  machine.rig.segments[5]!.selector = 0x2b;
  machine.run([0x8c, 0x28]);
  assert.is(got(machine), 0x112233440000002bn);
  const before = machine.accesses;
  assert.is(machine.run([0x66, 0x0f, 0xae, 0x38]).reply, Reply.ADVANCE);
  assert.equal(machine.accesses, before);
});

test("forms with an immediate, and LOCK", () => {
  const machine = new Emulator();
  const forms: [number[], number, number][] = [
    [[0x81, 0x08, 0x03, 0x00, 0x01, 0x00], 0x80, 0x10083], // orl $0x10003,(%rax)
    [[0x80, 0x20, 0x7f], 0xff, 0x7f], // andb $0x7f,(%rax)
    [[0x01, 0x08], 0x10, 0x22], // add %ecx,(%rax)
    [[0xf0, 0x30, 0x08], 0x10, 0x02], // lock xor %cl,(%rax)
    [[0x83, 0x28, 0x01], 0x10, 0x0f], // subl $1,(%rax)
    [[0x83, 0x08, 0xf0], 0x01, 0xfffffff1], // orl $-16,(%rax)
  ];
  for (const [bytes, before, after] of forms) {
    put(machine, BigInt(before));
    const answer = machine.run(bytes, { gpr: { 1: 0x12n } });
    assert.is(answer.reply, Reply.ADVANCE);
    assert.is(answer.length, bytes.length);
    assert.is(got(machine), BigInt(after));
  }
});

test("CMP and TEST read once, write nothing, and change flags only", () => {
  const machine = new Emulator();
  put(machine, 0x85n);
  for (const [bytes, zero] of [
    [[0x83, 0x78, 0x10, 0x85], false], // cmpl $-123,0x10(%rax)
    [[0x80, 0x38, 0x85], true], // cmpb $0x85,(%rax)
    [[0xf6, 0x00, 0x80], false], // testb $0x80,(%rax)
    [[0xf6, 0x08, 0x02], true], // testb $2,(%rax), its other opcode
    [[0x85, 0x08], true], // test %ecx,(%rax)
    [[0xf7, 0x00, 0x00, 0x01, 0x00, 0x00], true], // testl $0x100,(%rax)
  ] as [number[], boolean][]) {
    const [reads, writes] = machine.accesses;
    const answer = machine.run(bytes, { gpr: { 1: 0x100n } });
    assert.is(answer.length, bytes.length);
    assert.is(answer.gprs, REPLY_SET_RFLAGS);
    assert.is((machine.flags & 0x40n) !== 0n, zero);
    assert.equal(machine.accesses, [reads + 1, writes]);
  }
});

test.run();
