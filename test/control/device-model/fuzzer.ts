// A hostile guest (and a hostile control domain) with random actions, for any machine: it drives what it
// finds on PCI. A machine and its actions follow from a seed, so that what is found can be found again.

import { readFileSync } from "node:fs";
import { ExitMessageAt, ExitType, Segment } from "../../../control/gen/abi";
import { randomizer } from "../lib/load";
import { linearLimit } from "../model/component";
import { CABLE_SIZE, type Options, Rig } from "./rig";
import { configRead, configWrite } from "./virtio-driver";

/** Bytes of linear memory that a device model's RAM has room for (control/domain/vm-builder.ts). */
const LINEAR_LIMIT = linearLimit(
  4096 *
    Number(/MODEL_RAM_PAGES: u64 = (\d+)/.exec(readFileSync("control/domain/vm-builder.ts", "utf8"))?.[1]),
);
/** Accesses to shared memory that one action may cause: more is a loop without an end. */
const ACCESS_LIMIT = 2_000_000;
const REPLIES = 4;
const CODE = 0x100000;
const TABLES = 0x200000;
const TABLES_SIZE = 0x8000;
const RINGS = 0x300000;
const BUFFERS = 0x340000;

const PORTS = [
  0x20, 0x21, 0xa0, 0xa1, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x90, 0x92, 0x3f8, 0x3f9, 0x3fc, 0x402,
  0x4d0, 0x510, 0x511, 0x514, 0x518, 0x600, 0x604, 0x608, 0x60c, 0xae00, 0xafe0, 0xcf8, 0xcf9, 0xcfc, 0xf4, 0xfff8,
]; // prettier-ignore
const PLACES = [
  0xfec00000, 0xfec00010, 0xfed00000, 0xfee00000, 0xd0000000, 0xd0008000, 0xe0000000, 0xfebffff8, 0xfffffff8,
  0x100000000, 0x7fffffff000, 0xb0000000, 0xfffe0000,
]; // prettier-ignore
/** Opcodes that are worth trying, prefixes among them. */
const OPCODES = [
  0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa3, 0xc6, 0xc7, 0x0f, 0x66, 0x67, 0x48, 0xf3, 0xf2, 0xf0, 0x63, 0xa4, 0xa5, 0xa6,
  0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x80, 0x81, 0x83, 0x86, 0x87, 0xf6, 0xf7, 0xfe, 0xff, 0x8f, 0xc1, 0xd3,
  0x64, 0x65, 0x26, 0x36, 0x01, 0x33, 0x69, 0x6b,
]; // prettier-ignore
const AFTER_0F = [
  0xb6, 0xb7, 0xbe, 0xbf, 0xa3, 0xab, 0xb3, 0xba, 0xbb, 0xb0, 0xb1, 0xc0, 0xc1, 0xc3, 0xc7, 0x38, 0x44, 0x94,
  0xae, 0xaf,
];

/** A device on PCI, as configuration space shows it. */
interface Function {
  slot: number;
  /** Where its virtio structures are: a BAR and an offset, by their type. */
  structures: Map<number, { bar: number; offset: number; length: number; step: number }>;
  /** Whether its driver has chosen packed rings. */
  packed: boolean;
}

const COMMON = 1;
const NOTIFY = 2;
const DEVICE = 4;
/** In the upper half of the features. */
const PACKED = 1 << 2;

export class Fuzzer {
  readonly rig: Rig;
  private readonly random: (below: number) => number;
  private readonly functions: Function[] = [];
  private readonly available = new Map<number, number>();

  constructor(readonly seed: number) {
    this.random = randomizer(Math.imul(seed + 1, 0x9e3779b1));
    for (let n = 0; n < 8; n++) this.random(2); // small seeds begin alike
    this.rig = new Rig(this.options());
    this.rig.memory.fill(0, CODE, 0x400000);
    this.findFunctions();
  }

  private pick<T>(values: readonly T[]): T {
    return values[this.random(values.length)]!;
  }

  private chance(of: number): boolean {
    return this.random(of) === 0;
  }

