// Pages by their hash, in one or many files of groups.

import { PlinthError } from "../errors";
import { damaged } from "./damage";
import { type Group, readGroup, readGroupHead } from "./page-group";
import { HASH_SIZE } from "./page-map";
import { RecordReader, RecordType } from "./record-file";
import type { Secret } from "./seal";

export const KIND_PAGES = "pages";
/** Groups that are kept unpacked: pages that follow one another are mostly in one. */
const KEPT = 32;

const keyOf = (hash: Uint8Array): string =>
  Buffer.from(hash.buffer, hash.byteOffset, hash.length).toString("latin1");

/** An index of pages; it holds their places, not their bytes. */
export class PageStore {
  /** What of the files could not be read: pages there are taken for missing. */
  readonly problems: PlinthError[] = [];
  private readonly places = new Map<string, Group>();
  private readonly readers: RecordReader[] = [];
  private readonly unpacked = new Map<Group, Buffer[]>();

  /** Adds a file of pages. `isWhole`: it has to have an end. */
  addFile(file: string, secret: Secret | undefined, isWhole: boolean): void {
    try {
      this.addReader(new RecordReader(file, [KIND_PAGES], secret), isWhole);
    } catch (error) {
      this.note(error, isWhole);
    }
  }

  /** Adds the groups from where a reader stands to its end. */
  addReader(reader: RecordReader, isWhole = true): void {
    this.readers.push(reader);
    try {
      this.scan(reader);
    } catch (error) {
      this.note(error, isWhole);
    }
  }

  has(hash: Uint8Array): boolean {
    return this.places.has(keyOf(hash));
  }

  get size(): number {
    return this.places.size;
  }

  /** The page with a hash, which it has. */
  read(hash: Uint8Array): Buffer {
    const group = this.places.get(keyOf(hash));
    if (group === undefined) throw this.missing();
    const pages = this.unpack(group);
    for (let n = 0; n < pages.length; n++)
      if (Buffer.compare(group.hashes.subarray(n * HASH_SIZE, (n + 1) * HASH_SIZE), hash) === 0)
        return pages[n]!;
    throw this.missing();
  }

  /** Why a page cannot be read: the first thing that is wrong with the files, or that it is in none. */
  missing(what = "a page"): PlinthError {
    const [problem] = this.problems;
    return problem ?? damaged(this.readers[0]?.file ?? "the repository", `lacks ${what}`);
  }

  /** The files, and those of their groups from which pages are read. */
  groups(): Map<RecordReader, Group[]> {
    const found = new Map<RecordReader, Group[]>(this.readers.map((reader) => [reader, []]));
    for (const group of new Set(this.places.values())) found.get(group.reader)!.push(group);
    return found;
  }

  close(): void {
    for (const reader of this.readers) reader.close();
    this.readers.length = 0;
    this.places.clear();
  }

  private unpack(group: Group): Buffer[] {
    const known = this.unpacked.get(group);
    if (known) return known;
    const pages = readGroup(group);
    if (this.unpacked.size >= KEPT) this.unpacked.delete(this.unpacked.keys().next().value!);
    this.unpacked.set(group, pages);
    return pages;
  }

  private scan(reader: RecordReader): void {
    for (;;) {
      const record = reader.next();
      if (record === null) return;
      const hashes = readGroupHead(reader, record);
      const data = reader.nextHead();
      if (data === null || data.type !== RecordType.DATA)
        throw reader.problem(data ?? record, "is not followed by its data");
      reader.skip(data);
      const group: Group = { reader, at: data.at, number: data.number, hashes };
      for (let at = 0; at < hashes.length; at += HASH_SIZE) {
        const key = keyOf(hashes.subarray(at, at + HASH_SIZE));
        if (!this.places.has(key)) this.places.set(key, group);
      }
    }
  }

  /** One that was not written to its end has as many pages as it has. */
  private note(error: unknown, isWhole: boolean): void {
    if (!(error instanceof PlinthError)) throw error;
    if (isWhole) this.problems.push(error);
  }
}
