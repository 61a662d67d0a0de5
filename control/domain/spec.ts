// The host specification and the specification of a VM, checked as hostile input.

import {
  BOOT_AUTO,
  BOOT_FIRMWARE,
  BOOT_LINUX,
  BOOT_LINUX32,
  BOOT_MULTIBOOT,
  BOOT_MULTIBOOT2,
  BOOT_PVH,
  CONSOLE_SERIAL,
  CONSOLE_VIRTIO,
  ErrorCode,
  FIELD_BALLOON,
  FIELD_BOOT,
  FIELD_CAP,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_CPUS,
  FIELD_DEBUG_EXIT,
  FIELD_DISKS,
  FIELD_FIRMWARE,
  FIELD_FLOOR,
  FIELD_IMAGE,
  FIELD_INITRD,
  FIELD_KERNEL,
  FIELD_LATENCY,
  FIELD_MAC,
  FIELD_MAX,
  FIELD_MEMORY,
  FIELD_MODULES,
  FIELD_NAME,
  FIELD_NETWORK,
  FIELD_NETWORKS,
  FIELD_NODE,
  FIELD_PERIOD,
  FIELD_POLICY,
  FIELD_PORTS,
  FIELD_PROTECTED,
  FIELD_CDROM,
  FIELD_READ_ONLY,
  FIELD_RESERVE,
  FIELD_RESTART,
  FIELD_SCALE,
  FIELD_MIN,
  FIELD_RINGS,
  FIELD_SCHEDULING,
  FIELD_SIZE,
  FIELD_START,
  FIELD_TAGS,
  FIELD_TENANT,
  FIELD_VCPUS,
  FIELD_WEIGHT,
  FIELD_WINDOW,
  POLICY_ALWAYS,
  POLICY_NEVER,
  POLICY_ON_FAILURE,
  RINGS_PACKED,
  RINGS_SPLIT,
  SCHEDULING_SHARED,
  TENANT_DEFAULT,
  Specification,
} from "../protocol/schema";
import { MAX_VCPUS, PAGE_SIZE } from "../gen/abi";
import { MEMORY_MAX } from "../lib/pc-memory";
import { MAX_CPUS_TEXT, SHARE_FIELDS } from "../protocol/cpus";
import { Fault } from "./outcome";
import { ShareSpec } from "./shares";
import { clean, grouped, nearest, quoted } from "./text";
import { Kind, Value } from "./value";

const MIN_MEMORY: u64 = 2 << 20;
/** Less than this no balloon leaves a VM. */
export const MIN_BALLOON: u64 = 16 << 20;
const MAX_MODULE_NAME = 55;

/** A disk: a copy of a boot module. */
export class DiskSpec {
  constructor(
    public image: string,
    public readOnly: bool,
    public isCd: bool,
  ) {}
}

/** A boot module that a VM's kernel is given. */
export class ModuleSpec {
  constructor(
    public image: string,
    public cmdline: string,
  ) {}
}

/** A network card. */
export class CardSpec {
  constructor(
    public network: string,
    /** Six bytes in hexadecimal with colons; "": derived from names. */
    public mac: string,
  ) {}
}

/** What a VM should be. */
export class VmSpec {
  name: string = "";
  tenant: string = TENANT_DEFAULT;
  tags: string[] = [];
  /** Whether stop, reset and rm need the word "protected". */
  guarded: bool = false;
  memory: u64 = 0;
  /** What its balloon leaves it of that from the start; 0: all. */
  balloon: u64 = 0;
  /** Down to this the host may take from it when it lacks memory; 0: nothing. */
  floor: u64 = 0;
  vcpus: u32 = 1;
  kernel: string = "";
  initrd: string = "";
  /** The image that it starts from instead of a kernel. */
  firmware: string = "";
  cmdline: string = "";
  boot: string = BOOT_AUTO;
  modules: ModuleSpec[] = [];
  debugExit: bool = false;
  disks: DiskSpec[] = [];
  cards: CardSpec[] = [];
  /** Names of the ports beside its console. */
  ports: string[] = [];
  rings: string = RINGS_PACKED;
  share: ShareSpec = new ShareSpec();
  /** What SRAT calls the NUMA node of its memory; -1: the host chooses. */
  node: i64 = -1;
  console: string = CONSOLE_SERIAL;
  start: bool = true;
  policy: string = POLICY_NEVER;
  max: u32 = 3;
  window: u32 = 60;
  /** How many copies of it there are by policy, at least and at most; 0 at most: policy makes none. */
  scaleMin: u32 = 0;
  scaleMax: u32 = 0;

