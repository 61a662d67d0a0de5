// Images for the tests of the loader: ELF files made from parts, and how a test breaks them.

import { strict as assert } from "node:assert";
import { VcpuRegistersAt, Segment, SegmentStateAt } from "../../../control/gen/abi";
import { type Options, Rig } from "./rig";

/** A program header and what it loads. */
export interface Part {
  type?: number;
  at: number;
  physical?: number;
  bytes: Buffer;
  inMemory?: number;
}

export interface ElfOptions {
  wide?: boolean;
  machine?: number;
  type?: number;
  entry?: number;
  parts: Part[];
  /** Bytes in front of the first part, behind the program headers. */
  head?: Buffer;
  sections?: { name: string; type: number; flags: number; at: number; bytes: Buffer }[];
}

export const PT_LOAD = 1;
export const PT_NOTE = 4;

/** Writes an ELF file: header, program headers, `head`, the parts. */
export function elf(options: ElfOptions): Buffer {
  const wide = options.wide ?? true;
  const [headerSize, entrySize] = wide ? [64, 56] : [52, 32];
  const header = Buffer.alloc(headerSize);
  header.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  header.writeUInt16LE(options.type ?? 2, 16);
  header.writeUInt16LE(options.machine ?? (wide ? 62 : 3), 18);
  header.writeUInt32LE(1, 20);
  const word = (at32: number, at64: number, value: number): void => {
    if (wide) header.writeBigUInt64LE(BigInt(value), at64);
    else header.writeUInt32LE(value, at32);
  };
  word(24, 24, options.entry ?? options.parts[0]!.at);
  word(28, 32, headerSize);
  const tail = wide ? 52 : 40;
  header.writeUInt16LE(headerSize, tail);
  header.writeUInt16LE(entrySize, tail + 2);
  header.writeUInt16LE(options.parts.length, tail + 4);
  const table = Buffer.alloc(entrySize * options.parts.length);
  const chunks = [header, table, options.head ?? Buffer.alloc(0)];
  let offset = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  options.parts.forEach((part, n) => {
    const pad = -offset & 15;
    chunks.push(Buffer.alloc(pad), part.bytes);
    offset += pad;
    const at = n * entrySize;
    table.writeUInt32LE(part.type ?? PT_LOAD, at);
    const values = [offset, part.at, part.physical ?? part.at, part.bytes.length];
    values.push(part.inMemory ?? part.bytes.length);
    values.forEach((value, i) => {
      if (wide) table.writeBigUInt64LE(BigInt(value), at + 8 + 8 * i);
      else table.writeUInt32LE(value, at + 4 + 4 * i);
    });
    offset += part.bytes.length;
  });
  writeSections(options, wide, header, chunks, offset);
  return Buffer.concat(chunks);
}

// Section contents, then .shstrtab, then the section headers.
function writeSections(
  options: ElfOptions,
  wide: boolean,
  header: Buffer,
  chunks: Buffer[],
  end: number,
): void {
  if (!options.sections) return;
  const size = wide ? 64 : 40;
  const names = Buffer.from(`\0${options.sections.map((s) => s.name).join("\0")}\0.shstrtab\0`);
  const all = [...options.sections, { name: ".shstrtab", type: 3, flags: 0, at: 0, bytes: names }];
  const table = Buffer.alloc(size * (all.length + 1));
  let offset = end;
  all.forEach((section, n) => {
    chunks.push(section.bytes);
    const at = (n + 1) * size;
    table.writeUInt32LE(names.indexOf(`\0${section.name}\0`) + 1, at);
    table.writeUInt32LE(section.type, at + 4);
    [section.flags, section.at, offset, section.bytes.length].forEach((value, i) => {
      if (wide) table.writeBigUInt64LE(BigInt(value), at + 8 + 8 * i);
      else table.writeUInt32LE(value, at + 8 + 4 * i);
    });
    offset += section.bytes.length;
  });
  chunks.push(table);
  if (wide) header.writeBigUInt64LE(BigInt(offset), 40);
  else header.writeUInt32LE(offset, 32);
  const tail = wide ? 58 : 46;
  header.writeUInt16LE(size, tail);
  header.writeUInt16LE(all.length + 1, tail + 2);
  header.writeUInt16LE(all.length, tail + 4);
}

