// Networks between VMs: a cable each (control/lib/cable.ts), which two cards share.
//
// A card knows its network's number and its own side of the cable from the VM's creation to its removal. The
// memory and the channel are there while a device model uses them.

import { CAP_SELF, PAGE_SIZE, Right } from "../gen/abi";
import { capDrop, capGrant, channelCreate, channelSignal, memCreate, memMap, memUnmap } from "../lib/binding";
import { sharedStore32 } from "../lib/binding";
import { CABLE_SIZE, CABLE_STEP, cableSide, CAP_CABLES, GPA_CABLES, MAX_CARDS } from "../lib/cable";
import {
  DENIED_NETWORKS,
  ErrorCode,
  FIELD_MAC,
  FIELD_NETWORK,
  FIELD_NETWORKS,
  LINK_ADDRESS,
  LINK_INDEX,
  LINK_SIDE,
} from "../protocol/schema";
import { cableText } from "../protocol/planner";
import { mayShare, SHARE_NETWORKS } from "../protocol/rules";
import { Fault } from "./outcome";
import { policyDenied, rulesAll } from "./rules";
import { GPA_CABLE, MAX_NETWORKS, networkSlot, NetworkSlot, VmSlot, vmSlot } from "./slots";
import { CardSpec, VmSpec } from "./spec";
import { quoted } from "./text";
import { Value } from "./value";
import { Card, Vm } from "./vm";
import { hostNameGet, slotHolds, vmsAll } from "./vms";

const CABLE_PAGES: u64 = CABLE_SIZE / PAGE_SIZE;
let holding: bool = false;

/** The cards on a network, of all VMs but `except`. */
function cardsOf(network: string, except: Vm): Vm[] {
  const owners: Vm[] = [];
  const all = vmsAll();
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    for (let n = 0; n < vm.cards.length && vm != except; n++)
      if (vm.spec.cards[n].network == network) owners.push(vm);
  }
  return owners;
}

/** Of a card that is not plugged in: its network. */
export const UNPLUGGED: u32 = MAX_NETWORKS;

/**
 * Gives each card of a VM that goes on from a snapshot its place: the side that its device model knows. Where another
 * has that, or the network is another tenant's, the card is not plugged in.
 */
export function networksAgain(vm: Vm, sides: u32[]): void {
  vm.cards = [];
  for (let i = 0; i < vm.spec.cards.length; i++) {
    const side = i < sides.length ? sides[i] : 0;
    const count = vm.cards.length;
    if (mayPlug(vm, vm.spec.cards[i].network)) assign(vm, vm.spec.cards[i], side);
    if (vm.cards.length == count) vm.cards.push(new Card(UNPLUGGED, side));
  }
}

function mayPlug(vm: Vm, network: string): bool {
  const owners = cardsOf(network, vm);
  for (let i = 0; i < owners.length; i++)
    if (!mayShare(rulesAll(), owners[i].spec.tenant, vm.spec.tenant, SHARE_NETWORKS)) return false;
  return true;
}

/** Gives each card of a new VM its place. A fault: a network has two cards already. */
export function networksAssign(vm: Vm): Fault | null {
  vm.cards = [];
  for (let i = 0; i < vm.spec.cards.length; i++) {
    const fault = assign(vm, vm.spec.cards[i], ANY_SIDE);
    if (fault != null) return fault;
  }
  return null;
}

/** A network is one tenant's, but for a rule. */
function tenantsFault(vm: Vm, network: string): Fault | null {
  const owners = cardsOf(network, vm);
  for (let i = 0; i < owners.length; i++) {
    const owner = owners[i].spec.tenant;
    if (mayShare(rulesAll(), owner, vm.spec.tenant, SHARE_NETWORKS)) continue;
    const cause = cableText(network, owners[i].name, owner, vm.spec.tenant);
    const text = "VM " + quoted(vm.name) + ": " + cause;
    policyDenied(vm.spec.tenant, DENIED_NETWORKS, vm.name, text);
    return new Fault(ErrorCode.DENIED, text, vm.name, "policy check");
  }
  return null;
}

const ANY_SIDE: u32 = 2;

