// The host specification and the specification of a VM, checked as hostile input.

import {
  CONSOLE_SERIAL,
  CONSOLE_VIRTIO,
  ErrorCode,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_DISKS,
  FIELD_HOST,
  FIELD_IMAGE,
  FIELD_INITRD,
  FIELD_KERNEL,
  FIELD_MAX,
  FIELD_MEMORY,
  FIELD_NAME,
  FIELD_POLICY,
  FIELD_READ_ONLY,
  FIELD_RESTART,
  FIELD_START,
  FIELD_VCPUS,
  FIELD_VERSION,
  FIELD_VMS,
  FIELD_WINDOW,
  POLICY_ALWAYS,
  POLICY_NEVER,
  POLICY_ON_FAILURE,
  Specification,
} from "../protocol/schema";
import { MAX_VCPUS, PAGE_SIZE } from "../gen/abi";
import { Fault } from "./outcome";
import { clean, grouped, nearest, quoted } from "./text";
import { Kind, Value } from "./value";

const MIN_MEMORY: u64 = 16 << 20;
const MAX_MEMORY: u64 = 3072 << 20;
const MAX_MODULE_NAME = 55;

/** A disk: a copy of a boot module. */
export class DiskSpec {
  constructor(
    public image: string,
    public readOnly: bool,
  ) {}
}

/** What a VM should be. */
export class VmSpec {
  name: string = "";
  memory: u64 = 0;
  vcpus: u32 = 1;
  kernel: string = "";
  initrd: string = "";
  cmdline: string = "";
  disks: DiskSpec[] = [];
  console: string = CONSOLE_SERIAL;
  start: bool = true;
  policy: string = POLICY_NEVER;
  max: u32 = 3;
  window: u32 = 60;

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
    if (this.console != CONSOLE_SERIAL) value.putText(FIELD_CONSOLE, this.console);
    if (this.disks.length > 0) value.put(FIELD_DISKS, this.disksToValue());
    return value;
  }

  private disksToValue(): Value {
    const list = Value.list();
    for (let i = 0; i < this.disks.length; i++) {
      const disk = this.disks[i];
      list.add(Value.map().putText(FIELD_IMAGE, disk.image).putBool(FIELD_READ_ONLY, disk.readOnly));
    }
    return list;
  }
}

export class SpecResult {
  constructor(
    public spec: VmSpec | null,
    public fault: Fault | null,
  ) {}
}

export class HostSpec {
  name: string = "plinth";
  vms: VmSpec[] = [];
  faults: Fault[] = [];
}

const VM_FIELDS: string[] = [
  FIELD_NAME,
  FIELD_MEMORY,
  FIELD_VCPUS,
  FIELD_KERNEL,
  FIELD_INITRD,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_DISKS,
  FIELD_START,
  FIELD_RESTART,
];
const DISK_FIELDS: string[] = [FIELD_IMAGE, FIELD_READ_ONLY];
const RESTART_FIELDS: string[] = [FIELD_POLICY, FIELD_MAX, FIELD_WINDOW];
const HOST_FIELDS: string[] = [FIELD_VERSION, FIELD_HOST, FIELD_VMS];

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

function bad(text: string): void {
  if (problem == "") problem = text;
}

function checkFields(value: Value, known: string[], what: string): void {
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

function readText(value: Value, key: string, limit: i32, otherwise: string): string {
  const found = value.get(key);
  if (found == null) return otherwise;
  if (found.kind != Kind.TEXT) bad(key + " is not a text");
  else if (found.text.length > limit) bad(key + " is longer than " + grouped(limit) + " characters");
  else if (clean(found.text, limit) != found.text) bad(key + " has control characters");
  else return found.text;
  return otherwise;
}

function readUint(value: Value, key: string, low: u64, high: u64, otherwise: u64): u64 {
  const found = value.get(key);
  if (found == null) return otherwise;
  if (found.kind != Kind.UINT) bad(key + " is not a whole number");
  else if (found.number < low || found.number > high)
    bad(key + " is " + grouped(found.number) + ", it must be " + grouped(low) + " to " + grouped(high));
  else return found.number;
  return otherwise;
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
    const readOnly = disk.get(FIELD_READ_ONLY);
    if (readOnly != null && readOnly.kind != Kind.BOOL) bad("readOnly" + what + " is neither true nor false");
    spec.disks.push(new DiskSpec(image, disk.getBool(FIELD_READ_ONLY)));
  }
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
    spec.memory = readUint(value, FIELD_MEMORY, MIN_MEMORY, MAX_MEMORY, 0);
    if (spec.memory == 0) bad("it has no memory");
    else if (spec.memory % PAGE_SIZE != 0) bad("memory is not a multiple of 4,096 bytes");
    spec.vcpus = <u32>readUint(value, FIELD_VCPUS, 1, MAX_VCPUS, 1);
    spec.kernel = readText(value, FIELD_KERNEL, MAX_MODULE_NAME, "");
    if (spec.kernel == "") bad("it has no kernel");
    spec.initrd = readText(value, FIELD_INITRD, MAX_MODULE_NAME, "");
    spec.cmdline = readText(value, FIELD_CMDLINE, Specification.MAX_CMDLINE, "");
    readDisks(spec, value);
    spec.console = readText(value, FIELD_CONSOLE, 20, CONSOLE_SERIAL);
    if (spec.console != CONSOLE_SERIAL && spec.console != CONSOLE_VIRTIO)
      bad("console is " + quoted(spec.console) + ", it must be serial or virtio");
    const start = value.get(FIELD_START);
    if (start != null && start.kind != Kind.BOOL) bad("start is neither true nor false");
    spec.start = value.getBool(FIELD_START, true);
    readRestart(spec, value);
  }
  if (problem == "") return new SpecResult(spec, null);
  const object = isName(spec.name) ? spec.name : position;
  return new SpecResult(
    null,
    new Fault(ErrorCode.USAGE, "VM " + quoted(object) + ": " + problem, object, "help create"),
  );
}

/** Reads a host specification; VMs that are wrong are left out and give a fault each. */
export function readHostSpec(value: Value | null): HostSpec {
  const host = new HostSpec();
  problem = "";
  if (value == null || value.kind != Kind.MAP) {
    bad("it is not a CBOR map");
  } else {
    checkFields(value, HOST_FIELDS, "");
    if (value.getUint(FIELD_VERSION) != Specification.VERSION)
      bad("version is " + value.getUint(FIELD_VERSION).toString() + ", this control domain reads 1");
  }
  if (problem != "") {
    host.faults.push(new Fault(ErrorCode.USAGE, "host specification: " + problem, "spec", "images"));
    return host;
  }
  const about = value!.get(FIELD_HOST);
  if (about != null) {
    const name = about.getText(FIELD_NAME, "");
    if (isName(name)) host.name = name;
    else
      host.faults.push(
        new Fault(ErrorCode.USAGE, "host specification: host.name is no name", "spec", "status"),
      );
  }
  const vms = value!.getList(FIELD_VMS);
  for (let i = 0; i < vms.length; i++) {
    if (i == Specification.MAX_VMS) {
      host.faults.push(
        new Fault(
          ErrorCode.USAGE,
          "host specification: only the first " + i.toString() + " VMs are taken",
          "spec",
          "ls",
        ),
      );
      break;
    }
    const read = readVmSpec(vms[i], "vms[" + i.toString() + "]");
    if (read.fault != null) host.faults.push(read.fault!);
    else host.vms.push(read.spec!);
  }
  return host;
}
