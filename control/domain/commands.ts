// The commands: one table for the shell and for frames. Each takes a request document and gives a result
// document or a fault; shell.ts prints what frames only encode.

import {
  DENIED_PROTECTED,
  ErrorCode,
  EVENT_VM_CHANGED,
  FIELD_DATA,
  FIELD_EVENTS,
  FIELD_FORCE,
  FIELD_FROM,
  FIELD_IMAGES,
  FIELD_MITIGATIONS,
  FIELD_NAME,
  FIELD_NEXT,
  FIELD_PROTECTED,
  FIELD_REASON,
  FIELD_RULES,
  FIELD_SINCE,
  FIELD_SIZE,
  FIELD_SPEC,
  FIELD_VM,
  FIELD_VMS,
  LINK_STATS,
  STATE_RUNNING,
  OP_APPLY,
  OP_AUDIT,
  OP_AUDIT_FACTS,
  OP_BALLOON,
  OP_CREATE,
  OP_DOCTOR,
  OP_HANDOVER,
  OP_HARDWARE,
  OP_HARDWARE_MITIGATIONS,
  OP_HARDWARE_PCI,
  OP_EVENTS,
  OP_IMAGES,
  OP_LOGS,
  OP_LS,
  OP_PAUSE,
  OP_PLAN,
  OP_POLICY,
  OP_RESET,
  OP_RESUME,
  OP_RM,
  OP_RULES,
  OP_SET,
  OP_SHOW,
  OP_SPEC_PUT,
  OP_START,
  OP_STATUS,
  OP_STOP,
  OP_TENANT_RM,
  OP_TENANT_SET,
  OP_TENANTS,
  OP_TOP,
  OP_IMAGE_PUT,
  OP_SNAPSHOT_BEGIN,
  OP_SNAPSHOT_CLONE,
  OP_SNAPSHOT_CREATE,
  OP_SNAPSHOT_END,
  OP_SNAPSHOT_HASH,
  OP_SNAPSHOT_LS,
  OP_SNAPSHOT_PAGES,
  OP_SNAPSHOT_READ,
  OP_SNAPSHOT_RESTORE,
  OP_SNAPSHOT_RM,
  OP_SNAPSHOT_SHOW,
  OP_SNAPSHOT_WRITE,
  OP_TEST_REBORN,
  OP_TEST_TRAP,
  OP_TEST_TRAP_MODEL,
  OP_UPGRADE,
  Protocol,
} from "../protocol/schema";
import { auditResult } from "./audit";
import { vmChange } from "./apply";
import { vmShare } from "./vm-builder";
import { Cursor } from "./cursor";
import { draftApply, draftPlan, draftPut } from "./draft";
import { emit, eventAfter } from "./events";
import { handover } from "./handover";
import { kernelLog, modules } from "./host";
import { factsResult } from "./facts-log";
import { hardwareResult, pciResult } from "./hardware";
import { mitigationsGet, mitigationsResult } from "./mitigations";
import { Fault, Outcome } from "./outcome";
import { policyAdmit } from "./policy";
import { doctorResult, showResult, statusResult, tenantsResult } from "./reports";
import { policyResult } from "./explain";
import { policyDenied, rulesToValue } from "./rules";
import {
  snapshotClone,
  snapshotCreate,
  snapshotLs,
  snapshotRemove,
  snapshotRestore,
  snapshotShow,
} from "./snapshot-actions";
import {
  snapshotBegin,
  snapshotEnd,
  snapshotHash,
  snapshotPages,
  snapshotRead,
  snapshotWrite,
} from "./snapshot-transfer";
import { readVmChanges, readVmSpec } from "./spec";
import { clean, nearest, quoted } from "./text";
import { tenantRemove, tenantSet } from "./tenant-actions";
import { topResult } from "./top";
import { upgradeStart, uploadPut } from "./upgrade";
import { Value } from "./value";
import { Vm } from "./vm";
import {
  movedFault,
  vmBalloon,
  vmCreate,
  vmPause,
  vmRemove,
  vmReset,
  vmSend,
  vmResume,
  vmStart,
  vmStop,
  vmReborn,
  vmTrapModel,
} from "./vm-actions";
import { vmFind, vmNames, vmsAll } from "./vms";

