// Snapshots to and from other hosts, page by page: what a program reads of one, and writes of one that comes.

import { ABI_VERSION, PAGE_SIZE, PageRangesAt } from "../gen/abi";
import { PageRanges } from "../gen/layout";
import { memCreate, memDiff } from "../lib/binding";
import { sha256, SHA256_SIZE } from "../lib/sha256";
import {
  ErrorCode,
  EVENT_SNAPSHOT_IMPORTED,
  FIELD_ABI,
  FIELD_BASE,
  FIELD_COUNT,
  FIELD_DATA,
  FIELD_DOCUMENT,
  FIELD_DRY,
  FIELD_FEATURES,
  FIELD_FORMAT,
  FIELD_FROM,
  FIELD_HASHES,
  FIELD_KIND,
  FIELD_MODEL,
  FIELD_NAME,
  FIELD_NEEDS,
  FIELD_NEXT,
  FIELD_OBJECT,
  FIELD_OBJECTS,
  FIELD_PAGE,
  FIELD_PAGES,
  FIELD_RANGES,
  FIELD_SPEC,
  FIELD_TSC_HZ,
  FIELD_VENDOR,
  OBJECT_DISK,
  OBJECT_FLASH,
  OBJECT_IMAGE,
  OBJECT_LINK,
  OBJECT_MEMORY,
  OBJECT_MODEL,
  OBJECT_STATE,
  Protocol,
  STATE_COMPLETE,
  STATE_INCOMING,
} from "../protocol/schema";
import { DISK_MAX, disksRevivable } from "./disks";
import { emit } from "./events";
import { flashPages } from "./flash";
import { findModule, freePages, info } from "./host";
import { Fault, Outcome } from "./outcome";
import { MAX_DISKS, SnapshotSlot, snapshotSlot } from "./slots";
import { limitFault, nameFault, snapshotQuota } from "./snapshot-actions";
import { hostFeatures, MAX_IMAGE_PAGES, modelImageHash, objectHash, vendorName } from "./snapshot-document";
import { statePages, stateProblem } from "./snapshot-state";
import { windowRead, windowWrite } from "./snapshot-window";
import {
  kindSlot,
  KINDS,
  noSuchSnapshot,
  Snapshot,
  snapshotAdopt,
  snapshotDomain,
  snapshotFind,
  snapshotForget,
  snapshotFreeIndex,
  snapshotSave,
  snapshotShare,
} from "./snapshots";
import { knownFields, readVmSpec, VmSpec } from "./spec";
import { noSuchTenant, tenantFind } from "./tenants";
import { clean, grouped, mib, quoted } from "./text";
import { Kind, Value } from "./value";
import { Vm } from "./vm";
import { linkPages, MODEL_IMAGE, MODEL_RAM_PAGES } from "./vm-builder";
import { memoryPages } from "./vms";

/** With less free than so many pages nothing is written: it may need a frame for each table, too. */
const RESERVE_PAGES: u64 = 64;
/** A TSC that differs by this part of itself is the same. */
const TSC_PART: u64 = 1000;

const page: usize = memory.data(4096, 16);

function fault(code: ErrorCode, snapshot: string, text: string, next: string): Fault {
  return new Fault(code, "snapshot " + quoted(snapshot) + ": " + text, snapshot, next);
}

function fail(code: ErrorCode, snapshot: string, text: string, next: string): Outcome {
  return Outcome.fail(fault(code, snapshot, text, next));
}

// --- reading ---

/** An object of a snapshot: where it is, and how many bytes of it count. */
class Place {
  constructor(
    public slot: u32,
    public pages: u64,
    public bytes: u64,
    /** A boot module, which is not compared. */
    public isModule: bool,
  ) {}
}

function placeOf(snapshot: Snapshot, kind: string): Place | null {
  const at = kindSlot(kind);
  if (at < 0) return null;
  const slot = snapshotSlot(snapshot.index, at);
  const pages = memoryPages(slot);
  if (pages > 0) return new Place(slot, pages, pages * PAGE_SIZE, false);
  const module = kind == OBJECT_IMAGE ? findModule(MODEL_IMAGE) : null;
  return module != null ? new Place(module.slot, module.pages, module.size, true) : null;
}

