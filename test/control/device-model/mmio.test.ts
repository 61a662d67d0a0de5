// The MMIO decoder: lengths and effects of instructions as GNU as assembled them, and page walks.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  ACCESS_EVENT,
  ACCESS_EXECUTE,
  ACCESS_READ,
  ACCESS_WRITE,
  ExitMessageAt,
  ExitType,
  Reply,
} from "../../../control/gen/abi";
import { CODE, Emulator, type Mode, SCRATCH } from "./emulator";
import { type Answer, Rig } from "./rig";

const IOAPIC = 0xfec00000;
const SELECTED = 0x85; // what a load gives
const A = 0x1122334455667788n; // what the stored register holds

// Mode, bytes, and what is checked: a load into a register (its number, its value), or a store (the
// first byte that arrives).
type Vector = [mode: Mode, bytes: string, load: number | null, value: bigint];

const OLD = 0xa1a2a3a4a5a6a7a8n; // what the loaded register held
const low = (bits: bigint, value: bigint): bigint => (OLD & ~((1n << bits) - 1n)) | value;

const VECTORS: [string, Vector][] = [
  ["mov %ecx,(%rax)", [64, "89 08", null, 0x88n]],
  ["mov %rcx,(%rax)", [64, "48 89 08", null, 0x88n]],
  ["mov %cx,(%rax)", [64, "66 89 08", null, 0x88n]],
  ["mov %cl,(%rax)", [64, "88 08", null, 0x88n]],
  ["mov %ch,(%rax)", [64, "88 28", null, 0x77n]],
  ["mov %sil,(%rax)", [64, "40 88 30", null, 0x88n]],
  ["mov %r9d,0x10(%r12)", [64, "45 89 4c 24 10", null, 0x88n]],
  ["mov %r15b,0x12345678(%rsp,%rbx,4)", [64, "44 88 bc 9c 78 56 34 12", null, 0x88n]],
  ["mov 0x10(%rip),%edx", [64, "8b 15 10 00 00 00", 2, 0x85n]],
  ["mov (%rbx),%r10", [64, "4c 8b 13", 10, 0x85n]],
  ["mov (%rbx),%dh", [64, "8a 33", 2, (OLD & ~0xff00n) | 0x8500n]],
  ["mov 0x0(%r13),%ax", [64, "66 41 8b 45 00", 0, low(16n, 0x85n)]],
  ["mov %fs:0x10(,%rdi,8),%ecx", [64, "64 8b 0c fd 10 00 00 00", 1, 0x85n]],
  ["mov (%edi),%ecx", [64, "67 8b 0f", 1, 0x85n]],
  ["movl $0x12345678,0x40(%rdx)", [64, "c7 42 40 78 56 34 12", null, 0x78n]],
  ["movq $-2,(%rdx)", [64, "48 c7 02 fe ff ff ff", null, 0xfen]],
  ["movw $0x1234,(%r8)", [64, "66 41 c7 00 34 12", null, 0x34n]],
  ["movb $0x7f,-1(%rbp)", [64, "c6 45 ff 7f", null, 0x7fn]],
  ["movabs 0x1122334455667788,%al", [64, "a0 88 77 66 55 44 33 22 11", 0, low(8n, 0x85n)]],
  ["movabs %eax,0x1122334455667788", [64, "a3 88 77 66 55 44 33 22 11", null, 0x88n]],
  ["movzbl (%rsi),%ecx", [64, "0f b6 0e", 1, 0x85n]],
  ["movzwl 0x8(%rsi),%ecx", [64, "0f b7 4e 08", 1, 0x85n]],
  ["movzbw (%rsi),%cx", [64, "66 0f b6 0e", 1, low(16n, 0x85n)]],
  ["movzwq (%rsi),%r11", [64, "4c 0f b7 1e", 11, 0x85n]],
  ["movsbl (%rsi),%ecx", [64, "0f be 0e", 1, 0xffffff85n]],
  ["movswq (%rsi),%rcx", [64, "48 0f bf 0e", 1, 0x85n]],
  ["movslq (%rsi),%rcx", [64, "48 63 0e", 1, 0x85n]],
  ["movsbw (%rsi),%cx", [64, "66 0f be 0e", 1, low(16n, 0xff85n)]],
  ["mov %ecx,(%eax)", [32, "89 08", null, 0x88n]],
  ["mov %cx,0x1234(%eax,%esi,2)", [32, "66 89 8c 70 34 12 00 00", null, 0x88n]],
  ["mov 0xfec00010,%eax", [32, "a1 10 00 c0 fe", 0, 0x85n]],
  ["mov %al,0xfec00010", [32, "a2 10 00 c0 fe", null, 0x88n]],
  ["mov (%bx,%si),%edx", [32, "67 8b 10", 2, 0x85n]],
  ["mov 0x1234,%dl", [32, "8a 15 34 12 00 00", 2, low(8n, 0x85n)]],
  ["movl $0x11223344,0x10(%ebp)", [32, "c7 45 10 44 33 22 11", null, 0x44n]],
  ["movzwl (%edi),%eax", [32, "0f b7 07", 0, 0x85n]],
  ["movsbw (%edi),%ax", [32, "66 0f be 07", 0, low(16n, 0xff85n)]],
  ["mov %ecx,(%bx)", [16, "66 89 0f", null, 0x88n]],
  ["mov %cx,0x10(%bx,%di)", [16, "89 49 10", null, 0x88n]],
  ["mov %cl,%es:0x1234", [16, "26 88 0e 34 12", null, 0x88n]],
  ["mov 0x1234(%bp),%dx", [16, "8b 96 34 12", 2, low(16n, 0x85n)]],
  ["mov (%eax,%ebx,4),%dx", [16, "67 8b 14 98", 2, low(16n, 0x85n)]],
  ["movw $0x1234,(%si)", [16, "c7 04 34 12", null, 0x34n]],
  ["movl $0x12345678,(%si)", [16, "66 c7 04 78 56 34 12", null, 0x78n]],
  ["movzbw (%di),%ax", [16, "0f b6 05", 0, low(16n, 0x85n)]],
];

