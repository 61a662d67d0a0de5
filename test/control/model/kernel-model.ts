// A model of the kernel for Node: components run against it as they do against the real one.
//
//   const kernel = new KernelModel({ modules: [{ name: "device-model", wasm }, { name: "spec", data }] });
//   const control = kernel.startControl(wasm);
//   kernel.run();                        // until nobody has anything to do
//   kernel.serial.write("ls\r"); kernel.run(); kernel.serial.read();
//   kernel.advance(1000);                // a second passes: timers fire in order
//   kernel.vm("one").portIn(0x3fd, 1);   // an exit of a VM's vCPU, answered by its device model
//
// Time stands still but for advance() and one tick for each look at it. A component's trap does what
// it does in the real kernel: control is started again, others fail; `traps` has the texts.

import {
  CAP_MODULE,
  CAP_ROOT,
  CAP_SELF,
  DomainState,
  EVENT_DOMAIN,
  ExitMessageAt,
  Failure,
  GPA_IMAGE,
  GPA_RAM,
  Hypercall,
  IMAGE_SIZE_OFFSET,
  PAGE_SIZE,
  Right,
  Role,
  Status,
  VcpuState,
} from "../../../control/gen/abi";
import { Component } from "./component";
import { ComponentFault, Refusal, refuseIf } from "./faults";
import { handlers } from "./hypercalls";
import { hostCpuid } from "./host";
import { MemoryObject, Pool } from "./memory";
import { Capability, Domain, Irq, RootObject, Timer, Vcpu } from "./objects";
import { Ports } from "./ports";
import { Uart } from "./uart";
import { VmModel } from "./vm-model";

/** A boot module; one that is a component has its WebAssembly instead of data. */
export interface Module {
  name: string;
  data?: Uint8Array;
  wasm?: Uint8Array;
}

export interface KernelOptions {
  modules?: Module[];
  /** Bytes of RAM in the machine. */
  memory?: number;
  /** RAM of the control domain in bytes. */
  controlMemory?: number;
  /** NUMA nodes and their bytes, the first one's without what the kernel has; else one node 0. */
  nodes?: { id: number; memory: number }[];
  tscHz?: bigint;
  /** Unix seconds that the real-time clock shows at the start. */
  wallClock?: number;
  features?: number;
  /** Memory of the firmware: pieces that are not RAM, by their address. */
  tables?: { at: number; bytes: Uint8Array }[];
  /** The ACPI root pointer that the boot loader found. */
  rsdp?: Uint8Array;
  efi?: boolean;
  /** Configuration space of PCI functions, by bus << 8 | device << 3 | function. */
  pci?: Map<number, Uint8Array>;
  /** There is no COM2. */
  oneLine?: boolean;
  cpus?: number;
  /** APIC ids of the CPUs by their number; else the numbers. */
  apicIds?: number[];
  /** Mitigation bits that the CPU can do, and what IA32_ARCH_CAPABILITIES has. */
  mitigations?: number;
  archCapabilities?: bigint;
  hostCpuid?: (leaf: number, subleaf: number) => number[];
}

/** Events that one run() handles at most: a component that signals itself for ever is a bug. */
const RUN_LIMIT = 100_000;
const KERNEL_IMAGE_PAGES = 1024;

export class KernelModel {
  readonly modules: { name: string; data: Uint8Array; wasm?: Uint8Array }[];
  readonly totalPages: number;
  readonly tscHz: bigint;
  readonly bootTsc = 1000n;
  readonly features: number;
  readonly options: KernelOptions;
  readonly serial = new Uart();
  /** COM2. */
  readonly bulk = new Uart();
  readonly domains = new Set<Domain>();
  readonly timers = new Set<Timer>();
  readonly irqs = new Map<number, Irq>();
  /** What components said when they ended. */
  readonly traps: { label: string; text: string }[] = [];
  resetRequested = false;
  /** Exits, IPIs, calls and log bytes of tenants, at most, by their numbers. */
  readonly brakes = new Map<number, [number, number, number, number]>();
  /** The class of service of each tenant, and the ways and the delay of each class. */
  readonly services = new Map<number, number>();
  readonly classes = new Map<number, [number, number]>();
  /** What MITIGATE has set for each Relation. */
  mitigations: number[] | undefined;
  logBytes: Buffer = Buffer.alloc(0);
  private tsc: bigint;
  private ids = 1;
  private readonly memories = new Set<MemoryObject>();
  private readonly pool = new Pool();
  private readonly ports: Ports;
  private readonly controlPages: number;
  private control: Domain | undefined;

