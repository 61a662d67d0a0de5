// From power-on to the prompt: the host specification and its VMs. After a restart: finding everything again.

import { CAP_SELF, Failure, ObjectType, PAGE_SIZE, DomainState, VcpuState } from "../gen/abi";
import { CapInfo, DomainInfo, VcpuInfo } from "../gen/layout";
import { capInfo, domainInfo, log, vcpuInfo } from "../lib/binding";
import { Refusal } from "../protocol/planner";
import { readConfig } from "../lib/link";
import {
  BOOT_AUTO,
  CONSOLE_SERIAL,
  CONSOLE_VIRTIO,
  EVENT_CONTROL_STARTED,
  EVENT_SPEC_ERROR,
  FIELD_BOOT,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_DEBUG_EXIT,
  FIELD_DISKS,
  FIELD_FIRMWARE,
  FIELD_IMAGE,
  FIELD_KERNEL,
  FIELD_MODULES,
  FIELD_CDROM,
  FIELD_READ_ONLY,
  FIELD_RINGS,
  LINK_INITRD_SIZE,
  RINGS_SPLIT,
  Specification,
  STATE_CRASHED,
  STATE_MOVED,
  STATE_PAUSED,
  STATE_RUNNING,
  STATE_STARTING,
} from "../protocol/schema";
import { auditRestore } from "./audit";
import { decode } from "./codec";
import { emit, eventsRestore } from "./events";
import { findModule, info, MAX_DOCUMENT, moduleDocument, modules } from "./host";
import { DAMAGE_NEXT, damageOf, damages, manifestCheck } from "./manifest";
import { disksForget } from "./disks";
import { flashForget } from "./flash";
import { networksHold, networksOfLink, networksSweep } from "./networks";
import { linkAddress, vmOfSlot, vmSlot, VmSlot, vmsThatFit } from "./slots";
import { HostSpec, readHostSpec } from "./host-spec";
import { DiskSpec, isName, ModuleSpec, VmSpec } from "./spec";
import { snapshotsRestore } from "./snapshots";
import { stashProblem } from "./stash-form";
import { planTenants } from "./planning";
import { Mitigations, mitigationsSet } from "./mitigations";
import { policyDenied, rulesSet } from "./rules";
import { tenantsSet } from "./tenants";
import { clean, counted, fieldText, grouped, quoted } from "./text";
import { upgradeFresh, upgradeRestore } from "./upgrade";
import { Vm } from "./vm";
import { vmAttachLink, vmCost, vmForgetLink, vmTearDown } from "./vm-builder";
import { vmCreate, vmStartSoon } from "./vm-actions";
import { failureName, lastWords, vmReadLink, vmsDomainEvent } from "./vm-watch";
import {
  hostNameSet,
  hostSave,
  hostUnstash,
  slotsHeld,
  vmAdopt,
  vmFind,
  vmHolds,
  vmsAll,
  vmSave,
  vmUnstash,
} from "./vms";

const SPEC_MODULE: string = "spec";

const configBuffer: usize = memory.data(4096, 16);
const capPage: usize = memory.data(96, 16);
const domainPage: usize = memory.data(128, 16);
const vcpuPage: usize = memory.data(704, 16);

const problems: string[] = [];

/** What was wrong at boot, one line each. */
export function bootProblems(): string[] {
  return problems;
}

/** Told on the line, and by way of the kernel's log on the screen. */
function problem(vm: string, text: string, next: string): void {
  problems.push(text + (next != "" ? "\n  next: " + next : ""));
  log("error: " + text + (next != "" ? "; next: " + next : ""));
  emit(EVENT_SPEC_ERROR, vm, text);
}

