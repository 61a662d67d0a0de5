// Writes files of pages: groups of pages, in files of bounded size that get their final name when they are whole.

import { randomBytes } from "node:crypto";
import { renameSync } from "node:fs";
import { join } from "node:path";
import { GROUP, writeGroup } from "./page-group";
import { PAGE_SIZE } from "./page-map";
import { RecordWriter } from "./record-file";
import type { Secret } from "./seal";

export const PACK = ".pages";
/** Of a file that is being written, or whose writer was ended. */
export const UNFINISHED = ".part";
/** Pages of one file. */
const MAX_PAGES = (256 << 20) / PAGE_SIZE;

/** Collects pages, and writes them in groups. */
export class GroupWriter {
  private readonly writer: RecordWriter;
  private hashes: Uint8Array[] = [];
  private pages: Uint8Array[] = [];
  count = 0;

  constructor(writer: RecordWriter) {
    this.writer = writer;
  }

  add(hash: Uint8Array, page: Uint8Array): void {
    this.hashes.push(Buffer.from(hash));
    this.pages.push(Buffer.from(page));
    this.count++;
    if (this.pages.length === GROUP) this.flush();
  }

  flush(): void {
    if (this.pages.length > 0) writeGroup(this.writer, this.hashes, this.pages);
    this.hashes = [];
    this.pages = [];
  }
}

/** Writes pages into new files of a folder. */
export class PackWriter {
  private readonly folder: string;
  private readonly kind: string;
  private readonly secret: Secret | undefined;
  private readonly stretchSalt: Uint8Array;
  private open: { writer: RecordWriter; groups: GroupWriter } | undefined;
  pages = 0;

  constructor(folder: string, kind: string, secret: Secret | undefined, stretchSalt: Uint8Array) {
    this.folder = folder;
    this.kind = kind;
    this.secret = secret;
    this.stretchSalt = stretchSalt;
  }

  add(hash: Uint8Array, page: Uint8Array): void {
    this.open ??= this.begin();
    this.open.groups.add(hash, page);
    this.pages++;
    if (this.open.groups.count >= MAX_PAGES) this.close();
  }

  /** What was added is on the disk; more may be added, in a new file. */
  close(): void {
    if (this.open === undefined) return;
    const { writer, groups } = this.open;
    this.open = undefined;
    groups.flush();
    writer.end();
    renameSync(writer.file, writer.file.slice(0, -UNFINISHED.length));
  }

  private begin(): { writer: RecordWriter; groups: GroupWriter } {
    const file = join(this.folder, `${randomBytes(8).toString("hex")}${PACK}${UNFINISHED}`);
    const writer = new RecordWriter(file, this.kind, this.secret, this.stretchSalt);
    return { writer, groups: new GroupWriter(writer) };
  }
}
