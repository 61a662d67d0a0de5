// The snapshots of a fake host: objects of pages, as the protocol has them.

import { createHash, randomBytes } from "node:crypto";
import type { Message, Value } from "../../control/protocol/node/cbor";
import * as schema from "../../control/protocol/schema";
import { ABI_VERSION } from "../../control/gen/abi";

export const PAGE = 4096;
const ZERO = new Uint8Array(PAGE);

interface FakeObject {
  kind: string;
  pages: Uint8Array[];
}

interface FakeSnapshot {
  document: Message;
  objects: FakeObject[];
  state: string;
  base: string;
}

export const sha = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

function refusal(code: number, message: string, object: string, next: string): Message {
  return { code, message, object, next };
}

/** What the control domain does with snapshots, of VMs that are tables of pages. */
export class FakeSnapshots {
  readonly all = new Map<string, FakeSnapshot>();
  /** The objects of each VM as they are now. */
  readonly vms = new Map<string, FakeObject[]>();
  /** Features of this host, its CPU and the hash of the device model that it has. */
  features = ["ept", "vpid"];
  vendor: string = schema.VENDOR_INTEL;
  tscHz = 2_400_000_000;
  model = "ab".repeat(32);
  now = 1_790_000_000;
  /** Answers wrong bytes for this page of `memory`. */
  liesAbout = -1;
  /** What it answers when it is asked for pages. */
  pagesReply: Message | undefined;
  /** How often each operation was asked. */
  readonly asked: Record<string, number> = {};
  /** Called when a VM is made of a snapshot. */
  onVm: (name: string, state: string) => void = () => undefined;
  /** Called when a snapshot of a VM is made. */
  onKept: (vm: string, name: string) => void = () => undefined;
  /** Called before each operation. */
  onAsk: (op: string) => void = () => undefined;

  /** A VM with objects: the bytes of each page begin with a text. */
  addVm(name: string, objects: Record<string, (string | Uint8Array)[]>): void {
    this.vms.set(
      name,
      Object.entries(objects).map(([kind, pages]) => ({ kind, pages: pages.map(page) })),
    );
  }

  /** Overwrites a page. */
  poke(vm: string, kind: string, at: number, text: string | Uint8Array): void {
    this.vms.get(vm)!.find((object) => object.kind === kind)!.pages[at] = page(text);
  }

  /** What an object of a snapshot holds. */
  bytes(name: string, kind: string): Buffer {
    return Buffer.concat(this.all.get(name)!.objects.find((object) => object.kind === kind)!.pages);
  }

  perform(op: string, message: Message): Value {
    this.asked[op] = (this.asked[op] ?? 0) + 1;
    this.onAsk(op);
    switch (op) {
      case schema.OP_SNAPSHOT_CREATE:
        return this.create(String(message.vm), message.name as string | undefined, message.note as string);
      case schema.OP_SNAPSHOT_LS:
        return this.ls(message);
      case schema.OP_SNAPSHOT_BEGIN:
        return this.begin(
          message.document as Message,
          message.base as string | undefined,
          message.dry === true,
        );
      default:
        return this.performOn(op, String(message.name), message);
    }
  }

  private performOn(op: string, name: string, message: Message): Value {
    const snapshot = this.all.get(name);
    if (!snapshot) throw refusal(3, `there is no snapshot '${name}'`, name, "snapshot ls");
    switch (op) {
      case schema.OP_SNAPSHOT_SHOW:
        return snapshot.document;
      case schema.OP_SNAPSHOT_RM:
        this.all.delete(name);
        return {};
      case schema.OP_SNAPSHOT_RESTORE:
      case schema.OP_SNAPSHOT_CLONE: {
        if (snapshot.state !== schema.STATE_COMPLETE)
          throw refusal(4, `${name} is incoming`, name, "snapshot ls");
        const vm = String(op === schema.OP_SNAPSHOT_CLONE ? message.vm : snapshot.document.vm);
        this.vms.set(vm, copy(snapshot.objects));
        this.onVm(vm, message.paused ? schema.STATE_PAUSED : schema.STATE_RUNNING);
        return {
          name: vm,
          state: message.paused ? "paused" : "running",
          reason: "",
          memory: 1,
          vcpus: 1,
          sinceMs: 0,
        };
      }
      case schema.OP_SNAPSHOT_END:
        if (snapshot.state !== schema.STATE_INCOMING)
          throw refusal(4, `${name} is complete`, name, "snapshot ls");
        snapshot.state = schema.STATE_COMPLETE;
        return {};
      default:
        return this.performOnPages(op, snapshot, message);
    }
  }