/** What a request is about; with a fault there is neither. */
class About {
  snapshot: Snapshot | null = null;
  place: Place | null = null;
  fault: Fault | null = null;
}

function aboutOf(request: Value): About {
  const about = new About();
  const name = request.getText(FIELD_NAME);
  const kind = request.getText(FIELD_OBJECT);
  const snapshot = snapshotFind(name);
  about.snapshot = snapshot;
  about.place = snapshot != null ? placeOf(snapshot, kind) : null;
  if (snapshot == null) about.fault = noSuchSnapshot(name);
  else if (about.place == null)
    about.fault = fault(
      ErrorCode.NOT_FOUND,
      name,
      "it has no object " + quoted(kind),
      "snapshot show " + name,
    );
  return about;
}

/** Copies a page to `page`; what is behind an object's bytes is zero. */
function readPage(place: Place, number: u64): bool {
  const at = number * PAGE_SIZE;
  memory.fill(page, 0, PAGE_SIZE);
  return at < place.bytes && windowRead(place.slot, at, page, <u32>min<u64>(place.bytes - at, PAGE_SIZE));
}

function outside(request: Value, place: Place): Outcome {
  const text = "object " + quoted(request.getText(FIELD_OBJECT)) + " has " + grouped(place.pages) + " pages";
  const name = request.getText(FIELD_NAME);
  return fail(ErrorCode.USAGE, name, text, "snapshot show " + name);
}

/** Where an object has pages, or differs from that of another snapshot. */
export function snapshotPages(request: Value): Outcome {
  const about = aboutOf(request);
  if (about.fault != null) return Outcome.fail(about.fault!);
  const place = about.place!;
  const from = request.getUint(FIELD_FROM);
  if (from > place.pages) return outside(request, place);
  const base = request.getText(FIELD_BASE);
  let other: u32 = 0;
  if (base != "") {
    const found = snapshotFind(base);
    if (found == null) return Outcome.fail(noSuchSnapshot(base));
    const there = placeOf(found, request.getText(FIELD_OBJECT));
    /* One that has no such object, or another size of it: all is different. */
    if (there != null && there.pages == place.pages) other = there.slot;
    if (other == place.slot) return pagesResult(place.pages, 0);
    if (there != null && there.isModule) other = 0;
  }
  if (place.isModule) {
    store<u64>(page + PageRangesAt.SIZE, from);
    store<u64>(page + PageRangesAt.SIZE + 8, place.pages - from);
    return pagesResult(place.pages, from < place.pages ? 1 : 0);
  }
  const count = memDiff(place.slot, other, from, page);
  if (count < 0) return fail(ErrorCode.FAILED, about.snapshot!.name, "its pages cannot be told", "doctor");
  return pagesResult(changetype<PageRanges>(page).next, <u32>count);
}

/** `count` pairs that are in `page`. */
function pagesResult(next: u64, count: u32): Outcome {
  const ranges = Value.list();
  for (let i: u32 = 0; i < 2 * count; i++)
    ranges.add(Value.uint(load<u64>(page + PageRangesAt.SIZE + 8 * <usize>i)));
  return Outcome.of(Value.map().putUint(FIELD_NEXT, next).put(FIELD_RANGES, ranges));
}

export function snapshotHash(request: Value): Outcome {
  const about = aboutOf(request);
  if (about.fault != null) return Outcome.fail(about.fault!);
  const place = about.place!;
  const first = request.getUint(FIELD_PAGE);
  const count = request.getUint(FIELD_COUNT, 1);
  if (count == 0 || count > <u64>Protocol.MAX_HASHES || first >= place.pages || count > place.pages - first)
    return outside(request, place);
  const hashes = new StaticArray<u8>(<i32>count * SHA256_SIZE);
  for (let n: u64 = 0; n < count; n++) {
    if (!readPage(place, first + n)) return outside(request, place);
    sha256(changetype<usize>(hashes) + <usize>n * SHA256_SIZE, page, PAGE_SIZE);
  }
  return Outcome.of(Value.map().put(FIELD_HASHES, Value.bytes(hashes)));
}

