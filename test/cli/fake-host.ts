// A host that speaks the management protocol on a Unix socket, well or as badly as a test wants.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Message, Value } from "../../control/protocol/node/cbor";
import { FrameReader, frameEncode } from "../../control/protocol/node/frame";
import * as schema from "../../control/protocol/schema";
import { FakeSnapshots } from "./fake-snapshots";

const CHUNK = 1000;

interface FakeVm {
  spec: Message;
  state: string;
  reason: string;
  output: Buffer;
  typed: string;
  /** The snapshot since which it has stood still. */
  kept?: string;
}

interface Refusal {
  code: number;
  message: string;
  object: string;
  next: string;
}

/** What a test may make go wrong. */
export interface Faults {
  /** Operations whose next n requests are not heard. */
  drop: Record<string, number>;
  /** Operations whose next n answers are lost. */
  lose: Record<string, number>;
  /** Milliseconds that an operation takes; what comes meanwhile waits. */
  takesMs: Record<string, number>;
  /** Milliseconds between the halves of an answer. */
  stallMs: number;
  /** Send every byte on its own. */
  split: boolean;
  /** Put before each frame. */
  noise: Uint8Array;
  /** Close the connection when this operation arrives. */
  hangUpOn: string;
  version: number;
  /** Answer nothing at all. */
  mute: boolean;
  /** How many bytes one console.write takes. */
  takes: number;
}

export class FakeHost {
  readonly vms = new Map<string, FakeVm>();
  readonly snapshots = new FakeSnapshots();
  readonly events: Message[] = [];
  readonly requests: Message[] = [];
  readonly received: Buffer[] = [];
  probes = 0;
  readonly faults: Faults = {
    drop: {},
    lose: {},
    takesMs: {},
    stallMs: 0,
    split: false,
    noise: new Uint8Array(),
    hangUpOn: "",
    version: 1,
    mute: false,
    takes: 4096,
  };
  controlRestarts = 0;
  uptimeMs = 61_000;
  kernelLog = Buffer.from("plinth: kernel log\n");
  /** Called with what a VM is sent; the default echoes nothing. */
  onTyped: (vm: string, text: string) => void = () => undefined;
  /** Called with each request: "lost": the line is cut before it is heard, "unanswered": before it is answered. */
  onRequest: (op: string) => "lost" | "unanswered" | undefined = () => undefined;
  /** Nobody reaches it. */
  isCut = false;
  /** Called after `stop` pressed the power button. */
  onPowerButton: (vm: string) => void = () => undefined;
  readonly folder = mkdtempSync(join(tmpdir(), "plinth-"));
  readonly path = join(this.folder, "plinth.sock");
  private readonly server: Server = createServer((socket) => this.accept(socket));
  private readonly clients = new Set<Socket>();
  private readonly attached = new Map<string, number>();
  private readonly holders = new Map<string, { session: number; who: string }>();
  private watching = -1;
  private readonly replies = new Map<number, Message>();
  private after: Promise<void> = Promise.resolve();
  private waiting = 0;
  /** What follows the first half of an answer, while its second half is held back. */
  private held: Buffer[] | null = null;

  static async start(): Promise<FakeHost> {
    const host = new FakeHost();
    host.snapshots.onKept = (name, snapshot) => {
      const vm = host.vms.get(name);
      if (vm?.state === schema.STATE_PAUSED) vm.kept = snapshot;
    };
    host.snapshots.onVm = (name, state) => void host.add(name, state);
    await new Promise<void>((resolve) => host.server.listen(host.path, resolve));
    return host;
  }

