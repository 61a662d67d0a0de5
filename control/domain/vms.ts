// The VMs of this host: the list, and what is kept of it for a successor.

import { CAP_SELF, CapInfoAt, Holding, ObjectType } from "../gen/abi";
import { CapInfo } from "../gen/layout";
import { capInfo, capList } from "../lib/binding";
import {
  FIELD_DENIALS,
  FIELD_HOST,
  FIELD_MITIGATIONS,
  FIELD_RULES,
  FIELD_TENANTS,
  Specification,
} from "../protocol/schema";
import { vmSlot, VmSlot, vmsThatFit } from "./slots";
import { stashErase, stashWrite } from "./stash";
import { HOST_DOCUMENT, stashed, unstash, vmDocument } from "./stash-form";
import { readTenants, tenantNumbers, tenantsNumber, tenantsSet, tenantsToValue } from "./tenants";
import { mitigationsGet, mitigationsSet, readMitigations } from "./mitigations";
import { denialsRestore, denialsToValue, readRules, rulesSet, rulesToValue } from "./rules";
import { isName, takeProblem } from "./spec";
import { Value } from "./value";
import { Vm, vmOfStash } from "./vm";

const TENANT_NUMBERS: string = "numbers";

const capPage: usize = memory.data(96, 16);
const listPage: usize = memory.data(4096, 16);

let vms: Vm[] = [];
/** VMs that are off the list, but keep their places and what they hold until it is sure that they go. */
const parked: Vm[] = [];
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
  hostSave();
}

/** Writes what a successor must know of the host itself: its name, its tenants and their rules. */
export function hostSave(): void {
  const value = stashed(Value.map()).putText(FIELD_HOST, hostName);
  value.put(FIELD_TENANTS, tenantsToValue()).put(FIELD_RULES, rulesToValue());
  value.put(TENANT_NUMBERS, tenantNumbers());
  value.put(FIELD_MITIGATIONS, mitigationsGet().toValue());
  value.put(FIELD_DENIALS, denialsToValue());
  if (stashWrite(HOST_DOCUMENT, value)) return;
  value.keys.pop(); /* the most that there can be: counts are what a successor can do without */
  value.items.pop();
  stashWrite(HOST_DOCUMENT, value);
}

/** Takes over what a predecessor knew of the host. */
export function hostUnstash(): void {
  const value = unstash(HOST_DOCUMENT);
  if (value == null) return;
  takeProblem();
  const tenants = readTenants(value.get(FIELD_TENANTS));
  tenantsNumber(tenants, value.getList(TENANT_NUMBERS));
  if (takeProblem() == "") tenantsSet(tenants);
  const rules = readRules(value.get(FIELD_RULES));
  if (takeProblem() == "") rulesSet(rules);
  const mitigations = readMitigations(value.get(FIELD_MITIGATIONS));
  if (takeProblem() == "") mitigationsSet(mitigations);
  denialsRestore(value.get(FIELD_DENIALS));
  const name = value.getText(FIELD_HOST);
  if (isName(name)) hostName = name;
  hostSave();
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

/** Writes what a successor must know of a VM. */
export function vmSave(vm: Vm): void {
  stashWrite(vmDocument(vm.index), stashed(vm.toStash()));
}

/** The VM of this index that a predecessor knew; null: there is none, or its entry makes no sense. */
export function vmUnstash(index: u32): Vm | null {
  const value = unstash(vmDocument(index));
  return value != null ? vmOfStash(value, index) : null;
}

export function vmFreeIndex(): i32 {
  capInfo(CAP_SELF, capPage);
  const limit = min<u32>(Specification.MAX_VMS, vmsThatFit(changetype<CapInfo>(capPage).slots));
  const taken = new StaticArray<bool>(Specification.MAX_VMS);
  for (let i = 0; i < vms.length; i++) taken[vms[i].index] = true;
  for (let i = 0; i < parked.length; i++) taken[parked[i].index] = true;
  for (let index: u32 = 0; index < limit; index++) if (!taken[index]) return <i32>index;
  return -1;
}

/** The slots of this domain that hold something, in rising order. */
export function slotsHeld(): u32[] {
  const found: u32[] = [];
  for (let from: u64 = 0; ;) {
    const count = capList(CAP_SELF, Holding.CAPS, from, listPage);
    if (count <= 0) return found;
    for (let n: i64 = 0; n < count; n++)
      found.push(<u32>changetype<CapInfo>(listPage + <usize>n * CapInfoAt.SIZE).first);
    from = found[found.length - 1] + 1;
  }
  return found;
}

/** Whether a slot holds an object. */
export function slotHolds(slot: u32): bool {
  return capInfo(slot, capPage) >= 0 && changetype<CapInfo>(capPage).type != ObjectType.NONE;
}

/** Pages of the memory object in a slot; 0: there is none. */
export function memoryPages(slot: u32): u64 {
  if (capInfo(slot, capPage) < 0) return 0;
  const cap = changetype<CapInfo>(capPage);
  return cap.type == ObjectType.MEMORY ? cap.pages : 0;
}

/** Pages of the memory object in a slot that have a frame. */
export function presentPages(slot: u32): u64 {
  return memoryPages(slot) > 0 ? changetype<CapInfo>(capPage).present : 0;
}

/** Whether a slot of a VM holds an object. */
export function vmHolds(index: u32, what: VmSlot): bool {
  return slotHolds(vmSlot(index, what));
}

/** Takes a VM off the list for now; vmUnpark() or vmForget() follows. */
export function vmPark(vm: Vm): void {
  vms.splice(vms.indexOf(vm), 1);
  parked.push(vm);
}

export function vmUnpark(vm: Vm): void {
  parked.splice(parked.indexOf(vm), 1);
  vmAdopt(vm);
}

/** Takes a VM off the list. */
export function vmForget(vm: Vm): void {
  stashErase(vmDocument(vm.index));
  if (vms.includes(vm)) vms.splice(vms.indexOf(vm), 1);
  else parked.splice(parked.indexOf(vm), 1);
}
