// Makes the objects of a VM (memory, device model, domain, vCPU, link) and takes them apart again.
//
// A build that fails half way is undone before it returns. The order and the addresses are those of the
// contract with the device model: image at GPA_IMAGE, RAM at GPA_RAM, link at GPA_SHARED, kernel and initrd
// read-only above it, the VM's memory at GPA_GUEST.

import {
  CAP_LINK,
  CAP_SELF,
  CAP_VCPU,
  CAP_VM,
  GPA_IMAGE,
  GPA_RAM,
  GPA_SHARED,
  PAGE_SIZE,
  Right,
  Role,
  Status,
} from "../gen/abi";
import { GPA_GUEST } from "../gen/abi64";
import {
  capDrop,
  capGrant,
  channelBind,
  channelCreate,
  cpuidSet,
  domainCreate,
  domainDestroy,
  memCreate,
  memMap,
  memUnmap,
  vcpuCreate,
  vcpuStart,
} from "../lib/binding";
import { CborWriter } from "../lib/cbor";
import { ControlLink, LINK_CONFIG_MAX, LINK_SIZE } from "../lib/link";
import {
  ErrorCode,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_DISKS,
  FIELD_VCPUS,
  FIELD_MEMORY,
  FIELD_NAME,
  LINK_INITRD_SIZE,
  LINK_KERNEL_SIZE,
  LINK_TSC_HZ,
  LINK_WALL_CLOCK,
} from "../protocol/schema";
import { wallClock } from "./clock";
import { encode } from "./codec";
import { diskMappedPages, diskPages, disksAdmit, disksBuild, disksToLink } from "./disks";
import { policyBuild, policyRows } from "./cpuid";
import { findModule, freePages, info, Module } from "./host";
import { Fault } from "./outcome";
import { linkAddress, linkEvent, VmSlot, vmSlot } from "./slots";
import { VmSpec } from "./spec";
import { mib, quoted } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";

/* What a VM costs beside its own memory, in pages. The quotas are promised to the domain's account. */
const MODEL_RAM_PAGES: u64 = 160; /* 640 KiB */
const MODEL_KERNEL_PAGES: u32 = 40;
const VM_KERNEL_PAGES: u32 = 40;
const VCPU_KERNEL_PAGES: u32 = 4; /* of each further vCPU: itself, VMCS, exit page, vector state */
const MODEL_CAP_SLOTS: u32 = 72; /* one page of them; CAP_FREE and up are the model's own */
const VM_CAP_SLOTS: u32 = 8;
const LINK_PAGES: u64 = LINK_SIZE / PAGE_SIZE;

const GPA_KERNEL: u64 = 0x20000000;
const GPA_INITRD: u64 = 0x40000000;
const MAX_MODULE: u64 = 0x20000000;

const MODEL_IMAGE: string = "device-model";

const config: usize = memory.data(4096, 16);

// The step that failed in the build under way, and how.
let failedStep: string = "";
let failedStatus: u32 = 0;

/** Links made so far: each has its number, so that no reader takes one for another. */
let links: u32 = 0;

/** Memory a VM of this size needs, with all that is beside it, in pages. */
function pagesNeeded(vm: Vm): u64 {
  const spec = vm.spec;
  return (
    diskPages(vm) +
    spec.memory / PAGE_SIZE +
    MODEL_RAM_PAGES +
    LINK_PAGES +
    kernelPages(spec) +
    modelKernelPages(vm)
  );
}

/** A device model's page tables also cover the images, in 4 KiB pages where those are not aligned. */
function modelKernelPages(vm: Vm): u32 {
  const spec = vm.spec;
  const kernel = findModule(spec.kernel);
  const initrd = findModule(spec.initrd);
  const images =
    (kernel != null ? kernel.pages : 0) + (initrd != null ? initrd.pages : 0) + diskMappedPages(vm);
  return MODEL_KERNEL_PAGES + <u32>(spec.memory >> 30) + <u32>(images / 512);
}

