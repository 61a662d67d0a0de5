// One component: the shipping WebAssembly module with the "plinth" imports on top of the model.

import {
  ABI_VERSION,
  ExitMessageAt,
  ExitType,
  GPA_EXIT,
  GPA_IMAGE,
  GPA_RAM,
  InfoAt,
  MAX_MODULES,
  ModuleInfoAt,
  PAGE_SIZE,
  Role,
} from "../../../control/gen/abi";
import { ComponentFault } from "./faults";
import { openGlobals, type Opened } from "./globals";
import type { KernelModel } from "./kernel-model";
import type { MemoryObject } from "./memory";
import type { Domain, Vcpu } from "./objects";

/** What a component is told of its start. */
export interface Start {
  restarts: number;
  failure: number;
  trial: boolean;
  rolledBack: boolean;
}

type Handler = (...args: never[]) => unknown;

interface Exports {
  memory: { readonly buffer: ArrayBuffer; grow(pages: number): void };
  _start(): void;
  init(): void;
  onEvents(bits: bigint): void;
  exitBuffer?(): number;
  onExit?(index: number): void;
  __collect(): void;
}

/** Exits between two collections, as in the native runtime. */
const COLLECT_EXITS = 4096;
/** Bytes of RAM that the native runtime keeps: stack, tables and variables, and a page table for each 2 MiB. */
const RUNTIME_RAM = 13 * PAGE_SIZE;
const TABLE_SPAN = 2 << 20;
const WASM_PAGE = 65536;

/** How far a component's linear memory may grow with so many bytes of RAM; natively its first page takes none. */
export function linearLimit(ram: number): number {
  const tables = Math.ceil((ram + WASM_PAGE) / TABLE_SPAN) * PAGE_SIZE;
  return Math.floor((ram - RUNTIME_RAM - tables) / WASM_PAGE) * WASM_PAGE + WASM_PAGE;
}
const EXIT_MASK = 0xffffn;
/** Where linear memory but its first 64 KiB lies in RAM. */
const LINEAR_AT = RUNTIME_RAM + PAGE_SIZE;

export class Component {
  /** Event bits that are set and not yet taken. */
  pending = 0n;
  readonly comm = new Uint8Array(PAGE_SIZE);
  readonly info = new Uint8Array(PAGE_SIZE);
  private exports!: Exports;
  private exits = 0;
  private readonly opened: Opened;

  constructor(
    private readonly kernel: KernelModel,
    readonly domain: Domain,
    wasm: Uint8Array,
  ) {
    this.opened = openGlobals(wasm);
  }

  /** Instantiates the module and runs it up to its first wait. Throws ComponentFault. */
  start(why: Start): void {
    this.pending = 0n;
    this.fillInfo(why);
    this.guard(() => {
      this.instantiate();
      this.exports._start();
      this.exports.init();
      this.collect();
    });
  }

  private instantiate(): void {
    const { exports } = new WebAssembly.Instance(this.opened.module, this.imports());
    this.exports = exports as unknown as Exports;
  }

  private global(name: string): { value: number | bigint } {
    return (this.exports as unknown as Record<string, { value: number | bigint }>)[name]!;
  }

  /**
   * Writes what this component is between two handlers to its RAM: as natively, its variables, and linear memory but
   * for the first 64 KiB, behind the runtime's own pages.
   */
  save(ram: MemoryObject): void {
    const { globals } = this.opened;
    const linear = new Uint8Array(this.exports.memory.buffer);
    const head = new DataView(new ArrayBuffer(16 + 8 * globals.length));
    head.setUint32(0, linear.length, true);
    head.setUint32(4, globals.length, true);
    head.setUint32(8, this.exits, true);
    globals.forEach((name, n) => head.setBigUint64(16 + 8 * n, BigInt(this.global(name).value), true));
    writeChanged(ram, 0, new Uint8Array(head.buffer));
    writeChanged(ram, LINEAR_AT, linear.subarray(WASM_PAGE));
  }

  /** Goes on from what save() has written, in a copy of that RAM. */
  resume(ram: MemoryObject): void {
    const { globals } = this.opened;
    const head = new DataView(ram.read(0, 16 + 8 * globals.length).buffer);
    const size = head.getUint32(0, true);
    if (
      head.getUint32(4, true) !== globals.length ||
      size % WASM_PAGE !== 0 ||
      LINEAR_AT + size > ram.size + WASM_PAGE
    )
      throw new ComponentFault("trap", 0, "its memory is not that of this image");
    this.fillInfo({ restarts: 0, failure: 0, trial: false, rolledBack: false });
    this.instantiate();
    const { memory } = this.exports;
    memory.grow((size - memory.buffer.byteLength) / WASM_PAGE);
    new Uint8Array(memory.buffer).set(ram.read(LINEAR_AT, size - WASM_PAGE), WASM_PAGE);
    globals.forEach((name, n) => {
      const global = this.global(name);
      const bits = head.getBigInt64(16 + 8 * n, true);
      global.value = typeof global.value === "bigint" ? bits : Number(BigInt.asIntN(32, bits));
    });
    this.exits = head.getUint32(8, true);
  }

