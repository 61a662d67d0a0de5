// The MMIO decoder against an independent one, iced-x86: every opcode with many prefixes and operands.

import {
  Decoder,
  DecoderError,
  DecoderOptions,
  Instruction,
  MemorySizeExt,
  Mnemonic,
  OpKind,
  Register,
} from "iced-x86";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { randomizer } from "../lib/load";
import { Rig } from "./rig";

const random = randomizer(0x51ed270b);
const SLOT = 16;
const LONGEST = 15;
const IP = 0x7654321000n;

const enum Outcome {
  OK = 0,
  UNKNOWN = 1,
  INVALID = 2,
  TOO_LONG = 3,
  CUT_SHORT = 4,
}

/** Fields of the decoder's result (control/device-model/exits/instruction.ts). */
const FIELDS = [
  "operation",
  "length",
  "memorySize",
  "registerSize",
  "register",
  "alu",
  "base",
  "index",
  "scale",
  "segment",
  "addressSize",
  "repeat",
  "lock",
] as const;
type Field = (typeof FIELDS)[number];
const FIRST_FIELD = 16;
const IMMEDIATE = 80;
const DISPLACEMENT = 88;

/** Numbers of Operation in control/device-model/exits/opcodes.ts, by mnemonic. */
const M = Mnemonic;
const ALU = [M.Add, M.Or, M.Adc, M.Sbb, M.And, M.Sub, M.Xor, M.Cmp];
const SHIFTS = [M.Rol, M.Ror, M.Rcl, M.Rcr, M.Shl, M.Shr, M.Sal, M.Sar];
const BITS = [M.Bt, M.Bts, M.Btr, M.Btc];
const CMOV = [
  M.Cmovo, M.Cmovno, M.Cmovb, M.Cmovae, M.Cmove, M.Cmovne, M.Cmovbe, M.Cmova,
  M.Cmovs, M.Cmovns, M.Cmovp, M.Cmovnp, M.Cmovl, M.Cmovge, M.Cmovle, M.Cmovg,
]; // prettier-ignore
const SET = [
  M.Seto, M.Setno, M.Setb, M.Setae, M.Sete, M.Setne, M.Setbe, M.Seta,
  M.Sets, M.Setns, M.Setp, M.Setnp, M.Setl, M.Setge, M.Setle, M.Setg,
]; // prettier-ignore
const STRINGS = new Map<Mnemonic, number>([
  [M.Movsb, 36], [M.Movsw, 36], [M.Movsd, 36], [M.Movsq, 36],
  [M.Cmpsb, 37], [M.Cmpsw, 37], [M.Cmpsd, 37], [M.Cmpsq, 37],
  [M.Stosb, 38], [M.Stosw, 38], [M.Stosd, 38], [M.Stosq, 38],
  [M.Lodsb, 39], [M.Lodsw, 39], [M.Lodsd, 39], [M.Lodsq, 39],
  [M.Scasb, 40], [M.Scasw, 40], [M.Scasd, 40], [M.Scasq, 40],
]); // prettier-ignore
const ONE_WAY = new Map<Mnemonic, number>([
  [M.Movzx, 2], [M.Movsx, 3], [M.Movsxd, 3], [M.Xchg, 11], [M.Inc, 12], [M.Dec, 13], [M.Not, 14], [M.Neg, 15],
  [M.Xadd, 20], [M.Cmpxchg, 21], [M.Bsf, 28], [M.Bsr, 29], [M.Clflush, 30], [M.Clflushopt, 30], [M.Clwb, 30],
  [M.Movnti, 4], [M.Cmpxchg8b, 33], [M.Cmpxchg16b, 33], [M.Push, 34], [M.Pop, 35],
]); // prettier-ignore
const UNDEFINED: Mnemonic[] = [M.Ud0, M.Ud1, M.Ud2];

const isMemory = (kind: OpKind): boolean => kind === OpKind.Memory;
const isImmediate = (kind: OpKind): boolean =>
  kind >= OpKind.Immediate8 && kind <= OpKind.Immediate32to64 && kind !== OpKind.Immediate8_2nd;

function kindsOf(instruction: Instruction): OpKind[] {
  return Array.from({ length: instruction.opCount }, (_, n) => instruction.opKind(n));
}

/** Number and size of a general-purpose or segment register. */
function registerOf(register: Register): [number, number] {
  if (register >= Register.ES && register <= Register.GS) return [register - Register.ES, 2];
  if (register >= Register.RAX) return [register - Register.RAX, 8];
  if (register >= Register.EAX) return [register - Register.EAX, 4];
  if (register >= Register.AX) return [register - Register.AX, 2];
  if (register >= Register.SPL) return [register - Register.SPL + 4, 1];
  return register >= Register.AH ? [register - Register.AH + 16, 1] : [register - Register.AL, 1];
}