/** Bytes of a device model's RAM and link. */
export function modelBytes(): u64 {
  return (MODEL_RAM_PAGES + LINK_PAGES) * PAGE_SIZE;
}

/** Page tables grow with the memory: 4 KiB a GiB in 2 MiB pages; the rest is for vCPUs and tables. */
function kernelPages(spec: VmSpec): u32 {
  return VM_KERNEL_PAGES + (spec.vcpus - 1) * VCPU_KERNEL_PAGES + <u32>(spec.memory >> 30);
}

/** What makes a start impossible, found out before anything is created. */
export function vmAdmit(vm: Vm): Fault | null {
  const subject = "VM " + quoted(vm.name) + ": ";
  const kernel = findModule(vm.spec.kernel);
  if (kernel == null)
    return new Fault(
      ErrorCode.NOT_FOUND,
      subject + "there is no image " + quoted(vm.spec.kernel),
      vm.name,
      "images",
    );
  const initrd = vm.spec.initrd != "" ? findModule(vm.spec.initrd) : null;
  if (vm.spec.initrd != "" && initrd == null)
    return new Fault(
      ErrorCode.NOT_FOUND,
      subject + "there is no image " + quoted(vm.spec.initrd),
      vm.name,
      "images",
    );
  if (findModule(MODEL_IMAGE) == null)
    return new Fault(
      ErrorCode.FAILED,
      subject + "the boot loader gave no module " + quoted(MODEL_IMAGE),
      vm.name,
      "images",
    );
  const big =
    kernel.size > MAX_MODULE ? kernel.name : initrd != null && initrd.size > MAX_MODULE ? initrd.name : "";
  if (big != "")
    return new Fault(
      ErrorCode.FAILED,
      subject + "image " + quoted(big) + " is larger than " + mib(MAX_MODULE),
      vm.name,
      "images",
    );
  const fault = disksAdmit(vm);
  if (fault != null) return fault;
  const needed = pagesNeeded(vm) * PAGE_SIZE;
  const free = freePages() * PAGE_SIZE;
  if (needed <= free) return null;
  return new Fault(
    ErrorCode.FAILED,
    subject + "needs " + mib(needed) + ", " + mib(free) + " are free",
    vm.name,
    "free",
  );
}

function ok(result: i64, step: string): bool {
  if (result >= 0) return true;
  if (failedStep == "") {
    failedStep = step;
    failedStatus = <u32>-result;
  }
  return false;
}

function statusText(status: u32): string {
  switch (status) {
    case Status.NO_MEMORY:
      return "there is not enough free memory";
    case Status.NO_QUOTA:
      return "its kernel-memory quota is used up";
    case Status.IN_USE:
      return "it is in use";
    case Status.BAD_ARGUMENT:
      return "the kernel refused an argument";
    default:
      return "status " + status.toString();
  }
}

/** Builds a VM and starts its device model. On a fault nothing is left behind. */
export function vmBuild(vm: Vm): Fault | null {
  failedStep = "";
  failedStatus = 0;
  vmTearDown(vm);
  vmForgetLink(vm);
  vm.alive = true;
  if (createObjects(vm) && mapModel(vm) && createCpus(vm) && createLink(vm)) {
    if (ok(vcpuStart(vmSlot(vm.index, VmSlot.MODEL_VCPU)), "starting its device model")) return null;
  }
  vmTearDown(vm);
  vmForgetLink(vm);
  const cause = failedStep + " failed: " + statusText(failedStatus);
  return new Fault(ErrorCode.FAILED, "VM " + quoted(vm.name) + ": " + cause, vm.name, "free");
}

