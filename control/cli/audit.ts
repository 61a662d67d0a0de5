// The host's audit log: read in pieces, and its chain of hashes computed again.

import { createHash } from "node:crypto";
import { cborDecode } from "../protocol/node/cbor";
import type { Client } from "./client";
import { ErrorCode, PlinthError } from "./errors";

/** A record, and the hash that stands for it and all before it. */
export interface AuditRecord {
  seq: number;
  at: number;
  who: string;
  kind: string;
  object: string;
  text: string;
  /** 0: done. */
  code: number;
  /** Where that is on which the decision rested, its size, and its hash. */
  facts?: [at: number, size: number, hash: Uint8Array];
  hash: string;
}

export interface AuditLog {
  records: AuditRecord[];
  /** What the host says is the newest hash. */
  head: { seq: number; hash: string };
  /** The number and hash of the record before the oldest that is kept. */
  checkpoint: { seq: number; hash: string };
}

/** SHA-256 of the hash before and a record's bytes. */
function chained(before: Uint8Array, record: Uint8Array): Buffer {
  return createHash("sha256").update(before).update(record).digest();
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Reads all that is kept; throws where the chain is broken. */
export async function readAudit(client: Client): Promise<AuditLog> {
  let page = await client.audit(0);
  const checkpoint = { seq: page.from - 1, hash: hex(page.before) };
  const records: AuditRecord[] = [];
  let hash: Uint8Array = page.before;
  let seq = page.from;
  for (;;) {
    if (page.from !== seq)
      throw broken(seq, "it is no longer kept: the log grew while it was read; try again");
    if (hex(page.before) !== hex(hash))
      throw broken(seq, "the hash before it is not that of the record before");
    for (const bytes of page.records) {
      hash = chained(hash, bytes);
      records.push({ ...readRecord(bytes, seq), hash: hex(hash) });
      seq++;
    }
    if (page.next === undefined) break;
    page = await client.audit(page.next);
  }
  const head = { seq: page.head.seq, hash: hex(page.head.hash) };
  if (head.seq !== seq - 1 || head.hash !== hex(hash))
    throw broken(head.seq, "its hash is not what the host says it is");
  return { records, head, checkpoint };
}

function readRecord(bytes: Uint8Array, seq: number): Omit<AuditRecord, "hash"> {
  const record = cborDecode(bytes);
  if (record === null) throw broken(seq, "it is damaged");
  if (record.seq !== seq) throw broken(seq, `its number is ${String(record.seq)}`);
  return record as unknown as Omit<AuditRecord, "hash">;
}

function broken(seq: number, cause: string): PlinthError {
  const message = `audit log: record ${seq}: ${cause}`;
  return new PlinthError({ code: ErrorCode.INTEGRITY, message, object: "audit", next: "plinth audit" });
}

/** Fails if a hash that was noted earlier is not in the chain. */
export function checkNoted(log: AuditLog, noted: string): void {
  const [, number, hash] = /^(\d+):([0-9a-f]{64})$/.exec(noted) ?? [];
  if (number === undefined) {
    const message = `--head: '${noted}' is not NUMBER:HASH, as 'plinth audit verify' prints it`;
    throw new PlinthError({ code: ErrorCode.USAGE, message, next: "plinth help audit verify" });
  }
  const seq = Number(number);
  const known = [log.checkpoint, ...log.records].find((record) => record.seq === seq)?.hash;
  if (known === hash) return;
  const gone = seq < log.checkpoint.seq && log.checkpoint.seq > 0;
  throw broken(
    seq,
    gone ? "it is no longer kept" : known ? "its hash is not the one noted" : "there is none",
  );
}
