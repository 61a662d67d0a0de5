// Runs the shipping device model in Node over flat memory, and plays kernel, control domain and guest.

import { readFileSync } from "node:fs";
import { decode } from "cbor-x/decode";
import { encode } from "cbor-x/encode";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  CAP_LINK,
  ENTROPY_MAX,
  EVENT_FREE,
  ExitMessageAt,
  ExitType,
  GPA_SHARED,
  Hypercall,
  InterruptKind,
  Reply,
  Status,
  VcpuRegistersAt,
} from "../../../control/gen/abi";
import { GPA_GUEST } from "../../../control/gen/abi64-node";

const KERNEL_GPA = 0x20000000n;
const INITRD_GPA = 0x40000000n;
const DISK_GPA = 0x60000000n;
const DISK_IMAGE_GPA = 0xa0000000n;
const DISK_STEP = 0x10000000n;
const LINK_SIZE = 0x16000;
const EVENT_LINK = BigInt(EVENT_FREE);
const EVENT_TIMER = BigInt(EVENT_FREE + 1);

const TSC_HZ = 1_000_000_000n;
export const MIB = 1 << 20;
/** 2026-03-04 05:06:07 UTC, a Wednesday. */
const WALL_CLOCK = 1772600767;

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
  cmdline?: string;
  /** Images of disks; the rig maps them and the disks made from them. */
  disks?: Uint8Array[];
  /** "virtio": its console is a virtio device. */
  console?: string;
  /** Disks that are read-only, by number. */
  readOnly?: number[];
  /** The CPU has no source of entropy. */
  noEntropy?: boolean;
  /** Bytes of configuration instead of the usual map. */
  rawConfig?: Uint8Array;
  vcpus?: number;
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

const module_ = new WebAssembly.Module(
  readFileSync(process.env["DEVICE_MODEL_WASM"] ?? "build/device-model.wasm"),
);

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

export class Rig {
  readonly memory: Buffer;
  readonly msis: Msi[] = [];
  readonly log: string[] = [];
  /** What VCPU_SET was given, or null. */
  state: Buffer | null = null;
  /** The PIC's announced vector, -1: its line is down. */
  extint = -1;
  started = 0;
  signals = 0;
  timerSets = 0;
  hypercalls = 0;
  now = 5_000_000_000n;
  tscOffset: bigint | null = null;
  private readonly shared = Buffer.alloc(LINK_SIZE);
  private readonly comm = Buffer.alloc(4096);
  private readonly kernel: Buffer;
  private readonly initrd: Buffer;
  readonly disks: Buffer[];
  private readonly images: Buffer[];
  private readonly noEntropy: boolean;
  private deadline = 0n;
  private readonly wasm: Exports;
  private exits = 0;

  constructor(options: Options = {}) {
    this.memory = Buffer.alloc(options.memory ?? 64 * MIB);
    this.kernel = Buffer.from(options.kernel ?? tinyKernel());
    this.initrd = Buffer.from(options.initrd ?? []);
    this.images = (options.disks ?? []).map((image) => Buffer.from(image));
    this.disks = this.images.map((image) => Buffer.alloc(image.length));
    this.noEntropy = options.noEntropy ?? false;
    this.writeConfig(options);
    const plinth = this.imports();
    this.wasm = new WebAssembly.Instance(module_, { plinth }).exports as unknown as Exports;
    this.wasm._start();
    this.wasm.init();
    this.wasm.__collect();
  }

  private writeConfig(options: Options): void {
    const config =
      options.rawConfig ??
      encode({
        name: "a",
        memory: this.memory.length,
        vcpus: options.vcpus ?? 1,
        cmdline: options.cmdline ?? "console=ttyS0",
        kernelSize: this.kernel.length,
        initrdSize: this.initrd.length,
        wallClock: WALL_CLOCK,
        tscHz: Number(TSC_HZ),
        console: options.console ?? "serial",
        disks: this.images.map((image, n) => ({
          image: "disk",
          size: image.length,
          readOnly: options.readOnly?.includes(n) ?? false,
          fresh: true,
        })),
      });
    this.shared.writeUInt32LE(config.length, 0);
    this.shared.set(config, 4);
  }

  private linear(): Buffer {
    return Buffer.from(this.wasm.memory.buffer);
  }

  // Where a guest-physical address of the component lies.
  private at(gpa: bigint, length: number): Buffer {
    const areas: [bigint, Buffer][] = [
      [BigInt(GPA_SHARED), this.shared],
      [KERNEL_GPA, this.kernel],
      [INITRD_GPA, this.initrd],
      [BigInt(GPA_GUEST), this.memory],
    ];
    this.disks.forEach((disk, n) => areas.push([DISK_GPA + BigInt(n) * DISK_STEP, disk]));
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
      sharedLoad32: (gpa: bigint) => this.at(gpa, 4).readUInt32LE(0),
      sharedLoad64: (gpa: bigint) => this.at(gpa, 8).readBigInt64LE(0),
      sharedStore32: (gpa: bigint, value: number) => this.at(gpa, 4).writeUInt32LE(u(value), 0),
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
        break;
      case Hypercall.VCPU_START:
        this.started++;
        break;
      case Hypercall.TIMER_SET:
        this.timerSets++;
        this.deadline = b;
        break;
      case Hypercall.ENTROPY:
        if (this.noEntropy || Number(a) > ENTROPY_MAX) return -BigInt(Status.BAD_STATE);
        for (let i = 0; i < Number(a); i++) this.comm[i] = (i * 37 + 11) & 0xff;
        break;
      case Hypercall.CHANNEL_SIGNAL:
        if (Number(a) === CAP_LINK) this.signals++;
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

  private put(ring: number, data: number, size: number, bytes: Buffer): void {
    const header = 0x1000 + ring * 64;
    let head = this.shared.readUInt32LE(header);
    for (const byte of bytes) this.shared[data + (head++ % size)] = byte;
    this.shared.writeUInt32LE(head >>> 0, header);
    this.wasm.onEvents(1n << EVENT_LINK);
    this.wasm.__collect();
  }

  private take(ring: number, data: number, size: number): Buffer {
    const header = 0x1000 + ring * 64;
    const head = this.shared.readUInt32LE(header);
    let tail = this.shared.readUInt32LE(header + 4);
    const bytes: number[] = [];
    while (tail !== head) bytes.push(this.shared[data + (tail++ % size)] ?? 0);
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