/** One page: a frame has room for no more. */
export function snapshotRead(request: Value): Outcome {
  const about = aboutOf(request);
  if (about.fault != null) return Outcome.fail(about.fault!);
  const place = about.place!;
  const number = request.getUint(FIELD_PAGE);
  if (number >= place.pages || !readPage(place, number)) return outside(request, place);
  const data = new StaticArray<u8>(PAGE_SIZE);
  memory.copy(changetype<usize>(data), page, PAGE_SIZE);
  return Outcome.of(Value.map().putUint(FIELD_PAGE, number).put(FIELD_DATA, Value.bytes(data)));
}

// --- coming ---

/** What of this host is not what a snapshot needs; "": nothing. */
function missing(document: Value, spec: VmSpec): string {
  const format = document.getUint(FIELD_FORMAT);
  if (format != Protocol.SNAPSHOT_FORMAT)
    return "its format is " + format.toString() + ", this host knows " + Protocol.SNAPSHOT_FORMAT.toString();
  const abi = document.getUint(FIELD_ABI);
  if (abi != ABI_VERSION)
    return "it is of ABI version " + abi.toString() + ", this host has " + ABI_VERSION.toString();
  const vendor = document.getText(FIELD_VENDOR);
  if (vendor != vendorName()) return "its CPU is of " + quoted(vendor) + ", this host's of " + vendorName();
  const hz = document.getUint(FIELD_TSC_HZ);
  const ours = info().tsc_hz;
  if ((hz > ours ? hz - ours : ours - hz) > ours / TSC_PART)
    return "its TSC runs at " + grouped(hz) + " Hz, this host's at " + grouped(ours) + " Hz";
  const have = hostFeatures(spec.vcpus, spec.firmware != "");
  const wanted = document.getList(FIELD_FEATURES);
  let lacks = "";
  for (let i = 0; i < wanted.length; i++)
    if (!have.includes(wanted[i].text)) lacks += (lacks != "" ? ", " : "") + clean(wanted[i].text, 20);
  return lacks != "" ? "this host's CPU lacks " + clean(lacks, 150) : "";
}

/** Whether an object that is announced can be one of a VM of this specification. */
function objectProblem(vm: Vm, kind: string, pages: u64): string {
  const spec = vm.spec;
  let wanted: u64 = pages;
  let most: u64 = DISK_MAX / PAGE_SIZE;
  if (kind == OBJECT_MEMORY) wanted = spec.memory / PAGE_SIZE;
  else if (kind == OBJECT_MODEL) wanted = MODEL_RAM_PAGES;
  else if (kind == OBJECT_LINK) wanted = linkPages(spec);
  else if (kind == OBJECT_FLASH) wanted = flashPages(vm);
  else if (kind == OBJECT_STATE) wanted = statePages(spec.vcpus);
  else if (kind == OBJECT_IMAGE) most = MAX_IMAGE_PAGES;
  else if (!isDisk(spec, kind)) return "it has an object " + quoted(kind) + " that its VM has not";
  if (kind == OBJECT_MEMORY) most = pages;
  if (pages != wanted || pages == 0 || pages > most)
    return "its object " + quoted(kind) + " has " + grouped(pages) + " pages, here it is " + grouped(wanted);
  return "";
}

function isDisk(spec: VmSpec, kind: string): bool {
  for (let i = 0; i < spec.disks.length; i++)
    if (kind == OBJECT_DISK + i.toString()) return !spec.disks[i].readOnly;
  return false;
}

/** Kinds without which there is no VM of this specification. */
function kindsOf(vm: Vm): string[] {
  const kinds = [OBJECT_STATE, OBJECT_MEMORY, OBJECT_MODEL, OBJECT_LINK];
  if (flashPages(vm) > 0) kinds.push(OBJECT_FLASH);
  for (let i = 0; i < vm.spec.disks.length; i++)
    if (!vm.spec.disks[i].readOnly) kinds.push(OBJECT_DISK + i.toString());
  return kinds;
}

function objectsProblem(snapshot: Snapshot, vm: Vm): string {
  const objects = snapshot.document.getList(FIELD_OBJECTS);
  const seen: string[] = [];
  for (let i = 0; i < objects.length; i++) {
    const kind = objects[i].getText(FIELD_KIND);
    const problem = objectProblem(vm, kind, objects[i].getUint(FIELD_PAGES));
    if (problem != "") return problem;
    if (seen.includes(kind)) return "it has two objects " + quoted(kind);
    seen.push(kind);
  }
  const wanted = kindsOf(vm);
  for (let i = 0; i < wanted.length; i++)
    if (!seen.includes(wanted[i])) return "it has no object " + quoted(wanted[i]);
  return "";
}