  private options(): Options {
    const disks = Array.from({ length: this.random(4) }, () => Buffer.alloc(512 * (1 + this.random(64))));
    return {
      memory: 16 << 20,
      disks,
      readOnly: disks.flatMap((_, n) => (this.chance(3) ? [n] : [])),
      cdroms: disks.flatMap((disk, n) => (disk.length % 2048 === 0 ? [n] : [])),
      console: this.pick(["serial", "virtio"]),
      ports: ["data", "log", "agent", "more"].slice(this.random(5)),
      noEntropy: this.chance(4),
      vcpus: 1 + this.random(16),
      cards: Array.from({ length: this.random(3) }, (_, n) => ({
        address: BigInt(0x563412005254 + n * 0x10000000000),
        side: this.random(2),
        cable: Buffer.alloc(CABLE_SIZE),
      })),
      ...(this.chance(4) ? { firmware: Buffer.alloc(0x20000, 0xf4) } : {}),
      ...(this.chance(3) ? { debugExit: true } : {}),
    };
  }

  private findFunctions(): void {
    for (let slot = 0; slot < 32; slot++) {
      if (configRead(this.rig, slot, 0) === 0xffffffff) continue;
      const structures: Function["structures"] = new Map();
      let at = configRead(this.rig, slot, 0x34, 1);
      for (let n = 0; n < 48 && at !== 0; n++, at = configRead(this.rig, slot, at + 1, 1)) {
        if (configRead(this.rig, slot, at, 1) !== 9) continue;
        structures.set(configRead(this.rig, slot, at + 3, 1), {
          bar: configRead(this.rig, slot, at + 4, 1),
          offset: configRead(this.rig, slot, at + 8),
          length: configRead(this.rig, slot, at + 12),
          step: configRead(this.rig, slot, at + 16),
        });
      }
      this.functions.push({ slot, structures, packed: false });
    }
  }

  /** One action. Throws what the device model traps with, and when it does what it must not. */
  step(): void {
    const before = this.rig.accesses;
    const kind = this.random(100);
    if (kind < 20) this.port();
    else if (kind < 45) this.instruction();
    else if (kind < 55) this.configuration();
    else if (kind < 75) this.registers();
    else if (kind < 92) this.ring();
    else this.rest();
    this.rig.msis.length = 0;
    this.rig.log.length = 0;
    const used = this.rig.accesses - before;
    if (used > ACCESS_LIMIT) throw new Error(`one action took ${used} accesses`);
    const bytes = this.rig.wasm.memory.buffer.byteLength;
    if (bytes > LINEAR_LIMIT) throw new Error(`linear memory has grown to ${bytes} bytes`);
  }

  /** After the last step: natively the first 64 KiB are not there. */
  finish(): void {
    if (
      !this.rig
        .linear()
        .subarray(0, 65536)
        .every((byte) => byte === 0)
    ) {
      throw new Error("the null page was written");
    }
  }

  private value(): number {
    return this.pick([
      () => this.random(4),
      () => this.random(256),
      () => this.random(0x100000000),
      () => (1 << this.random(31)) >>> 0,
      () => this.pick([0, 0xffffffff, 0x80000000, 0x7fffffff, 0xffff]),
    ])();
  }

  private value64(): bigint {
    if (this.chance(2)) return BigInt(this.value());
    return (BigInt(this.value()) << 32n) | BigInt(this.value());
  }

  private answered(reply: number): void {
    if (reply >= REPLIES) throw new Error(`reply ${reply}`);
  }

  private port(): void {
    const io = this.functions.map(({ slot }) => configRead(this.rig, slot, 0x20) & 0xfffc);
    const base = this.chance(4)
      ? this.random(65536)
      : this.chance(3)
        ? this.pick([...io, 0xc000])
        : this.pick(PORTS);
    const port = (base + (this.chance(2) ? 0 : this.random(16))) & 0xffff;
    const size = this.pick([1, 2, 4]);
    for (let n = this.pick([1, 1, 1, 3]); n > 0; n--) {
      if (this.chance(2)) this.rig.in(port, size);
      else this.answered(this.rig.out(port, this.value(), size).reply);
    }
  }

