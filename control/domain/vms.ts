// The VMs of this host: the list, and what is kept of it for a successor.

import { CAP_SELF, ObjectType } from "../gen/abi";
import { CapInfo } from "../gen/layout";
import { capInfo } from "../lib/binding";
import { FIELD_HOST, FIELD_VERSION, FIELD_VMS, Specification } from "../protocol/schema";
import { vmSlot, VmSlot, vmsThatFit } from "./slots";
import { stashWrite } from "./stash";
import { Value } from "./value";
import { Vm } from "./vm";

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

export function vmFreeIndex(): i32 {
  capInfo(CAP_SELF, capPage);
  const limit = min<u32>(Specification.MAX_VMS, vmsThatFit(changetype<CapInfo>(capPage).slots));
  for (let index: u32 = 0; index < limit; index++) {
    let taken = false;
    for (let i = 0; i < vms.length; i++) taken = taken || vms[i].index == index;
    if (!taken) return <i32>index;
  }
  return -1;
}

/** Whether a slot of a VM holds an object. */
export function vmHolds(index: u32, what: VmSlot): bool {
  return capInfo(vmSlot(index, what), capPage) >= 0 && changetype<CapInfo>(capPage).type != ObjectType.NONE;
}

/** Takes a VM off the list. */
export function vmForget(vm: Vm): void {
  vms.splice(vms.indexOf(vm), 1);
}
