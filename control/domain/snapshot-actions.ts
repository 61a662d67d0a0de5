// What an administrator does with snapshots: a VM as it is now is kept; a VM goes back to one; a new VM goes on from one.

import { DomainState, PAGE_SIZE, Status } from "../gen/abi";
import { DomainInfo } from "../gen/layout";
import { domainInfo, domainPause, domainResume, memCreate, now } from "../lib/binding";
import { mayShare, SHARE_CACHES } from "../protocol/rules";
import {
  DENIED_CACHES,
  DENIED_LIMITS,
  DENIED_PROTECTED,
  ErrorCode,
  EVENT_SNAPSHOT_REMOVED,
  EVENT_VM_CLONED,
  EVENT_VM_RESTORED,
  EVENT_VM_SNAPSHOT,
  FIELD_FORCE,
  FIELD_FROM,
  FIELD_GENERATION,
  FIELD_NAME,
  FIELD_NEXT,
  FIELD_NOTE,
  FIELD_OBJECTS,
  FIELD_OVERCOMMIT,
  FIELD_PAUSED,
  FIELD_PAUSE_TICKS,
  FIELD_PROTECTED,
  FIELD_SNAPSHOTS,
  FIELD_TARGET,
  FIELD_TENANT,
  FIELD_VM,
  LINK_ADDRESSES,
  LINK_CLONE,
  LINK_REBORN,
  LINK_T,
  LINK_WALL_CLOCK,
  Specification,
  STATE_COMPLETE,
  STATE_CRASHED,
  STATE_PAUSED,
  STATE_RUNNING,
} from "../protocol/schema";
import { wallClock } from "./clock";
import { noSuchVm } from "./commands";
import { diskOwnPages, disksForget, disksRevivable } from "./disks";
import { emit } from "./events";
import { flashForget } from "./flash";
import { freePages, ticksToUs } from "./host";
import { cardAddress, networksAgain } from "./networks";
import { Fault, Outcome } from "./outcome";
import { policyPlace } from "./policy";
import { policyDenied, rulesAll } from "./rules";
import { MAX_DISKS, SnapshotSlot, snapshotSlot, VmSlot, vmSlot } from "./slots";
import { documentOf, newGeneration, objectsToValue, sidesOf } from "./snapshot-document";
import { familyShrink, newFamily, promise, promisePages, unpromise } from "./snapshot-share";
import { statePages, StateWriter } from "./snapshot-state";
import {
  noSuchSnapshot,
  Snapshot,
  snapshotAdopt,
  snapshotDomain,
  snapshotDrop,
  snapshotFind,
  snapshotForget,
  snapshotCosts,
  snapshotFreeIndex,
  snapshotsAll,
  snapshotSave,
  snapshotShare,
} from "./snapshots";
import { isName, readVmSpec, VmSpec } from "./spec";
import { Tenant, tenantFind } from "./tenants";
import { clean, grouped, mib, quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { movedFault, NewVm, sendMessage, wrongState } from "./vm-actions";
import { shellPages, vmBuild, vmCost, vmForgetLink, vmFrees, vmTearDown } from "./vm-builder";
import { vmReadLink } from "./vm-watch";
import { memoryPages, slotHolds, vmAdopt, vmFind, vmForget, vmSave, vmsAll } from "./vms";

const RECORD_PAGES: u64 = 2;
/** Of a snapshot's domain: itself, and tables of what is small. */
const QUOTA_BESIDE: u64 = 48;
/** Snapshots in one reply. */
const ROWS = 12;

function subject(snapshot: string): string {
  return "snapshot " + quoted(snapshot) + ": ";
}

// --- create ---

/** A name that is not taken: VM-1, VM-2 and so on. */
function freeName(vm: string): string {
  let name = vm;
  for (let n = 1; name == vm || snapshotFind(name) != null; n++) {
    const end = "-" + n.toString();
    name = vm.substring(0, <i32>Specification.MAX_NAME - end.length) + end;
  }
  return name;
}

/** What is wrong with the name of a new snapshot, or that there are too many. */
export function nameFault(name: string): Fault | null {
  if (!isName(name)) {
    const text = quoted(name) + " is no name for a snapshot: lower-case letters, digits, -, . and _";
    return new Fault(ErrorCode.USAGE, text, clean(name, 60), "help snapshot");
  }
  if (snapshotFind(name) != null)
    return new Fault(
      ErrorCode.WRONG_STATE,
      subject(name) + "there is one of that name",
      name,
      "snapshot show " + name,
    );
  if (snapshotFreeIndex() >= 0) return null;
  const text = subject(name) + "there are " + snapshotsAll().length.toString() + ", no more are possible";
  return new Fault(ErrorCode.FAILED, text, name, "snapshot rm NAME");
}

/** Pages that tables of so much memory may take. */
function tablesOf(pages: u64): u64 {
  return pages / 512 + pages / (512 * 512) + 2;
}

/** The quota of a snapshot's domain: tables of all that it holds. */
export function snapshotQuota(spec: VmSpec, diskPages: u64): u32 {
  return <u32>(QUOTA_BESIDE + tablesOf(spec.memory / PAGE_SIZE) + tablesOf(diskPages));
}

/** Whether a tenant may have so much more. */
export function limitFault(name: string, tenant: Tenant | null, more: u64): Fault | null {
  if (tenant == null || tenant.memory == 0) return null;
  let used = snapshotCosts(tenant.name);
  for (let i = 0; i < vmsAll().length; i++)
    if (vmsAll()[i].spec.tenant == tenant.name) used += vmsAll()[i].cost;
  if (used + more <= tenant.memory) return null;
  const need = mib(more) + " more, tenant " + quoted(tenant.name) + " has " + mib(used) + " of ";
  const text = subject(name) + "needs " + need + mib(tenant.memory);
  policyDenied(tenant.name, DENIED_LIMITS, name, text);
  return new Fault(ErrorCode.DENIED, text, name, "tenants");
}

/** The fault for memory that is not there; `next`: what would need less. */
function memoryFault(what: string, object: string, pages: u64, free: u64, next: string): Fault {
  const missing = mib(max<u64>((pages - min(free, pages)) * PAGE_SIZE, PAGE_SIZE));
  const text = what + "needs " + mib(pages * PAGE_SIZE) + ", so that no write fails later: ";
  return new Fault(ErrorCode.FAILED, text + missing + " are missing", object, next);
}

const domainPage: usize = memory.data(128, 16);

function standsStill(domain: u32): bool {
  return (
    domainInfo(domain, domainPage) >= 0 && changetype<DomainInfo>(domainPage).state == DomainState.PAUSED
  );
}

/** Stops a VM with its device model, where they are. Both may stand still already, since the snapshot before. */
function freeze(vm: Vm): bool {
  const domain = vmSlot(vm.index, VmSlot.DOMAIN);
  if (domainPause(domain, true) >= 0) return true;
  return standsStill(domain) && standsStill(vmSlot(vm.index, VmSlot.MODEL));
}

/** Copies all that a VM writes to the snapshot in a place. */
function cloneObjects(vm: Vm, index: u32): i64 {
  const from: u32[] = [VmSlot.MEMORY, VmSlot.MODEL_RAM, VmSlot.LINK, VmSlot.FLASH, VmSlot.IMAGE];
  const to: u32[] = [
    SnapshotSlot.MEMORY,
    SnapshotSlot.MODEL,
    SnapshotSlot.LINK,
    SnapshotSlot.FLASH,
    SnapshotSlot.IMAGE,
  ];
  for (let n: u32 = 0; n < MAX_DISKS; n++) {
    from.push(VmSlot.DISK + n);
    to.push(SnapshotSlot.DISK + n);
  }
  for (let n = 0; n < from.length; n++) {
    const slot = vmSlot(vm.index, from[n]);
    if (!slotHolds(slot)) continue;
    const status = snapshotShare(index, to[n], slot);
    if (status < 0) return status;
  }
  return 0;
}

/** What went wrong when a snapshot was made. */
function createFault(vm: Vm, name: string, what: string, status: i64): Fault {
  if (status == -(<i64>Status.NO_MEMORY)) {
    const next = "snapshot create " + vm.name + " --overcommit";
    return memoryFault(subject(name), name, promisePages(vm), freePages(), next);
  }
  const text = subject(name) + what + " failed: status " + (-status).toString();
  return new Fault(ErrorCode.FAILED, text, name, "free");
}

/** TSC ticks for which the last VM stood still. */
let stoodStill: u64 = 0;

/** Makes the objects of a snapshot; its fault, or null. */
function take(vm: Vm, index: u32, name: string, overcommit: bool): Fault | null {
  const writer = new StateWriter(vm, snapshotSlot(index, SnapshotSlot.STATE));
  const fault = takeStill(vm, index, name, overcommit, writer);
  writer.close();
  return fault;
}

/** What is done while the VM stands still, and nothing else. */
function takeStill(vm: Vm, index: u32, name: string, overcommit: bool, writer: StateWriter): Fault | null {
  const running = vm.state == STATE_RUNNING;
  vmReadLink(vm); /* what its device model has said is not said again by a copy */
  const gone = new Fault(ErrorCode.WRONG_STATE, subject(name) + "its VM has just ended", name, "ls");
  const begun = now();
  if (!vm.alive || !freeze(vm)) return gone;
  vmReadLink(vm);
  if (!vm.alive) return gone;
  let what = "copying its memory";
  let status = cloneObjects(vm, index);
  if (status >= 0) {
    what = "saving its state";
    status = writer.save();
  }
  if (status >= 0) {
    what = "keeping memory for it";
    status = promise(vm, overcommit);
  }
  const fault = status < 0 ? createFault(vm, name, what, status) : null;
  if (fault != null) snapshotDrop(index);
  if (fault != null && vm.family == 0) unpromise(vm);
  if (running) domainResume(vmSlot(vm.index, VmSlot.DOMAIN));
  stoodStill = now() - begun;
  return fault;
}

/** What a snapshot needs besides what is promised, in pages. */
function besidePages(vm: Vm): u64 {
  return snapshotQuota(vm.spec, diskOwnPages(vm)) + statePages(vm.spec.vcpus) + RECORD_PAGES;
}

/** Keeps a VM as it is now. */
export function snapshotCreate(request: Value): Outcome {
  const vm = vmFind(request.getText(FIELD_VM));
  if (vm == null) return Outcome.fail(noSuchVm(request.getText(FIELD_VM)));
  if (!vm.alive || (vm.state != STATE_RUNNING && vm.state != STATE_PAUSED))
    return Outcome.fail(
      wrongState(vm, "running or paused", vm.ended ? "start " + vm.name : "show " + vm.name),
    );
  const name = request.getText(FIELD_NAME, freeName(vm.name));
  const overcommit = request.getBool(FIELD_OVERCOMMIT);
  const promised: u64 = overcommit ? 0 : promisePages(vm);
  let fault = nameFault(name);
  const cost = (promised + besidePages(vm)) * PAGE_SIZE;
  if (fault == null) fault = limitFault(name, tenantFind(vm.spec.tenant), cost);
  const needed = besidePages(vm) + (vm.family == 0 ? promised : 0);
  if (fault == null && needed > freePages()) {
    const next = overcommit ? "free" : "snapshot create " + vm.name + " --overcommit";
    fault = memoryFault(subject(name), name, needed, freePages(), next);
  }
  if (fault != null) return Outcome.fail(fault);
  const index = <u32>snapshotFreeIndex();
  const document = documentOf(vm, name, clean(request.getText(FIELD_NOTE), Specification.MAX_NOTE));
  let status = snapshotDomain(index, name, snapshotQuota(vm.spec, diskOwnPages(vm)));
  if (status >= 0) status = memCreate(snapshotSlot(index, SnapshotSlot.STATE), statePages(vm.spec.vcpus));
  if (status < 0) fault = createFault(vm, name, "making it", status);
  else fault = take(vm, index, name, overcommit);
  const snapshot = new Snapshot(index, document, copySpec(vm.spec));
  snapshot.document.put(FIELD_OBJECTS, objectsToValue(index)).putUint(FIELD_PAUSE_TICKS, stoodStill);
  snapshot.cost = cost;
  if (fault == null) {
    if (vm.family == 0) vm.family = newFamily();
    snapshot.family = vm.family;
    snapshotAdopt(snapshot);
    if (!snapshotSave(snapshot))
      fault = createFault(vm, name, "writing its record", -(<i64>Status.NO_MEMORY));
  }
  if (fault != null) {
    snapshotForget(snapshot);
    familyShrink(vm.family);
    return Outcome.fail(fault);
  }
  if (vm.state == STATE_PAUSED) vm.kept = name;
  vmSave(vm);
  const us = grouped(ticksToUs(stoodStill)) + " us";
  emit(EVENT_VM_SNAPSHOT, vm.name, "snapshot " + quoted(name) + "; it stood still for " + us);
  return Outcome.of(snapshot.toRow());
}

function copySpec(spec: VmSpec): VmSpec {
  return readVmSpec(spec.toValue(), "snapshot").spec!;
}

// --- list ---

export function snapshotLs(request: Value): Outcome {
  const vm = request.getText(FIELD_VM);
  const all: Snapshot[] = [];
  for (let i = 0; i < snapshotsAll().length; i++)
    if (vm == "" || snapshotsAll()[i].vm == vm) all.push(snapshotsAll()[i]);
  if (vm != "" && all.length == 0 && vmFind(vm) == null) return Outcome.fail(noSuchVm(vm));
  const rows = Value.list();
  const from = <i32>min<u64>(request.getUint(FIELD_FROM), all.length);
  const end = min(from + ROWS, all.length);
  for (let i = from; i < end; i++) rows.add(all[i].toRow());
  const result = Value.map().put(FIELD_SNAPSHOTS, rows);
  return Outcome.of(end < all.length ? result.putUint(FIELD_NEXT, end) : result);
}

export function snapshotShow(request: Value): Outcome {
  const name = request.getText(FIELD_NAME);
  const snapshot = snapshotFind(name);
  return snapshot != null ? Outcome.of(snapshot.document) : Outcome.fail(noSuchSnapshot(name));
}

export function snapshotRemove(request: Value): Outcome {
  const name = request.getText(FIELD_NAME);
  const snapshot = snapshotFind(name);
  if (snapshot == null) return Outcome.fail(noSuchSnapshot(name));
  const row = snapshot.toRow();
  snapshotForget(snapshot);
  familyShrink(snapshot.family);
  emit(EVENT_SNAPSHOT_REMOVED, snapshot.vm, "snapshot " + quoted(name) + " removed");
  return Outcome.of(row);
}

// --- restore and clone ---

/** Pages of all that a copy of a snapshot writes. */
function copyPages(snapshot: Snapshot): u64 {
  let pages: u64 = 0;
  for (let what = <u32>SnapshotSlot.MEMORY; what < <u32>SnapshotSlot.DISK + MAX_DISKS; what++)
    if (what != SnapshotSlot.IMAGE) pages += memoryPages(snapshot.slot(what));
  return pages;
}

function find(request: Value): Outcome {
  const name = request.getText(FIELD_NAME);
  const snapshot = snapshotFind(name);
  if (snapshot == null) return Outcome.fail(noSuchSnapshot(name));
  if (snapshot.state == STATE_COMPLETE) return Outcome.of(snapshot.document);
  const text = subject(name) + "it has not come whole yet";
  return Outcome.fail(new Fault(ErrorCode.WRONG_STATE, text, name, "snapshot rm " + name));
}

/** Whether a VM can go on from a snapshot here; `frees`: bytes that come back first. */
function reviveAdmit(vm: Vm, snapshot: Snapshot, overcommit: bool, frees: u64): Fault | null {
  const fault = disksRevivable(vm);
  if (fault != null) return fault;
  const needed = shellPages(vm) + (overcommit ? 0 : copyPages(snapshot));
  const free = freePages() + frees / PAGE_SIZE;
  if (needed <= free) return null;
  const what = "VM " + quoted(vm.name) + " from snapshot " + quoted(snapshot.name) + " ";
  return memoryFault(what, vm.name, needed, free, overcommit ? "free" : "help snapshot");
}

/** Builds a VM from a snapshot and lets it go on. */
function revive(vm: Vm, snapshot: Snapshot, request: Value, clone: bool): Fault | null {
  policyPlace(vm);
  vm.target = snapshot.document.getUint(FIELD_TARGET, vm.spec.memory);
  vm.held = 0;
  vm.stopping = false;
  let fault = vmBuild(vm, snapshot.index);
  if (fault == null && promise(vm, request.getBool(FIELD_OVERCOMMIT)) < 0) {
    const what = "VM " + quoted(vm.name) + " from snapshot " + quoted(snapshot.name) + " ";
    fault = memoryFault(what, vm.name, copyPages(snapshot), freePages(), "help snapshot");
  }
  if (fault == null && !sendReborn(vm, clone))
    fault = new Fault(ErrorCode.FAILED, "VM " + quoted(vm.name) + ": its link is full", vm.name, "ls");
  if (fault != null) {
    vmTearDown(vm);
    vmForgetLink(vm);
    disksForget(vm.index);
    flashForget(vm.index);
    return fault;
  }
  const paused = request.getBool(FIELD_PAUSED);
  if (!paused) domainResume(vmSlot(vm.index, VmSlot.DOMAIN));
  vm.family = snapshot.family;
  vm.disksFilled = true;
  vm.restarts = [];
  vm.enter(paused ? STATE_PAUSED : STATE_RUNNING, "from snapshot " + quoted(snapshot.name));
  vmSave(vm);
  return null;
}

/** The first that its device model hears: who it is now, and what time it is. */
function sendReborn(vm: Vm, clone: bool): bool {
  const addresses = Value.list();
  for (let i = 0; i < vm.cards.length; i++) addresses.add(Value.uint(cardAddress(vm, i)));
  return sendMessage(
    vm,
    Value.map()
      .putText(LINK_T, LINK_REBORN)
      .putText(FIELD_NAME, vm.name)
      .put(FIELD_GENERATION, newGeneration())
      .putUint(LINK_WALL_CLOCK, wallClock())
      .put(LINK_ADDRESSES, addresses)
      .putBool(LINK_CLONE, clone),
  );
}

/** A new VM that goes on from a snapshot. */
function begin(spec: VmSpec, snapshot: Snapshot, request: Value, clone: bool): Outcome {
  const made = new NewVm(spec);
  let fault = made.fault;
  if (fault != null) return Outcome.fail(fault);
  const vm = made.vm!;
  networksAgain(vm, sidesOf(snapshot.document));
  fault = reviveAdmit(vm, snapshot, request.getBool(FIELD_OVERCOMMIT), 0);
  if (fault != null) return Outcome.fail(fault);
  vmAdopt(vm);
  fault = revive(vm, snapshot, request, clone);
  if (fault == null) return Outcome.of(vm.toRow());
  vmForget(vm);
  return Outcome.fail(fault);
}

/** Whether memory may be shared with a tenant: whoever shares pages sees by the caches which the other uses. */
function tenantFault(spec: VmSpec, snapshot: Snapshot): Fault | null {
  if (mayShare(rulesAll(), snapshot.tenant, spec.tenant, SHARE_CACHES)) return null;
  const text =
    "VM " +
    quoted(spec.name) +
    ": it would share memory with tenant " +
    quoted(snapshot.tenant) +
    ", and no rule lets " +
    quoted(spec.tenant) +
    " share caches with it";
  policyDenied(spec.tenant, DENIED_CACHES, spec.name, text);
  return new Fault(ErrorCode.DENIED, text, spec.name, "policy check");
}

/** A new VM goes on from a snapshot, as one of its own. */
export function snapshotClone(request: Value): Outcome {
  const found = find(request);
  if (found.fault != null) return found;
  const snapshot = snapshotFind(request.getText(FIELD_NAME))!;
  const name = request.getText(FIELD_VM);
  if (!isName(name)) {
    const text = quoted(name) + " is no name for a VM: lower-case letters, digits, -, . and _";
    return Outcome.fail(new Fault(ErrorCode.USAGE, text, clean(name, 60), "help snapshot"));
  }
  const spec = copySpec(snapshot.spec);
  spec.name = name;
  spec.tenant = request.getText(FIELD_TENANT, spec.tenant);
  spec.scaleMin = 0; /* a copy has none of its own */
  spec.scaleMax = 0;
  for (let i = 0; i < spec.cards.length; i++) spec.cards[i].mac = "";
  const fault = spec.tenant != snapshot.tenant ? tenantFault(spec, snapshot) : null;
  if (fault != null) return Outcome.fail(fault);
  const outcome = begin(spec, snapshot, request, true);
  if (outcome.fault == null) emit(EVENT_VM_CLONED, name, "cloned from snapshot " + quoted(snapshot.name));
  return outcome;
}

/** What a VM that is there says against going back. */
function restoreFault(vm: Vm, snapshot: Snapshot, request: Value): Fault | null {
  const force = request.getBool(FIELD_FORCE);
  const next = "snapshot restore " + snapshot.name + " --force";
  if (vm.moved) return movedFault(vm);
  if (!vm.ended && !force) return wrongState(vm, "stopped, or --force must be said", next);
  if (!vm.spec.guarded || (force && request.getBool(FIELD_PROTECTED))) return null;
  policyDenied(vm.spec.tenant, DENIED_PROTECTED, vm.name, "restore of a protected VM");
  return new Fault(
    ErrorCode.DENIED,
    "VM " + quoted(vm.name) + " is protected",
    vm.name,
    next + " --protected",
  );
}

/** A snapshot's VM goes back to it; it is made again if it is gone. */
export function snapshotRestore(request: Value): Outcome {
  const found = find(request);
  if (found.fault != null) return found;
  const snapshot = snapshotFind(request.getText(FIELD_NAME))!;
  const vm = vmFind(snapshot.vm);
  const outcome =
    vm == null ? begin(copySpec(snapshot.spec), snapshot, request, false) : goBack(vm, snapshot, request);
  if (outcome.fault == null)
    emit(EVENT_VM_RESTORED, snapshot.vm, "restored from snapshot " + quoted(snapshot.name));
  return outcome;
}

function goBack(vm: Vm, snapshot: Snapshot, request: Value): Outcome {
  const overcommit = request.getBool(FIELD_OVERCOMMIT);
  let fault = restoreFault(vm, snapshot, request);
  if (fault == null && tenantFind(snapshot.tenant) == null) fault = noTenant(snapshot);
  const like = new Vm(vm.index, copySpec(snapshot.spec));
  if (fault == null) fault = reviveAdmit(like, snapshot, overcommit, vmFrees(vm));
  if (fault != null) return Outcome.fail(fault);
  const family = vm.family;
  vm.restartAt = 0;
  vmTearDown(vm);
  vmForgetLink(vm);
  disksForget(vm.index);
  flashForget(vm.index);
  vm.spec = copySpec(snapshot.spec);
  vm.cost = vmCost(vm);
  networksAgain(vm, sidesOf(snapshot.document));
  fault = revive(vm, snapshot, request, false);
  if (fault == null) {
    if (family != vm.family) familyShrink(family);
    return Outcome.of(vm.toRow());
  }
  vm.enter(STATE_CRASHED, fault.message);
  vmSave(vm);
  return Outcome.fail(fault);
}

function noTenant(snapshot: Snapshot): Fault {
  const text = subject(snapshot.name) + "its tenant " + quoted(snapshot.tenant) + " is not there any more";
  return new Fault(ErrorCode.NOT_FOUND, text, snapshot.name, "tenants");
}
