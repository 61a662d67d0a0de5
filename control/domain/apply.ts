// Does the steps of a plan: all of them, or none that stays.
//
// What is certain comes first, then VMs are ended, then VMs are started. A VM that goes keeps its place, its disks and
// its console until all else is done, so it can come back; only what was in its memory is lost then.

import { Plan } from "../protocol/planner";
import {
  ACTION_CHANGE,
  ACTION_CREATE,
  ACTION_REMOVE,
  ACTION_REPLACE,
  ACTION_RESTART,
  ACTION_START,
  EVENT_SPEC_APPLIED,
  EVENT_SPEC_UNDONE,
  EVENT_VM_CHANGED,
  EVENT_VM_REMOVED,
} from "../protocol/schema";
import { disksForget } from "./disks";
import { emit } from "./events";
import { HostSpec } from "./host-spec";
import { networksAssign } from "./networks";
import { ShareRule } from "../protocol/rules";
import { Fault } from "./outcome";
import { Mitigations, mitigationsGet, mitigationsSet } from "./mitigations";
import { denialsKeep, rulesAll, rulesSet } from "./rules";
import { sharesGive, sharesMove, sharesReturn } from "./shares";
import { VmSpec } from "./spec";
import { Tenant, tenantNames, tenantsAll, tenantsSet } from "./tenants";
import { counted, quoted } from "./text";
import { Vm } from "./vm";
import { vmCreate, vmLaunch, vmRemove, vmSendTarget, vmStart } from "./vm-actions";
import { vmCost, vmForgetLink, vmShare, vmTearDown } from "./vm-builder";
import { hostNameGet, hostNameSet, vmFind, vmForget, vmPark, vmsAll, vmSave, vmUnpark } from "./vms";

/** A VM before it was changed, parked or started. */
class Before {
  spec: VmSpec;
  target: u64;
  state: string;
  reason: string;
  up: bool;

  constructor(public vm: Vm) {
    this.spec = vm.spec;
    this.target = vm.target;
    this.state = vm.state;
    this.reason = vm.reason;
    this.up = !vm.ended && !vm.moved;
  }
}

/** What has been done, so that it can be taken back. */
class Journal {
  hostName: string = hostNameGet();
  tenants: Tenant[] = tenantsAll();
  rules: ShareRule[] = rulesAll();
  mitigations: Mitigations = mitigationsGet();
  changed: Before[] = [];
  restarted: Before[] = [];
  parked: Before[] = [];
  started: Before[] = [];
  created: Vm[] = [];
}

/** Gives a VM what of a specification changes while it runs. */
export function vmChange(vm: Vm, spec: VmSpec): void {
  const balloon = spec.balloon > 0 ? spec.balloon : spec.memory;
  const moved = spec.balloon != vm.spec.balloon || spec.floor != vm.spec.floor || vm.ended;
  vm.spec = spec;
  vm.cost = vmCost(vm);
  if (moved) vm.target = balloon;
  vmSave(vm);
  if (moved && vm.alive) vmSendTarget(vm);
}

function specOf(host: HostSpec, name: string): VmSpec {
  for (let i = 0; i < host.vms.length; i++) if (host.vms[i].name == name) return host.vms[i];
  assert(false, "a plan names a VM that is not in its specification");
  return host.vms[0];
}

/** Does all steps. A fault: one failed, and everything is as it was but for what the fault says. */
export function applyPlan(host: HostSpec, plan: Plan): Fault | null {
  const journal = new Journal();
  tenantsSet(host.tenants);
  rulesSet(host.rules);
  mitigationsSet(host.mitigations);
  hostNameSet(host.name);
  endVms(host, plan, journal);
  assignNetworks(journal.restarted);
  for (let i = 0; i < plan.steps.length; i++) {
    const step = plan.steps[i];
    const fault = start(host, step.action, step.object, journal);
    if (fault == null) continue;
    const place = "step " + (i + 1).toString() + " of " + plan.steps.length.toString();
    return takeBack(journal, place + ", " + step.action + " " + quoted(step.object) + ": ", fault);
  }
  commit(plan, journal);
  return null;
}

/** What of a specification its link and its places on networks are made for. */
function plugsOf(spec: VmSpec): string {
  let text = spec.ports.join(",");
  for (let i = 0; i < spec.cards.length; i++) text += ";" + spec.cards[i].network;
  return text;
}

/** The steps that cannot fail. */
function endVms(host: HostSpec, plan: Plan, journal: Journal): void {
  for (let i = 0; i < plan.steps.length; i++) {
    const action = plan.steps[i].action;
    const vm = vmFind(plan.steps[i].object);
    if (vm == null) continue;
    if (
      action == ACTION_RESTART ||
      (action == ACTION_CHANGE && plugsOf(vm.spec) != plugsOf(specOf(host, vm.name)))
    ) {
      journal.restarted.push(new Before(vm));
      respecify(vm, specOf(host, vm.name));
    } else if (action == ACTION_CHANGE) {
      journal.changed.push(new Before(vm));
      if (vm.alive && !vm.spec.share.equals(specOf(host, vm.name).share)) sharesReturn(vm);
      vmChange(vm, specOf(host, vm.name));
    } else if (action == ACTION_REMOVE || action == ACTION_REPLACE) {
      journal.parked.push(new Before(vm));
      vmTearDown(vm);
      vmPark(vm);
    }
  }
}

