// The hypercalls of the model: each checks first and commits after, and returns the value in RDX.

import {
  CAP_MEMORY,
  CapInfoAt,
  CpuidRowAt,
  DomainInfoAt,
  DomainState,
  ENTROPY_MAX,
  EVENT_FREE,
  GPA_EXIT,
  GPA_RAM,
  Holding,
  HostInfoAt,
  Hypercall,
  IMAGE_MAX,
  InterruptKind,
  LABEL_SIZE,
  MAX_CPUID_ROWS,
  MAX_NODES,
  MAX_VCPUS,
  Mitigation,
  NodeInfoAt,
  ObjectType,
  PAGE_SIZE,
  RELEASE_MAX,
  Right,
  Role,
  Status,
  VcpuInfoAt,
  VcpuRegistersAt,
  VcpuState,
} from "../../../control/gen/abi";
import { ComponentFault, refuseIf } from "./faults";
import { hostCpuid } from "./host";
import type { KernelModel } from "./kernel-model";
import { MemoryObject } from "./memory";
import { admit } from "./shares";
import { hostTime, snapshotHandlers } from "./snapshots";
import { Channel, ChannelEnd, Domain, Irq, Timer, Vcpu, type Capability, type KernelObject } from "./objects";

export interface Call {
  kernel: KernelModel;
  caller: Domain;
  comm: Uint8Array;
  /** Arguments as numbers; those above 2^53 are in `wide` only. */
  args: number[];
  wide: bigint[];
}

export type Handler = (call: Call, ...args: number[]) => bigint | number | void;

const OBJECT_TYPES: Record<KernelObject["kind"], ObjectType> = {
  root: ObjectType.ROOT,
  domain: ObjectType.DOMAIN,
  vcpu: ObjectType.VCPU,
  memory: ObjectType.MEMORY,
  channel: ObjectType.CHANNEL,
  timer: ObjectType.TIMER,
  irq: ObjectType.IRQ,
};

export function structure(comm: Uint8Array, size: number): DataView {
  comm.fill(0, 0, size);
  return new DataView(comm.buffer, comm.byteOffset, size);
}

export function needRoot(caller: Domain): void {
  const held = [...caller.caps.values()].some((cap) => cap.object.kind === "root");
  refuseIf(!held, Status.NO_RIGHT);
}

function commText(call: Call, length: number): string {
  refuseIf(length > PAGE_SIZE, Status.BAD_ARGUMENT);
  return Buffer.from(call.comm.subarray(0, length)).toString();
}

function needEvent(event: number): void {
  refuseIf(event < EVENT_FREE || event > 63, Status.BAD_ARGUMENT);
}

function vmDomain(call: Call, slot: number): Domain {
  const domain = call.caller.object(slot, "domain", Right.INTERRUPT);
  refuseIf(domain.role !== Role.VM, Status.BAD_CAP);
  return domain;
}

/** What a capability says of its object. */
function describe(view: DataView, { object, rights }: Capability): void {
  view.setUint32(CapInfoAt.type, OBJECT_TYPES[object.kind], true);
  view.setUint32(CapInfoAt.rights, rights, true);
  view.setBigUint64(CapInfoAt.object_id, BigInt(object.id), true);
  if (object.kind === "memory") view.setBigUint64(CapInfoAt.pages, BigInt(object.pages), true);
  if (object.kind === "memory") view.setBigUint64(CapInfoAt.present, BigInt(object.present), true);
  if (object.kind === "channel") view.setUint32(CapInfoAt.index, object.end, true);
  const domain = object.kind === "domain" ? object : object.kind === "vcpu" ? object.domain : undefined;
  if (object.kind === "vcpu") view.setUint32(CapInfoAt.index, object.index, true);
  if (!domain) return;
  view.setUint32(CapInfoAt.domain_id, domain.id, true);
  view.setUint32(CapInfoAt.role, domain.role, true);
  Buffer.from(domain.label)
    .subarray(0, LABEL_SIZE - 1)
    .forEach((byte, n) => view.setUint8(CapInfoAt.label + n, byte));
}

