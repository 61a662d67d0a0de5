// What a snapshot has beside memory: one CBOR document in an object of its own, behind which there are zeroes.
//
//   cpuid   what CPUID says to the VM: rows as for HC_CPUID_SET
//   flash   where the VM has its flash memory mapped: address, first page, pages, access of each mapping
//   model   the device model: what DOMAIN_SAVE gives, and the parts of its vCPU
//   vm      the VM: what DOMAIN_SAVE gives, and the parts of each vCPU
//
// It may come from another host: it is checked here as a document, and what is in it by the kernel.

import {
  CpuidRowAt,
  DomainSnapshotAt,
  Holding,
  MAX_CPUID_ROWS,
  MAX_VCPUS,
  PAGE_SIZE,
  Right,
  SavedKind,
  SavedRowAt,
  Status,
  VcpuPart,
} from "../gen/abi";
import { CapInfo, SavedRow } from "../gen/layout";
import { CapInfoAt } from "../gen/abi";
import {
  capInfo,
  capList,
  cpuidSet,
  domainLoad,
  domainSave,
  memCreate,
  memMap,
  sharedWrite,
  vcpuLoad,
  vcpuSave,
} from "../lib/binding";
import { CAP_CABLES } from "../lib/cable";
import { CborReader, CborWriter } from "../lib/cbor";
import { FIELD_CPUID, OBJECT_FLASH, OBJECT_MODEL, FIELD_VM } from "../protocol/schema";
import { policyBuild, policyRows } from "./cpuid";
import { UNPLUGGED } from "./networks";
import { GPA_SNAPSHOT, SnapshotSlot, snapshotSlot, VmSlot, vmSlot } from "./slots";
import { windowClose, windowOpen, windowRead, windowWrite } from "./snapshot-window";
import { Vm } from "./vm";
import { memoryPages, vmHolds } from "./vms";

const REFUSED: i64 = -(<i64>Status.BAD_ARGUMENT);
/** Pages of the device model's state and what is beside it, and of each vCPU. */
const PAGES_BESIDE: u64 = 6;
const PAGES_OF_VCPU: u64 = 3;
/** Mappings of flash memory in a VM, at most. */
const MAX_FLASH_MAPS: u32 = 8;
const MAX_ROWS_SIZE: u32 = MAX_CPUID_ROWS * CpuidRowAt.SIZE;
const SNAPSHOT_SIZE: u32 = DomainSnapshotAt.SIZE;
const PAGE: u32 = PAGE_SIZE;
const PARTS: u32 = VcpuPart.COUNT;

const page: usize = memory.data(4096, 16);
const encoded: usize = memory.data(4352, 16);
const capPage: usize = memory.data(96, 16);

/** Pages of the object for the state of a VM of so many vCPUs. */
export function statePages(vcpus: u32): u64 {
  return PAGES_BESIDE + vcpus * PAGES_OF_VCPU;
}

/** Writes the state of a VM piece by piece into an object, which is in the window from the first to close(). */
export class StateWriter {
  private at: u64 = 0;
  /** The first failure. */
  status: i64 = 0;

  /** Writes what needs no VM that stands still. */
  constructor(
    private vm: Vm,
    slot: u32,
  ) {
    const cpuid = readCpuid(vm);
    this.status = windowOpen(slot, statePages(vm.spec.vcpus));
    const head = begin();
    head.map(4);
    this.put(head);
    this.key(FIELD_CPUID);
    this.bytes(cpuid);
  }

  /** Writes what a writer over `encoded` has. */
  private put(writer: CborWriter): void {
    const end = this.at + writer.length;
    if (!writer.ok || end > statePages(this.vm.spec.vcpus) * PAGE_SIZE) this.status = REFUSED;
    if (this.status < 0) return;
    sharedWrite(GPA_SNAPSHOT + this.at, encoded, writer.length);
    this.at = end;
  }

  close(): void {
    windowClose(statePages(this.vm.spec.vcpus));
  }

  array(count: u32): void {
    const writer = begin();
    writer.array(count);
    this.put(writer);
  }

  /** Bytes that a hypercall has left in `page`; `length` is its result if that is negative. */
  bytes(length: i64): void {
    if (length < 0 && this.status >= 0) this.status = length;
    const writer = begin();
    writer.bytes(page, length > 0 ? <u32>length : 0);
    this.put(writer);
  }

  key(name: string): void {
    const writer = begin();
    writer.text(name);
    this.put(writer);
  }