/** Ends a VM and gives it another specification; its disks stay. */
function respecify(vm: Vm, spec: VmSpec): void {
  vmTearDown(vm);
  vmForgetLink(vm);
  vm.cards = [];
  vm.spec = spec;
  vm.target = spec.balloon > 0 ? spec.balloon : spec.memory;
  vm.cost = vmCost(vm);
}

/** Gives cards their places once no VM holds an old one. */
function assignNetworks(list: Before[]): void {
  for (let i = 0; i < list.length; i++) networksAssign(list[i].vm);
  for (let i = 0; i < list.length; i++) vmSave(list[i].vm);
}

/** Gives a VM that runs on the share that it has now; those that change theirs have returned it. */
function shareAgain(vm: Vm, journal: Journal): Fault | null {
  for (let i = 0; i < journal.changed.length; i++)
    if (journal.changed[i].vm == vm) return vmShare(vm, vm.spec.share, journal.changed[i].spec.share);
  return null;
}

/** The part of a step that may fail. */
function start(host: HostSpec, action: string, name: string, journal: Journal): Fault | null {
  if (action == ACTION_RESTART) return vmLaunch(vmFind(name)!, "loading after a change");
  if (action == ACTION_CHANGE) return shareAgain(vmFind(name)!, journal);
  if (action == ACTION_START) {
    const vm = vmFind(name)!;
    journal.started.push(new Before(vm));
    return vmStart(vm);
  }
  if (action != ACTION_CREATE && action != ACTION_REPLACE) return null;
  const spec = specOf(host, name);
  const fault = vmCreate(spec);
  if (fault != null) return fault;
  const vm = vmFind(name)!;
  journal.created.push(vm);
  return spec.start ? vmStart(vm) : null;
}

/** The VMs that went are forgotten for good. */
function commit(plan: Plan, journal: Journal): void {
  denialsKeep(tenantNames());
  sharesMove(vmsAll(), journal.tenants);
  for (let i = 0; i < journal.parked.length; i++) {
    const vm = journal.parked[i].vm;
    vmForgetLink(vm);
    disksForget(vm.index);
    vmForget(vm);
    emit(EVENT_VM_REMOVED, vm.name, "removed");
  }
  for (let i = 0; i < plan.steps.length; i++) {
    const step = plan.steps[i];
    if (step.action == ACTION_CHANGE || step.action == ACTION_RESTART)
      emit(EVENT_VM_CHANGED, step.object, step.reason);
  }
  emit(EVENT_SPEC_APPLIED, "", "specification applied: " + counted(plan.steps.length, "step"));
}

/** Takes everything back; VMs that were ended are started again. */
function takeBack(journal: Journal, place: string, cause: Fault): Fault {
  tenantsSet(journal.tenants);
  rulesSet(journal.rules);
  mitigationsSet(journal.mitigations);
  hostNameSet(journal.hostName);
  for (let i = 0; i < journal.created.length; i++) vmRemove(journal.created[i], true);
  for (let i = 0; i < journal.started.length; i++) stopAgain(journal.started[i]);
  for (let i = 0; i < journal.restarted.length; i++)
    respecify(journal.restarted[i].vm, journal.restarted[i].spec);
  for (let i = 0; i < journal.changed.length; i++) restoreChange(journal.changed[i]);
  for (let i = 0; i < journal.parked.length; i++) {
    journal.parked[i].vm.cards = [];
    vmUnpark(journal.parked[i].vm);
  }
  const ended = journal.restarted.concat(journal.parked);
  assignNetworks(ended);
  const words = relaunch(ended);
  emit(EVENT_SPEC_UNDONE, "", "specification taken back: " + cause.message);
  return new Fault(
    cause.code,
    place + cause.message + "; nothing was changed" + words,
    cause.object,
    cause.next,
  );
}

function stopAgain(before: Before): void {
  vmTearDown(before.vm);
  before.vm.enter(before.state, before.reason);
  vmSave(before.vm);
}

function restoreChange(before: Before): void {
  before.vm.spec = before.spec;
  before.vm.cost = vmCost(before.vm);
  before.vm.target = before.target;
  if (before.vm.alive) sharesGive(before.vm, before.spec.share);
  vmSave(before.vm);
  if (before.vm.alive) vmSendTarget(before.vm);
}

/** Starts again what ran; says which VMs that were, and which do not run now. */
function relaunch(ended: Before[]): string {
  const again: string[] = [];
  const lost: string[] = [];
  for (let i = 0; i < ended.length; i++) {
    const vm = ended[i].vm;
    vm.target = ended[i].target;
    vmSave(vm);
    if (!ended[i].up) continue;
    if (vmLaunch(vm, "loading after a change was taken back") == null) again.push(quoted(vm.name));
    else lost.push(quoted(vm.name));
  }
  let words = again.length > 0 ? ", but these were started again: " + again.join(", ") : "";
  if (lost.length > 0) words += ", and these could not be: " + lost.join(", ");
  return words;
}
