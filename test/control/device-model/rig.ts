// Runs the shipping device model in Node over flat memory, and plays kernel, control domain and guest.

import { readFileSync } from "node:fs";
import { decode } from "cbor-x/decode";
import { encode } from "cbor-x/encode";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  CAP_LINK,
  CAP_MEMORY,
  CAP_VM,
  ENTROPY_MAX,
  EVENT_FREE,
  ExitMessageAt,
  ExitType,
  GPA_SHARED,
  Hypercall,
  InterruptKind,
  RELEASE_MAX,
  Reply,
  SegmentStateAt,
  Status,
  VcpuRegistersAt,
} from "../../../control/gen/abi";
import { GPA_GUEST } from "../../../control/gen/abi64-node";

const KERNEL_GPA = 0x20000000n;
const INITRD_GPA = 0x40000000n;
const MODULES_GPA = 0xe0000000n;
const DISK_GPA = 0x60000000n;
const DISK_IMAGE_GPA = 0xa0000000n;
const DISK_STEP = 0x10000000n;
const LINK_SIZE = 0x1a000;
const PORTS = 0x16000;
export const PORT_RING = 0x800;
const CABLE_GPA = 0x10100000n;
const CABLE_STEP = 0x40000n;
const CAP_CABLES = 24;
const CAP_FLASH = 28;
const EVENT_CABLES = 32n;
/** What the two sides of a cable share: a page, and a ring for each side. */
export const CABLE_RING = 0x11000;
export const CABLE_SIZE = 0x1000 + 2 * CABLE_RING;
const EVENT_LINK = BigInt(EVENT_FREE);
const EVENT_TIMER = BigInt(EVENT_FREE + 1);

export const TSC_HZ = 1_000_000_000n;
export const MIB = 1 << 20;
const LOW_MEMORY_END = 3072 * MIB;
const HIGH_MEMORY = 4096 * MIB;
/** 2026-03-04 05:06:07 UTC, a Wednesday. */
export const WALL_CLOCK = 1772600767;

interface Exports {
  memory: WebAssembly.Memory;
  _start(): void;
  init(): void;
  exitBuffer(): number;
  onExit(index: number): void;
  onEvents(bits: bigint): void;
  __collect(): void;
}

/** What a test may set about its VM. */
export interface Options {
  memory?: number;
  kernel?: Uint8Array;
  initrd?: Uint8Array;
  /** Firmware instead of a kernel. */
  firmware?: Uint8Array;
  /** Bytes at its start that are flash memory, and what that holds already; else it is filled from the image. */
  flash?: number;
  flashHolds?: Uint8Array;
  cmdline?: string;
  /** How it starts; "auto" if not given. */
  boot?: string;
  /** Modules for its kernel. */
  modules?: { image: Uint8Array; cmdline?: string }[];
  debugExit?: boolean;
  /** Images of disks; the rig maps them and the disks made from them. */
  disks?: Uint8Array[];
  /** "virtio": its console is a virtio device. */
  console?: string;
  /** Names of its ports. */
  ports?: string[];
  /** Disks that are read-only, by number. */
  readOnly?: number[];
  /** Numbers of disks that are CDs. */
  cdroms?: number[];
  /** The CPU has no source of entropy. */
  noEntropy?: boolean;
  /** Bytes of configuration instead of the usual map. */
  /** Network cards: address with its first byte lowest, side, and the cable's memory. */
  cards?: { address: number | bigint; side: number; cable: Buffer }[];
  /** "split": packed rings are not offered. */
  rings?: string;
  rawConfig?: Uint8Array;
  /** Its first generation ID, if not any. */
  generation?: Uint8Array;
  vcpus?: number;
  /** Width of its physical addresses; 52 if not given. */
  physicalBits?: number;
  /** A module instead of the shipping one. */
  wasm?: string;
}

export interface Msi {
  address: number;
  data: number;
}

/** An answered exit. */
export interface Answer {
  reply: number;
  length: number;
  value: bigint;
  gprs: number;
  vector: number;
  error: number;
  cr2: bigint;
}

const SHIPPING = process.env["DEVICE_MODEL_WASM"] ?? "build/device-model.wasm";
const modules = new Map<string, WebAssembly.Module>();

function moduleOf(path: string): WebAssembly.Module {
  const known = modules.get(path) ?? new WebAssembly.Module(readFileSync(path));
  modules.set(path, known);
  return known;
}

