// INS and OUTS: directions, REP, page faults, and the registers afterwards.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  ACCESS_READ,
  ACCESS_REP,
  ACCESS_WRITE,
  ExitMessageAt,
  ExitType,
  Reply,
} from "../../../control/gen/abi";
import { type Answer, Rig } from "./rig";

const CODE = 0x100000;
const DATA = 0x110000;

interface Request {
  input?: boolean;
  rep?: boolean;
  port?: number;
  size?: number;
  count?: bigint;
  linear?: bigint;
  rflags?: bigint;
  extra?: [number, number | bigint][];
}

function string(rig: Rig, request: Request): Answer {
  const linear = request.linear ?? BigInt(DATA);
  rig.memory.set([0xf3, request.input ? 0x6c : 0x6e], CODE);
  return rig.message(ExitType.PORT_STRING, [
    [ExitMessageAt.length, 2],
    [ExitMessageAt.port, request.port ?? 0x3f8],
    [ExitMessageAt.size, request.size ?? 1],
    [
      ExitMessageAt.access,
      (request.input ? ACCESS_READ : ACCESS_WRITE) | (request.rep === false ? 0 : ACCESS_REP),
    ],
    [ExitMessageAt.linear, linear],
    [ExitMessageAt.cs_access, 0xa09b],
    [ExitMessageAt.efer, 0x500n],
    [ExitMessageAt.rip, BigInt(CODE)],
    [ExitMessageAt.rflags, request.rflags ?? 2n],
    [ExitMessageAt.gpr + 8, request.count ?? 0n],
    [ExitMessageAt.gpr + 48, linear],
    [ExitMessageAt.gpr + 56, linear],
    ...(request.extra ?? []),
  ]);
}

function gpr(rig: Rig, register: number): bigint {
  return rig.exitMessage().readBigUInt64LE(ExitMessageAt.gpr + 8 * register);
}

test("REP OUTSB prints a string", () => {
  const rig = new Rig();
  rig.memory.write("a string\n", DATA);
  const answer = string(rig, { count: 9n });
  assert.is(answer.reply, Reply.ADVANCE);
  assert.is(answer.length, 2);
  assert.is(answer.gprs, (1 << 1) | (1 << 6));
  assert.is(gpr(rig, 1), 0n);
  assert.is(gpr(rig, 6), BigInt(DATA + 9));
  rig.advance(5_000_000);
  assert.is(rig.output(), "a string\n");
});

test("one INSB reads one byte", () => {
  const rig = new Rig();
  rig.out(0x3fa, 1);
  rig.type("q");
  const answer = string(rig, { input: true, rep: false });
  assert.is(answer.reply, Reply.ADVANCE);
  assert.is(rig.memory[DATA], 0x71);
  assert.is(gpr(rig, 7), BigInt(DATA + 1));
});

test("a long REP is done in pieces", () => {
  const rig = new Rig();
  const answer = string(rig, { input: true, count: 3000n, port: 0x1234 });
  assert.is(answer.reply, Reply.RETRY);
  assert.is(gpr(rig, 1), 3000n - 1024n);
  assert.is(gpr(rig, 7), BigInt(DATA + 1024));
  assert.is(rig.memory[DATA + 1023], 0xff);
  assert.is(rig.memory[DATA + 1024], 0);
});

test("backwards, and REP with a count of zero", () => {
  const rig = new Rig();
  rig.memory.write("olleh", DATA);
  string(rig, { count: 5n, linear: BigInt(DATA + 4), rflags: 0x402n });
  rig.advance(5_000_000);
  assert.is(rig.output(), "hello");
  assert.is(gpr(rig, 6), BigInt(DATA - 1));
  const none = string(rig, { count: 0n });
  assert.is(none.reply, Reply.ADVANCE);
  rig.advance(5_000_000);
  assert.is(rig.output(), "");
});

test("an element on two pages, and memory that is not there", () => {
  const rig = new Rig();
  string(rig, { input: true, size: 4, count: 2n, linear: 0x110ffen, port: 0x1234 });
  assert.equal([...rig.memory.subarray(0x110ffd, 0x111007)], [0, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
  assert.is(string(rig, { input: true, size: 4, count: 2n, linear: 0xf0000000n }).reply, Reply.ADVANCE);
  assert.is(string(rig, { size: 4, count: 2n, linear: 0xf0000000n, port: 0x80 }).reply, Reply.ADVANCE);
});

test("a page fault names the address; one in the middle comes again", () => {
  const rig = new Rig();
  const paging: [number, number | bigint][] = [
    [ExitMessageAt.cr0, 0x80010001n],
    [ExitMessageAt.cr3, 0x200000n],
    [ExitMessageAt.cr4, 0x20n],
  ];
  rig.memory.writeBigUInt64LE(0x201007n, 0x200000);
  rig.memory.writeBigUInt64LE(0x202007n, 0x201000);
  rig.memory.writeBigUInt64LE(0x203007n, 0x202000);
  rig.memory.writeBigUInt64LE(BigInt(CODE) | 7n, 0x203000 + 8 * 0x100);
  rig.memory.writeBigUInt64LE(BigInt(DATA) | 5n, 0x203000 + 8 * 0x110); // read-only
  const written = string(rig, { input: true, count: 3n, extra: paging });
  assert.is(written.reply, Reply.INJECT);
  assert.is(written.vector >>> 0, (0x80000000 | 14) >>> 0);
  assert.is(written.error, 3); // present, write
  assert.is(written.cr2, BigInt(DATA));
  assert.is(written.gprs & (1 << 7), 1 << 7);
  assert.is(gpr(rig, 1), 3n);
  const partly = string(rig, { count: 10n, linear: 0x110ffcn, extra: paging });
  assert.is(partly.reply, Reply.RETRY);
  assert.is(gpr(rig, 1), 6n);
  const rest = string(rig, { count: 6n, linear: 0x111000n, extra: paging });
  assert.is(rest.reply, Reply.INJECT);
  assert.is(rest.error, 0);
  assert.is(rest.cr2, 0x111000n);
});

test.run();