  toValue(): Value {
    const restart = Value.map()
      .putText(FIELD_POLICY, this.policy)
      .putUint(FIELD_MAX, this.max)
      .putUint(FIELD_WINDOW, this.window);
    const value = Value.map()
      .putText(FIELD_NAME, this.name)
      .putUint(FIELD_MEMORY, this.memory)
      .putUint(FIELD_VCPUS, this.vcpus)
      .putText(FIELD_KERNEL, this.kernel)
      .putText(FIELD_INITRD, this.initrd)
      .putText(FIELD_CMDLINE, this.cmdline)
      .putBool(FIELD_START, this.start)
      .put(FIELD_RESTART, restart);
    if (this.tenant != TENANT_DEFAULT) value.putText(FIELD_TENANT, this.tenant);
    if (this.tags.length > 0) value.put(FIELD_TAGS, namesToValue(this.tags));
    if (this.guarded) value.putBool(FIELD_PROTECTED, true);
    if (this.scaleMax > 0)
      value.put(FIELD_SCALE, Value.map().putUint(FIELD_MIN, this.scaleMin).putUint(FIELD_MAX, this.scaleMax));
    if (this.floor > 0) value.put(FIELD_BALLOON, this.balloonToValue());
    else if (this.balloon > 0) value.putUint(FIELD_BALLOON, this.balloon);
    if (this.firmware != "") value.putText(FIELD_FIRMWARE, this.firmware);
    if (this.console != CONSOLE_SERIAL) value.putText(FIELD_CONSOLE, this.console);
    if (this.boot != BOOT_AUTO) value.putText(FIELD_BOOT, this.boot);
    if (this.modules.length > 0) value.put(FIELD_MODULES, this.modulesToValue());
    if (this.debugExit) value.putBool(FIELD_DEBUG_EXIT, true);
    if (this.disks.length > 0) value.put(FIELD_DISKS, this.disksToValue());
    if (this.cards.length > 0) value.put(FIELD_NETWORKS, this.cardsToValue());
    if (this.ports.length > 0) value.put(FIELD_PORTS, this.portsToValue());
    if (this.rings != RINGS_PACKED) value.putText(FIELD_RINGS, this.rings);
    if (this.node >= 0) value.putUint(FIELD_NODE, this.node);
    this.share.addTo(value);
    return value;
  }

  private balloonToValue(): Value {
    const value = Value.map();
    if (this.balloon > 0) value.putUint(FIELD_SIZE, this.balloon);
    return value.putUint(FIELD_FLOOR, this.floor);
  }

  private modulesToValue(): Value {
    const list = Value.list();
    for (let i = 0; i < this.modules.length; i++) {
      const module = this.modules[i];
      list.add(Value.map().putText(FIELD_IMAGE, module.image).putText(FIELD_CMDLINE, module.cmdline));
    }
    return list;
  }

  private cardsToValue(): Value {
    const list = Value.list();
    for (let i = 0; i < this.cards.length; i++) {
      const card = Value.map().putText(FIELD_NETWORK, this.cards[i].network);
      if (this.cards[i].mac != "") card.putText(FIELD_MAC, this.cards[i].mac);
      list.add(card);
    }
    return list;
  }

  portsToValue(): Value {
    return namesToValue(this.ports);
  }