/** A segment that does not limit: present, accessed data, 32-bit, for flat code. */
const FLAT = { base: 0n, limit: 0xffffffff, access: 0xc093, selector: 0x10 };

export type FlatSegment = typeof FLAT;

/** MOV [rax], ecx and MOV ecx, [rax], by width. */
const CODE_STORE: Record<number, number[]> = {
  1: [0x88, 0x08],
  2: [0x66, 0x89, 0x08],
  4: [0x89, 0x08],
  8: [0x48, 0x89, 0x08],
};
const CODE_LOAD: Record<number, number[]> = {
  1: [0x8a, 0x08],
  2: [0x66, 0x8b, 0x08],
  4: [0x8b, 0x08],
  8: [0x48, 0x8b, 0x08],
};

/** A trap of the component: a test that sees one has failed. */
export class Trap extends Error {}

function aligned(gpa: bigint, size: number): bigint {
  if (gpa % BigInt(size) !== 0n) throw new Trap(`an unaligned access at 0x${gpa.toString(16)}`);
  return gpa;
}

export class Rig {
  /** The VM's memory below the hole, and from 4 GiB on. */
  readonly memory: Buffer;
  readonly highMemory: Buffer;
  readonly msis: Msi[] = [];
  readonly log: string[] = [];
  /** Pages of the VM's memory that were given back, and in how many calls. */
  readonly released = new Set<number>();
  releases = 0;
  /** What VCPU_SET was given, or null. */
  state: Buffer | null = null;
  /** The PIC's announced vector, -1: its line is down. */
  extint = -1;
  /** Writes to a local APIC, and what the kernel answers to them. */
  readonly apicWrites: { offset: number; value: number }[] = [];
  apicEnds = 0;
  /** It is off or in x2APIC mode. */
  /** IA32_APIC_BASE of the vCPU: enabled, not in x2APIC mode. */
  apicBase = 0xfee00800n;
  started = 0;
  signals = 0;
  timerSets = 0;
  hypercalls = 0;
  now = 5_000_000_000n;
  tscOffset: bigint | null = null;
  private readonly shared = Buffer.alloc(LINK_SIZE);
  private readonly comm = Buffer.alloc(4096);
  private kernel: Buffer;
  private readonly initrd: Buffer;
  /** As the device model has it, with the flash memory. */
  readonly firmware: Buffer;
  /** Whether the VM has the flash memory mapped, what of it, and how often that has changed. */
  flashMapped: { gpa: bigint; pages: bigint; access: bigint } | null = null;
  flashChanges = 0;
  /** The kernel has no memory for a mapping. */
  noMappings = false;
  readonly disks: Buffer[];
  private readonly modules: Buffer;
  private readonly images: Buffer[];
  readonly cables: Buffer[];
  /** Called for a signal on a card's channel. */
  onCable: (card: number) => void = () => undefined;
  private readonly noEntropy: boolean;
  private deadline = 0n;
  readonly wasm: Exports;
  /** What VCPU_GET says of segment registers, by their number. */
  readonly segments: FlatSegment[] = Array.from({ length: 10 }, () => ({ ...FLAT }));
  /** Sees each compare-and-swap of guest memory before it happens; another CPU may be quicker. */
  onReplace: ((gpa: number, size: number) => void) | null = null;
  /** Accesses to memory outside of the component's own. */
  accesses = 0;
  private exits = 0;

  constructor(options: Options = {}) {
    const memory = options.memory ?? 64 * MIB;
    this.memory = Buffer.alloc(Math.min(memory, LOW_MEMORY_END));
    this.highMemory = Buffer.alloc(memory - this.memory.length);
    this.kernel = Buffer.from(options.kernel ?? tinyKernel());
    this.initrd = Buffer.from(options.initrd ?? []);
    this.firmware = Buffer.from(options.firmware ?? []);
    if (options.flash) {
      this.kernel = Buffer.from(this.firmware);
      this.firmware.fill(0, 0, options.flash);
      this.firmware.set(options.flashHolds ?? []);
    }
    this.images = (options.disks ?? []).map((image) => Buffer.from(image));
    this.disks = this.images.map((image) => Buffer.alloc(image.length));
    this.modules = Buffer.concat((options.modules ?? []).map((module) => wholePages(module.image)));
    this.cables = (options.cards ?? []).map((card) => card.cable);
    this.noEntropy = options.noEntropy ?? false;
    this.writeConfig(options);
    const plinth = this.imports();
    const module = moduleOf(options.wasm ?? SHIPPING);
    this.wasm = new WebAssembly.Instance(module, { plinth }).exports as unknown as Exports;
    this.wasm._start();
    this.wasm.init();
    this.wasm.__collect();
  }

