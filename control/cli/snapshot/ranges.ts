// Where an object of a snapshot has pages, or differs from that of another one: what a host says of it, checked.

import type { Client } from "../client";
import { ErrorCode, PlinthError } from "../errors";

/** Pages that follow one another. */
export interface Range {
  first: number;
  count: number;
}

/** An object of a snapshot on a host; `base`: another snapshot there, only what differs from it is of interest. */
export interface PlaceOnHost {
  name: string;
  kind: string;
  pages: number;
  base: string | undefined;
}

/** Asks once, from page `from` on; `next` is where to go on, `pages` when all is said. */
export async function askRanges(
  client: Client,
  { name, kind, pages, base }: PlaceOnHost,
  from: number,
): Promise<{ ranges: Range[]; next: number }> {
  const { ranges, next } = (await client.snapshotPages(name, kind, from, base)) as {
    ranges: unknown;
    next: unknown;
  };
  const bad = new PlinthError({
    code: ErrorCode.INTEGRITY,
    message: `${name}: the host has answered bad ranges of pages of ${kind}`,
    object: name,
    next: `plinth snapshot show ${name}`,
  });
  if (!Array.isArray(ranges) || ranges.length % 2 !== 0) throw bad;
  const found: Range[] = [];
  let end = from;
  for (let n = 0; n < ranges.length; n += 2) {
    const [first, count] = [ranges[n] as unknown, ranges[n + 1] as unknown];
    if (typeof first !== "number" || typeof count !== "number") throw bad;
    if (first < end || count < 1 || first + count > pages) throw bad;
    found.push({ first, count });
    end = first + count;
  }
  if (typeof next !== "number" || next <= from || next < end || next > pages) throw bad;
  return { ranges: found, next };
}

/** All of them. */
export async function allRanges(client: Client, place: PlaceOnHost): Promise<Range[]> {
  const all: Range[] = [];
  for (let from = 0; from < place.pages;) {
    const { ranges, next } = await askRanges(client, place, from);
    all.push(...ranges);
    from = next;
  }
  return all;
}
