// The library: connects to a host and offers each operation of the protocol as a method.

import { randomInt } from "node:crypto";
import type { Message } from "../protocol/node/cbor";
import * as schema from "../protocol/schema";
import { BulkCarrier, openBulk } from "./bulk";
import { ConsoleStream } from "./console-stream";
import { ErrorCode, PlinthError } from "./errors";
import { Line } from "./line";
import { PortStream } from "./port-stream";
import type * as result from "./results";
import { addressText, openTransport, parseAddress, type Address } from "./transport";

export { PlinthError } from "./errors";
export type * from "./results";

export interface ConnectOptions {
  /** Milliseconds for connecting, and for each answer; 30 s if not given. */
  timeout?: number | undefined;
  /** Receives what is on the line outside frames: boot log, shell, panic messages. */
  onText?: ((bytes: Uint8Array) => void) | undefined;
  /** Where pages of snapshots go, if that answers; else, and if not given, they go over the line. */
  bulk?: Address | undefined;
  /** Told why they do. */
  notice?: ((text: string) => void) | undefined;
}

/** Which port a request is about, in whose session. */
type PortRequest = { vm: string; port: string; session: number };

type PlanPage = Omit<result.PlanResult, "draft"> & { digest: number; next?: number };

const DEFAULT_TIMEOUT = 30_000;
/** A sequence number that no event reaches. */
const NO_EVENT = 2 ** 50;

/** Connects and says hello; `address` as in PLINTH_CONNECT or from resolveAddress(). */
export async function connect(address: Address | string, options: ConnectOptions = {}): Promise<Client> {
  const where = typeof address === "string" ? parseAddress(address) : address;
  const timeout = options.timeout ?? DEFAULT_TIMEOUT;
  const line = new Line(await openTransport(where, timeout), addressText(where));
  if (options.onText) line.on("text", options.onText);
  try {
    const hello = (await line.hello(timeout)) as result.Hello;
    checkVersion(hello);
    const bulk = options.bulk && (await openBulk(line, options.bulk, timeout, options.notice));
    return new Client(line, hello, timeout, bulk);
  } catch (error) {
    await line.close();
    throw error;
  }
}

function checkVersion(hello: result.Hello): void {
  const ours = schema.Protocol.VERSION;
  if (hello.version === ours) return;
  const host = `${hello.product} (build ${hello.build})`;
  throw new PlinthError({
    code: ErrorCode.INTEGRITY,
    message: `this plinth speaks protocol version ${ours}, the host ${host} speaks version ${hello.version}`,
    next: "use the plinth that was built with the host's image",
  });
}

function changed(): PlinthError {
  const message = "the host has changed while its plan was read";
  return new PlinthError({ code: ErrorCode.WRONG_STATE, message, next: "plinth diff -f FILE" });
}

/** One session with a host. */
export class Client {
  readonly line: Line;
  readonly hello: result.Hello;
  private readonly timeout: number;
  private readonly bulk: BulkCarrier | undefined;

  constructor(line: Line, hello: result.Hello, timeout: number, bulk?: BulkCarrier) {
    this.line = line;
    this.hello = hello;
    this.timeout = timeout;
    this.bulk = bulk;
  }

  async close(): Promise<void> {
    await this.bulk?.close();
    await this.line.close();
  }

  async status(): Promise<result.HostStatus> {
    return (await this.query(schema.OP_STATUS)) as result.HostStatus;
  }

  async list(): Promise<result.VmRow[]> {
    const vms: result.VmRow[] = [];
    for (let from: number | undefined = 0; from !== undefined;) {
      const page = (await this.query(schema.OP_LS, { from })) as { vms: result.VmRow[]; next?: number };
      vms.push(...page.vms);
      from = page.next !== undefined && page.next > from ? page.next : undefined;
    }
    return vms;
  }

  async show(vm: string): Promise<result.VmDetails> {
    return (await this.query(schema.OP_SHOW, { vm })) as result.VmDetails;
  }

  async create(spec: result.VmSpec): Promise<result.VmRow> {
    return (await this.change(schema.OP_CREATE, { spec: spec as unknown as Message })) as result.VmRow;
  }

  /** Changes what of a VM needs no restart. */
  async set(vm: string, spec: Message): Promise<result.VmRow> {
    return (await this.change(schema.OP_SET, { vm, spec })) as result.VmRow;
  }

