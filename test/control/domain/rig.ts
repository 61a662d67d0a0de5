// The shipping control domain on the model of the kernel, with a device model that only plays its part.

import { readFileSync } from "node:fs";
import { Hypercall } from "../../../control/gen/abi";
import { cborEncode, type Message } from "../../../control/protocol/node/cbor";
import { frameEncode, FrameReader } from "../../../control/protocol/node/frame";
import { OP_HELLO, POLICY_NEVER } from "../../../control/protocol/schema";
import { KernelModel, type KernelOptions } from "../model/kernel-model";

const controlWasm = readFileSync("build/control.wasm");
const fakeModel = readFileSync("build/components/fake-model.wasm");

export const MIB = 1 << 20;

/** What the shell sends to ask a terminal for its size. */
export const SIZE_QUESTION = "\x1b7\x1b[999;999H\x1b[6n\x1b8";

/** A VM of a host specification; what is not given has a default. */
export function vmSpec(name: string, more: Message = {}): Message {
  return {
    name,
    memory: 64 * MIB,
    vcpus: 1,
    kernel: "linux",
    initrd: "initrd",
    cmdline: `name=${name}`,
    start: true,
    restart: { policy: POLICY_NEVER, max: 3, window: 60 },
    ...more,
  };
}

export function hostSpec(vms: Message[]): Message {
  return { version: 1, host: { name: "test" }, vms };
}

export interface RigOptions extends KernelOptions {
  /** The host specification; null: no such module; bytes: as they are. */
  spec?: Message | Uint8Array | null;
  deviceModel?: Uint8Array;
  /** One more module, "seabios". */
  firmware?: Uint8Array;
  /** One more module, "control-new". */
  control?: Uint8Array;
  /** The control component that boots. */
  wasm?: Uint8Array;
  /** Modules that the boot image is said to have, with their sizes. */
  manifest?: Record<string, number>;
  /** The control domain traps at its n-th DOMAIN_CREATE, once. */
  trapAt?: number;
  /** COM1's interrupts get lost. */
  deafLine?: boolean;
}

function manifest(sizes: Record<string, number>): Uint8Array {
  return cborEncode({ modules: Object.entries(sizes).map(([name, size]) => ({ name, size })) });
}

/** One booted machine and both sides of its serial line. */
export class Rig {
  readonly kernel: KernelModel;
  readonly messages: Message[] = [];
  /** The person's terminal; without one nothing answers. */
  terminal: { rows: number; columns: number } | undefined;
  private typed = "";
  private id = 0;
  private readonly reader = new FrameReader({
    message: (message) => void this.messages.push(message),
    text: (bytes) => void (this.typed += Buffer.from(bytes).toString("latin1")),
  });

  constructor(options: RigOptions = {}) {
    const spec =
      options.spec === undefined ? hostSpec([vmSpec("a"), vmSpec("b", { memory: 96 * MIB })]) : options.spec;
    const modules = [
      { name: "control", wasm: controlWasm },
      { name: "device-model", wasm: options.deviceModel ?? fakeModel },
      ...(spec === null
        ? []
        : [{ name: "spec", data: spec instanceof Uint8Array ? spec : cborEncode(spec as Message) }]),
      { name: "linux", data: new Uint8Array(100_000).fill(1) },
      { name: "initrd", data: new Uint8Array(50_000).fill(2) },
      ...(options.firmware ? [{ name: "seabios", data: options.firmware }] : []),
      ...(options.control ? [{ name: "control-new", data: options.control }] : []),
      ...(options.manifest ? [{ name: "manifest", data: manifest(options.manifest) }] : []),
    ];
    this.kernel = new KernelModel({ ...options, modules });
    if (options.deafLine) this.kernel.serial.onInterrupt = () => undefined;
    if (options.trapAt !== undefined) this.trapAtCreate(options.trapAt);
    this.kernel.startControl(options.wasm ?? controlWasm);
    this.settle();
  }

  private trapAtCreate(count: number): void {
    const { kernel } = this;
    const real = kernel.hypercall.bind(kernel);
    let left = count;
    kernel.hypercall = (component, nr, args) => {
      if (nr === Hypercall.DOMAIN_CREATE && --left === 0)
        throw new WebAssembly.RuntimeError("trap in a test");
      return real(component, nr, args);
    };
  }

  /** Runs until nothing happens, and a few milliseconds more for what is due at once. */
  settle(): void {
    this.kernel.advance(20);
    this.kernel.run();
  }

