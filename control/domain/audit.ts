// The audit log: every command that changes something, with its verdict, and everything that the host decides, each
// chained to the one before. The last 256 are kept; what is older is in the hash before the oldest.
//
//   record n, in the stash, at n % 256:   u32 length, u32 crc-32c of the CBOR, u32: 1 when the hash is there,
//                                         32 bytes: the hash of record n - 1,
//                                         u32: 1 when the hash of its facts is still to come; CBOR
//   hash of a record:                     SHA-256 of the hash of the one before, and of its CBOR; before the first: zeros
//
// What the host decides is taken from the events, and hashes are computed, when the host is idle or somebody asks: no
// command waits for that. Each record says which event was the last in the log, so that a successor goes on there.

import { sharedLoad32, sharedRead, sharedStore32, sharedWrite } from "../lib/binding";
import { CborReader, CborWriter } from "../lib/cbor";
import { crc32c } from "../lib/crc32c";
import { sha256, SHA256_SIZE } from "../lib/sha256";
import {
  AUDIT_HOST,
  FIELD_AT,
  FIELD_BEFORE,
  FIELD_CODE,
  FIELD_DOCUMENT,
  FIELD_EVENT,
  FIELD_FACTS,
  FIELD_FORCE,
  FIELD_FROM,
  FIELD_HASH,
  FIELD_HEAD,
  FIELD_IMAGE,
  FIELD_KIND,
  FIELD_NAME,
  FIELD_NEXT,
  FIELD_OBJECT,
  FIELD_RECORDS,
  FIELD_SEQ,
  FIELD_SPEC,
  FIELD_TENANT,
  FIELD_TEXT,
  FIELD_VM,
  FIELD_WHO,
  Protocol,
} from "../protocol/schema";
import { eventAfter, lastEvent } from "./events";
import { factsTake } from "./facts";
import {
  factsHash,
  FactsPlace,
  factsPlace,
  factsRestore,
  factsSettled,
  factsStore,
  factsTaken,
} from "./facts-log";
import { uptimeMs } from "./host";
import { Outcome } from "./outcome";
import { stashAudit } from "./stash";
import { clean } from "./text";
import { Value } from "./value";

/** Bytes of the log in the stash. */
const SLOT_SIZE: u32 = Protocol.AUDIT_RECORD;
const LENGTH_AT: u32 = 0;
const CRC_AT: u32 = 4;
const CHAINED_AT: u32 = 8;
const BEFORE_AT: u32 = 12;
const FACTS_AT: u32 = 44;
const CBOR_AT: u32 = 48;
const MAX_CBOR: u32 = SLOT_SIZE - CBOR_AT;
const MAX_TEXT = 110;
/** Bytes of records in one reply. */
const PAGE_BUDGET = 3000;
/** So long after a record the host counts as idle. */
const IDLE_MS: u64 = 50;
/** So many events may wait to be recorded. */
const MAX_BEHIND: u64 = 64;
const KEPT: u64 = Protocol.AUDIT_KEPT;

/** What is hashed: the hash before, and the record. */
const work: usize = memory.data(384, 16);
const head: usize = memory.data(32, 16);
const noHash: usize = memory.data(32, 16);
let last: u64 = 0;
let oldest: u64 = 1;
/** The last record whose hash is known: `head`. */
let hashed: u64 = 0;
/** The last event that is in the log. */
let followed: u64 = 0;
/** When something was recorded last. */
let lastAt: u64 = 0;

function addressOf(number: u64): u64 {
  return stashAudit() + (number % KEPT) * SLOT_SIZE;
}

/** Reads the CBOR of a record into `work`, behind the hash; returns its length, 0: it is damaged. */
function readRecord(number: u64): u32 {
  const base = addressOf(number);
  const length = sharedLoad32(base + LENGTH_AT);
  if (length == 0 || length > MAX_CBOR) return 0;
  sharedRead(work + SHA256_SIZE, base + CBOR_AT, length);
  return crc32c(work + SHA256_SIZE, length) == sharedLoad32(base + CRC_AT) ? length : 0;
}

/** Writes `head` as the hash before a record. */
function chain(number: u64): void {
  sharedWrite(addressOf(number) + BEFORE_AT, head, SHA256_SIZE);
  sharedStore32(addressOf(number) + CHAINED_AT, 1);
}

