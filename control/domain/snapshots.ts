// The snapshots of this host: the list, and the record of each, a document in a memory object in a fixed slot, where a
// successor of this control domain finds it.
//
//   record   u32 length, u32 crc-32c of the CBOR, CBOR: document, state, cost, family

import { Role } from "../gen/abi";
import { capDrop, domainCreate, domainDestroy, memClone, memCreate } from "../lib/binding";
import { CborWriter } from "../lib/cbor";
import { crc32c } from "../lib/crc32c";
import {
  ErrorCode,
  FIELD_BASE,
  FIELD_COST,
  FIELD_CREATED,
  FIELD_DOCUMENT,
  FIELD_KIND,
  FIELD_MEMORY,
  FIELD_NAME,
  FIELD_NOTE,
  FIELD_OBJECTS,
  FIELD_OWN,
  FIELD_PAGES,
  FIELD_SPEC,
  FIELD_STATE,
  FIELD_TENANT,
  FIELD_VM,
  OBJECT_DISK,
  OBJECT_FLASH,
  OBJECT_IMAGE,
  OBJECT_LINK,
  OBJECT_MEMORY,
  OBJECT_MODEL,
  OBJECT_STATE,
  STATE_COMPLETE,
  STATE_INCOMING,
} from "../protocol/schema";
import { decode, encode } from "./codec";
import { Fault } from "./outcome";
import { MAX_DISKS, MAX_SNAPSHOTS, snapshotOfSlot, SnapshotSlot, snapshotSlot } from "./slots";
import { snapshotOwn } from "./snapshot-share";
import { windowRead, windowWrite } from "./snapshot-window";
import { isName, knownFields, readVmSpec, VmSpec } from "./spec";
import { clean, nearest, quoted } from "./text";
import { Value } from "./value";
import { memoryPages, slotHolds, slotsHeld } from "./vms";

const RECORD_PAGES: u64 = 2;
const RECORD_SIZE: u32 = 8192;
const RECORD_HEADER: u32 = 8;

const record: usize = memory.data(8192, 16);

export class Snapshot {
  /** Bytes that are kept for those that share with it: they count for its tenant. */
  cost: u64 = 0;
  /** Those that descend from one VM may share memory. */
  family: u32 = 0;
  state: string = STATE_COMPLETE;
  /** They are listed in this order. */
  order: u32 = 0;

  constructor(
    public index: u32,
    /** What `snapshot.show` tells. */
    public document: Value,
    public spec: VmSpec,
  ) {}

  get name(): string {
    return this.document.getText(FIELD_NAME);
  }

  get vm(): string {
    return this.document.getText(FIELD_VM);
  }

  get tenant(): string {
    return this.spec.tenant;
  }

  slot(what: SnapshotSlot): u32 {
    return snapshotSlot(this.index, what);
  }

  /** Its row in `snapshot.ls`. */
  toRow(): Value {
    const row = Value.map()
      .putText(FIELD_NAME, this.name)
      .putText(FIELD_VM, this.vm)
      .putText(FIELD_TENANT, this.tenant)
      .putUint(FIELD_CREATED, this.document.getUint(FIELD_CREATED))
      .putUint(FIELD_MEMORY, this.spec.memory)
      .putUint(FIELD_OWN, snapshotOwn(this))
      .putText(FIELD_STATE, this.state);
    const base = this.document.getText(FIELD_BASE);
    const note = this.document.getText(FIELD_NOTE);
    if (note != "") row.putText(FIELD_NOTE, note);
    return base != "" ? row.putText(FIELD_BASE, base) : row;
  }

  /** Pages of its object of a kind, as its document says; 0: there is none. */
  pagesOf(kind: string): u64 {
    const objects = this.document.getList(FIELD_OBJECTS);
    for (let i = 0; i < objects.length; i++)
      if (objects[i].getText(FIELD_KIND) == kind) return objects[i].getUint(FIELD_PAGES);
    return 0;
  }
}

/** Kinds of objects, in the order of their slots from STATE on. */
export const KINDS: string[] = [
  OBJECT_STATE,
  OBJECT_MEMORY,
  OBJECT_MODEL,
  OBJECT_LINK,
  OBJECT_FLASH,
  OBJECT_IMAGE,
  OBJECT_DISK + "0",
  OBJECT_DISK + "1",
  OBJECT_DISK + "2",
  OBJECT_DISK + "3",
];

/** The slot of a kind of objects, from the first of the snapshot on; -1: there is no such kind. */
export function kindSlot(kind: string): i32 {
  const at = KINDS.indexOf(kind);
  return at < 0 ? -1 : at + <i32>SnapshotSlot.STATE;
}

let snapshots: Snapshot[] = [];

/** All snapshots in the order of their creation. */
export function snapshotsAll(): Snapshot[] {
  return snapshots;
}

export function snapshotFind(name: string): Snapshot | null {
  for (let i = 0; i < snapshots.length; i++) if (snapshots[i].name == name) return snapshots[i];
  return null;
}

export function snapshotNames(): string[] {
  const names: string[] = [];
  for (let i = 0; i < snapshots.length; i++) names.push(snapshots[i].name);
  return names;
}

/** What the snapshots of a tenant count for it, in bytes. */
export function snapshotCosts(tenant: string): u64 {
  let bytes: u64 = 0;
  for (let i = 0; i < snapshots.length; i++) if (snapshots[i].tenant == tenant) bytes += snapshots[i].cost;
  return bytes;
}