  async audit(from: number): Promise<result.AuditPage> {
    return (await this.query(schema.OP_AUDIT, { from })) as result.AuditPage;
  }

  /** Makes a tenant, or changes its limits; 0: no limit. */
  async setTenant(spec: result.TenantSpec): Promise<result.TenantRow> {
    return (await this.change(schema.OP_TENANT_SET, { spec: { ...spec } })) as result.TenantRow;
  }

  async removeTenant(tenant: string): Promise<result.TenantRow> {
    return (await this.change(schema.OP_TENANT_RM, { tenant })) as result.TenantRow;
  }

  /** The counters of the host and of all VMs. */
  async top(): Promise<result.TopSample> {
    const sample = (await this.query(schema.OP_TOP)) as result.TopSample & { next?: number };
    for (const vm of sample.vms) vm.at = sample.time;
    for (let { next } = sample; next !== undefined;) {
      const page = (await this.query(schema.OP_TOP, { from: next })) as typeof sample;
      for (const vm of page.vms) sample.vms.push({ ...vm, at: page.time });
      next = page.next !== undefined && page.next > next ? page.next : undefined;
    }
    return sample;
  }

  /** What a decision of the audit log rested on; null: it is no longer kept. */
  async auditFacts(at: number, size: number): Promise<Uint8Array | null> {
    const pieces: Uint8Array[] = [];
    try {
      for (let from: number | undefined = 0; from !== undefined;) {
        const page = (await this.query(schema.OP_AUDIT_FACTS, { at, size, from })) as {
          data: Uint8Array;
          next?: number;
        };
        pieces.push(page.data);
        from = page.next !== undefined && page.next > from ? page.next : undefined;
      }
    } catch (error) {
      if (error instanceof PlinthError && error.code === ErrorCode.NOT_FOUND) return null;
      throw error;
    }
    return Buffer.concat(pieces);
  }

  async tenants(): Promise<result.TenantRow[]> {
    return ((await this.query(schema.OP_TENANTS)) as { tenants: result.TenantRow[] }).tenants;
  }

  /** What of the host specification is about isolation. */
  async rules(): Promise<{ rules: result.RuleSpec[]; mitigations: result.MitigationsSpec }> {
    return (await this.query(schema.OP_RULES)) as {
      rules: result.RuleSpec[];
      mitigations: result.MitigationsSpec;
    };
  }

  /** The CPU's flaws, and what the kernel does about them. */
  async mitigations(): Promise<result.MitigationsResult> {
    return (await this.query(schema.OP_HARDWARE_MITIGATIONS)) as result.MitigationsResult;
  }

  /** What can flow between two domains, VMs or tenants; without them, what is forbidden between any tenants. */
  async policy(one = "", other = ""): Promise<result.PolicyResult> {
    const all: result.PolicyResult = { forbidden: 0, flows: [] };
    for (let from: number | undefined = 0; from !== undefined;) {
      const page = (await this.query(schema.OP_POLICY, { one, other, from })) as result.PolicyResult & {
        next?: number;
      };
      const { next, flows, ...rest } = page;
      Object.assign(all, rest);
      all.flows.push(...flows);
      from = next !== undefined && next > from ? next : undefined;
    }
    return all;
  }

  /** Sends the CBOR of a host specification, and asks what it would change. `sent` hears how many bytes are there. */
  async plan(spec: Uint8Array, sent?: (bytes: number) => void): Promise<result.PlanResult> {
    const session = randomInt(1, 2 ** 31);
    for (let at = 0; at === 0 || at < spec.length; at += schema.Protocol.MAX_CHUNK) {
      const data = spec.subarray(at, at + schema.Protocol.MAX_CHUNK);
      await this.query(schema.OP_SPEC_PUT, { session, at, data });
      sent?.(at + data.length);
    }
    const draft = { session, size: spec.length, digest: 0 };
    const plan: result.PlanResult = { steps: [], refusals: [], free: 0, draft };
    for (let from: number | undefined = 0; from !== undefined;) {
      const page = (await this.query(schema.OP_PLAN, { session, size: spec.length, from })) as PlanPage;
      if (from > 0 && page.digest !== draft.digest) throw changed();
      draft.digest = page.digest;
      plan.free = page.free;
      plan.steps.push(...page.steps);
      plan.refusals.push(...page.refusals);
      from = page.next !== undefined && page.next > from ? page.next : undefined;
    }
    return plan;
  }

