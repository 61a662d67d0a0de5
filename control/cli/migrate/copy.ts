// Copies pages of a snapshot on one host into an incoming one on another, and checks that they have come.

import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import { ErrorCode, PlinthError } from "../errors";
import { type SnapshotObject } from "../snapshot/document";
import { HASH_SIZE, isZero, PAGE_SIZE, sha256 } from "../snapshot/page-map";
import { InFlight, PAGES_READ, pipeline } from "../snapshot/pipeline";
import { allRanges, type Range } from "../snapshot/ranges";

/** Questions on their way to one host, and pages to the other, at once. */
const DEPTH = 4;

/** Pages of an object that follow one another. */
export type ObjectRange = Range & { kind: string };

/** From which snapshot to which. */
export interface Route {
  from: Client;
  to: Client;
  name: string;
  incoming: string;
}

/** Where a snapshot has pages, or differs from the one before. */
export async function findRanges(
  client: Client,
  name: string,
  objects: readonly SnapshotObject[],
  base?: string,
): Promise<ObjectRange[]> {
  const found: ObjectRange[] = [];
  for (const { kind, pages } of objects)
    for (const range of await allRanges(client, { name, kind, pages, base })) found.push({ kind, ...range });
  return found;
}

export function countPages(ranges: readonly ObjectRange[]): number {
  return ranges.reduce((sum, { count }) => sum + count, 0);
}

/** The pages of ranges that are not zero: the other host has zeros to begin with. */
export async function withoutZeros(
  { from, name }: Route,
  ranges: readonly ObjectRange[],
  told: (pages: number) => void,
): Promise<ObjectRange[]> {
  const used: ObjectRange[] = [];
  const asked = pipeline(cut(ranges, schema.Protocol.MAX_HASHES), DEPTH, ({ kind, first, count }) =>
    from.snapshotHashes(name, kind, first, count),
  );
  for await (const [{ kind, first, count }, hashes] of asked) {
    if (hashes.length !== count * HASH_SIZE) throw bad(name, `bad hashes of ${kind}`);
    for (let n = 0; n < count; n++) {
      if (isZero(hashes.subarray(n * HASH_SIZE, (n + 1) * HASH_SIZE))) continue;
      const last = used[used.length - 1];
      if (last?.kind === kind && last.first + last.count === first + n) last.count++;
      else used.push({ kind, first: first + n, count: 1 });
    }
    told(count);
  }
  return used;
}

/** Copies pages; then asks the other host for their hashes. */
export async function copyPages(
  route: Route,
  ranges: readonly ObjectRange[],
  told: (pages: number) => void,
): Promise<void> {
  const { from, to, name, incoming } = route;
  let batch: { range: ObjectRange; hashes: Buffer[] } | undefined;
  const written = new InFlight(DEPTH);
  const check = async (): Promise<void> => {
    if (batch === undefined) return;
    await written.end();
    const { kind, first } = batch.range;
    const theirs = await to.snapshotHashes(incoming, kind, first, batch.hashes.length);
    if (!Buffer.concat(batch.hashes).equals(theirs))
      throw bad(
        incoming,
        `pages ${first} to ${first + batch.hashes.length - 1} of ${kind} have not come as they were`,
      );
    batch = undefined;
  };
  const asked = pipeline(cut(ranges, 1), PAGES_READ, ({ kind, first }) =>
    from.readSnapshot(name, kind, first),
  );
  for await (const [range, data] of asked) {
    if (data.length !== PAGE_SIZE)
      throw bad(name, `page ${range.first} of ${range.kind} has ${data.length} bytes`);
    const isNext =
      batch !== undefined &&
      batch.range.kind === range.kind &&
      batch.range.first + batch.hashes.length === range.first &&
      batch.hashes.length < schema.Protocol.MAX_HASHES;
    if (!isNext) {
      await check();
      batch = { range, hashes: [] };
    }
    batch!.hashes.push(sha256(data));
    await written.add(to.writeSnapshot(incoming, range.kind, range.first, data));
    told(1);
  }
  await check();
}

function* cut(ranges: readonly ObjectRange[], size: number): Generator<ObjectRange> {
  for (const { kind, first, count } of ranges)
    for (let done = 0; done < count; done += size)
      yield { kind, first: first + done, count: Math.min(size, count - done) };
}

function bad(name: string, what: string): PlinthError {
  const message = `${name}: ${what}`;
  return new PlinthError({
    code: ErrorCode.INTEGRITY,
    message,
    object: name,
    next: `plinth snapshot show ${name}`,
  });
}