  private disksToValue(): Value {
    const list = Value.list();
    for (let i = 0; i < this.disks.length; i++) {
      const disk = this.disks[i];
      const one = Value.map().putText(FIELD_IMAGE, disk.image).putBool(FIELD_READ_ONLY, disk.readOnly);
      list.add(disk.isCd ? one.putBool(FIELD_CDROM, true) : one);
    }
    return list;
  }
}

/** A list of texts. */
export function namesToValue(names: string[]): Value {
  const list = Value.list();
  for (let i = 0; i < names.length; i++) list.add(Value.string(names[i]));
  return list;
}

export class SpecResult {
  constructor(
    public spec: VmSpec | null,
    public fault: Fault | null,
  ) {}
}

const VM_FIELDS: string[] = [
  FIELD_NAME,
  FIELD_TENANT,
  FIELD_TAGS,
  FIELD_PROTECTED,
  FIELD_MEMORY,
  FIELD_BALLOON,
  FIELD_VCPUS,
  FIELD_KERNEL,
  FIELD_INITRD,
  FIELD_FIRMWARE,
  FIELD_CMDLINE,
  FIELD_BOOT,
  FIELD_MODULES,
  FIELD_DEBUG_EXIT,
  FIELD_CONSOLE,
  FIELD_DISKS,
  FIELD_NETWORKS,
  FIELD_PORTS,
  FIELD_RINGS,
  FIELD_NODE,
  FIELD_START,
  FIELD_SCALE,
  FIELD_RESTART,
].concat(SHARE_FIELDS);
const BALLOON_FIELDS: string[] = [FIELD_SIZE, FIELD_FLOOR];
const MODULE_FIELDS: string[] = [FIELD_IMAGE, FIELD_CMDLINE];
const BOOTS: string[] = [
  BOOT_AUTO,
  BOOT_LINUX,
  BOOT_LINUX32,
  BOOT_PVH,
  BOOT_MULTIBOOT,
  BOOT_MULTIBOOT2,
  BOOT_FIRMWARE,
];
const CARD_FIELDS: string[] = [FIELD_NETWORK, FIELD_MAC];
const DISK_FIELDS: string[] = [FIELD_IMAGE, FIELD_READ_ONLY, FIELD_CDROM];
const MAX_COPIES: u64 = 127;
const SCALE_FIELDS: string[] = [FIELD_MIN, FIELD_MAX];
const RESTART_FIELDS: string[] = [FIELD_POLICY, FIELD_MAX, FIELD_WINDOW];

/** Names are lower-case letters, digits, "-", "." and "_", beginning with a letter or digit. */
export function isName(name: string): bool {
  if (name.length == 0 || name.length > Specification.MAX_NAME) return false;
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    const alnum = (c >= 0x61 && c <= 0x7a) || (c >= 0x30 && c <= 0x39);
    if (!alnum && (i == 0 || (c != 0x2d && c != 0x2e && c != 0x5f))) return false;
  }
  return true;
}

// The first problem of the specification being read; "" while there is none.
let problem: string = "";

export function bad(text: string): void {
  if (problem == "") problem = text;
}

/** The first problem since the last call, or "". */
export function takeProblem(): string {
  const text = problem;
  problem = "";
  return text;
}

export function checkFields(value: Value, known: string[], what: string): void {
  for (let i = 0; i < value.keys.length; i++) {
    const key = value.keys[i];
    if (known.indexOf(key) < 0) {
      const near = nearest(key, known);
      bad("unknown field " + quoted(key) + what + (near != "" ? ", did you mean " + quoted(near) + "?" : ""));
    } else if (value.keys.indexOf(key) != i) {
      bad("field " + quoted(key) + what + " is given twice");
    }
  }
}

export function readText(value: Value, key: string, limit: i32, otherwise: string): string {
  const found = value.get(key);
  if (found == null) return otherwise;
  if (found.kind != Kind.TEXT) bad(key + " is not a text");
  else if (found.text.length > limit) bad(key + " is longer than " + grouped(limit) + " characters");
  else if (clean(found.text, limit) != found.text) bad(key + " has control characters");
  else return found.text;
  return otherwise;
}