/** The operations that change something. */
const CHANGES: string[] = [
  OP_APPLY,
  OP_BALLOON,
  OP_CREATE,
  OP_HANDOVER,
  OP_PAUSE,
  OP_RESET,
  OP_RESUME,
  OP_RM,
  OP_SET,
  OP_SNAPSHOT_BEGIN,
  OP_SNAPSHOT_CLONE,
  OP_SNAPSHOT_CREATE,
  OP_SNAPSHOT_END,
  OP_SNAPSHOT_RESTORE,
  OP_SNAPSHOT_RM,
  OP_START,
  OP_STOP,
  OP_TENANT_RM,
  OP_TENANT_SET,
  OP_UPGRADE,
];

/** What follows a command's name in the shell. */
export const enum Words {
  NONE = 0,
  VM = 1,
  VM_FORCE = 2,
  OPTIONAL_VM = 3,
  SPEC = 4,
  COMMAND = 5,
  COUNT = 6,
  VM_SIZE = 7,
  CHANGES = 8,
  TOP = 9,
  TENANT = 10,
  EVENTS = 11,
  CONSOLE = 12,
  IMAGE = 13,
  POLICY = 14,
  SNAPSHOT = 15,
}

const MAX_ROW_REASON = 60;
/** VMs in one reply: so many with the longest reasons, tenants and tags fit a frame. */
const ROWS = 7;
const EVENTS_BUDGET = 3400;
const piece: usize = memory.data(3072, 16); /* Protocol.MAX_CHUNK */

export class Command {
  constructor(
    public op: string,
    public name: string,
    public words: Words,
    public usage: string,
    public summary: string,
    public run: (request: Value) => Outcome,
  ) {}
}