/** Whether the image of its device model has to come, too. */
function brings(snapshot: Snapshot): bool {
  return snapshot.document.getText(FIELD_MODEL) != modelImageHash();
}

/** Makes the objects of a snapshot that is to come. False: there is no memory. */
function makeObjects(snapshot: Snapshot, base: Snapshot | null): bool {
  const domain = snapshot.slot(SnapshotSlot.DOMAIN);
  for (let i = 0; i < KINDS.length; i++) {
    const pages = snapshot.pagesOf(KINDS[i]);
    if (pages == 0 || (KINDS[i] == OBJECT_IMAGE && !brings(snapshot))) continue;
    const at = SnapshotSlot.STATE + i;
    const from = base != null ? snapshotSlot(base.index, at) : 0;
    const status =
      from != 0 && memoryPages(from) == pages
        ? snapshotShare(snapshot.index, at, from)
        : memCreate(snapshot.slot(at), pages, KINDS[i] == OBJECT_MEMORY ? domain : 0);
    if (status < 0) return false;
  }
  return true;
}

/** Pages that it takes at once: what it does not share with the one that it starts from. */
function pagesToMake(snapshot: Snapshot, base: Snapshot | null): u64 {
  let pages: u64 = snapshotQuota(snapshot.spec, 0);
  for (let i = 0; i < KINDS.length; i++) {
    const count = snapshot.pagesOf(KINDS[i]);
    const from = base != null ? snapshotSlot(base.index, SnapshotSlot.STATE + i) : 0;
    if (from == 0 || memoryPages(from) != count) pages += count;
  }
  return pages;
}

/** Begins a snapshot that comes from elsewhere; the verdict whether it can go on here comes first, with `dry` alone. */
export function snapshotBegin(request: Value): Outcome {
  const document = request.get(FIELD_DOCUMENT);
  if (document == null || document.kind != Kind.MAP)
    return fail(ErrorCode.USAGE, "", "snapshot.begin needs a document", "help snapshot");
  const name = document.getText(FIELD_NAME);
  let problem = nameFault(name);
  const read = readVmSpec(knownFields(document.get(FIELD_SPEC)), "snapshot");
  if (problem == null) problem = read.fault;
  if (problem != null) return Outcome.fail(problem);
  const snapshot = new Snapshot(<u32>snapshotFreeIndex(), document, read.spec!);
  const baseName = request.getText(FIELD_BASE);
  const base = baseName != "" ? snapshotFind(baseName) : null;
  if (baseName != "" && base == null) return Outcome.fail(noSuchSnapshot(baseName));
  problem = beginFault(snapshot, base);
  if (problem != null) return Outcome.fail(problem);
  if (request.getBool(FIELD_DRY)) return Outcome.of(Value.map().put(FIELD_NEEDS, needsOf(snapshot)));
  snapshot.state = STATE_INCOMING;
  if (base != null) document.putText(FIELD_BASE, baseName);
  return make(snapshot, base);
}

/** Why a snapshot cannot come. */
function beginFault(snapshot: Snapshot, base: Snapshot | null): Fault | null {
  const name = snapshot.name;
  const spec = snapshot.spec;
  const vm = new Vm(0, spec);
  if (base != null && base.state != STATE_COMPLETE)
    return fault(ErrorCode.WRONG_STATE, name, "its base has not come whole yet", "snapshot ls");
  const lacks = missing(snapshot.document, spec);
  if (lacks != "") return fault(ErrorCode.INTEGRITY, name, lacks, "hardware");
  const tenant = tenantFind(spec.tenant);
  if (tenant == null) return noSuchTenant("", spec.tenant);
  const images = disksRevivable(vm);
  if (images != null) return images;
  const problem = objectsProblem(snapshot, vm);
  if (problem != "") return fault(ErrorCode.INTEGRITY, name, problem, "help snapshot");
  const pages = pagesToMake(snapshot, base);
  snapshot.cost = pages * PAGE_SIZE;
  const limit = limitFault(name, tenant, snapshot.cost);
  if (limit != null || pages <= freePages()) return limit;
  const lack = "needs " + mib(pages * PAGE_SIZE) + ", " + mib(freePages() * PAGE_SIZE) + " are free";
  return fault(ErrorCode.INTEGRITY, name, lack, "free");
}

