// Keeps VMs in the repository, again and again: a snapshot, what of it differs from the one before, then what is too old goes.
//
// The host keeps one snapshot of each VM, from which the next differs. In the repository the manifest of every KEEP-th
// stands for itself, and those after it rest on that: so older ones can go, and it goes with the last that rests on it.

import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import { ErrorCode, PlinthError } from "../errors";
import type { Output } from "../output";
import { download, shapeOf } from "../snapshot/download";
import { PAGE_SIZE } from "../snapshot/page-map";
import type { Repository } from "../snapshot/repository";
import { type Kept, keptOf, newName, NOTE } from "./protected";

export interface ProtectOptions {
  repository: Repository;
  out: Output;
  keep: number;
  overcommit: boolean;
}

/** What came of one VM in one round. */
export interface Protected {
  vm: string;
  snapshot: string;
  /** Bytes that had to be sent, and those of all pages that are not zero. */
  sent: number;
  bytes: number;
  ms: number;
  /** Snapshots of the repository that were dropped. */
  dropped: string[];
}

/** The VMs to keep in a round: those that are named, or all that are up. */
export async function vmsToProtect(client: Client, named: readonly string[]): Promise<string[]> {
  const up = [schema.STATE_RUNNING, schema.STATE_PAUSED];
  if (named.length > 0) return [...named];
  return (await client.list()).filter(({ state }) => up.includes(state)).map(({ name }) => name);
}

export async function protectOnce(client: Client, vm: string, options: ProtectOptions): Promise<Protected> {
  const { repository, out, keep, overcommit } = options;
  const start = Date.now();
  const { host } = await client.status();
  const before = keptOf(repository, host, vm);
  const name = newName(vm);
  await client.createSnapshot(vm, { name, note: NOTE, overcommit });
  const base = before[0]?.name;
  const given = { client, repository, out, name, as: name };
  const rests = foundation(before, keep);
  const { sent, pages } = await download({ ...given, base, rests }).catch((error: unknown) => {
    // Its objects are others than before: nothing can be told from the one before.
    const isOther = error instanceof PlinthError && error.code === ErrorCode.INTEGRITY && base !== undefined;
    if (!isOther) throw error;
    return download({ ...given, base: undefined, rests: null });
  });
  await dropOnHost(client, vm, name);
  const dropped = dropHere(repository, keptOf(repository, host, vm), keep);
  const ms = Date.now() - start;
  return { vm, snapshot: name, sent: sent * PAGE_SIZE, bytes: pages * PAGE_SIZE, ms, dropped };
}

/** On which of those before the next one rests; null: it stands for itself. */
function foundation(before: readonly Kept[], keep: number): string | null {
  const at = before.findIndex(({ manifest }) => manifest.base === undefined);
  if (at < 0 || at + 1 >= keep) return null;
  return shapeOf(before[at]!.manifest.document) === shapeOf(before[0]!.manifest.document)
    ? before[at]!.name
    : null;
}

/** The host keeps the newest; also what rounds have left that did not come to their end. */
async function dropOnHost(client: Client, vm: string, newest: string): Promise<void> {
  for (const row of await client.snapshots(vm))
    if (row.note === NOTE && row.name !== newest)
      await client.removeSnapshot(row.name).catch((error: unknown) => {
        if (!(error instanceof PlinthError) || error.code !== ErrorCode.NOT_FOUND) throw error;
      });
}

/** Drops what is beyond `keep` and what nobody rests on, those that rest on others first; returns the names. */
function dropHere(repository: Repository, all: readonly Kept[], keep: number): string[] {
  const dropped: string[] = [];
  for (const { name } of all.slice(keep)) {
    if (all.some((one) => !dropped.includes(one.name) && one.manifest.base?.document.name === name)) continue;
    repository.remove(name);
    dropped.push(name);
  }
  return dropped;
}