export function readUint(value: Value, key: string, low: u64, high: u64, otherwise: u64): u64 {
  const found = value.get(key);
  if (found == null) return otherwise;
  if (found.kind != Kind.UINT) bad(key + " is not a whole number");
  else if (found.number < low || found.number > high)
    bad(key + " is " + grouped(found.number) + ", it must be " + grouped(low) + " to " + grouped(high));
  else return found.number;
  return otherwise;
}

/** A size, or a map of size and floor. */
function readBalloon(spec: VmSpec, value: Value): void {
  const balloon = value.get(FIELD_BALLOON);
  if (balloon == null) return;
  const isMap = balloon.kind == Kind.MAP;
  if (isMap) checkFields(balloon, BALLOON_FIELDS, " in balloon");
  if (isMap) spec.floor = readBytes(balloon, FIELD_FLOOR, "balloon.floor");
  spec.balloon = isMap
    ? readBytes(balloon, FIELD_SIZE, "balloon.size")
    : readBytes(value, FIELD_BALLOON, FIELD_BALLOON);
  const most = spec.balloon > 0 ? spec.balloon : spec.memory;
  if (spec.balloon > spec.memory)
    bad("balloon is " + grouped(spec.balloon) + ", it must be no more than memory, " + grouped(spec.memory));
  else if (spec.floor > most)
    bad(
      "balloon.floor is " + grouped(spec.floor) + ", it must be no more than what is left, " + grouped(most),
    );
}

function readBytes(value: Value, field: string, name: string): u64 {
  const found = value.get(field);
  if (found != null && found.kind != Kind.UINT) bad(name + " is not a whole number");
  const bytes = readUint(value, field, MIN_BALLOON, MEMORY_MAX, 0);
  if (bytes % PAGE_SIZE != 0) bad(name + " is not a multiple of 4,096 bytes");
  return bytes;
}

function readRestart(spec: VmSpec, value: Value): void {
  const restart = value.get(FIELD_RESTART);
  if (restart == null) return;
  if (restart.kind != Kind.MAP) {
    bad("restart is not a map of policy, max and window");
    return;
  }
  checkFields(restart, RESTART_FIELDS, " in restart");
  spec.policy = readText(restart, FIELD_POLICY, 20, POLICY_NEVER);
  if (spec.policy != POLICY_NEVER && spec.policy != POLICY_ON_FAILURE && spec.policy != POLICY_ALWAYS)
    bad("restart.policy is " + quoted(spec.policy) + ", it must be never, on-failure or always");
  spec.max = <u32>readUint(restart, FIELD_MAX, 0, 1000, 3);
  spec.window = <u32>readUint(restart, FIELD_WINDOW, 1, 86400, 60);
}

function readScale(spec: VmSpec, value: Value): void {
  const scale = value.get(FIELD_SCALE);
  if (scale == null) return;
  if (scale.kind != Kind.MAP) {
    bad("scale is not a map of min and max");
    return;
  }
  checkFields(scale, SCALE_FIELDS, " in scale");
  spec.scaleMin = <u32>readUint(scale, FIELD_MIN, 0, MAX_COPIES, 0);
  spec.scaleMax = <u32>readUint(scale, FIELD_MAX, 1, MAX_COPIES, 1);
}

export function readBool(value: Value, field: string, what: string): bool {
  const found = value.get(field);
  if (found != null && found.kind != Kind.BOOL) bad(field + what + " is neither true nor false");
  return value.getBool(field);
}

/** How its vCPUs get their time. */
export function readShare(share: ShareSpec, value: Value): void {
  share.scheduling = readText(value, FIELD_SCHEDULING, 20, SCHEDULING_SHARED);
  share.weight = <u32>readUint(value, FIELD_WEIGHT, 1, 10000, 0);
  share.cap = <u32>readUint(value, FIELD_CAP, 1, 100, 0);
  share.reserve = <u32>readUint(value, FIELD_RESERVE, 1, 100, 0);
  share.period = <u32>readUint(value, FIELD_PERIOD, 1, 1000, 0);
  share.latency = <u32>readUint(value, FIELD_LATENCY, 1, 1000, 0);
  share.cpus = readText(value, FIELD_CPUS, MAX_CPUS_TEXT, "");
  const problem = share.problem();
  if (problem != "") bad(problem);
}

