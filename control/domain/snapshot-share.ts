// Memory that snapshots and VMs share, and the promises that go with it: who shares a page takes a free frame when it
// writes, and that must be there.

import { PageRangesAt, PAGE_SIZE } from "../gen/abi";
import { PageRanges } from "../gen/layout";
import { memDiff, memPromise } from "../lib/binding";
import { MAX_DISKS, SnapshotSlot, VmSlot, vmSlot } from "./slots";
import { Snapshot, snapshotsAll } from "./snapshots";
import { Vm } from "./vm";
import { memoryPages, presentPages, slotHolds, vmsAll, vmSave } from "./vms";

/** Answers that are asked for to count what differs: of a memory in many pieces the rest counts as different. */
const MAX_ANSWERS = 16;

const ranges: usize = memory.data(4096, 16);

/** A VM's objects that it writes. */
function writable(vm: Vm): u32[] {
  const slots: u32[] = [];
  const all: u32[] = [VmSlot.MEMORY, VmSlot.MODEL_RAM, VmSlot.LINK, VmSlot.FLASH];
  for (let i: u32 = 0; i < MAX_DISKS; i++) all.push(VmSlot.DISK + i);
  for (let i = 0; i < all.length; i++) {
    const slot = vmSlot(vm.index, all[i]);
    if (slotHolds(slot)) slots.push(slot);
  }
  return slots;
}

/** Pages that a VM would need if it wrote all that it has. */
export function promisePages(vm: Vm): u64 {
  const slots = writable(vm);
  let pages: u64 = 0;
  for (let i = 0; i < slots.length; i++) pages += presentPages(slots[i]);
  return pages;
}

/**
 * Keeps so many; with `overcommit` only those of the link: nobody can wait where this domain writes. Returns a
 * hypercall's result.
 */
export function promise(vm: Vm, overcommit: bool): i64 {
  const slots = overcommit ? [vmSlot(vm.index, VmSlot.LINK)] : writable(vm);
  for (let i = 0; i < slots.length; i++) {
    const status = memPromise(slots[i], presentPages(slots[i]));
    if (status < 0) return status;
  }
  return 0;
}

/** Keeps none. */
export function unpromise(vm: Vm): void {
  const slots = writable(vm);
  for (let i = 0; i < slots.length; i++) memPromise(slots[i], 0);
}

/** A number that no family has. */
export function newFamily(): u32 {
  let last: u32 = 0;
  for (let i = 0; i < vmsAll().length; i++) last = max(last, vmsAll()[i].family);
  for (let i = 0; i < snapshotsAll().length; i++) last = max(last, snapshotsAll()[i].family);
  return last + 1;
}

/** One of a family has gone: who is left alone shares nothing, and needs no promise. */
export function familyShrink(family: u32): void {
  if (family == 0) return;
  let last: Vm | null = null;
  let members = 0;
  for (let i = 0; i < snapshotsAll().length; i++) if (snapshotsAll()[i].family == family) members++;
  for (let i = 0; i < vmsAll().length; i++) {
    if (vmsAll()[i].family != family) continue;
    last = vmsAll()[i];
    members++;
  }
  if (last == null || members > 1) return;
  unpromise(last);
  last.family = 0;
  vmSave(last);
}

/** Pages in which two objects differ. */
function differing(slot: u32, base: u32): u64 {
  const all = memoryPages(slot);
  let pages: u64 = 0;
  let from: u64 = 0;
  for (let n = 0; n < MAX_ANSWERS && from < all; n++) {
    const count = memDiff(slot, base, from, ranges);
    if (count < 0) return all;
    for (let i: i64 = 0; i < count; i++) pages += load<u64>(ranges + PageRangesAt.SIZE + 16 * <usize>i + 8);
    from = max(changetype<PageRanges>(ranges).next, from + 1);
  }
  return pages + (from < all ? all - from : 0);
}

/** Bytes of VM memory that a snapshot does not share with its VM. */
export function snapshotOwn(snapshot: Snapshot): u64 {
  const slot = snapshot.slot(SnapshotSlot.MEMORY);
  const all = vmsAll();
  for (let i = 0; i < all.length; i++) {
    const other = vmSlot(all[i].index, VmSlot.MEMORY);
    if (all[i].name != snapshot.vm || all[i].family != snapshot.family) continue;
    if (memoryPages(other) == memoryPages(slot)) return differing(slot, other) * PAGE_SIZE;
  }
  return presentPages(slot) * PAGE_SIZE;
}