  numbers(list: u64[]): void {
    const writer = begin();
    writer.array(list.length);
    for (let n = 0; n < list.length; n++) writer.uint(list[n]);
    this.put(writer);
  }

  /** Saves what stands still now, with its device model. Returns a hypercall's result. */
  save(): i64 {
    const i = this.vm.index;
    const vcpus = this.vm.spec.vcpus;
    this.key(OBJECT_FLASH);
    this.numbers(flashMaps(this.vm));
    this.key(OBJECT_MODEL);
    this.array(2);
    saveDomain(this, vmSlot(i, VmSlot.MODEL));
    saveVcpu(this, vmSlot(i, VmSlot.MODEL_VCPU));
    this.key(FIELD_VM);
    this.array(1 + vcpus);
    saveDomain(this, vmSlot(i, VmSlot.DOMAIN));
    for (let n: u32 = 0; n < vcpus; n++) saveVcpu(this, vmSlot(i, VmSlot.VCPU) + n);
    return this.status;
  }
}

function begin(): CborWriter {
  return new CborWriter(encoded, 4352);
}

function saveDomain(writer: StateWriter, slot: u32): void {
  const rows = domainSave(slot, page);
  writer.bytes(rows < 0 ? rows : DomainSnapshotAt.SIZE + rows * SavedRowAt.SIZE);
}

function saveVcpu(writer: StateWriter, slot: u32): void {
  writer.array(VcpuPart.COUNT);
  for (let part: u32 = 0; part < PARTS; part++) writer.bytes(vcpuSave(slot, part, page));
}

/** What CPUID says to a VM, to `page`: what it was told when it went on from a snapshot, or this host's policy. */
function readCpuid(vm: Vm): i64 {
  if (vmHolds(vm.index, VmSlot.CPUID)) {
    const slot = vmSlot(vm.index, VmSlot.CPUID);
    if (!windowRead(slot, 0, page, 4)) return REFUSED;
    const length = min<u32>(load<u32>(page), MAX_CPUID_ROWS * CpuidRowAt.SIZE);
    return windowRead(slot, 16, page, length) ? length : REFUSED;
  }
  const length = policyBuild(vm.spec.vcpus, vm.spec.firmware != "") * CpuidRowAt.SIZE;
  memory.copy(page, policyRows(), length);
  return length;
}

/** The rows of readCpuid(), for whom wants to know what a VM needs of a CPU: their bytes. */
export function vmCpuid(vm: Vm, to: usize): u32 {
  const length = max<i64>(readCpuid(vm), 0);
  memory.copy(to, page, <u32>length);
  return <u32>length;
}

/** Four numbers of each mapping of its flash memory. */
function flashMaps(vm: Vm): u64[] {
  const list = new Array<u64>();
  if (capInfo(vmSlot(vm.index, VmSlot.FLASH), capPage) >= 0) {
    const flash = changetype<CapInfo>(capPage).object_id;
    const count = max<i64>(capList(vmSlot(vm.index, VmSlot.DOMAIN), Holding.MAPPINGS, 0, page), 0);
    for (let n: i64 = 0; n < count; n++) {
      const row = changetype<CapInfo>(page + <usize>n * CapInfoAt.SIZE);
      if (row.object_id != flash || <u32>list.length == 4 * MAX_FLASH_MAPS) continue;
      list.push(row.address);
      list.push(row.first);
      list.push(row.pages);
      list.push(row.rights);
    }
  }
  return list;
}

/** The state of the snapshot in a place, whole. */
function read(source: u32): StaticArray<u8> {
  const slot = snapshotSlot(source, SnapshotSlot.STATE);
  const pages = min<u64>(memoryPages(slot), statePages(MAX_VCPUS));
  const bytes = new StaticArray<u8>(<i32>(pages * PAGE_SIZE));
  if (!windowRead(slot, 0, changetype<usize>(bytes), bytes.length)) return new StaticArray<u8>(0);
  return bytes;
}

function readerOf(bytes: StaticArray<u8>): CborReader {
  return new CborReader(changetype<usize>(bytes), bytes.length);
}

/** What is wrong with the state of a snapshot of a VM of so many vCPUs; "": nothing that can be seen before it is loaded. */
export function stateProblem(source: u32, vcpus: u32): string {
  const bytes = read(source);
  const whole = readerOf(bytes);
  whole.check(0);
  if (!whole.ok) return "its state is no CBOR document";
  const names = [FIELD_CPUID, OBJECT_FLASH, OBJECT_MODEL, FIELD_VM];
  for (let i = 0; i < names.length; i++)
    if (!readerOf(bytes).find(names[i])) return "its state has no " + names[i];
  const vm = readerOf(bytes);
  vm.find(FIELD_VM);
  return vm.array() == vcpus + 1 && vm.ok ? "" : "its state is not that of " + vcpus.toString() + " vCPUs";
}

