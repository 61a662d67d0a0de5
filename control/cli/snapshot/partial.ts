// The hashes that an unfinished transfer has been told: with them it goes on instead of asking again.

import { existsSync, renameSync, rmSync } from "node:fs";
import { PlinthError } from "../errors";
import type { SnapshotDocument } from "./document";
import { mapRecord, readMapRecord, WINDOW } from "./map-record";
import { PageMap } from "./page-map";
import { decode, encode, RecordReader, RecordType, RecordWriter } from "./record-file";
import type { Secret } from "./seal";
import { UNFINISHED } from "./pack";

const KIND_PARTIAL = "partial";

/** Page maps that fill up, window by window, on the disk as in memory. */
export class PartialMaps {
  readonly maps: PageMap[];
  private readonly file: string;
  private readonly writer: RecordWriter;
  private readonly done = new Set<string>();

  /** Goes on with what is in `file`, if that is about this snapshot. */
  constructor(file: string, document: SnapshotDocument, secret: Secret | undefined, stretchSalt: Uint8Array) {
    this.file = file;
    this.maps = document.objects.map(({ pages }) => new PageMap(pages));
    const generation = Buffer.from(document.generation, "hex");
    if (existsSync(file)) this.readOld(generation, secret);
    const fresh = file + UNFINISHED;
    rmSync(fresh, { force: true });
    this.writer = new RecordWriter(fresh, KIND_PARTIAL, secret, stretchSalt);
    this.writer.record(RecordType.DOCUMENT, encode({ generation }));
    for (const place of this.done) {
      const [object, first] = place.split(" ").map(Number) as [number, number];
      this.write(object, first);
    }
    renameSync(fresh, file);
  }

  has(object: number, first: number): boolean {
    return this.done.has(`${object} ${first}`);
  }

  /** The window that begins with page `first` is complete in the map. */
  finish(object: number, first: number): void {
    this.done.add(`${object} ${first}`);
    this.write(object, first);
  }

  /** Keeps what there is. */
  close(): void {
    this.writer.abandon();
  }

  /** It is needed no more. */
  remove(): void {
    this.close();
    rmSync(this.file, { force: true });
  }

  private write(object: number, first: number): void {
    this.writer.record(RecordType.MAP, encode(mapRecord(object, first, this.maps[object]!)));
  }

  /** Takes all whole records; what is behind them was not written to its end. */
  private readOld(generation: Buffer, secret: Secret | undefined): void {
    let reader: RecordReader | undefined;
    try {
      reader = new RecordReader(this.file, [KIND_PARTIAL], secret);
      const begin = reader.next();
      if (begin === null || !sameGeneration(decode(reader, begin).generation, generation)) return;
      for (let record = reader.next(); record !== null; record = reader.next()) {
        const { object, first, ...rest } = decode(reader, record);
        const map = typeof object === "number" ? this.maps[object] : undefined;
        if (map === undefined || typeof first !== "number" || first % WINDOW !== 0 || first >= map.pages)
          return;
        const fail = (what: string): Error => reader!.problem(record!, what);
        readMapRecord(
          { object, first, ...rest },
          { object: object as number, first, map, base: undefined },
          fail,
        );
        this.done.add(`${object} ${first}`);
      }
    } catch (error) {
      if (!(error instanceof PlinthError)) throw error;
    } finally {
      reader?.close();
    }
  }
}

function sameGeneration(value: unknown, generation: Buffer): boolean {
  return value instanceof Uint8Array && generation.equals(value);
}
