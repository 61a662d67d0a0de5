// From a host into the repository: the hashes of all pages first, then the pages that the repository lacks.

import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import { ErrorCode, PlinthError } from "../errors";
import type { Output } from "../output";
import { Transfer } from "../progress";
import { formatSize } from "../values";
import { VERSION } from "../version";
import { readDocument, type SnapshotDocument } from "./document";
import { Interrupt } from "./interrupt";
import type { Manifest } from "./manifest";
import { WINDOW } from "./map-record";
import { HASH_SIZE, PAGE_SIZE, type PageMap, sha256 } from "./page-map";
import { PartialMaps } from "./partial";
import { PAGES_READ, pipeline } from "./pipeline";
import { askRanges, type PlaceOnHost, type Range } from "./ranges";
import type { Repository } from "./repository";

/** Questions on their way at once. */
const DEPTH = 4;

/** What a transfer needs, and what came of it. */
export interface DownloadOptions {
  client: Client;
  repository: Repository;
  out: Output;
  /** The snapshot on the host, and its name in the repository. */
  name: string;
  as: string;
  /** A snapshot of the repository, that is on the host too: only what differs is asked for and said. */
  base: string | undefined;
  /** A snapshot of the repository on which the manifest rests instead of that, null: it rests on none. */
  rests?: string | null;
}

export interface Downloaded {
  manifest: Manifest;
  /** Pages that had to be sent, and all that are not zero. */
  sent: number;
  pages: number;
  /** It was there already. */
  wasThere: boolean;
}

/** Brings a snapshot into the repository, or the rest of it. */
export async function download(options: DownloadOptions): Promise<Downloaded> {
  const { client, repository, name, as } = options;
  const document = readDocument(await client.showSnapshot(name), (what) => bad(name, `its document ${what}`));
  const row = (await client.snapshots()).find((candidate) => candidate.name === name);
  if (row?.state !== schema.STATE_COMPLETE) throw notWhole(name);
  const known = repository.has(as) ? repository.read(as) : undefined;
  if (known && known.document.generation !== document.generation) throw nameTaken(as, repository.folder);
  if (known && isComplete(known, repository))
    return { manifest: known, sent: 0, pages: countUsed(known), wasThere: true };
  const interrupt = new Interrupt();
  try {
    return await new Download(options, document, interrupt).run();
  } finally {
    interrupt.stop();
  }
}

class Download {
  private readonly options: DownloadOptions;
  private readonly document: SnapshotDocument;
  private readonly interrupt: Interrupt;
  private readonly base: Manifest | undefined;

  constructor(options: DownloadOptions, document: SnapshotDocument, interrupt: Interrupt) {
    this.options = options;
    this.document = document;
    this.interrupt = interrupt;
    if (options.base !== undefined) this.base = options.repository.read(options.base);
  }

  async run(): Promise<Downloaded> {
    const { repository, client, as } = this.options;
    const { document, base } = this;
    const onHost = base && (await this.baseOnHost(base));
    const partial = new PartialMaps(
      repository.partialFile(as),
      document,
      repository.secret,
      repository.stretchSalt,
    );
    try {
      await this.hashAll(partial, onHost);
      const sent = await this.readMissing(partial.maps);
      const { host } = await client.status();
      const origin = { host, plinth: VERSION, exported: Math.floor(Date.now() / 1000) };
      const manifest = repository.save(as, {
        document: document.raw,
        origin,
        maps: partial.maps,
        base: this.foundation,
      });
      if (!isComplete(manifest, repository))
        throw repository.pages.missing(`pages of ${as}, which were there before`);
      partial.remove();
      return { manifest, sent, pages: countUsed(manifest), wasThere: false };
    } catch (error) {
      partial.close();
      throw error;
    }
  }

  /** What the manifest says only the differences from. */
  private get foundation(): Manifest | undefined {
    const { rests, repository } = this.options;
    if (rests === undefined) return this.base;
    const manifest = rests === null ? undefined : repository.read(rests);
    return manifest && shapeOf(manifest.document) === shapeOf(this.document) ? manifest : undefined;
  }

