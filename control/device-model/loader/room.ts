// Who has which part of the VM's RAM while it is loaded: nothing is put over anything else.

import { memoryMap, Range, RangeKind } from "../memory-map";
import { figure } from "./fail";

const PAGE: u64 = 4096;
/** Loaders and kernels use 32-bit addresses. */
const REACH: u64 = 1 << 32;

class Claim {
  constructor(
    readonly start: u64,
    readonly end: u64,
    readonly what: string,
  ) {}
}

const claims: Claim[] = [];

/** Whether a range is RAM that anything can be put into. Page 0 is left to what finds nothing better. */
function usable(range: Range): bool {
  return range.kind == RangeKind.RAM && range.start < REACH;
}

function endOf(range: Range): u64 {
  return range.start + range.size;
}

function startOf(range: Range): u64 {
  return max(range.start, PAGE);
}

function claimAt(start: u64, end: u64): Claim | null {
  for (let i = 0; i < claims.length; i++) {
    if (start < claims[i].end && claims[i].start < end) return claims[i];
  }
  return null;
}

function ramText(): string {
  let text = "";
  const map = memoryMap();
  for (let i = 0; i < map.length; i++) {
    if (!usable(map[i])) continue;
    if (text.length > 0) text += " and ";
    text += figure(startOf(map[i])) + ".." + figure(endOf(map[i]));
  }
  return text;
}

/** Why nothing of `size` bytes can be put at `start`; "" if it can be. */
export function whyNotAt(start: u64, size: u64): string {
  if (size == 0) return "";
  const end = start + size;
  const where = figure(start) + ".." + figure(end);
  if (end < start) return where + " goes beyond the last address";
  const claim = claimAt(start, end);
  if (claim !== null) return where + " overlaps " + claim.what;
  const map = memoryMap();
  for (let i = 0; i < map.length; i++) {
    if (usable(map[i]) && start >= startOf(map[i]) && end <= endOf(map[i])) return "";
  }
  return where + " is not in the VM's RAM, " + ramText();
}

/** Takes a part that whyNotAt has found free. */
export function claim(start: u64, size: u64, what: string): void {
  if (size > 0) claims.push(new Claim(start, start + size, what));
}

function alignUp(value: u64, alignment: u64): u64 {
  return (value + alignment - 1) & ~(alignment - 1);
}

/** The lowest free place in [low, high) for `size` bytes, 0: there is none. `alignment` is a power of two. */
export function findLowest(size: u64, alignment: u64, low: u64, high: u64): u64 {
  const map = memoryMap();
  for (let i = 0; i < map.length; i++) {
    if (!usable(map[i])) continue;
    const end = min(min(endOf(map[i]), high), REACH);
    let at = alignUp(max(startOf(map[i]), low), alignment);
    while (at < end && size <= end - at) {
      const taken = claimAt(at, at + size);
      if (taken === null) return at;
      at = alignUp(taken.end, alignment);
    }
  }
  return 0;
}

/** The highest free place in [low, high), 0: there is none. */
export function findHighest(size: u64, alignment: u64, low: u64, high: u64): u64 {
  const map = memoryMap();
  for (let i = map.length - 1; i >= 0; i--) {
    if (!usable(map[i])) continue;
    const start = max(startOf(map[i]), low);
    let end = min(min(endOf(map[i]), high), REACH);
    while (end > start && size <= end - start) {
      const at = (end - size) & ~(alignment - 1);
      if (at < start) break;
      const taken = claimAt(at, at + size);
      if (taken === null) return at;
      end = taken.start;
    }
  }
  return 0;
}
