// Where things are in this domain: capability slots, event bits, guest-physical addresses. All fixed, so
// that a restarted control domain finds its objects without having to remember where they are.

import { Specification } from "../protocol/schema";
import { CAP_FREE, EVENT_FREE, GPA_SHARED, MAX_VCPUS } from "../gen/abi";

/* Slots of this domain's own objects. */
export const SLOT_STASH: u32 = CAP_FREE;
export const SLOT_UART: u32 = CAP_FREE + 1;
export const SLOT_TIMER: u32 = CAP_FREE + 2;
/** A control image that is being sent. */
export const SLOT_UPLOAD: u32 = CAP_FREE + 3;
export const SLOT_UART_BULK: u32 = CAP_FREE + 4;
const SLOT_NETWORKS: u32 = CAP_FREE + 8;
/** Networks of the host, at most. */
export const MAX_NETWORKS: u32 = Specification.MAX_HOST_NETWORKS;
const SLOTS_PER_NETWORK: u32 = 3;
const SLOT_SNAPSHOTS: u32 = SLOT_NETWORKS + MAX_NETWORKS * SLOTS_PER_NETWORK;
/** Snapshots of the host, at most. */
export const MAX_SNAPSHOTS: u32 = Specification.MAX_SNAPSHOTS;
const SLOTS_PER_SNAPSHOT: u32 = 12;
const SLOT_VMS: u32 = SLOT_SNAPSHOTS + MAX_SNAPSHOTS * SLOTS_PER_SNAPSHOT;
/** Disks of a VM, at most. */
export const MAX_DISKS: u32 = 4;
const SLOTS_PER_VM: u32 = 8 + MAX_VCPUS + MAX_DISKS + 4;

/* Event bits of this domain. */
/** Of both serial ports. */
export const EVENT_UART: u32 = EVENT_FREE;
export const EVENT_TIMER: u32 = EVENT_FREE + 1;
const EVENT_LINKS: u32 = EVENT_FREE + 2;
/** With more VMs than these, links share event bits. */
const LINK_EVENTS: u32 = 64 - EVENT_LINKS;

/* Guest-physical addresses in this domain. */
const GPA_LINKS: u64 = GPA_SHARED + 0x8000000;
const GPA_LINK_STEP: u64 = 0x20000;
/** Where the memory of a network is mapped for a moment. */
export const GPA_CABLE: u64 = GPA_SHARED + 0x800000;
export const GPA_STASH: u64 = GPA_SHARED + 0x1000000;
export const GPA_UPLOAD: u64 = GPA_SHARED + 0x1800000;
/** Where a snapshot's objects are mapped for a moment. */
export const GPA_SNAPSHOT: u64 = GPA_SHARED + 0x1c00000;
export const GPA_MODULE: u64 = GPA_SHARED + 0x2000000;

/** What the slots of a VM hold, from its first on. */
export const enum VmSlot {
  MEMORY = 0,
  MODEL_RAM = 1,
  LINK = 2,
  MODEL = 3,
  DOMAIN = 4,
  MODEL_VCPU = 5,
  CHANNEL = 6 /* our end */,
  MODEL_CHANNEL = 7 /* the device model's end */,
  VCPU = 8 /* MAX_VCPUS of them */,
  DISK = 24 /* MAX_DISKS of them */,
  FLASH = 28 /* its firmware's flash memory */,
  IMAGE = 29 /* of its device model, if that is not this host's */,
  CABLES = 30 /* for cards that are not plugged in */,
  CPUID = 31 /* what CPUID says to it, if it goes on from a snapshot */,
}

export function vmSlot(index: u32, what: VmSlot): u32 {
  return SLOT_VMS + index * SLOTS_PER_VM + what;
}

/** What the slots of a snapshot hold. */
export const enum SnapshotSlot {
  DOMAIN = 0 /* never run: it pays for the rest */,
  RECORD = 1 /* its document */,
  STATE = 2,
  MEMORY = 3,
  MODEL = 4,
  LINK = 5,
  FLASH = 6,
  IMAGE = 7,
  DISK = 8 /* MAX_DISKS of them */,
}

export function snapshotSlot(index: u32, what: SnapshotSlot): u32 {
  return SLOT_SNAPSHOTS + index * SLOTS_PER_SNAPSHOT + what;
}

/** What the slots of a network hold. */
export const enum NetworkSlot {
  MEMORY = 0,
  CHANNEL = 1 /* both ends: of side 0, and of side 1 */,
}

export function networkSlot(index: u32, what: NetworkSlot): u32 {
  return SLOT_NETWORKS + index * SLOTS_PER_NETWORK + what;
}

/** How many VMs a capability table of `slots` has room for. */
export function vmsThatFit(slots: u32): u32 {
  return slots > SLOT_VMS ? (slots - SLOT_VMS) / SLOTS_PER_VM : 0;
}

/** Where the link of a VM is mapped in this domain. */
export function linkAddress(index: u32): u64 {
  return GPA_LINKS + index * GPA_LINK_STEP;
}

export function linkEvent(index: u32): u32 {
  return EVENT_LINKS + (index % LINK_EVENTS);
}

/** The snapshot whose slot this is, or -1. */
export function snapshotOfSlot(slot: u32): i32 {
  return slot >= SLOT_SNAPSHOTS && slot < SLOT_VMS ? <i32>((slot - SLOT_SNAPSHOTS) / SLOTS_PER_SNAPSHOT) : -1;
}

/** The VM whose slot this is, or -1. */
export function vmOfSlot(slot: u32): i32 {
  return slot >= SLOT_VMS ? <i32>((slot - SLOT_VMS) / SLOTS_PER_VM) : -1;
}

/** What of its VM is in a slot. */
export function vmSlotKind(slot: u32): u32 {
  return (slot - SLOT_VMS) % SLOTS_PER_VM;
}

/** The network whose slot this is, or -1. */
export function networkOfSlot(slot: u32): i32 {
  return slot >= SLOT_NETWORKS && slot < SLOT_SNAPSHOTS
    ? <i32>((slot - SLOT_NETWORKS) / SLOTS_PER_NETWORK)
    : -1;
}
