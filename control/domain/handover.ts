// A VM is given up here because another host has all of it: one step, after which nothing here starts it any more.

import {
  ErrorCode,
  EVENT_VM_MOVED,
  FIELD_SNAPSHOT,
  FIELD_VM,
  STATE_MOVED,
  STATE_PAUSED,
} from "../protocol/schema";
import { noSuchVm } from "./commands";
import { emit } from "./events";
import { Fault, Outcome } from "./outcome";
import { noSuchSnapshot, snapshotFind } from "./snapshots";
import { quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { wrongState } from "./vm-actions";
import { vmFind, vmSave } from "./vms";

/**
 * `snapshot` is what the other host has: the VM must have stood still since. May be repeated, so that a lost answer
 * leaves no doubt.
 */
export function handover(request: Value): Outcome {
  const vm = vmFind(request.getText(FIELD_VM));
  if (vm == null) return Outcome.fail(noSuchVm(request.getText(FIELD_VM)));
  const name = request.getText(FIELD_SNAPSHOT);
  if (vm.moved && vm.kept == name) return Outcome.of(vm.toRow());
  const snapshot = snapshotFind(name);
  if (snapshot == null || snapshot.vm != vm.name) return Outcome.fail(noSuchSnapshot(name));
  const fault = handoverFault(vm, name);
  if (fault != null) return Outcome.fail(fault);
  vm.enter(STATE_MOVED, "it has moved to another host");
  vmSave(vm);
  emit(EVENT_VM_MOVED, vm.name, "given up for another host, as snapshot " + quoted(name) + " has it");
  return Outcome.of(vm.toRow());
}

function handoverFault(vm: Vm, name: string): Fault | null {
  if (vm.state != STATE_PAUSED) return wrongState(vm, "paused", "show " + vm.name);
  if (vm.kept == name) return null;
  const text = "VM " + quoted(vm.name) + " has run since snapshot " + quoted(name) + " was made of it";
  return new Fault(ErrorCode.WRONG_STATE, text, vm.name, "show " + vm.name);
}
