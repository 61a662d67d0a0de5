// What happens to VMs by itself: messages of device models, failures, restart policy, time limits.

import { DomainState, Failure } from "../gen/abi";
import { DomainInfo } from "../gen/layout";
import { domainInfo } from "../lib/binding";
import { LINK_MESSAGE_MAX } from "../lib/link";
import {
  FIELD_MESSAGE,
  FIELD_OBJECT,
  FIELD_REASON,
  STATE_PAUSED,
  STATE_STOPPED,
  STATE_STARTING,
  STATE_RUNNING,
  STATE_CRASHED,
  STATE_MOVED,
  POLICY_ON_FAILURE,
  POLICY_ALWAYS,
  EVENT_VM_RUNNING,
  EVENT_VM_OFF,
  EVENT_VM_UNHEARD,
  EVENT_VM_PAUSED,
  EVENT_VM_RESET,
  EVENT_VM_ENDED,
  EVENT_VM_CRASHED,
  EVENT_VM_FAILED,
  EVENT_MODEL_FAILED,
  LINK_T,
  LINK_READY,
  LINK_ERROR,
  LINK_OFF,
  LINK_RESET,
  LINK_ENDED,
  LINK_RUN,
  LINK_UNHEARD,
  LINK_VALUE,
  REASON_UNHEARD,
} from "../protocol/schema";
import { decode } from "./codec";
import { emit } from "./events";
import { freePages, lastLogLine, uptimeMs } from "./host";
import { linkEvent, vmSlot, VmSlot } from "./slots";
import { clean } from "./text";
import { Value } from "./value";
import { Vm, vmsChanged } from "./vm";
import { buildDone } from "./vm-builder";
import { vmFinish, vmLaunch, vmResume, vmSend, vmSendTarget } from "./vm-actions";
import { vmsAll, vmSave } from "./vms";

const START_LIMIT_MS: u64 = 120000;
const RESTART_PAUSE_MS: u64 = 1000;
const MESSAGES_PER_EVENT = 64;
/** A VM that waits for memory goes on when so much is free. */
const RESUME_PAGES: u64 = 256;

const message: usize = memory.data(4096, 16);
const domainPage: usize = memory.data(128, 16);

/** A VM has ended by itself: tears it down and does what its restart policy says. */
function ended(vm: Vm, kind: string, reason: string, failure: bool): void {
  vmFinish(vm, vm.moved ? STATE_MOVED : failure ? STATE_CRASHED : STATE_STOPPED, reason);
  emit(kind, vm.name, reason);
  if (vm.moved) return;
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
    vmSave(vm);
    emit(EVENT_VM_CRASHED, vm.name, "given up after " + tries);
    return;
  }
  vm.restarts.push(now);
  vm.restartCount++;
  vm.restartAt = now + RESTART_PAUSE_MS;
  vmSave(vm);
}

/** Reads what the device models have sent whose links have this event bit. True: there may be more. */
export function vmsLinkEvents(event: u32): bool {
  const all = vmsAll();
  let more = false;
  for (let i = 0; i < all.length; i++)
    if (linkEvent(all[i].index) == event && vmReadLink(all[i])) more = true;
  return more;
}

/** Reads what a VM's device model has sent. True: there may be more. */
export function vmReadLink(vm: Vm): bool {
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
    buildDone(vm);
    if (!vmSend(vm, LINK_RUN)) return;
    if (vm.leaves < vm.spec.memory) vmSendTarget(vm);
    vm.disksFilled = true;
    vm.enter(STATE_RUNNING, "booted");
    vmSave(vm);
    emit(EVENT_VM_RUNNING, vm.name, "running");
  } else if (what == LINK_ERROR) {
    const object = clean(value.getText(FIELD_OBJECT), 60);
    const cause = clean(value.getText(FIELD_MESSAGE, "the device model gave no reason"), 120);
    const text =
      object != "" && object != vm.name && !cause.startsWith(object) ? object + ": " + cause : cause;
    vmFinish(vm, STATE_CRASHED, text);
    emit(EVENT_VM_FAILED, vm.name, text);
  } else if (what == LINK_OFF) {
    const code = value.get(LINK_VALUE);
    ended(vm, EVENT_VM_OFF, code == null ? "powered off" : "exit code " + code.number.toString(), false);
  } else if (what == LINK_UNHEARD) {
    if (vm.state != STATE_RUNNING || !vm.stopping) return;
    vm.enter(STATE_RUNNING, REASON_UNHEARD);
    vmSave(vm);
    emit(EVENT_VM_UNHEARD, vm.name, "it does not listen to its power button");
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
  vmFinish(vm, STATE_STOPPED, "reset by the guest");
  emit(EVENT_VM_RESET, vm.name, "reset by the guest");
  const now = uptimeMs();
  vm.restartAt = max(now, started + RESTART_PAUSE_MS);
  if (vm.restartAt <= now) vmLaunch(vm, "loading after a reset");
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
    case Failure.REPLACED:
      return "replaced";
    default:
      return "unknown failure";
  }
}

