// A window through which this domain sees a memory object, a few pages at a time.

import { CAP_SELF, PAGE_SIZE, Right } from "../gen/abi";
import { memMap, memUnmap, sharedRead, sharedWrite } from "../lib/binding";
import { GPA_SNAPSHOT } from "./slots";

/** Pages that are seen at once, at most. */
export const WINDOW_PAGES: u64 = 256;

/** Reads bytes of an object, not more than there are. False: they cannot be seen. */
export function windowRead(slot: u32, at: u64, to: usize, length: u32): bool {
  const first = at / PAGE_SIZE;
  const pages = (at + length + PAGE_SIZE - 1) / PAGE_SIZE - first;
  if (pages > WINDOW_PAGES || memMap(CAP_SELF, slot, GPA_SNAPSHOT, first, pages, Right.READ) < 0)
    return false;
  sharedRead(to, GPA_SNAPSHOT + (at - first * PAGE_SIZE), length);
  memUnmap(CAP_SELF, GPA_SNAPSHOT, pages);
  return true;
}

/** Writes bytes to an object. */
export function windowWrite(slot: u32, at: u64, from: usize, length: u32): bool {
  const first = at / PAGE_SIZE;
  const pages = (at + length + PAGE_SIZE - 1) / PAGE_SIZE - first;
  const access: u32 = Right.READ | Right.WRITE;
  if (pages > WINDOW_PAGES || memMap(CAP_SELF, slot, GPA_SNAPSHOT, first, pages, access) < 0) return false;
  sharedWrite(GPA_SNAPSHOT + (at - first * PAGE_SIZE), from, length);
  memUnmap(CAP_SELF, GPA_SNAPSHOT, pages);
  return true;
}

/** Shows the first pages of an object, to be written, until windowClose(). Returns a hypercall's result. */
export function windowOpen(slot: u32, pages: u64): i64 {
  return memMap(CAP_SELF, slot, GPA_SNAPSHOT, 0, pages, Right.READ | Right.WRITE);
}

export function windowClose(pages: u64): void {
  memUnmap(CAP_SELF, GPA_SNAPSHOT, pages);
}
