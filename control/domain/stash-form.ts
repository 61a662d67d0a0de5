// What is in the stash: one document of CBOR in pieces, each with its version, so that a change rewrites one piece.
//
//   0            of the host: its name, its tenants with their numbers, its rules, mitigations and denials
//   1 + n        of VM n
//   129          of the control component's image: upgrade.ts
//
// `version` is that of the writer, `needs` the oldest reader that understands it. Readers take defaults for what is
// missing and ignore what they do not know. Who writes what older readers must not ignore raises `needs`, but not
// while its image is on trial, for the image before may have to read it.

import { FIELD_NEEDS, FIELD_VERSION, Specification } from "../protocol/schema";
import { stashRead } from "./stash";
import { Value } from "./value";

const STASH_VERSION: u64 = 3;
const STASH_NEEDS: u64 = 3;
/** Older ones had their objects in other slots. */
const STASH_OLDEST: u64 = 3;

export const HOST_DOCUMENT: u32 = 0;
export const CONTROL_DOCUMENT: u32 = 1 + Specification.MAX_VMS;

export function vmDocument(index: u32): u32 {
  return HOST_DOCUMENT + 1 + index;
}

/** Begins a piece. */
export function stashed(value: Value): Value {
  return value.putUint(FIELD_VERSION, STASH_VERSION).putUint(FIELD_NEEDS, STASH_NEEDS);
}

function needsOf(value: Value): u64 {
  return value.getUint(FIELD_NEEDS, value.getUint(FIELD_VERSION, u64.MAX_VALUE));
}

/** A piece that this component understands, or null. */
export function unstash(document: u32): Value | null {
  const value = stashRead(document);
  return value != null && needsOf(value) <= STASH_VERSION ? value : null;
}

/** Why this component cannot take over, "" if it can. */
export function stashProblem(): string {
  const value = stashRead(HOST_DOCUMENT);
  if (value == null) return "";
  const theirs = value.getUint(FIELD_VERSION);
  if (theirs < STASH_OLDEST)
    return (
      "what is handed over is of version " +
      theirs.toString() +
      ", this component needs " +
      STASH_OLDEST.toString()
    );
  if (needsOf(value) <= STASH_VERSION) return "";
  const ours = STASH_VERSION.toString();
  return "what is handed over needs version " + needsOf(value).toString() + ", this component has " + ours;
}