  constructor(options: KernelOptions = {}) {
    this.modules = (options.modules ?? []).map(({ name, data, wasm }) => ({
      name,
      data: data ?? wasm ?? new Uint8Array(0),
      ...(wasm ? { wasm } : {}),
    }));
    this.totalPages = Math.floor((options.memory ?? 512 * 2 ** 20) / PAGE_SIZE);
    this.controlPages = Math.floor((options.controlMemory ?? 8 * 2 ** 20) / PAGE_SIZE);
    this.tscHz = options.tscHz ?? 1_000_000_000n;
    this.features = options.features ?? 0x3;
    this.options = options;
    this.tsc = this.bootTsc + 1_000_000n;
    this.ports = new Ports(
      new Map([[0x3f8, this.serial], ...(options.oneLine ? [] : [[0x2f8, this.bulk] as const])]),
      () => this.milliseconds + (options.wallClock ?? 1_700_000_000) * 1000,
      options.pci,
    );
    this.serial.onInterrupt = () => this.interrupt(4);
    this.bulk.onInterrupt = () => this.interrupt(3);
  }

  /** Starts the control domain. */
  startControl(wasm: Uint8Array): Domain {
    const domain = this.addDomain(Role.CONTROL, "control", 256, 8192);
    this.control = domain;
    domain.put(CAP_SELF, domain);
    domain.put(CAP_ROOT, new RootObject());
    this.modules.forEach((module, n) => {
      const memory = this.addMemory(Math.max(1, Math.ceil(module.data.length / PAGE_SIZE)), module.wasm);
      memory.write(0, module.data);
      domain.put(CAP_MODULE + n, memory, Right.READ | Right.EXECUTE | Right.GRANT);
    });
    this.image = { booted: wasm, current: wasm, before: wasm };
    domain.map(GPA_IMAGE, this.addMemory(64, wasm), 0, 64, Right.READ | Right.EXECUTE);
    domain.map(GPA_RAM, this.addMemory(this.controlPages), 0, this.controlPages, Right.READ | Right.WRITE);
    this.startComponent(domain);
    return domain;
  }

  /** Runs components until no event is pending. */
  run(): void {
    for (let n = 0; n < RUN_LIMIT; n++) if (!this.step()) return;
    throw new Error(`components still have events after ${RUN_LIMIT} steps`);
  }

  /** Lets one component that has events handle them; false: none has. */
  step(): boolean {
    const domain = [...this.domains].find((d) => d.state === DomainState.ACTIVE && d.component?.pending);
    if (!domain || this.resetRequested) return false;
    this.protect(domain, () => domain.component!.step());
    return true;
  }

  /** Lets time pass; timers fire in their order and components run after each. */
  advance(milliseconds: number): void {
    const end = this.tsc + (this.tscHz * BigInt(Math.round(milliseconds * 1000))) / 1_000_000n;
    this.run();
    for (;;) {
      if (this.trialOver !== 0n && this.trialOver <= end) this.endTrial();
      const due = [...this.timers]
        .filter(
          ({ deadline, domain }) => deadline !== 0n && deadline <= end && domain.state === DomainState.ACTIVE,
        )
        .sort((a, b) => (a.deadline < b.deadline ? -1 : 1))[0];
      if (!due) break;
      if (due.deadline > this.tsc) this.tsc = due.deadline;
      due.deadline = 0n;
      this.raise(due.domain, due.event);
      this.run();
    }
    if (end > this.tsc) this.tsc = end;
  }

  /** The VM with this label. */
  vm(label: string): VmModel {
    const domain = this.domain(label, Role.VM);
    const vcpu = domain.vcpus[0];
    if (!vcpu) throw new Error(`VM "${label}" has no vCPU`);
    return new VmModel(this, vcpu);
  }

  /** The domain with this label and, if given, role. */
  domain(label: string, role?: Role): Domain {
    const found = [...this.domains].find((d) => d.label === label && (role === undefined || d.role === role));
    if (!found) {
      const all = [...this.domains].map((d) => `${d.label} (role ${d.role})`).join(", ");
      throw new Error(`no domain "${label}"; there are ${all}`);
    }
    return found;
  }

  /** The kernel log as text. */
  get log(): string {
    return this.logBytes.toString();
  }

  now(): bigint {
    return ++this.tsc;
  }

  /** What no vCPU has used, of all CPUs. */
  get idleTime(): bigint {
    let idle = BigInt(this.options.cpus ?? 1) * (this.tsc - this.bootTsc);
    for (const domain of this.domains) for (const vcpu of domain.vcpus) idle -= vcpu.ran;
    return idle > 0n ? idle : 0n;
  }