function assign(vm: Vm, spec: CardSpec, side: u32): Fault | null {
  const foreign = tenantsFault(vm, spec.network);
  if (foreign != null) return foreign;
  let used: u32 = 0; // numbers of networks
  let sides: u32 = 0; // of this network
  let index: u32 = MAX_NETWORKS;
  const all = vmsAll().slice(0);
  if (!all.includes(vm)) all.push(vm);
  for (let i = 0; i < all.length; i++) {
    for (let n = 0; n < all[i].cards.length; n++) {
      const card = all[i].cards[n];
      if (card.network == UNPLUGGED) continue;
      used |= 1 << card.network;
      if (all[i].spec.cards[n].network != spec.network) continue;
      index = card.network;
      sides |= 1 << card.side;
    }
  }
  if (sides == 3 || (side != ANY_SIDE && (sides & (1 << side)) != 0))
    return new Fault(ErrorCode.FAILED, fullText(vm, spec), vm.name, "show " + vm.name);
  if (index == MAX_NETWORKS) index = ctz(~used);
  if (index >= MAX_NETWORKS) {
    const text = "VM " + quoted(vm.name) + ": there are " + MAX_NETWORKS.toString() + " networks already";
    return new Fault(ErrorCode.FAILED, text, vm.name, "rm NAME");
  }
  vm.cards.push(new Card(index, side != ANY_SIDE ? side : sides & 1));
  return null;
}

function fullText(vm: Vm, spec: CardSpec): string {
  const owners = cardsOf(spec.network, vm);
  let text = "VM " + quoted(vm.name) + ": network " + quoted(spec.network) + " has two cards already";
  if (owners.length == 2) text += ", of " + quoted(owners[0].name) + " and " + quoted(owners[1].name);
  return text;
}

/** Pages that the networks of a VM still need. */
export function networkPages(vm: Vm): u64 {
  let pages: u64 = 0;
  for (let i = 0; i < vm.cards.length; i++)
    if (vm.cards[i].network == UNPLUGGED || !slotHolds(networkSlot(vm.cards[i].network, NetworkSlot.MEMORY)))
      pages += CABLE_PAGES;
  return pages;
}

/** Bytes of the networks of a specification, if none of them is there yet. */
export function cablesNeeded(spec: VmSpec): u64 {
  return <u64>spec.cards.length * CABLE_SIZE;
}

/** Bytes of networks that count as this VM's: half of each. */
export function networkBytes(vm: Vm): u64 {
  return cablesNeeded(vm.spec) / 2;
}

/** Creates what is missing, and gives it to the device model. Returns a hypercall's result. */
export function networksBuild(vm: Vm): i64 {
  const model = vmSlot(vm.index, VmSlot.MODEL);
  for (let i = 0; i < vm.cards.length; i++) {
    const card = vm.cards[i];
    if (card.network == UNPLUGGED) {
      const status = cableBuild(vm, i);
      if (status < 0) return status;
      continue;
    }
    const memory = networkSlot(card.network, NetworkSlot.MEMORY);
    const channel = networkSlot(card.network, NetworkSlot.CHANNEL);
    let status: i64 = 0;
    if (!slotHolds(memory)) status = memCreate(memory, CABLE_PAGES);
    if (status >= 0 && !slotHolds(channel)) status = channelCreate(channel, channel + 1);
    if (status >= 0)
      status = memMap(model, memory, GPA_CABLES + i * CABLE_STEP, 0, CABLE_PAGES, Right.READ | Right.WRITE);
    if (status >= 0) status = capGrant(model, CAP_CABLES + i, channel + card.side, Right.ALL & ~Right.GRANT);
    if (status < 0) return status;
  }
  return 0;
}

/** A card that is not plugged in has a cable of its own, and nobody to signal. */
function cableBuild(vm: Vm, card: i32): i64 {
  const slot = vmSlot(vm.index, VmSlot.CABLES);
  let status: i64 = slotHolds(slot) ? 0 : memCreate(slot, CABLE_PAGES * MAX_CARDS);
  const first = CABLE_PAGES * card;
  const gpa = GPA_CABLES + card * CABLE_STEP;
  if (status >= 0)
    status = memMap(vmSlot(vm.index, VmSlot.MODEL), slot, gpa, first, CABLE_PAGES, Right.READ | Right.WRITE);
  return status;
}

/** Whether a VM that is up, other than this one, has a card on a network. */
function isUsed(network: u32, except: Vm): bool {
  const all = vmsAll();
  for (let i = 0; i < all.length; i++) {
    const vm = all[i];
    for (let n = 0; n < vm.cards.length && vm.alive && vm != except; n++)
      if (vm.cards[n].network == network) return true;
  }
  return false;
}