/** Puts the hash of its facts to the end of a record. */
function hashFacts(number: u64): void {
  const base = addressOf(number);
  const length = readRecord(number);
  const place = placeOf(work + SHA256_SIZE, length);
  sharedStore32(base + FACTS_AT, 0);
  if (length == 0 || place == null) return;
  factsHash(place, work + SHA256_SIZE + length - SHA256_SIZE);
  sharedWrite(base + CBOR_AT, work + SHA256_SIZE, length);
  sharedStore32(base + CRC_AT, crc32c(work + SHA256_SIZE, length));
}

/** Where the facts of a record are, or null. */
function placeOf(at: usize, length: u32): FactsPlace | null {
  const reader = new CborReader(at, length);
  if (!reader.find(FIELD_FACTS) || reader.array() != 3) return null;
  const place = new FactsPlace(reader.uint(), reader.uint());
  return reader.ok ? place : null;
}

/** Computes the hashes that are missing. */
function settle(): void {
  while (hashed < last) {
    const number = hashed + 1;
    chain(number);
    if (sharedLoad32(addressOf(number) + FACTS_AT) == 1) hashFacts(number);
    const length = readRecord(number);
    memory.copy(work, head, SHA256_SIZE);
    sha256(head, work, SHA256_SIZE + length);
    hashed = number;
  }
  factsSettled();
}

/** Records the events that are not in the log yet. */
function auditFollow(): void {
  for (;;) {
    const event = eventAfter(followed);
    if (event == null) return;
    followed = event.seq;
    append(AUDIT_HOST, event.kind, event.vm, event.text, 0, event.at, event.facts);
    event.facts = null;
  }
}

/** To be called now and then: does what waits, once the host is idle, or before events get lost. */
export function auditTick(now: u64): void {
  const behind = lastEvent() - followed;
  if (behind == 0 && hashed == last) return;
  const newest = behind > 0 ? eventAfter(lastEvent() - 1) : null;
  const busyUntil = IDLE_MS + max(lastAt, newest != null ? newest.at : 0);
  if (now < busyUntil && behind < MAX_BEHIND) return;
  auditFollow();
  settle();
}

/** Writes the CBOR of a record to `work`; returns its length, 0: it is too long. Made in place, for it is made often. */
function encodeRecord(
  number: u64,
  at: u64,
  who: string,
  kind: string,
  object: string,
  text: string,
  code: u32,
  facts: FactsPlace | null,
): u32 {
  const writer = new CborWriter(work, MAX_CBOR);
  writer.map(facts != null ? 9 : 8);
  writer.text(FIELD_SEQ);
  writer.uint(number);
  writer.text(FIELD_AT);
  writer.uint(at);
  writer.text(FIELD_WHO);
  writer.text(who);
  writer.text(FIELD_KIND);
  writer.text(clean(kind, 20));
  writer.text(FIELD_OBJECT);
  writer.text(clean(object, 30));
  writer.text(FIELD_TEXT);
  writer.text(text);
  writer.text(FIELD_CODE);
  writer.uint(code);
  writer.text(FIELD_EVENT);
  writer.uint(followed);
  if (facts != null) {
    memory.fill(noHash, 0, SHA256_SIZE);
    writer.text(FIELD_FACTS);
    writer.array(3);
    writer.uint(facts.at);
    writer.uint(facts.size);
    writer.bytes(noHash, SHA256_SIZE);
  }
  return writer.ok ? writer.length : 0;
}

function append(
  who: string,
  kind: string,
  object: string,
  text: string,
  code: u32,
  at: u64,
  document: Value | null = null,
): void {
  if (stashAudit() == 0) return;
  if (last - hashed >= KEPT - 1) settle();
  const facts = document != null ? factsPlace(document) : null;
  if (facts != null && factsTaken(facts)) settle();
  if (facts != null) factsStore(facts);
  const number = last + 1;
  lastAt = at;
  let length = encodeRecord(number, at, who, kind, object, clean(text, MAX_TEXT), code, facts);
  // Letters of several bytes: the text is the one part that can be spared.
  if (length == 0) length = encodeRecord(number, at, who, kind, object, "", code, facts);
  const base = addressOf(number);
  sharedStore32(base + LENGTH_AT, 0);
  sharedStore32(base + CHAINED_AT, 0);
  sharedStore32(base + FACTS_AT, facts != null ? 1 : 0);
  sharedWrite(base + CBOR_AT, work, length);
  sharedStore32(base + CRC_AT, crc32c(work, length));
  sharedStore32(base + LENGTH_AT, length);
  last = number;
  if (hashed == number - 1) chain(number);
  if (last - oldest >= KEPT) oldest = last - KEPT + 1;
}

