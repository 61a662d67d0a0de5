// The bulk line: pages go over it where there is one, and over the first line when it is lost.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Role } from "../../control/gen/abi";
import { hostSpec, MIB, vmSpec } from "../control/domain/rig";
import { ModelHost } from "./model-host";
import { done, type Result, runCli } from "./run-cli";

interface World {
  host: ModelHost;
  other: ModelHost;
  folder: string;
  run: (line: string, where?: ModelHost) => Promise<Result>;
}

const PAGES = 100;

const test = suite<World>("the bulk line");

test.before.each(async (context) => {
  context.host = new ModelHost({}, true);
  context.other = new ModelHost({ spec: { ...hostSpec([vmSpec("z")]), host: { name: "other" } } }, true);
  await context.host.start();
  await context.other.start();
  context.folder = mkdtempSync(join(tmpdir(), "plinth-bulk-"));
  context.run = (line, where = context.host) =>
    runCli(where, line.split(" "), { env: { HOME: context.folder } });
  const { space } = context.host.rig.kernel.domain("vm/a", Role.VM);
  for (let n = 0; n < PAGES; n++) space.write(5 * MIB + n * 4096, Buffer.from(`page ${n}`));
});
test.after.each(async ({ host, other, folder }) => {
  await host.stop();
  await other.stop();
  rmSync(folder, { recursive: true });
});

const MOVES = ["snapshot.read", "snapshot.write"];

/** How many pages were asked for, or sent, on each line. */
function moved({ asked, bulk }: ModelHost): { main: number; bulk: number } {
  const count = (ops: readonly string[]): number => ops.filter((op) => MOVES.includes(op)).length;
  return { main: count(asked), bulk: count(bulk.asked) };
}

function lastPage(host: ModelHost): string {
  const { space } = host.rig.kernel.domain("vm/a", Role.VM);
  return Buffer.from(space.read(5 * MIB + (PAGES - 1) * 4096, 7)).toString();
}

/** The bulk line does this when so many operations were asked for on it. */
function after(host: ModelHost, op: string, count: number, act: () => void): void {
  let left = count;
  host.bulk.onAsked = (asked) => {
    if (asked === op && --left === 0) act();
  };
}

test("export and import: found beside the first line, which carries no page", async ({
  host,
  other,
  run,
}) => {
  await done(run("snapshot create a s"));
  assert.not.match((await done(run("snapshot export s"))).stderr, /first line/);
  assert.is(moved(host).main, 0);
  assert.ok(moved(host).bulk >= PAGES);
  await done(run("snapshot import s", other));
  assert.is(moved(other).main, 0);
  await done(run("snapshot restore s", other));
  assert.is(lastPage(other), `page ${PAGES - 1}`);
});

test("--bulk says which, or that there is none", async ({ host, run }) => {
  await done(run("snapshot create a s"));
  await done(run("snapshot export s --bulk off"));
  assert.is(moved(host).bulk, 0);
  await done(run(`snapshot export s --as again --bulk unix:${host.bulkPath}`));
  assert.match(
    (await done(run("snapshot export s --as more --bulk /nowhere"))).stderr,
    /cannot connect to \/nowhere/,
  );
});

test("one that is another host's is refused", async ({ other, run }) => {
  await done(run("snapshot create a s"));
  const { code, stderr } = await run(`snapshot export s --bulk ${other.bulkPath}`);
  assert.is(code, 2);
  assert.match(stderr, /is the line of another host \(other\), not of test/);
});

test("one that does not answer: the first line, and a notice", async ({ host, run }) => {
  host.bulk.isMute = true;
  await done(run("snapshot create a s"));
  const { stderr } = await done(run("snapshot export s --timeout 2s"));
  assert.match(stderr, /no answer to 'hello' from .*-bulk\.sock within 2.*: pages go over the first line\n/);
  assert.is(moved(host).bulk, 0);
});

test("cut in the midst of an export: the first line goes on", async ({ host, run }) => {
  await done(run("snapshot create a s"));
  after(host, "snapshot.read", 20, () => host.bulk.cut());
  const { stderr } = await done(run("snapshot export s"));
  assert.is(stderr.match(/pages go over the first line/g)?.length, 1);
  assert.ok(moved(host).main > 0);
  assert.ok(host.asked.includes("bulk.close"));
  await done(run("snapshot verify s"));
});

test("mute in the midst of an import: the first line goes on, and all is there", async ({
  host,
  other,
  run,
}) => {
  await done(run("snapshot create a s"));
  await done(run("snapshot export s"));
  after(other, "snapshot.write", 20, () => (other.bulk.isMute = true));
  const { stderr } = await done(run("snapshot import s --timeout 2s", other));
  assert.is(stderr.match(/pages go over the first line/g)?.length, 1);
  assert.ok(other.asked.indexOf("bulk.close") < other.asked.indexOf("snapshot.write"));
  await done(run("snapshot restore s", other));
  assert.is(lastPage(other), `page ${PAGES - 1}`);
  assert.equal([...host.rig.kernel.traps, ...other.rig.kernel.traps], []);
});

test("both hosts' bulk lines are lost in the midst of a migration: the VM arrives", async ({
  host,
  other,
  run,
}) => {
  after(host, "snapshot.read", 30, () => host.bulk.cut());
  after(other, "snapshot.write", 10, () => other.bulk.cut());
  const { stderr } = await done(run(`migrate a --to ${other.path}`));
  assert.is(stderr.match(/pages go over the first line/g)?.length, 2);
  assert.is(lastPage(other), `page ${PAGES - 1}`);
  assert.equal([...host.rig.kernel.traps, ...other.rig.kernel.traps], []);
});

test("each host of a migration has its own, as the options say", async ({ host, other, run }) => {
  await done(run(`migrate a --to ${other.path} --bulk unix:${host.bulkPath} --to-bulk off`));
  assert.is(moved(host).main, 0);
  assert.is(moved(other).bulk, 0);
  assert.is(lastPage(other), `page ${PAGES - 1}`);
});

test("protect uses it", async ({ host, run }) => {
  await done(run("protect a --rounds 1"));
  assert.is(moved(host).main, 0);
  assert.ok(moved(host).bulk >= PAGES);
});

test.run();