  /** Bytes of linear memory now; natively the first 64 KiB take no RAM. */
  get linearSize(): number {
    return this.exports.memory.buffer.byteLength;
  }

  /** Takes all pending events and handles them, like the native loop. Throws ComponentFault. */
  step(): void {
    const events = this.pending;
    this.pending = 0n;
    this.guard(() => {
      for (let index = 0; index < 16; index++) {
        if ((events >> BigInt(index)) & 1n) this.serve(index);
      }
      if (events & ~EXIT_MASK) {
        this.exports.onEvents(BigInt.asIntN(64, events & ~EXIT_MASK));
        this.collect();
      }
    });
  }

  private serve(index: number): void {
    const vcpu = this.kernel.exitedVcpu(this.domain, index);
    if (!vcpu || !this.exports.onExit || !this.exports.exitBuffer) {
      throw new ComponentFault("trap", 0, "exit of a vCPU, but this is no device model");
    }
    const message = vcpu.exitPage.read(0, ExitMessageAt.SIZE);
    const type = new DataView(message.buffer).getUint32(ExitMessageAt.type, true);
    const long = type === ExitType.MMIO || type === ExitType.PORT_STRING;
    const at = this.exports.exitBuffer();
    let buffer = new Uint8Array(this.exports.memory.buffer, at, ExitMessageAt.SIZE);
    buffer.set(message.subarray(0, long ? ExitMessageAt.reply : ExitMessageAt.gpa));
    buffer.fill(0, ExitMessageAt.reply, ExitMessageAt.reply_value);
    buffer.fill(0, ExitMessageAt.reply_gprs, ExitMessageAt.reply_error);
    this.exports.onExit(index);
    buffer = new Uint8Array(this.exports.memory.buffer, at, ExitMessageAt.SIZE);
    this.kernel.answer(vcpu, buffer.slice());
    if (++this.exits === COLLECT_EXITS) {
      this.exits = 0;
      this.collect();
    }
  }

  private collect(): void {
    this.exports.__collect();
    const limit = linearLimit(this.domain.areaSize(GPA_RAM));
    if (this.linearSize > limit) {
      throw new ComponentFault(
        "trap",
        0,
        `out of memory: ${this.linearSize} bytes of linear memory, RAM allows ${limit}`,
      );
    }
  }

