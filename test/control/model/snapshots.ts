// The hypercalls of snapshots: copies of memory, and the state of domains and vCPUs.
//
// What VCPU_SAVE gives of a VM's vCPU is what the model has of it; the rest of each part is zero.

import {
  DomainSnapshotAt,
  DomainState,
  ExitMessageAt,
  Hypercall,
  PAGE_SIZE,
  PageRangesAt,
  Right,
  Role,
  SavedFlag,
  SavedKind,
  SavedRowAt,
  Status,
  VcpuPart,
  VcpuRegistersAt,
  VcpuSnapshotAt,
  VcpuState,
} from "../../../control/gen/abi";
import { refuseIf } from "./faults";
import { needRoot, structure, type Call, type Handler } from "./hypercalls";
import { Timer, type Domain, type Vcpu } from "./objects";

/** Ranges in one answer of MEM_DIFF. */
const RANGES = Math.floor((PAGE_SIZE - PageRangesAt.SIZE) / 16);
const APIC_SIZE = 1024;

/** A point of a domain's time in the host's. */
export function hostTime(domain: Domain, tsc: bigint): bigint {
  return BigInt.asUintN(64, tsc - domain.tscOffset);
}

function pausedDomain(call: Call, slot: number): Domain {
  needRoot(call.caller);
  const domain = call.caller.object(slot, "domain", Right.CONTROL);
  refuseIf(domain.state !== DomainState.PAUSED, Status.BAD_STATE);
  return domain;
}

function pausedVcpu(call: Call, slot: number): Vcpu {
  needRoot(call.caller);
  const vcpu = call.caller.object(slot, "vcpu", Right.CONTROL);
  refuseIf(vcpu.domain.state !== DomainState.PAUSED, Status.BAD_STATE);
  return vcpu;
}

interface Row {
  kind: SavedKind;
  slot: number;
  value: bigint;
  event: number;
}

function rowsOf(domain: Domain): Row[] {
  const rows: Row[] = domain.doorbells.map(({ port, value, event }) => ({
    kind: SavedKind.DOORBELL,
    slot: port,
    value,
    event,
  }));
  for (const { object, slot } of domain.caps.values()) {
    if (object.kind === "timer") {
      const value = object.deadline === 0n ? 0n : object.deadline + domain.tscOffset;
      rows.push({ kind: SavedKind.TIMER, slot, value, event: object.event });
    }
    const listener = object.kind === "channel" ? object.channel.listeners[object.end] : undefined;
    if (listener?.domain === domain)
      rows.push({ kind: SavedKind.BINDING, slot, value: 0n, event: listener.event });
  }
  return rows;
}

function loadRow(call: Call, domain: Domain, { kind, slot, value, event }: Row): void {
  if (kind === SavedKind.TIMER) {
    const timer = new Timer(call.kernel.nextId(), domain, event);
    timer.deadline = value === 0n ? 0n : hostTime(domain, value);
    call.kernel.timers.add(timer);
    domain.put(slot, timer);
  } else if (kind === SavedKind.BINDING) {
    const end = domain.object(slot, "channel");
    end.channel.listeners[end.end] = { domain, event };
  } else domain.doorbells.push({ port: slot, value, domain: domain.vcpus[0]!.model!, event });
}

function checkRow(domain: Domain, { kind, slot, event }: Row): void {
  refuseIf(event < 16 || event > 63, Status.BAD_ARGUMENT);
  if (kind === SavedKind.TIMER) domain.freeSlot(slot);
  else if (kind === SavedKind.BINDING) domain.object(slot, "channel");
  else refuseIf(kind !== SavedKind.DOORBELL || domain.role !== Role.VM || slot > 0xffff, Status.BAD_ARGUMENT);
}

function savedRegisters(vcpu: Vcpu): Uint8Array {
  const bytes = new Uint8Array(VcpuSnapshotAt.SIZE);
  bytes.set(vcpu.registers);
  const view = new DataView(bytes.buffer);
  view.setUint32(VcpuSnapshotAt.state, vcpu.state, true);
  const waits = vcpu.domain.role !== Role.VM && vcpu.state !== VcpuState.STOPPED;
  view.setUint32(VcpuSnapshotAt.flags, waits ? SavedFlag.WAITING : 0, true);
  return bytes;
}

function savedPart(vcpu: Vcpu, part: number): Uint8Array {
  if (part === VcpuPart.REGISTERS) return savedRegisters(vcpu);
  if (vcpu.domain.role !== Role.VM || part === VcpuPart.VECTORS_HIGH) return new Uint8Array(0);
  if (part === VcpuPart.EXIT) return vcpu.exitPage.read(0, ExitMessageAt.SIZE);
  return new Uint8Array(part === VcpuPart.APIC ? APIC_SIZE : PAGE_SIZE);
}

