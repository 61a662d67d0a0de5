// Makes the objects of a VM (memory, device model, domain, vCPU, link) and takes them apart again.
//
// A build that fails half way is undone before it returns. The order and the addresses are those of the
// contract with the device model: image at GPA_IMAGE, RAM at GPA_RAM, link at GPA_SHARED, kernel and initrd
// read-only above it, the VM's memory at GPA_GUEST, with the same hole in it as in the VM (lib/pc-memory.ts).

import {
  CAP_LINK,
  CAP_MEMORY,
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
import { CapInfo } from "../gen/layout";
import {
  capDrop,
  capGrant,
  capInfo,
  channelBind,
  channelCreate,
  cpuidSet,
  domainCreate,
  domainDestroy,
  domainPause,
  memClone,
  memCreate,
  memMap,
  memUnmap,
  vcpuCreate,
  vcpuStart,
  vcpuStop,
} from "../lib/binding";
import { CborWriter } from "../lib/cbor";
import { ControlLink, LINK_CONFIG_MAX, LINK_PORT_SIZE, LINK_SIZE } from "../lib/link";
import { HIGH_MEMORY, highMemory, lowMemory } from "../lib/pc-memory";
import {
  ErrorCode,
  FIELD_BOOT,
  FIELD_CMDLINE,
  FIELD_CONSOLE,
  FIELD_DEBUG_EXIT,
  FIELD_DISKS,
  FIELD_FIRMWARE,
  FIELD_IMAGE,
  FIELD_KERNEL,
  FIELD_VCPUS,
  FIELD_MEMORY,
  FIELD_MODULES,
  FIELD_NAME,
  FIELD_SIZE,
  FIELD_NETWORKS,
  FIELD_PORTS,
  FIELD_RINGS,
  LINK_FIRMWARE_SIZE,
  LINK_FLASH_FRESH,
  LINK_FLASH_SIZE,
  LINK_INITRD_SIZE,
  LINK_KERNEL_SIZE,
  LINK_PHYSICAL_BITS,
  LINK_TSC_HZ,
  LINK_WALL_CLOCK,
} from "../protocol/schema";
import { wallClock } from "./clock";
import { encode } from "./codec";
import { firmwareBuild, flashDone, flashNeeded, flashPages } from "./flash";
import { diskMappedPages, diskOwnPages, diskPages, disksAdmit, disksBuild, disksToLink } from "./disks";
import { portsOf } from "./port";
import { networkBytes, networkPages, networksBuild, networksRelease, networksToLink } from "./networks";
import { physicalBits, policyBuild, policyRows } from "./cpuid";
import { findModule, freePages, info, Module } from "./host";
import { damageOf } from "./manifest";
import { Fault } from "./outcome";
import { nodeFault, nodeFor, severalNodes } from "./nodes";
import { ShareSpec, shareText, sharesGive, sharesReturn, vmCpus } from "./shares";
import { linkAddress, linkEvent, SnapshotSlot, snapshotSlot, VmSlot, vmSlot } from "./slots";
import { stateCpuid, stateLoad } from "./snapshot-state";
import { VmSpec } from "./spec";
import { mib, quoted } from "./text";
import { balloonsWant } from "./balloons";
import { tenantNumber } from "./tenants";
import { Value } from "./value";
import { Vm } from "./vm";
import { memoryPages, slotHolds } from "./vms";

/* What a VM costs beside its own memory, in pages. The quotas are promised to the domain's account. */
export const MODEL_RAM_PAGES: u64 = 94; /* its runtime takes 14, and five pages of WebAssembly are 80 */
const MODEL_KERNEL_PAGES: u32 = 40;
const VM_KERNEL_PAGES: u32 = 40;
const VCPU_KERNEL_PAGES: u32 = 5; /* of each further vCPU: itself, VMCS, exit page, vector state, local APIC */
const FIRMWARE_KERNEL_PAGES: u32 = 9; /* tables that map 16 MiB below 4 GiB */
const MODEL_CAP_SLOTS: u32 = 72; /* one page of them; CAP_FREE and up are the model's own */
const VM_CAP_SLOTS: u32 = 8;

const GPA_KERNEL: u64 = 0x20000000;
const GPA_INITRD: u64 = 0x40000000;
const GPA_MODULES: u64 = 0xe0000000; /* one behind the other, on page boundaries */
const MAX_MODULE: u64 = 0x20000000; /* the kernel, the initrd, all modules together */
const MAX_FIRMWARE: u64 = 0x1000000;

export const MODEL_IMAGE: string = "device-model";

const config: usize = memory.data(4096, 16);
const capPage: usize = memory.data(96, 16);

// The step that failed in the build under way, and how.
let failedStep: string = "";
let failedStatus: u32 = 0;

/** Links made so far: each has its number, so that no reader takes one for another. */
let links: u32 = 0;

/** Pages of a VM's link. */
export function linkPages(spec: VmSpec): u64 {
  return (LINK_SIZE + spec.ports.length * LINK_PORT_SIZE) / PAGE_SIZE;
}

/** Memory that a VM has while it is up, but its disks and networks, in pages. */
function upPages(vm: Vm): u64 {
  return (
    vm.spec.memory / PAGE_SIZE +
    MODEL_RAM_PAGES +
    linkPages(vm.spec) +
    kernelPages(vm.spec) +
    modelKernelPages(vm)
  );
}

/** What a VM that goes on from a snapshot needs at once beside its memory, in pages. */
export function shellPages(vm: Vm): u64 {
  return networkPages(vm) + kernelPages(vm.spec) + modelKernelPages(vm);
}

/** Memory a VM of this size needs, with all that is beside it, in pages. */
function pagesNeeded(vm: Vm): u64 {
  return diskPages(vm) + flashNeeded(vm) + networkPages(vm) + upPages(vm);
}

/** Bytes that a start of a VM takes from the host. */
export function vmNeeds(vm: Vm): u64 {
  return pagesNeeded(vm) * PAGE_SIZE;
}

/** Bytes that count for a VM's tenant, whether it is up or not. */
export function vmCost(vm: Vm): u64 {
  return (diskOwnPages(vm) + flashPages(vm) + upPages(vm)) * PAGE_SIZE + networkBytes(vm);
}

/** Bytes that the host has back for sure when a VM ends: what its balloon has given is there already. */
export function vmFrees(vm: Vm): u64 {
  if (!vm.alive || capInfo(vmSlot(vm.index, VmSlot.MEMORY), capPage) < 0) return 0;
  const absent = vm.spec.memory / PAGE_SIZE - changetype<CapInfo>(capPage).present;
  return (upPages(vm) - linkPages(vm.spec) - absent) * PAGE_SIZE;
}

/** The image that a VM starts from: its kernel or its firmware. */
function startName(spec: VmSpec): string {
  return spec.firmware != "" ? spec.firmware : spec.kernel;
}

/** A device model's page tables also cover the images, in 4 KiB pages where those are not aligned. */
function modelKernelPages(vm: Vm): u32 {
  const spec = vm.spec;
  const kernel = findModule(startName(spec));
  const initrd = findModule(spec.initrd);
  const images =
    (kernel != null ? kernel.pages : 0) +
    (initrd != null ? initrd.pages : 0) +
    modulePages(vm) +
    diskMappedPages(vm);
  return MODEL_KERNEL_PAGES + <u32>(spec.memory >> 30) + <u32>(images / 512);
}

/** Pages of all the modules that its kernel is given. */
function modulePages(vm: Vm): u64 {
  let pages: u64 = 0;
  for (let i = 0; i < vm.spec.modules.length; i++) {
    const module = findModule(vm.spec.modules[i].image);
    if (module != null) pages += module.pages;
  }
  return pages;
}

/** Bytes of a device model's RAM, its link, its half of each network, its firmware's flash memory. */
export function modelBytes(vm: Vm): u64 {
  return (MODEL_RAM_PAGES + linkPages(vm.spec) + flashPages(vm)) * PAGE_SIZE + networkBytes(vm);
}

/**
 * Page tables grow with the memory: a page a GiB for the domain and one for the memory itself, and one for
 * every 2 MiB of which a balloon has taken a part; the rest is for vCPUs and what does not grow.
 */
export function kernelPages(spec: VmSpec): u32 {
  const tables = 2 * (spec.memory >> 30) + (spec.memory >> 21);
  const firmware = spec.firmware != "" ? FIRMWARE_KERNEL_PAGES : 0;
  return VM_KERNEL_PAGES + firmware + (spec.vcpus - 1) * VCPU_KERNEL_PAGES + <u32>tables;
}

/** Whether an image is there and can be mapped. */
function imageAdmit(vm: Vm, name: string): Fault | null {
  const subject = "VM " + quoted(vm.name) + ": ";
  const image = findModule(name);
  const damage = damageOf(name);
  if (damage != "") return new Fault(ErrorCode.FAILED, subject + damage, vm.name, "doctor");
  if (image == null)
    return new Fault(ErrorCode.NOT_FOUND, subject + "there is no image " + quoted(name), vm.name, "images");
  if (image.size <= MAX_MODULE) return null;
  const text = subject + "image " + quoted(name) + " is larger than " + mib(MAX_MODULE);
  return new Fault(ErrorCode.FAILED, text, vm.name, "images");
}

/** Whether firmware can be mapped so that it ends at 4 GiB. */
function firmwareAdmit(vm: Vm): Fault | null {
  const size = findModule(vm.spec.firmware)!.size;
  if (size <= MAX_FIRMWARE && size % PAGE_SIZE == 0) return null;
  const image = "VM " + quoted(vm.name) + ": image " + quoted(vm.spec.firmware);
  const text = image + " is no firmware: it is not whole pages of 4 KiB up to " + mib(MAX_FIRMWARE);
  return new Fault(ErrorCode.FAILED, text, vm.name, "images");
}

/** What of a VM's images is missing, damaged or too large. */
export function imagesAdmit(vm: Vm): Fault | null {
  const subject = "VM " + quoted(vm.name) + ": ";
  let fault = imageAdmit(vm, startName(vm.spec));
  if (fault == null && vm.spec.firmware != "") fault = firmwareAdmit(vm);
  if (fault == null && vm.spec.initrd != "") fault = imageAdmit(vm, vm.spec.initrd);
  for (let i = 0; fault == null && i < vm.spec.modules.length; i++)
    fault = imageAdmit(vm, vm.spec.modules[i].image);
  if (fault != null) return fault;
  fault = imageAdmit(vm, MODEL_IMAGE);
  if (fault != null) return fault;
  if (modulePages(vm) * PAGE_SIZE > MAX_MODULE)
    return new Fault(
      ErrorCode.FAILED,
      subject + "its modules are larger than " + mib(MAX_MODULE),
      vm.name,
      "images",
    );
  return disksAdmit(vm);
}

/** What makes a start impossible, found out before anything is created. */
export function vmAdmit(vm: Vm): Fault | null {
  const fault = imagesAdmit(vm);
  if (fault != null) return fault;
  const needed = vmNeeds(vm);
  const free = freePages() * PAGE_SIZE;
  if (needed <= free) return nodeFault(vm.spec, needed);
  const spare = balloonsWant(needed);
  const more = spare > 0 ? "; VMs are asked for more, which can be " + mib(spare) + ": try again" : "";
  return new Fault(
    ErrorCode.FAILED,
    "VM " + quoted(vm.name) + ": needs " + mib(needed) + ", " + mib(free) + " are free" + more,
    vm.name,
    "free",
  );
}

const GIVING = "giving it its share of the CPUs";

/** No snapshot: a VM is made anew. */
const ANEW: i32 = -1;

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

/**
 * Builds a VM and starts its device model; or, from the snapshot in place `source`, both as they were then, paused.
 * On a fault nothing is left behind.
 */
export function vmBuild(vm: Vm, source: i32 = ANEW): Fault | null {
  failedStep = "";
  failedStatus = 0;
  vmTearDown(vm);
  vmForgetLink(vm);
  vm.node = severalNodes() ? nodeFor(vm, vmNeeds(vm), vmCpus(vm)) : -1;
  vm.alive = true;
  if (
    createObjects(vm, source) &&
    mapModel(vm, source) &&
    createCpus(vm, source) &&
    createLink(vm, source) &&
    (source == ANEW ? startModel(vm) : loadState(vm, source))
  )
    return null;
  vmTearDown(vm);
  vmForgetLink(vm);
  if (failedStep == GIVING && failedStatus == Status.NO_QUOTA) return shareFault(vm, vm.spec.share);
  const cause = failedStep + " failed: " + statusText(failedStatus);
  return new Fault(ErrorCode.FAILED, "VM " + quoted(vm.name) + ": " + cause, vm.name, "free");
}

function startModel(vm: Vm): bool {
  return ok(vcpuStart(vmSlot(vm.index, VmSlot.MODEL_VCPU)), "starting its device model");
}

function loadState(vm: Vm, source: i32): bool {
  return (
    ok(domainPause(vmSlot(vm.index, VmSlot.DOMAIN), true), "pausing it") &&
    ok(stateLoad(vm, source), "loading its state")
  );
}

/** Memory, zeroed or of a snapshot; `payer`: a domain with which it goes. */
function makeMemory(vm: Vm, what: VmSlot, pages: u64, source: i32, kind: SnapshotSlot, payer: u32 = 0): i64 {
  const slot = vmSlot(vm.index, what);
  if (source == ANEW) return memCreate(slot, pages, payer, vm.nodePlace);
  return memClone(slot, snapshotSlot(source, kind), payer, payer != 0 ? CAP_MEMORY : 0, vm.nodePlace);
}

function createObjects(vm: Vm, source: i32): bool {
  const i = vm.index;
  return (
    ok(
      makeMemory(vm, VmSlot.MODEL_RAM, MODEL_RAM_PAGES, source, SnapshotSlot.MODEL),
      "creating its device model's memory",
    ) &&
    ok(makeMemory(vm, VmSlot.LINK, linkPages(vm.spec), source, SnapshotSlot.LINK), "creating its link") &&
    ok(
      domainCreate(
        vmSlot(i, VmSlot.MODEL),
        Role.DEVICE_MODEL,
        modelKernelPages(vm),
        MODEL_CAP_SLOTS,
        "dm/" + vm.name,
        tenantNumber(vm.spec.tenant),
      ),
      "creating its device model",
    ) &&
    ok(
      domainCreate(
        vmSlot(i, VmSlot.DOMAIN),
        Role.VM,
        kernelPages(vm.spec),
        VM_CAP_SLOTS,
        "vm/" + vm.name,
        tenantNumber(vm.spec.tenant),
      ),
      "creating its domain",
    ) &&
    ok(
      makeMemory(
        vm,
        VmSlot.MEMORY,
        vm.spec.memory / PAGE_SIZE,
        source,
        SnapshotSlot.MEMORY,
        vmSlot(i, VmSlot.DOMAIN),
      ),
      "creating its memory",
    )
  );
}

function mapModule(model: u32, module: Module | null, gpa: u64, access: u32): bool {
  if (module == null || module.size == 0) return true;
  return ok(memMap(model, module.slot, gpa, 0, module.pages, access), "mapping image " + quoted(module.name));
}

/** Maps a VM's memory from `base` on, around the hole. */
function mapMemory(vm: Vm, domain: u32, base: u64, access: u32, step: string): bool {
  const memory = vmSlot(vm.index, VmSlot.MEMORY);
  const low = lowMemory(vm.spec.memory) / PAGE_SIZE;
  const high = highMemory(vm.spec.memory) / PAGE_SIZE;
  return (
    ok(memMap(domain, memory, base, 0, low, access), step) &&
    (high == 0 || ok(memMap(domain, memory, base + HIGH_MEMORY, low, high, access), step))
  );
}

/** The image of its device model: this host's, or the one that came with a snapshot. */
function mapImage(vm: Vm, source: i32): bool {
  const model = vmSlot(vm.index, VmSlot.MODEL);
  const access: u32 = Right.READ | Right.EXECUTE;
  const own = vmSlot(vm.index, VmSlot.IMAGE);
  const brought = source != ANEW && slotHolds(snapshotSlot(source, SnapshotSlot.IMAGE));
  if (!brought) return mapModule(model, findModule(MODEL_IMAGE), GPA_IMAGE, access);
  return (
    ok(
      memClone(own, snapshotSlot(source, SnapshotSlot.IMAGE), 0, 0, vm.nodePlace),
      "taking its device model's image",
    ) && ok(memMap(model, own, GPA_IMAGE, 0, memoryPages(own), access), "mapping its device model's image")
  );
}

/** What it is loaded from. */
function mapSources(vm: Vm, model: u32): bool {
  return (
    mapModule(model, findModule(vm.spec.kernel), GPA_KERNEL, Right.READ) &&
    mapModule(model, vm.spec.initrd != "" ? findModule(vm.spec.initrd) : null, GPA_INITRD, Right.READ) &&
    mapModules(vm, model)
  );
}

function mapModel(vm: Vm, source: i32): bool {
  const i = vm.index;
  const model = vmSlot(i, VmSlot.MODEL);
  const readWrite: u32 = Right.READ | Right.WRITE;
  return (
    mapImage(vm, source) &&
    ok(
      memMap(model, vmSlot(i, VmSlot.MODEL_RAM), GPA_RAM, 0, MODEL_RAM_PAGES, readWrite),
      "mapping its device model's memory",
    ) &&
    ok(
      memMap(model, vmSlot(i, VmSlot.LINK), GPA_SHARED, 0, linkPages(vm.spec), readWrite),
      "mapping its link",
    ) &&
    mapMemory(vm, model, GPA_GUEST, readWrite, "mapping its memory for its device model") &&
    (source != ANEW || mapSources(vm, model)) &&
    ok(disksBuild(vm, source), "making its disks") &&
    ok(networksBuild(vm), "making its networks") &&
    mapMemory(vm, vmSlot(i, VmSlot.DOMAIN), 0, readWrite | Right.EXECUTE, "mapping its memory") &&
    ok(firmwareBuild(vm, source), "mapping its firmware")
  );
}

function mapModules(vm: Vm, model: u32): bool {
  let gpa = GPA_MODULES;
  for (let i = 0; i < vm.spec.modules.length; i++) {
    const module = findModule(vm.spec.modules[i].image);
    if (!mapModule(model, module, gpa, Right.READ)) return false;
    if (module != null) gpa += module.pages * PAGE_SIZE;
  }
  return true;
}

function unmapModule(model: u32, module: Module | null, gpa: u64): void {
  if (module != null && module.size != 0) memUnmap(model, gpa, module.pages);
}

/** The VM is loaded: its device model has no more use for the images, nor for the tables that map them. */
export function buildDone(vm: Vm): void {
  const model = vmSlot(vm.index, VmSlot.MODEL);
  unmapModule(model, findModule(vm.spec.kernel), GPA_KERNEL);
  if (vm.spec.initrd != "") unmapModule(model, findModule(vm.spec.initrd), GPA_INITRD);
  if (vm.spec.modules.length > 0) memUnmap(model, GPA_MODULES, modulePages(vm));
  flashDone(vm);
}

/** What CPUID says to it: what this host's policy says, or what it has said before. */
function setCpuid(domain: u32, vm: Vm, source: i32): i64 {
  if (source != ANEW) return stateCpuid(vm, source);
  return cpuidSet(domain, policyRows(), policyBuild(vm.spec.vcpus, vm.spec.firmware != ""));
}

function createCpus(vm: Vm, source: i32): bool {
  const i = vm.index;
  const model = vmSlot(i, VmSlot.MODEL);
  const domain = vmSlot(i, VmSlot.DOMAIN);
  const vcpuRights: u32 = Right.CONTROL | Right.INTERRUPT | Right.READ;
  if (!ok(setCpuid(domain, vm, source), "setting its CPUID policy")) return false;
  const mapping: u32 = flashPages(vm) > 0 ? Right.WRITE : 0;
  const vmRights: u32 = Right.READ | Right.INTERRUPT | mapping;
  if (!ok(capGrant(model, CAP_VM, domain, vmRights), "granting its domain")) return false;
  const memory = vmSlot(i, VmSlot.MEMORY);
  if (!ok(capGrant(model, CAP_MEMORY, memory, Right.READ | Right.WRITE), "granting its memory")) return false;
  for (let n: u32 = 0; n < vm.spec.vcpus; n++) {
    const slot = vmSlot(i, VmSlot.VCPU) + n;
    if (!ok(vcpuCreate(slot, domain, n, model), "creating its vCPU")) return false;
    if (!ok(capGrant(model, CAP_VCPU + n, slot, vcpuRights), "granting its vCPU")) return false;
  }
  return (
    ok(vcpuCreate(vmSlot(i, VmSlot.MODEL_VCPU), model, 0, 0), "creating its device model's vCPU") &&
    ok(sharesGive(vm, vm.spec.share), GIVING)
  );
}

/** The fault of a VM whose shares the kernel refused. */
function shareFault(vm: Vm, share: ShareSpec): Fault {
  const lack = "VM " + quoted(vm.name) + ": each of its vCPUs should have " + shareText(share);
  const text = lack + ", and no CPU that it may run on has that left";
  return new Fault(ErrorCode.FAILED, text, vm.name, "help create");
}

/** Gives a VM that is up another share; what it had it keeps if that fails. */
export function vmShare(vm: Vm, share: ShareSpec, before: ShareSpec): Fault | null {
  if (!vm.alive || share.equals(before) || sharesGive(vm, share) >= 0) return null;
  sharesReturn(vm);
  sharesGive(vm, before);
  return shareFault(vm, share);
}

function createLink(vm: Vm, source: i32): bool {
  const i = vm.index;
  const channel = vmSlot(i, VmSlot.CHANNEL);
  const far = vmSlot(i, VmSlot.MODEL_CHANNEL);
  if (!ok(channelCreate(channel, far), "creating its channel")) return false;
  if (!ok(capGrant(vmSlot(i, VmSlot.MODEL), CAP_LINK, far, Right.ALL & ~Right.GRANT), "granting its channel"))
    return false;
  if (!vmAttachLink(vm)) return false;
  for (let n = 0; source != ANEW && n < vm.ports.length; n++) vm.ports[n].detach();
  return writeConfig(vm);
}

/** Maps the link of a VM into this domain and binds its channel; also used after a restart. */
export function vmAttachLink(vm: Vm): bool {
  const i = vm.index;
  const address = linkAddress(i);
  memUnmap(CAP_SELF, address, linkPages(vm.spec));
  if (
    !ok(
      memMap(CAP_SELF, vmSlot(i, VmSlot.LINK), address, 0, linkPages(vm.spec), Right.READ | Right.WRITE),
      "mapping its link here",
    )
  )
    return false;
  if (vm.alive && !ok(channelBind(vmSlot(i, VmSlot.CHANNEL), linkEvent(i)), "binding its channel"))
    return false;
  vm.link = new ControlLink(address, vmSlot(i, VmSlot.CHANNEL));
  vm.ports = portsOf(vm.spec.ports, address);
  vm.generation = ++links;
  return true;
}

function modulesToLink(vm: Vm): Value {
  const list = Value.list();
  for (let i = 0; i < vm.spec.modules.length; i++) {
    const module = findModule(vm.spec.modules[i].image);
    list.add(
      Value.map()
        .putText(FIELD_IMAGE, vm.spec.modules[i].image)
        .putUint(FIELD_SIZE, module != null ? module.size : 0)
        .putText(FIELD_CMDLINE, vm.spec.modules[i].cmdline),
    );
  }
  return list;
}

function writeConfig(vm: Vm): bool {
  const kernel = findModule(vm.spec.kernel);
  const initrd = vm.spec.initrd != "" ? findModule(vm.spec.initrd) : null;
  const firmware = vm.spec.firmware != "" ? findModule(vm.spec.firmware) : null;
  const value = Value.map()
    .putText(FIELD_NAME, vm.name)
    .putUint(FIELD_MEMORY, vm.spec.memory)
    .putText(FIELD_CMDLINE, vm.spec.cmdline)
    .putUint(FIELD_VCPUS, vm.spec.vcpus)
    .putUint(LINK_KERNEL_SIZE, kernel != null ? kernel.size : 0)
    .putUint(LINK_INITRD_SIZE, initrd != null ? initrd.size : 0)
    .putUint(LINK_FIRMWARE_SIZE, firmware != null ? firmware.size : 0)
    .putUint(LINK_FLASH_SIZE, flashPages(vm) * PAGE_SIZE)
    .putBool(LINK_FLASH_FRESH, !vm.disksFilled)
    .putUint(LINK_WALL_CLOCK, wallClock())
    .putUint(LINK_TSC_HZ, info().tsc_hz)
    .putUint(LINK_PHYSICAL_BITS, physicalBits());
  value
    .putText(FIELD_CONSOLE, vm.spec.console)
    .putText(FIELD_BOOT, vm.spec.boot)
    .putText(FIELD_KERNEL, vm.spec.kernel)
    .putText(FIELD_FIRMWARE, vm.spec.firmware)
    .putBool(FIELD_DEBUG_EXIT, vm.spec.debugExit);
  if (vm.spec.modules.length > 0) value.put(FIELD_MODULES, modulesToLink(vm));
  value.putText(FIELD_RINGS, vm.spec.rings);
  if (vm.spec.ports.length > 0) value.put(FIELD_PORTS, vm.spec.portsToValue());
  if (vm.cards.length > 0) value.put(FIELD_NETWORKS, networksToLink(vm));
  if (vm.spec.disks.length > 0) value.put(FIELD_DISKS, disksToLink(vm));
  const writer = new CborWriter(config, LINK_CONFIG_MAX);
  const written = encode(writer, value) && vm.link!.writeConfig(config, writer.length);
  return ok(written ? 0 : -(<i64>Status.BAD_ARGUMENT), "writing its configuration");
}

/** Ends both domains and frees everything but the link, whose console can still be read. */
export function vmTearDown(vm: Vm): void {
  if (!vm.alive) return;
  const i = vm.index;
  vcpuStop(vmSlot(i, VmSlot.MODEL_VCPU)); // before the VM's memory goes
  domainDestroy(vmSlot(i, VmSlot.DOMAIN));
  domainDestroy(vmSlot(i, VmSlot.MODEL));
  for (let n: u32 = 0; n < vm.spec.vcpus; n++) capDrop(vmSlot(i, VmSlot.VCPU) + n);
  capDrop(vmSlot(i, VmSlot.MODEL_VCPU));
  capDrop(vmSlot(i, VmSlot.MODEL_CHANNEL));
  capDrop(vmSlot(i, VmSlot.CHANNEL));
  capDrop(vmSlot(i, VmSlot.MODEL_RAM));
  capDrop(vmSlot(i, VmSlot.IMAGE));
  capDrop(vmSlot(i, VmSlot.CPUID));
  networksRelease(vm);
  vm.alive = false;
}

/** Frees the link, and with it the console's scroll-back. */
export function vmForgetLink(vm: Vm): void {
  vm.link = null;
  vm.ports = [];
  memUnmap(CAP_SELF, linkAddress(vm.index), linkPages(vm.spec));
  capDrop(vmSlot(vm.index, VmSlot.LINK));
}