/** While a control domain finds what its predecessor had, nothing is freed: networksSweep() ends this. */
export function networksHold(): void {
  holding = true;
}

/** A VM's device model is gone: its peers learn it, and what nobody uses is freed. */
export function networksRelease(vm: Vm): void {
  capDrop(vmSlot(vm.index, VmSlot.CABLES));
  for (let i = 0; i < vm.cards.length; i++) {
    const card = vm.cards[i];
    if (card.network == UNPLUGGED) continue;
    const memory = networkSlot(card.network, NetworkSlot.MEMORY);
    const channel = networkSlot(card.network, NetworkSlot.CHANNEL);
    if (!holding && !isUsed(card.network, vm)) free(card.network);
    else if (memMap(CAP_SELF, memory, GPA_CABLE, 0, 1, Right.READ | Right.WRITE) >= 0) {
      sharedStore32(GPA_CABLE + cableSide(card.side), 0);
      memUnmap(CAP_SELF, GPA_CABLE, 1);
      channelSignal(channel + card.side);
    }
  }
}

/** After a restart: frees networks that no VM uses. */
export function networksSweep(): void {
  const all = vmsAll();
  holding = false;
  for (let network: u32 = 0; network < MAX_NETWORKS; network++) {
    let used = false;
    for (let i = 0; i < all.length; i++)
      for (let n = 0; n < all[i].cards.length && all[i].alive; n++)
        used = used || all[i].cards[n].network == network;
    if (!used) free(network);
  }
}

function free(network: u32): void {
  const channel = networkSlot(network, NetworkSlot.CHANNEL);
  capDrop(channel + 1);
  capDrop(channel);
  capDrop(networkSlot(network, NetworkSlot.MEMORY));
}

/** The Ethernet address of a card, first byte lowest: its own, or one that its names always give. */
export function cardAddress(vm: Vm, index: i32): u64 {
  const mac = vm.spec.cards[index].mac;
  let address: u64 = 0;
  if (mac != "") {
    for (let i = 5; i >= 0; i--) address = (address << 8) | U32.parseInt(mac.substring(3 * i, 3 * i + 2), 16);
    return address;
  }
  const names = String.UTF8.encode(hostNameGet() + "/" + vm.name + "/" + index.toString());
  let hash: u64 = 0xcbf29ce484222325; /* FNV-1a */
  for (let i = 0; i < names.byteLength; i++)
    hash = (hash ^ load<u8>(changetype<usize>(names) + i)) * 0x100000001b3;
  address = (hash ^ (hash >> 48)) & 0xffffffffffff;
  return (address & ~0xff) | 0x52; /* locally administered, of one card */
}

/** The same as a text. */
export function cardMac(vm: Vm, index: i32): string {
  const address = cardAddress(vm, index);
  let text = "";
  for (let i = 0; i < 6; i++)
    text += (i > 0 ? ":" : "") + (<u32>((address >> (8 * i)) & 0xff)).toString(16).padStart(2, "0");
  return text;
}

/** Reads what networksToLink() wrote, for a VM that is found without a record. */
export function networksOfLink(vm: Vm, value: Value): void {
  const list = value.getList(FIELD_NETWORKS);
  for (let i = 0; i < list.length; i++) {
    const network = <u32>list[i].getUint(LINK_INDEX, MAX_NETWORKS);
    if (network >= MAX_NETWORKS) continue;
    vm.spec.cards.push(new CardSpec(list[i].getText(FIELD_NETWORK), list[i].getText(FIELD_MAC)));
    vm.cards.push(new Card(network, (<u32>list[i].getUint(LINK_SIDE)) & 1));
  }
}

/** What the device model is told of them, and a successor of this control domain. */
export function networksToLink(vm: Vm): Value {
  const list = Value.list();
  for (let i = 0; i < vm.cards.length; i++)
    list.add(
      Value.map()
        .putText(FIELD_NETWORK, vm.spec.cards[i].network)
        .putText(FIELD_MAC, vm.spec.cards[i].mac)
        .putUint(LINK_ADDRESS, cardAddress(vm, i))
        .putUint(LINK_INDEX, vm.cards[i].network)
        .putUint(LINK_SIDE, vm.cards[i].side),
    );
  return list;
}