/** One ELF note, padded. */
export function note(name: string, type: number, value: Buffer): Buffer {
  const text = Buffer.from(`${name}\0`);
  const out = Buffer.alloc(12);
  out.writeUInt32LE(text.length, 0);
  out.writeUInt32LE(value.length, 4);
  out.writeUInt32LE(type, 8);
  const pad = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  return Buffer.concat([out, pad(text), pad(value)]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** The error that the device model sends instead of loading; nothing else may happen. */
export function refused(options: Options): { object: string; message: string; next: string } {
  const rig = new Rig(options);
  const events = rig.events();
  assert.equal(events.length, 1);
  assert.equal(events[0]?.["t"], "error", JSON.stringify(events[0]));
  assert.equal(rig.state, null);
  return events[0] as { object: string; message: string; next: string };
}

/** A VM that has been loaded. */
export function loaded(options: Options): Rig {
  const rig = new Rig(options);
  assert.deepEqual(rig.events(), [{ t: "ready" }]);
  return rig;
}

/** Register `n` (RAX RCX RDX RBX RSP RBP RSI RDI) as the vCPU starts. */
export function gpr(rig: Rig, n: number): number {
  return Number(rig.state!.readBigUInt64LE(VcpuRegistersAt.gpr + 8 * n));
}

export function register(rig: Rig, at: number): number {
  return Number(rig.state!.readBigUInt64LE(at));
}

export function segment(rig: Rig, index: Segment): { base: bigint; limit: number; access: number } {
  const at = VcpuRegistersAt.segments + index * SegmentStateAt.SIZE;
  return {
    base: rig.state!.readBigUInt64LE(at + SegmentStateAt.base),
    limit: rig.state!.readUInt32LE(at + SegmentStateAt.limit),
    access: rig.state!.readUInt32LE(at + SegmentStateAt.access),
  };
}

/** Flat 32-bit protected mode without paging, at `rip`. */
export function isFlat(rig: Rig, rip: number): void {
  assert.equal(register(rig, VcpuRegistersAt.rip), rip);
  assert.equal(register(rig, VcpuRegistersAt.cr0), 0x11);
  assert.equal(register(rig, VcpuRegistersAt.cr4), 0);
  assert.equal(register(rig, VcpuRegistersAt.efer), 0);
  assert.equal(register(rig, VcpuRegistersAt.rflags), 2);
  const flat = { base: 0n, limit: 0xffffffff };
  assert.deepEqual(segment(rig, Segment.CS), { ...flat, access: 0xc09b });
  for (const index of [Segment.DS, Segment.ES, Segment.SS])
    assert.deepEqual(segment(rig, index), { ...flat, access: 0xc093 });
  assert.deepEqual(segment(rig, Segment.TR), { base: 0n, limit: 0x67, access: 0x8b });
}

/** A repeatable source of numbers below `below`. */
export function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Loads damaged copies of an image: each is loaded or refused, and none traps. Returns how many were loaded. */
export function fuzz(image: Buffer, from: number, to: number, options: Options, runs: number): number {
  const random = dice(0x2545f491);
  const edges = [0, 1, 2, 0x7f, 0x80, 0xff];
  let ready = 0;
  for (let run = 0; run < runs; run++) {
    const kernel = Buffer.from(image);
    for (let n = 1 + random(4); n > 0; n--) {
      kernel[from + random(to - from)] = random(2) ? edges[random(edges.length)]! : random(256);
    }
    const events = new Rig({ ...options, kernel }).events();
    assert.equal(events.length, 1);
    if (events[0]?.["t"] === "ready") ready++;
    else assert.equal(events[0]?.["t"], "error");
  }
  return ready;
}