const bytesOf = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const everywhere = (value: bigint): Record<number, bigint> =>
  Object.fromEntries(Array.from({ length: 16 }, (_, n) => [n, value]));

for (const [name, [mode, text, load, value]] of VECTORS) {
  test(`${mode}-bit: ${name}`, () => {
    const machine = new Emulator();
    machine.cells.writeUInt32LE(load === null ? 0 : SELECTED, 0x40);
    const bytes = bytesOf(text);
    const answer = machine.run(bytes, { mode, gpr: everywhere(load === null ? A : OLD) });
    assert.is(answer.reply, Reply.ADVANCE);
    assert.is(answer.length, bytes.length);
    if (load === null) {
      assert.is(answer.gprs, 0);
      assert.is(BigInt(machine.cells[0x40]!), value);
    } else {
      assert.is(answer.gprs, 1 << load);
      assert.is(machine.gpr(load).toString(16), value.toString(16));
    }
  });
}

test("what is no instruction is an invalid opcode", () => {
  const machine = new Emulator();
  for (const text of ["0f 0b", "c7 48 00 00 00 00 00", "f0 8b 08", "f0 39 08", "ff ff", "0f ff", "06"]) {
    const answer = machine.run(bytesOf(text));
    assert.is(answer.reply, Reply.INJECT, text);
    assert.is(answer.vector, 6, text);
  }
  const long = machine.run(bytesOf("66 66 66 66 66 66 66 66 66 66 66 66 66 66 8b 08"));
  assert.is(long.vector >>> 0, 0x8000000d);
  assert.is(long.error, 0);
});

test("an instruction that is not emulated ends the VM with its bytes, or a process", () => {
  for (const [mode, text] of [
    [64, "0f 28 03"], // movaps (%rbx),%xmm0
    [64, "c5 f8 28 03"], // vmovaps
    [64, "66 0f 6f 03"], // movdqa
    [64, "8b c8"], // mov %eax,%ecx has no operand in memory
    [32, "63 0e"], // arpl
  ] as [Mode, string][]) {
    const machine = new Emulator();
    assert.is(machine.run(bytesOf(text), { mode }).reply, Reply.STOP, text);
    assert.match(machine.rig.log.join(), `MMIO by an instruction that is not emulated: ${text}`);
    const ended = machine.rig.events().find((event) => event["t"] === "ended");
    assert.match(String(ended?.["reason"]), `MMIO by an instruction that is not emulated: ${text}`);
    assert.is(ended?.["value"], CODE);
  }
  const machine = new Emulator();
  const answer = machine.run(bytesOf("0f 28 03"), { fields: [[ExitMessageAt.cs_access, 0xa0fb]] });
  assert.is(answer.reply, Reply.INJECT);
  assert.is(answer.vector, 6);
  assert.equal(
    machine.rig.events().filter((event) => event["t"] === "ended"),
    [],
  );
});

test("a process that repeats it does not fill the heap with reports", () => {
  const machine = new Emulator();
  const repeat = (): void => {
    for (let n = 0; n < 10000; n++)
      machine.run([0x0f, 0x28, 0x03], { fields: [[ExitMessageAt.cs_access, 0xa0fb]] });
  };
  repeat();
  const before = machine.rig.wasm.memory.buffer.byteLength;
  repeat();
  assert.is(machine.rig.wasm.memory.buffer.byteLength, before);
  assert.is(machine.rig.log.filter((line) => /not emulated/.test(line)).length, 1);
});

test("code that is not in memory reads as ones, an invalid opcode", () => {
  const machine = new Emulator();
  assert.is(machine.run(bytesOf("8b 08"), { access: ACCESS_EXECUTE }).vector, 6);
  assert.is(machine.run(bytesOf("8b 08"), { rip: 0xfffffffffffffff8n }).vector, 6);
});