const table: Command[] = [
  new Command(OP_STATUS, "status", Words.NONE, "status", "the host at a glance", (request: Value): Outcome =>
    Outcome.of(statusResult()),
  ),
  new Command(OP_LS, "ls", Words.NONE, "ls", "list the VMs", (request: Value): Outcome => list(request)),
  new Command(OP_SHOW, "show", Words.VM, "show VM", "everything known about a VM", show),
  new Command(
    OP_CREATE,
    "create",
    Words.SPEC,
    'create NAME memory=128M kernel=IMAGE [initrd=IMAGE] [cmdline="..."]',
    "add a VM and start it (start=no: only add it)",
    create,
  ),
  new Command(OP_START, "start", Words.VM, "start VM", "start a VM", (request: Value): Outcome =>
    act(request, vmStart),
  ),
  new Command(
    OP_STOP,
    "stop",
    Words.VM_FORCE,
    "stop VM [--force]",
    "press its power button; --force ends it now",
    stop,
  ),
  new Command(
    OP_PAUSE,
    "pause",
    Words.VM,
    "pause VM",
    "stop its CPUs and its time",
    (request: Value): Outcome => act(request, vmPause),
  ),
  new Command(
    OP_RESUME,
    "resume",
    Words.VM_FORCE,
    "resume VM [--force]",
    "let it run on; --force: also one that has moved",
    resume,
  ),
  new Command(OP_HANDOVER, "", Words.NONE, "", "", handover),
  new Command(
    OP_BALLOON,
    "balloon",
    Words.VM_SIZE,
    "balloon VM SIZE",
    "leave it SIZE of its memory: 64M",
    balloon,
  ),
  new Command(
    OP_RESET,
    "reset",
    Words.VM_FORCE,
    "reset VM [--force]",
    "start it again from nothing",
    (request: Value): Outcome => act(request, vmReset, true),
  ),
  new Command(
    OP_RM,
    "rm",
    Words.VM_FORCE,
    "rm VM [--force]",
    "forget a stopped VM; --force stops it first",
    remove,
  ),
  new Command(
    OP_SET,
    "set",
    Words.CHANGES,
    "set VM [tags=TAG,TAG] [protected=yes] [restart=POLICY] [max=N] [window=SECONDS] [weight=N] ...",
    "change what needs no restart",
    set,
  ),
  new Command(
    OP_SNAPSHOT_LS,
    "snapshot",
    Words.SNAPSHOT,
    "snapshot create VM [NAME], snapshot ls [VM], snapshot show|rm|restore NAME, snapshot clone NAME VM",
    "keep a running VM as it is, go back, make copies",
    snapshotLs,
  ),
  new Command(OP_SNAPSHOT_CREATE, "", Words.SNAPSHOT, "", "", snapshotCreate),
  new Command(OP_SNAPSHOT_SHOW, "", Words.SNAPSHOT, "", "", snapshotShow),
  new Command(OP_SNAPSHOT_RM, "", Words.SNAPSHOT, "", "", snapshotRemove),
  new Command(OP_SNAPSHOT_RESTORE, "", Words.SNAPSHOT, "", "", snapshotRestore),
  new Command(OP_SNAPSHOT_CLONE, "", Words.SNAPSHOT, "", "", snapshotClone),
  new Command(OP_SNAPSHOT_PAGES, "", Words.NONE, "", "", snapshotPages),
  new Command(OP_SNAPSHOT_HASH, "", Words.NONE, "", "", snapshotHash),
  new Command(OP_SNAPSHOT_READ, "", Words.NONE, "", "", snapshotRead),
  new Command(OP_SNAPSHOT_BEGIN, "", Words.NONE, "", "", snapshotBegin),
  new Command(OP_SNAPSHOT_WRITE, "", Words.NONE, "", "", snapshotWrite),
  new Command(OP_SNAPSHOT_END, "", Words.NONE, "", "", snapshotEnd),
  new Command(
    OP_TENANTS,
    "tenants",
    Words.NONE,
    "tenants",
    "whose VMs they are, and their limits",
    (request: Value): Outcome => Outcome.of(tenantsResult()),
  ),
  new Command(
    OP_TENANT_SET,
    "tenant",
    Words.TENANT,
    "tenant set NAME [memory=SIZE] [vms=N] [vcpus=N] [cpus=SET] [exits=N] [ipis=N] [hypercalls=N] [log=N] [cache=N] [bandwidth=N], tenant rm NAME",
    "make a tenant, change its limits, remove it",
    tenantSet,
  ),
  new Command(OP_TENANT_RM, "", Words.TENANT, "", "", tenantRemove),
  new Command(
    OP_POLICY,
    "policy",
    Words.POLICY,
    "policy explain A B, or policy check",
    "what can flow between two domains; what is forbidden",
    policyResult,
  ),
  new Command(OP_RULES, "", Words.NONE, "", "", (request: Value): Outcome =>
    Outcome.of(
      Value.map().put(FIELD_RULES, rulesToValue()).put(FIELD_MITIGATIONS, mitigationsGet().toValue()),
    ),
  ),
  new Command(
    OP_LOGS,
    "logs",
    Words.OPTIONAL_VM,
    "logs [VM]",
    "the kernel's log, or what a VM has printed",
    logs,
  ),
  new Command(
    OP_EVENTS,
    "events",
    Words.EVENTS,
    "events [COUNT] [--since N] [--follow]",
    "what has happened; --follow: and what happens",
    events,
  ),
  new Command(OP_TOP, "top", Words.TOP, "top [tenants]", "who uses the CPUs, live", topResult),
  new Command(
    OP_IMAGES,
    "images",
    Words.NONE,
    "images",
    "boot modules that VMs can use",
    (request: Value): Outcome => images(),
  ),
  new Command(OP_DOCTOR, "doctor", Words.NONE, "doctor", "check the host", (request: Value): Outcome =>
    Outcome.of(doctorResult()),
  ),
  new Command(
    OP_HARDWARE,
    "hardware",
    Words.NONE,
    "hardware",
    "what the machine is, and what it lacks",
    (request: Value): Outcome => Outcome.of(hardwareResult()),
  ),
  new Command(OP_HARDWARE_MITIGATIONS, "", Words.NONE, "", "", (request: Value): Outcome =>
    Outcome.of(mitigationsResult()),
  ),
  new Command(OP_HARDWARE_PCI, "", Words.NONE, "", "", (request: Value): Outcome =>
    Outcome.of(pciResult(request.getUint(FIELD_FROM))),
  ),
  new Command(
    OP_AUDIT,
    "audit",
    Words.COUNT,
    "audit [COUNT]",
    "who has done what, chained by hashes",
    auditResult,
  ),
  new Command(
    OP_UPGRADE,
    "upgrade",
    Words.IMAGE,
    "upgrade IMAGE",
    "replace the control component by a boot module; VMs run on",
    upgradeStart,
  ),
  new Command(OP_AUDIT_FACTS, "", Words.NONE, "", "", factsResult),
  new Command(OP_IMAGE_PUT, "", Words.NONE, "", "", uploadPut),
  new Command(OP_SPEC_PUT, "", Words.NONE, "", "", draftPut),
  new Command(OP_PLAN, "", Words.NONE, "", "", draftPlan),
  new Command(OP_APPLY, "", Words.NONE, "", "", draftApply),
  new Command(OP_TEST_TRAP, "", Words.NONE, "", "", trap),
  new Command(OP_TEST_TRAP_MODEL, "", Words.VM, "", "", (request: Value): Outcome =>
    act(request, vmTrapModel),
  ),
  new Command(OP_TEST_REBORN, "", Words.VM, "", "", reborn),
];

