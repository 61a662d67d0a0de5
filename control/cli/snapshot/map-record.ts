// A piece of a page map as a record: runs of pages that are zero, that are as in the base, and that have a hash here.

import type { Message } from "../../protocol/node/cbor";
import { HASH_SIZE, isZero, type PageMap } from "./page-map";

/** Pages of one record, at most. */
export const WINDOW = 8192;

/** The piece of object number `object` that begins with page `first`. */
export function mapRecord(object: number, first: number, map: PageMap, base?: PageMap): Message {
  const count = Math.min(WINDOW, map.pages - first);
  const runs: number[] = [];
  const hashes: Uint8Array[] = [];
  let last = 2;
  for (let page = first; page < first + count; page++) {
    const hash = map.hash(page);
    const isSame = base !== undefined && base.hash(page).equals(hash);
    const kind = isZero(hash) ? 0 : isSame ? 1 : 2;
    if (runs.length === 0 || kind < last) runs.push(0, 0, 0);
    runs[runs.length - 3 + kind]!++;
    last = kind;
    if (kind === 2) hashes.push(hash);
  }
  return { object, first, count, runs, hashes: Buffer.concat(hashes) };
}

/** Where the next piece belongs, and the map that it fills. */
export interface MapPlace {
  object: number;
  first: number;
  map: PageMap;
  base: PageMap | undefined;
}

/** Fills a map from a record; `fail` makes the error of what is wrong in it. Returns how many pages it covers. */
export function readMapRecord(record: Message, place: MapPlace, fail: (what: string) => Error): number {
  const { object, first, count, runs, hashes } = record;
  const { map, base } = place;
  if (object !== place.object || first !== place.first)
    throw fail("is not the piece of the page map that belongs here");
  if (count !== Math.min(WINDOW, map.pages - place.first)) throw fail("has a bad number of pages");
  if (
    !(hashes instanceof Uint8Array) ||
    !Array.isArray(runs) ||
    runs.length % 3 !== 0 ||
    runs.length > 3 * count
  )
    throw fail("has bad runs of pages");
  let page = place.first;
  let at = 0;
  const end = page + count;
  for (let n = 0; n < runs.length; n++) {
    const length = runs[n];
    if (typeof length !== "number" || length < 0 || page + length > end) throw fail("has bad runs of pages");
    const kind = n % 3;
    if (kind === 1 && length > 0 && base === undefined) throw fail("refers to a base, but there is none");
    for (let stop = page + length; page < stop; page++) {
      if (kind === 1) map.set(page, base!.hash(page));
      if (kind !== 2) continue;
      const hash = hashes.subarray(at, at + HASH_SIZE);
      at += HASH_SIZE;
      if (hash.length !== HASH_SIZE || isZero(hash)) throw fail("has bad hashes");
      map.set(page, hash);
    }
  }
  if (page !== end || at !== hashes.length) throw fail("does not have the pages that it says");
  return count;
}