test("an event whose stack is not memory ends the VM", () => {
  const machine = new Emulator();
  const answer = machine.run(bytesOf("8b 08"), { access: ACCESS_WRITE | ACCESS_EVENT });
  assert.is(answer.reply, Reply.STOP);
  const ended = machine.rig.events().find((event) => event["t"] === "ended");
  assert.match(String(ended?.["reason"]), "an event's stack or descriptor table is not in memory");
  assert.is(ended?.["value"], SCRATCH + 0x40);
});

// Puts "mov 0x10(%rax),%ecx" at guest-physical 0x300fff, so that it crosses into the next linear page.
function walked(rig: Rig, linear: bigint, extra: [number, number | bigint][]): Answer {
  rig.memory.set([0x8b], 0x300fff);
  rig.memory.set([0x48, 0x10], 0x305000);
  return rig.message(ExitType.MMIO, [
    [ExitMessageAt.gpa, BigInt(IOAPIC) + 0x10n],
    [ExitMessageAt.access, ACCESS_READ],
    [ExitMessageAt.cs_access, 0xa09b],
    [ExitMessageAt.efer, 0x500n],
    [ExitMessageAt.rip, linear],
    [ExitMessageAt.cr0, 0x80000001n],
    [ExitMessageAt.cr3, 0x200000n],
    ...extra,
  ]);
}

function entry64(rig: Rig, table: number, index: bigint, value: bigint): void {
  rig.memory.writeBigUInt64LE(value, table + Number(index) * 8);
}

test("4-level paging: 4 KiB pages, 2 MiB and 1 GiB pages, tables outside of memory", () => {
  const linear = 0xffffffff81234fffn;
  const index = (level: bigint, at = linear): bigint => (at >> (12n + 9n * level)) & 511n;
  const modes: [number, number | bigint][] = [
    [ExitMessageAt.cr4, 0x20n],
    [ExitMessageAt.efer, 0x500n],
  ];
  const rig = new Rig();
  entry64(rig, 0x200000, index(3n), 0x201003n);
  entry64(rig, 0x201000, index(2n), 0x202003n);
  entry64(rig, 0x202000, index(1n), 0x203003n);
  entry64(rig, 0x203000, index(0n), 0x300003n);
  entry64(rig, 0x203000, index(0n, linear + 1n), 0x305003n);
  assert.is(walked(rig, linear, modes).length, 3);
  entry64(rig, 0x203000, index(0n, linear + 1n), 0x305002n);
  assert.is(walked(rig, linear, modes).reply, Reply.INJECT);
  entry64(rig, 0x202000, index(1n), 0x100000000083n); // beyond memory
  assert.is(walked(rig, linear, modes).reply, Reply.INJECT);
  entry64(rig, 0x200000, index(3n), 0xfffffffff003n);
  assert.is(walked(rig, linear, modes).reply, Reply.INJECT);

  const large = new Rig();
  large.memory.set([0x8b, 0x48, 0x10], 0x400100);
  entry64(large, 0x200000, 0n, 0x201003n);
  entry64(large, 0x201000, 1n, 0x83n); // 1 GiB page at 0
  entry64(large, 0x201000, 2n, 0x202003n);
  entry64(large, 0x202000, 0n, 0x400083n); // 2 MiB page at 4 MiB
  assert.is(walked(large, 0x40400100n, modes).length, 3);
  assert.is(walked(large, 0x80000100n, modes).length, 3);
});

test("PAE and 32-bit paging", () => {
  const rig = new Rig();
  const flat32: [number, number | bigint][] = [
    [ExitMessageAt.cs_access, 0xc09b],
    [ExitMessageAt.efer, 0n],
  ];
  entry64(rig, 0x200000, 3n, 0x201001n);
  entry64(rig, 0x201000, 0n, 0x202003n);
  entry64(rig, 0x202000, 0n, 0x300003n);
  entry64(rig, 0x202000, 1n, 0x305003n);
  assert.is(walked(rig, 0xc0000fffn, [...flat32, [ExitMessageAt.cr4, 0x20n]]).length, 3);

  const old = new Rig();
  old.memory.writeUInt32LE(0x201003, 0x200000 + 768 * 4);
  old.memory.writeUInt32LE(0x300003, 0x201000);
  old.memory.writeUInt32LE(0x305003, 0x201004);
  assert.is(walked(old, 0xc0000fffn, [...flat32, [ExitMessageAt.cr4, 0n]]).length, 3);
  old.memory.set([0x8b, 0x48, 0x10], 0x400123);
  old.memory.writeUInt32LE(0x400083, 0x200000 + 769 * 4); // a 4 MiB page
  assert.is(walked(old, 0xc0400123n, [...flat32, [ExitMessageAt.cr4, 0x10n]]).length, 3);
});

test.run();