export const snapshotHandlers: Partial<Record<Hypercall, Handler>> = {
  [Hypercall.MEM_CLONE]: (call, slot, source, payer = 0, to = 0, node = 0) => {
    needRoot(call.caller);
    refuseIf(node >= call.kernel.nodeFree.length, Status.BAD_ARGUMENT);
    const memory = call.caller.object(source, "memory", Right.READ);
    call.caller.freeSlot(slot);
    const domain = payer ? call.caller.object(payer, "domain", Right.CONTROL) : undefined;
    domain?.freeSlot(to);
    call.kernel.saveComponent(memory);
    const clone = call.kernel.addMemory(memory.pages, undefined, node);
    memory.cloneTo(clone);
    call.caller.put(slot, clone, Right.ALL, domain?.put(to, clone));
  },

  [Hypercall.MEM_PROMISE]: (call, slot, pages) => {
    needRoot(call.caller);
    const memory = call.caller.object(slot, "memory", Right.WRITE);
    refuseIf(pages > memory.pages, Status.BAD_ARGUMENT);
    const { kernel } = call;
    refuseIf(pages > kernel.freePages - kernel.promisedPages + memory.promised, Status.NO_MEMORY);
    memory.promised = pages;
  },

  [Hypercall.MEM_DIFF]: (call, slot, baseSlot, from) => {
    needRoot(call.caller);
    const memory = call.caller.object(slot, "memory", Right.READ);
    const base = baseSlot ? call.caller.object(baseSlot, "memory", Right.READ) : undefined;
    refuseIf((base !== undefined && base.pages !== memory.pages) || from > memory.pages, Status.BAD_ARGUMENT);
    const ranges: [number, number][] = [];
    let page = from;
    for (; page < memory.pages; page++) {
      if (!memory.differs(page, base)) continue;
      const last = ranges.at(-1);
      if (last && last[0] + last[1] === page) last[1]++;
      else if (ranges.length < RANGES) ranges.push([page, 1]);
      else break;
    }
    call.comm.fill(0);
    const view = new DataView(call.comm.buffer, call.comm.byteOffset);
    view.setBigUint64(PageRangesAt.next, BigInt(page), true);
    ranges.flat().forEach((value, n) => view.setBigUint64(PageRangesAt.SIZE + 8 * n, BigInt(value), true));
    return ranges.length;
  },

  [Hypercall.DOMAIN_SAVE]: (call, slot) => {
    const domain = pausedDomain(call, slot);
    const view = structure(call.comm, PAGE_SIZE);
    view.setBigUint64(DomainSnapshotAt.tsc, domain.pausedAt + domain.tscOffset, true);
    view.setBigUint64(DomainSnapshotAt.events, domain.component?.pending ?? 0n, true);
    view.setUint32(DomainSnapshotAt.started, domain.hasRun ? 1 : 0, true);
    const rows = rowsOf(domain);
    rows.forEach((row, n) => {
      const at = DomainSnapshotAt.SIZE + n * SavedRowAt.SIZE;
      view.setUint32(at + SavedRowAt.kind, row.kind, true);
      view.setUint32(at + SavedRowAt.slot, row.slot, true);
      view.setBigUint64(at + SavedRowAt.value, row.value, true);
      view.setUint32(at + SavedRowAt.event, row.event, true);
    });
    return rows.length;
  },

  [Hypercall.DOMAIN_LOAD]: (call, slot, count) => {
    const domain = pausedDomain(call, slot);
    refuseIf(domain.hasRun, Status.BAD_STATE);
    refuseIf(DomainSnapshotAt.SIZE + count * SavedRowAt.SIZE > PAGE_SIZE, Status.BAD_ARGUMENT);
    const view = new DataView(call.comm.slice().buffer);
    const rows = Array.from({ length: count }, (_, n): Row => {
      const at = DomainSnapshotAt.SIZE + n * SavedRowAt.SIZE;
      return {
        kind: view.getUint32(at + SavedRowAt.kind, true),
        slot: view.getUint32(at + SavedRowAt.slot, true),
        value: view.getBigUint64(at + SavedRowAt.value, true),
        event: view.getUint32(at + SavedRowAt.event, true),
      };
    });
    for (const row of rows) checkRow(domain, row);
    domain.tscOffset = view.getBigUint64(DomainSnapshotAt.tsc, true) - domain.pausedAt;
    domain.loadedEvents = view.getBigUint64(DomainSnapshotAt.events, true);
    for (const row of rows) loadRow(call, domain, row);
  },

  [Hypercall.VCPU_SAVE]: (call, slot, part) => {
    const vcpu = pausedVcpu(call, slot);
    refuseIf(part >= VcpuPart.COUNT, Status.BAD_ARGUMENT);
    const bytes = savedPart(vcpu, part);
    call.comm.set(bytes);
    return bytes.length;
  },

  [Hypercall.VCPU_LOAD]: (call, slot, part, length) => {
    const vcpu = pausedVcpu(call, slot);
    const { domain } = vcpu;
    refuseIf(part >= VcpuPart.COUNT, Status.BAD_ARGUMENT);
    refuseIf(domain.loadedEvents === undefined, Status.BAD_STATE);
    refuseIf(length !== savedPart(vcpu, part).length, Status.BAD_ARGUMENT);
    const bytes = call.comm.slice(0, length);
    if (part === VcpuPart.EXIT) vcpu.exitPage.write(0, bytes);
    if (part !== VcpuPart.REGISTERS) return;
    refuseIf(vcpu.state !== VcpuState.STOPPED, Status.BAD_STATE);
    const state = new DataView(bytes.buffer).getUint32(VcpuSnapshotAt.state, true) as VcpuState;
    refuseIf(state > VcpuState.EXITED, Status.BAD_ARGUMENT);
    vcpu.registers = bytes.slice(0, VcpuRegistersAt.SIZE);
    vcpu.state = state;
    domain.hasRun ||= domain.role === Role.VM;
    if (domain.role !== Role.VM && state !== VcpuState.STOPPED) call.kernel.resumeComponent(domain);
  },
};