/** Tells a VM by CPUID what it has been told before, and remembers it. */
export function stateCpuid(vm: Vm, source: u32): i64 {
  const bytes = read(source);
  const reader = readerOf(bytes);
  if (!reader.find(FIELD_CPUID)) return REFUSED;
  const length = reader.bytes();
  if (!reader.ok || length > MAX_ROWS_SIZE) return REFUSED;
  const slot = vmSlot(vm.index, VmSlot.CPUID);
  const status = memCreate(slot, 1);
  if (status < 0) return status;
  store<u32>(page, length);
  if (!windowWrite(slot, 0, page, 4) || !windowWrite(slot, 16, reader.span, length)) return REFUSED;
  return cpuidSet(vmSlot(vm.index, VmSlot.DOMAIN), reader.span, length / CpuidRowAt.SIZE);
}

/** Loads the state of a snapshot into a VM that is paused and has not run. Returns a hypercall's result. */
export function stateLoad(vm: Vm, source: u32): i64 {
  const bytes = read(source);
  let status = loadFlash(vm, readerOf(bytes));
  const model = readerOf(bytes);
  if (!model.find(OBJECT_MODEL) || model.array() != 2) return REFUSED;
  if (status >= 0) status = loadDomain(vm, model, vmSlot(vm.index, VmSlot.MODEL));
  if (status >= 0) status = loadVcpu(model, vmSlot(vm.index, VmSlot.MODEL_VCPU));
  const guest = readerOf(bytes);
  if (!guest.find(FIELD_VM) || guest.array() != vm.spec.vcpus + 1) return REFUSED;
  if (status >= 0) status = loadDomain(vm, guest, vmSlot(vm.index, VmSlot.DOMAIN));
  for (let n: u32 = 0; status >= 0 && n < vm.spec.vcpus; n++)
    status = loadVcpu(guest, vmSlot(vm.index, VmSlot.VCPU) + n);
  return status;
}

/** Without what belongs to cards that are not plugged in now: their channels are not there. */
function loadDomain(vm: Vm, reader: CborReader, slot: u32): i64 {
  const length = reader.bytes();
  if (!reader.ok || length < SNAPSHOT_SIZE || length > PAGE) return REFUSED;
  memory.copy(page, reader.span, length);
  const count = (length - DomainSnapshotAt.SIZE) / SavedRowAt.SIZE;
  let kept: u32 = 0;
  for (let n: u32 = 0; n < count; n++) {
    const row = page + DomainSnapshotAt.SIZE + n * SavedRowAt.SIZE;
    if (isUnplugged(vm, changetype<SavedRow>(row))) continue;
    memory.copy(page + DomainSnapshotAt.SIZE + kept * SavedRowAt.SIZE, row, SavedRowAt.SIZE);
    kept++;
  }
  return domainLoad(slot, page, kept);
}

function isUnplugged(vm: Vm, row: SavedRow): bool {
  if (row.kind != SavedKind.BINDING || row.slot < CAP_CABLES) return false;
  const card = row.slot - CAP_CABLES;
  return card < <u32>vm.cards.length && vm.cards[card].network == UNPLUGGED;
}

function loadVcpu(reader: CborReader, slot: u32): i64 {
  const count = reader.array();
  for (let part: u32 = 0; part < count; part++) {
    const length = reader.bytes();
    if (!reader.ok || length > PAGE) return REFUSED;
    const status = length > 0 ? vcpuLoad(slot, part, reader.span, length) : 0;
    if (status < 0) return status;
  }
  return reader.ok ? 0 : REFUSED;
}

/** Its flash memory is mapped where its device model had mapped it. */
function loadFlash(vm: Vm, reader: CborReader): i64 {
  if (!reader.find(OBJECT_FLASH)) return REFUSED;
  const count = reader.array();
  for (let n: u32 = 0; n + 4 <= count; n += 4) {
    const gpa = reader.uint();
    const first = reader.uint();
    const pages = reader.uint();
    const access = (<u32>reader.uint()) & (Right.READ | Right.EXECUTE);
    if (!reader.ok) return REFUSED;
    const domain = vmSlot(vm.index, VmSlot.DOMAIN);
    const status = memMap(domain, vmSlot(vm.index, VmSlot.FLASH), gpa, first, pages, access);
    if (status < 0) return status;
  }
  return 0;
}