  private performOnPages(op: string, snapshot: FakeSnapshot, message: Message): Value {
    const kind = String(message.object);
    const object = snapshot.objects.find((candidate) => candidate.kind === kind);
    if (!object) throw refusal(3, `it has no object ${kind}`, kind, "snapshot show");
    const first = Number(message.page);
    switch (op) {
      case schema.OP_SNAPSHOT_PAGES: {
        if (this.pagesReply) return this.pagesReply;
        const base = message.base === undefined ? undefined : this.all.get(String(message.base));
        const before = base?.objects.find((candidate) => candidate.kind === kind)?.pages;
        const from = Number(message.from);
        // At most eight pages in an answer, and of pages that are zero some are said to be there.
        const end = Math.min(from + 8, object.pages.length);
        const ranges: number[] = [];
        for (let n = from; n < end; n++) {
          const there = before
            ? !same(object.pages[n]!, before[n]!)
            : n % 5 === 0 || !same(object.pages[n]!, ZERO);
          if (there) ranges.push(n, 1);
        }
        return { ranges, next: end };
      }
      case schema.OP_SNAPSHOT_HASH: {
        const count = Number(message.count);
        if (count > schema.Protocol.MAX_HASHES) throw refusal(2, "too many", kind, "snapshot show");
        return { hashes: new Uint8Array(Buffer.concat(object.pages.slice(first, first + count).map(sha))) };
      }
      case schema.OP_SNAPSHOT_READ: {
        const data = new Uint8Array(object.pages[first]!);
        if (kind === "memory" && first === this.liesAbout) data[9] = 0x5a;
        return { page: first, data };
      }
      case schema.OP_SNAPSHOT_WRITE: {
        if (snapshot.state !== schema.STATE_INCOMING) throw refusal(4, "it is complete", kind, "snapshot ls");
        const data = message.data as Uint8Array;
        if (data.length !== PAGE) throw refusal(2, "no whole page", kind, "snapshot show");
        object.pages[first] = new Uint8Array(data);
        return {};
      }
      default:
        throw refusal(2, `unknown operation '${op}'`, "", "help");
    }
  }

  private create(vm: string, name = `${vm}-${this.all.size + 1}`, note?: string): Value {
    const objects = this.vms.get(vm);
    if (!objects) throw refusal(3, `there is no VM '${vm}'`, vm, "ls");
    if (this.all.has(name)) throw refusal(4, `there is a snapshot ${name}`, name, `snapshot rm ${name}`);
    const document: Message = {
      format: schema.Protocol.SNAPSHOT_FORMAT,
      name,
      vm,
      tenant: "red",
      created: this.now++,
      note,
      spec: { name: vm, memory: 1 << 20, cmdline: "quiet" },
      tscHz: this.tscHz,
      abi: ABI_VERSION,
      vendor: this.vendor,
      cpuid: "01".repeat(32),
      features: ["ept"],
      model: this.model,
      vcpus: 1,
      cards: [],
      objects: objects.map(({ kind, pages }) => ({ kind, pages: pages.length })),
      generation: new Uint8Array(randomBytes(16)),
      pauseTicks: 1000,
    };
    this.all.set(name, { document, objects: copy(objects), state: schema.STATE_COMPLETE, base: "" });
    this.onKept(vm, name);
    return this.row(name);
  }

  private ls({ vm, from }: Message): Value {
    const names = [...this.all.keys()].filter(
      (name) => vm === undefined || this.all.get(name)!.document.vm === vm,
    );
    const at = Number(from ?? 0);
    const page = names.slice(at, at + 2).map((name) => this.row(name));
    return { snapshots: page, ...(at + 2 < names.length ? { next: at + 2 } : {}) };
  }

  private row(name: string): Message {
    const { document, objects, state, base } = this.all.get(name)!;
    const memory = objects[0]!.pages.length * PAGE;
    const { vm, tenant, created, note } = document;
    return { name, vm, tenant, created, memory, own: 0, state, note, ...(base ? { base } : {}) } as Message;
  }

  private begin(document: Message, base: string | undefined, dry: boolean): Value {
    const name = String(document.name);
    const refuse = (what: string): Message =>
      refusal(7, `${name} cannot go on here: ${what}`, name, "hardware");
    if (document.vendor !== this.vendor) throw refuse(`it needs a CPU of ${String(document.vendor)}`);
    if (document.tscHz !== this.tscHz) throw refuse("it needs another TSC frequency");
    for (const feature of document.features as string[])
      if (!this.features.includes(feature)) throw refuse(`it needs ${feature}`);
    const there = this.all.get(name);
    const kinds = (document.objects as { kind: string; pages: number }[]).map(({ kind }) => kind);
    const needs = kinds.filter((kind) => kind !== schema.OBJECT_IMAGE || document.model !== this.model);
    if (dry) return { needs };
    if (there) throw refusal(4, `there is a snapshot ${name}`, name, `snapshot rm ${name}`);
    const from = base === undefined ? undefined : this.all.get(base);
    if (base !== undefined && !from) throw refusal(3, `there is no snapshot '${base}'`, base, "snapshot ls");
    const objects = (document.objects as { kind: string; pages: number }[]).map(({ kind, pages }) => ({
      kind,
      pages: from
        ? [...from.objects.find((object) => object.kind === kind)!.pages]
        : Array.from({ length: pages }, () => ZERO),
    }));
    this.all.set(name, { document, objects, state: schema.STATE_INCOMING, base: base ?? "" });
    return { needs };
  }
}

function page(text: string | Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PAGE);
  bytes.set(typeof text === "string" ? Buffer.from(text) : text);
  return bytes;
}

const same = (one: Uint8Array, other: Uint8Array): boolean => Buffer.from(one).equals(other);
const copy = (objects: readonly FakeObject[]): FakeObject[] =>
  objects.map(({ kind, pages }) => ({ kind, pages: [...pages] }));