/** The fault for a snapshot that does not exist. */
export function noSuchSnapshot(name: string): Fault {
  if (name == "") return new Fault(ErrorCode.USAGE, "no snapshot is named", "", "snapshot ls");
  const near = nearest(name, snapshotNames());
  const hint = near != "" ? ", did you mean " + quoted(near) + "?" : "";
  const text = "there is no snapshot " + quoted(name) + hint;
  return new Fault(ErrorCode.NOT_FOUND, text, clean(name, 60), "snapshot ls");
}

/** A free place, or -1. */
export function snapshotFreeIndex(): i32 {
  for (let index: u32 = 0; index < MAX_SNAPSHOTS; index++) {
    let taken = false;
    for (let i = 0; i < snapshots.length; i++) taken = taken || snapshots[i].index == index;
    if (!taken) return <i32>index;
  }
  return -1;
}

export function snapshotAdopt(snapshot: Snapshot): void {
  snapshot.order = snapshots.length > 0 ? snapshots[snapshots.length - 1].order + 1 : 1;
  snapshots.push(snapshot);
}

/** Writes the record of a snapshot. False: it is too long, or there is no memory. */
export function snapshotSave(snapshot: Snapshot): bool {
  const slot = snapshot.slot(SnapshotSlot.RECORD);
  if (!slotHolds(slot) && memCreate(slot, RECORD_PAGES) < 0) return false;
  const writer = new CborWriter(record + RECORD_HEADER, RECORD_SIZE - RECORD_HEADER);
  const value = Value.map()
    .put(FIELD_DOCUMENT, snapshot.document)
    .putText(FIELD_STATE, snapshot.state)
    .putUint(FIELD_COST, snapshot.cost)
    .putUint("family", snapshot.family)
    .putUint("order", snapshot.order);
  if (!encode(writer, value)) return false;
  store<u32>(record, writer.length);
  store<u32>(record + 4, crc32c(record + RECORD_HEADER, writer.length));
  return windowWrite(slot, 0, record, writer.length + RECORD_HEADER);
}

const CAP_SLOTS: u32 = 16;
/** The first slot of a snapshot's domain for what it pays for. */
const OWN_SLOTS: u32 = 2;

/** Makes the domain that pays for a snapshot's objects, with which they go, and never runs. A hypercall's result. */
export function snapshotDomain(index: u32, name: string, quota: u32): i64 {
  return domainCreate(
    snapshotSlot(index, SnapshotSlot.DOMAIN),
    Role.VM,
    quota,
    CAP_SLOTS,
    "snapshot/" + name,
  );
}

/** Makes an object of a snapshot that has all pages of `memory`. A hypercall's result. */
export function snapshotShare(index: u32, what: SnapshotSlot, memory: u32): i64 {
  const payer = snapshotSlot(index, SnapshotSlot.DOMAIN);
  return memClone(snapshotSlot(index, what), memory, payer, OWN_SLOTS + what);
}

/** Frees all objects in a place. */
export function snapshotDrop(index: u32): void {
  if (slotHolds(snapshotSlot(index, SnapshotSlot.DOMAIN)))
    domainDestroy(snapshotSlot(index, SnapshotSlot.DOMAIN));
  const end = <u32>SnapshotSlot.DISK + MAX_DISKS;
  for (let what: u32 = 0; what < end; what++) capDrop(snapshotSlot(index, what));
}

/** Takes a snapshot off the list and frees it. */
export function snapshotForget(snapshot: Snapshot): void {
  const at = snapshots.indexOf(snapshot);
  if (at >= 0) snapshots.splice(at, 1);
  snapshotDrop(snapshot.index);
}

function unstash(index: u32): Snapshot | null {
  const slot = snapshotSlot(index, SnapshotSlot.RECORD);
  if (memoryPages(slot) != RECORD_PAGES || !windowRead(slot, 0, record, RECORD_SIZE)) return null;
  const length = load<u32>(record);
  if (length > RECORD_SIZE - RECORD_HEADER) return null;
  if (crc32c(record + RECORD_HEADER, length) != load<u32>(record + 4)) return null;
  const value = decode(record + RECORD_HEADER, length);
  const document = value != null ? value.get(FIELD_DOCUMENT) : null;
  if (document == null || !isName(document.getText(FIELD_NAME))) return null;
  const read = readVmSpec(knownFields(document.get(FIELD_SPEC)), "snapshot");
  if (read.spec == null) return null;
  const snapshot = new Snapshot(index, document, read.spec!);
  snapshot.state = value!.getText(FIELD_STATE) == STATE_COMPLETE ? STATE_COMPLETE : STATE_INCOMING;
  snapshot.cost = value!.getUint(FIELD_COST);
  snapshot.family = <u32>value!.getUint("family");
  snapshot.order = <u32>value!.getUint("order");
  return snapshotFind(snapshot.name) == null ? snapshot : null;
}

/** Takes over the snapshots of a predecessor; what makes no sense is freed. */
export function snapshotsRestore(): void {
  snapshots = [];
  const held = slotsHeld();
  let last = -1;
  for (let i = 0; i < held.length; i++) {
    const index = snapshotOfSlot(held[i]);
    if (index <= last) continue;
    last = index;
    const snapshot = unstash(index);
    if (snapshot != null) snapshots.push(snapshot);
    else snapshotDrop(index);
  }
  snapshots.sort((a: Snapshot, b: Snapshot): i32 => <i32>a.order - <i32>b.order);
}
