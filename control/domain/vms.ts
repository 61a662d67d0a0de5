// The VMs of this host: the state machine, restart policy, and what device models and the kernel report.

import { CAP_SELF, DomainState, Failure, ObjectType } from "../gen/abi";
import { CapInfo, DomainInfo } from "../gen/layout";
import { capInfo, domainInfo, domainPause, domainResume } from "../lib/binding";
import { CborWriter } from "../lib/cbor";
import { LINK_MESSAGE_MAX } from "../lib/link";
import {
  ErrorCode, EVENT_MODEL_FAILED, EVENT_VM_CRASHED, EVENT_VM_CREATED, EVENT_VM_ENDED, EVENT_VM_FAILED, EVENT_VM_OFF,
  EVENT_VM_PAUSED, EVENT_VM_REMOVED, EVENT_VM_RESET, EVENT_VM_RESUMED, EVENT_VM_RUNNING, EVENT_VM_STARTED,
  EVENT_VM_STOPPING, FIELD_HOST, FIELD_MESSAGE, FIELD_OBJECT, FIELD_REASON, FIELD_VERSION, FIELD_VMS, LINK_ENDED,
  LINK_ERROR, LINK_OFF, LINK_POWER_BUTTON, LINK_READY, LINK_RESET, LINK_RUN, LINK_T, LINK_TRAP, LINK_VALUE,
  POLICY_ALWAYS, POLICY_ON_FAILURE, Specification, STATE_CRASHED, STATE_PAUSED, STATE_RUNNING, STATE_STARTING,
  STATE_STOPPED,
} from "../protocol/schema";
import { decode, encode } from "./codec";
import { emit } from "./events";
import { lastLogLine, uptimeMs } from "./host";
import { Fault } from "./outcome";
import { vmSlot, VmSlot, vmsThatFit } from "./slots";
import { VmSpec } from "./spec";
import { stashWrite } from "./stash";
import { clean, quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { vmAdmit, vmBuild, vmForgetLink, vmTearDown } from "./vm-builder";

const START_LIMIT_MS: u64 = 120000;
const RESTART_PAUSE_MS: u64 = 1000;
const MESSAGES_PER_EVENT = 64;

const message: usize = memory.data(4096, 16);
const capPage: usize = memory.data(96, 16);
const domainPage: usize = memory.data(128, 16);

let vms: Vm[] = [];
let hostName: string = "plinth";

/** All VMs in the order of their creation. */
export function vmsAll(): Vm[] {
  return vms;
}

export function vmFind(name: string): Vm | null {
  for (let i = 0; i < vms.length; i++) if (vms[i].name == name) return vms[i];
  return null;
}

export function vmNames(): string[] {
  const names: string[] = [];
  for (let i = 0; i < vms.length; i++) names.push(vms[i].name);
  return names;
}

export function hostNameGet(): string {
  return hostName;
}

export function hostNameSet(name: string): void {
  hostName = name;
}

/** Takes a VM of the predecessor. False: its name or index is taken. */
export function vmAdopt(vm: Vm): bool {
  for (let i = 0; i < vms.length; i++) if (vms[i].index == vm.index || vms[i].name == vm.name) return false;
  vms.push(vm);
  return true;
}

/** Writes what a successor must know. */
export function vmsSave(): void {
  const list = Value.list();
  for (let i = 0; i < vms.length; i++) list.add(vms[i].toStash());
  stashWrite(Value.map().putUint(FIELD_VERSION, 1).putText(FIELD_HOST, hostName).put(FIELD_VMS, list));
}

function freeIndex(): i32 {
  capInfo(CAP_SELF, capPage);
  const limit = min<u32>(Specification.MAX_VMS, vmsThatFit(changetype<CapInfo>(capPage).slots));
  for (let index: u32 = 0; index < limit; index++) {
    let taken = false;
    for (let i = 0; i < vms.length; i++) taken = taken || vms[i].index == index;
    if (!taken) return <i32>index;
  }
  return -1;
}

/** Adds a VM, stopped; it does not have to fit yet. */
export function vmCreate(spec: VmSpec): Fault | null {
  if (vmFind(spec.name) != null)
    return new Fault(ErrorCode.WRONG_STATE, "VM " + quoted(spec.name) + ": there is one of that name", spec.name, "show " + spec.name);
  const index = freeIndex();
  if (index < 0)
    return new Fault(ErrorCode.FAILED, "VM " + quoted(spec.name) + ": there are " + vms.length.toString() + " VMs, no more are possible", spec.name, "rm NAME");
  const vm = new Vm(<u32>index, spec);
  const fault = vmAdmit(vm);
  if (fault != null) return fault;
  vms.push(vm);
  vmsSave();
  emit(EVENT_VM_CREATED, vm.name, "created");
  return null;
}

function wrongState(vm: Vm, wanted: string, next: string): Fault {
  const text = "VM " + quoted(vm.name) + " is " + vm.state + ", it must be " + wanted;
  return new Fault(ErrorCode.WRONG_STATE, text, vm.name, next);
}

/** Builds a VM and lets its device model load it. */
export function vmStart(vm: Vm): Fault | null {
  if (!vm.ended) return wrongState(vm, "stopped or crashed", vm.state == STATE_PAUSED ? "resume " + vm.name : "console " + vm.name);
  const fault = vmAdmit(vm);
  if (fault != null) return fault;
  vm.restarts = [];
  return launch(vm, "loading");
}

function launch(vm: Vm, reason: string): Fault | null {
  vm.restartAt = 0;
  vm.stopping = false;
  vm.state = STATE_STOPPED;
  vm.enter(STATE_STARTING, reason);
  vmsSave();
  const fault = vmBuild(vm);
  if (fault != null) vm.enter(STATE_CRASHED, fault.message);
  vmsSave();
  if (fault != null) emit(EVENT_VM_FAILED, vm.name, fault.message);
  else emit(EVENT_VM_STARTED, vm.name, "started");
  return fault;
}

/** With force: ends the VM now. Without: presses its power button (a VM still starting is ended). */
export function vmStop(vm: Vm, force: bool): Fault | null {
  if (vm.restartAt != 0) {
    vm.restartAt = 0;
    finish(vm, STATE_STOPPED, "stopped");
    return null;
  }
  if (vm.ended) return wrongState(vm, "running", "start " + vm.name);
  if (force || vm.state == STATE_STARTING) {
    finish(vm, STATE_STOPPED, "stopped by force");
    emit(EVENT_VM_OFF, vm.name, "stopped by force");
    return null;
  }
  if (vm.state == STATE_PAUSED) return wrongState(vm, "running", "resume " + vm.name);
  if (!send(vm, LINK_POWER_BUTTON))
    return new Fault(ErrorCode.FAILED, "VM " + quoted(vm.name) + ": its device model takes no commands", vm.name, "stop " + vm.name + " --force");
  vm.stopping = true;
  vm.enter(STATE_RUNNING, "asked to power off");
  vmsSave();
  emit(EVENT_VM_STOPPING, vm.name, "power button pressed");
  return null;
}

export function vmPause(vm: Vm): Fault | null {
  if (vm.state != STATE_RUNNING) return wrongState(vm, "running", vm.state == STATE_PAUSED ? "resume " + vm.name : "start " + vm.name);
  if (domainPause(vmSlot(vm.index, VmSlot.DOMAIN)) < 0) return refused(vm, "pause");
  vm.enter(STATE_PAUSED, "paused");
  vmsSave();
  emit(EVENT_VM_PAUSED, vm.name, "paused");
  return null;
}

export function vmResume(vm: Vm): Fault | null {
  if (vm.state != STATE_PAUSED) return wrongState(vm, "paused", "show " + vm.name);
  if (domainResume(vmSlot(vm.index, VmSlot.DOMAIN)) < 0) return refused(vm, "resume");
  vm.enter(STATE_RUNNING, "resumed");
  vmsSave();
  emit(EVENT_VM_RESUMED, vm.name, "resumed");
  return null;
}

function refused(vm: Vm, what: string): Fault {
  return new Fault(ErrorCode.FAILED, "VM " + quoted(vm.name) + ": the kernel does not " + what + " it", vm.name, "logs");
}

/** Starts a VM again from nothing. */
export function vmReset(vm: Vm): Fault | null {
  if (vm.ended) return wrongState(vm, "running or paused", "start " + vm.name);
  emit(EVENT_VM_RESET, vm.name, "reset by the administrator");
  vmTearDown(vm);
  return launch(vm, "loading after a reset");
}

/** Forgets a VM; it must have ended, unless `force`. */
export function vmRemove(vm: Vm, force: bool): Fault | null {
  if (!vm.ended && !force) return wrongState(vm, "stopped or crashed", "stop " + vm.name);
  vmTearDown(vm);
  vmForgetLink(vm);
  vms.splice(vms.indexOf(vm), 1);
  vmsSave();
  emit(EVENT_VM_REMOVED, vm.name, "removed");
  return null;
}

/** Frees what a VM holds, but its console, and enters a final state. */
function finish(vm: Vm, state: string, reason: string): void {
  vmTearDown(vm);
  vm.enter(state, reason);
  vm.lastExit = reason;
  vmsSave();
}

/** A VM has ended by itself: tears it down and does what its restart policy says. */
function ended(vm: Vm, kind: string, reason: string, failure: bool): void {
  finish(vm, failure ? STATE_CRASHED : STATE_STOPPED, reason);
  emit(kind, vm.name, reason);
  const wanted = vm.spec.policy == POLICY_ALWAYS || (failure && vm.spec.policy == POLICY_ON_FAILURE);
  if (!wanted || vm.stopping) return;
  const now = uptimeMs();
  const recent: u64[] = [];
  for (let i = 0; i < vm.restarts.length; i++)
    if (now - vm.restarts[i] < <u64>vm.spec.window * 1000) recent.push(vm.restarts[i]);
  vm.restarts = recent;
  if (<u32>recent.length >= vm.spec.max) {
    const tries = vm.spec.max.toString() + " restarts in " + vm.spec.window.toString() + " s";
    vm.enter(STATE_CRASHED, reason + "; given up after " + tries);
    vmsSave();
    emit(EVENT_VM_CRASHED, vm.name, "given up after " + tries);
    return;
  }
  vm.restarts.push(now);
  vm.restartCount++;
  vm.restartAt = now + RESTART_PAUSE_MS;
}

/** Sends a message without fields to a device model. */
function send(vm: Vm, what: string): bool {
  const link = vm.link;
  if (link == null) return false;
  const writer = new CborWriter(message, LINK_MESSAGE_MAX);
  if (!encode(writer, Value.map().putText(LINK_T, what))) return false;
  if (!link.commands.send(message, writer.length)) return false;
  link.signal();
  return true;
}

/** Makes a VM's device model trap, for tests. */
export function vmTrapModel(vm: Vm): Fault | null {
  if (vm.ended) return wrongState(vm, "running", "start " + vm.name);
  return send(vm, LINK_TRAP) ? null : refused(vm, "signal");
}

/** Reads what the device model of VM `index` has sent. True: there may be more. */
export function vmsLinkEvent(index: i32): bool {
  for (let i = 0; i < vms.length; i++) {
    if (<i32>vms[i].index != index) continue;
    return readMessages(vms[i]);
  }
  return false;
}

function readMessages(vm: Vm): bool {
  for (let n = 0; n < MESSAGES_PER_EVENT; n++) {
    const link = vm.link;
    if (link == null || !vm.alive) return false;
    const length = link.events.receive(message, LINK_MESSAGE_MAX);
    if (length == 0) return false;
    const value = length > 0 ? decode(message, length) : null;
    if (value != null) handle(vm, value);
  }
  return true;
}

function handle(vm: Vm, value: Value): void {
  const what = value.getText(LINK_T);
  if (what == LINK_READY) {
    if (vm.state != STATE_STARTING) return;
    if (!send(vm, LINK_RUN)) return;
    vm.enter(STATE_RUNNING, "booted");
    vmsSave();
    emit(EVENT_VM_RUNNING, vm.name, "running");
  } else if (what == LINK_ERROR) {
    const object = clean(value.getText(FIELD_OBJECT), 60);
    const cause = clean(value.getText(FIELD_MESSAGE, "the device model gave no reason"), 120);
    const text = object != "" && object != vm.name ? object + ": " + cause : cause;
    finish(vm, STATE_CRASHED, text);
    emit(EVENT_VM_FAILED, vm.name, text);
  } else if (what == LINK_OFF) {
    ended(vm, EVENT_VM_OFF, "powered off", false);
  } else if (what == LINK_RESET) {
    reboot(vm);
  } else if (what == LINK_ENDED) {
    const detail = value.getUint(LINK_VALUE);
    const reason = clean(value.getText(FIELD_REASON, "ended"), 80);
    ended(vm, EVENT_VM_ENDED, reason + (detail != 0 ? " (" + detail.toString() + ")" : ""), true);
  }
}

/** The guest has reset its machine: it starts again at once, but not more often than once a second. */
function reboot(vm: Vm): void {
  const started = vm.since;
  finish(vm, STATE_STOPPED, "reset by the guest");
  emit(EVENT_VM_RESET, vm.name, "reset by the guest");
  const now = uptimeMs();
  vm.restartAt = max(now, started + RESTART_PAUSE_MS);
  if (vm.restartAt <= now) launch(vm, "loading after a reset");
}

function failureText(failure: u32): string {
  switch (failure) {
    case Failure.TRAP:
      return "it trapped";
    case Failure.TRIPLE_FAULT:
      return "triple fault";
    case Failure.ENTRY:
      return "VM entry failed: invalid guest state";
    case Failure.MEMORY:
      return "it touched memory that it does not have";
    case Failure.EXIT:
      return "it caused an exit that it may not cause";
    case Failure.HANG:
      return "it did not answer in time";
    case Failure.ORPHAN:
      return "its device model is gone";
    default:
      return "unknown failure";
  }
}

export function failureName(failure: u32): string {
  return failureText(failure);
}

/** The failure of the domain in `slot`, or NONE. Leaves its DomainInfo in domainPage. */
function failureOf(slot: u32): u32 {
  if (domainInfo(slot, domainPage) < 0) return Failure.NONE;
  const found = changetype<DomainInfo>(domainPage);
  return found.state == DomainState.FAILED ? max<u32>(found.failure, 1) : Failure.NONE;
}

/** A domain has failed: finds out which, and ends its VM and nothing else. */
export function vmsDomainEvent(): void {
  const all = vms.slice(0);
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    readMessages(vm);
    if (!vm.alive) continue;
    const model = failureOf(vmSlot(vm.index, VmSlot.MODEL));
    if (model != Failure.NONE) {
      const line = model == Failure.TRAP ? lastLogLine("dm/" + vm.name) : "";
      const text = "device model failed: " + failureText(model) + (line != "" ? ": " + line : "");
      ended(vm, EVENT_MODEL_FAILED, clean(text, 150), true);
      continue;
    }
    const guest = failureOf(vmSlot(vm.index, VmSlot.DOMAIN));
    if (guest != Failure.NONE) ended(vm, EVENT_VM_ENDED, failureText(guest), true);
  }
}

/** Does what is due; returns when something is due next (uptime in ms), u64.MAX_VALUE: nothing is. */
export function vmsTick(now: u64): u64 {
  let next = u64.MAX_VALUE;
  const all = vms.slice(0);
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    if (vm.restartAt != 0) {
      if (vm.restartAt <= now) launch(vm, "starting again after: " + vm.lastExit);
      else next = min(next, vm.restartAt);
    }
    if (vm.state != STATE_STARTING) continue;
    const limit = vm.since + START_LIMIT_MS;
    if (limit <= now) {
      const text = "its device model was not ready after " + (START_LIMIT_MS / 1000).toString() + " s";
      finish(vm, STATE_CRASHED, text);
      emit(EVENT_VM_FAILED, vm.name, text);
    } else {
      next = min(next, limit);
    }
  }
  return next;
}

/** Whether a slot of a VM holds an object. */
export function vmHolds(index: u32, what: VmSlot): bool {
  return capInfo(vmSlot(index, what), capPage) >= 0 && changetype<CapInfo>(capPage).type != ObjectType.NONE;
}
