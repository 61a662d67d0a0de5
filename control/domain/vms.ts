// The VMs of this host: the list, and what is kept of it for a successor.

import { CAP_SELF, ObjectType } from "../gen/abi";
import { CapInfo } from "../gen/layout";
import { capInfo } from "../lib/binding";
import { FIELD_HOST, FIELD_VERSION, Specification } from "../protocol/schema";
import { vmSlot, VmSlot, vmsThatFit } from "./slots";
import { stashErase, stashRead, stashWrite } from "./stash";
import { Value } from "./value";
import { Vm, vmOfStash } from "./vm";

/** The form of what is in the stash. */
const STASH_VERSION: u64 = 1;
const HOST_DOCUMENT: u32 = 0;

const capPage: usize = memory.data(96, 16);

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
  stashWrite(HOST_DOCUMENT, stashed(Value.map()).putText(FIELD_HOST, name));
}

/** The host's name that a predecessor knew; "" if there is none. */
export function hostNameOfStash(): string {
  const value = unstash(HOST_DOCUMENT);
  return value != null ? value.getText(FIELD_HOST) : "";
}

/** Takes a VM; a new one is the last. False: its name or index is taken. */
export function vmAdopt(vm: Vm): bool {
  for (let i = 0; i < vms.length; i++) if (vms[i].index == vm.index || vms[i].name == vm.name) return false;
  let at = vms.length;
  if (vm.order == 0) vm.order = at > 0 ? vms[at - 1].order + 1 : 1;
  vms.push(vm);
  for (; at > 0 && vms[at - 1].order > vm.order; at--) vms[at] = vms[at - 1];
  vms[at] = vm;
  return true;
}

function stashed(value: Value): Value {
  return value.putUint(FIELD_VERSION, STASH_VERSION);
}

function unstash(document: u32): Value | null {
  const value = stashRead(document);
  return value != null && value.getUint(FIELD_VERSION) == STASH_VERSION ? value : null;
}

function documentOf(index: u32): u32 {
  return HOST_DOCUMENT + 1 + index;
}

/** Writes what a successor must know of a VM. */
export function vmSave(vm: Vm): void {
  stashWrite(documentOf(vm.index), stashed(vm.toStash()));
}

/** The VM of this index that a predecessor knew; null: there is none, or its entry makes no sense. */
export function vmUnstash(index: u32): Vm | null {
  const value = unstash(documentOf(index));
  return value != null ? vmOfStash(value, index) : null;
}

export function vmFreeIndex(): i32 {
  capInfo(CAP_SELF, capPage);
  const limit = min<u32>(Specification.MAX_VMS, vmsThatFit(changetype<CapInfo>(capPage).slots));
  let taken: u64 = 0;
  for (let i = 0; i < vms.length; i++) taken |= (<u64>1) << vms[i].index;
  const free = <u32>ctz(~taken);
  return free < limit ? <i32>free : -1;
}

/** Whether a slot holds an object. */
export function slotHolds(slot: u32): bool {
  return capInfo(slot, capPage) >= 0 && changetype<CapInfo>(capPage).type != ObjectType.NONE;
}

/** Whether a slot of a VM holds an object. */
export function vmHolds(index: u32, what: VmSlot): bool {
  return slotHolds(vmSlot(index, what));
}

/** Takes a VM off the list. */
export function vmForget(vm: Vm): void {
  stashErase(documentOf(vm.index));
  vms.splice(vms.indexOf(vm), 1);
}