function readDisks(spec: VmSpec, value: Value): void {
  const disks = value.get(FIELD_DISKS);
  if (disks == null) return;
  if (disks.kind != Kind.LIST) {
    bad("disks is not a list");
    return;
  }
  if (disks.items.length > <i32>Specification.MAX_DISKS)
    bad("it has more than " + (<i32>Specification.MAX_DISKS).toString() + " disks");
  for (let i = 0; i < disks.items.length; i++) {
    const disk = disks.items[i];
    const what = " in disks[" + i.toString() + "]";
    if (disk.kind != Kind.MAP) {
      bad("disks[" + i.toString() + "] is not a map of image and readOnly");
      return;
    }
    checkFields(disk, DISK_FIELDS, what);
    const image = readText(disk, FIELD_IMAGE, MAX_MODULE_NAME, "");
    if (image == "") bad("there is no image" + what);
    const isCd = readBool(disk, FIELD_CDROM, what);
    spec.disks.push(new DiskSpec(image, readBool(disk, FIELD_READ_ONLY, what) || isCd, isCd));
  }
}

function readModules(spec: VmSpec, value: Value): void {
  const modules = value.get(FIELD_MODULES);
  if (modules == null) return;
  if (modules.kind != Kind.LIST) {
    bad("modules is not a list");
    return;
  }
  if (modules.items.length > <i32>Specification.MAX_BOOT_MODULES)
    bad("it has more than " + (<i32>Specification.MAX_BOOT_MODULES).toString() + " modules");
  for (let i = 0; i < modules.items.length; i++) {
    const module = modules.items[i];
    const what = " in modules[" + i.toString() + "]";
    if (module.kind != Kind.MAP) {
      bad("modules[" + i.toString() + "] is not a map of image and cmdline");
      return;
    }
    checkFields(module, MODULE_FIELDS, what);
    const image = readText(module, FIELD_IMAGE, MAX_MODULE_NAME, "");
    if (image == "") bad("there is no image" + what);
    const cmdline = readText(module, FIELD_CMDLINE, Specification.MAX_MODULE_CMDLINE, "");
    spec.modules.push(new ModuleSpec(image, cmdline));
  }
}

function readCards(spec: VmSpec, value: Value): void {
  const cards = value.get(FIELD_NETWORKS);
  if (cards == null) return;
  if (cards.kind != Kind.LIST) {
    bad("networks is not a list");
    return;
  }
  if (cards.items.length > <i32>Specification.MAX_NETWORKS)
    bad("it has more than " + (<i32>Specification.MAX_NETWORKS).toString() + " networks");
  for (let i = 0; i < cards.items.length; i++) {
    const card = cards.items[i];
    const what = " in networks[" + i.toString() + "]";
    if (card.kind != Kind.MAP) {
      bad("networks[" + i.toString() + "] is not a map of network and mac");
      return;
    }
    checkFields(card, CARD_FIELDS, what);
    const network = readText(card, FIELD_NETWORK, Specification.MAX_NAME, "");
    if (!isName(network)) bad("there is no network, or it is no name," + what);
    const mac = readText(card, FIELD_MAC, 17, "").toLowerCase();
    if (mac != "" && !isMac(mac)) bad("mac" + what + " is not the address of one card, as 52:54:00:12:34:56");
    spec.cards.push(new CardSpec(network, mac));
  }
}

/** A list of different names: of ports, of tags. */
function readNames(value: Value, field: string, limit: i32, names: string[]): void {
  const list = value.get(field);
  if (list == null) return;
  if (list.kind != Kind.LIST) {
    bad(field + " is not a list of names");
    return;
  }
  if (list.items.length > limit) bad("it has more than " + limit.toString() + " " + field);
  for (let i = 0; i < list.items.length; i++) {
    const item = list.items[i];
    const what = field + "[" + i.toString() + "]";
    if (item.kind != Kind.TEXT || !isName(item.text)) bad(what + " is no name");
    else if (names.indexOf(item.text) >= 0)
      bad(what + " has the name of another " + field.substring(0, field.length - 1));
    names.push(item.text);
  }
}

