// A VM as the control domain knows it: its specification, its state, and the link while it has one.

import {
  FIELD_HELD,
  FIELD_KEPT,
  FIELD_LAST_EXIT,
  FIELD_MEMORY,
  FIELD_NAME,
  FIELD_NODE,
  FIELD_PROTECTED,
  FIELD_REASON,
  FIELD_RESTARTS,
  FIELD_SINCE_MS,
  FIELD_STATE,
  FIELD_SPEC,
  FIELD_TAGS,
  FIELD_TARGET,
  FIELD_TENANT,
  FIELD_VCPUS,
  STATE_CRASHED,
  STATE_MOVED,
  STATE_PAUSED,
  STATE_RUNNING,
  STATE_STARTING,
  STATE_STOPPED,
  TENANT_DEFAULT,
} from "../protocol/schema";
import { ControlLink } from "../lib/link";
import { uptimeMs } from "./host";
import { Port } from "./port";
import { MAX_NETWORKS } from "./slots";
import { knownFields, namesToValue, readVmSpec, VmSpec } from "./spec";
import { clean } from "./text";
import { Value } from "./value";

/** Where a network card of a VM is plugged in. */
export class Card {
  constructor(
    /** The network's number on this host. */
    public network: u32,
    public side: u32,
  ) {}
}

/** The most that was told of a VM's run time: what its CPU has not accounted yet may be read as a little less later. */
export class Told {
  run: u64 = 0;
  model: u64 = 0;
  private generation: u32 = 0;

  raise(generation: u32, run: u64, model: u64): void {
    const again = generation == this.generation;
    this.generation = generation;
    this.run = again ? max(this.run, run) : run;
    this.model = again ? max(this.model, model) : model;
  }
}

/** A VM has another state than before, or something is due: vmsTick looks at all of them again. */
let changed = true;

/** Whether one has since the last call. */
export function vmsChanged(): bool {
  const was = changed;
  changed = false;
  return was;
}

export class Vm {
  /** VMs are listed in this order; 0: it has no place yet. */
  order: u32 = 0;
  state: string = STATE_STOPPED;
  reason: string = "created";
  since: u64 = 0;
  lastExit: string = "";
  /** Whether its two domains exist. */
  alive: bool = false;
  /** Those that descend from one VM by snapshots may share memory; 0: it shares none. */
  family: u32 = 0;
  /** The newest snapshot since which it has stood still; "": it has run since, or there is none. */
  kept: string = "";
  /** Whether its disks and flash memory hold what their images hold, or what it has made of that. */
  disksFilled: bool = false;
  /** The places of its network cards, as many as in its specification once it is created. */
  cards: Card[] = [];
  /** Present from the first start to `rm`: its console can be read after the VM has ended. */
  link: ControlLink | null = null;
  /** Its named ports, while it has a link. */
  ports: Port[] = [];
  /** Counts the links the VM has had, so that a reader notices a new one. */
  generation: u32 = 0;
  told: Told = new Told();
  /** Who types into its console: a session, 0: nobody; its name, and until when a program's holds. */
  holder: u32 = 0;
  heldBy: string = "";
  heldUntil: u64 = 0;
  /** Bytes that count for its tenant: its memory, its disks and what is beside them. */
  cost: u64 = 0;
  /** What a balloon should leave it of its memory, in bytes. */
  target: u64 = 0;
  /** The CPUs on which policy hooks want it; none: any. */
  placed: i32[] = [];
  /** The place of the node that its memory is of, in nodesNow(), while it is up; -1: of any. */
  node: i32 = -1;
  /** What of that the host holds back since it lacks memory, and when that changed: balloons.ts. */
  held: u64 = 0;
  heldAt: u64 = 0;
  /** Of a copy that policy makes: its run time when that was looked at last, and when it was asked to power off. */
  scaleRun: u64 = 0;
  pressedAt: u64 = 0;
  /** When it was restarted by policy, within the window. */
  restarts: u64[] = [];
  restartCount: u32 = 0;
  /** When its rates were looked at last, what had been counted then, and the rates of the time before. */
  sampledAt: u64 = 0;
  sampledExits: u64 = 0;
  sampledIpis: u64 = 0;
  sampledCalls: u64 = 0;
  rates: Value | null = null;
  private due: u64 = 0;
  /** Whether the administrator has asked it to power off: then no policy starts it again. */
  stopping: bool = false;

  constructor(
    public index: u32,
    public spec: VmSpec,
  ) {
    this.since = uptimeMs();
    this.target = spec.balloon > 0 ? spec.balloon : spec.memory;
  }

  get name(): string {
    return this.spec.name;
  }

  /** When a start by specification or policy is due; 0: none. */
  get restartAt(): u64 {
    return this.due;
  }

