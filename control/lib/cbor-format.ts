// What the CBOR reader and writer share.

/** Deepest nesting of arrays and maps. */
export const CBOR_MAX_DEPTH: u32 = 8;

/** Major types. */
export const enum Major {
  UINT = 0,
  NEGATIVE = 1,
  BYTES = 2,
  TEXT = 3,
  ARRAY = 4,
  MAP = 5,
  TAG = 6,
  SIMPLE = 7,
}