/** Whether a text is the Ethernet address of one card: not of a group, and not all zeros. */
function isMac(text: string): bool {
  if (text.length != 17 || text == "00:00:00:00:00:00") return false;
  for (let i = 0; i < 17; i++) {
    const c = text.charCodeAt(i);
    const isDigit = (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x66);
    if (i % 3 == 2 ? c != 0x3a : !isDigit) return false;
  }
  return (U32.parseInt(text.substring(0, 2), 16) & 1) == 0;
}

/** A VM starts from a kernel or from firmware. */
function checkStart(spec: VmSpec): void {
  const byFirmware = spec.firmware != "";
  if (!byFirmware && spec.boot == BOOT_FIRMWARE) bad("boot is firmware, and it has no firmware");
  if (spec.kernel == "" && !byFirmware) bad("it has neither a kernel nor firmware");
  if (spec.kernel != "" && byFirmware) bad("it has a kernel and firmware, and starts from one only");
  if (byFirmware && spec.boot != BOOT_AUTO && spec.boot != BOOT_FIRMWARE)
    bad("it has firmware, and boot is " + quoted(spec.boot));
}

/** What may be changed while a VM runs. */
const CHANGEABLE: string[] = [FIELD_TAGS, FIELD_PROTECTED, FIELD_RESTART, FIELD_SCALE].concat(SHARE_FIELDS);

const OF_SCHEDULING: string[] = [FIELD_WEIGHT, FIELD_CAP, FIELD_RESERVE, FIELD_PERIOD];

/** Sets a member of a map; of a member that is a map itself, only what is given. */
function replace(value: Value, key: string, by: Value): void {
  const at = value.keys.indexOf(key);
  if (at < 0) {
    value.put(key, by);
  } else if (by.kind == Kind.MAP && value.items[at].kind == Kind.MAP) {
    for (let i = 0; i < by.keys.length; i++) replace(value.items[at], by.keys[i], by.items[i]);
  } else {
    value.items[at] = by;
  }
}

/** A VM's specification with some fields replaced; only those that need no restart. */
export function readVmChanges(spec: VmSpec, changes: Value | null): SpecResult {
  problem = "";
  const next = "help set";
  const subject = "VM " + quoted(spec.name) + ": ";
  if (changes == null || changes.kind != Kind.MAP || changes.keys.length == 0)
    return new SpecResult(
      null,
      new Fault(ErrorCode.USAGE, subject + "nothing is to be changed", spec.name, next),
    );
  const before = spec.toValue();
  const value = Value.map();
  const reschedules = changes.get(FIELD_SCHEDULING) != null; /* what belongs to the old one goes */
  for (let i = 0; i < before.keys.length; i++)
    if (!reschedules || OF_SCHEDULING.indexOf(before.keys[i]) < 0) value.put(before.keys[i], before.items[i]);
  for (let i = 0; i < changes.keys.length; i++) {
    const key = changes.keys[i];
    if (CHANGEABLE.indexOf(key) < 0) {
      const text =
        subject + quoted(key) + " is none of what changes without a restart: " + CHANGEABLE.join(", ");
      return new SpecResult(null, new Fault(ErrorCode.USAGE, text, spec.name, next));
    }
    replace(value, key, changes.items[i]);
  }
  return readVmSpec(value, "set");
}

/** A specification without the fields that are none: what a newer component may have written. */
export function knownFields(value: Value | null): Value | null {
  if (value == null || value.kind != Kind.MAP) return value;
  const known = Value.map();
  for (let i = 0; i < value.keys.length; i++)
    if (VM_FIELDS.indexOf(value.keys[i]) >= 0) known.put(value.keys[i], value.items[i]);
  return known;
}

