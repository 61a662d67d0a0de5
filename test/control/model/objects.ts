// The kernel's objects as the model keeps them: domains, vCPUs, channels, timers, interrupts, capabilities.

import {
  DomainState,
  Failure,
  PAGE_SIZE,
  Right,
  Role,
  Status,
  VcpuRegistersAt,
  VcpuState,
} from "../../../control/gen/abi";
import type { Component } from "./component";
import { refuseIf } from "./faults";
import { SHARE_DEFAULT, type Share } from "./shares";
import { AddressSpace, MemoryObject } from "./memory";

export class RootObject {
  readonly kind = "root";
  readonly id = 0;
}

export class Channel {
  readonly kind = "channel";
  /** Who listens at each end: the domain that bound it and the event bit. */
  readonly listeners: ({ domain: Domain; event: number } | undefined)[] = [undefined, undefined];
  constructor(readonly id: number) {}
}

/** A capability to a channel names one of its ends. */
export class ChannelEnd {
  readonly kind = "channel";
  constructor(
    readonly channel: Channel,
    readonly end: 0 | 1,
  ) {}
  get id(): number {
    return this.channel.id;
  }
}

export class Timer {
  readonly kind = "timer";
  deadline = 0n;
  constructor(
    readonly id: number,
    readonly domain: Domain,
    readonly event: number,
  ) {}
}

export class Irq {
  readonly kind = "irq";
  masked = false;
  /** An edge came while it was masked. */
  edge = false;
  constructor(
    readonly id: number,
    readonly line: number,
    readonly domain: Domain,
    readonly event: number,
  ) {}
}

export interface Interrupt {
  kind: "extint" | "extint-clear" | "nmi" | "msi";
  vector: number;
  address?: bigint;
}

export class Vcpu {
  readonly kind = "vcpu";
  state: VcpuState = VcpuState.STOPPED;
  registers: Uint8Array = new Uint8Array(VcpuRegistersAt.SIZE);
  /** The device model's side of it. */
  readonly exitPage: MemoryObject;
  readonly counters = new Map<number, number>();
  exits = 0;
  share: Share = SHARE_DEFAULT;
  /** TSC ticks beside those that its exits count for, and those that it waited. */
  runTime = 0n;
  readyTime = 0n;
  ipis = 0;
  constructor(
    readonly id: number,
    readonly domain: Domain,
    readonly index: number,
    readonly model: Domain | undefined,
  ) {
    this.exitPage = new MemoryObject(0, 1);
  }

  /** Its run time in TSC ticks. */
  get ran(): bigint {
    return BigInt(this.exits) * 1000n + this.runTime;
  }
}

export type KernelObject = RootObject | Domain | Vcpu | MemoryObject | ChannelEnd | Timer | Irq;

export class Capability {
  readonly children = new Set<Capability>();
  constructor(
    readonly object: KernelObject,
    readonly rights: number,
    readonly holder: Domain,
    readonly slot: number,
    readonly parent?: Capability,
  ) {
    parent?.children.add(this);
  }
}

export interface Doorbell {
  port: number;
  value: bigint;
  domain: Domain;
  event: number;
}

export class Domain {
  readonly kind = "domain";
  state: DomainState = DomainState.ACTIVE;
  failure: Failure = Failure.NONE;
  detail = 0;
  alive = true;
  tenant = 0;
  /** Component: what the kernel has counted of what was too much. */
  throttled = 0;
  logDropped = 0;
  readonly space = new AddressSpace();
  readonly caps = new Map<number, Capability>();
  readonly vcpus: Vcpu[] = [];
  readonly ports: { first: number; count: number }[] = [];
  readonly doorbells: Doorbell[] = [];
  /** Interrupts delivered to this VM, oldest first; tests read and empty it. */
  readonly interrupts: Interrupt[] = [];
  cpuid: Uint8Array = new Uint8Array(0);
  /** Its TSC less the host's, and the host's when it was paused. */
  tscOffset = 0n;
  pausedAt = 0n;
  /** One of its vCPUs has been started, or its state loaded. */
  hasRun = false;
  /** Component whose vCPU is still to be loaded: its events. */
  loadedEvents: bigint | undefined;
  /** Control, device models and drivers, once started. */
  component: Component | undefined;

  constructor(
    readonly id: number,
    readonly role: Role,
    readonly label: string,
    readonly quota: number,
    readonly slots: number,
  ) {}

  get mappedPages(): number {
    return this.space.mappings.reduce((sum, m) => sum + m.pages, 0);
  }

  /** Kernel memory that the real kernel would charge, roughly: tables, VMCS, capability table. */
  get kernelPages(): number {
    return 6 + 4 * this.vcpus.length + Math.ceil(this.mappedPages / (512 * 512));
  }

  cap(slot: number): Capability {
    const cap = this.caps.get(slot);
    refuseIf(!cap, Status.BAD_CAP);
    return cap!;
  }

  freeSlot(slot: number): void {
    refuseIf(slot === 0 || slot >= this.slots, Status.BAD_CAP);
    refuseIf(this.caps.has(slot), Status.IN_USE);
  }

  /** The object in a slot, if it is of that kind and the capability has the rights. */
  object<K extends KernelObject["kind"]>(
    slot: number,
    kind: K,
    rights = 0,
  ): Extract<KernelObject, { kind: K }> {
    const cap = this.cap(slot);
    refuseIf(cap.object.kind !== kind, Status.BAD_CAP);
    refuseIf((cap.rights & rights) !== rights, Status.NO_RIGHT);
    return cap.object as Extract<KernelObject, { kind: K }>;
  }

  put(slot: number, object: KernelObject, rights: number = Right.ALL, parent?: Capability): Capability {
    const cap = new Capability(object, rights, this, slot, parent);
    this.caps.set(slot, cap);
    if (object.kind === "memory") object.references++;
    return cap;
  }

  /** Maps pages at an address, or adds to the count of references only once per mapping. */
  map(gpa: number, memory: MemoryObject, first: number, pages: number, access: number): void {
    this.space.mappings.push({ gpa, memory, first, pages, access });
    memory.references++;
  }

  /** The pages that are mapped at the start of an area, as the info page tells a component. */
  areaSize(gpa: number): number {
    const mapping = this.space.at(gpa);
    return mapping ? mapping.pages * PAGE_SIZE : 0;
  }
}