  set restartAt(at: u64) {
    this.due = at;
    changed = true;
  }

  /** Sets state and reason; `since` is when the state was entered. */
  enter(state: string, reason: string): void {
    changed = true;
    if (this.state != state) this.since = uptimeMs();
    if (state != STATE_PAUSED && state != STATE_MOVED) this.kept = "";
    this.state = state;
    this.reason = reason;
  }

  /** The place of the node of which it gets memory. */
  get nodePlace(): u32 {
    return max(this.node, 0);
  }

  /** What a balloon should leave it now. */
  get leaves(): u64 {
    if (this.spec.floor == 0) return this.target;
    const least = min(this.spec.floor, this.target);
    return this.target > least + this.held ? this.target - this.held : least;
  }

  /** Whether another host has it: then nothing starts it here. */
  get moved(): bool {
    return this.state == STATE_MOVED;
  }

  get ended(): bool {
    return this.state == STATE_STOPPED || this.state == STATE_CRASHED;
  }

  /** Its row in `ls`. */
  toRow(): Value {
    const now = uptimeMs();
    const row = Value.map()
      .putText(FIELD_NAME, this.name)
      .putText(FIELD_STATE, this.state)
      .putText(FIELD_REASON, this.reason)
      .putUint(FIELD_MEMORY, this.spec.memory)
      .putUint(FIELD_VCPUS, this.spec.vcpus)
      .putUint(FIELD_SINCE_MS, now > this.since ? now - this.since : 0);
    if (this.spec.tenant != TENANT_DEFAULT) row.putText(FIELD_TENANT, this.spec.tenant);
    if (this.spec.tags.length > 0) row.put(FIELD_TAGS, namesToValue(this.spec.tags));
    if (this.spec.guarded) row.putBool(FIELD_PROTECTED, true);
    return row;
  }

  /** What a successor of this control domain must know. */
  toStash(): Value {
    const cards = Value.list();
    for (let i = 0; i < this.cards.length; i++)
      cards.add(Value.uint((this.cards[i].network << 1) | this.cards[i].side));
    return Value.map()
      .put("cards", cards)
      .putUint("order", this.order)
      .put(FIELD_SPEC, this.spec.toValue())
      .putText(FIELD_STATE, this.state)
      .putText(FIELD_REASON, this.reason)
      .putUint("since", this.since)
      .putUint(FIELD_TARGET, this.target)
      .putUint(FIELD_HELD, this.held)
      .putText(FIELD_LAST_EXIT, this.lastExit)
      .putUint(FIELD_RESTARTS, this.restartCount)
      .putUint("family", this.family)
      .putUint(FIELD_NODE, this.node + 1)
      .putText(FIELD_KEPT, this.kept)
      .putBool("disksFilled", this.disksFilled)
      .putBool("stopping", this.stopping)
      .putBool("due", this.restartAt != 0);
  }
}

/** VM `index` of the predecessor; null when the entry makes no sense. */
export function vmOfStash(value: Value, index: u32): Vm | null {
  const read = readVmSpec(knownFields(value.get(FIELD_SPEC)), "stash");
  if (read.spec == null) return null;
  const vm = new Vm(index, read.spec!);
  vm.order = <u32>value.getUint("order");
  const cards = value.getList("cards");
  if (cards.length != vm.spec.cards.length) return null;
  for (let i = 0; i < cards.length; i++) {
    if (cards[i].number >= 2 * (MAX_NETWORKS + 1)) return null; /* MAX_NETWORKS: not plugged in */
    vm.cards.push(new Card((<u32>cards[i].number) >> 1, (<u32>cards[i].number) & 1));
  }
  const state = value.getText(FIELD_STATE);
  const known =
    state == STATE_STARTING ||
    state == STATE_RUNNING ||
    state == STATE_PAUSED ||
    state == STATE_CRASHED ||
    state == STATE_MOVED;
  vm.state = known ? state : STATE_STOPPED;
  vm.reason = clean(value.getText(FIELD_REASON));
  vm.since = value.getUint("since");
  vm.target = min(value.getUint(FIELD_TARGET, vm.target), vm.spec.memory);
  vm.held = min(value.getUint(FIELD_HELD), vm.spec.memory);
  vm.lastExit = clean(value.getText(FIELD_LAST_EXIT));
  vm.restartCount = <u32>value.getUint(FIELD_RESTARTS);
  vm.family = <u32>value.getUint("family");
  vm.node = <i32>value.getUint(FIELD_NODE) - 1;
  vm.kept = clean(value.getText(FIELD_KEPT));
  vm.disksFilled = value.getBool("disksFilled");
  vm.stopping = value.getBool("stopping");
  vm.restartAt = value.getBool("due") ? 1 : 0;
  return vm;
}