  private writeConfig(options: Options): void {
    const config =
      options.rawConfig ??
      encode({
        name: "a",
        memory: this.memory.length + this.highMemory.length,
        vcpus: options.vcpus ?? 1,
        cmdline: options.cmdline ?? "console=ttyS0",
        boot: options.boot ?? "auto",
        kernel: "linux",
        debugExit: options.debugExit ?? false,
        modules: (options.modules ?? []).map(({ image, cmdline }) => ({
          image: "module",
          size: image.length,
          cmdline: cmdline ?? "",
        })),
        kernelSize: this.kernel.length,
        initrdSize: this.initrd.length,
        firmwareSize: this.firmware.length,
        flashSize: options.flash ?? 0,
        flashFresh: options.flashHolds === undefined,
        wallClock: WALL_CLOCK,
        ...(options.generation ? { generation: options.generation } : {}),
        tscHz: Number(TSC_HZ),
        physicalBits: options.physicalBits ?? 52,
        console: options.console ?? "serial",
        rings: options.rings ?? "packed",
        ports: options.ports ?? [],
        networks: (options.cards ?? []).map(({ address, side }) => ({ address: BigInt(address), side })),
        disks: this.images.map((image, n) => ({
          image: "disk",
          size: image.length,
          readOnly: options.readOnly?.includes(n) ?? false,
          cdrom: options.cdroms?.includes(n) ?? false,
          fresh: true,
        })),
      });
    this.shared.writeUInt32LE(config.length, 0);
    this.shared.set(config, 4);
  }

  linear(): Buffer {
    return Buffer.from(this.wasm.memory.buffer);
  }

  // Where a guest-physical address of the component lies.
  private at(gpa: bigint, length: number): Buffer {
    this.accesses++;
    const areas: [bigint, Buffer][] = [
      [BigInt(GPA_SHARED), this.shared],
      [KERNEL_GPA, this.kernel],
      [INITRD_GPA, this.initrd],
      [MODULES_GPA, this.modules],
      [BigInt(GPA_GUEST) + 0x100000000n - BigInt(this.firmware.length), this.firmware],
      [BigInt(GPA_GUEST), this.memory],
      [BigInt(GPA_GUEST) + BigInt(HIGH_MEMORY), this.highMemory],
    ];
    this.disks.forEach((disk, n) => areas.push([DISK_GPA + BigInt(n) * DISK_STEP, disk]));
    this.cables.forEach((cable, n) => areas.push([CABLE_GPA + BigInt(n) * CABLE_STEP, cable]));
    this.images.forEach((image, n) => areas.push([DISK_IMAGE_GPA + BigInt(n) * DISK_STEP, image]));
    for (const [base, bytes] of areas) {
      const offset = Number(gpa - base);
      if (gpa >= base && offset + length <= bytes.length) return bytes.subarray(offset, offset + length);
    }
    throw new Trap(`nothing is mapped at 0x${gpa.toString(16)} (${length} bytes)`);
  }

