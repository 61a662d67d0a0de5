// Files of records, one format for all: each record says what it is, how long, and has a check of its own.

import { createHash, randomBytes } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { cborDecode, cborEncode, type Message } from "../../protocol/node/cbor";
import { oneLine } from "../output";
import { damaged } from "./damage";
import { type Derivation, FileKey, SALT_SIZE, type Secret, TAG_SIZE } from "./seal";

/** What a record is. A file's kind says which of them follow one another. */
export const enum RecordType {
  HEADER = 1,
  DOCUMENT = 2,
  ORIGIN = 3,
  BASE = 4,
  MAP = 5,
  ROOT = 6,
  SIGNATURE = 7,
  GROUP = 8,
  DATA = 9,
  END = 10,
}

const NAMES: Record<number, string> = {
  [RecordType.HEADER]: "header",
  [RecordType.DOCUMENT]: "document",
  [RecordType.ORIGIN]: "origin",
  [RecordType.BASE]: "base",
  [RecordType.MAP]: "map",
  [RecordType.ROOT]: "root",
  [RecordType.SIGNATURE]: "signature",
  [RecordType.GROUP]: "group",
  [RecordType.DATA]: "data",
  [RecordType.END]: "end",
};

/** Readers that do not know such a record pass over it; all others they refuse. */
const OPTIONAL = 1;
export const FORMAT = 1;
const MAGIC = Buffer.from("\x89PLNTH\r\n", "latin1");
const HEAD_SIZE = 8;
const CHECK_SIZE = 32;
/** Bytes of a record, at most: nothing larger is read into memory before it is checked. */
export const MAX_BODY = 1 << 20;
/** The header, which has number 0, is not encrypted, and has the salt for the others. */
const NO_SALT = new Uint8Array(0);

/** One record as it was read. */
export interface FileRecord {
  /** Counts from 0, the header. */
  number: number;
  /** Where in the file it begins. */
  at: number;
  type: number;
  optional: boolean;
  payload: Uint8Array;
}

/** Type, flags and length, as they stand before a record and, for a sealed one, are part of what is sealed. */
function headBytes(type: number, optional: boolean, length: number): Uint8Array {
  const head = Buffer.alloc(HEAD_SIZE);
  head.writeUInt16LE(type, 0);
  head.writeUInt16LE(optional ? OPTIONAL : 0, 2);
  head.writeUInt32LE(length, 4);
  return head;
}

/** The check of a record: of its file, its place there, its head and its payload. */
function checkOf(salt: Uint8Array, number: number, head: Uint8Array, payload: Uint8Array): Buffer {
  const place = Buffer.alloc(8);
  place.writeBigUInt64LE(BigInt(number));
  return createHash("sha256").update(salt).update(place).update(head).update(payload).digest();
}

/** What of a record is signed: the same in every file in which it stands. */
export function recordDigest(type: number, optional: boolean, payload: Uint8Array): Buffer {
  return createHash("sha256")
    .update(headBytes(type, optional, payload.length))
    .update(payload)
    .digest();
}

/** Writes a file of records from its begin to its end. */
export class RecordWriter {
  readonly file: string;
  private readonly fd: number;
  private readonly salt = randomBytes(SALT_SIZE);
  private readonly key: FileKey | undefined;
  private number = 0;
  private at = 0;

  /** The file must not be there yet. `secret`: what follows the header is encrypted. */
  constructor(file: string, kind: string, secret: Secret | undefined, stretchSalt: Uint8Array) {
    this.file = file;
    this.fd = openSync(file, "wx", 0o600);
    if (secret) this.key = new FileKey(secret, stretchSalt, this.salt);
    const sealed = this.key && { derivation: secret!.derivation, stretchSalt, check: this.key.check };
    this.write(MAGIC);
    this.record(RecordType.HEADER, encode({ format: FORMAT, kind, salt: this.salt, sealed }));
  }