export function failureName(failure: u32): string {
  return failureText(failure);
}

/** What a component said when it trapped, from the kernel's log, without the addresses; "" when it is not there. */
export function lastWords(label: string): string {
  const mark = "[" + label + "] trap: ";
  const line = lastLogLine(mark);
  if (line == "") return "";
  const words = line.substring(line.indexOf(mark) + mark.length);
  const addresses = words.lastIndexOf(" [0x");
  return addresses > 0 ? words.substring(0, addresses) : words;
}

/** The failure of the domain in `slot`, or NONE. Leaves its DomainInfo in domainPage. */
function failureOf(slot: u32): u32 {
  if (domainInfo(slot, domainPage) < 0) return Failure.NONE;
  const found = changetype<DomainInfo>(domainPage);
  return found.state == DomainState.FAILED ? max<u32>(found.failure, 1) : Failure.NONE;
}

/** A domain has failed: finds out which, and ends its VM and nothing else. */
export function vmsDomainEvent(): void {
  const all = vmsAll().slice(0);
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    vmReadLink(vm);
    if (!vm.alive) continue;
    const model = failureOf(vmSlot(vm.index, VmSlot.MODEL));
    if (model != Failure.NONE) {
      const words = model == Failure.TRAP ? lastWords("dm/" + vm.name) : "";
      const text = "device model failed: " + (words != "" ? words : failureText(model));
      ended(vm, EVENT_MODEL_FAILED, clean(text, 150), true);
      continue;
    }
    const guest = failureOf(vmSlot(vm.index, VmSlot.DOMAIN));
    if (guest != Failure.NONE) ended(vm, EVENT_VM_ENDED, failureText(guest), true);
    else if (vm.state == STATE_RUNNING && isStarved(vm)) starve(vm);
  }
}

/** Whether the kernel has paused a VM because it found no memory for a page that its balloon had given back. */
function isStarved(vm: Vm): bool {
  if (!vm.alive || domainInfo(vmSlot(vm.index, VmSlot.DOMAIN), domainPage) < 0) return false;
  const found = changetype<DomainInfo>(domainPage);
  return found.state == DomainState.PAUSED && found.failure == Failure.NO_MEMORY;
}

function starve(vm: Vm): void {
  vm.enter(STATE_PAUSED, "waits for memory: the host has none free");
  vmSave(vm);
  emit(EVENT_VM_PAUSED, vm.name, "paused: the host has no free memory for it");
}

/**
 * Does what is due, but starts at most one VM; returns when something is due next (uptime in ms),
 * u64.MAX_VALUE: nothing is.
 */
export function vmsTick(now: u64): u64 {
  if (!vmsChanged() && now < nextTick) return nextTick;
  nextTick = tick(now);
  return nextTick;
}

/** What the last vmsTick has returned. */
let nextTick: u64 = 0;

function tick(now: u64): u64 {
  let next = u64.MAX_VALUE;
  const all = vmsAll();
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    if (vm.restartAt != 0) {
      if (vm.restartAt <= now) {
        vmLaunch(vm, vm.lastExit != "" ? "starting again after: " + vm.lastExit : "loading");
        return now;
      }
      next = min(next, vm.restartAt);
      continue;
    }
    if (vm.state == STATE_PAUSED && isStarved(vm)) {
      if (freePages() >= RESUME_PAGES) vmResume(vm);
      else next = min(next, now + RESTART_PAUSE_MS);
    }
    if (vm.state != STATE_STARTING) continue;
    const limit = vm.since + START_LIMIT_MS;
    if (limit <= now) {
      const text = "its device model was not ready after " + (START_LIMIT_MS / 1000).toString() + " s";
      vmFinish(vm, STATE_CRASHED, text);
      emit(EVENT_VM_FAILED, vm.name, text);
    } else {
      next = min(next, limit);
    }
  }
  return next;
}