  private imports(): Record<string, (...args: never[]) => unknown> {
    const u = (value: number): number => value >>> 0;
    return {
      hypercall: (nr: number, ...args: bigint[]) =>
        this.hypercall(
          nr,
          args.map((a) => BigInt.asUintN(64, a)),
        ),
      commRead: (to: number, offset: number, length: number) => {
        this.comm.copy(this.linear(), u(to), offset, offset + length);
      },
      commWrite: (offset: number, from: number, length: number) => {
        this.linear().copy(this.comm, offset, u(from), u(from) + length);
      },
      infoRead: (to: number) => this.linear().writeUInt32LE(1, u(to)),
      sharedRead: (to: number, gpa: bigint, length: number) => {
        this.at(BigInt.asUintN(64, gpa), u(length)).copy(this.linear(), u(to));
      },
      sharedWrite: (gpa: bigint, from: number, length: number) => {
        this.linear().copy(this.at(BigInt.asUintN(64, gpa), u(length)), 0, u(from), u(from) + u(length));
      },
      sharedCopy: (to: bigint, from: bigint, length: bigint) => {
        this.at(from, Number(length)).copy(this.at(to, Number(length)));
      },
      sharedFill: (gpa: bigint, value: number, length: bigint) => this.at(gpa, Number(length)).fill(value),
      sharedLoad32: (gpa: bigint) => this.at(aligned(gpa, 4), 4).readUInt32LE(0),
      sharedLoad64: (gpa: bigint) => this.at(aligned(gpa, 8), 8).readBigInt64LE(0),
      sharedStore32: (gpa: bigint, value: number) => this.at(aligned(gpa, 4), 4).writeUInt32LE(u(value), 0),
      sharedReplace: (gpa: bigint, size: number, expected: bigint, value: bigint) => {
        const cell = this.at(aligned(gpa, size), size);
        this.onReplace?.(Number(gpa - BigInt(GPA_GUEST)), size);
        const old = size === 8 ? cell.readBigUInt64LE(0) : BigInt(cell.readUInt32LE(0));
        if (old !== BigInt.asUintN(8 * size, expected)) return 0;
        if (size === 8) cell.writeBigUInt64LE(BigInt.asUintN(64, value), 0);
        else cell.writeUInt32LE(Number(BigInt.asUintN(32, value)), 0);
        return 1;
      },
      now: () => this.now,
      abort: (message: number, file: number, line: number, column: number) => {
        throw new Trap(`${this.string(message)} @ ${this.string(file)}:${line}:${column}`);
      },
    } as Record<string, (...args: never[]) => unknown>;
  }

  private string(at: number): string {
    if (at === 0) return "?";
    const bytes = this.linear();
    return bytes.toString("utf16le", at, at + bytes.readUInt32LE(at - 4));
  }

  private hypercall(nr: number, args: bigint[]): bigint {
    this.hypercalls++;
    const [a = 0n, b = 0n, c = 0n] = args;
    switch (nr as Hypercall) {
      case Hypercall.LOG:
        this.log.push(this.comm.toString("utf8", 0, Number(a)));
        break;
      case Hypercall.MSI:
        this.msis.push({ address: Number(b), data: Number(c) });
        break;
      case Hypercall.VCPU_INTERRUPT:
        this.extint = Number(b) === InterruptKind.EXTINT ? Number(c) : -1;
        break;
      case Hypercall.VCPU_SET:
        this.state = Buffer.from(this.comm.subarray(0, VcpuRegistersAt.SIZE));
        this.tscOffset = this.state.readBigUInt64LE(VcpuRegistersAt.tsc_offset);
        break;
      case Hypercall.VCPU_GET:
        this.comm.fill(0, 0, VcpuRegistersAt.SIZE);
        this.comm.writeBigUInt64LE(this.tscOffset ?? 0n, VcpuRegistersAt.tsc_offset);
        this.segments.forEach(({ base, limit, access, selector }, n) => {
          const at = VcpuRegistersAt.segments + n * SegmentStateAt.SIZE;
          this.comm.writeUInt16LE(selector, at + SegmentStateAt.selector);
          this.comm.writeUInt32LE(limit, at + SegmentStateAt.limit);
          this.comm.writeUInt32LE(access, at + SegmentStateAt.access);
          this.comm.writeBigUInt64LE(base, at + SegmentStateAt.base);
        });
        break;
      case Hypercall.VCPU_START:
        this.started++;
        break;
      case Hypercall.APIC_ACCESS:
        if (b >> 12n !== this.apicBase >> 12n) return -BigInt(Status.BAD_ARGUMENT);
        if (args[3]) this.apicWrites.push({ offset: Number(b & 0xfffn), value: Number(c) });
        return args[3] ? BigInt(this.apicEnds) : 0xa0000000n | (b & 0xfffn);
      case Hypercall.TIMER_SET:
        this.timerSets++;
        this.deadline = b;
        break;
      case Hypercall.MEM_RELEASE: {
        const [first, pages] = [Number(b), Number(c)];
        const end = (this.memory.length + this.highMemory.length) / 4096;
        if (Number(a) !== CAP_MEMORY || pages < 1 || pages > RELEASE_MAX || first + pages > end)
          throw new Trap(`release of ${pages} pages from ${first} on by slot ${a}`);
        for (let page = first; page < first + pages; page++) this.released.add(page);
        this.releases++;
        break;
      }
      case Hypercall.MEM_MAP:
        if (Number(a) !== CAP_VM || Number(b) !== CAP_FLASH || this.flashMapped !== null || args[3] !== 0n)
          throw new Trap(`a mapping of slot ${b} into slot ${a}`);
        if (this.noMappings) return -BigInt(Status.NO_QUOTA);
        this.flashMapped = { gpa: c, pages: args[4]!, access: args[5]! };
        this.flashChanges++;
        break;
      case Hypercall.MEM_UNMAP:
        if (this.flashMapped === null) return -BigInt(Status.BAD_ARGUMENT);
        if (Number(a) !== CAP_VM || b !== this.flashMapped.gpa || c !== this.flashMapped.pages)
          throw new Trap(`${c} pages at ${b} of slot ${a} are unmapped`);
        this.flashMapped = null;
        this.flashChanges++;
        break;
      case Hypercall.ENTROPY:
        if (this.noEntropy || Number(a) > ENTROPY_MAX) return -BigInt(Status.BAD_STATE);
        for (let i = 0; i < Number(a); i++) this.comm[i] = (i * 37 + 11) & 0xff;
        break;
      case Hypercall.CHANNEL_SIGNAL:
        if (Number(a) === CAP_LINK) this.signals++;
        else this.onCable(Number(a) - CAP_CABLES);
        break;
      default:
        break;
    }
    return 0n;
  }