/** What the device model should make of it; null: it is not emulated. */
function operationOf(instruction: Instruction, kinds: OpKind[]): number | null {
  const { mnemonic } = instruction;
  const string = STRINGS.get(mnemonic);
  // MOVSD and CMPSD are also SSE instructions.
  if (string !== undefined)
    return kinds.some((kind) => kind <= OpKind.MemoryESRDI && kind >= OpKind.MemorySegSI) ? string : null;
  if (!kinds.some(isMemory)) return null;
  const memoryFirst = isMemory(kinds[0]!);
  const immediate = isImmediate(kinds[kinds.length - 1]!);
  if (mnemonic === M.Mov) {
    const other = instruction.opRegister(memoryFirst ? 1 : 0);
    if (other >= Register.ES && other <= Register.GS) return memoryFirst ? 31 : null;
    return !memoryFirst ? 2 : immediate ? 5 : 4;
  }
  if (ALU.includes(mnemonic)) return memoryFirst ? (immediate ? 8 : 6) : 7;
  if (mnemonic === M.Test) return immediate ? 10 : 9;
  if (SHIFTS.includes(mnemonic)) {
    if (!immediate) return 18;
    return instruction.length > 0 && instruction.immediate(1) === 1n ? 17 : 16;
  }
  if (BITS.includes(mnemonic)) return immediate ? 19 : 32;
  if (CMOV.includes(mnemonic)) return 25;
  if (SET.includes(mnemonic)) return 24;
  if (mnemonic === M.Movbe) return memoryFirst ? 23 : 22;
  if (mnemonic === M.Imul) return kinds.length === 1 ? null : immediate ? 27 : 26;
  return ONE_WAY.get(mnemonic) ?? null;
}

function aluOf({ mnemonic }: Instruction): number | null {
  const of = (list: Mnemonic[], first: number): number | null =>
    list.includes(mnemonic) ? first + list.indexOf(mnemonic) : null;
  return of(ALU, 0) ?? of(SHIFTS, 0) ?? of(BITS, 4) ?? of(CMOV, 0) ?? of(SET, 0);
}

interface Result {
  fields: Record<Field, number>;
  immediate: bigint;
  displacement: bigint;
}

class Compared {
  readonly rig = new Rig({ wasm: "build/components/emulator.wasm" });
  private readonly calls = this.rig.wasm as unknown as {
    codeAt(): number;
    tryDecode(available: number, mode: number): Outcome;
    instructionAt(): number;
  };
  supported = 0;
  cases = 0;

  /** Decodes up to 15 bytes. */
  ours(bytes: Uint8Array, mode: number): [Outcome, Result] {
    const memory = this.rig.linear();
    memory.set(bytes, this.calls.codeAt());
    const outcome = this.calls.tryDecode(bytes.length, mode / 8);
    const at = this.calls.instructionAt();
    const fields = {} as Record<Field, number>;
    FIELDS.forEach((name, n) => (fields[name] = memory.readUInt32LE(at + FIRST_FIELD + 4 * n)));
    return [
      outcome,
      {
        fields,
        immediate: memory.readBigUInt64LE(at + IMMEDIATE),
        displacement: memory.readBigUInt64LE(at + DISPLACEMENT),
      },
    ];
  }

  /** Compares a list of slots of 16 bytes. */
  all(slots: Buffer, mode: 16 | 32 | 64): void {
    const decoder = new Decoder(mode, slots, DecoderOptions.None);
    const instruction = new Instruction();
    for (let at = 0; at + SLOT <= slots.length; at += SLOT) {
      decoder.position = at;
      decoder.ip = IP;
      decoder.decodeOut(instruction);
      const tooLong = decoder.lastError !== DecoderError.None && decoder.position - at >= LONGEST;
      const bytes = slots.subarray(at, at + LONGEST);
      try {
        this.one(bytes, mode, instruction, tooLong);
      } catch (error) {
        throw new Error(`${mode}-bit ${bytes.toString("hex")}: ${(error as Error).message}`);
      }
    }
    instruction.free();
    decoder.free();
  }

