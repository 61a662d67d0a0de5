// What a snapshot consists of: its document, a hash of each page, and who vouches for that.

import { createHash, type Hash } from "node:crypto";
import type { Message } from "../../protocol/node/cbor";
import { type SnapshotDocument, readDocument } from "./document";
import { damaged } from "./damage";
import { mapRecord, readMapRecord, WINDOW } from "./map-record";
import { HASH_SIZE, PageMap, sha256 } from "./page-map";
import {
  decode,
  encode,
  type FileRecord,
  recordDigest,
  RecordReader,
  RecordType,
  type RecordWriter,
} from "./record-file";
import type { Secret } from "./seal";
import { isSigned, type Keys } from "./signing";

/** The kinds of files that begin with a manifest: one in a repository, one with all its pages. */
export const KIND_MANIFEST = "manifest";
export const KIND_SNAPSHOT = "snapshot";
/** Longest chain of differential snapshots. */
const MAX_BASES = 64;

/** Where the file was made. */
export interface Origin {
  host?: string;
  plinth?: string;
  exported?: number;
}

export interface Manifest {
  file: string;
  document: SnapshotDocument;
  origin: Origin;
  /** In the order of the document's objects; pages as in the base are filled in. */
  maps: PageMap[];
  base: Manifest | undefined;
  /** The root of the tree of hashes over all of it. */
  root: string;
  /** What is signed, by whom. */
  digest: string;
  signer: Uint8Array;
}

/** How a manifest is read. */
export interface Reading {
  secret: Secret | undefined;
  /** Throws if what this key has signed is not to be used; before anything of it is looked at. */
  accept(signer: Uint8Array, file: string): void;
  /** The manifest with a digest, for a differential one. */
  findBase(digest: string, name: string, file: string): Manifest;
  /** How many differential ones led here. */
  depth?: number;
}

/** A manifest's file, and where the records behind it begin. */
export interface OpenManifest {
  manifest: Manifest;
  reader: RecordReader;
}

/** Opens a file that begins with a manifest, and checks all of that. The reader stands behind the signature. */
export function openManifest(file: string, reading: Reading): OpenManifest {
  if ((reading.depth ?? 0) > MAX_BASES) throw damaged(file, `is based on more than ${MAX_BASES} others`);
  const reader = new RecordReader(file, [KIND_MANIFEST, KIND_SNAPSHOT], reading.secret);
  try {
    const begin = reader.place;
    const { digest, signer } = checkSignature(reader);
    reading.accept(signer, file);
    const behind = reader.place;
    reader.place = begin;
    const manifest = new ManifestParser(reader, reading).parse(digest, signer);
    reader.place = behind;
    return { manifest, reader };
  } catch (error) {
    reader.close();
    throw error;
  }
}

/** A manifest in a repository's file: nothing follows it. */
export function readManifest(file: string, reading: Reading): Manifest {
  const { manifest, reader } = openManifest(file, reading);
  try {
    if (reader.kind !== KIND_MANIFEST) throw damaged(file, "is no manifest of a repository");
    const more = reader.next();
    if (more !== null) throw reader.problem(more, "does not belong here");
    return manifest;
  } finally {
    reader.close();
  }
}

/** Reads up to the signature; nothing is made of what it signs. */
function checkSignature(reader: RecordReader): { digest: Buffer; signer: Uint8Array } {
  const digest = createHash("sha256");
  for (;;) {
    const record = reader.next();
    if (record === null) throw damaged(reader.file, "has no signature");
    if (record.type !== RecordType.SIGNATURE) {
      digest.update(recordDigest(record.type, record.optional, record.payload));
      continue;
    }
    const { key, signature } = decode(reader, record);
    const signed = digest.digest();
    if (record.optional || !(key instanceof Uint8Array) || !(signature instanceof Uint8Array))
      throw reader.problem(record, "lacks a field");
    if (!isSigned(signed, key, signature)) throw reader.problem(record, "does not fit what stands before it");
    return { digest: signed, signer: key };
  }
}

/** Takes the records of a manifest in their order. */
class ManifestParser {
  private readonly reader: RecordReader;
  private readonly reading: Reading;
  private readonly digest = createHash("sha256");
  private record!: FileRecord;

  constructor(reader: RecordReader, reading: Reading) {
    this.reader = reader;
    this.reading = reading;
    this.advance();
  }

  parse(digest: Buffer, signer: Uint8Array): Manifest {
    const { file } = this.reader;
    const documentDigest = sha256(this.record.payload);
    const document = readDocument(this.take(RecordType.DOCUMENT), (what) =>
      damaged(file, `record 1 (document) ${what}`),
    );
    const origin = this.record.type === RecordType.ORIGIN ? readOrigin(this.take(RecordType.ORIGIN)) : {};
    const base = this.record.type === RecordType.BASE ? this.readBase(document) : undefined;
    const maps = document.objects.map(({ pages }, n) => this.readMap(n, new PageMap(pages), base?.maps[n]));
    const root = this.readRoot(documentDigest, maps);
    if (this.record.type !== RecordType.SIGNATURE) throw this.fail("does not belong here");
    if (!this.digest.digest().equals(digest)) throw damaged(file, "was changed while it was read");
    return { file, document, origin, maps, base, root, digest: digest.toString("hex"), signer };
  }