  /** Lets `nanoseconds` pass; timers fire on the way. */
  advance(nanoseconds: number): void {
    const end = this.now + BigInt(nanoseconds);
    while (this.deadline !== 0n && this.deadline <= end) {
      if (this.deadline > this.now) this.now = this.deadline;
      this.deadline = 0n;
      this.wasm.onEvents(1n << EVENT_TIMER);
      this.wasm.__collect();
    }
    this.now = end;
  }

  private exit(fill: (message: Buffer) => void): Answer {
    const message = this.linear().subarray(
      this.wasm.exitBuffer(),
      this.wasm.exitBuffer() + ExitMessageAt.SIZE,
    );
    fill(message);
    message.writeUInt32LE(0xee, ExitMessageAt.reply);
    this.wasm.onExit(0);
    if (++this.exits % 4096 === 0) this.wasm.__collect();
    const after = this.exitMessage();
    return {
      reply: after.readUInt32LE(ExitMessageAt.reply),
      length: after.readUInt32LE(ExitMessageAt.reply_length),
      value: after.readBigUInt64LE(ExitMessageAt.reply_value),
      gprs: after.readUInt32LE(ExitMessageAt.reply_gprs),
      vector: after.readUInt32LE(ExitMessageAt.reply_vector),
      error: after.readUInt32LE(ExitMessageAt.reply_error),
      cr2: after.readBigUInt64LE(ExitMessageAt.reply_cr2),
    };
  }

  /** The exit buffer as it is now. */
  exitMessage(): Buffer {
    return this.linear().subarray(this.wasm.exitBuffer(), this.wasm.exitBuffer() + ExitMessageAt.SIZE);
  }

  in(port: number, size = 1): number {
    const answer = this.exit((m) => {
      m.writeUInt32LE(ExitType.PORT_IN, ExitMessageAt.type);
      m.writeUInt32LE(2, ExitMessageAt.length);
      m.writeUInt32LE(port, ExitMessageAt.port);
      m.writeUInt32LE(size, ExitMessageAt.size);
    });
    if (answer.reply !== Reply.ADVANCE || answer.length !== 2 || answer.gprs !== 0)
      throw new Error("IN: bad answer");
    return Number(answer.value & ((1n << BigInt(8 * size)) - 1n));
  }

  out(port: number, value: number, size = 1): Answer {
    return this.exit((m) => {
      m.writeUInt32LE(ExitType.PORT_OUT, ExitMessageAt.type);
      m.writeUInt32LE(2, ExitMessageAt.length);
      m.writeUInt32LE(port, ExitMessageAt.port);
      m.writeUInt32LE(size, ExitMessageAt.size);
      m.writeBigUInt64LE(BigInt(value >>> 0), ExitMessageAt.value);
    });
  }