/** All commands; those without a name are for programs only. */
export function commands(): Command[] {
  return table;
}

/** Whether an operation changes something. */
export function isCommand(op: string): bool {
  return CHANGES.indexOf(op) >= 0;
}

/** Runs an operation; null: there is none of that name. */
export function commandRun(op: string, request: Value): Outcome | null {
  for (let i = 0; i < table.length; i++) if (table[i].op == op) return table[i].run(request);
  return null;
}

/** The fault for a VM that does not exist. */
export function noSuchVm(name: string): Fault {
  if (name == "") return new Fault(ErrorCode.USAGE, "no VM is named", "", "ls");
  const near = nearest(name, vmNames());
  return new Fault(
    ErrorCode.NOT_FOUND,
    "there is no VM " + quoted(name) + (near != "" ? ", did you mean " + quoted(near) + "?" : ""),
    clean(name, 60),
    "ls",
  );
}

function rowOf(vm: Vm): Outcome {
  return Outcome.of(vm.toRow());
}

/** The fault for ending a VM that is protected, without the word that says so. */
function guardOf(vm: Vm, verb: string, request: Value): Fault | null {
  if (!vm.spec.guarded || (request.getBool(FIELD_FORCE) && request.getBool(FIELD_PROTECTED))) return null;
  const next = verb + " " + vm.name + " --force --protected";
  policyDenied(vm.spec.tenant, DENIED_PROTECTED, vm.name, verb + " of a protected VM");
  return new Fault(ErrorCode.DENIED, "VM " + quoted(vm.name) + " is protected", vm.name, next);
}

function reborn(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const fault = vmReborn(vm, request);
  return fault != null ? Outcome.fail(fault) : rowOf(vm);
}

function act(request: Value, action: (vm: Vm) => Fault | null, ends: bool = false): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const guard = ends ? guardOf(vm, OP_RESET, request) : null;
  if (guard != null) return Outcome.fail(guard);
  const fault = action(vm);
  return fault != null ? Outcome.fail(fault) : rowOf(vm);
}

/** All VMs; a request that says `from` gets as many as a frame holds, and `next`. */
function list(request: Value): Outcome {
  const rows = Value.list();
  const all = vmsAll();
  const paged = request.get(FIELD_FROM) != null;
  const from = <i32>min<u64>(request.getUint(FIELD_FROM), all.length);
  const end = paged ? min(from + ROWS, all.length) : all.length;
  for (let i = from; i < end; i++) {
    const row = all[i].toRow();
    const reason = row.get(FIELD_REASON);
    if (reason != null && reason.text.length > MAX_ROW_REASON)
      reason.text = reason.text.substring(0, MAX_ROW_REASON - 1) + "~";
    rows.add(row);
  }
  const result = Value.map().put(FIELD_VMS, rows);
  return Outcome.of(end < all.length ? result.putUint(FIELD_NEXT, end) : result);
}

function show(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const result = showResult(vm);
  if (vm.state == STATE_RUNNING) vmSend(vm, LINK_STATS); // for the next time
  return Outcome.of(result);
}

