// Where the policy hooks (hooks/) are asked, and what follows from their answers.

import { hooksRefuse } from "../protocol/admission";
import { Plan } from "../protocol/planner";
import { EVENT_MEMORY_LOW, EVENT_POLICY } from "../protocol/schema";
import { emit, Event } from "./events";
import { factsOfEvent, factsOfSet } from "./facts";
import { freePages, hostNow, info } from "./host";
import { hasHooks, policyHooks } from "./hooks/chosen";
import { HOOK_START, HOOK_STOP, HookAction, HookVm } from "./hooks/hooks";
import { Fault } from "./outcome";
import { policyDenied } from "./rules";
import { planCost } from "./planning";
import { VmSpec } from "./spec";
import { clean } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { vmStop } from "./vm-actions";
import { vmFind, vmSave } from "./vms";

/** More that is to be done is forgotten: hooks that ask for it have gone wild. */
const MAX_WAITING = 64;
/** A VM that hooks start has been down so long. */
const START_PAUSE_MS: u64 = 1000;
/** Memory is low below this share of all, and not any more above twice of it. */
const LOW_SHARE: u64 = 16;

class Wanted {
  constructor(
    public action: HookAction,
    /** What it was decided on. */
    public facts: Value,
  ) {}
}

const waiting: Wanted[] = [];
let low: bool = false;
/** When the host's memory is looked at again. */
const WATCH_MS: u64 = 200;
let watchAt: u64 = 0;

export function factsOf(spec: VmSpec, restarts: u32): HookVm {
  const facts = new HookVm(spec.name);
  facts.tenant = spec.tenant;
  facts.memory = <i64>spec.memory;
  facts.vcpus = spec.vcpus;
  facts.tags = spec.tags;
  facts.restarts = restarts;
  return facts;
}

/** Why the hooks forbid a VM to be like this, or null. */
export function policyAdmit(vm: Vm, spec: VmSpec): Fault | null {
  const wanted = planCost(new Vm(vm.index, spec));
  const plan = new Plan();
  const refusal = hooksRefuse(wanted, policyHooks());
  if (refusal != null) plan.refusals.push(refusal);
  factsOfSet(spec, wanted, plan);
  if (refusal == null) return null;
  policyDenied(refusal.tenant, refusal.denied, vm.name, refusal.message);
  return new Fault(refusal.code, refusal.message, refusal.object, refusal.next);
}

/** Asks for the CPUs of a VM that starts: kept, for a scheduler that heeds it. */
export function policyPlace(vm: Vm): void {
  vm.placed = policyHooks().place(factsOf(vm.spec, vm.restartCount), info().cpus);
}

/** Tells the hooks what has happened, and keeps what they want. */
export function policyHear(event: Event): void {
  if (event.kind == EVENT_POLICY || !hasHooks()) return;
  const vm = vmFind(event.vm);
  const facts = vm != null ? factsOf(vm.spec, vm.restartCount) : new HookVm(event.vm);
  const action = policyHooks().onEvent(event.kind, facts);
  if (action == null || waiting.length == MAX_WAITING) return;
  if (action.vm == "") action.vm = event.vm;
  waiting.push(new Wanted(action, factsOfEvent(event.kind, facts, action)));
}

/** Does what hooks have asked for. */
export function policyTick(now: u64): void {
  if (now >= watchAt) {
    watchMemory();
    watchAt = now + WATCH_MS;
  }
  while (waiting.length > 0) {
    const wanted = waiting.shift();
    const action = wanted.action;
    const vm = vmFind(action.vm);
    const text = action.action + ": " + clean(action.reason, 100);
    if (vm == null) continue;
    if (action.action == HOOK_START && vm.ended && vm.restartAt == 0) {
      vm.restartCount++;
      vm.restartAt = now + START_PAUSE_MS;
      vmSave(vm);
      emit(EVENT_POLICY, vm.name, text, wanted.facts);
    } else if (action.action == HOOK_STOP && !vm.ended && !vm.moved) {
      emit(EVENT_POLICY, vm.name, text, wanted.facts);
      vmStop(vm, true);
    }
  }
}

function watchMemory(): void {
  const limit = hostNow().total_pages / LOW_SHARE;
  const free = freePages();
  if (!low && free < limit) {
    low = true;
    emit(EVENT_MEMORY_LOW, "", "less than a sixteenth of the host's memory is free");
  } else if (low && free > 2 * limit) {
    low = false;
  }
}