  /** An exit with a whole message: 32-bit and 64-bit fields by their offset. */
  message(type: ExitType, fields: [number, number | bigint][] = []): Answer {
    return this.exit((m) => {
      m.fill(0);
      m.writeUInt32LE(type, ExitMessageAt.type);
      for (const [offset, value] of fields) {
        if (typeof value === "bigint") m.writeBigUInt64LE(BigInt.asUintN(64, value), offset);
        else m.writeUInt32LE(value >>> 0, offset);
      }
    });
  }

  /** Writes 32 bits by MOV [rax], ecx in 64-bit code with paging off. */
  mmioWrite(gpa: number, value: number): Answer {
    this.memory.set([0x89, 0x08], 0x100000);
    return this.message(ExitType.MMIO, [
      ...this.codeAt(0x100000, gpa, ACCESS_WRITE),
      [ExitMessageAt.gpr + 8, BigInt(value >>> 0)],
    ]);
  }

  /** Reads 32 bits by MOV ecx, [rax]. */
  mmioRead(gpa: number): number {
    this.memory.set([0x8b, 0x08], 0x100000);
    this.message(ExitType.MMIO, this.codeAt(0x100000, gpa, ACCESS_READ));
    return this.exitMessage().readUInt32LE(ExitMessageAt.gpr + 8);
  }

  /** Writes 1, 2, 4 or 8 bytes. */
  store(gpa: number, size: number, value: number | bigint): Answer {
    this.memory.set(CODE_STORE[size]!, 0x100000);
    return this.message(ExitType.MMIO, [
      ...this.codeAt(0x100000, gpa, ACCESS_WRITE),
      [ExitMessageAt.gpr + 8, BigInt.asUintN(64, BigInt(value))],
    ]);
  }

  /** Reads 1, 2, 4 or 8 bytes. */
  load(gpa: number, size: number): bigint {
    this.memory.set(CODE_LOAD[size]!, 0x100000);
    this.message(ExitType.MMIO, this.codeAt(0x100000, gpa, ACCESS_READ));
    return BigInt.asUintN(8 * size, this.exitMessage().readBigUInt64LE(ExitMessageAt.gpr + 8));
  }

  private codeAt(rip: number, gpa: number, access: number): [number, number | bigint][] {
    return [
      [ExitMessageAt.value, this.apicBase],
      [ExitMessageAt.gpa, BigInt(gpa)],
      [ExitMessageAt.linear, BigInt(gpa)],
      [ExitMessageAt.access, access],
      [ExitMessageAt.cs_access, 0xa09b],
      [ExitMessageAt.efer, 0x500n],
      [ExitMessageAt.rip, BigInt(rip)],
    ];
  }

  ioapicRead(register: number): number {
    this.mmioWrite(0xfec00000, register);
    return this.mmioRead(0xfec00010);
  }

  /** Routes an input of the I/O APIC to a vector; `flags` are bits of the entry's low half. */
  ioapic(pin: number, vector: number, flags = 0, destination = 0): void {
    for (const [register, value] of [
      [0x11 + 2 * pin, destination << 24],
      [0x10 + 2 * pin, vector | flags],
    ] as const) {
      this.mmioWrite(0xfec00000, register);
      this.mmioWrite(0xfec00010, value);
    }
  }

  /** The other end of a card's cable signals. */
  signalCable(card: number): void {
    this.wasm.onEvents(1n << (EVENT_CABLES + BigInt(card)));
    this.wasm.__collect();
  }

  /** What a device has counted, by its place in the machine. */
  counters(device: number): number[] {
    const at = 0x5000 + device * 128;
    return Array.from({ length: 16 }, (_, n) => Number(this.shared.readBigUInt64LE(at + 8 * n)));
  }

  /** The control domain's command. */
  command(fields: Record<string, unknown>): void {
    const bytes = encode(fields);
    const framed = Buffer.alloc(bytes.length + 2);
    framed.writeUInt16LE(bytes.length, 0);
    framed.set(bytes, 2);
    this.put(1, 0x3000, 4096, framed);
  }

  /** Keys for the VM's console. */
  type(text: string): void {
    this.put(3, 0x4000, 4096, Buffer.from(text, "latin1"));
  }

  /** Bytes for the VM from a port's user, who takes care not to write more than there is room for. */
  portWrite(port: number, text: string): void {
    this.put(5 + 2 * port, PORTS + port * 2 * PORT_RING + PORT_RING, PORT_RING, Buffer.from(text, "latin1"));
  }

