// Where the facts of decisions are kept: one after another in a ring of the stash. A position counts all bytes that were
// ever written; the newest FACTS_KEPT of them are there.

import { sharedRead, sharedWrite } from "../lib/binding";
import { CborWriter } from "../lib/cbor";
import { sha256Blocks, sha256End, sha256Start } from "../lib/sha256";
import {
  ErrorCode,
  FIELD_AT,
  FIELD_DATA,
  FIELD_FROM,
  FIELD_NEXT,
  FIELD_SIZE,
  Protocol,
} from "../protocol/schema";
import { encode } from "./codec";
import { Fault, Outcome } from "./outcome";
import { stashFacts } from "./stash";
import { Value } from "./value";

const KEPT: u64 = Protocol.FACTS_KEPT;
const LIMIT: u32 = Protocol.FACTS_SIZE;
const PIECE: u32 = 4096;

const buffer: usize = memory.data(0x20000, 16); /* FACTS_SIZE */
const piece: usize = memory.data(4096, 64);

/** Behind the newest document, and where those begin whose hash is not computed yet. */
let end: u64 = 0;
let unhashed: u64 = 0;

export class FactsPlace {
  constructor(
    public at: u64,
    public size: u64,
  ) {}
}

function addressOf(at: u64): u64 {
  return stashFacts() + (at % KEPT);
}

/** Finds a place for a document, which factsStore() then takes; null: it is too long. */
export function factsPlace(document: Value): FactsPlace | null {
  const writer = new CborWriter(buffer, LIMIT);
  if (stashFacts() == 0 || !encode(writer, document)) return null;
  const size: u64 = writer.length;
  const split = (end % KEPT) + size > KEPT;
  return new FactsPlace(split ? end + KEPT - (end % KEPT) : end, size);
}

/** Whether a place is that of a document without a hash. */
export function factsTaken(place: FactsPlace): bool {
  return place.at + place.size > unhashed + KEPT;
}

export function factsStore(place: FactsPlace): void {
  if (unhashed == end) unhashed = place.at;
  sharedWrite(addressOf(place.at), buffer, <u32>place.size);
  end = place.at + place.size;
}

/** After a restart: the newest document. Which of those before have their hashes, settle() will find. */
export function factsRestore(place: FactsPlace): void {
  end = place.at + place.size;
  unhashed = end > KEPT ? end - KEPT : 0;
}

/** All have their hashes. */
export function factsSettled(): void {
  unhashed = end;
}

function isKept(place: FactsPlace): bool {
  if (place.size > LIMIT || place.at > end || place.size > end - place.at) return false;
  return place.at + KEPT >= end && (place.at % KEPT) + place.size <= KEPT;
}

/** Writes the SHA-256 of a document to `to`. */
export function factsHash(place: FactsPlace, to: usize): void {
  if (!isKept(place)) return;
  sha256Start();
  let done: u64 = 0;
  for (; place.size - done > PIECE; done += PIECE) {
    sharedRead(piece, addressOf(place.at) + done, PIECE);
    sha256Blocks(piece, PIECE);
  }
  sharedRead(piece, addressOf(place.at) + done, <u32>(place.size - done));
  sha256End(to, piece, <u32>(place.size - done), place.size);
}

/** A piece of a document, from byte `from` on. */
export function factsResult(request: Value): Outcome {
  const place = new FactsPlace(request.getUint(FIELD_AT), request.getUint(FIELD_SIZE));
  const from = request.getUint(FIELD_FROM);
  if (!isKept(place) || from >= place.size)
    return Outcome.fail(new Fault(ErrorCode.NOT_FOUND, "these facts are no longer kept", "audit", "audit"));
  const length = <u32>min<u64>(place.size - from, Protocol.MAX_CHUNK);
  const data = new StaticArray<u8>(length);
  sharedRead(changetype<usize>(data), addressOf(place.at) + from, length);
  const result = Value.map().put(FIELD_DATA, Value.bytes(data));
  return Outcome.of(from + length < place.size ? result.putUint(FIELD_NEXT, from + length) : result);
}