  private one(bytes: Uint8Array, mode: 16 | 32 | 64, instruction: Instruction, tooLong: boolean): void {
    this.cases++;
    const [outcome, result] = this.ours(bytes, mode);
    if (instruction.isInvalid) {
      same("outcome", outcome !== Outcome.OK, true);
      if (outcome === Outcome.TOO_LONG) same("too long", tooLong, true);
      return;
    }
    if (UNDEFINED.includes(instruction.mnemonic)) return same("outcome", outcome, Outcome.INVALID);
    const kinds = kindsOf(instruction);
    const operation = operationOf(instruction, kinds);
    if (operation === null) return same("outcome", outcome, Outcome.UNKNOWN);
    same("outcome", outcome, Outcome.OK);
    this.supported++;
    this.compare(instruction, kinds, operation, result, mode);
    if (this.supported % 16 === 0) this.cut(bytes, mode, instruction.length);
  }

  /** With fewer bytes than it needs it cannot be decoded. */
  private cut(bytes: Uint8Array, mode: number, length: number): void {
    same("with all bytes", this.ours(bytes.subarray(0, length), mode)[0], Outcome.OK);
    same("cut", this.ours(bytes.subarray(0, length - 1), mode)[0], Outcome.CUT_SHORT);
  }

  private compare(i: Instruction, kinds: OpKind[], operation: number, ours: Result, mode: number): void {
    const { fields } = ours;
    // D0 and C0 with a count of 1 do the same.
    if (operation === 17 && fields.operation === 16) same("count", ours.immediate & 0xffn, 1n);
    else same("operation", fields.operation, operation);
    same("length", fields.length, i.length);
    same("memory size", fields.memorySize, MemorySizeExt.size(i.memorySize));
    same("lock", fields.lock, i.hasLockPrefix ? 1 : 0);
    const alu = aluOf(i);
    if (alu !== null) same("alu", fields.alu, alu);
    if (STRINGS.has(i.mnemonic)) {
      same("repeat", fields.repeat, i.hasRepnePrefix ? 0xf2 : i.hasRepePrefix ? 0xf3 : 0);
      this.compareString(i, kinds, fields, mode);
      return;
    }
    this.compareAddress(i, ours, mode);
    kinds.forEach((kind, n) => {
      if (kind === OpKind.Register && ![16, 17, 18].includes(operation)) {
        const [number, size] = registerOf(i.opRegister(n));
        same("register", fields.register, number);
        same("register size", operation === 31 ? 2 : fields.registerSize, size);
      } else if (isImmediate(kind) && operation !== 17) {
        const bits = [16, 19].includes(operation) ? 8 : 8 * fields.registerSize;
        same("immediate", BigInt.asUintN(bits, ours.immediate), BigInt.asUintN(bits, i.immediate(n)));
      }
    });
  }

  private compareString(i: Instruction, kinds: OpKind[], fields: Record<Field, number>, mode: number): void {
    const sizes = new Map<OpKind, number>([
      [OpKind.MemorySegSI, 2], [OpKind.MemorySegESI, 4], [OpKind.MemorySegRSI, 8],
      [OpKind.MemoryESDI, 2], [OpKind.MemoryESEDI, 4], [OpKind.MemoryESRDI, 8],
    ]); // prettier-ignore
    for (const kind of kinds) {
      if (!sizes.has(kind)) continue;
      same("address size", fields.addressSize, sizes.get(kind));
      if (kind < OpKind.MemoryESDI) {
        same("segment", based(fields.segment, mode), based(i.memorySegment - Register.ES, mode));
      }
    }
  }

  private compareAddress(i: Instruction, { fields, displacement }: Result, mode: number): void {
    const relative = i.memoryBase === Register.RIP || i.memoryBase === Register.EIP;
    const none = (register: Register): number => (register === Register.None ? 16 : registerOf(register)[0]);
    same("base", fields.base, relative ? 17 : none(i.memoryBase));
    same("index", fields.index, none(i.memoryIndex));
    if (i.memoryIndex !== Register.None) same("scale", 1 << fields.scale, i.memoryIndexScale);
    same("segment", based(fields.segment, mode), based(i.memorySegment - Register.ES, mode));
    const any = relative ? Register.None : i.memoryBase !== Register.None ? i.memoryBase : i.memoryIndex;
    const size = relative
      ? i.memoryBase === Register.RIP
        ? 8
        : 4
      : any !== Register.None
        ? registerOf(any)[1]
        : i.memoryDisplSize;
    same("address size", fields.addressSize, size);
    const bits = 8 * size;
    const from = relative ? IP + BigInt(i.length) : 0n;
    same(
      "displacement",
      BigInt.asUintN(bits, displacement + from),
      BigInt.asUintN(bits, i.memoryDisplacementU64),
    );
  }
}

/** In 64-bit code the segments other than FS and GS are all the same. */
function based(segment: number, mode: number): number {
  return mode === 64 && segment < 4 ? 0 : segment;
}