  /** Somewhere in memory space, most often where there is a device. */
  private place(): bigint {
    const kind = this.random(8);
    if (kind === 0) return BigInt(this.pick(PLACES)) + BigInt(this.random(64));
    if (kind === 1) return 0xfec00000n + BigInt(this.random(0x44));
    if (kind === 2) return 0xd0000000n + BigInt(this.random(0x20000));
    const { slot } = this.pick(this.functions);
    const bar = configRead(this.rig, slot, 0x10 + 4 * this.random(2)) & ~15;
    const page = this.pick([0, 0, 0x1000, 0x2000, 0x3000]);
    return BigInt((bar >>> 0) + page) + BigInt(this.random(this.pick([64, 16, 4096])));
  }

  // ---- Instructions, in any state of the CPU

  private code(): number[] {
    const bytes = Array.from({ length: 20 }, () => this.random(256));
    let at = 0;
    while (this.chance(3) && at < 14)
      bytes[at++] = this.pick([0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x64, 0x65, 0x48, 0x4f]);
    if (!this.chance(6)) bytes[at++] = this.pick(OPCODES);
    if (bytes[at - 1] === 0x0f && !this.chance(5)) bytes[at] = this.pick(AFTER_0F);
    return bytes;
  }

  private tables(): void {
    const { memory } = this.rig;
    for (let n = 0; n < 64; n++) {
      const at = TABLES + 8 * this.random(TABLES_SIZE / 8);
      const target = this.chance(2)
        ? TABLES + 0x1000 * this.random(TABLES_SIZE / 0x1000)
        : this.value() & 0xfff000;
      let entry = BigInt(target) | BigInt(this.random(0x200)) | (this.chance(8) ? 0n : 7n);
      if (this.chance(16)) entry ^= 1n << BigInt(this.random(64));
      memory.writeBigUInt64LE(entry, at);
    }
    // A way to the code and to low memory, of large pages.
    if (this.chance(8)) return;
    for (const [at, value] of [
      [0, TABLES + 0x1067],
      [0x1000, TABLES + 0x2067],
      [0x2000, 0xe7],
      [0x2008, 0x2000e7],
    ] as const) {
      memory.writeBigUInt64LE(BigInt(value), TABLES + at);
    }
  }

  private instruction(): void {
    const { rig } = this;
    const far = this.chance(12);
    const rip = far ? this.value64() : BigInt(CODE + (this.chance(4) ? 4096 - this.random(16) : 0));
    if (!far) rig.memory.set(this.code(), Number(rip));
    if (this.chance(4)) this.tables();
    if (this.chance(16)) this.segments();
    const gpa = this.place();
    const fields: [number, number | bigint][] = [
      [ExitMessageAt.gpa, this.chance(12) ? this.value64() : gpa],
      [ExitMessageAt.linear, this.chance(8) ? this.value64() : gpa],
      [ExitMessageAt.access, this.chance(4) ? this.random(64) : 1 + this.random(2)],
      [
        ExitMessageAt.cs_access,
        this.pick([0x9b, 0xc09b, 0xa09b, 0xa09b, 0xa0fb, 0xc0fb, 0xc09f, this.random(0x20000)]),
      ],
      [ExitMessageAt.cs_base, this.chance(8) ? this.value64() : 0n],
      [ExitMessageAt.rip, rip],
      [
        ExitMessageAt.rflags,
        (this.chance(3) ? BigInt(this.random(0x400000)) : BigInt(this.random(0x1000))) | 2n,
      ],
      [ExitMessageAt.cr0, this.pick([1n, 0n, 0x80000001n, 0x80010001n, 0x80050001n])],
      [ExitMessageAt.cr3, this.chance(8) ? this.value64() : BigInt(TABLES + this.random(4))],
      [ExitMessageAt.cr4, this.pick([0x20n, 0x20n, 0n, 0x10n, 0x1020n, 0x300020n, this.value64()])],
      [ExitMessageAt.efer, this.pick([0x500n, 0xd00n, 0x500n, 0n, 0x800n])],
      [ExitMessageAt.size, this.pick([1, 2, 4])],
      [ExitMessageAt.port, this.pick(PORTS)],
      [ExitMessageAt.length, this.random(16)],
    ];
    for (let n = 0; n < 16; n++) {
      const near = this.pick([gpa, BigInt(BUFFERS), BigInt(this.random(600)), gpa - 2n]);
      fields.push([ExitMessageAt.gpr + 8 * n, this.chance(3) ? this.value64() : near]);
    }
    const kind = this.chance(6) ? ExitType.PORT_STRING : ExitType.MMIO;
    if (kind === ExitType.PORT_STRING) fields.push([ExitMessageAt.access, this.random(16)]);
    this.answered(rig.message(kind, fields).reply);
  }