/** Before a command: what was before it comes before it. */
export function auditBegin(): void {
  auditFollow();
  factsTake();
}

/** Records a command of somebody and its verdict. */
export function auditCommand(who: string, op: string, request: Value, outcome: Outcome): void {
  const spec = request.get(FIELD_SPEC);
  const document = request.get(FIELD_DOCUMENT);
  const own = document != null ? document.getText(FIELD_NAME) : request.getText(FIELD_NAME);
  const name = request.getText(
    FIELD_VM,
    own != "" ? own : request.getText(FIELD_TENANT, request.getText(FIELD_IMAGE)),
  );
  const object = name == "" && spec != null ? spec.getText(FIELD_NAME) : name;
  const fault = outcome.fault;
  const now = uptimeMs();
  const facts = factsTake();
  if (fault != null) append(who, op, object, fault.message, fault.code, now, facts);
  else append(who, op, object, request.getBool(FIELD_FORCE) ? "done, by force" : "done", 0, now, facts);
}

/** Takes over the log of the predecessor: the unbroken run up to its newest record. */
export function auditRestore(): void {
  if (stashAudit() == 0) return;
  for (let i: u64 = 0; i < KEPT; i++) {
    sharedRead(work, addressOf(i) + CBOR_AT, 32); /* which begin with the number */
    const number = fieldIn(work, 32, FIELD_SEQ);
    if (number % KEPT == i && sharedLoad32(addressOf(i) + LENGTH_AT) != 0) last = max(last, number);
  }
  const limit = last > KEPT ? last - KEPT : 0;
  while (last > limit && numberAt(last % KEPT) != last) last--;
  if (last == limit) last = 0;
  followed = eventOf(last);
  oldest = last + 1;
  while (oldest > 1 && last - oldest + 1 < KEPT && numberAt((oldest - 1) % KEPT) == oldest - 1) oldest--;
  for (let number = last; number >= oldest; number--) {
    const place = placeOf(work + SHA256_SIZE, readRecord(number));
    if (place == null) continue;
    factsRestore(place);
    break;
  }
  hashed = oldest - 1;
  memory.fill(head, 0, SHA256_SIZE);
  for (let number = last; number >= oldest; number--) {
    if (sharedLoad32(addressOf(number) + CHAINED_AT) != 1) continue;
    sharedRead(head, addressOf(number) + BEFORE_AT, SHA256_SIZE);
    hashed = number - 1;
    break;
  }
}

/** A number in the record of a place; 0: there is none. */
function fieldAt(place: u64, field: string): u64 {
  return fieldIn(work + SHA256_SIZE, readRecord(place), field);
}

function fieldIn(at: usize, length: u32, field: string): u64 {
  const reader = new CborReader(at, length);
  const number = reader.find(field) ? reader.uint() : 0;
  return reader.ok && number < 1 << 52 ? number : 0;
}

function numberAt(place: u64): u64 {
  return fieldAt(place, FIELD_SEQ);
}

/** The last event that was in the log when a record was made. */
function eventOf(number: u64): u64 {
  return min(fieldAt(number, FIELD_EVENT), lastEvent());
}

function bytesOf(at: usize, length: u32): Value {
  const data = new StaticArray<u8>(length);
  memory.copy(changetype<usize>(data), at, length);
  return Value.bytes(data);
}

/** The result of `audit`: records from number `from` on, the hash before the first, and the newest hash. */
export function auditResult(request: Value): Outcome {
  auditFollow();
  settle();
  const records = Value.list();
  let number = min(max(request.getUint(FIELD_FROM), oldest), last + 1);
  const result = Value.map().putUint(FIELD_FROM, number).put(FIELD_RECORDS, records);
  if (number > last) memory.copy(work, head, SHA256_SIZE);
  else sharedRead(work, addressOf(number) + BEFORE_AT, SHA256_SIZE);
  result.put(FIELD_BEFORE, bytesOf(work, SHA256_SIZE));
  let budget: i32 = PAGE_BUDGET;
  for (; number <= last; number++) {
    const length = readRecord(number);
    budget -= length + 3;
    if (budget < 0) break;
    records.add(bytesOf(work + SHA256_SIZE, length));
  }
  result.put(FIELD_HEAD, Value.map().putUint(FIELD_SEQ, last).put(FIELD_HASH, bytesOf(head, SHA256_SIZE)));
  return Outcome.of(number <= last ? result.putUint(FIELD_NEXT, number) : result);
}