  /** The base's name on the host, if it is the same snapshot there, with the same objects. */
  private async baseOnHost(base: Manifest): Promise<string | undefined> {
    if (shapeOf(base.document) !== shapeOf(this.document))
      throw bad(base.document.name, `it has other objects than ${this.document.name}`);
    for (const row of await this.options.client.snapshots()) {
      if (row.state !== schema.STATE_COMPLETE || row.vm !== base.document.vm) continue;
      const raw = await this.options.client.showSnapshot(row.name);
      const generation =
        raw.generation instanceof Uint8Array ? Buffer.from(raw.generation).toString("hex") : "";
      if (generation === base.document.generation) return row.name;
    }
    return undefined;
  }

  /** Asks for the hashes of all pages that may differ from zero, or from the base. */
  private async hashAll(partial: PartialMaps, baseName: string | undefined): Promise<void> {
    const { document, options, base } = this;
    const total = document.objects.reduce((sum, { pages }) => sum + pages * PAGE_SIZE, 0);
    const transfer = new Transfer(options.out, `comparing ${options.name}`, total);
    try {
      let done = 0;
      for (const [object, { kind, pages }] of document.objects.entries()) {
        const map = partial.maps[object]!;
        const ranges = new RangeReader(options.client, { name: options.name, kind, pages, base: baseName });
        for (let first = 0; first < pages; first += WINDOW) {
          const end = Math.min(pages, first + WINDOW);
          const start = done;
          if (!partial.has(object, first)) {
            if (baseName !== undefined) copyPages(base!.maps[object]!, map, first, end);
            await this.hashRanges(kind, await ranges.within(first, end), map, (page) =>
              transfer.at(start + (page - first) * PAGE_SIZE),
            );
            partial.finish(object, first);
          }
          done += (end - first) * PAGE_SIZE;
          transfer.at(done);
        }
      }
    } finally {
      transfer.end();
    }
  }

  private async hashRanges(
    kind: string,
    ranges: readonly Range[],
    map: PageMap,
    told: (page: number) => void,
  ): Promise<void> {
    const { client, name } = this.options;
    const pieces = cut(ranges, schema.Protocol.MAX_HASHES);
    const asked = pipeline(pieces, DEPTH, ({ first, count }) =>
      client.snapshotHashes(name, kind, first, count),
    );
    for await (const [{ first, count }, hashes] of asked) {
      if (!(hashes instanceof Uint8Array) || hashes.length !== count * HASH_SIZE)
        throw bad(
          name,
          `the host has answered ${String(hashes?.length)} bytes for ${count} hashes of ${kind}`,
        );
      for (let n = 0; n < count; n++) map.set(first + n, hashes.subarray(n * HASH_SIZE, (n + 1) * HASH_SIZE));
      told(first + count);
      this.stopIfAsked("no page was sent");
    }
  }

  /** Asks for the pages that the repository does not have; returns how many these were. */
  private async readMissing(maps: readonly PageMap[]): Promise<number> {
    const { client, name, repository, out } = this.options;
    const missing = findMissing(this.document, maps, repository);
    const total = missing.reduce((sum, { count }) => sum + count, 0) * PAGE_SIZE;
    if (total === 0) return 0;
    const transfer = new Transfer(out, `reading ${name}`, total);
    const writer = repository.packWriter();
    let bytes = 0;
    try {
      const asked = pipeline(cut(missing, 1), PAGES_READ, ({ kind, first }) =>
        client.readSnapshot(name, kind, first),
      );
      for await (const [{ object, kind, first }, data] of asked) {
        const hash = maps[object]!.hash(first);
        if (!(data instanceof Uint8Array) || data.length !== PAGE_SIZE || !sha256(data).equals(hash))
          throw bad(name, `page ${first} of ${kind} is not what its hash says`);
        writer.add(hash, data);
        transfer.at((bytes += PAGE_SIZE));
        this.stopIfAsked(`${formatSize(bytes)} of ${formatSize(total)} were read and are kept`);
      }
    } finally {
      // Also after an error: what was read is not read again.
      writer.close();
      transfer.end();
    }
    return total / PAGE_SIZE;
  }