function createObjects(vm: Vm): bool {
  const i = vm.index;
  return (
    ok(memCreate(vmSlot(i, VmSlot.MEMORY), vm.spec.memory / PAGE_SIZE), "creating its memory") &&
    ok(memCreate(vmSlot(i, VmSlot.MODEL_RAM), MODEL_RAM_PAGES), "creating its device model's memory") &&
    ok(memCreate(vmSlot(i, VmSlot.LINK), LINK_PAGES), "creating its link") &&
    ok(
      domainCreate(
        vmSlot(i, VmSlot.MODEL),
        Role.DEVICE_MODEL,
        modelKernelPages(vm),
        MODEL_CAP_SLOTS,
        "dm/" + vm.name,
      ),
      "creating its device model",
    ) &&
    ok(
      domainCreate(vmSlot(i, VmSlot.DOMAIN), Role.VM, kernelPages(vm.spec), VM_CAP_SLOTS, "vm/" + vm.name),
      "creating its domain",
    )
  );
}

function mapModule(model: u32, module: Module | null, gpa: u64, access: u32): bool {
  if (module == null || module.size == 0) return true;
  return ok(memMap(model, module.slot, gpa, 0, module.pages, access), "mapping image " + quoted(module.name));
}

function mapModel(vm: Vm): bool {
  const i = vm.index;
  const model = vmSlot(i, VmSlot.MODEL);
  const pages = vm.spec.memory / PAGE_SIZE;
  const readWrite: u32 = Right.READ | Right.WRITE;
  return (
    mapModule(model, findModule(MODEL_IMAGE), GPA_IMAGE, Right.READ | Right.EXECUTE) &&
    ok(
      memMap(model, vmSlot(i, VmSlot.MODEL_RAM), GPA_RAM, 0, MODEL_RAM_PAGES, readWrite),
      "mapping its device model's memory",
    ) &&
    ok(memMap(model, vmSlot(i, VmSlot.LINK), GPA_SHARED, 0, LINK_PAGES, readWrite), "mapping its link") &&
    ok(
      memMap(model, vmSlot(i, VmSlot.MEMORY), GPA_GUEST, 0, pages, readWrite),
      "mapping its memory for its device model",
    ) &&
    mapModule(model, findModule(vm.spec.kernel), GPA_KERNEL, Right.READ) &&
    mapModule(model, vm.spec.initrd != "" ? findModule(vm.spec.initrd) : null, GPA_INITRD, Right.READ) &&
    ok(disksBuild(vm), "making its disks") &&
    ok(
      memMap(vmSlot(i, VmSlot.DOMAIN), vmSlot(i, VmSlot.MEMORY), 0, 0, pages, readWrite | Right.EXECUTE),
      "mapping its memory",
    )
  );
}

function unmapModule(model: u32, module: Module | null, gpa: u64): void {
  if (module != null && module.size != 0) memUnmap(model, gpa, module.pages);
}

/** The VM is loaded: its device model has no more use for the images, nor for the tables that map them. */
export function buildDone(vm: Vm): void {
  const model = vmSlot(vm.index, VmSlot.MODEL);
  unmapModule(model, findModule(vm.spec.kernel), GPA_KERNEL);
  if (vm.spec.initrd != "") unmapModule(model, findModule(vm.spec.initrd), GPA_INITRD);
}

function createCpus(vm: Vm): bool {
  const i = vm.index;
  const model = vmSlot(i, VmSlot.MODEL);
  const domain = vmSlot(i, VmSlot.DOMAIN);
  const vcpuRights: u32 = Right.CONTROL | Right.INTERRUPT | Right.READ;
  if (!ok(cpuidSet(domain, policyRows(), policyBuild(vm.spec.vcpus)), "setting its CPUID policy"))
    return false;
  if (!ok(capGrant(model, CAP_VM, domain, Right.READ | Right.INTERRUPT), "granting its domain")) return false;
  for (let n: u32 = 0; n < vm.spec.vcpus; n++) {
    const slot = vmSlot(i, VmSlot.VCPU) + n;
    if (!ok(vcpuCreate(slot, domain, n, model), "creating its vCPU")) return false;
    if (!ok(capGrant(model, CAP_VCPU + n, slot, vcpuRights), "granting its vCPU")) return false;
  }
  return ok(vcpuCreate(vmSlot(i, VmSlot.MODEL_VCPU), model, 0, 0), "creating its device model's vCPU");
}