  private segments(): void {
    for (let n = Segment.ES; n <= Segment.GS; n++) {
      if (this.chance(2)) continue;
      this.rig.segments[n] = {
        base: this.chance(2) ? 0n : this.value64(),
        limit: this.chance(2) ? 0xffffffff : this.value(),
        access: this.chance(2) ? 0xc093 : this.random(0x20000),
        selector: this.random(65536),
      };
    }
  }

  // ---- PCI and virtio

  private configuration(): void {
    const slot = this.chance(8) ? this.random(32) : this.pick(this.functions).slot;
    const size = this.pick([1, 2, 4]);
    const register =
      (this.chance(2) ? this.pick([0x04, 0x10, 0x14, 0x20, 0x3c, 0x40, 0x50, 0x60]) : this.random(256)) &
      ~(size - 1);
    const value = this.chance(3)
      ? this.pick([
          0,
          2,
          7,
          0x407,
          0xffffffff,
          0xe0000000 + 0x4000 * this.random(64),
          0xc000 + this.random(0x900),
        ])
      : this.value();
    if (this.chance(3)) configRead(this.rig, slot, register, size);
    else configWrite(this.rig, slot, register, value, size);
    if (this.chance(2)) this.home(slot);
  }

  /** Puts the BARs of a slot back, so that the rest finds its device. */
  private home(slot: number): void {
    const n = this.functions.findIndex((other) => other.slot === slot);
    if (n < 0) return;
    configWrite(this.rig, slot, 0x10, 0xe0000000 + 0x10000 * n);
    configWrite(this.rig, slot, 0x14, 0xe0008000 + 0x10000 * n);
    configWrite(this.rig, slot, 0x20, 0xc000 + 0x40 * n);
    configWrite(this.rig, slot, 4, 7, 2);
  }

  private virtio(): Function | undefined {
    const found = this.functions.filter(({ structures }) => structures.has(COMMON));
    return found.length === 0 ? undefined : this.pick(found);
  }

  /** The address of a virtio structure. */
  private structure(target: Function, kind: number): number {
    const { bar, offset } = target.structures.get(kind) ?? { bar: 0, offset: 0 };
    return ((configRead(this.rig, target.slot, 0x10 + 4 * bar) & ~15) >>> 0) + offset;
  }

  private registers(): void {
    const target = this.virtio();
    if (!target) return this.port();
    if (this.chance(3)) return this.negotiate(target);
    for (let n = this.random(4); n >= 0; n--) {
      const kind = this.pick([COMMON, COMMON, DEVICE, NOTIFY, 3]);
      const at = this.structure(target, kind) + this.random(this.pick([8, 64, 64, 256]));
      const size = this.pick([1, 2, 4, 8]);
      if (this.chance(3)) this.rig.load(at, size);
      else this.answered(this.rig.store(at, size, this.chance(2) ? this.random(16) : this.value64()).reply);
    }
    if (this.chance(4)) this.msix(target);
  }

  private msix({ slot }: Function): void {
    const table = (configRead(this.rig, slot, 0x14) & ~15) >>> 0;
    for (let n = 0; n < 4; n++) {
      this.rig.store(table + 16 * n, 4, this.chance(4) ? this.value() : 0xfee00000 + 0x1000 * this.random(4));
      this.rig.store(table + 16 * n + 8, 4, this.random(256));
      this.rig.store(table + 16 * n + 12, 4, this.random(2));
    }
    for (let at = configRead(this.rig, slot, 0x34, 1), n = 0; at !== 0 && n < 48; n++) {
      if (configRead(this.rig, slot, at, 1) === 0x11)
        configWrite(this.rig, slot, at + 2, this.random(4) << 14, 2);
      at = configRead(this.rig, slot, at + 1, 1);
    }
  }