function create(request: Value): Outcome {
  const read = readVmSpec(request.get(FIELD_SPEC), "new");
  if (read.fault != null) return Outcome.fail(read.fault!);
  const spec = read.spec!;
  let fault = vmCreate(spec);
  if (fault != null) return Outcome.fail(fault);
  const vm = vmFind(spec.name)!;
  if (spec.start) fault = vmStart(vm);
  if (fault == null) return rowOf(vm);
  vmRemove(vm, true);
  return Outcome.fail(fault);
}

function resume(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const fault = vmResume(vm, request.getBool(FIELD_FORCE));
  return fault != null ? Outcome.fail(fault) : rowOf(vm);
}

function stop(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  let fault = guardOf(vm, OP_STOP, request);
  if (fault == null) fault = vmStop(vm, request.getBool(FIELD_FORCE));
  return fault != null ? Outcome.fail(fault) : rowOf(vm);
}

function balloon(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const fault = vmBalloon(vm, request.getUint(FIELD_SIZE));
  return fault != null ? Outcome.fail(fault) : rowOf(vm);
}

/** Changes what of a specification needs no restart. */
function set(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  if (vm.moved) return Outcome.fail(movedFault(vm));
  const changes = request.get(FIELD_SPEC);
  const read = readVmChanges(vm.spec, changes);
  if (read.fault != null) return Outcome.fail(read.fault!);
  const denied = policyAdmit(vm, read.spec!);
  if (denied != null) return Outcome.fail(denied);
  const fault = vmShare(vm, read.spec!.share, vm.spec.share);
  if (fault != null) return Outcome.fail(fault);
  vmChange(vm, read.spec!);
  emit(EVENT_VM_CHANGED, vm.name, "changed: " + changes!.keys.join(", "));
  return rowOf(vm);
}

function remove(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const vm = vmFind(name);
  if (vm == null) return Outcome.fail(noSuchVm(name));
  const row = vm.toRow();
  let fault = guardOf(vm, OP_RM, request);
  if (fault == null) fault = vmRemove(vm, request.getBool(FIELD_FORCE));
  return fault != null ? Outcome.fail(fault) : Outcome.of(row);
}

function logs(request: Value): Outcome {
  const name = request.getText(FIELD_VM);
  const from = request.getUint(FIELD_FROM);
  if (name == "") {
    const log = kernelLog(from, Protocol.MAX_CHUNK);
    return logResult(log.from, log.data);
  }
  if (vmFind(name) == null) return Outcome.fail(noSuchVm(name));
  const cursor = new Cursor(name);
  cursor.seek(from);
  const length = cursor.read(piece, Protocol.MAX_CHUNK);
  const data = new StaticArray<u8>(length);
  memory.copy(changetype<usize>(data), piece, length);
  return logResult(cursor.position - length, data);
}

function logResult(from: u64, data: StaticArray<u8>): Outcome {
  return Outcome.of(
    Value.map()
      .putUint(FIELD_FROM, from)
      .put(FIELD_DATA, Value.bytes(data))
      .putUint(FIELD_NEXT, from + data.length),
  );
}

function events(request: Value): Outcome {
  let since = request.getUint(FIELD_SINCE);
  const out = Value.list();
  let budget = EVENTS_BUDGET;
  for (let n = 0; n < Protocol.MAX_EVENTS_REPLY; n++) {
    const event = eventAfter(since);
    if (event == null) break;
    budget -= 60 + String.UTF8.byteLength(event.text) + event.kind.length + event.vm.length;
    if (budget < 0) break;
    out.add(event.toValue());
    since = event.seq;
  }
  return Outcome.of(Value.map().put(FIELD_EVENTS, out).putUint(FIELD_NEXT, since));
}

function images(): Outcome {
  const out = Value.list();
  const all = modules();
  for (let i = 0; i < all.length; i++)
    out.add(Value.map().putText(FIELD_NAME, all[i].name).putUint(FIELD_SIZE, all[i].size));
  return Outcome.of(Value.map().put(FIELD_IMAGES, out));
}

function trap(request: Value): Outcome {
  throw new Error("test.trap: the control domain was told to trap");
}