  /** Takes up to `limit` bytes that the VM has sent to a port. */
  portRead(port: number, limit = PORT_RING): string {
    const bytes = this.take(4 + 2 * port, PORTS + port * 2 * PORT_RING, PORT_RING, limit);
    this.wasm.onEvents(1n << EVENT_LINK);
    return bytes.toString("latin1");
  }

  /** A port's user opens it (an odd session) or leaves it; what was written before is for nobody. */
  portSession(port: number, session: number): void {
    const header = 0x1000 + (5 + 2 * port) * 64;
    this.shared.copy(this.shared, header + 12, header, header + 4);
    this.shared.writeUInt32LE(session, header + 8);
    this.wasm.onEvents(1n << EVENT_LINK);
    this.wasm.__collect();
  }

  /** The VM's session of a port: odd while it is open. */
  portGuest(port: number): number {
    return this.shared.readUInt32LE(0x1000 + (4 + 2 * port) * 64 + 8);
  }

  /** Bytes that the VM has not taken. */
  portUnread(port: number): number {
    const header = 0x1000 + (5 + 2 * port) * 64;
    return (this.shared.readUInt32LE(header) - this.shared.readUInt32LE(header + 4)) >>> 0;
  }

  private put(ring: number, data: number, size: number, bytes: Buffer): void {
    const header = 0x1000 + ring * 64;
    let head = this.shared.readUInt32LE(header);
    for (const byte of bytes) this.shared[data + (head++ % size)] = byte;
    this.shared.writeUInt32LE(head >>> 0, header);
    this.wasm.onEvents(1n << EVENT_LINK);
    this.wasm.__collect();
  }

  private take(ring: number, data: number, size: number, limit = size): Buffer {
    const header = 0x1000 + ring * 64;
    const head = this.shared.readUInt32LE(header);
    let tail = this.shared.readUInt32LE(header + 4);
    if ((head - tail) >>> 0 > size) tail = (head - size) >>> 0;
    const bytes: number[] = [];
    for (; tail !== head && bytes.length < limit; tail = (tail + 1) >>> 0)
      bytes.push(this.shared[data + (tail % size)] ?? 0);
    this.shared.writeUInt32LE(tail, header + 4);
    return Buffer.from(bytes);
  }

  /** Takes the events that the device model has sent. */
  events(): Record<string, unknown>[] {
    const bytes = this.take(0, 0x2000, 4096);
    const events: Record<string, unknown>[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = bytes.readUInt16LE(at);
      events.push(decode(bytes.subarray(at + 2, at + 2 + length)) as Record<string, unknown>);
      at += 2 + length;
    }
    return events;
  }

  /** Takes what the VM has printed. */
  output(): string {
    return this.take(2, 0x6000, 65536).toString("latin1");
  }

  /** Writes the other end of a ring header, as a hostile peer may. */
  scribble(ring: number, word: number, value: number): void {
    this.shared.writeUInt32LE(value >>> 0, 0x1000 + ring * 64 + word * 4);
    this.wasm.onEvents(1n << EVENT_LINK);
  }
}

function wholePages(image: Uint8Array): Buffer {
  return Buffer.concat([image, Buffer.alloc(-image.length & 4095)]);
}

/** A small image with a header that passes every check; `patch` changes it. */
export function tinyKernel(patch?: (image: Buffer) => void): Buffer {
  const image = Buffer.alloc(2 * 512 + 4096);
  image.fill(0x5a, 1024);
  image.writeUInt8(1, 0x1f1); // setup_sects
  image.writeUInt32LE(4096 / 16, 0x1f4); // syssize
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.writeUInt16LE(0x6aeb, 0x200); // jump: the header ends at 0x26c
  image.write("HdrS", 0x202);
  image.writeUInt16LE(0x20f, 0x206);
  image.writeUInt8(1, 0x211); // loadflags
  image.writeUInt32LE(0x7fffffff, 0x22c); // initrd_addr_max
  image.writeUInt32LE(0x200000, 0x230); // kernel_alignment
  image.writeUInt8(1, 0x234); // relocatable_kernel
  image.writeUInt16LE(0x3f, 0x236); // xloadflags
  image.writeUInt32LE(2047, 0x238); // cmdline_size
  image.writeBigUInt64LE(0x1000000n, 0x258); // pref_address
  image.writeUInt32LE(0x100000, 0x260); // init_size
  patch?.(image);
  return image;
}
