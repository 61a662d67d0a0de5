// What domains have in common, as the kernel's own tables say it: memory, channels, capabilities on each other.

import {
  CAP_MODULE,
  CAP_SELF,
  CapInfoAt,
  Holding,
  MAX_MODULES,
  ObjectType,
  PAGE_SIZE,
  Right,
} from "../gen/abi";
import { CapInfo, DomainInfo } from "../gen/layout";
import { capList, domainInfo } from "../lib/binding";
import {
  DIRECTION_BOTH,
  DIRECTION_FROM,
  DIRECTION_NONE,
  DIRECTION_TO,
  FLOW_CAPABILITY,
  FLOW_CHANNEL,
  FLOW_EXITS,
  FLOW_MEMORY,
  FLOW_PORTS,
} from "../protocol/schema";
import { modules } from "./host";
import { networkOfSlot, SLOT_STASH, vmOfSlot, vmSlot, VmSlot, vmSlotKind } from "./slots";
import { fieldText, quoted } from "./text";
import { Vm } from "./vm";
import { vmsAll } from "./vms";

const ROWS: u32 = PAGE_SIZE / CapInfoAt.SIZE;
const page: usize = memory.data(4096, 16);
const domainPage: usize = memory.data(128, 16);

/** A domain that there is. */
export class Node {
  label: string = "";
  id: u32 = 0;
  /** The id of its device model, or of its VM. */
  peer: u32 = 0;

  constructor(
    /** Whose it is; null: it is the control domain. */
    public vm: Vm | null,
    slot: u32,
  ) {
    const about = changetype<DomainInfo>(domainPage);
    if (domainInfo(slot, domainPage) >= 0) {
      this.id = about.id;
      this.peer = about.peer;
      this.label = fieldText(about.label.address, 32);
    }
  }

  get tenant(): string {
    const vm = this.vm;
    return vm != null ? vm.spec.tenant : "";
  }
}

/** What a domain can do with an object: by its capabilities, and by its mappings. */
class Hold {
  mapped: u32 = 0;

  constructor(
    public object: u64,
    public type: u32,
    public node: Node,
    public held: u32,
  ) {}

  get rights(): u32 {
    return this.mapped | this.held;
  }
}

/** Ports that a domain reaches without an exit. */
class Ports {
  constructor(
    public node: Node,
    public first: u64,
    public count: u64,
  ) {}
}

/** A capability on a domain, or on a vCPU of it. */
class Power {
  constructor(
    public node: Node,
    public target: u32,
    public rights: u32,
  ) {}
}

/** One way from a domain to another. */
export class Flow {
  /** The network whose cable it is, or -1. */
  network: i32 = -1;

  constructor(
    public kind: string,
    public from: Node,
    public to: Node,
    public direction: string,
    public text: string,
  ) {}

  /** Whether something can come from one to the other this way. */
  carries(from: Node, to: Node): bool {
    if (this.direction == DIRECTION_NONE) return false;
    if (this.from == from && this.to == to) return this.direction != DIRECTION_FROM;
    return this.from == to && this.to == from && this.direction != DIRECTION_TO;
  }
}

/** All domains of this moment, and the flows between two of them. */
export class Flows {
  nodes: Node[] = [];
  all: Flow[] = [];
  private holds: Hold[] = [];
  private powers: Power[] = [];
  private ports: Ports[] = [];
  /** The control domain's slot of each object, for names. */
  private slots: Map<u64, u32> = new Map();

  constructor() {
    this.addNode(null, CAP_SELF);
    const vms = vmsAll();
    for (let i = 0; i < vms.length; i++) {
      if (!vms[i].alive) continue;
      this.addNode(vms[i], vmSlot(vms[i].index, VmSlot.DOMAIN));
      this.addNode(vms[i], vmSlot(vms[i].index, VmSlot.MODEL));
    }
  }

  get control(): Node {
    return this.nodes[0];
  }

  private addNode(vm: Vm | null, slot: u32): void {
    const node = new Node(vm, slot);
    if (node.id == 0) return;
    this.nodes.push(node);
    this.readCaps(node, slot);
    this.readMappings(node, slot);
    this.readPorts(node, slot);
  }