/** Reads the specification of one VM. `position` names it while it has no name: "vms[2]". */
export function readVmSpec(value: Value | null, position: string): SpecResult {
  problem = "";
  const spec = new VmSpec();
  if (value == null || value.kind != Kind.MAP) {
    bad("the specification is not a map");
  } else {
    checkFields(value, VM_FIELDS, "");
    const name = value.get(FIELD_NAME);
    if (name == null || name.kind != Kind.TEXT) bad("it has no name");
    else if (!isName(name.text))
      bad(
        "a name has up to " +
          Specification.MAX_NAME.toString() +
          ' of a-z, 0-9, "-", ".", "_", beginning with a letter or digit',
      );
    spec.name = name != null && name.kind == Kind.TEXT ? name.text : "";
    spec.memory = readUint(value, FIELD_MEMORY, MIN_MEMORY, MEMORY_MAX, 0);
    if (spec.memory == 0) bad("it has no memory");
    else if (spec.memory % PAGE_SIZE != 0) bad("memory is not a multiple of 4,096 bytes");
    readBalloon(spec, value);
    spec.vcpus = <u32>readUint(value, FIELD_VCPUS, 1, MAX_VCPUS, 1);
    spec.kernel = readText(value, FIELD_KERNEL, MAX_MODULE_NAME, "");
    spec.firmware = readText(value, FIELD_FIRMWARE, MAX_MODULE_NAME, "");
    spec.initrd = readText(value, FIELD_INITRD, MAX_MODULE_NAME, "");
    spec.cmdline = readText(value, FIELD_CMDLINE, Specification.MAX_CMDLINE, "");
    spec.boot = readText(value, FIELD_BOOT, 20, BOOT_AUTO);
    if (BOOTS.indexOf(spec.boot) < 0)
      bad("boot is " + quoted(spec.boot) + ", it must be one of " + BOOTS.join(", "));
    checkStart(spec);
    readModules(spec, value);
    const debugExit = value.get(FIELD_DEBUG_EXIT);
    if (debugExit != null && debugExit.kind != Kind.BOOL) bad("debugExit is neither true nor false");
    spec.debugExit = value.getBool(FIELD_DEBUG_EXIT);
    readDisks(spec, value);
    readCards(spec, value);
    readNames(value, FIELD_PORTS, Specification.MAX_PORTS, spec.ports);
    readNames(value, FIELD_TAGS, Specification.MAX_TAGS, spec.tags);
    spec.tenant = readText(value, FIELD_TENANT, Specification.MAX_NAME, TENANT_DEFAULT);
    if (!isName(spec.tenant)) bad("tenant is " + quoted(spec.tenant) + ", which is no name");
    spec.guarded = readBool(value, FIELD_PROTECTED, "");
    spec.rings = readText(value, FIELD_RINGS, 20, RINGS_PACKED);
    if (spec.rings != RINGS_PACKED && spec.rings != RINGS_SPLIT)
      bad("rings is " + quoted(spec.rings) + ", it must be packed or split");
    spec.console = readText(value, FIELD_CONSOLE, 20, CONSOLE_SERIAL);
    if (spec.console != CONSOLE_SERIAL && spec.console != CONSOLE_VIRTIO)
      bad("console is " + quoted(spec.console) + ", it must be serial or virtio");
    if (value.get(FIELD_NODE) != null) spec.node = <i64>readUint(value, FIELD_NODE, 0, u32.MAX_VALUE, 0);
    readShare(spec.share, value);
    const start = value.get(FIELD_START);
    if (start != null && start.kind != Kind.BOOL) bad("start is neither true nor false");
    spec.start = value.getBool(FIELD_START, true);
    readRestart(spec, value);
    readScale(spec, value);
  }
  if (problem == "") return new SpecResult(spec, null);
  const object = isName(spec.name) ? spec.name : position;
  return new SpecResult(
    null,
    new Fault(ErrorCode.USAGE, "VM " + quoted(object) + ": " + problem, object, "help create"),
  );
}