function make(snapshot: Snapshot, base: Snapshot | null): Outcome {
  const quota = snapshotQuota(snapshot.spec, MAX_DISKS * (DISK_MAX / PAGE_SIZE));
  snapshot.family = base != null ? base.family : 0;
  const made = snapshotDomain(snapshot.index, snapshot.name, quota) >= 0 && makeObjects(snapshot, base);
  if (made) snapshotAdopt(snapshot);
  if (!made || !snapshotSave(snapshot)) {
    snapshotForget(snapshot);
    return fail(ErrorCode.FAILED, snapshot.name, "there is no memory for it", "free");
  }
  return Outcome.of(Value.map().put(FIELD_NEEDS, needsOf(snapshot)));
}

/** The kinds of objects that have to be sent. */
function needsOf(snapshot: Snapshot): Value {
  const needs = Value.list();
  const objects = snapshot.document.getList(FIELD_OBJECTS);
  for (let i = 0; i < objects.length; i++)
    if (objects[i].getText(FIELD_KIND) != OBJECT_IMAGE || brings(snapshot))
      needs.add(Value.string(objects[i].getText(FIELD_KIND)));
  return needs;
}

function needsIncoming(snapshot: Snapshot): Outcome {
  const next = "snapshot show " + snapshot.name;
  return fail(ErrorCode.WRONG_STATE, snapshot.name, "it is complete", next);
}

/** Takes whole pages of an object of a snapshot that comes. */
export function snapshotWrite(request: Value): Outcome {
  const about = aboutOf(request);
  if (about.fault != null) return Outcome.fail(about.fault!);
  const place = about.place!;
  const snapshot = about.snapshot!;
  if (snapshot.state != STATE_INCOMING) return needsIncoming(snapshot);
  const data = request.get(FIELD_DATA);
  const number = request.getUint(FIELD_PAGE);
  if (data == null || data.kind != Kind.BYTES || data.blob.length == 0 || data.blob.length % PAGE_SIZE != 0)
    return fail(ErrorCode.USAGE, snapshot.name, "data must be whole pages", "help snapshot");
  const count: u64 = data.blob.length / PAGE_SIZE;
  if (number >= place.pages || count > place.pages - number) return outside(request, place);
  if (freePages() < RESERVE_PAGES)
    return fail(ErrorCode.FAILED, snapshot.name, "the host has no memory for more of it", "free");
  if (!windowWrite(place.slot, number * PAGE_SIZE, changetype<usize>(data.blob), data.blob.length))
    return fail(
      ErrorCode.FAILED,
      snapshot.name,
      "this object does not come",
      "snapshot show " + snapshot.name,
    );
  return Outcome.of(Value.map().putUint(FIELD_NEXT, number + count));
}

/** All has come. */
export function snapshotEnd(request: Value): Outcome {
  const name = request.getText(FIELD_NAME);
  const snapshot = snapshotFind(name);
  if (snapshot == null) return Outcome.fail(noSuchSnapshot(name));
  if (snapshot.state != STATE_INCOMING) return needsIncoming(snapshot);
  const next = "snapshot rm " + name;
  const problem = stateProblem(snapshot.index, snapshot.spec.vcpus);
  if (problem != "") return fail(ErrorCode.INTEGRITY, name, problem, next);
  if (
    brings(snapshot) &&
    objectHash(snapshot.slot(SnapshotSlot.IMAGE)) != snapshot.document.getText(FIELD_MODEL)
  )
    return fail(ErrorCode.INTEGRITY, name, "the image of its device model has another hash", next);
  snapshot.state = STATE_COMPLETE;
  snapshotSave(snapshot);
  emit(EVENT_SNAPSHOT_IMPORTED, snapshot.vm, "snapshot " + quoted(name) + " has come");
  return Outcome.of(snapshot.toRow());
}