  private readCaps(node: Node, slot: u32): void {
    let from: u64 = 0;
    let count: u32 = ROWS;
    while (count == ROWS) {
      count = <u32>max<i64>(capList(slot, Holding.CAPS, from, page), 0);
      for (let i: u32 = 0; i < count; i++) {
        const row = changetype<CapInfo>(page + i * CapInfoAt.SIZE);
        from = row.first + 1;
        if (node.vm == null && !this.slots.has(row.object_id)) this.slots.set(row.object_id, <u32>row.first);
        if (row.type == ObjectType.DOMAIN || row.type == ObjectType.VCPU)
          this.powers.push(new Power(node, row.domain_id, row.rights));
        else if (row.type == ObjectType.MEMORY || row.type == ObjectType.CHANNEL)
          this.holdOf(row.object_id, row.type, node).held |= row.rights;
      }
    }
  }

  private readMappings(node: Node, slot: u32): void {
    let from: u64 = 0;
    let count: u32 = ROWS;
    while (count == ROWS) {
      count = <u32>max<i64>(capList(slot, Holding.MAPPINGS, from, page), 0);
      for (let i: u32 = 0; i < count; i++) {
        const row = changetype<CapInfo>(page + i * CapInfoAt.SIZE);
        this.holdOf(row.object_id, ObjectType.MEMORY, node).mapped |= row.rights;
      }
      from += count;
    }
  }

  private readPorts(node: Node, slot: u32): void {
    let from: u64 = 0;
    let count: u32 = ROWS;
    while (count == ROWS) {
      count = <u32>max<i64>(capList(slot, Holding.PORTS, from, page), 0);
      for (let i: u32 = 0; i < count; i++) {
        const row = changetype<CapInfo>(page + i * CapInfoAt.SIZE);
        this.ports.push(new Ports(node, row.address, row.pages));
        from = row.address + row.pages;
      }
    }
  }

  /** What a node, the last one, has of an object. */
  private holdOf(object: u64, type: u32, node: Node): Hold {
    for (let i = this.holds.length - 1; i >= 0 && this.holds[i].node == node; i--)
      if (this.holds[i].object == object) return this.holds[i];
    const hold = new Hold(object, type, node, 0);
    this.holds.push(hold);
    return hold;
  }

  private nodeOf(id: u32): Node | null {
    for (let i = 0; i < this.nodes.length; i++) if (this.nodes[i].id == id) return this.nodes[i];
    return null;
  }

  /** Finds the flows: what two domains can both only read, between one of `ones` and one of `others` only. */
  find(ones: Node[], others: Node[]): void {
    for (let i = 0; i < this.nodes.length; i++) {
      const peer = this.nodeOf(this.nodes[i].peer);
      if (peer != null && peer.id < this.nodes[i].id)
        this.add(FLOW_EXITS, this.nodes[i], peer, DIRECTION_BOTH, "exits of the VM, and their answers");
    }
    for (let i = 0; i < this.powers.length; i++) {
      const power = this.powers[i];
      const target = this.nodeOf(power.target);
      if (target != null && target != power.node)
        this.add(FLOW_CAPABILITY, power.node, target, powerDirection(power.rights), rightsText(power.rights));
    }
    for (let i = 0; i < this.ports.length; i++)
      for (let n = i + 1; n < this.ports.length; n++) this.sharePorts(this.ports[i], this.ports[n]);
    this.holds.sort((a: Hold, b: Hold): i32 =>
      a.object == b.object ? <i32>a.node.id - <i32>b.node.id : a.object < b.object ? -1 : 1,
    );
    for (let i = 0; i < this.holds.length; i++)
      for (let n = i + 1; n < this.holds.length && this.holds[n].object == this.holds[i].object; n++)
        this.share(this.holds[i], this.holds[n], ones, others);
  }

  private add(kind: string, from: Node, to: Node, direction: string, text: string): Flow {
    const all = this.all;
    for (let i = all.length - 1; i >= 0 && kind == FLOW_CAPABILITY; i--)
      if (all[i].kind == kind && all[i].from == from && all[i].to == to && all[i].text == text) return all[i];
    const flow = new Flow(kind, from, to, direction, text);
    all.push(flow);
    return flow;
  }

  private sharePorts(one: Ports, other: Ports): void {
    const first = max(one.first, other.first);
    const end = min(one.first + one.count, other.first + other.count);
    if (one.node == other.node || first >= end) return;
    const text = "ports 0x" + first.toString(16) + " to 0x" + (end - 1).toString(16);
    this.add(FLOW_PORTS, one.node, other.node, DIRECTION_BOTH, text);
  }

