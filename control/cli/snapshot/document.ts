// What a host says of a snapshot, checked before anything is made of it: `snapshot.show`, and the record in a file.

import { ErrorCode, Protocol } from "../../protocol/schema";
import type { Message, Value } from "../../protocol/node/cbor";
import { PlinthError } from "../errors";
import { PAGE_SIZE } from "./page-map";
import { shown } from "./record-file";

/** One memory object of a snapshot. */
export interface SnapshotObject {
  kind: string;
  pages: number;
}

/** What the rest of a snapshot is about; `raw` is all that the host has said. */
export interface SnapshotDocument {
  name: string;
  vm: string;
  tenant: string;
  /** Unix seconds. */
  created: number;
  vendor: string;
  features: string[];
  tscHz: number;
  abi: number;
  /** Hashes of the VM's CPUID policy and of the device model's image. */
  cpuid: string;
  model: string;
  vcpus: number;
  generation: string;
  objects: SnapshotObject[];
  raw: Message;
}

export const NAME: RegExp = /^[a-z0-9][a-z0-9._-]{0,26}$/;
const HASH = /^[0-9a-f]{64}$/;
const KIND = /^[a-z][a-z0-9]{0,15}$/;
const MAX_OBJECTS = 16;
const MAX_FEATURES = 256;
const MAX_TEXT = 256;
/** Pages of one object: 1 TiB. */
export const MAX_PAGES = 2 ** 28;
const GENERATION_SIZE = 16;

/** Reads a document; `fail` makes the error of what is wrong in it. */
export function readDocument(raw: Message, fail: (what: string) => Error): SnapshotDocument {
  const { format } = raw;
  if (format !== Protocol.SNAPSHOT_FORMAT)
    throw fail(`says format ${shown(format)}; this plinth knows format ${Protocol.SNAPSHOT_FORMAT}`);
  const text = (key: string, pattern?: RegExp): string => {
    const value = raw[key] ?? (pattern ? undefined : "");
    if (typeof value !== "string" || value.length > MAX_TEXT || (pattern && !pattern.test(value)))
      throw fail(`has a bad field '${key}'`);
    return value;
  };
  const count = (key: string): number => {
    const value = raw[key];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
      throw fail(`has a bad field '${key}'`);
    return value;
  };
  const { generation } = raw;
  if (!(generation instanceof Uint8Array) || generation.length !== GENERATION_SIZE)
    throw fail("has a bad field 'generation'");
  return {
    name: text("name", NAME),
    vm: text("vm", NAME),
    tenant: text("tenant"),
    created: count("created"),
    vendor: text("vendor", /^[a-z]{1,16}$/),
    features: readFeatures(raw.features, fail),
    tscHz: count("tscHz"),
    abi: count("abi"),
    cpuid: text("cpuid", HASH),
    model: text("model", HASH),
    vcpus: count("vcpus"),
    generation: Buffer.from(generation).toString("hex"),
    objects: readObjects(raw.objects, fail),
    raw,
  };
}

/** Reads what a host has told of the snapshot `name`. */
export function hostDocument(name: string, raw: Message): SnapshotDocument {
  return readDocument(raw, (what) => {
    const message = `the document of ${name} ${what}`;
    return new PlinthError({ code: ErrorCode.INTEGRITY, message, object: name, next: "plinth snapshot ls" });
  });
}

function readFeatures(value: Value | undefined, fail: (what: string) => Error): string[] {
  const list = value ?? [];
  if (!Array.isArray(list) || list.length > MAX_FEATURES) throw fail("has a bad field 'features'");
  return list.map((name) => {
    if (typeof name !== "string" || name.length > MAX_TEXT) throw fail("has a bad field 'features'");
    return name;
  });
}

function readObjects(value: Value | undefined, fail: (what: string) => Error): SnapshotObject[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_OBJECTS)
    throw fail("has a bad field 'objects'");
  const objects = value.map((item) => {
    const { kind, pages } = (item ?? {}) as Message;
    if (typeof kind !== "string" || !KIND.test(kind)) throw fail("has an object of a bad kind");
    if (typeof pages !== "number" || !Number.isSafeInteger(pages) || pages < 1 || pages > MAX_PAGES)
      throw fail(`has a bad number of pages of ${kind}`);
    return { kind, pages };
  });
  if (new Set(objects.map(({ kind }) => kind)).size !== objects.length) throw fail("has an object twice");
  return objects;
}

/** Bytes of all objects. */
export function totalSize({ objects }: SnapshotDocument): number {
  return objects.reduce((sum, { pages }) => sum + pages * PAGE_SIZE, 0);
}