  /** Sends bytes or text, runs until nothing happens, returns the text that came back. */
  type(data: string | Uint8Array): string {
    this.kernel.serial.write(data);
    this.settle();
    return this.answered(this.text());
  }

  /** Lets time pass; returns the text that came. */
  wait(milliseconds: number): string {
    this.kernel.advance(milliseconds);
    this.kernel.run();
    return this.answered(this.text());
  }

  /** Text without the question for the terminal's size, which is answered, or not. */
  private answered(text: string): string {
    if (!text.includes(SIZE_QUESTION)) return text;
    const { terminal } = this;
    if (terminal) this.kernel.serial.write(`\x1b[${terminal.rows};${terminal.columns}R`);
    else this.kernel.advance(600);
    this.settle();
    return this.answered(text.replace(SIZE_QUESTION, "") + this.text());
  }

  /** Types a command and Enter; returns what was printed between its echo and the next prompt. */
  command(line: string): string {
    this.text();
    const out = this.type(`${line}\r`);
    return out
      .slice(out.indexOf("\n") + 1)
      .replace(/plinth> $/, "")
      .replace(/\r/g, "");
  }

  /** Text since the last call. */
  text(): string {
    this.collect();
    const out = this.typed;
    this.typed = "";
    return out;
  }

  /** Sends a request and returns its reply. */
  request(op: string, args: Message = {}): Message {
    const id = ++this.id;
    this.kernel.serial.write(frameEncode({ id, op, ...args }));
    this.settle();
    return this.replyTo(id);
  }

  /** The reply to a request; it is taken from `messages`. */
  replyTo(id: number): Message {
    this.collect();
    const at = this.messages.findIndex((message) => message["id"] === id);
    if (at < 0) throw new Error(`no reply to request ${id}; traps: ${JSON.stringify(this.kernel.traps)}`);
    return this.messages.splice(at, 1)[0]!;
  }

  /** The result of a request that must succeed. */
  ok(op: string, args: Message = {}): Message {
    const reply = this.request(op, args);
    if (reply["ok"] !== true) throw new Error(`${op}: ${JSON.stringify(reply)}`);
    return reply["result"] as Message;
  }

  /** The error of a request that must fail. */
  error(op: string, args: Message = {}): Message {
    const reply = this.request(op, args);
    if (reply["ok"] !== false) throw new Error(`${op} succeeded: ${JSON.stringify(reply)}`);
    return reply["error"] as Message;
  }

  /** Sends a host specification; returns what `plan` and `apply` want to know of it. */
  draft(spec: Message | Uint8Array): Message {
    const bytes = spec instanceof Uint8Array ? spec : cborEncode(spec);
    const session = ++this.id;
    for (let at = 0; at === 0 || at < bytes.length; at += 3000)
      this.ok("spec.put", { session, at, data: bytes.subarray(at, at + 3000) });
    return { session, size: bytes.length };
  }

  /** The whole plan of a draft. */
  plan(draft: Message): { steps: Message[]; refusals: Message[]; digest: number } {
    const steps: Message[] = [];
    const refusals: Message[] = [];
    for (let from = 0; ;) {
      const page = this.ok("plan", { ...draft, from });
      steps.push(...(page["steps"] as Message[]));
      refusals.push(...(page["refusals"] as Message[]));
      if (page["next"] === undefined) return { steps, refusals, digest: Number(page["digest"]) };
      from = Number(page["next"]);
    }
  }

  /** Applies a specification; returns the reply. */
  apply(spec: Message): Message {
    const draft = this.draft(spec);
    return this.request("apply", { ...draft, digest: this.plan(draft).digest });
  }

  hello(): Message {
    return this.ok(OP_HELLO, { version: 1 });
  }

  /** Pushes since the last call. */
  pushes(): Message[] {
    this.collect();
    return this.messages.splice(0).filter((message) => message["ev"] !== undefined);
  }

  /** All console output of a VM among the pushes, as text. */
  consoleText(vm: string): string {
    return this.pushes()
      .filter((push) => push["ev"] === "console" && push["vm"] === vm)
      .map((push) => Buffer.from(push["data"] as Uint8Array).toString("latin1"))
      .join("");
  }

  /** The row of a VM in `ls`. */
  row(name: string): Message | undefined {
    return (this.ok("ls")["vms"] as Message[]).find((vm) => vm["name"] === name);
  }

  state(name: string): string {
    return String(this.row(name)?.["state"] ?? "none");
  }

  private collect(): void {
    this.reader.feed(this.kernel.serial.read());
  }
}
