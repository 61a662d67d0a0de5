// Copies of VMs by policy: how many a VM has is what the hooks say once a second, within its specification's bounds.
//
// They are named as `plinth scale` names them, VM-1, VM-2 ..., and go on from the snapshot scale.VM, which is made when it is
// needed first. One is made or goes at a time: the lowest number that is missing, the highest that there is.

import { PAGE_SIZE } from "../gen/abi";
import {
  EVENT_POLICY,
  FIELD_NAME,
  FIELD_NOTE,
  FIELD_VM,
  REASON_UNHEARD,
  SCALE_SNAPSHOT,
  STATE_PAUSED,
  STATE_RUNNING,
  STATE_STARTING,
} from "../protocol/schema";
import { emit } from "./events";
import { factsOfScale } from "./facts";
import { freePages, ticksToUs } from "./host";
import { policyHooks } from "./hooks/chosen";
import { HookScale } from "./hooks/hooks";
import { Fault } from "./outcome";
import { factsOf } from "./policy";
import { countVcpus } from "./reports";
import { snapshotClone, snapshotCreate } from "./snapshot-actions";
import { snapshotFind } from "./snapshots";
import { clean } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { vmRemove, vmStop } from "./vm-actions";
import { vmFind, vmsAll } from "./vms";

const ASK_MS: u64 = 1000;
/** A copy that has not powered off after so long is ended. */
const POWER_OFF_MS: u64 = 60000;
const MAX_NUMBER = 127;

let askAt: u64 = 0;
let askedAt: u64 = 0;
/** What went wrong last, which is said once. */
let lastFault: string = "";

/** Asks the hooks when it is time; returns when it is time again, u64.MAX_VALUE: no VM scales. */
export function scalingTick(now: u64): u64 {
  let found = false;
  if (now >= askAt) {
    const elapsed = (now - askedAt) * 1000;
    askAt = now + ASK_MS;
    askedAt = now;
    const all = vmsAll().slice(0);
    for (let i = 0; i < all.length; i++) {
      if (all[i].spec.scaleMax == 0) continue;
      found = true;
      scale(all[i], elapsed, now);
    }
    scales = found;
  }
  return scales ? askAt : u64.MAX_VALUE;
}

let scales: bool = false;

/** The copy of this number, or null. */
function copyOf(vm: Vm, n: i32): Vm | null {
  return vmFind(vm.name + "-" + n.toString());
}

/** Microseconds that a copy has run since it was looked at last. */
function ranOf(copy: Vm): u64 {
  const run = copy.alive ? ticksToUs(countVcpus(copy).run_time) : 0;
  const ran = run > copy.scaleRun ? run - copy.scaleRun : 0;
  copy.scaleRun = run;
  return ran;
}

function scale(vm: Vm, elapsed: u64, now: u64): void {
  const facts = new HookScale(factsOf(vm.spec, vm.restartCount));
  let missing = 0;
  let highest = 0;
  let ran: u64 = 0;
  let vcpus: u64 = 0;
  for (let n = 1; n <= MAX_NUMBER; n++) {
    const copy = copyOf(vm, n);
    if (copy == null) {
      if (missing == 0) missing = n;
      continue;
    }
    facts.copies++;
    highest = n;
    ran += ranOf(copy);
    vcpus += copy.spec.vcpus;
  }
  facts.min = vm.spec.scaleMin;
  facts.max = max(vm.spec.scaleMin, vm.spec.scaleMax);
  facts.cpu = vcpus > 0 && elapsed > 0 ? <i32>min<u64>((ran * 100) / (elapsed * vcpus), 100) : 0;
  facts.free = <i64>(freePages() * PAGE_SIZE);
  const asked = policyHooks().scale(facts);
  const wanted = min(max(asked, facts.min), facts.max);
  if (wanted > facts.copies) more(vm, missing, facts, asked);
  else if (wanted < facts.copies) less(copyOf(vm, highest)!, facts, asked, now);
}

function more(vm: Vm, n: i32, facts: HookScale, asked: i32): void {
  const snapshot = SCALE_SNAPSHOT + vm.name;
  const name = vm.name + "-" + n.toString();
  let fault: Fault | null = null;
  if (snapshotFind(snapshot) == null) {
    if (vm.state != STATE_RUNNING && vm.state != STATE_PAUSED) return; /* there is nothing to copy yet */
    const create = Value.map().putText(FIELD_VM, vm.name).putText(FIELD_NAME, snapshot);
    fault = snapshotCreate(create.putText(FIELD_NOTE, "made for its copies")).fault;
  }
  if (fault == null)
    fault = snapshotClone(Value.map().putText(FIELD_NAME, snapshot).putText(FIELD_VM, name)).fault;
  if (fault == null) tell(vm.name, "made " + name, facts, asked);
  else if (fault.message != lastFault) tell(vm.name, "no more: " + fault.message, facts, asked);
  lastFault = fault != null ? fault.message : "";
}

function less(copy: Vm, facts: HookScale, asked: i32, now: u64): void {
  if (copy.ended || copy.moved) {
    if (copy.moved) return; /* it is for a person to remove it */
    tell(copy.name, "removed", facts, asked);
    vmRemove(copy, false);
    return;
  }
  const pressed = copy.stopping && copy.pressedAt != 0;
  const isLate = pressed && (now - copy.pressedAt >= POWER_OFF_MS || copy.reason == REASON_UNHEARD);
  if (isLate || copy.state == STATE_PAUSED || copy.state == STATE_STARTING) {
    tell(copy.name, "ended", facts, asked);
    vmStop(copy, true);
  } else if (!pressed) {
    copy.pressedAt = now;
    tell(copy.name, "power button pressed", facts, asked);
    vmStop(copy, false);
  }
}

function tell(vm: string, what: string, facts: HookScale, asked: i32): void {
  const use = facts.copies.toString() + " copies use " + facts.cpu.toString() + " % of their vCPUs";
  emit(EVENT_POLICY, vm, "scale: " + clean(what, 60) + "; " + use, factsOfScale(facts, asked));
}