  /** Does the steps of a plan: all, or none. */
  async apply(plan: result.PlanResult): Promise<{ steps: number }> {
    return (await this.change(schema.OP_APPLY, plan.draft)) as { steps: number };
  }

  /** Sends a control image in pieces; `told` hears how many bytes are there. Returns what `upgrade` wants of it. */
  async uploadImage(
    bytes: Uint8Array,
    told: (at: number) => void,
  ): Promise<{ session: number; size: number }> {
    const session = randomInt(1, 2 ** 31);
    const size = bytes.length;
    for (let at = 0; at < size; at += schema.Protocol.MAX_CHUNK) {
      const data = bytes.subarray(at, at + schema.Protocol.MAX_CHUNK);
      await this.query(schema.OP_IMAGE_PUT, { session, at, size, data });
      told(at + data.length);
    }
    return { session, size };
  }

  /** Replaces the control component by what was uploaded, or by a boot module; returns the new image's hash. */
  async upgrade(
    fields: { session: number; size: number; hash: string } | { image: string },
  ): Promise<string> {
    return ((await this.change(schema.OP_UPGRADE, fields)) as { hash: string }).hash;
  }

  async start(vm: string): Promise<result.VmRow> {
    return (await this.change(schema.OP_START, { vm })) as result.VmRow;
  }

  /** Presses the power button; with `force` the VM is ended at once. `word`: even if it is protected. */
  async stop(vm: string, force = false, word = false): Promise<result.VmRow> {
    return (await this.change(schema.OP_STOP, { vm, force, protected: word })) as result.VmRow;
  }

  async pause(vm: string): Promise<result.VmRow> {
    return (await this.change(schema.OP_PAUSE, { vm })) as result.VmRow;
  }

  /** With `force` also one that has moved to another host: whoever says so knows that it does not run there. */
  async resume(vm: string, force = false): Promise<result.VmRow> {
    return (await this.change(schema.OP_RESUME, { vm, ...(force ? { force } : {}) })) as result.VmRow;
  }

  /** Gives up a paused VM that has not run since a snapshot of it: another host has that. May be repeated. */
  async handOver(vm: string, snapshot: string): Promise<result.VmRow> {
    return (await this.change(schema.OP_HANDOVER, { vm, snapshot })) as result.VmRow;
  }

  /** Asks a VM's balloon driver to leave it `size` bytes of its memory. */
  async balloon(vm: string, size: number): Promise<result.VmRow> {
    return (await this.change(schema.OP_BALLOON, { vm, size })) as result.VmRow;
  }

  async reset(vm: string, force = false, word = false): Promise<result.VmRow> {
    return (await this.change(schema.OP_RESET, { vm, force, protected: word })) as result.VmRow;
  }

  async remove(vm: string, force = false, word = false): Promise<result.VmRow> {
    return (await this.change(schema.OP_RM, { vm, force, protected: word })) as result.VmRow;
  }

  async images(): Promise<result.Image[]> {
    return ((await this.query(schema.OP_IMAGES)) as { images: result.Image[] }).images;
  }

  /** Freezes a VM for a moment and keeps what it is: memory, disks, devices. */
  async createSnapshot(
    vm: string,
    more: { name?: string | undefined; note?: string | undefined; overcommit?: boolean } = {},
  ): Promise<result.SnapshotRow> {
    return (await this.change(schema.OP_SNAPSHOT_CREATE, { vm, ...more })) as result.SnapshotRow;
  }

  /** The snapshots on the host: all, or those of a VM. */
  async snapshots(vm?: string): Promise<result.SnapshotRow[]> {
    const rows: result.SnapshotRow[] = [];
    for (let from: number | undefined = 0; from !== undefined;) {
      const page = (await this.query(schema.OP_SNAPSHOT_LS, { vm, from: from || undefined })) as {
        snapshots: result.SnapshotRow[];
        next?: number;
      };
      rows.push(...page.snapshots);
      from = page.next !== undefined && page.next > from ? page.next : undefined;
    }
    return rows;
  }

  /** A snapshot's document, as the host has it. */
  async showSnapshot(name: string): Promise<Message> {
    return (await this.query(schema.OP_SNAPSHOT_SHOW, { name })) as Message;
  }