  get milliseconds(): number {
    return Number((this.tsc * 1000n) / this.tscHz);
  }

  get kernelPages(): number {
    return KERNEL_IMAGE_PAGES + [...this.domains].reduce((sum, domain) => sum + domain.quota, 0);
  }

  /** Frames that are kept for memory objects. */
  get promisedPages(): number {
    return [...this.memories].reduce((sum, memory) => sum + memory.promised, 0);
  }

  get freePages(): number {
    const used = [...this.memories].reduce((sum, memory) => sum + memory.present, 0);
    return this.totalPages - used + this.pool.saved - this.kernelPages;
  }

  /** Free pages of each node: of the first what the others do not have. */
  get nodeFree(): number[] {
    const { nodes = [{ id: 0, memory: 0 }] } = this.options;
    const free = nodes.map(({ memory }) => Math.floor(memory / PAGE_SIZE));
    for (const memory of this.memories)
      memory.nodes.forEach((pages, node) => (free[node] = free[node]! - Math.min(pages, memory.present)));
    free[0] = this.freePages - free.slice(1).reduce((sum, pages) => sum + pages, 0);
    return free;
  }

  // What follows is for the other files of the model.

  nextId(): number {
    return this.ids++;
  }

  addDomain(role: Role, label: string, quota: number, slots: number): Domain {
    const domain = new Domain(this.nextId(), role, label, quota, slots);
    this.domains.add(domain);
    return domain;
  }

  /** From this node on each has as many of the pages as it has free. */
  addMemory(pages: number, wasm?: Uint8Array, node = 0): MemoryObject {
    const memory = new MemoryObject(this.nextId(), pages, wasm, this.pool);
    const free = this.nodeFree;
    let left = pages;
    for (let n = 0; n < free.length; n++) {
      const at = (node + n) % free.length;
      memory.nodes[at] = Math.min(left, Math.max(free[at]!, 0));
      left -= memory.nodes[at];
    }
    this.memories.add(memory);
    return memory;
  }

  hypercall(component: Component, nr: number, wide: bigint[]): bigint {
    const handler = handlers[nr as Hypercall];
    if (!handler) return BigInt(-Status.BAD_CALL);
    const args = wide.map(Number);
    try {
      const call = { kernel: this, caller: component.domain, comm: component.comm, args, wide };
      return BigInt(handler(call, ...args) ?? 0);
    } catch (error) {
      if (error instanceof Refusal) return BigInt(-error.status);
      throw error;
    }
  }

  appendLog(domain: Domain | undefined, text: string): void {
    const line = `${domain ? `${domain.label}: ` : ""}${text.replace(/\n$/, "")}\n`;
    this.logBytes = Buffer.concat([this.logBytes, Buffer.from(line)]);
  }

  raise(domain: Domain, event: number): void {
    if (domain.component && domain.alive) domain.component.pending |= 1n << BigInt(event);
  }

  pause(domain: Domain): void {
    domain.state = DomainState.PAUSED;
    domain.pausedAt = this.tsc;
  }

  /** Time goes on where it stood. */
  resume(domain: Domain): void {
    const away = this.tsc - domain.pausedAt;
    domain.state = DomainState.ACTIVE;
    if (domain.role !== Role.VM) domain.tscOffset -= away;
    for (const timer of this.timers)
      if (timer.domain === domain && timer.deadline !== 0n) timer.deadline += away;
  }

  /** What a component is goes to the memory that is its RAM, if this is. */
  saveComponent(memory: MemoryObject): void {
    for (const { component, space } of this.domains)
      if (component && space.at(GPA_RAM)?.memory === memory) component.save(memory);
  }

  /** A component goes on from its RAM. */
  resumeComponent(domain: Domain): void {
    const wasm = domain.space.at(GPA_IMAGE)?.memory.wasm;
    const ram = domain.space.at(GPA_RAM)?.memory;
    refuseIf(!wasm || !ram, Status.BAD_STATE);
    const component = new Component(this, domain, wasm!);
    domain.component = component;
    this.protect(domain, () => component.resume(ram!));
    component.pending = domain.loadedEvents ?? 0n;
  }

  startComponent(domain: Domain): void {
    const wasm = domain.space.at(GPA_IMAGE)?.memory.wasm;
    if (!wasm) {
      this.fail(domain, Failure.MEMORY, GPA_IMAGE, "nothing executable at GPA_IMAGE");
      return;
    }
    const component = new Component(this, domain, wasm);
    domain.component = component;
    const info = { restarts: 0, failure: Failure.NONE, trial: false, rolledBack: false };
    this.protect(domain, () => component.start(info));
  }