function createLink(vm: Vm): bool {
  const i = vm.index;
  const channel = vmSlot(i, VmSlot.CHANNEL);
  const far = vmSlot(i, VmSlot.MODEL_CHANNEL);
  if (!ok(channelCreate(channel, far), "creating its channel")) return false;
  if (!ok(capGrant(vmSlot(i, VmSlot.MODEL), CAP_LINK, far, Right.ALL & ~Right.GRANT), "granting its channel"))
    return false;
  if (!vmAttachLink(vm)) return false;
  return writeConfig(vm);
}

/** Maps the link of a VM into this domain and binds its channel; also used after a restart. */
export function vmAttachLink(vm: Vm): bool {
  const i = vm.index;
  const address = linkAddress(i);
  memUnmap(CAP_SELF, address, LINK_PAGES);
  if (
    !ok(
      memMap(CAP_SELF, vmSlot(i, VmSlot.LINK), address, 0, LINK_PAGES, Right.READ | Right.WRITE),
      "mapping its link here",
    )
  )
    return false;
  if (vm.alive && !ok(channelBind(vmSlot(i, VmSlot.CHANNEL), linkEvent(i)), "binding its channel"))
    return false;
  vm.link = new ControlLink(address, vmSlot(i, VmSlot.CHANNEL));
  vm.generation = ++links;
  return true;
}

function writeConfig(vm: Vm): bool {
  const kernel = findModule(vm.spec.kernel);
  const initrd = vm.spec.initrd != "" ? findModule(vm.spec.initrd) : null;
  const value = Value.map()
    .putText(FIELD_NAME, vm.name)
    .putUint(FIELD_MEMORY, vm.spec.memory)
    .putText(FIELD_CMDLINE, vm.spec.cmdline)
    .putUint(FIELD_VCPUS, vm.spec.vcpus)
    .putUint(LINK_KERNEL_SIZE, kernel != null ? kernel.size : 0)
    .putUint(LINK_INITRD_SIZE, initrd != null ? initrd.size : 0)
    .putUint(LINK_WALL_CLOCK, wallClock())
    .putUint(LINK_TSC_HZ, info().tsc_hz);
  value.putText(FIELD_CONSOLE, vm.spec.console);
  if (vm.spec.disks.length > 0) value.put(FIELD_DISKS, disksToLink(vm));
  const writer = new CborWriter(config, LINK_CONFIG_MAX);
  const written = encode(writer, value) && vm.link!.writeConfig(config, writer.length);
  return ok(written ? 0 : -(<i64>Status.BAD_ARGUMENT), "writing its configuration");
}

/** Ends both domains and frees everything but the link, whose console can still be read. */
export function vmTearDown(vm: Vm): void {
  if (!vm.alive) return;
  const i = vm.index;
  domainDestroy(vmSlot(i, VmSlot.DOMAIN));
  domainDestroy(vmSlot(i, VmSlot.MODEL));
  for (let n: u32 = 0; n < vm.spec.vcpus; n++) capDrop(vmSlot(i, VmSlot.VCPU) + n);
  capDrop(vmSlot(i, VmSlot.MODEL_VCPU));
  capDrop(vmSlot(i, VmSlot.MODEL_CHANNEL));
  capDrop(vmSlot(i, VmSlot.CHANNEL));
  capDrop(vmSlot(i, VmSlot.MODEL_RAM));
  capDrop(vmSlot(i, VmSlot.MEMORY));
  vm.alive = false;
}

/** Frees the link, and with it the console's scroll-back. */
export function vmForgetLink(vm: Vm): void {
  vm.link = null;
  memUnmap(CAP_SELF, linkAddress(vm.index), LINK_PAGES);
  capDrop(vmSlot(vm.index, VmSlot.LINK));
}
