// The VMs of a host that is lost go on on another one, from what was kept of them last.

import { spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import type { Client } from "../client";
import type { Context } from "../command";
import { ErrorCode, PlinthError, toPlinthError, usageError } from "../errors";
import { oneLine } from "../output";
import { RollbackGuard } from "../snapshot/rollback";
import type { Repository } from "../snapshot/repository";
import { checkAll, rollbackWord } from "../snapshot/setup";
import { openSource } from "../snapshot/source";
import { upload } from "../snapshot/upload";
import { type Kept, keptOf } from "./protected";

export interface Recovered {
  vm: string;
  snapshot: string;
  /** How old it is. */
  ageMs: number;
  /** What came of it: "running", "there", or why not. */
  state: string;
  problem: string;
}

/** The last good snapshot of each VM: every byte is there, and the policy against going back allows it. */
export function lastGood(context: Context, repository: Repository, host: string): Recovered[] {
  const guard = new RollbackGuard(context.world.env, rollbackWord(context));
  const all = keptOf(repository, host, undefined, (name, { message }) =>
    context.out.talk(`${name} is passed over: ${oneLine(message)}`),
  );
  const found: Recovered[] = [];
  for (const vm of new Set(all.map(({ manifest }) => manifest.document.vm))) {
    const good = all
      .filter(({ manifest }) => manifest.document.vm === vm)
      .find((kept) => isGood(context, repository, kept));
    if (good === undefined) {
      found.push({
        vm,
        snapshot: "",
        ageMs: 0,
        state: "lost",
        problem: "none of its snapshots is whole",
      });
      continue;
    }
    const { document } = good.manifest;
    let problem = "";
    try {
      guard.check(document);
    } catch (error) {
      problem = toPlinthError(error).message;
    }
    const state = problem === "" ? "ready" : "forbidden";
    found.push({
      vm,
      snapshot: good.name,
      ageMs: Math.max(0, Date.now() - good.at),
      state,
      problem,
    });
  }
  return found;
}

function isGood(context: Context, repository: Repository, { name }: Kept): boolean {
  const source = openSource(name, repository);
  try {
    checkAll(source, context);
    return true;
  } catch (error) {
    context.out.talk(`${name} is passed over: ${oneLine(toPlinthError(error).message)}`);
    return false;
  } finally {
    source.close();
  }
}

/** Brings one to the host and lets it run; what is there already stays as it is. */
export async function recoverOne(
  context: Context,
  client: Client,
  repository: Repository,
  one: Recovered,
): Promise<void> {
  if ((await client.list()).some(({ name }) => name === one.vm)) {
    Object.assign(one, { state: "there", problem: "the host has a VM of that name already" });
    return;
  }
  const guard = new RollbackGuard(context.world.env, rollbackWord(context));
  const source = openSource(one.snapshot, repository);
  try {
    const { document } = source.manifest;
    guard.check(document);
    await upload({ client, source, out: context.out, as: one.snapshot, base: undefined });
    one.state = (await client.restoreSnapshot(one.snapshot)).state;
    guard.note(document);
    await client.removeSnapshot(one.snapshot).catch(() => undefined);
  } finally {
    source.close();
  }
}

/** Makes sure that the old host does not run any more: by the word of the caller, by a command, or by a person's. */
export async function fence(context: Context, host: string): Promise<void> {
  const { args, world, out } = context;
  const command = args.value("fence");
  if (command !== undefined && args.has("fenced")) throw usageError("give only one of --fence and --fenced");
  if (args.has("fenced")) return;
  if (command !== undefined) {
    const { status, error } = spawnSync("/bin/sh", ["-c", command], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, PLINTH_HOST: host },
    });
    if (status === 0) return;
    const how = error ? error.message : `exit code ${status ?? "none: it was killed"}`;
    throw notFenced(host, `the command that makes sure of that failed: ${how}`);
  }
  if (!world.stdin.isTTY)
    throw notFenced(host, "nobody has said that it does not run any more (--fenced, or --fence COMMAND)");
  out.talk(`If ${host} still runs, its VMs will run twice. Type its name if it is off, and stays off:`);
  const reader = createInterface({ input: world.stdin });
  const answer = await new Promise<string>((resolve) => {
    reader.once("line", resolve);
    reader.once("close", () => resolve(""));
  });
  reader.close();
  if (answer.trim() !== host) throw notFenced(host, "that is not its name");
}

function notFenced(host: string, why: string): PlinthError {
  const message = `nothing was started: ${host} may still run, ${why}`;
  return new PlinthError({ code: ErrorCode.DENIED, message, object: host, next: "plinth help recover" });
}
