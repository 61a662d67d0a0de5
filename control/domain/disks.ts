// The disks of a VM: memory objects that live as long as the VM is known, filled from boot modules. One that is only
// read is the boot module itself.
//
// A disk survives resets and stops of its VM. Its first device model copies the image to it; until that
// one has said that it is ready, the next one copies again.

import { PAGE_SIZE, Right } from "../gen/abi";
import { capDrop, memClone, memCreate, memMap } from "../lib/binding";
import {
  ErrorCode,
  FIELD_IMAGE,
  FIELD_CDROM,
  FIELD_READ_ONLY,
  FIELD_SIZE,
  LINK_FRESH,
} from "../protocol/schema";
import { findModule } from "./host";
import { damageOf } from "./manifest";
import { Fault } from "./outcome";
import { MAX_DISKS, SnapshotSlot, snapshotSlot, VmSlot, vmSlot } from "./slots";
import { DiskSpec } from "./spec";
import { mib, quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { memoryPages, vmHolds } from "./vms";

/* Where a device model finds the disks, and the images to fill them from. */
const GPA_DISKS: u64 = 0x60000000;
const DISK_STEP: u64 = 0x10000000;
/** Bytes of a disk, at most. */
export const DISK_MAX: u64 = DISK_STEP;
const GPA_DISK_IMAGES: u64 = GPA_DISKS + DISK_STEP * MAX_DISKS;

function slotOf(vm: Vm, disk: u32): u32 {
  return vmSlot(vm.index, VmSlot.DISK) + disk;
}

function pagesOf(disk: DiskSpec): u64 {
  const image = findModule(disk.image);
  return image != null ? image.pages : 0;
}

/** Whether it has been filled, here or on the host where the VM was before: its image is not needed any more. */
function isFilled(vm: Vm, disk: u32): bool {
  return !vm.spec.disks[disk].readOnly && vm.disksFilled && vmHolds(vm.index, VmSlot.DISK + disk);
}

/** Whether the disks' images are there and fit. */
export function disksAdmit(vm: Vm): Fault | null {
  const disks = vm.spec.disks;
  for (let i = 0; i < disks.length; i++) {
    if (isFilled(vm, i)) continue;
    const image = findModule(disks[i].image);
    const subject = "VM " + quoted(vm.name) + ": ";
    const damage = damageOf(disks[i].image);
    if (damage != "") return new Fault(ErrorCode.FAILED, subject + damage, vm.name, "doctor");
    if (image == null) {
      const text = subject + "there is no image " + quoted(disks[i].image);
      return new Fault(ErrorCode.NOT_FOUND, text, vm.name, "images");
    }
    if (image.size <= DISK_STEP) continue;
    const text = subject + "image " + quoted(image.name) + " is larger than a disk, " + mib(DISK_STEP);
    return new Fault(ErrorCode.FAILED, text, vm.name, "images");
  }
  return null;
}

/** Whether what a VM that goes on from a snapshot only reads is there: boot modules. */
export function disksRevivable(vm: Vm): Fault | null {
  const names: string[] = [];
  for (let i = 0; i < vm.spec.disks.length; i++)
    if (vm.spec.disks[i].readOnly) names.push(vm.spec.disks[i].image);
  if (vm.spec.firmware != "") names.push(vm.spec.firmware);
  for (let i = 0; i < names.length; i++) {
    const text = "VM " + quoted(vm.name) + ": ";
    const damage = damageOf(names[i]);
    if (damage != "") return new Fault(ErrorCode.FAILED, text + damage, vm.name, "doctor");
    if (findModule(names[i]) == null)
      return new Fault(
        ErrorCode.NOT_FOUND,
        text + "there is no image " + quoted(names[i]),
        vm.name,
        "images",
      );
  }
  return null;
}

/** Pages of all disks that are the VM's own. */
export function diskOwnPages(vm: Vm): u64 {
  let pages: u64 = 0;
  for (let i = 0; i < vm.spec.disks.length; i++)
    if (!vm.spec.disks[i].readOnly) pages += pagesOf(vm.spec.disks[i]);
  return pages;
}

/** Pages that the disks still need. */
export function diskPages(vm: Vm): u64 {
  let pages: u64 = 0;
  for (let i = 0; i < vm.spec.disks.length; i++) {
    const disk = vm.spec.disks[i];
    if (!disk.readOnly && !vmHolds(vm.index, VmSlot.DISK + i)) pages += pagesOf(disk);
  }
  return pages;
}

/** Pages that a device model maps for the disks and their images. */
export function diskMappedPages(vm: Vm): u64 {
  let pages: u64 = 0;
  for (let i = 0; i < vm.spec.disks.length; i++) {
    const disk = vm.spec.disks[i];
    pages += disk.readOnly ? pagesOf(disk) : 2 * pagesOf(disk);
  }
  return pages;
}

/**
 * Creates what is missing and maps all of it for the device model; or takes the disks of a snapshot, in place `source`.
 * Returns a hypercall's result.
 */
export function disksBuild(vm: Vm, source: i32): i64 {
  const disks = vm.spec.disks;
  const model = vmSlot(vm.index, VmSlot.MODEL);
  for (let i = 0; i < disks.length; i++) {
    if (source >= 0 && !disks[i].readOnly) {
      const status = diskTake(vm, i, source);
      if (status < 0) return status;
      continue;
    }
    if (isFilled(vm, i)) {
      const status = diskMap(vm, i);
      if (status < 0) return status;
      continue;
    }
    const image = findModule(disks[i].image);
    if (image == null) return -1;
    let status: i64 = 0;
    const at = <u64>i * DISK_STEP;
    if (disks[i].readOnly) {
      status = memMap(model, image.slot, GPA_DISKS + at, 0, image.pages, Right.READ);
      if (status < 0) return status;
      continue;
    }
    if (!vmHolds(vm.index, VmSlot.DISK + i)) {
      vm.disksFilled = false;
      status = memCreate(slotOf(vm, i), image.pages, 0, vm.nodePlace);
    }
    if (status >= 0) status = diskMap(vm, i);
    if (status >= 0) status = memMap(model, image.slot, GPA_DISK_IMAGES + at, 0, image.pages, Right.READ);
    if (status < 0) return status;
  }
  return 0;
}

/** Maps a disk that is the VM's own for its device model. */
function diskMap(vm: Vm, disk: u32): i64 {
  const slot = slotOf(vm, disk);
  const at = GPA_DISKS + disk * DISK_STEP;
  return memMap(vmSlot(vm.index, VmSlot.MODEL), slot, at, 0, memoryPages(slot), Right.READ | Right.WRITE);
}

/** A disk as it was in a snapshot. */
function diskTake(vm: Vm, disk: u32, source: i32): i64 {
  const status = memClone(
    slotOf(vm, disk),
    snapshotSlot(source, SnapshotSlot.DISK) + disk,
    0,
    0,
    vm.nodePlace,
  );
  return status >= 0 ? diskMap(vm, disk) : status;
}

/** Bytes of a disk: those of its image, unless it came from a host where that was another one. */
function sizeOf(vm: Vm, disk: u32): u64 {
  const image = findModule(vm.spec.disks[disk].image);
  const own = isFilled(vm, disk) ? memoryPages(slotOf(vm, disk)) : 0;
  if (own != 0 && (image == null || image.pages != own)) return own * PAGE_SIZE;
  return image != null ? image.size : 0;
}

/** What the device model is told of them. */
export function disksToLink(vm: Vm): Value {
  const list = Value.list();
  for (let i = 0; i < vm.spec.disks.length; i++) {
    const disk = vm.spec.disks[i];
    list.add(
      Value.map()
        .putText(FIELD_IMAGE, disk.image)
        .putUint(FIELD_SIZE, sizeOf(vm, i))
        .putBool(FIELD_READ_ONLY, disk.readOnly)
        .putBool(FIELD_CDROM, disk.isCd)
        .putBool(LINK_FRESH, !disk.readOnly && !vm.disksFilled),
    );
  }
  return list;
}

/** Frees the disks, and what is on them. */
export function disksForget(index: u32): void {
  for (let i: u32 = 0; i < MAX_DISKS; i++) capDrop(vmSlot(index, VmSlot.DISK) + i);
}