const LIST_ROWS = Math.floor(PAGE_SIZE / CapInfoAt.SIZE);
type Row = (view: DataView) => void;

function holdCaps(domain: Domain, from: number): Row[] {
  const caps = [...domain.caps.values()].filter(({ slot }) => slot >= from).sort((a, b) => a.slot - b.slot);
  return caps.map((cap) => (view) => {
    describe(view, cap);
    view.setBigUint64(CapInfoAt.first, BigInt(cap.slot), true);
  });
}

function holdMappings(domain: Domain, from: number): Row[] {
  // A page without an object is the kernel's own: an exit page.
  const mappings = domain.space.mappings.filter(({ memory }) => memory.id !== 0).slice(from);
  return mappings.map(({ memory, access, pages, gpa, first }) => (view) => {
    view.setUint32(CapInfoAt.type, ObjectType.MEMORY, true);
    view.setUint32(CapInfoAt.rights, access, true);
    view.setBigUint64(CapInfoAt.object_id, BigInt(memory.id), true);
    view.setBigUint64(CapInfoAt.pages, BigInt(pages), true);
    view.setBigUint64(CapInfoAt.address, BigInt(gpa), true);
    view.setBigUint64(CapInfoAt.first, BigInt(first), true);
  });
}

function holdPorts(domain: Domain, from: number): Row[] {
  const ports = [...domain.ports].sort((a, b) => a.first - b.first).filter(({ first }) => first >= from);
  return ports.map(({ first, count }) => (view) => {
    view.setBigUint64(CapInfoAt.address, BigInt(first), true);
    view.setBigUint64(CapInfoAt.pages, BigInt(count), true);
  });
}