  /** Takes a VM back to a snapshot; `force`: even if it runs. */
  async restoreSnapshot(
    name: string,
    more: { force?: boolean; protected?: boolean; paused?: boolean; overcommit?: boolean } = {},
  ): Promise<result.VmRow> {
    return (await this.change(schema.OP_SNAPSHOT_RESTORE, { name, ...more })) as result.VmRow;
  }

  /** Makes another VM that goes on from a snapshot. */
  async cloneSnapshot(
    name: string,
    vm: string,
    more: { paused?: boolean; tenant?: string | undefined; overcommit?: boolean } = {},
  ): Promise<result.VmRow> {
    return (await this.change(schema.OP_SNAPSHOT_CLONE, { name, vm, ...more })) as result.VmRow;
  }

  async removeSnapshot(name: string): Promise<void> {
    await this.change(schema.OP_SNAPSHOT_RM, { name });
  }

  /** Ranges of an object's pages that may hold something, or that differ from those of `base`, and where to go on. */
  async snapshotPages(
    name: string,
    object: string,
    from: number,
    base?: string,
  ): Promise<{ ranges: number[]; next?: number }> {
    return (await this.carry(schema.OP_SNAPSHOT_PAGES, { name, object, from, base })) as {
      ranges: number[];
      next?: number;
    };
  }

  /** The hashes of pages, one behind the other. */
  async snapshotHashes(name: string, object: string, page: number, count: number): Promise<Uint8Array> {
    const reply = (await this.carry(schema.OP_SNAPSHOT_HASH, { name, object, page, count })) as {
      hashes: Uint8Array;
    };
    return reply.hashes;
  }

  /** One page as it is. */
  async readSnapshot(name: string, object: string, page: number): Promise<Uint8Array> {
    return ((await this.carry(schema.OP_SNAPSHOT_READ, { name, object, page })) as { data: Uint8Array }).data;
  }

  /** Begins to bring a snapshot to the host; returns the kinds of objects that it wants. */
  async beginSnapshot(document: Message, base?: string): Promise<string[]> {
    return ((await this.change(schema.OP_SNAPSHOT_BEGIN, { document, base })) as { needs: string[] }).needs;
  }

  /** The host's verdict whether it could go on from a snapshot: fails with what it lacks. Nothing is made. */
  async checkSnapshot(document: Message): Promise<void> {
    const name = `verdict-${randomInt(2 ** 32)}`;
    await this.query(schema.OP_SNAPSHOT_BEGIN, { document: { ...document, name }, dry: true });
  }

  /** May be repeated. */
  async writeSnapshot(name: string, object: string, page: number, data: Uint8Array): Promise<void> {
    await this.carry(schema.OP_SNAPSHOT_WRITE, { name, object, page, data });
  }

  /** All is there: the host checks it. */
  async endSnapshot(name: string): Promise<void> {
    await this.change(schema.OP_SNAPSHOT_END, { name });
  }

  async doctor(): Promise<result.Check[]> {
    return ((await this.query(schema.OP_DOCTOR)) as { checks: result.Check[] }).checks;
  }

  /** What the machine is, with all its PCI devices. */
  async hardware(): Promise<result.Hardware & result.MitigationsResult & { pci: result.PciDevice[] }> {
    const machine = (await this.query(schema.OP_HARDWARE)) as result.Hardware;
    const pci: result.PciDevice[] = [];
    for (let from: number | undefined = 0; from !== undefined;) {
      const piece = (await this.query(schema.OP_HARDWARE_PCI, { from })) as {
        devices: result.PciDevice[];
        next?: number;
      };
      pci.push(...piece.devices);
      from = piece.next !== undefined && piece.next > from ? piece.next : undefined;
    }
    return { ...machine, ...(await this.mitigations()), pci };
  }

  /** Events after `since`: at most one reply's worth; ask again from `next` until none come. */
  async events(since: number): Promise<{ events: result.HostEvent[]; next: number }> {
    return (await this.query(schema.OP_EVENTS, { since })) as { events: result.HostEvent[]; next: number };
  }

  /** The number of the newest event. */
  async lastEvent(): Promise<number> {
    let since = (await this.events(NO_EVENT)).next;
    if (since < NO_EVENT) return since;
    for (since = 0; ;) {
      const { events, next } = await this.events(since);
      if (events.length === 0 || next <= since) return since;
      since = next;
    }
  }

  /** From now on events after `since` are emitted by the line as pushes. */
  async watchEvents(since: number): Promise<{ next: number }> {
    return (await this.query(schema.OP_EVENTS_WATCH, { since })) as { next: number };
  }

