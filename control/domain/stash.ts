// The stash: a memory object in which the control domain keeps what a successor must know. It is in a fixed
// capability slot, so it outlives the linear memory of this component.
//
//   documents: two copies of each     u32 magic, u32 sequence, u32 length, u32 crc-32c of the CBOR, CBOR
//              the valid copy with the higher sequence counts; the other is written
//   events:    256 of 256 bytes       u32 length, u32 crc-32c, CBOR
//   audit log: 256 of 384 bytes       audit.ts
//   facts: 256 KiB                    facts-log.ts
//
// What the documents are: stash-form.ts.
// A successor takes nothing from here on trust: each piece is checked like a message from a stranger.

import { ObjectType, PAGE_SIZE, Right, CAP_SELF } from "../gen/abi";
import { CapInfo } from "../gen/layout";
import {
  capDrop,
  capInfo,
  memCreate,
  memMap,
  memUnmap,
  sharedLoad32,
  sharedRead,
  sharedStore32,
  sharedWrite,
} from "../lib/binding";
import { CborReader, CborWriter } from "../lib/cbor";
import { crc32c } from "../lib/crc32c";
import { FIELD_SEQ, Protocol, Specification } from "../protocol/schema";
import { decode, encode } from "./codec";
import { GPA_STASH, SLOT_STASH } from "./slots";
import { Value } from "./value";

const MAGIC: u32 = 0x31535450; /* "PTS1" */
const COPY_SIZE: u32 = 0x1400;
const HEADER_SIZE: u32 = 16;
const EVENTS: u64 = <u64>(2 + Specification.MAX_VMS) * 2 * COPY_SIZE;
const RECORD_SIZE: u32 = 256;
const RECORD_HEADER: u32 = 8;
const AUDIT: u64 = EVENTS + <u64>Protocol.EVENTS_KEPT * RECORD_SIZE;
const FACTS: u64 = AUDIT + <u64>Protocol.AUDIT_KEPT * Protocol.AUDIT_RECORD;
const PAGES: u64 = (FACTS + Protocol.FACTS_KEPT + PAGE_SIZE - 1) / PAGE_SIZE;

const scratch: usize = memory.data(0x1400, 16);
const capPage: usize = memory.data(96, 16);
let usable: bool = false;

/** Finds or makes the stash. True: it was there, so this is a restart. */
export function stashOpen(): bool {
  const found = capInfo(SLOT_STASH, capPage) >= 0 && changetype<CapInfo>(capPage).type == ObjectType.MEMORY;
  if (!found && memCreate(SLOT_STASH, PAGES) < 0) return false;
  memUnmap(CAP_SELF, GPA_STASH, PAGES);
  usable = memMap(CAP_SELF, SLOT_STASH, GPA_STASH, 0, PAGES, Right.READ | Right.WRITE) >= 0;
  return found;
}

/** Memory the stash takes. */
export function stashBytes(): u64 {
  return usable ? PAGES * PAGE_SIZE : 0;
}

function copyAddress(document: u32, copy: u32): u64 {
  return GPA_STASH + (2 * document + copy) * COPY_SIZE;
}

/** The sequence of a copy; 0: there is none. */
function sequenceOf(document: u32, copy: u32): u32 {
  const base = copyAddress(document, copy);
  return sharedLoad32(base) == MAGIC ? sharedLoad32(base + 4) : 0;
}

function newerCopy(document: u32): u32 {
  return sequenceOf(document, 0) > sequenceOf(document, 1) ? 0 : 1;
}

function readCopy(document: u32, copy: u32): Value | null {
  const base = copyAddress(document, copy);
  const length = sharedLoad32(base + 8);
  if (sharedLoad32(base) != MAGIC || length > COPY_SIZE - HEADER_SIZE) return null;
  sharedRead(scratch, base + HEADER_SIZE, length);
  if (crc32c(scratch, length) != sharedLoad32(base + 12)) return null;
  return decode(scratch, length);
}

/** The newest valid copy of a document, or null. */
export function stashRead(document: u32): Value | null {
  if (!usable) return null;
  const newer = newerCopy(document);
  const value = readCopy(document, newer);
  return value != null ? value : readCopy(document, newer ^ 1);
}

/** Writes a document. False: too long, or no stash; then the one before stays. */
export function stashWrite(document: u32, value: Value): bool {
  if (!usable) return false;
  const writer = new CborWriter(scratch, COPY_SIZE - HEADER_SIZE);
  if (!encode(writer, value)) return false;
  const newer = newerCopy(document);
  const base = copyAddress(document, newer ^ 1);
  sharedStore32(base, 0);
  sharedWrite(base + HEADER_SIZE, scratch, writer.length);
  sharedStore32(base + 8, writer.length);
  sharedStore32(base + 12, crc32c(scratch, writer.length));
  sharedStore32(base + 4, sequenceOf(document, newer) + 1);
  sharedStore32(base, MAGIC);
  return true;
}

/** Forgets a document: the older copy first, so that it never counts again. */
export function stashErase(document: u32): void {
  if (!usable) return;
  const newer = newerCopy(document);
  sharedStore32(copyAddress(document, newer ^ 1), 0);
  sharedStore32(copyAddress(document, newer), 0);
}

function recordAddress(number: u64): u64 {
  return EVENTS + GPA_STASH + (number % Protocol.EVENTS_KEPT) * RECORD_SIZE;
}

/** Keeps an event under its sequence number; one that is too long is lost at a restart. */
export function stashEvent(number: u64, value: Value): void {
  if (!usable) return;
  const writer = new CborWriter(scratch, RECORD_SIZE - RECORD_HEADER);
  const length = encode(writer, value) ? writer.length : 0;
  const base = recordAddress(number);
  sharedWrite(base + RECORD_HEADER, scratch, length);
  sharedStore32(base + 4, crc32c(scratch, length));
  sharedStore32(base, length);
}

/** Reads the event of a place into `scratch`; returns its length, 0: there is none. */
function readEvent(place: u64): u32 {
  const base = recordAddress(place);
  const length = sharedLoad32(base);
  if (length == 0 || length > RECORD_SIZE - RECORD_HEADER) return 0;
  sharedRead(scratch, base + RECORD_HEADER, length);
  return crc32c(scratch, length) == sharedLoad32(base + 4) ? length : 0;
}

/** The number of the newest event that is kept; 0: there is none. */
export function stashLastEvent(): u64 {
  let last: u64 = 0;
  for (let place: u64 = 0; usable && place < <u64>Protocol.EVENTS_KEPT; place++) {
    const reader = new CborReader(scratch, readEvent(place));
    const number = reader.find(FIELD_SEQ) ? reader.uint() : 0;
    if (reader.ok && number % Protocol.EVENTS_KEPT == place && number < 1 << 52) last = max(last, number);
  }
  return last;
}

/** An event that a predecessor has kept, or null. */
export function stashEventOf(number: u64): Value | null {
  const length = usable ? readEvent(number) : 0;
  const value = length > 0 ? decode(scratch, length) : null;
  return value != null && value.getUint(FIELD_SEQ) == number ? value : null;
}

/** Where the audit log is; 0: there is no stash. */
export function stashAudit(): u64 {
  return usable ? GPA_STASH + AUDIT : 0;
}

/** Where is what decisions rested on; 0: there is no stash. */
export function stashFacts(): u64 {
  return usable ? GPA_STASH + FACTS : 0;
}

/** Gives the stash up. */
export function stashDrop(): void {
  usable = false;
  capDrop(SLOT_STASH);
}