  /** Appends a record; returns its place. */
  record(type: RecordType, payload: Uint8Array, optional = false): { at: number; number: number } {
    const [key, salt] = this.number === 0 ? [undefined, NO_SALT] : [this.key, this.salt];
    const head = headBytes(type, optional, payload.length + (key ? TAG_SIZE : CHECK_SIZE));
    const place = { at: this.at, number: this.number };
    const body = key
      ? key.seal(this.number, head, payload)
      : Buffer.concat([payload, checkOf(salt, this.number, head, payload)]);
    this.write(Buffer.concat([head, body]));
    this.number++;
    return place;
  }

  /** The last record, without which a file is not whole; everything is on the disk afterwards. */
  end(): void {
    this.record(RecordType.END, encode({ records: this.number }));
    fsyncSync(this.fd);
    closeSync(this.fd);
  }

  /** Leaves the file without an end. */
  abandon(): void {
    closeSync(this.fd);
  }

  private write(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;)
      done += writeSync(this.fd, bytes, done, bytes.length - done, this.at + done);
    this.at += bytes.length;
  }
}

/** Reads a file of records; what it returns has passed its check. */
export class RecordReader {
  readonly file: string;
  readonly kind: string;
  readonly size: number;
  private readonly fd: number;
  private readonly salt: Uint8Array;
  private readonly key: FileKey | undefined;
  private at = 0;
  private number = 0;