export const handlers: Partial<Record<Hypercall, Handler>> = {
  ...snapshotHandlers,

  [Hypercall.NULL]: () => 0,

  [Hypercall.LOG]: (call, length) => call.kernel.appendLog(call.caller, commText(call, length)),

  [Hypercall.TRAP]: (call, length) => {
    throw new ComponentFault("trap", 0, commText(call, length));
  },

  [Hypercall.CAP_INFO]: (call, slot) => {
    const view = structure(call.comm, CapInfoAt.SIZE);
    describe(view, call.caller.cap(slot));
    view.setUint32(CapInfoAt.slots, call.caller.slots, true);
  },

  [Hypercall.CAP_LIST]: (call, slot, what, from) => {
    needRoot(call.caller);
    const domain = call.caller.object(slot, "domain", Right.READ);
    refuseIf(what > Holding.PORTS, Status.BAD_ARGUMENT);
    call.comm.fill(0);
    const rows = [holdCaps, holdMappings, holdPorts][what]!(domain, from).slice(0, LIST_ROWS);
    rows.forEach((fill, n) =>
      fill(new DataView(call.comm.buffer, call.comm.byteOffset + n * CapInfoAt.SIZE)),
    );
    return rows.length;
  },

  [Hypercall.CAP_GRANT]: (call, to, slot, own, rights) => {
    const domain = call.caller.object(to, "domain", Right.CONTROL);
    const cap = call.caller.cap(own);
    refuseIf(!(cap.rights & Right.GRANT), Status.NO_RIGHT);
    refuseIf((cap.rights & rights) !== rights, Status.NO_RIGHT);
    domain.freeSlot(slot);
    domain.put(slot, cap.object, rights, cap);
  },

  [Hypercall.CAP_REVOKE]: (call, slot) => call.kernel.revoke(call.caller.cap(slot)),

  [Hypercall.CAP_DROP]: (call, slot) => {
    const cap = call.caller.cap(slot);
    call.kernel.revoke(cap);
    call.kernel.remove(cap);
  },

  [Hypercall.UPGRADE]: (call, slot) => {
    needRoot(call.caller);
    if (slot === 0) return refuseIf(!call.kernel.confirmControl(), Status.BAD_STATE);
    const memory = call.caller.object(slot, "memory", Right.ALL);
    refuseIf(memory.pages * PAGE_SIZE > IMAGE_MAX, Status.BAD_ARGUMENT);
    const cap = call.caller.cap(slot);
    refuseIf(call.kernel.trial || cap.parent !== undefined, Status.BAD_STATE);
    call.kernel.upgradeControl(memory, cap);
    throw new ComponentFault("replaced", 0, "replaced");
  },

  [Hypercall.DOMAIN_CREATE]: (call, slot, role, quota, slots, tenant = 0) => {
    needRoot(call.caller);
    refuseIf(role > Role.VM || slots === 0 || slots > 1024, Status.BAD_ARGUMENT);
    call.caller.freeSlot(slot);
    refuseIf(quota > call.kernel.freePages, Status.NO_MEMORY);
    const label = Buffer.from(call.comm.subarray(0, LABEL_SIZE)).toString().replace(/\0.*$/, "");
    const domain = call.kernel.addDomain(role, label, quota, slots);
    domain.tenant = tenant;
    domain.put(1, domain, Right.READ);
    call.caller.put(slot, domain);
  },

  [Hypercall.DOMAIN_DESTROY]: (call, slot) => {
    const domain = call.caller.object(slot, "domain", Right.CONTROL);
    refuseIf(domain === call.caller, Status.BAD_ARGUMENT);
    call.kernel.destroy(domain);
  },

  [Hypercall.DOMAIN_PAUSE]: (call, slot, withModel = 0) => {
    const domain = call.caller.object(slot, "domain", Right.CONTROL);
    refuseIf(domain.role !== Role.VM, Status.BAD_CAP);
    refuseIf(withModel > 1, Status.BAD_ARGUMENT);
    const model = withModel === 1 ? domain.vcpus[0]?.model : undefined;
    const active = [domain, model].filter((each) => each?.state === DomainState.ACTIVE);
    const failed = [domain, model].some((each) => each?.state === DomainState.FAILED);
    refuseIf(active.length === 0 || failed, Status.BAD_STATE);
    for (const each of active) call.kernel.pause(each!);
  },

  [Hypercall.DOMAIN_RESUME]: (call, slot) => {
    const domain = call.caller.object(slot, "domain", Right.CONTROL);
    refuseIf(domain.state !== DomainState.PAUSED, Status.BAD_STATE);
    call.kernel.resume(domain);
    const model = domain.vcpus[0]?.model;
    if (model?.state === DomainState.PAUSED) call.kernel.resume(model);
  },

  [Hypercall.DOMAIN_INFO]: (call, slot) => {
    const domain = call.caller.object(slot, "domain", Right.READ);
    const view = structure(call.comm, DomainInfoAt.SIZE);
    view.setUint32(DomainInfoAt.id, domain.id, true);
    view.setUint32(DomainInfoAt.role, domain.role, true);
    view.setUint32(DomainInfoAt.state, domain.state, true);
    view.setUint32(DomainInfoAt.failure, domain.failure, true);
    view.setBigUint64(DomainInfoAt.detail, BigInt(domain.detail), true);
    view.setBigUint64(DomainInfoAt.mapped_pages, BigInt(domain.mappedPages), true);
    view.setUint32(DomainInfoAt.kernel_pages, domain.kernelPages, true);
    view.setUint32(DomainInfoAt.kernel_quota, domain.quota, true);
    view.setUint32(DomainInfoAt.vcpus, domain.vcpus.length, true);
    view.setBigUint64(DomainInfoAt.throttled, BigInt(domain.throttled), true);
    view.setBigUint64(DomainInfoAt.log_dropped, BigInt(domain.logDropped), true);
    view.setUint32(DomainInfoAt.caps, domain.caps.size, true);
    const vm = [...call.kernel.domains].find(({ vcpus }) => vcpus.some(({ model }) => model === domain));
    view.setUint32(DomainInfoAt.peer, (vm ?? domain.vcpus[0]?.model)?.id ?? 0, true);
    call.comm.set(Buffer.from(domain.label).subarray(0, LABEL_SIZE - 1), DomainInfoAt.label);
  },

  [Hypercall.MEM_CREATE]: (call, slot, pages, payer = 0, node = 0) => {
    needRoot(call.caller);
    refuseIf(node >= call.kernel.nodeFree.length, Status.BAD_ARGUMENT);
    refuseIf(pages === 0, Status.BAD_ARGUMENT);
    call.caller.freeSlot(slot);
    const domain = payer ? call.caller.object(payer, "domain", Right.CONTROL) : undefined;
    domain?.freeSlot(CAP_MEMORY);
    refuseIf(domain === call.caller && slot === CAP_MEMORY, Status.IN_USE);
    refuseIf(pages > call.kernel.freePages - call.kernel.promisedPages, Status.NO_MEMORY);
    const memory = call.kernel.addMemory(pages, undefined, node);
    call.caller.put(slot, memory, Right.ALL, domain?.put(CAP_MEMORY, memory));
  },

  [Hypercall.MEM_NODES]: (call, slot, page) => {
    needRoot(call.caller);
    const memory = call.caller.object(slot, "memory", Right.READ);
    refuseIf(page > memory.pages, Status.BAD_ARGUMENT);
    const view = structure(call.comm, 8 * MAX_NODES);
    const [next, counts] = memory.count(page);
    counts.forEach((pages, node) => view.setBigUint64(8 * node, BigInt(pages), true));
    return next;
  },

  [Hypercall.MEM_RELEASE]: (call, slot, first, pages) => {
    const memory = call.caller.object(slot, "memory", Right.WRITE);
    refuseIf(pages === 0 || pages > RELEASE_MAX || first + pages > memory.pages, Status.BAD_ARGUMENT);
    memory.release(first, pages);
  },

  [Hypercall.MEM_MAP]: (call, slot, memorySlot, gpa, first, pages, access) => {
    const domain = call.caller.object(slot, "domain", Right.WRITE);
    const memory = call.caller.object(memorySlot, "memory");
    refuseIf((call.caller.cap(memorySlot).rights & access) !== access, Status.NO_RIGHT);
    refuseIf(gpa % PAGE_SIZE !== 0 || pages === 0 || access === 0 || access > 7, Status.BAD_ARGUMENT);
    refuseIf(first + pages > memory.pages, Status.BAD_ARGUMENT);
    refuseIf(domain.space.overlaps(gpa, pages), Status.IN_USE);
    domain.map(gpa, memory, first, pages, access);
    domain.space.at(gpa)!.through = call.caller.cap(memorySlot);
  },

  [Hypercall.MEM_UNMAP]: (call, slot, gpa, pages) => {
    const domain = call.caller.object(slot, "domain", Right.WRITE);
    refuseIf(gpa % PAGE_SIZE !== 0 || pages === 0, Status.BAD_ARGUMENT);
    call.kernel.unmap(domain, gpa, pages);
  },

  [Hypercall.VCPU_CREATE]: (call, slot, domainSlot, index, modelSlot) => {
    const domain = call.caller.object(domainSlot, "domain", Right.CONTROL);
    const model = modelSlot === 0 ? undefined : call.caller.object(modelSlot, "domain", Right.CONTROL);
    refuseIf(index >= MAX_VCPUS, Status.BAD_ARGUMENT);
    refuseIf(domain.role === Role.VM && !model, Status.BAD_ARGUMENT);
    refuseIf(domain.role !== Role.VM && (!!model || index !== 0), Status.BAD_ARGUMENT);
    refuseIf(
      domain.vcpus.some((vcpu) => vcpu.model !== model),
      Status.BAD_ARGUMENT,
    );
    refuseIf(
      domain.vcpus.some((vcpu) => vcpu.index === index),
      Status.IN_USE,
    );
    call.caller.freeSlot(slot);
    const vcpu = new Vcpu(call.kernel.nextId(), domain, index, model);
    domain.vcpus.push(vcpu);
    model?.map(GPA_EXIT + index * PAGE_SIZE, vcpu.exitPage, 0, 1, Right.READ | Right.WRITE);
    call.caller.put(slot, vcpu);
  },

  [Hypercall.VCPU_SET]: (call, slot) => {
    const vcpu = call.caller.object(slot, "vcpu", Right.CONTROL);
    refuseIf(vcpu.domain.role !== Role.VM || vcpu.state !== VcpuState.STOPPED, Status.BAD_STATE);
    vcpu.registers = call.comm.slice(0, VcpuRegistersAt.SIZE);
  },

  [Hypercall.VCPU_GET]: (call, slot) => {
    const vcpu = call.caller.object(slot, "vcpu", Right.READ);
    call.comm.set(vcpu.registers);
  },

  [Hypercall.VCPU_START]: (call, slot) => {
    const vcpu = call.caller.object(slot, "vcpu", Right.CONTROL);
    refuseIf(vcpu.state !== VcpuState.STOPPED, Status.BAD_STATE);
    vcpu.state = VcpuState.READY;
    vcpu.domain.hasRun = true;
    if (vcpu.domain.role !== Role.VM) {
      refuseIf(!vcpu.domain.areaSize(GPA_RAM), Status.BAD_STATE);
      call.kernel.startComponent(vcpu.domain);
    }
  },

  [Hypercall.VCPU_STOP]: (call, slot) => {
    call.caller.object(slot, "vcpu", Right.CONTROL).state = VcpuState.STOPPED;
  },

  [Hypercall.BRAKE]: (call, tenant, exits, ipis, calls, log) => {
    needRoot(call.caller);
    refuseIf(tenant === 0 || tenant > 63, Status.BAD_ARGUMENT);
    call.kernel.brakes.set(tenant!, [exits!, ipis!, calls!, log!]);
  },

  [Hypercall.PARTITION]: (call, tenant, service, ways, delay) => {
    needRoot(call.caller);
    const { hostCpuid: cpuid = hostCpuid } = call.kernel.options;
    const [, resources = 0] = cpuid(0x10, 0);
    const length = resources & 2 ? (cpuid(0x10, 1)[0]! & 31) + 1 : 0;
    const longest = resources & 8 ? (cpuid(0x10, 3)[0]! & 0xfff) + 1 : 0;
    const end = ways! + (ways! & -ways!);
    refuseIf(resources === 0 || tenant! > 63 || delay! > longest, Status.BAD_ARGUMENT);
    refuseIf(service! > Math.min(...[1, 3].map((n) => cpuid(0x10, n)[3]!)), Status.BAD_ARGUMENT);
    refuseIf((ways === 0) !== (length === 0) || ways! >> length !== 0, Status.BAD_ARGUMENT);
    refuseIf((end & ways!) !== 0, Status.BAD_ARGUMENT);
    call.kernel.services.set(tenant!, service!);
    call.kernel.classes.set(service!, [ways!, delay!]);
  },

  [Hypercall.VCPU_SHARE]: (call, slot) => {
    needRoot(call.caller);
    const vcpu = call.caller.object(slot, "vcpu", Right.CONTROL);
    vcpu.share = admit(call.comm, vcpu, call.kernel);
  },

  [Hypercall.VCPU_INTERRUPT]: (call, slot, kind, vector) => {
    const vcpu = call.caller.object(slot, "vcpu", Right.INTERRUPT);
    refuseIf(kind > InterruptKind.NMI || vector > 255, Status.BAD_ARGUMENT);
    const name = (["extint", "extint-clear", "nmi"] as const)[kind]!;
    vcpu.domain.interrupts.push({ kind: name, vector });
  },

  [Hypercall.VCPU_INFO]: (call, slot) => {
    const vcpu = call.caller.object(slot, "vcpu", Right.READ);
    const view = structure(call.comm, VcpuInfoAt.SIZE);
    view.setUint32(VcpuInfoAt.state, vcpu.state, true);
    view.setUint32(VcpuInfoAt.cpu, vcpu.share.cpu, true);
    view.setUint32(VcpuInfoAt.scheduling, vcpu.share.scheduling, true);
    view.setBigUint64(VcpuInfoAt.run_time, vcpu.ran, true);
    view.setBigUint64(VcpuInfoAt.ready_time, vcpu.readyTime, true);
    view.setBigUint64(VcpuInfoAt.exits, BigInt(vcpu.exits), true);
    view.setBigUint64(VcpuInfoAt.ipis, BigInt(vcpu.ipis), true);
    view.setBigUint64(VcpuInfoAt.forwarded, BigInt(vcpu.exits), true);
    view.setBigUint64(VcpuInfoAt.interrupts, BigInt(vcpu.domain.interrupts.length), true);
    for (const [reason, count] of vcpu.counters) {
      view.setBigUint64(VcpuInfoAt.counters + reason * 8, BigInt(count), true);
    }
  },

  [Hypercall.MSI]: (call, slot, _address, data) => {
    const domain = vmDomain(call, slot);
    domain.interrupts.push({ kind: "msi", vector: data & 0xff, address: call.wide[1]! });
  },

  [Hypercall.CPUID_SET]: (call, slot, rows) => {
    const domain = call.caller.object(slot, "domain", Right.CONTROL);
    refuseIf(rows > MAX_CPUID_ROWS, Status.BAD_ARGUMENT);
    const table = call.comm.slice(0, rows * CpuidRowAt.SIZE);
    const view = new DataView(table.buffer);
    for (let row = 1; row < rows; row++) {
      const key = (n: number): number =>
        view.getUint32(n * CpuidRowAt.SIZE, true) * 2 ** 20 + view.getUint32(n * CpuidRowAt.SIZE + 4, true);
      refuseIf(key(row) <= key(row - 1), Status.BAD_ARGUMENT);
    }
    domain.cpuid = table;
  },

  [Hypercall.DOORBELL]: (call, slot, port, _value, event) => {
    const domain = vmDomain(call, slot);
    const value = call.wide[2]!;
    refuseIf(port > 0xffff, Status.BAD_ARGUMENT);
    const index = domain.doorbells.findIndex((bell) => bell.port === port && bell.value === value);
    if (event === 0) {
      refuseIf(index < 0, Status.BAD_ARGUMENT);
      domain.doorbells.splice(index, 1);
      return;
    }
    needEvent(event);
    refuseIf(index >= 0, Status.IN_USE);
    domain.doorbells.push({ port, value, domain: call.caller, event });
  },

  [Hypercall.CHANNEL_CREATE]: (call, slotA, slotB) => {
    needRoot(call.caller);
    refuseIf(slotA === slotB, Status.BAD_ARGUMENT);
    call.caller.freeSlot(slotA);
    call.caller.freeSlot(slotB);
    const channel = new Channel(call.kernel.nextId());
    call.caller.put(slotA, new ChannelEnd(channel, 0));
    call.caller.put(slotB, new ChannelEnd(channel, 1));
  },

  [Hypercall.CHANNEL_BIND]: (call, slot, event) => {
    const end = call.caller.object(slot, "channel");
    needEvent(event);
    end.channel.listeners[end.end] = { domain: call.caller, event };
  },

  [Hypercall.CHANNEL_SIGNAL]: (call, slot) => {
    const end = call.caller.object(slot, "channel");
    const listener = end.channel.listeners[1 - end.end];
    if (listener) call.kernel.raise(listener.domain, listener.event);
  },

  [Hypercall.TIMER_CREATE]: (call, slot, event) => {
    needEvent(event);
    call.caller.freeSlot(slot);
    const timer = new Timer(call.kernel.nextId(), call.caller, event);
    call.kernel.timers.add(timer);
    call.caller.put(slot, timer);
  },

  [Hypercall.TIMER_SET]: (call, slot) => {
    const deadline = call.wide[1]!;
    call.caller.object(slot, "timer").deadline = deadline === 0n ? 0n : hostTime(call.caller, deadline);
  },

  [Hypercall.IRQ_CREATE]: (call, slot, line, event) => {
    needRoot(call.caller);
    refuseIf(line > 15, Status.BAD_ARGUMENT);
    needEvent(event);
    call.caller.freeSlot(slot);
    refuseIf(call.kernel.irqs.has(line), Status.IN_USE);
    const irq = new Irq(call.kernel.nextId(), line, call.caller, event);
    call.kernel.irqs.set(line, irq);
    call.caller.put(slot, irq);
  },

  [Hypercall.IRQ_ACK]: (call, slot) => call.kernel.acknowledge(call.caller.object(slot, "irq")),

  [Hypercall.PORTS_MAP]: (call, slot, first, count) => {
    needRoot(call.caller);
    const domain = call.caller.object(slot, "domain");
    refuseIf(count === 0 || first + count > 0x10000, Status.BAD_ARGUMENT);
    domain.ports.push({ first, count });
  },

  [Hypercall.HOST_INFO]: (call) => {
    needRoot(call.caller);
    const { kernel } = call;
    const view = structure(call.comm, HostInfoAt.SIZE + MAX_NODES * NodeInfoAt.SIZE);
    view.setBigUint64(HostInfoAt.total_pages, BigInt(kernel.totalPages), true);
    view.setBigUint64(HostInfoAt.free_pages, BigInt(kernel.freePages), true);
    view.setBigUint64(HostInfoAt.kernel_pages, BigInt(kernel.kernelPages), true);
    view.setBigUint64(HostInfoAt.log_position, BigInt(kernel.logBytes.length), true);
    view.setBigUint64(HostInfoAt.idle_time, kernel.idleTime, true);
    view.setBigUint64(HostInfoAt.control_time, 0n, true);
    view.setBigUint64(HostInfoAt.uptime, kernel.now() - kernel.bootTsc, true);
    view.setBigUint64(HostInfoAt.promised_pages, BigInt(kernel.promisedPages), true);
    view.setBigUint64(HostInfoAt.clean_pages, BigInt(kernel.freePages), true);
    view.setUint32(HostInfoAt.cpus, kernel.options.cpus ?? 1, true);
    view.setUint32(HostInfoAt.domains, kernel.domains.size, true);
    view.setBigUint64(HostInfoAt.nodes, BigInt(kernel.nodeFree.length), true);
    kernel.nodeFree.forEach((free, n) => {
      const at = HostInfoAt.SIZE + n * NodeInfoAt.SIZE;
      view.setUint32(at + NodeInfoAt.id, kernel.options.nodes?.[n]?.id ?? 0, true);
      view.setBigUint64(at + NodeInfoAt.free_pages, BigInt(free), true);
    });
  },

  [Hypercall.HOST_CPUID]: (call, leaf, subleaf) => {
    needRoot(call.caller);
    const view = structure(call.comm, 16);
    call.kernel.hostCpuid(leaf, subleaf).forEach((value, n) => view.setUint32(n * 4, value, true));
  },

  [Hypercall.FIRMWARE_READ]: (call, address, length) => {
    needRoot(call.caller);
    refuseIf(call.wide[0]! >> 46n !== 0n || call.kernel.isRam(address), Status.BAD_ARGUMENT);
    refuseIf(length > PAGE_SIZE - (address % PAGE_SIZE), Status.BAD_ARGUMENT);
    call.comm.set(call.kernel.firmwareRead(address, length));
  },

  [Hypercall.HOST_LOG]: (call, position) => {
    needRoot(call.caller);
    const log = call.kernel.logBytes;
    const first = Math.min(position, log.length);
    const piece = log.subarray(first, first + PAGE_SIZE - 1);
    call.comm.set(piece);
    return (BigInt(first) << 12n) | BigInt(piece.length);
  },

  [Hypercall.ENTROPY]: (call, length) => {
    refuseIf(length > ENTROPY_MAX, Status.BAD_ARGUMENT);
    for (let i = 0; i < length; i++) call.comm[i] = (i * 73 + 5) & 0xff;
  },

  [Hypercall.MITIGATE]: (call, same, within, between) => {
    needRoot(call.caller);
    const available = call.kernel.options.mitigations ?? 0;
    refuseIf(
      [same, within, between].some((bits) => (bits & ~available) !== 0),
      Status.BAD_ARGUMENT,
    );
    refuseIf((same & Mitigation.L1D) !== 0, Status.BAD_ARGUMENT);
    call.kernel.mitigations = [same, within, between];
  },

  [Hypercall.HOST_RESET]: (call) => {
    needRoot(call.caller);
    call.kernel.resetRequested = true;
  },
};

export type { MemoryObject };
