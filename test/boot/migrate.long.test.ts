// A running VM moves to another host, which has another image of the device model, and what it prints goes on without a
// gap: it brings its own. Then it goes back as a snapshot in a repository.
// rigs: AMD-V

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { done, type Result, runCli } from "../cli/run-cli";
import { Host, runDir } from "./host";

const ISO = join("build", "guests.iso");
const VM = "walker";
/** The tick guest prints a line every ten ticks, or a little later. */
const STEP = 10;
const LIMIT = "300s";
const HOME = runDir("migrate-home");

let here: Host;
let there: Host;

test.before(async () => {
  rmSync(HOME, { recursive: true, force: true });
  mkdirSync(HOME, { recursive: true });
  here = await Host.boot("migrate-here", ISO);
  there = await Host.boot("migrate-there", join("build", "other-model.iso"));
});
test.after(async () => {
  await here?.stop();
  await there?.stop();
});

/** Runs a command that must succeed, with keys and a repository of its own. */
function ok(host: Host, ...argv: string[]): Promise<Result> {
  return done(runCli(host, argv, { env: { HOME } }));
}

/** What the VM has printed: each line once and in order; the last tick. */
async function whole(host: Host): Promise<number> {
  const lines = [...(await host.scrollback(VM)).matchAll(/^ticks (\d+) missed (\d+) .*$/gm)];
  assert.ok(lines.length > 2, "it ticks");
  const first = Math.floor(Number(lines[0]![1]) / STEP);
  lines.forEach(([line, ticks], n) => {
    const late = Number(ticks) - (first + n) * STEP;
    assert.ok(late >= 0 && late < STEP, `${line} is line ${n} behind ${lines[0]![0]}`);
  });
  return Number(lines.at(-1)![1]);
}

/** Waits until it has ticked beyond `after`. */
async function ticksOn(host: Host, after: number): Promise<void> {
  const end = Date.now() + 60_000;
  while ((await whole(host)) <= after) assert.ok(Date.now() < end, `${VM} does not tick beyond ${after}`);
}

test("a running VM moves, and prints on where it was", async () => {
  await here.ok("create", VM, "--memory", "4M", "--kernel", "ticker", "--start");
  await here.ok("console", VM, "--expect", "^ticks 100 ", "--timeout", LIMIT);
  const before = await whole(here);
  await ok(here, "migrate", VM, "--to", there.path, "--dry-run");
  await ok(here, "migrate", VM, "--to", there.path);
  assert.is(await here.state(VM), "absent");
  assert.is(await there.state(VM), "running");
  await ticksOn(there, before);
});

test("it comes back as a snapshot, from a repository", async () => {
  const before = await whole(there);
  await ok(there, "snapshot", "create", VM, "kept");
  await ok(there, "snapshot", "export", "kept");
  await ok(here, "snapshot", "verify", "kept", "--host");
  await ok(here, "snapshot", "import", "kept");
  await ok(here, "snapshot", "restore", "kept");
  await ticksOn(here, before);
  for (const host of [here, there]) {
    await host.ok("rm", VM, "--force");
    await host.ok("snapshot", "rm", "kept");
  }
});

test.run();