  private readBase(document: SnapshotDocument): Manifest {
    const record = this.record;
    const { digest, name } = this.take(RecordType.BASE);
    if (!(digest instanceof Uint8Array) || digest.length !== HASH_SIZE || typeof name !== "string")
      throw this.reader.problem(record, "lacks a field");
    const base = this.reading.findBase(Buffer.from(digest).toString("hex"), name, this.reader.file);
    const shape = (of: SnapshotDocument): string =>
      of.objects.map(({ kind, pages }) => `${kind} ${pages}`).join();
    if (shape(base.document) !== shape(document))
      throw this.reader.problem(record, `has other objects than ${name}`);
    return base;
  }

  private readMap(object: number, map: PageMap, base: PageMap | undefined): PageMap {
    for (let first = 0; first < map.pages;) {
      const record = this.record;
      const piece = this.take(RecordType.MAP);
      first += readMapRecord(piece, { object, first, map, base }, (what) =>
        this.reader.problem(record, what),
      );
    }
    return map;
  }

  private readRoot(documentDigest: Buffer, maps: readonly PageMap[]): string {
    const record = this.record;
    const { roots, root } = this.take(RecordType.ROOT);
    const ours = rootsOf(documentDigest, maps);
    if (
      !(roots instanceof Uint8Array) ||
      !ours.roots.equals(roots) ||
      !(root instanceof Uint8Array) ||
      !ours.root.equals(root)
    )
      throw this.reader.problem(record, "is not the root of the hashes before it");
    return ours.root.toString("hex");
  }

  /** The record here as CBOR, if it is of this type; then goes on to the next one. */
  private take(type: RecordType): Message {
    if (this.record.type !== type) {
      const unknown = this.record.type > RecordType.END || this.record.type === 0;
      throw this.fail(
        unknown ? "is unknown to this plinth, and needed: use a newer one" : "does not belong here",
      );
    }
    const message = decode(this.reader, this.record);
    this.advance();
    return message;
  }

  private advance(): void {
    for (;;) {
      const record = this.reader.next();
      if (record === null) throw damaged(this.reader.file, "ends too early");
      this.record = record;
      const { type, optional, payload } = record;
      if (type !== RecordType.SIGNATURE) this.digest.update(recordDigest(type, optional, payload));
      if (type <= RecordType.END || !optional) return;
    }
  }

  private fail(what: string): Error {
    return this.reader.problem(this.record, what);
  }
}

function readOrigin(record: Message): Origin {
  const { host, plinth, exported } = record;
  return {
    ...(typeof host === "string" ? { host } : {}),
    ...(typeof plinth === "string" ? { plinth } : {}),
    ...(typeof exported === "number" ? { exported } : {}),
  };
}

/** The roots of all objects, and that of the snapshot: SHA-256 of 254, its document's hash and them. */
function rootsOf(documentDigest: Buffer, maps: readonly PageMap[]): { roots: Buffer; root: Buffer } {
  const roots = Buffer.concat(maps.map((map) => map.root));
  return { roots, root: sha256(Uint8Array.of(254), documentDigest, roots) };
}

/** What a new manifest says. */
export interface ManifestContent {
  document: Message;
  origin: Origin;
  maps: readonly PageMap[];
  /** Pages that are as in this one are not said again. */
  base?: Manifest | undefined;
}

/** Writes and signs a manifest. */
export function writeManifest(writer: RecordWriter, content: ManifestContent, keys: Keys): void {
  const { document, origin, maps, base } = content;
  const digest = createHash("sha256");
  const documentPayload = encode(document);
  put(writer, digest, RecordType.DOCUMENT, documentPayload);
  put(writer, digest, RecordType.ORIGIN, encode({ ...origin }), true);
  if (base) {
    const { name } = base.document;
    put(writer, digest, RecordType.BASE, encode({ digest: Buffer.from(base.digest, "hex"), name }));
  }
  maps.forEach((map, n) => {
    for (let first = 0; first < map.pages; first += WINDOW)
      put(writer, digest, RecordType.MAP, encode(mapRecord(n, first, map, base?.maps[n])));
  });
  put(writer, digest, RecordType.ROOT, encode({ ...rootsOf(sha256(documentPayload), maps) }));
  const signature = keys.sign(digest.digest());
  writer.record(RecordType.SIGNATURE, encode({ key: keys.publicKey, signature }));
}

function put(
  writer: RecordWriter,
  digest: Hash,
  type: RecordType,
  payload: Uint8Array,
  optional = false,
): void {
  digest.update(recordDigest(type, optional, payload));
  writer.record(type, payload, optional);
}

/** Copies a manifest, signature and all, to another file. The reader stands behind it afterwards. */
export function copyManifest(reader: RecordReader, writer: RecordWriter): void {
  for (;;) {
    const record = reader.next();
    if (record === null) throw damaged(reader.file, "has no signature");
    writer.record(record.type, record.payload, record.optional);
    if (record.type === RecordType.SIGNATURE) return;
  }
}

/** Pages whose bytes belong to this manifest, not to its base: by object, and page. */
export function* ownPages({
  maps,
  base,
}: Manifest): Generator<{ object: number; page: number; hash: Buffer }> {
  for (const [object, map] of maps.entries()) {
    for (const page of map.changed(base?.maps[object])) {
      if (!map.isZero(page)) yield { object, page, hash: map.hash(page) };
    }
  }
}