  async stop(): Promise<void> {
    for (const client of this.clients) client.destroy();
    await new Promise((resolve) => this.server.close(resolve));
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Adds a VM without anybody asking for it. */
  add(name: string, state: string = schema.STATE_RUNNING, output = ""): FakeVm {
    const spec: Message = {
      name,
      memory: 128 << 20,
      vcpus: 1,
      kernel: "linux",
      initrd: "initrd",
      cmdline: "quiet",
    };
    const vm = { spec, state, reason: "", output: Buffer.from(output), typed: "" };
    this.vms.set(name, vm);
    return vm;
  }

  /** A VM prints. */
  print(name: string, text: string): void {
    const vm = this.vms.get(name)!;
    vm.output = Buffer.concat([vm.output, Buffer.from(text)]);
    this.pump();
  }

  /** Something happens to a VM. */
  event(kind: string, vm: string, text: string): void {
    this.events.push({ seq: this.events.length + 1, at: 1000 * this.events.length, kind, vm, text });
    this.pump();
  }

  /** The control domain restarts: what was attached is forgotten, a banner is printed. */
  restart(): void {
    this.controlRestarts++;
    this.attached.clear();
    this.watching = -1;
    this.raw(Buffer.from("control: restarted\r\nplinth> "));
  }

  /** Every line is cut, and nobody gets a new one. */
  cut(): void {
    this.isCut = true;
    this.hangUp();
  }

  /** Every line is cut. */
  hangUp(): void {
    for (const client of this.clients) client.destroy();
    this.attached.clear();
    this.watching = -1;
  }

  /** Bytes on the line as they are. */
  raw(bytes: Uint8Array): void {
    for (const client of this.clients) client.write(bytes);
  }

  send(message: Message): void {
    if (this.faults.mute) return;
    const bytes = Buffer.concat([this.faults.noise, frameEncode(message)]);
    if (this.held !== null) {
      this.held.push(bytes);
    } else if (this.faults.stallMs > 0) {
      this.raw(bytes.subarray(0, bytes.length / 2));
      this.held = [bytes.subarray(bytes.length / 2)];
      setTimeout(() => {
        const held = Buffer.concat(this.held!);
        this.held = null;
        this.raw(held);
      }, this.faults.stallMs);
    } else if (!this.faults.split) this.raw(bytes);
    else for (const byte of bytes) this.raw(Uint8Array.of(byte));
  }

  private accept(socket: Socket): void {
    if (this.isCut) return void socket.destroy();
    this.clients.add(socket);
    const reader = new FrameReader({
      message: (message) => this.request(message, socket),
      text: (bytes) => this.received.push(Buffer.from(bytes)),
      probe: () => {
        this.probes++;
        this.send({ ev: schema.PUSH_READY });
      },
    });
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => reader.feed(bytes));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.clients.delete(socket));
  }

  private request(message: Message, socket: Socket): void {
    const op = String(message.op);
    if (this.isCut) return;
    this.requests.push(message);
    const fate = this.onRequest(op);
    if (fate === "unanswered") this.answer(op, message);
    if (fate !== undefined) return this.cut();
    if (this.faults.hangUpOn === op) return void socket.destroy();
    const drops = this.faults.drop[op] ?? 0;
    if (drops > 0) {
      this.faults.drop[op] = drops - 1;
      return;
    }
    if (op === schema.OP_TEST_TRAP) return this.restart();
    const busy = this.faults.takesMs[op] ?? 0;
    if (busy > 0) this.after = this.after.then(() => new Promise((done) => setTimeout(done, busy)));
    this.waiting++;
    const answer = (): void => {
      this.waiting--;
      this.answer(op, message);
    };
    if (this.waiting === 1 && busy === 0) answer();
    else this.after = this.after.then(answer);
  }

  /** Answers once more what was done already, as the control domain does. */
  private answer(op: string, message: Message): void {
    const id = Number(message.id ?? 0);
    const reply = this.replies.get(id) ?? this.reply(id, op, message);
    this.replies.set(id, reply);
    const lose = this.faults.lose[op] ?? 0;
    if (lose > 0) this.faults.lose[op] = lose - 1;
    else this.send(reply);
    this.pump();
  }

  private reply(id: number, op: string, message: Message): Message {
    try {
      return { id, ok: true, result: this.perform(op, message) };
    } catch (error) {
      return { id, ok: false, error: error as Message };
    }
  }

  private perform(op: string, message: Message): Value {
    switch (op) {
      case schema.OP_HELLO:
        this.attached.clear();
        this.watching = -1;
        return { version: this.faults.version, product: "Plinth 0.0-fake", build: "test", epoch: 0 };
      case schema.OP_STATUS:
        return this.status();
      case schema.OP_LS:
        return { vms: [...this.vms.values()].map(row) };
      case schema.OP_CREATE:
        return this.create(message.spec as Message);
      case schema.OP_IMAGES:
        return {
          images: [
            { name: "linux", size: 14_000_000 },
            { name: "initrd", size: 5_000_000_000 },
          ],
        };
      case schema.OP_DOCTOR:
        return {
          checks: [
            { name: "vtx", ok: true, text: "VT-x with EPT" },
            { name: "tsc-scaling", ok: false, text: "no TSC scaling" },
          ],
        };
      case schema.OP_EVENTS:
        return this.eventsAfter(Number(message.since));
      case schema.OP_EVENTS_WATCH:
        this.watching = Math.min(Number(message.since), this.events.length);
        return { next: this.events.length };
      case schema.OP_LOGS:
        return this.logs(message);
      case schema.OP_HARDWARE:
        return { cpu: { name: "Fake CPU", vendor: "GenuineIntel", family: 6, model: 1, stepping: 1 } };
      case schema.OP_HARDWARE_PCI:
        return { devices: [] };
      case schema.OP_HARDWARE_MITIGATIONS:
        return { flaws: [], mitigations: [] };
      default:
        if (op.startsWith("snapshot.")) return this.snapshots.perform(op, message);
        return this.performOnVm(op, this.find(String(message.vm)), message);
    }
  }

  private performOnVm(op: string, vm: FakeVm, message: Message): Value {
    const name = String(vm.spec.name);
    const moves: Record<string, [string[], string]> = {
      start: [["stopped", "crashed"], "running"],
      pause: [["running"], "paused"],
      resume: [message.force ? ["paused", "moved"] : ["paused"], "running"],
      reset: [["running", "paused"], "running"],
    };
    const move = moves[op];
    if (move) return this.move(vm, op, move[0], move[1]);
    switch (op) {
      case schema.OP_SHOW:
        return {
          ...row(vm),
          spec: vm.spec,
          restarts: 0,
          lastExit: "hlt",
          exits: 12,
          counters: { hlt: 7, cpuid: 2n ** 60n },
          runtimeMs: 250,
        };
      case schema.OP_STOP:
        if (message.force) return this.move(vm, op, ["running", "paused", "starting"], "stopped");
        setTimeout(() => this.onPowerButton(name), 20);
        return row(vm);
      case schema.OP_HANDOVER:
        if (vm.state === "moved" && vm.kept === message.snapshot) return row(vm);
        if (vm.state !== "paused") throw refusal(4, `${name} is ${vm.state}`, name, `plinth show ${name}`);
        if (vm.kept !== message.snapshot)
          throw refusal(4, `${name} has run since`, name, `plinth show ${name}`);
        vm.state = "moved";
        return row(vm);
      case schema.OP_RM:
        if (!["stopped", "crashed", "moved"].includes(vm.state) && !message.force) {
          throw refusal(4, `${name} is ${vm.state}`, name, `plinth stop ${name}`);
        }
        this.vms.delete(name);
        this.snapshots.vms.delete(name);
        return row(vm);
      case schema.OP_SET:
        Object.assign(vm.spec, message.spec);
        return row(vm);
      case schema.OP_CONSOLE_ATTACH: {
        const at = Math.min(Number(message.from ?? 0), vm.output.length);
        this.attached.set(name, at);
        return { at, oldest: 0 };
      }
      case schema.OP_CONSOLE_HOLD: {
        const other = this.holders.get(name);
        if (other && other.session !== message.session && !message.force)
          throw refusal(
            4,
            `its console is in use by ${other.who}`,
            name,
            `plinth console ${name} --read-only`,
          );
        this.holders.set(name, { session: Number(message.session), who: String(message.who) });
        if (other && other.session !== message.session)
          this.event(schema.EVENT_CONSOLE_TAKEN, name, `console taken over by ${String(message.who)}`);
        return {};
      }
      case schema.OP_CONSOLE_DETACH:
        if (this.holders.get(name)?.session === message.session) this.holders.delete(name);
        this.attached.delete(name);
        return {};
      case schema.OP_CONSOLE_WRITE: {
        const data = Buffer.from(message.data as Uint8Array).subarray(0, this.faults.takes);
        vm.typed += data.toString("utf8");
        setImmediate(() => this.onTyped(name, data.toString("utf8")));
        return { size: data.length };
      }
      case schema.OP_TEST_TRAP_MODEL:
        vm.state = "crashed";
        return row(vm);
      default:
        throw refusal(2, `unknown operation '${op}'`, "", "help");
    }
  }

  private move(vm: FakeVm, op: string, from: string[], to: string): Message {
    const name = String(vm.spec.name);
    if (!from.includes(vm.state))
      throw refusal(4, `cannot ${op} ${name}: it is ${vm.state}`, name, `plinth show ${name}`);
    vm.state = to;
    vm.kept = "";
    if (op === "start" || op === "reset") {
      vm.output = Buffer.alloc(0);
      this.attached.delete(name);
      this.event(
        op === "start" ? schema.EVENT_VM_STARTED : schema.EVENT_VM_RESET,
        name,
        `${name} was started`,
      );
    }
    return row(vm);
  }

  private create(spec: Message): Message {
    const name = String(spec.name);
    if (this.vms.has(name)) throw refusal(4, `there is a VM ${name}`, name, `plinth rm ${name}`);
    if (Number(spec.memory) > 2 ** 33)
      throw refusal(6, `${name} needs more memory than there is`, name, "plinth status");
    const vm = this.add(name, spec.start ? "running" : "stopped");
    vm.spec = spec;
    return row(vm);
  }

  private find(name: string): FakeVm {
    const vm = this.vms.get(name);
    if (!vm) throw refusal(3, `there is no VM '${name}'`, name, "plinth ls");
    return vm;
  }

  private status(): Message {
    const running = [...this.vms.values()].filter((vm) => vm.state === "running").length;
    return {
      host: "fake",
      version: "0.0",
      uptimeMs: this.uptimeMs,
      cpu: "Fake CPU",
      rig: "none",
      cpus: 1,
      memory: {
        total: 5_000_000_000,
        free: 4_900_000_000,
        clean: 4_000_000_000,
        kernel: 1 << 20,
        reserved: 0,
        promised: 0,
      },
      vms: { total: this.vms.size, running },
      controlRestarts: this.controlRestarts,
      badFrames: 0,
      features: ["ept", "vpid"],
    };
  }

  private eventsAfter(since: number): Message {
    const list = this.events.slice(since, since + 16);
    return { events: list, next: list.length > 0 ? Number(list[list.length - 1]!.seq) : since };
  }

  private logs(message: Message): Message {
    const data = message.vm === undefined ? this.kernelLog : this.find(String(message.vm)).output;
    const from = Math.min(Number(message.from), data.length);
    const piece = data.subarray(from, from + CHUNK);
    return { from, data: new Uint8Array(piece), next: from + piece.length };
  }

  /** Sends what is due to those who attached or watch. */
  private pump(): void {
    while (this.watching >= 0 && this.watching < this.events.length) {
      this.send({ ev: schema.PUSH_EVENT, ...this.events[this.watching++] });
    }
    for (const [name, position] of this.attached) {
      const output = this.vms.get(name)?.output ?? Buffer.alloc(0);
      for (let at = position; at < output.length; at += CHUNK) {
        this.send({
          ev: schema.PUSH_CONSOLE,
          vm: name,
          at,
          data: new Uint8Array(output.subarray(at, at + CHUNK)),
        });
      }
      this.attached.set(name, output.length);
    }
  }
}

function row(vm: FakeVm): Message {
  const { name, memory, vcpus } = vm.spec;
  return {
    name: name!,
    state: vm.state,
    reason: vm.reason,
    memory: memory!,
    vcpus: vcpus ?? 1,
    sinceMs: 1500,
  };
}

function refusal(code: number, message: string, object: string, next: string): Refusal {
  return { code, message, object, next };
}