  portIn(domain: Domain, port: number, size: number): number {
    return this.ports.read(domain, port, size);
  }

  portOut(domain: Domain, port: number, size: number, value: number): void {
    this.ports.write(domain, port, size, value);
  }

  hostCpuid(leaf: number, subleaf: number): number[] {
    return (this.options.hostCpuid ?? hostCpuid)(leaf, subleaf);
  }

  /** Memory that is not RAM; where nothing is, nothing answers. */
  firmwareRead(address: number, length: number): Uint8Array {
    const out = new Uint8Array(length).fill(0xff);
    for (const { at, bytes } of this.options.tables ?? [])
      for (let n = 0; n < length; n++) out[n] = bytes[address + n - at] ?? out[n]!;
    return out;
  }

  /** RAM begins at 1 MiB and has a hole where the firmware's pieces lie. */
  isRam(address: number): boolean {
    const page = Math.floor(address / PAGE_SIZE);
    const end = 0x100 + this.totalPages;
    return (
      page >= 0x100 &&
      page < end &&
      !(this.options.tables ?? []).some(
        ({ at, bytes }) =>
          page >= Math.floor(at / PAGE_SIZE) && page <= Math.floor((at + bytes.length - 1) / PAGE_SIZE),
      )
    );
  }

  interrupt(line: number): void {
    const irq = this.irqs.get(line);
    if (!irq) return;
    if (irq.masked) irq.edge = true;
    else {
      irq.masked = true;
      this.raise(irq.domain, irq.event);
    }
  }

  acknowledge(irq: Irq): void {
    irq.masked = false;
    if (!irq.edge) return;
    irq.edge = false;
    this.interrupt(irq.line);
  }

  /** The vCPU whose exit page `index` of this device model is, if it waits for an answer. */
  exitedVcpu(model: Domain, index: number): Vcpu | undefined {
    for (const domain of this.domains) {
      const found = domain.vcpus.find((vcpu) => vcpu.model === model && vcpu.index === index);
      if (found) return found.state === VcpuState.EXITED ? found : undefined;
    }
    return undefined;
  }

  answer(vcpu: Vcpu, message: Uint8Array): void {
    vcpu.exitPage.write(0, message.slice(0, ExitMessageAt.SIZE));
    vcpu.state = VcpuState.READY;
  }

  revoke(cap: Capability): void {
    for (const child of [...cap.children]) {
      this.revoke(child);
      this.remove(child);
    }
  }

  remove(cap: Capability): void {
    cap.holder.caps.delete(cap.slot);
    cap.parent?.children.delete(cap);
    const { object } = cap;
    if (object.kind === "memory") {
      for (const { space } of this.domains) {
        const kept = space.mappings.filter((mapping) => mapping.through !== cap);
        for (let n = kept.length; n < space.mappings.length; n++) this.release(object);
        space.mappings.splice(0, space.mappings.length, ...kept);
      }
      this.release(object);
    }
    if (object.kind === "timer") this.timers.delete(object);
    if (object.kind === "irq") this.irqs.delete(object.line);
    if (object.kind === "channel" && object.channel.listeners[object.end]?.domain === cap.holder) {
      object.channel.listeners[object.end] = undefined;
    }
  }

  /** Removes [gpa, gpa + pages) from what is mapped, splitting mappings at its ends. */
  unmap(domain: Domain, gpa: number, pages: number): void {
    const end = gpa + pages * PAGE_SIZE;
    const { mappings } = domain.space;
    for (const mapping of mappings.splice(0)) {
      const mappingEnd = mapping.gpa + mapping.pages * PAGE_SIZE;
      const keep = (from: number, to: number): void => {
        if (from >= to) return;
        const first = mapping.first + (from - mapping.gpa) / PAGE_SIZE;
        domain.map(from, mapping.memory, first, (to - from) / PAGE_SIZE, mapping.access);
        mappings.at(-1)!.through = mapping.through;
      };
      keep(mapping.gpa, Math.min(mappingEnd, gpa));
      keep(Math.max(mapping.gpa, end), mappingEnd);
      this.release(mapping.memory);
    }
  }

  destroy(domain: Domain): void {
    domain.alive = false;
    this.domains.delete(domain);
    for (const other of this.domains) {
      for (const cap of [...other.caps.values()]) {
        const { object } = cap;
        if (object === domain || (object.kind === "vcpu" && object.domain === domain)) this.remove(cap);
      }
    }
    for (const vcpu of domain.vcpus) vcpu.model?.space.forget(vcpu.exitPage);
    for (const cap of [...domain.caps.values()]) {
      this.revoke(cap);
      this.remove(cap);
    }
    for (const mapping of domain.space.mappings.splice(0)) this.release(mapping.memory);
    if (domain.role === Role.DEVICE_MODEL) this.orphans(domain);
  }

