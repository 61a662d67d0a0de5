// Flash memory for the variables of a VM's firmware: a memory object that lives as long as the VM is known, as disks do.
//
// UEFI firmware whose image begins with a volume for variables gets one, of that volume's size. What the image has
// there is what the first device model copies; from then on it is the VM's.

import { CAP_SELF, PAGE_SIZE, Right } from "../gen/abi";
import { GPA_GUEST } from "../gen/abi64";
import { capDrop, capGrant, memClone, memCreate, memMap, memUnmap, sharedRead } from "../lib/binding";
import { CAP_FLASH, FLASH_MAX } from "../lib/flash";
import { HIGH_MEMORY } from "../lib/pc-memory";
import { findModule, Module } from "./host";
import { GPA_MODULE, SnapshotSlot, snapshotSlot, VmSlot, vmSlot } from "./slots";
import { Vm } from "./vm";
import { vmHolds } from "./vms";

/* Where a device model finds the image to fill it from. */
const GPA_IMAGE_HEAD: u64 = 0x20000000;

// EFI_FIRMWARE_VOLUME_HEADER: UEFI Platform Initialization Specification, volume 3, "Firmware Volume Header".
const HEADER_SIZE: u32 = 48;
const HEADER_GUID: u32 = 16;
const HEADER_LENGTH: u32 = 32;
const HEADER_SIGNATURE: u32 = 40;
const SIGNATURE: u32 = 0x4856465f; // _FVH
// EFI_SYSTEM_NV_DATA_FV_GUID: a volume of variables.
const VARIABLES_LOW: u64 = 0x4c8b7696fff12b8d;
const VARIABLES_HIGH: u64 = 0x504f5b07472785a9;

const header: usize = memory.data(48, 8);

/** Pages of variables that a firmware image begins with. */
function pagesOf(image: Module): u64 {
  if (image.size < HEADER_SIZE) return 0;
  if (memMap(CAP_SELF, image.slot, GPA_MODULE, 0, 1, Right.READ) < 0) return 0;
  sharedRead(header, GPA_MODULE, HEADER_SIZE);
  memUnmap(CAP_SELF, GPA_MODULE, 1);
  if (load<u32>(header, HEADER_SIGNATURE) != SIGNATURE) return 0;
  if (load<u64>(header, HEADER_GUID) != VARIABLES_LOW) return 0;
  if (load<u64>(header, HEADER_GUID + 8) != VARIABLES_HIGH) return 0;
  const size = load<u64>(header, HEADER_LENGTH);
  return size % PAGE_SIZE == 0 && size <= min(FLASH_MAX, image.size / 2) ? size / PAGE_SIZE : 0;
}

function imageOf(vm: Vm): Module | null {
  return vm.spec.firmware != "" ? findModule(vm.spec.firmware) : null;
}

/** Pages of the flash memory that a VM has or will have. */
export function flashPages(vm: Vm): u64 {
  const image = imageOf(vm);
  return image != null ? pagesOf(image) : 0;
}

/** Pages of it that have still to be created. */
export function flashNeeded(vm: Vm): u64 {
  return vmHolds(vm.index, VmSlot.FLASH) ? 0 : flashPages(vm);
}

/**
 * Creates it, or takes that of a snapshot in place `source`, and maps all of the firmware for the VM and its device
 * model. Returns a hypercall's result.
 */
export function firmwareBuild(vm: Vm, source: i32): i64 {
  const image = imageOf(vm);
  if (image == null) return 0;
  const at = HIGH_MEMORY - image.pages * PAGE_SIZE;
  const flash = pagesOf(image);
  const model = vmSlot(vm.index, VmSlot.MODEL);
  const rest = at + flash * PAGE_SIZE;
  const pages = image.pages - flash;
  let status = memMap(model, image.slot, GPA_GUEST + rest, flash, pages, Right.READ);
  const domain = vmSlot(vm.index, VmSlot.DOMAIN);
  if (status >= 0) status = memMap(domain, image.slot, rest, flash, pages, Right.READ | Right.EXECUTE);
  return status >= 0 && flash > 0 ? flashBuild(vm, image, at, flash, source) : status;
}

// The VM's mapping of it is the device model's to make.
function flashBuild(vm: Vm, image: Module, at: u64, pages: u64, source: i32): i64 {
  const model = vmSlot(vm.index, VmSlot.MODEL);
  const slot = vmSlot(vm.index, VmSlot.FLASH);
  let status: i64 = 0;
  if (source >= 0) {
    status = memClone(slot, snapshotSlot(source, SnapshotSlot.FLASH), 0, 0, vm.nodePlace);
  } else if (!vmHolds(vm.index, VmSlot.FLASH)) {
    vm.disksFilled = false;
    status = memCreate(slot, pages, 0, vm.nodePlace);
  }
  if (status >= 0) status = memMap(model, slot, GPA_GUEST + at, 0, pages, Right.READ | Right.WRITE);
  if (status >= 0 && source < 0) status = memMap(model, image.slot, GPA_IMAGE_HEAD, 0, pages, Right.READ);
  if (status >= 0) status = capGrant(model, CAP_FLASH, slot, Right.READ);
  return status;
}

/** The VM is loaded: its device model has no more use for the image's variables. */
export function flashDone(vm: Vm): void {
  const pages = flashPages(vm);
  if (pages > 0) memUnmap(vmSlot(vm.index, VmSlot.MODEL), GPA_IMAGE_HEAD, pages);
}

/** Frees it, and the variables in it. */
export function flashForget(index: u32): void {
  capDrop(vmSlot(index, VmSlot.FLASH));
}
