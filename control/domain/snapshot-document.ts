// The document of a snapshot: what it is, and what a host must have to go on with it.

import { ABI_VERSION, CpuidRowAt, Feature, MAX_CPUID_ROWS, PAGE_SIZE, Right, CAP_SELF } from "../gen/abi";
import { entropy, memMap, memUnmap, now, sharedRead } from "../lib/binding";
import { sha256, sha256Blocks, sha256End, SHA256_SIZE, sha256Start } from "../lib/sha256";
import {
  FIELD_ABI,
  FIELD_CARDS,
  FIELD_CPUID,
  FIELD_CREATED,
  FIELD_FEATURES,
  FIELD_FORMAT,
  FIELD_GENERATION,
  FIELD_KIND,
  FIELD_MODEL,
  FIELD_NAME,
  FIELD_NETWORK,
  FIELD_NOTE,
  FIELD_PAGES,
  FIELD_SPEC,
  FIELD_TARGET,
  FIELD_TENANT,
  FIELD_TSC_HZ,
  FIELD_VCPUS,
  FIELD_VENDOR,
  FIELD_VM,
  LINK_SIDE,
  OBJECT_IMAGE,
  Protocol,
  VENDOR_AMD,
  VENDOR_INTEL,
} from "../protocol/schema";
import { wallClock } from "./clock";
import { featureNames } from "./cpuid-names";
import { policyBuild, policyRows } from "./cpuid";
import { findModule, info } from "./host";
import { GPA_MODULE, SnapshotSlot, snapshotSlot, VmSlot, vmSlot } from "./slots";
import { KINDS } from "./snapshots";
import { vmCpuid } from "./snapshot-state";
import { namesToValue } from "./spec";
import { hex } from "./text";
import { Value } from "./value";
import { Vm } from "./vm";
import { MODEL_IMAGE } from "./vm-builder";
import { memoryPages, vmHolds } from "./vms";

/** Pages of a device model's image, at most. */
export const MAX_IMAGE_PAGES: u64 = 1024;

const rows: usize = memory.data(2304, 16); /* MAX_CPUID_ROWS * CpuidRowAt.SIZE */
const piece: usize = memory.data(4096, 16);
const digest: usize = memory.data(32, 16);

let modelHash: string = "";

function digestText(): string {
  const out = new StaticArray<u8>(SHA256_SIZE);
  memory.copy(changetype<usize>(out), digest, SHA256_SIZE);
  return hex(out);
}

/** The hash of memory outside, of which what is behind `bytes` in its last page counts as zeroes. */
export function hashPages(at: u64, bytes: u64): string {
  const pages = (bytes + PAGE_SIZE - 1) / PAGE_SIZE;
  sha256Start();
  for (let n: u64 = 0; n < pages; n++) {
    const length = <u32>min<u64>(bytes - n * PAGE_SIZE, PAGE_SIZE);
    memory.fill(piece, 0, PAGE_SIZE);
    sharedRead(piece, at + n * PAGE_SIZE, length);
    if (n + 1 < pages) sha256Blocks(piece, PAGE_SIZE);
  }
  sha256End(digest, piece, PAGE_SIZE, pages * PAGE_SIZE);
  return digestText();
}

/** The hash of this host's device model. */
export function modelImageHash(): string {
  const module = findModule(MODEL_IMAGE);
  if (modelHash != "" || module == null) return modelHash;
  if (memMap(CAP_SELF, module.slot, GPA_MODULE, 0, module.pages, Right.READ) < 0) return "";
  modelHash = hashPages(GPA_MODULE, module.size);
  memUnmap(CAP_SELF, GPA_MODULE, module.pages);
  return modelHash;
}

/** The hash of a memory object of whole pages; "": it cannot be seen. */
export function objectHash(slot: u32): string {
  const pages = memoryPages(slot);
  if (pages == 0 || pages > MAX_IMAGE_PAGES) return "";
  if (memMap(CAP_SELF, slot, GPA_MODULE, 0, pages, Right.READ) < 0) return "";
  const hash = hashPages(GPA_MODULE, pages * PAGE_SIZE);
  memUnmap(CAP_SELF, GPA_MODULE, pages);
  return hash;
}