/** A first start: creates and starts the VMs of the host specification. Returns a line for people. */
export function bootFresh(): string {
  emit(EVENT_CONTROL_STARTED, "", "control domain started");
  hostSave();
  upgradeFresh();
  manifestCheck();
  for (let i = 0; i < damages().length; i++) problem("", damages()[i], DAMAGE_NEXT);
  const spec = readSpecModule();
  mitigationsSet(spec != null ? spec.mitigations : new Mitigations());
  if (spec == null)
    return problems.length > 0
      ? "no VMs were started"
      : 'there is no module "spec", so there are no VMs; next: create';
  tenantsSet(spec.tenants);
  rulesSet(spec.rules);
  hostNameSet(spec.name);
  const denied = planTenants(spec.tenants, spec.rules);
  for (let i = 0; i < spec.faults.length; i++)
    problem(spec.faults[i].object, spec.faults[i].message, spec.faults[i].next);
  for (let i = 0; i < denied.length; i++) {
    problem("", denied[i].message, denied[i].next);
    if (denied[i].denied != "") policyDenied(denied[i].tenant, denied[i].denied, "", denied[i].message);
  }
  let started = 0;
  for (let i = 0; i < spec.vms.length; i++) {
    const wanted = spec.vms[i];
    if (isDenied(denied, wanted.tenant)) continue;
    const fault = vmCreate(wanted);
    if (fault == null && wanted.start) {
      vmStartSoon(vmFind(wanted.name)!);
      started++;
    }
    if (fault != null) problem(wanted.name, fault.message, fault.next);
  }
  return (
    "host " +
    quoted(spec.name) +
    ": " +
    counted(vmsAll().length, "VM") +
    ", " +
    started.toString() +
    " starting"
  );
}

function isDenied(refusals: Refusal[], tenant: string): bool {
  for (let i = 0; i < refusals.length; i++) if (refusals[i].object == tenant) return true;
  return false;
}

function readSpecModule(): HostSpec | null {
  const module = findModule(SPEC_MODULE);
  if (module == null || damageOf(SPEC_MODULE) != "") return null;
  if (module.size <= MAX_DOCUMENT) return readHostSpec(moduleDocument(module));
  const size = grouped(module.size);
  problem("", 'host specification: module "spec" has ' + size + " bytes, it may have 65,536", "images");
  return null;
}

/** A restart: takes over the predecessor's VMs. Returns a line for people. */
export function bootAgain(): string {
  const refused = stashProblem();
  assert(refused == "" || info().trial == 0, refused); /* the image before takes over again */
  eventsRestore();
  auditRestore();
  manifestCheck();
  networksHold();
  hostUnstash();
  snapshotsRestore();
  adoptStashed();
  adoptOrphans();
  networksSweep();
  const cause = failureName(info().last_failure);
  const words = info().last_failure == Failure.TRAP ? lastWords("control") : "";
  const reason = words != "" ? "trap: " + clean(words, 110) : cause;
  const count = vmsAll().length;
  const text = upgradeRestore(reason, counted(count, "VM"));
  if (refused != "") {
    problem("", refused, "ls");
    hostSave(); /* as this component can read it */
  }
  for (let i = 0; i < count; i++) vmSave(vmsAll()[i]);
  for (let i = 0; i < count && i < vmsAll().length; i++) vmReadLink(vmsAll()[i]);
  vmsDomainEvent();
  return text;
}

function limit(): u32 {
  capInfo(CAP_SELF, capPage);
  return min<u32>(Specification.MAX_VMS, vmsThatFit(changetype<CapInfo>(capPage).slots));
}

function adoptStashed(): void {
  const end = limit();
  for (let index: u32 = 0; index < end; index++) {
    const vm = vmUnstash(index);
    if (vm == null || !vmAdopt(vm)) continue;
    vm.cost = vmCost(vm);
    reconcile(vm);
  }
}

/** Makes the VM's record agree with what the kernel has of it. */
function reconcile(vm: Vm): void {
  const believed = vm.state;
  const whole = isWhole(vm.index, vm.name);
  vm.alive = true;
  if (vm.restartAt != 0) {
    vmTearDown(vm); /* its start is still to come */
    return;
  }
  const moved = believed == STATE_MOVED;
  if (moved || believed == STATE_RUNNING || believed == STATE_PAUSED || believed == STATE_STARTING) {
    if (whole && vmAttachLink(vm)) {
      if (moved && isPaused(vm.index)) return;
      if (believed != STATE_STARTING || isStarted(vm.index))
        vm.enter(isPaused(vm.index) ? STATE_PAUSED : STATE_RUNNING, vm.reason);
      return;
    }
    vm.enter(moved ? STATE_MOVED : STATE_CRASHED, "lost when the control domain restarted");
  }
  vmTearDown(vm);
  if (vmHolds(vm.index, VmSlot.LINK)) vmAttachLink(vm);
}

function isPaused(index: u32): bool {
  if (domainInfo(vmSlot(index, VmSlot.DOMAIN), domainPage) < 0) return false;
  return changetype<DomainInfo>(domainPage).state == DomainState.PAUSED;
}