  /** Two domains have an object. */
  private share(one: Hold, other: Hold, ones: Node[], others: Node[]): void {
    const slot = this.slots.has(one.object) ? this.slots.get(one.object) : 0;
    const isMemory = one.type == ObjectType.MEMORY;
    const direction = isMemory ? memoryDirection(one.rights, other.rights) : DIRECTION_BOTH;
    const wanted =
      (ones.includes(one.node) && others.includes(other.node)) ||
      (others.includes(one.node) && ones.includes(other.node));
    if (direction == DIRECTION_NONE && !wanted) return;
    const subject = (isMemory ? "memory " : "channel ") + one.object.toString() + nameOf(slot);
    const each = isMemory
      ? ": " + one.node.label + " " + accessText(one) + ", " + other.node.label + " " + accessText(other)
      : ": both hold an end";
    const flow = this.add(
      isMemory ? FLOW_MEMORY : FLOW_CHANNEL,
      one.node,
      other.node,
      direction,
      subject + each,
    );
    flow.network = networkOfSlot(slot);
  }
}

function memoryDirection(one: u32, other: u32): string {
  const to = (one & Right.WRITE) != 0 && (other & Right.READ) != 0;
  const from = (other & Right.WRITE) != 0 && (one & Right.READ) != 0;
  if (to && from) return DIRECTION_BOTH;
  return to ? DIRECTION_TO : from ? DIRECTION_FROM : DIRECTION_NONE;
}

/** With a right to read alone what comes back is state; with others something is done to the target. */
function powerDirection(rights: u32): string {
  return (rights & ~(Right.READ | Right.GRANT)) != 0 ? DIRECTION_BOTH : DIRECTION_FROM;
}

function rightsText(rights: u32): string {
  const words: string[] = [];
  if (rights & Right.READ) words.push("read");
  if (rights & Right.WRITE) words.push("write");
  if (rights & Right.EXECUTE) words.push("execute");
  if (rights & Right.GRANT) words.push("grant");
  if (rights & Right.CONTROL) words.push("control");
  if (rights & Right.INTERRUPT) words.push("interrupt");
  return words.length > 0 ? words.join(", ") : "no right";
}

/** "read, write", or what it could map. */
function accessText(hold: Hold): string {
  const access: u32 = Right.READ | Right.WRITE | Right.EXECUTE;
  if (hold.mapped != 0) return "(" + rightsText(hold.mapped) + ")";
  return "could map it (" + rightsText(hold.held & access) + ")";
}

/** What the control domain knows an object as, by its slot. */
function nameOf(slot: u32): string {
  const index = <i32>slot - CAP_MODULE;
  if (index >= 0 && index < MAX_MODULES) {
    return index < modules().length ? ", image " + quoted(modules()[index].name) : "";
  }
  if (slot == SLOT_STASH) return ", the stash";
  const network = networkOfSlot(slot);
  if (network >= 0) return ", " + networkName(network);
  const owner = vmOfSlot(slot);
  const all = vmsAll();
  for (let i = 0; i < all.length; i++)
    if (<i32>all[i].index == owner) return kindText(vmSlotKind(slot)) + " of " + quoted(all[i].name);
  return "";
}

function kindText(kind: u32): string {
  switch (kind) {
    case VmSlot.MEMORY:
      return ", memory";
    case VmSlot.MODEL_RAM:
      return ", device model";
    case VmSlot.LINK:
    case VmSlot.CHANNEL:
    case VmSlot.MODEL_CHANNEL:
      return ", link";
    case VmSlot.FLASH:
      return ", flash";
    case VmSlot.IMAGE:
      return ", device model's image";
    case VmSlot.CABLES:
      return ", unplugged cables";
    default:
      return ", disk " + (kind - VmSlot.DISK).toString();
  }
}

/** A network by the name that its cards have for it. */
function networkName(network: u32): string {
  const all = vmsAll();
  for (let i = 0; i < all.length; i++)
    for (let n = 0; n < all[i].cards.length; n++)
      if (all[i].cards[n].network == network) return "network " + quoted(all[i].spec.cards[n].network);
  return "a network";
}