  /** Turns WebAssembly traps into the component's end. */
  private guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
        throw new ComponentFault("trap", 0, `${error.message} ${traceOf(error)}`);
      }
      throw error;
    }
  }

  private fillInfo({ restarts, failure, trial, rolledBack }: Start): void {
    const { kernel, domain } = this;
    const view = new DataView(this.info.buffer);
    this.info.fill(0);
    view.setUint32(InfoAt.abi_version, ABI_VERSION, true);
    view.setUint32(InfoAt.domain_id, domain.id, true);
    view.setUint32(InfoAt.role, domain.role, true);
    view.setUint32(InfoAt.restarts, restarts, true);
    view.setBigUint64(InfoAt.ram_size, BigInt(domain.areaSize(GPA_RAM)), true);
    view.setBigUint64(InfoAt.image_size, BigInt(domain.areaSize(GPA_IMAGE)), true);
    view.setBigUint64(InfoAt.tsc_hz, kernel.tscHz, true);
    view.setBigUint64(InfoAt.boot_tsc, kernel.bootTsc, true);
    view.setUint32(InfoAt.mitigations, kernel.options.mitigations ?? 0, true);
    view.setBigUint64(InfoAt.arch_capabilities, kernel.options.archCapabilities ?? 0n, true);
    view.setUint32(InfoAt.cpus, kernel.options.cpus ?? 1, true);
    for (let cpu = 0; cpu < (kernel.options.cpus ?? 1); cpu++)
      view.setUint32(InfoAt.apic_ids + 4 * cpu, kernel.options.apicIds?.[cpu] ?? cpu, true);
    this.info.set(kernel.options.rsdp ?? [], InfoAt.rsdp);
    view.setUint32(InfoAt.efi, kernel.options.efi ? 1 : 0, true);
    view.setUint32(InfoAt.features, kernel.features, true);
    view.setUint32(InfoAt.last_failure, failure, true);
    view.setBigUint64(InfoAt.ended_tsc, restarts > 0 ? kernel.now() : 0n, true);
    view.setUint32(InfoAt.trial, Number(trial), true);
    view.setUint32(InfoAt.rolled_back, Number(rolledBack), true);
    text(this.info, InfoAt.cpu_name, "Model CPU");
    text(this.info, InfoAt.rig, "model");
    text(this.info, InfoAt.kernel_version, "model");
    if (domain.role !== Role.CONTROL) return;
    view.setUint32(InfoAt.module_count, kernel.modules.length, true);
    kernel.modules.slice(0, MAX_MODULES).forEach((module, n) => {
      const at = InfoAt.modules + n * ModuleInfoAt.SIZE;
      view.setBigUint64(at + ModuleInfoAt.size, BigInt(module.data.length), true);
      text(this.info, at + ModuleInfoAt.name, module.name);
    });
  }

  private imports(): WebAssembly.Imports {
    const { kernel, domain } = this;
    const linear = (at: number, length: number): Uint8Array => {
      const start = at >>> 0;
      const count = length >>> 0;
      const buffer = this.exports.memory.buffer;
      if (start + count > buffer.byteLength) throw new ComponentFault("trap", start, "out of bounds access");
      return new Uint8Array(buffer, start, count);
    };
    const page = (bytes: Uint8Array, offset: number, length: number): Uint8Array => {
      if ((offset >>> 0) + (length >>> 0) > PAGE_SIZE)
        throw new ComponentFault("trap", offset, "out of bounds access");
      return bytes.subarray(offset, offset + length);
    };
    const outside = (gpa: bigint): number => {
      const at = Number(BigInt.asUintN(64, gpa));
      if (at < GPA_EXIT || at >= 2 ** 39) {
        throw new ComponentFault("trap", at, `access to guest-physical address 0x${at.toString(16)}`);
      }
      return at;
    };
    const plinth: Record<string, Handler> = {
      hypercall: (nr: number, ...args: bigint[]) =>
        kernel.hypercall(
          this,
          nr,
          args.map((arg) => BigInt.asUintN(64, arg)),
        ),
      commRead: (to: number, offset: number, length: number) =>
        linear(to, length).set(page(this.comm, offset, length)),
      commWrite: (offset: number, from: number, length: number) =>
        page(this.comm, offset, length).set(linear(from, length)),
      infoRead: (to: number, offset: number, length: number) =>
        linear(to, length).set(page(this.info, offset, length)),
      sharedRead: (to: number, gpa: bigint, length: number) =>
        linear(to, length).set(domain.space.read(outside(gpa), length >>> 0)),
      sharedWrite: (gpa: bigint, from: number, length: number) =>
        domain.space.write(outside(gpa), linear(from, length).slice()),
      sharedCopy: (to: bigint, from: bigint, length: bigint) =>
        domain.space.write(outside(to), domain.space.read(outside(from), Number(length))),
      sharedFill: (gpa: bigint, value: number, length: bigint) =>
        domain.space.write(outside(gpa), new Uint8Array(Number(length)).fill(value)),
      sharedLoad32: (gpa: bigint) => word(domain.space.read(aligned(outside(gpa)), 4)),
      sharedLoad64: (gpa: bigint) => wide(domain.space.read(aligned(outside(gpa), 8), 8)),
      sharedStore32: (gpa: bigint, value: number) =>
        domain.space.write(aligned(outside(gpa)), bytesOf(value)),
      sharedReplace: (gpa: bigint, size: number, expected: bigint, value: bigint) => {
        const at = aligned(outside(gpa), size);
        const bits = 8 * size;
        const old = domain.space.read(at, size);
        const now = size === 8 ? wide(old) : BigInt(word(old));
        if (BigInt.asUintN(bits, now) !== BigInt.asUintN(bits, expected)) return 0;
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64LE(BigInt.asUintN(bits, value));
        domain.space.write(at, bytes.subarray(0, size));
        return 1;
      },
      portIn: (port: number, size: number) => kernel.portIn(domain, port, size),
      portOut: (port: number, size: number, value: number) => kernel.portOut(domain, port, size, value),
      now: () => BigInt.asIntN(64, kernel.now() + domain.tscOffset),
      abort: (message: number, file: number, line: number, column: number) => {
        throw new ComponentFault("trap", 0, `${this.text(message)} @ ${this.text(file)}:${line}:${column}`);
      },
    };
    return { plinth } as unknown as WebAssembly.Imports;
  }

  /** An AssemblyScript string: UTF-16, its length in bytes in the word before it. */
  private text(at: number): string {
    const buffer = this.exports.memory.buffer;
    if (at < 4 || at > buffer.byteLength) return "";
    const length = Math.min(new DataView(buffer).getUint32(at - 4, true), 600);
    return Buffer.from(buffer, at, Math.min(length, buffer.byteLength - at)).toString("utf16le");
  }
}

/** Writes pages that have other bytes, so that no others count as changed. */
function writeChanged(to: MemoryObject, at: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; done += PAGE_SIZE) {
    const piece = bytes.subarray(done, done + PAGE_SIZE);
    if (!Buffer.from(to.read(at + done, piece.length)).equals(piece)) to.write(at + done, piece);
  }
}

function traceOf(error: Error): string {
  const frames = (error.stack ?? "").split("\n").filter((line) => line.includes("wasm"));
  return `[${frames
    .slice(0, 6)
    .map((line) =>
      line
        .trim()
        .replace(/^at /, "")
        .replace(/ \(wasm.*/, ""),
    )
    .join(" < ")}]`;
}

function aligned(gpa: number, size = 4): number {
  if (gpa % size !== 0) throw new ComponentFault("trap", gpa, "unaligned access");
  return gpa;
}

function text(to: Uint8Array, at: number, value: string): void {
  to.set(Buffer.from(value), at);
}

function word(bytes: Uint8Array): number {
  return new DataView(bytes.buffer).getUint32(0, true);
}

function wide(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer).getBigInt64(0, true);
}

function bytesOf(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export type { Vcpu };