  /** As a driver does it, with any of what is offered; now and then a step is left out. */
  private negotiate(target: Function): void {
    const { rig } = this;
    const skip = (): boolean => this.chance(150);
    if (!skip()) this.home(target.slot);
    const common = this.structure(target, COMMON);
    for (const status of [0, 1, 3]) rig.store(common + 0x14, 1, status);
    for (const half of [0, 1]) {
      rig.store(common, 4, half);
      const offered = Number(rig.load(common + 4, 4));
      const wanted = this.chance(3) ? offered : offered & (this.random(0x100000000) | (half ? 1 : 0));
      if (half) target.packed = (wanted & PACKED) !== 0;
      rig.store(common + 8, 4, half);
      rig.store(common + 12, 4, skip() ? this.value() : wanted >>> 0);
    }
    rig.store(common + 0x14, 1, 0x0b);
    const queues = Math.min(Number(rig.load(common + 0x12, 2)), 8);
    for (let n = 0; n < queues; n++) {
      if (skip()) continue;
      rig.store(common + 0x16, 2, n);
      rig.store(common + 0x18, 2, skip() ? this.value() : this.pick([1, 2, 4, 8, 16, 16]));
      rig.store(common + 0x1a, 2, this.chance(3) ? 0xffff : this.random(4));
      const at = RINGS + n * 0x4000;
      rig.store(common + 0x20, 8, skip() ? this.value64() : at);
      rig.store(common + 0x28, 8, skip() ? this.value64() : at + 0x2000);
      rig.store(common + 0x30, 8, skip() ? this.value64() : at + 0x3000);
      rig.store(common + 0x1c, 2, 1);
      this.available.set(target.slot * 8 + n, 0);
      rig.memory.fill(0, at, at + 0x4000);
    }
    rig.store(common + 0x14, 1, skip() ? this.random(256) : 0x0f);
  }

  private address(): bigint {
    if (this.chance(40)) return this.value64();
    if (this.chance(20)) return BigInt((16 << 20) - this.random(64));
    return BigInt(BUFFERS + (this.random(0x40000) & ~(this.chance(4) ? 0 : 7)));
  }

  private ring(): void {
    const target = this.virtio();
    if (!target) return this.port();
    if (this.chance(2)) this.negotiate(target);
    for (let n = 1 + this.random(6); n > 0; n--) this.buffers(target);
  }