  /** Opens a file and reads its header; `secret` is needed if the file is encrypted. */
  constructor(file: string, kinds: readonly string[], secret?: Secret) {
    this.file = file;
    this.fd = openFile(file);
    try {
      this.size = fstatSync(this.fd).size;
      const header = this.readHeader();
      this.kind = header.kind;
      if (!kinds.includes(this.kind))
        throw damaged(file, `is of kind '${shown(this.kind)}', not ${kinds.join(" or ")}`);
      this.salt = header.salt;
      this.key = header.sealed && this.unlock(header.sealed, secret);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  /** Where the next record is read. */
  get place(): { at: number; number: number } {
    return { at: this.at, number: this.number };
  }

  set place({ at, number }: { at: number; number: number }) {
    this.at = at;
    this.number = number;
  }

  get isSealed(): boolean {
    return this.key !== undefined;
  }

  /** The next record; null at the end of the file, which must be an end record. */
  next(): FileRecord | null {
    const head = this.nextHead();
    if (head === null) return null;
    const record = this.read(head.at, head.number);
    this.skip(head);
    return record;
  }

  /** What comes next, without reading it. */
  nextHead(): { at: number; number: number; type: number; length: number } | null {
    const { at, number } = this;
    if (at === this.size) throw damaged(this.file, `ends behind record ${number - 1}: its rest is missing`);
    const { type, length, isLast } = this.head(at, number);
    if (isLast) {
      this.checkEnd(at, number, at + HEAD_SIZE + length);
      return null;
    }
    return { at, number, type, length };
  }

  /** Goes on behind a record. */
  skip(head: { at: number; length: number }): void {
    this.at = head.at + HEAD_SIZE + head.length;
    this.number++;
  }

  /** The record at a place that was found before. */
  read(at: number, number: number): FileRecord {
    const { head, type, optional, length } = this.head(at, number);
    const payload = this.payload(head, at, number, type, length);
    return { number, at, type, optional, payload };
  }

  /** "FILE: record 3 (map) WHAT". */
  problem(record: { number: number; type: number }, what: string): Error {
    return damaged(this.file, `record ${record.number} (${NAMES[record.type] ?? record.type}) ${what}`);
  }

  private head(
    at: number,
    number: number,
  ): {
    head: Uint8Array;
    type: number;
    optional: boolean;
    length: number;
    isLast: boolean;
  } {
    const head = this.bytes(at, HEAD_SIZE, number);
    const type = head.readUInt16LE(0);
    const flags = head.readUInt16LE(2);
    const length = head.readUInt32LE(4);
    const place = { number, type };
    if (flags > OPTIONAL) throw this.problem(place, "has flags that this plinth does not know");
    if (length > MAX_BODY) throw this.problem(place, `is ${length} bytes long, more than any may be`);
    if (at + HEAD_SIZE + length > this.size) throw this.problem(place, "is cut off by the end of the file");
    return { head, type, optional: flags === OPTIONAL, length, isLast: type === RecordType.END };
  }

  private payload(head: Uint8Array, at: number, number: number, type: number, length: number): Uint8Array {
    const body = this.bytes(at + HEAD_SIZE, length, number);
    const place = { number, type };
    const [key, salt] = number === 0 ? [undefined, NO_SALT] : [this.key, this.salt];
    if (key) {
      const payload = key.open(number, head, body);
      if (payload === null) throw this.problem(place, "is damaged: it is not what was encrypted here");
      return payload;
    }
    if (length < CHECK_SIZE) throw this.problem(place, "is too short");
    const payload = body.subarray(0, length - CHECK_SIZE);
    const check = checkOf(salt, number, head, payload);
    if (!check.equals(body.subarray(length - CHECK_SIZE)))
      throw this.problem(place, "is damaged: its check does not fit");
    return payload;
  }

  private checkEnd(at: number, number: number, end: number): void {
    const record = this.read(at, number);
    if (decode(this, record).records !== number) throw this.problem(record, "has another count of records");
    if (end !== this.size) throw damaged(this.file, `has ${this.size - end} bytes behind its end`);
  }

  private readHeader(): { kind: string; salt: Uint8Array; sealed: Message | undefined } {
    const what = "is no file of a snapshot";
    if (this.size < MAGIC.length || !this.bytes(0, MAGIC.length, 0).equals(MAGIC))
      throw damaged(this.file, what);
    this.at = MAGIC.length;
    const record = this.read(this.at, 0);
    if (record.type !== RecordType.HEADER || record.optional) throw this.problem(record, "is not the header");
    const { format, kind, salt, sealed } = decode(this, record);
    if (format !== FORMAT)
      throw this.problem(
        record,
        `says format ${shown(format)}; this plinth reads format ${FORMAT}: use a newer one`,
      );
    if (typeof kind !== "string" || !(salt instanceof Uint8Array) || salt.length !== SALT_SIZE)
      throw this.problem(record, "lacks a field");
    if (sealed !== undefined && !isMap(sealed)) throw this.problem(record, "has a bad field 'sealed'");
    const head = this.head(this.at, 0);
    this.skip({ at: this.at, length: head.length });
    return { kind, salt, sealed };
  }

  private unlock(sealed: Message, secret: Secret | undefined): FileKey {
    const { derivation, stretchSalt, check } = sealed;
    const option = derivation === "scrypt" ? "--passphrase-file FILE" : "--key FILE";
    if (secret === undefined || secret.derivation !== (derivation as Derivation))
      throw damaged(this.file, `is encrypted: give ${option}`);
    if (
      !(stretchSalt instanceof Uint8Array) ||
      stretchSalt.length !== SALT_SIZE ||
      !(check instanceof Uint8Array)
    )
      throw damaged(this.file, "record 0 (header) has a bad field 'sealed'");
    const key = new FileKey(secret, stretchSalt, this.salt);
    if (!key.fits(check))
      throw damaged(this.file, `is encrypted with another key: give its own with ${option}`);
    return key;
  }

  private bytes(at: number, length: number, number: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length;) {
      const got = readSync(this.fd, bytes, done, length - done, at + done);
      if (got === 0) throw damaged(this.file, `is cut off in record ${number}`);
      done += got;
    }
    return bytes;
  }
}

function openFile(file: string): number {
  try {
    return openSync(file, "r");
  } catch (error) {
    throw damaged(file, `cannot be read: ${(error as Error).message}`);
  }
}

/** What a file says, short and without control characters: it may not be of whom it seems. */
export function shown(value: unknown): string {
  return oneLine(value).slice(0, 20);
}

export function isMap(value: unknown): value is Message {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  );
}

/** The payload of a record that is CBOR. */
export function encode(message: Message): Uint8Array {
  return cborEncode(message);
}

/** The one form in which encode() writes it, or it is refused: so what is signed has one meaning. */
export function decode(reader: RecordReader, record: FileRecord): Message {
  const message = cborDecode(record.payload);
  if (message === null || !Buffer.from(cborEncode(message)).equals(record.payload))
    throw reader.problem(record, "is no CBOR map as this format has it");
  return message;
}