  /** A piece of a VM's console scroll-back, or without `vm` of the kernel's log. */
  async logs(vm: string | undefined, from: number): Promise<result.LogChunk> {
    return (await this.query(schema.OP_LOGS, { vm, from })) as result.LogChunk;
  }

  async attachConsole(vm: string, from?: number): Promise<result.Attached> {
    return (await this.query(schema.OP_CONSOLE_ATTACH, { vm, from })) as result.Attached;
  }

  /** Ends the attachment; `session` does not type any more. */
  async detachConsole(vm: string, session?: number): Promise<void> {
    await this.query(schema.OP_CONSOLE_DETACH, { vm, session });
  }

  /** From now on `session`, an odd number of the caller's, types into a console; to be said again every few seconds. */
  async holdConsole(vm: string, fields: { session: number; who: string; force?: boolean }): Promise<void> {
    await this.query(schema.OP_CONSOLE_HOLD, { vm, ...fields });
  }

  /** Types into a VM's console; waits while the VM does not read, up to the time-out. */
  async writeConsole(vm: string, data: Uint8Array, session?: number): Promise<void> {
    let at = 0;
    const end = Date.now() + this.timeout;
    while (at < data.length) {
      const chunk = data.subarray(at, at + schema.Protocol.MAX_CHUNK);
      const reply = (await this.change(schema.OP_CONSOLE_WRITE, { vm, session, data: chunk })) as {
        size?: number;
      };
      const taken = reply.size ?? chunk.length;
      at += taken;
      if (taken > 0 || at >= data.length) continue;
      if (Date.now() > end) {
        throw new PlinthError({
          code: ErrorCode.UNREACHABLE,
          message: `${vm} does not read its console: ${data.length - at} of ${data.length} bytes were not taken`,
          object: vm,
          next: `plinth show ${vm}`,
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** A VM's console that survives noise, other clients and a restart of the control domain. `session`: an earlier one's. */
  console(vm: string, session?: number): ConsoleStream {
    return new ConsoleStream(this, vm, session);
  }

  /** Opens a named port of a VM for the session that the caller makes up. */
  async attachPort(fields: PortRequest & { wait?: boolean; force?: boolean }): Promise<result.PortAttached> {
    return (await this.query(schema.OP_PORT_ATTACH, fields)) as result.PortAttached;
  }

  async detachPort(fields: PortRequest & { from: number }): Promise<void> {
    await this.query(schema.OP_PORT_DETACH, fields);
  }

  async readPort(fields: PortRequest & { from: number }): Promise<result.PortChunk> {
    return (await this.query(schema.OP_PORT_READ, fields)) as result.PortChunk;
  }

  async writePort(fields: PortRequest & { at: number; data: Uint8Array }): Promise<result.PortTaken> {
    return (await this.query(schema.OP_PORT_WRITE, fields)) as result.PortTaken;
  }

  /** A named port of a VM, without loss over noise and a restart of the control domain. */
  port(vm: string, port: string): PortStream {
    return new PortStream(this, vm, port);
  }

  /** Makes the control domain trap. There is no reply: resolves when the next one prompts, or after a second. */
  async trap(): Promise<void> {
    const prompted = this.line.prompted(1000);
    this.line.send({ id: 0, op: schema.OP_TEST_TRAP });
    await prompted;
  }

  /** Makes the device model of a VM trap. */
  async trapModel(vm: string): Promise<void> {
    await this.change(schema.OP_TEST_TRAP_MODEL, { vm });
  }

  /** Tells a VM that it goes on from a snapshot; numbers are of 64 bits. */
  async reborn(
    vm: string,
    as: { name: string; generation: Uint8Array; wallClock: bigint; addresses?: bigint[]; clone: boolean },
  ): Promise<void> {
    await this.change(schema.OP_TEST_REBORN, { vm, ...as });
  }

  private query(op: string, fields: Message = {}): Promise<unknown> {
    return this.line.request(op, fields, { timeout: this.timeout });
  }

  /** What may be done twice, and is much: over the bulk line if there is one. */
  private carry(op: string, fields: Message): Promise<unknown> {
    return (this.bulk ?? this.line).request(op, fields, { timeout: this.timeout });
  }

  private change(op: string, fields: Message): Promise<unknown> {
    return this.line.request(op, fields, { timeout: this.timeout, epoch: this.hello.epoch });
  }
}