/** The hash of a VM's device model. */
function imageHashOf(vm: Vm): string {
  return vmHolds(vm.index, VmSlot.IMAGE) ? objectHash(vmSlot(vm.index, VmSlot.IMAGE)) : modelImageHash();
}

export function vendorName(): string {
  return (info().features & Feature.AMD_V) != 0 ? VENDOR_AMD : VENDOR_INTEL;
}

/** The names of what this host's policy lets a VM see. */
export function hostFeatures(vcpus: u32, firmware: bool): string[] {
  const count = policyBuild(vcpus, firmware);
  return featureNames(policyRows(), count * CpuidRowAt.SIZE);
}

/** 16 bytes that no other copy has. */
export function newGeneration(): Value {
  const bytes = new StaticArray<u8>(16);
  const at = changetype<usize>(bytes);
  if (entropy(at, 16) < 0) {
    store<u64>(piece, now());
    store<u64>(piece + 8, wallClock());
    sha256(digest, piece, 16);
    memory.copy(at, digest, 16);
  }
  return Value.bytes(bytes);
}

function cardsToValue(vm: Vm): Value {
  const list = Value.list();
  for (let i = 0; i < vm.cards.length; i++)
    list.add(
      Value.map().putText(FIELD_NETWORK, vm.spec.cards[i].network).putUint(LINK_SIDE, vm.cards[i].side),
    );
  return list;
}

/** The sides of the cards that a document tells of. */
export function sidesOf(document: Value): u32[] {
  const list = document.getList(FIELD_CARDS);
  const sides: u32[] = [];
  for (let i = 0; i < list.length; i++) sides.push((<u32>list[i].getUint(LINK_SIDE)) & 1);
  return sides;
}

/** What is told of a snapshot of a VM that is being made. */
export function documentOf(vm: Vm, name: string, note: string): Value {
  const length = vmCpuid(vm, rows);
  sha256(digest, rows, length);
  const document = Value.map()
    .putUint(FIELD_FORMAT, Protocol.SNAPSHOT_FORMAT)
    .putText(FIELD_NAME, name)
    .putText(FIELD_VM, vm.name)
    .putText(FIELD_TENANT, vm.spec.tenant)
    .putUint(FIELD_CREATED, wallClock())
    .put(FIELD_SPEC, vm.spec.toValue())
    .putUint(FIELD_TSC_HZ, info().tsc_hz)
    .putUint(FIELD_ABI, ABI_VERSION)
    .putText(FIELD_VENDOR, vendorName())
    .putText(FIELD_CPUID, digestText())
    .put(FIELD_FEATURES, namesToValue(featureNames(rows, length)))
    .putText(FIELD_MODEL, imageHashOf(vm))
    .putUint(FIELD_VCPUS, vm.spec.vcpus)
    .put(FIELD_CARDS, cardsToValue(vm))
    .put(FIELD_GENERATION, newGeneration());
  if (vm.leaves < vm.spec.memory) document.putUint(FIELD_TARGET, vm.leaves);
  return note != "" ? document.putText(FIELD_NOTE, note) : document;
}

/** The objects in a place, as its document lists them. */
export function objectsToValue(index: u32): Value {
  const list = Value.list();
  const module = findModule(MODEL_IMAGE);
  for (let i = 0; i < KINDS.length; i++) {
    let pages = memoryPages(snapshotSlot(index, SnapshotSlot.STATE + i));
    if (pages == 0 && KINDS[i] == OBJECT_IMAGE && module != null) pages = module.pages;
    if (pages > 0) list.add(Value.map().putText(FIELD_KIND, KINDS[i]).putUint(FIELD_PAGES, pages));
  }
  return list;
}