function same(what: string, ours: unknown, theirs: unknown): void {
  if (ours !== theirs) throw new Error(`${what}: ours is ${String(ours)}, iced says ${String(theirs)}`);
}

const PREFIXES: number[][] = [
  [], [], [0x66], [0x67], [0x66, 0x67], [0xf0], [0xf2], [0xf3], [0xf0, 0x66], [0xf3, 0x66], [0xf2, 0x67],
  [0x26], [0x2e], [0x36], [0x3e], [0x64], [0x65], [0x65, 0x66], [0x36, 0x67], [0xf2, 0xf3], [0xf3, 0xf2],
  [0x26, 0x64], [0x65, 0x3e], [0xf3, 0x26, 0x66, 0x67], [0x66, 0x66, 0x66, 0x66, 0x66],
]; // prettier-ignore

/** Puts one case into a slot: prefixes, opcode, random operands. */
function fill(slot: Buffer, head: number[], tail: number[] = []): void {
  for (let n = 0; n < SLOT; n++) slot[n] = random(3) ? random(256) : [0, 0xff, 0x80, 0x7f][random(4)]!;
  slot.set([...head, ...tail].slice(0, SLOT));
}

const OPCODES: number[][] = [];
for (let byte = 0; byte < 256; byte++) OPCODES.push([byte], [0x0f, byte]);
for (let byte = 0xe0; byte < 256; byte++) OPCODES.push([0x0f, 0x38, byte]);
OPCODES.push([0x0f, 0x3a, 0x0f]);

/** Opcodes whose ModRM bytes are tried in full. */
const FULL = [0x89, 0x8b, 0x8a, 0xc7, 0x81, 0xf7, 0xff, 0x8f, 0xc1];

for (const mode of [16, 32, 64] as const) {
  test(`${mode}-bit: every opcode with every combination of prefixes`, () => {
    const compared = new Compared();
    const heads: number[][] = [];
    for (const opcode of OPCODES) {
      for (const prefix of PREFIXES) {
        heads.push([...prefix, ...opcode]);
        if (mode !== 64) continue;
        heads.push([...prefix, 0x40 + random(16), ...opcode], [...prefix, 0x48, ...opcode]);
      }
    }
    const slots = Buffer.alloc(heads.length * SLOT);
    heads.forEach((head, n) => fill(slots.subarray(n * SLOT), head));
    compared.all(slots, mode);
    // And with operands in memory only, most of them without surprises.
    heads.forEach((head, n) => fill(slots.subarray(n * SLOT), head, [random(192), random(256)]));
    compared.all(slots, mode);
    assert.ok(compared.supported > compared.cases / 8, `${compared.supported} of ${compared.cases}`);
  });

  test(`${mode}-bit: every ModRM and SIB`, () => {
    const compared = new Compared();
    for (const opcode of FULL) {
      const cases: [number[], number[]][] = [];
      for (let modrm = 0; modrm < 192; modrm++) {
        for (let n = 0; n < 8; n++) {
          const rex = mode === 64 && n > 1 ? [0x40 + random(16)] : [];
          const size = n % 4 === 1 ? [0x67] : n % 4 === 2 ? [0x66] : [];
          cases.push([[...size, ...rex, opcode], [modrm]]);
        }
      }
      const slots = Buffer.alloc(cases.length * SLOT);
      cases.forEach(([head, tail], n) => fill(slots.subarray(n * SLOT), head, tail));
      compared.all(slots, mode);
    }
    const slots = Buffer.alloc(256 * 3 * 4 * SLOT);
    for (let n = 0; n < 256 * 3 * 4; n++) {
      const prefix = mode === 16 ? [0x67] : mode === 64 && n & 1 ? [0x40 + random(16)] : [];
      fill(slots.subarray(n * SLOT), [
        ...prefix,
        0x8b,
        (((n >> 8) % 3) << 6) | (random(8) << 3) | 4,
        n & 255,
      ]);
    }
    compared.all(slots, mode);
    assert.ok(compared.supported > compared.cases / 3, `${compared.supported} of ${compared.cases}`);
  });
}

test("15 bytes are an instruction, 16 are not", () => {
  const compared = new Compared();
  const padded = (count: number): Buffer =>
    Buffer.from([...Array<number>(count).fill(0x66), 0xc7, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66]);
  // MOV word [rax], 0x2211 has 5 bytes, of which one is a prefix
  assert.is(compared.ours(padded(11).subarray(0, 15), 64)[0], Outcome.OK);
  assert.is(compared.ours(padded(12).subarray(0, 15), 64)[0], Outcome.TOO_LONG);
});

test.run();
