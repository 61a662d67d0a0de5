// The CBOR of the management protocol: cbor-x in the settings that the control domain can read.

import { Decoder, Encoder } from "cbor-x";
import { Protocol } from "../schema";

/** What a message may hold. Integers above 2^53 are bigint, all others number. */
export type Value = null | boolean | number | bigint | string | Uint8Array | Value[] | Message;
/** One message: a CBOR map with text keys. */
export interface Message {
  [key: string]: Value | undefined;
}

const SETTINGS = {
  useRecords: false,
  variableMapSize: true,
  tagUint8Array: false,
  mapsAsObjects: true,
};
const encoder = new Encoder(SETTINGS);
const decoder = new Decoder(SETTINGS);

/** Encodes one message; throws a TypeError for what the protocol has no place for (fractions, dates, ...). */
export function cborEncode(message: Message): Uint8Array {
  return encoder.encode(toWire(message, 1));
}

/** Decodes one message; null if the bytes are not exactly one map of the protocol's subset of CBOR. */
export function cborDecode(bytes: Uint8Array): Message | null {
  if (bytes.length === 0 || bytes[0]! >> 5 !== 5) return null;
  if (skipItem(bytes, 0, 1) !== bytes.length) return null;
  try {
    return fromWire(decoder.decode(bytes) as Value) as Message;
  } catch {
    return null;
  }
}

/** cbor-x writes integers above 2^32-1 as floats unless they are bigint; undefined fields are left out. */
function toWire(value: Value, depth: number): Value {
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new TypeError(`${value} is not an integer`);
    return Math.abs(value) > 0x7fffffff ? BigInt(value) : value;
  }
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
  if (depth > Protocol.MAX_DEPTH) throw new TypeError("message is nested too deeply");
  if (Array.isArray(value)) return value.map((item) => toWire(item, depth + 1));
  if (Object.getPrototypeOf(value) !== Object.prototype) throw new TypeError("not a plain object");
  const out: Message = {};
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) out[key] = toWire(item, depth + 1);
  }
  return out;
}

function fromWire(value: Value): Value {
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (value === null || typeof value !== "object") return value;
  if (value instanceof Uint8Array) return new Uint8Array(value); // a copy: the frame's buffer is reused
  if (Array.isArray(value)) return value.map(fromWire);
  for (const key of Object.keys(value)) value[key] = fromWire(value[key]!);
  return value;
}

/**
 * Returns where the item at `at` ends, or -1 if it is truncated, nested too deeply or outside of the
 * subset: definite lengths only, no tags, no floats, text keys. cbor-x would accept all of these.
 */
function skipItem(bytes: Uint8Array, at: number, depth: number): number {
  const head = bytes[at];
  if (head === undefined) return -1;
  const major = head >> 5;
  const info = head & 31;
  if (major === 7) return info >= 20 && info <= 22 ? at + 1 : -1;
  if (major === 6 || info > 27) return -1;
  const width = info < 24 ? 0 : 1 << (info - 24);
  let argument = info;
  if (width > 0) {
    if (at + 1 + width > bytes.length) return -1;
    argument = 0;
    for (let n = 0; n < width; n++) argument = argument * 256 + bytes[at + 1 + n]!;
  }
  let next = at + 1 + width;
  if (major <= 1) return next;
  if (argument > bytes.length) return -1;
  if (major <= 3) return next + argument <= bytes.length ? next + argument : -1;
  if (depth > Protocol.MAX_DEPTH) return -1;
  for (let n = 0; n < argument; n++) {
    if (major === 5) {
      if (next >= bytes.length || bytes[next]! >> 5 !== 3) return -1;
      next = skipItem(bytes, next, depth + 1);
      if (next < 0) return -1;
    }
    next = skipItem(bytes, next, depth + 1);
    if (next < 0) return -1;
  }
  return next;
}