  /** Fills a queue's descriptors, split or packed, with what is nearly right, and notifies. */
  private buffers(target: Function): void {
    const { memory } = this.rig;
    const queue = this.random(this.pick([1, 2, 3, 8]));
    const at = RINGS + queue * 0x4000;
    const packed = target.packed !== this.chance(20);
    const wrap = this.random(2) ? 0x80 : 0x8000;
    const tame = this.chance(2); // chains as a driver makes them: to be read, then to be written
    for (let n = 0; n < 16; n++) {
      const table = this.chance(6) ? BUFFERS : at;
      const row = table + 16 * n;
      memory.writeBigUInt64LE(this.chance(12) ? BigInt(BUFFERS) : this.address(), row);
      memory.writeUInt32LE(
        tame
          ? [16, 512, 512, 1][n % 4]!
          : this.pick([
              1,
              12,
              16,
              16,
              64,
              512,
              2048,
              16 * this.random(20),
              this.chance(9) ? this.value() : 8,
            ]),
        row + 8,
      );
      const flags = tame
        ? [1, 3, 3, 2][n % 4]!
        : this.chance(12)
          ? this.random(65536)
          : this.pick([0, 1, 2, 3, 2, 1, 4]);
      if (packed) {
        memory.writeUInt16LE(n, row + 12);
        memory.writeUInt16LE(flags | (!tame && this.chance(6) ? 0 : wrap), row + 14);
      } else {
        memory.writeUInt16LE(flags, row + 12);
        memory.writeUInt16LE(!tame && this.chance(12) ? this.random(65536) : (n + 1) % 16, row + 14);
      }
      const head = tame ? 4 * this.random(4) : this.chance(20) ? this.random(65536) : this.random(16);
      memory.writeUInt16LE(head, at + 0x2004 + 2 * n);
    }
    // Headers of any device: small numbers, most of them.
    for (let n = 0; n < 16; n++) {
      const head = BUFFERS + 8 * this.random(0x800);
      memory.writeUInt32LE(this.chance(4) ? this.value() : this.random(16), head);
      memory.writeUInt32LE(this.random(8) | (this.random(2) << 16), head + 4);
    }
    if (!packed) {
      const key = target.slot * 8 + queue;
      const next =
        ((this.available.get(key) ?? 0) + (this.chance(30) ? this.random(65536) : this.random(5))) & 0xffff;
      this.available.set(key, next);
      memory.writeUInt16LE(this.random(2), at + 0x2000);
      memory.writeUInt16LE(next, at + 0x2002);
    }
    const { step = 4 } = target.structures.get(NOTIFY) ?? {};
    const io = configRead(this.rig, target.slot, 0x20);
    if (this.chance(2) && (io & 1) === 1)
      this.answered(this.rig.out((io & 0xfffc) + 2 * queue, queue, 2).reply);
    else this.rig.store(this.structure(target, NOTIFY) + (step & 0xff) * queue, 2, queue);
  }

  // ---- Time, interrupts and the control domain

  private rest(): void {
    const { rig } = this;
    switch (this.random(9)) {
      case 0:
      case 1:
        return rig.advance(this.pick([1000, 100_000, 1 + this.random(5_000_000)]));
      case 2:
        return rig.type("some input\r".repeat(this.random(20)));
      case 3:
        return rig.command({
          t: this.pick(["powerbutton", "run", "?", "quiesce", "", "reborn", "reborn"]),
          n: this.random(9),
          queue: this.random(70),
          name: "x".repeat(this.random(80)),
          generation: Buffer.alloc(this.chance(8) ? this.random(40) : 16, this.random(256)),
          wallClock: BigInt.asUintN(64, this.value64()),
          addresses: Array.from({ length: this.random(6) }, () => this.random(1 << 30)),
          clone: this.chance(2),
        });
      case 4:
        return rig.scribble(
          this.random(12),
          this.random(4),
          this.chance(2) ? this.value() : this.random(5000),
        );
      case 5:
        this.answered(
          rig.message(this.pick([ExitType.EOI, ExitType.EXTINT_ACK]), [[ExitMessageAt.value, this.value64()]])
            .reply,
        );
        return;
      case 6:
        this.answered(
          rig.message(this.random(12) as ExitType, [[ExitMessageAt.value, this.value64()]]).reply,
        );
        return;
      case 7:
        if (this.rig.cables.length > 0) this.cable();
        return;
      default:
        rig.output();
        try {
          rig.events();
        } catch {
          // What was scribbled on is not CBOR.
        }
    }
  }

  /** The other end of a network cable scribbles on what both share. */
  private cable(): void {
    const card = this.random(this.rig.cables.length);
    const cable = this.rig.cables[card]!;
    for (let n = this.random(8); n >= 0; n--) {
      const at = this.chance(2) ? this.random(64) * 4 : this.random(cable.length / 4) * 4;
      cable.writeUInt32LE(this.chance(2) ? this.random(5000) : this.value(), at);
    }
    this.rig.signalCable(card);
  }
}

/** Runs one seed for some steps. What goes wrong names both, for a line in fuzz-seeds.ts. */
export function fuzz(seed: number, steps: number): void {
  let step = 0;
  try {
    const fuzzer = new Fuzzer(seed);
    for (; step < steps; step++) fuzzer.step();
    fuzzer.finish();
  } catch (error) {
    throw new Error(`seed ${seed}, step ${step}: ${(error as Error).stack ?? String(error)}`);
  }
}