  /** Ends a VM vCPU's domain or a component for the given reason and tells control. */
  fail(domain: Domain, failure: Failure, detail: number, text: string): void {
    this.traps.push({ label: domain.label, text });
    if (failure === Failure.TRAP) this.appendLog(undefined, `[${domain.label}] trap: ${text}`);
    this.appendLog(undefined, `domain ${domain.id} (${domain.label}) has failed: ${text}`);
    if (domain === this.control) return;
    domain.state = DomainState.FAILED;
    domain.failure = failure;
    domain.detail = detail;
    if (domain.role === Role.DEVICE_MODEL) this.orphans(domain);
    if (this.control) this.raise(this.control, EVENT_DOMAIN);
  }

  private orphans(model: Domain): void {
    for (const domain of this.domains) {
      if (domain.state !== DomainState.FAILED && domain.vcpus.some((vcpu) => vcpu.model === model)) {
        domain.state = DomainState.FAILED;
        domain.failure = Failure.ORPHAN;
        if (this.control) this.raise(this.control, EVENT_DOMAIN);
      }
    }
  }

  private release(memory: MemoryObject): void {
    if (--memory.references > 0) return;
    this.memories.delete(memory);
    memory.free();
  }

  /** Runs a piece of a component; its end is handled as the kernel does. */
  private protect(domain: Domain, run: () => void): void {
    try {
      run();
      if (domain === this.control) this.failing = 0;
    } catch (error) {
      if (!(error instanceof ComponentFault)) throw error;
      const failure = {
        trap: Failure.TRAP,
        memory: Failure.MEMORY,
        exit: Failure.EXIT,
        hang: Failure.HANG,
        replaced: Failure.REPLACED,
      }[error.cause_];
      if (failure !== Failure.REPLACED) this.fail(domain, failure, error.detail, error.message);
      if (domain === this.control) this.restartControl(domain, failure);
    }
  }

  private restarts = 0;
  /** Its ends without an event that it has handled. */
  private failing = 0;
  /** The WebAssembly of the control domain's images; kept: the memory that an upgrade gave. */
  private image!: { booted: Uint8Array; current: Uint8Array; before: Uint8Array };
  private readonly kept = new Map<Uint8Array, MemoryObject>();
  private trialOver = 0n;
  trial = false;

  /** An image of the model is a head of 16 bytes, as of a real one, and WebAssembly. */
  upgradeControl(memory: MemoryObject, cap: Capability): void {
    const head = new DataView(memory.read(0, 16).buffer);
    const wasm = memory.read(16, head.getUint32(IMAGE_SIZE_OFFSET, true) - 16);
    memory.references++;
    this.kept.set(wasm, memory);
    this.revoke(cap);
    this.remove(cap);
    this.image = { ...this.image, current: wasm, before: this.image.current };
  }

  /** False: no image is on trial. */
  confirmControl(): boolean {
    if (!this.trial) return false;
    this.forgetImage(this.image.before);
    this.image.before = this.image.booted;
    this.trial = false;
    this.trialOver = 0n;
    return true;
  }

  private forgetImage(wasm: Uint8Array): void {
    const memory = this.kept.get(wasm);
    if (memory) this.release(memory);
    this.kept.delete(wasm);
  }

  private endTrial(): void {
    if (this.trialOver > this.tsc) this.tsc = this.trialOver;
    this.protect(this.control!, () => {
      throw new ComponentFault("hang", 0, "it is not up in time");
    });
  }

  private restartControl(domain: Domain, failure: Failure): void {
    this.restarts++;
    if (++this.failing > 10) throw new Error(`control fails again and again: ${this.traps.at(-1)?.text}`);
    const { image } = this;
    const back = this.trial && failure !== Failure.REPLACED;
    this.trial = failure === Failure.REPLACED;
    this.trialOver = this.trial ? this.tsc + 10n * this.tscHz : 0n;
    if (back) {
      this.forgetImage(image.current);
      this.image = { booted: image.booted, current: image.before, before: image.booted };
    }
    if (back || this.trial) domain.component = new Component(this, domain, this.image.current);
    const info = { restarts: this.restarts, failure, trial: this.trial, rolledBack: back };
    this.protect(domain, () => domain.component!.start(info));
  }
}