/** Whether the device model has started the VM's vCPU. */
function isStarted(index: u32): bool {
  if (vcpuInfo(vmSlot(index, VmSlot.VCPU), vcpuPage) < 0) return false;
  return changetype<VcpuInfo>(vcpuPage).state != VcpuState.STOPPED;
}

/** The label of the domain in a slot, "" when there is none. */
function labelOf(slot: u32): string {
  if (capInfo(slot, capPage) < 0) return "";
  const cap = changetype<CapInfo>(capPage);
  return cap.type == ObjectType.DOMAIN ? fieldText(cap.label.address, 32) : "";
}

/** Whether all objects of a VM are there. */
function isWhole(index: u32, name: string): bool {
  for (let what = <u32>VmSlot.MEMORY; what <= <u32>VmSlot.VCPU; what++)
    if (!vmHolds(index, what)) return false;
  return (
    labelOf(vmSlot(index, VmSlot.MODEL)) == "dm/" + name &&
    labelOf(vmSlot(index, VmSlot.DOMAIN)) == "vm/" + name
  );
}

/** Objects that no record claims: a whole VM is adopted by its label and its link, anything else is freed. */
function adoptOrphans(): void {
  const end = <i32>limit();
  const held = slotsHeld();
  let last = -1;
  for (let n = 0; n < held.length; n++) {
    const index = vmOfSlot(held[n]);
    if (index <= last || index >= end) continue;
    last = index;
    let claimed = false;
    for (let i = 0; i < vmsAll().length; i++) claimed = claimed || vmsAll()[i].index == index;
    if (claimed) continue;
    const label = labelOf(vmSlot(index, VmSlot.DOMAIN));
    const name = label.startsWith("vm/") ? label.substring(3) : "";
    const vm = new Vm(index, new VmSpec());
    vm.spec.name = name;
    vm.alive = true;
    if (isName(name) && isWhole(index, name) && vmAttachLink(vm)) {
      readSpecOfLink(vm);
      vm.cost = vmCost(vm);
      vm.enter(isPaused(index) ? STATE_PAUSED : STATE_RUNNING, "found by its label");
      if (vmAdopt(vm)) continue;
    }
    vm.alive = true;
    vmTearDown(vm);
    vmForgetLink(vm);
    disksForget(index);
    flashForget(index);
  }
}

/** What can be known of a specification from the link's configuration and the memory object. */
function readSpecOfLink(vm: Vm): void {
  if (capInfo(vmSlot(vm.index, VmSlot.MEMORY), capPage) >= 0)
    vm.spec.memory = changetype<CapInfo>(capPage).pages * PAGE_SIZE;
  vm.target = vm.spec.memory;
  const length = readConfig(linkAddress(vm.index), configBuffer);
  const value = length > 0 ? decode(configBuffer, length) : null;
  if (value == null) return;
  const disks = value.getList(FIELD_DISKS);
  for (let i = 0; i < disks.length; i++) {
    const disk = disks[i];
    const readOnly = disk.getBool(FIELD_READ_ONLY);
    vm.spec.disks.push(new DiskSpec(disk.getText(FIELD_IMAGE), readOnly, disk.getBool(FIELD_CDROM)));
  }
  vm.disksFilled = true;
  networksOfLink(vm, value);
  if (value.getText(FIELD_RINGS) == RINGS_SPLIT) vm.spec.rings = RINGS_SPLIT;
  vm.spec.console = value.getText(FIELD_CONSOLE) == CONSOLE_VIRTIO ? CONSOLE_VIRTIO : CONSOLE_SERIAL;
  vm.spec.boot = value.getText(FIELD_BOOT, BOOT_AUTO);
  vm.spec.debugExit = value.getBool(FIELD_DEBUG_EXIT);
  const extra = value.getList(FIELD_MODULES);
  for (let i = 0; i < extra.length; i++)
    vm.spec.modules.push(new ModuleSpec(extra[i].getText(FIELD_IMAGE), extra[i].getText(FIELD_CMDLINE)));
  vm.spec.cmdline = clean(value.getText(FIELD_CMDLINE), Specification.MAX_CMDLINE);
  const all = modules();
  for (let i = 0; i < all.length; i++) {
    if (all[i].name == value.getText(FIELD_KERNEL)) vm.spec.kernel = all[i].name;
    if (all[i].name == value.getText(FIELD_FIRMWARE)) vm.spec.firmware = all[i].name;
    if (all[i].size == value.getUint(LINK_INITRD_SIZE)) vm.spec.initrd = all[i].name;
  }
}
