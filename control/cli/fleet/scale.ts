// The copies of a VM: which there are, which are to be made, which go.
//
// VM-1, VM-2 ... are clones of one snapshot, `scale.VM`, each with an identity of its own. The numbers are without gaps
// after a run: what is missing is made from the lowest up, what is too many goes from the highest down.

import * as schema from "../../protocol/schema";
import type { Client } from "../client";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { oneLine, type Output } from "../output";
import { Progress } from "../progress";
import type { VmRow } from "../results";
import { formatSize } from "../values";
import { waitForState } from "../wait";

export interface ScaleOptions {
  client: Client;
  out: Output;
  vm: string;
  /** How many copies there are to be. */
  to: number;
  /** The snapshot that they go on from. */
  snapshot: string;
  /** End those that go at once. */
  force: boolean;
  overcommit: boolean;
  /** Milliseconds that one may take to power off. */
  timeout: number;
}

/** What is done, in this order. */
export interface ScalePlan {
  vm: string;
  snapshot: string;
  /** The snapshot is to be made first. */
  keeps: boolean;
  makes: string[];
  removes: string[];
}

/** The name of the snapshot that is kept for the copies of a VM. */
export function snapshotFor(vm: string): string {
  const name = schema.SCALE_SNAPSHOT + vm;
  if (name.length <= schema.Specification.MAX_NAME) return name;
  throw usageError(`${name} is too long for the name of a snapshot`, `plinth scale ${vm} --snapshot NAME`);
}

function cloneName(vm: string, n: number): string {
  const name = `${vm}-${n}`;
  if (name.length <= schema.Specification.MAX_NAME) return name;
  throw usageError(`${name} is too long for the name of a VM: at most ${schema.Specification.MAX_NAME}`);
}

/** The numbers of a VM's copies among all VMs, rising. */
export function numbersOf(vm: string, rows: readonly Pick<VmRow, "name">[]): number[] {
  return rows
    .filter(({ name }) => name.startsWith(`${vm}-`))
    .map(({ name }) => name.slice(vm.length + 1))
    .filter((end) => /^[1-9]\d{0,3}$/.test(end))
    .map(Number)
    .sort((a, b) => a - b);
}

export async function planScale({ client, vm, to, snapshot }: ScaleOptions): Promise<ScalePlan> {
  const rows = await client.list();
  const have = numbersOf(vm, rows);
  const makes: string[] = [];
  for (let n = 1; have.length + makes.length < to; n++) if (!have.includes(n)) makes.push(cloneName(vm, n));
  const gone = have.slice(Math.min(to, have.length)).reverse();
  const known = (await client.snapshots()).find(({ name }) => name === snapshot);
  if (makes.length > 0 && known && known.state !== schema.STATE_COMPLETE)
    throw failed(ErrorCode.WRONG_STATE, snapshot, `${snapshot} has not come whole`, "plinth snapshot ls");
  if (makes.length > 0 && !known && !rows.some(({ name }) => name === vm))
    throw failed(
      ErrorCode.NOT_FOUND,
      vm,
      `there is neither a VM ${vm} nor a snapshot ${snapshot}`,
      "plinth ls",
    );
  return {
    vm,
    snapshot,
    keeps: makes.length > 0 && !known,
    makes,
    removes: gone.map((n) => cloneName(vm, n)),
  };
}

/** Does it; when one cannot be made, those that were stay. */
export async function runScale(options: ScaleOptions, plan: ScalePlan): Promise<void> {
  const { client, out, vm, overcommit } = options;
  const progress = new Progress(out);
  const total = plan.makes.length + plan.removes.length;
  let done = 0;
  const step = (text: string): void =>
    progress.show(`${vm}: ${text} (${done} of ${total})`, {
      progress: `scaling ${vm}`,
      step: text,
      done,
      total,
    });
  try {
    if (plan.keeps) {
      step(`keeping it as ${plan.snapshot}`);
      await client.createSnapshot(vm, { name: plan.snapshot, note: `plinth scale ${vm}`, overcommit });
    }
    for (const name of plan.makes) {
      step(`making ${name}`);
      await client.cloneSnapshot(plan.snapshot, name, { overcommit }).catch(async (error: unknown) => {
        throw await tooMany(options, done, total, error);
      });
      done++;
    }
    for (const name of plan.removes) {
      step(`ending ${name}`);
      progress.clear();
      await end(options, name);
      done++;
    }
  } finally {
    progress.clear();
  }
}

/** Presses the power button and waits, or ends it at once; then it is removed. */
async function end({ client, out, force, timeout }: ScaleOptions, name: string): Promise<void> {
  const row = (await client.list()).find((candidate) => candidate.name === name);
  const isUp = row?.state === schema.STATE_RUNNING || row?.state === schema.STATE_STARTING;
  if (!force && isUp) {
    await client.stop(name);
    await waitForState(client, name, schema.STATE_STOPPED, timeout, out);
  }
  await client.remove(name, force);
}

/** Why no more could be made, and how many of them fit. */
async function tooMany(
  options: ScaleOptions,
  made: number,
  wanted: number,
  cause: unknown,
): Promise<unknown> {
  if (!(cause instanceof PlinthError) || cause.code === ErrorCode.UNREACHABLE) return cause;
  const { client, vm, snapshot } = options;
  const all = await client.list().catch(() => []);
  const count = numbersOf(vm, all).length;
  const memory = await client
    .status()
    .then((status) => `${formatSize(status.memory.free)} are free`)
    .catch(() => "");
  const size = (await client.snapshots().catch(() => [])).find(({ name }) => name === snapshot)?.memory;
  const needs = size === undefined ? "" : `; each may write ${formatSize(size)}, ${memory}`;
  const message = `${made} of ${wanted} were made: ${vm} has ${count}, more do not fit: ${oneLine(cause.message)}${needs}`;
  const next = options.overcommit ? cause.next : `plinth scale ${vm} --to ${count}, or with --overcommit`;
  return failed(cause.code, vm, message, next);
}

function failed(code: number, object: string, message: string, next: string): PlinthError {
  return new PlinthError({ code, message, object, next });
}
