// What an administrator can do with a VM: the transitions of the state machine.

import { PAGE_SIZE } from "../gen/abi";
import { domainPause, domainResume } from "../lib/binding";
import { CborWriter } from "../lib/cbor";
import { LINK_MESSAGE_MAX } from "../lib/link";
import {
  ErrorCode,
  STATE_STOPPED,
  STATE_STARTING,
  STATE_RUNNING,
  STATE_PAUSED,
  STATE_CRASHED,
  EVENT_VM_CREATED,
  EVENT_VM_STARTED,
  EVENT_VM_PAUSED,
  EVENT_VM_RESUMED,
  EVENT_VM_STOPPING,
  EVENT_VM_OFF,
  EVENT_VM_RESET,
  EVENT_VM_REMOVED,
  EVENT_VM_FAILED,
  FIELD_GENERATION,
  FIELD_NAME,
  LINK_T,
  LINK_ADDRESSES,
  LINK_BALLOON,
  LINK_CLONE,
  LINK_POWER_BUTTON,
  LINK_REBORN,
  LINK_TRAP,
  LINK_VALUE,
  LINK_WALL_CLOCK,
  REASON_PRESSED,
} from "../protocol/schema";
import { admitNew } from "../protocol/admission";
import { PlanVm } from "../protocol/planner";
import { encode } from "./codec";
import { emit } from "./events";
import { factsOfNew } from "./facts";
import { uptimeMs } from "./host";
import { Fault } from "./outcome";
import { disksForget } from "./disks";
import { policyHooks } from "./hooks/chosen";
import { policyPlace } from "./policy";
import { flashForget } from "./flash";
import { networksAssign } from "./networks";
import { vmSlot, VmSlot } from "./slots";
import { familyShrink } from "./snapshot-share";
import { MIN_BALLOON, VmSpec } from "./spec";
import { policyDenied } from "./rules";
import { grouped, mib, quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { planBeside, planCost, planTenant } from "./planning";
import { noSuchTenant, tenantFind } from "./tenants";
import { vmAdmit, vmBuild, vmCost, vmForgetLink, vmTearDown } from "./vm-builder";
import { vmAdopt, vmFind, vmForget, vmFreeIndex, vmsAll, vmSave } from "./vms";

const message: usize = memory.data(4096, 16);

/** Whether a new VM's tenant is there, and has room for it within its limits. */
function tenantAdmit(vm: Vm): Fault | null {
  const tenant = tenantFind(vm.spec.tenant);
  if (tenant == null) return noSuchTenant(vm.name, vm.spec.tenant);
  const limited = tenant.memory > 0 || tenant.vms > 0 || tenant.vcpus > 0;
  const vms: PlanVm[] = [];
  for (let i = 0; limited && i < vmsAll().length; i++)
    if (vmsAll()[i].spec.tenant == tenant.name) vms.push(planCost(vmsAll()[i]));
  const beside = planBeside(tenant);
  const plan = admitNew(beside, planTenant(tenant), vms, planCost(vm), policyHooks());
  factsOfNew(vm.spec, beside, planTenant(tenant), vms, planCost(vm), plan);
  if (plan.refusals.length == 0) return null;
  const refusal = plan.refusals[0];
  if (refusal.denied != "") policyDenied(tenant.name, refusal.denied, vm.name, refusal.message);
  return new Fault(refusal.code, refusal.message, refusal.object, refusal.next);
}

/** A new VM that is on no list yet: whether its name and a place are free, and its tenant lets it in. */
export class NewVm {
  vm: Vm | null = null;
  fault: Fault | null = null;

  constructor(spec: VmSpec) {
    const what = "VM " + quoted(spec.name) + ": ";
    const index = vmFreeIndex();
    if (vmFind(spec.name) != null) {
      const text = what + "there is one of that name";
      this.fault = new Fault(ErrorCode.WRONG_STATE, text, spec.name, "show " + spec.name);
    } else if (index < 0) {
      const text = what + "there are " + vmsAll().length.toString() + " VMs, no more are possible";
      this.fault = new Fault(ErrorCode.FAILED, text, spec.name, "rm NAME");
    } else {
      const vm = new Vm(<u32>index, spec);
      vm.cost = vmCost(vm);
      this.vm = vm;
      this.fault = tenantAdmit(vm);
    }
  }
}

/** Adds a VM, stopped; it does not have to fit yet. */
export function vmCreate(spec: VmSpec): Fault | null {
  const made = new NewVm(spec);
  let fault = made.fault;
  if (fault != null) return fault;
  const vm = made.vm!;
  fault = networksAssign(vm);
  if (fault == null) fault = vmAdmit(vm);
  if (fault != null) return fault;
  vmAdopt(vm);
  vmSave(vm);
  emit(EVENT_VM_CREATED, vm.name, "created");
  return null;
}

/** The fault for a VM that another host has. */
export function movedFault(vm: Vm): Fault {
  const next = "rm " + vm.name + ", or resume " + vm.name + " --force if it does not run there";
  const text = "VM " + quoted(vm.name) + " has moved to another host";
  return new Fault(ErrorCode.WRONG_STATE, text, vm.name, next);
}

export function wrongState(vm: Vm, wanted: string, next: string): Fault {
  if (vm.moved) return movedFault(vm);
  const text = "VM " + quoted(vm.name) + " is " + vm.state + ", it must be " + wanted;
  return new Fault(ErrorCode.WRONG_STATE, text, vm.name, next);
}

/** Builds a VM and lets its device model load it. */
export function vmStart(vm: Vm): Fault | null {
  if (!vm.ended)
    return wrongState(
      vm,
      "stopped or crashed",
      vm.state == STATE_PAUSED ? "resume " + vm.name : "console " + vm.name,
    );
  const fault = vmAdmit(vm);
  if (fault != null) return fault;
  vm.restarts = [];
  return vmLaunch(vm, "loading");
}

/** Lets a VM be started when its turn comes: after the prompt, and with the shell awake between two. */
export function vmStartSoon(vm: Vm): void {
  vm.enter(STATE_STARTING, "waits for its turn");
  vm.restartAt = max<u64>(uptimeMs(), 1);
  vmSave(vm);
}

export function vmLaunch(vm: Vm, reason: string): Fault | null {
  vm.restartAt = 0;
  vm.stopping = false;
  vm.state = STATE_STOPPED;
  vm.enter(STATE_STARTING, reason);
  policyPlace(vm);
  vmSave(vm);
  let fault = vmAdmit(vm);
  if (fault == null) fault = vmBuild(vm);
  if (fault == null) {
    emit(EVENT_VM_STARTED, vm.name, "started");
    return null;
  }
  vm.enter(STATE_CRASHED, fault.message);
  vmSave(vm);
  emit(EVENT_VM_FAILED, vm.name, fault.message);
  return fault;
}

/** With force: ends the VM now. Without: presses its power button (a VM still starting is ended). */
export function vmStop(vm: Vm, force: bool): Fault | null {
  if (vm.restartAt != 0) {
    vm.restartAt = 0;
    vmFinish(vm, STATE_STOPPED, "stopped");
    return null;
  }
  if (vm.ended || vm.moved) return wrongState(vm, "running", "start " + vm.name);
  if (force || vm.state == STATE_STARTING) {
    vmFinish(vm, STATE_STOPPED, "stopped by force");
    emit(EVENT_VM_OFF, vm.name, "stopped by force");
    return null;
  }
  if (vm.state == STATE_PAUSED) return wrongState(vm, "running", "resume " + vm.name);
  if (!vmSend(vm, LINK_POWER_BUTTON))
    return new Fault(
      ErrorCode.FAILED,
      "VM " + quoted(vm.name) + ": its device model takes no commands",
      vm.name,
      "stop " + vm.name + " --force",
    );
  vm.stopping = true;
  vm.enter(STATE_RUNNING, REASON_PRESSED);
  vmSave(vm);
  emit(EVENT_VM_STOPPING, vm.name, "power button pressed");
  return null;
}

export function vmPause(vm: Vm): Fault | null {
  if (vm.state != STATE_RUNNING)
    return wrongState(vm, "running", vm.state == STATE_PAUSED ? "resume " + vm.name : "start " + vm.name);
  if (domainPause(vmSlot(vm.index, VmSlot.DOMAIN)) < 0) return refused(vm, "pause");
  vm.enter(STATE_PAUSED, "paused");
  vmSave(vm);
  emit(EVENT_VM_PAUSED, vm.name, "paused");
  return null;
}

/** Lets a VM go on. With force also one that has moved: the person says that it does not run elsewhere. */
export function vmResume(vm: Vm, force: bool = false): Fault | null {
  const back = vm.moved && force;
  if (vm.state != STATE_PAUSED && !back) return wrongState(vm, "paused", "show " + vm.name);
  if (domainResume(vmSlot(vm.index, VmSlot.DOMAIN)) < 0) return refused(vm, "resume");
  const text = back ? "taken back: it had moved to another host" : "resumed";
  vm.enter(STATE_RUNNING, text);
  vmSave(vm);
  emit(EVENT_VM_RESUMED, vm.name, text);
  return null;
}

/** Asks a VM's balloon driver to leave it `size` bytes of memory and to give the rest to the host. */
export function vmBalloon(vm: Vm, size: u64): Fault | null {
  if (vm.state != STATE_RUNNING && vm.state != STATE_STARTING)
    return wrongState(vm, "running", vm.state == STATE_PAUSED ? "resume " + vm.name : "start " + vm.name);
  if (size < MIN_BALLOON || size > vm.spec.memory) {
    const range = mib(MIN_BALLOON) + " to its memory, " + mib(vm.spec.memory);
    const text =
      "VM " + quoted(vm.name) + ": a balloon can leave it " + range + ", not " + grouped(size) + " bytes";
    return new Fault(ErrorCode.USAGE, text, vm.name, "show " + vm.name);
  }
  vm.target = size & ~(PAGE_SIZE - 1);
  vmSave(vm);
  return vmSendTarget(vm) ? null : refused(vm, "signal");
}

/** Tells a device model the target of its balloon. */
export function vmSendTarget(vm: Vm): bool {
  return vmSendValue(vm, LINK_BALLOON, (vm.spec.memory - vm.leaves) / PAGE_SIZE);
}

function refused(vm: Vm, what: string): Fault {
  return new Fault(
    ErrorCode.FAILED,
    "VM " + quoted(vm.name) + ": the kernel does not " + what + " it",
    vm.name,
    "logs",
  );
}

/** Starts a VM again from nothing. */
export function vmReset(vm: Vm): Fault | null {
  if (vm.ended || vm.moved) return wrongState(vm, "running or paused", "start " + vm.name);
  emit(EVENT_VM_RESET, vm.name, "reset by the administrator");
  vmTearDown(vm);
  return vmLaunch(vm, "loading after a reset");
}

/** Forgets a VM; it must have ended, or moved, unless `force`. */
export function vmRemove(vm: Vm, force: bool): Fault | null {
  if (!vm.ended && !vm.moved && !force) return wrongState(vm, "stopped or crashed", "stop " + vm.name);
  vmTearDown(vm);
  vmForgetLink(vm);
  disksForget(vm.index);
  flashForget(vm.index);
  vmForget(vm);
  familyShrink(vm.family);
  emit(EVENT_VM_REMOVED, vm.name, "removed");
  return null;
}

/** Frees what a VM holds, but its console, and enters a final state. */
export function vmFinish(vm: Vm, state: string, reason: string): void {
  vmTearDown(vm);
  vm.enter(state, reason);
  vm.lastExit = reason;
  vmSave(vm);
}

/** Sends a message without fields to a device model. */
export function vmSend(vm: Vm, what: string): bool {
  return sendMessage(vm, Value.map().putText(LINK_T, what));
}

function vmSendValue(vm: Vm, what: string, value: u64): bool {
  return sendMessage(vm, Value.map().putText(LINK_T, what).putUint(LINK_VALUE, value));
}

export function sendMessage(vm: Vm, content: Value): bool {
  const link = vm.link;
  if (link == null) return false;
  const writer = new CborWriter(message, LINK_MESSAGE_MAX);
  if (!encode(writer, content)) return false;
  if (!link.commands.send(message, writer.length)) return false;
  link.signal();
  return true;
}

/** Makes a VM's device model trap, for tests. */
export function vmTrapModel(vm: Vm): Fault | null {
  if (vm.ended) return wrongState(vm, "running", "start " + vm.name);
  return vmSend(vm, LINK_TRAP) ? null : refused(vm, "signal");
}

/** Tells a VM that it goes on from a snapshot, in the words of `request`, for tests. */
export function vmReborn(vm: Vm, request: Value): Fault | null {
  if (vm.ended) return wrongState(vm, "running", "start " + vm.name);
  const fields = [FIELD_NAME, FIELD_GENERATION, LINK_WALL_CLOCK, LINK_ADDRESSES, LINK_CLONE];
  const content = Value.map().putText(LINK_T, LINK_REBORN);
  for (let i = 0; i < fields.length; i++) {
    const value = request.get(fields[i]);
    if (value != null) content.put(fields[i], value);
  }
  return sendMessage(vm, content) ? null : refused(vm, "signal");
}
