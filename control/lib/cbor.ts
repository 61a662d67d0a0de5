// CBOR (RFC 8949) over raw linear memory: definite lengths, no floats, no tags, bounded depth.
//
// Both classes keep the first error: after it a reader returns zeros and a writer writes nothing, so
// a caller may check `ok` once at the end. Check a hostile message with cborValid() first: then every
// length in it fits, its text is UTF-8 and no map has a key twice. Nothing here allocates but text().

import { CborReader } from "./cbor-reader";

export { CBOR_MAX_DEPTH, Major } from "./cbor-format";
export { CborReader } from "./cbor-reader";
export { CborWriter } from "./cbor-writer";

/** Whether the bytes are exactly one item that this file can read, with no map key twice. */
export function cborValid(at: usize, length: u32): bool {
  const reader = new CborReader(at, length);
  reader.check(0);
  return reader.ok && reader.atEnd;
}
