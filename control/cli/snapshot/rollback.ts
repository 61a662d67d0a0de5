// Against going back unawares: the newest snapshot of each VM that was restored or imported from here is remembered.

import { join } from "node:path";
import { ErrorCode, PlinthError } from "../errors";
import type { SnapshotDocument } from "./document";
import { type Environment, readSettings, settingsFolder, writePrivate } from "./settings";

type Newest = Record<string, { created: number; generation: string; name: string }>;
/** What of a document matters here. */
export type Point = Pick<SnapshotDocument, "name" | "vm" | "tenant" | "created" | "generation">;

/** The user's policy, and what it is applied to. */
export class RollbackGuard {
  private readonly file: string;
  private readonly forbids: boolean;

  /** `word`: what the command line says; undefined: what snapshot.json says (`{"noRollback": true}`). */
  constructor(env: Environment, word: boolean | undefined) {
    const folder = settingsFolder(env);
    this.file = join(folder, "newest-snapshots.json");
    this.forbids = word ?? readSettings(join(folder, "snapshot.json")).noRollback === true;
  }

  /** Refuses a snapshot that is older than one that was used before, if the policy says so. */
  check(point: Point): void {
    const newest = (readSettings(this.file) as Newest)[keyOf(point)];
    if (!this.forbids || !newest || !(point.created < newest.created)) return;
    const when = (seconds: number): string => new Date(seconds * 1000).toISOString();
    throw new PlinthError({
      code: ErrorCode.INTEGRITY,
      message:
        `${point.name} would take ${point.vm} back to ${when(point.created)}: ` +
        `${newest.name} of ${when(newest.created)} was used before, and the policy forbids to go back`,
      object: point.name,
      next: "give --allow-rollback if that is what you want",
    });
  }

  /** It was used. */
  note(point: Point): void {
    const all = readSettings(this.file) as Newest;
    const before = all[keyOf(point)];
    if (before && before.created >= point.created) return;
    all[keyOf(point)] = { created: point.created, generation: point.generation, name: point.name };
    writePrivate(this.file, `${JSON.stringify(all, null, 2)}\n`);
  }
}

function keyOf({ tenant, vm }: Point): string {
  return `${tenant}/${vm}`;
}