  private stopIfAsked(state: string): void {
    this.interrupt.check(
      () => state,
      `the same command goes on from there: plinth snapshot export ${this.options.name}`,
    );
  }
}

/** What the host says of an object's pages, window by window. */
class RangeReader {
  private found: Range[] = [];
  private next = 0;
  private readonly client: Client;
  private readonly place: PlaceOnHost;

  constructor(client: Client, place: PlaceOnHost) {
    this.client = client;
    this.place = place;
  }

  /** The parts of ranges from page `first` to before `end`; windows are asked for in their order. */
  async within(first: number, end: number): Promise<Range[]> {
    if (this.next < first) this.next = first;
    while (this.next < end) {
      const { ranges, next } = await askRanges(this.client, this.place, this.next);
      this.found.push(...ranges);
      this.next = next;
    }
    this.found = this.found.filter((range) => range.first + range.count > first);
    return this.found
      .map((range) => {
        const from = Math.max(first, range.first);
        return { first: from, count: Math.min(end, range.first + range.count) - from };
      })
      .filter(({ count }) => count > 0);
  }
}

/** Which objects it has, and how large they are: only of the same is there a difference. */
export function shapeOf(of: Pick<SnapshotDocument, "objects">): string {
  return of.objects.map(({ kind, pages }) => `${kind} ${pages}`).join();
}

function copyPages(from: PageMap, to: PageMap, first: number, end: number): void {
  for (let page = first; page < end; page++) to.set(page, from.hash(page));
}

/** Ranges in pieces of at most `size` pages. */
function* cut<T extends Range>(ranges: Iterable<T>, size: number): Generator<T> {
  for (const range of ranges)
    for (let done = 0; done < range.count; done += size)
      yield { ...range, first: range.first + done, count: Math.min(size, range.count - done) };
}

type ObjectRange = Range & { object: number; kind: string };

/** One place for each page that the repository lacks. */
function findMissing(
  { objects }: SnapshotDocument,
  maps: readonly PageMap[],
  { pages: store }: Repository,
): ObjectRange[] {
  const ranges: ObjectRange[] = [];
  const seen = new Set<string>();
  for (const [object, { kind }] of objects.entries()) {
    for (const page of maps[object]!.used()) {
      const hash = maps[object]!.hash(page);
      const key = hash.toString("latin1");
      if (seen.has(key) || store.has(hash)) continue;
      seen.add(key);
      const last = ranges[ranges.length - 1];
      if (last?.object === object && last.first + last.count === page) last.count++;
      else ranges.push({ object, kind, first: page, count: 1 });
    }
  }
  return ranges;
}

/** Whether the repository has every page of a snapshot. */
function isComplete({ maps }: Manifest, { pages: store }: Repository): boolean {
  for (const map of maps) for (const page of map.used()) if (!store.has(map.hash(page))) return false;
  return true;
}

function countUsed({ maps }: Manifest): number {
  let pages = 0;
  for (const map of maps) for (const _ of map.used()) pages++;
  return pages;
}

function bad(name: string, what: string): PlinthError {
  return new PlinthError({
    code: ErrorCode.INTEGRITY,
    message: `${name}: ${what}`,
    object: name,
    next: `plinth snapshot show ${name}`,
  });
}

function notWhole(name: string): PlinthError {
  const message = `${name} has not come whole to the host`;
  return new PlinthError({ code: ErrorCode.WRONG_STATE, message, object: name, next: "plinth snapshot ls" });
}

function nameTaken(name: string, folder: string): PlinthError {
  const message = `${folder} has another snapshot of the name ${name}`;
  return new PlinthError({
    code: ErrorCode.WRONG_STATE,
    message,
    object: name,
    next: `plinth snapshot export ${name} --as NEWNAME, or plinth snapshot rm ${name} --local`,
  });
}
