// From here to a host: all is checked, then the host is asked, then the pages that it does not have are written.

import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import { ErrorCode, PlinthError } from "../errors";
import type { Output } from "../output";
import { Transfer } from "../progress";
import type { SnapshotRow } from "../results";
import { formatSize } from "../values";
import { readDocument } from "./document";
import { Interrupt } from "./interrupt";
import { HASH_SIZE, isZero, PAGE_SIZE, type PageMap, ZERO_PAGE } from "./page-map";
import { pipeline } from "./pipeline";
import type { Source } from "./source";

/** Questions and pages on their way at once. */
const DEPTH = 4;

export interface UploadOptions {
  client: Client;
  source: Source;
  out: Output;
  /** Its name on the host. */
  as: string;
  /** A snapshot of the host from which it differs little. */
  base: { name: string; maps: readonly PageMap[] } | undefined;
}

export interface Uploaded {
  name: string;
  sent: number;
  wasThere: boolean;
}

/** Brings a snapshot whose every byte was checked to a host, or the rest of it. */
export async function upload(options: UploadOptions): Promise<Uploaded> {
  const { client, source, as } = options;
  const { document } = source.manifest;
  const there = (await client.snapshots()).find(({ name }) => name === as);
  if (there) await checkThere(client, there, document.generation);
  if (there?.state === schema.STATE_COMPLETE) return { name: as, sent: 0, wasThere: true };
  const interrupt = new Interrupt();
  try {
    return await new Upload(options, interrupt).run(there);
  } finally {
    interrupt.stop();
  }
}

/** The name must be free, or be that of the same snapshot. */
async function checkThere(client: Client, row: SnapshotRow, generation: string): Promise<void> {
  const fail = (): Error => taken(row.name);
  if (readDocument(await client.showSnapshot(row.name), fail).generation !== generation) throw fail();
}

function taken(name: string): PlinthError {
  return new PlinthError({
    code: ErrorCode.WRONG_STATE,
    message: `the host has another snapshot of the name ${name}`,
    object: name,
    next: `plinth snapshot import ${name} --as NEWNAME, or plinth snapshot rm ${name}`,
  });
}

/** Pages of an object that are written at once. */
interface Piece {
  kind: string;
  map: PageMap;
  pages: number[];
}

class Upload {
  private readonly options: UploadOptions;
  private readonly interrupt: Interrupt;

  constructor(options: UploadOptions, interrupt: Interrupt) {
    this.options = options;
    this.interrupt = interrupt;
  }

  async run(there: SnapshotRow | undefined): Promise<Uploaded> {
    const { client, source, as, base } = this.options;
    const { document, maps } = source.manifest;
    // Of one that was begun it is not said again what it needs: what the host has already is the same there.
    const kinds = document.objects.map(({ kind }) => kind);
    const needs = there ? kinds : await client.beginSnapshot({ ...document.raw, name: as }, base?.name);
    let sent = 0;
    for (const [n, kind] of kinds.entries()) {
      if (!needs.includes(kind)) continue;
      const map = maps[n]!;
      const missing = there
        ? await this.findMissing(kind, map, this.unsure(map, base?.maps[n], there))
        : [...map.changed(base?.maps[n])];
      await this.write(kind, map, missing);
      sent += missing.length;
    }
    await client.endSnapshot(as);
    return { name: as, sent, wasThere: false };
  }

  /** Pages of one that was begun that may not be there yet. */
  private unsure(map: PageMap, base: PageMap | undefined, there: SnapshotRow): number[] {
    if (there.base === this.options.base?.name) return [...map.changed(base)];
    return Array.from({ length: map.pages }, (_, page) => page);
  }

  /** Those of the pages that the host does not have yet. */
  private async findMissing(kind: string, map: PageMap, wanted: readonly number[]): Promise<number[]> {
    const { client, as, out } = this.options;
    const missing: number[] = [];
    const transfer = new Transfer(out, `comparing ${kind}`, wanted.length * PAGE_SIZE);
    try {
      let done = 0;
      const pieces = neighbours({ kind, map, pages: [...wanted] }, schema.Protocol.MAX_HASHES);
      const asked = pipeline(pieces, DEPTH, ({ pages }) =>
        client.snapshotHashes(as, kind, pages[0]!, pages.length),
      );
      for await (const [{ pages }, hashes] of asked) {
        pages.forEach((page, n) => {
          if (!map.hash(page).equals(hashes.subarray(n * HASH_SIZE, (n + 1) * HASH_SIZE))) missing.push(page);
        });
        transfer.at((done += pages.length * PAGE_SIZE));
        this.stopIfAsked("nothing was written yet");
      }
    } finally {
      transfer.end();
    }
    return missing;
  }

  private async write(kind: string, map: PageMap, pages: number[]): Promise<void> {
    const { client, source, as, out } = this.options;
    const total = pages.length * PAGE_SIZE;
    const transfer = new Transfer(out, `writing ${kind}`, total);
    try {
      let done = 0;
      const written = pipeline(pages, DEPTH, async (page) => {
        const hash = map.hash(page);
        await client.writeSnapshot(as, kind, page, isZero(hash) ? ZERO_PAGE : source.page(hash));
      });
      for await (const _ of written) {
        transfer.at((done += PAGE_SIZE));
        if (done < total)
          this.stopIfAsked(`${formatSize(done)} of ${formatSize(total)} of ${kind} are on the host`);
      }
    } finally {
      transfer.end();
    }
  }

  private stopIfAsked(state: string): void {
    const { source, as } = this.options;
    const next = `the same command goes on from there: plinth snapshot import ${source.name}; or plinth snapshot rm ${as}`;
    this.interrupt.check(() => state, next);
  }
}

/** Pieces of pages that follow one another, of at most `size`. */
function* neighbours({ kind, map, pages }: Piece, size: number): Generator<Piece> {
  let piece: number[] = [];
  for (const page of pages) {
    const isNext = piece.length > 0 && piece[piece.length - 1]! + 1 === page && piece.length < size;
    if (piece.length > 0 && !isNext) {
      yield { kind, map, pages: piece };
      piece = [];
    }
    piece.push(page);
  }
  if (piece.length > 0) yield { kind, map, pages: piece };
}
