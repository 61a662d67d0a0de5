// plinth protect and plinth recover: with the shipping control domain on the model of the kernel, and lines that break.

import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Role } from "../../control/gen/abi";
import * as schema from "../../control/protocol/schema";
import { hostSpec, MIB, vmSpec } from "../control/domain/rig";
import { FakeHost } from "./fake-host";
import { ModelHost } from "./model-host";
import { done, type Result, runCli, startCli, until } from "./run-cli";

interface World {
  host: ModelHost;
  other: ModelHost;
  folder: string;
  env: Record<string, string>;
  run: (line: string | string[], where?: ModelHost) => Promise<Result>;
  /** The names of snapshots in the repository. */
  kept: () => string[];
}

const test = suite<World>("protect and recover");

test.before.each(async (context) => {
  const vms = [vmSpec("a", { memory: 4 * MIB }), vmSpec("b", { memory: 4 * MIB })];
  context.host = new ModelHost({ spec: hostSpec(vms) });
  context.other = new ModelHost({ spec: hostSpec([]) });
  await context.host.start();
  await context.other.start();
  context.folder = mkdtempSync(join(tmpdir(), "plinth-protect-"));
  context.env = { HOME: context.folder };
  context.run = (line, where = context.host) =>
    runCli(where, typeof line === "string" ? line.split(" ") : line, { env: context.env });
  const snapshots = join(context.folder, ".local/share/plinth/snapshots/snapshots");
  context.kept = () => readdirSync(snapshots).filter((name) => name.endsWith(".plinth"));
});
test.after.each(async ({ host, other, folder }) => {
  await host.stop();
  await other.stop();
  rmSync(folder, { recursive: true });
});

function write(host: ModelHost, vm: string, at: number, text: string): void {
  host.rig.kernel.domain(`vm/${vm}`, Role.VM).space.write(at, Buffer.from(text));
}

function read(host: ModelHost, vm: string, at: number, length: number): string {
  return Buffer.from(host.rig.kernel.domain(`vm/${vm}`, Role.VM).space.read(at, length)).toString();
}

interface Row {
  vm: string;
  snapshot: string;
  sent: number;
  dropped: string[];
}

async function rounds(run: World["run"], line: string): Promise<Row[]> {
  const { stdout } = await done(run(`protect ${line} --json`));
  return stdout
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text) as Row);
}

test("only differences are sent, and only so many are kept", async ({ host, run, kept }) => {
  write(host, "a", MIB, "one");
  const first = await rounds(run, "a --rounds 1 --every 1ms --keep 3");
  write(host, "a", 2 * MIB, "two");
  const next = await rounds(run, "a --rounds 8 --every 1ms --keep 3");
  assert.ok(next[0]!.sent < first[0]!.sent / 2, `${next[0]!.sent} of ${first[0]!.sent}`);
  assert.is(next.length, 8);
  // Three, and those that these rest on.
  assert.ok(kept().length >= 3 && kept().length <= 5, String(kept()));
  assert.ok(next.some(({ dropped }) => dropped.length > 1));
  await done(run("snapshot verify"));
  const { snapshots } = JSON.parse((await done(run("snapshot ls --json"))).stdout) as { snapshots: Row[] };
  assert.is(snapshots.length, 1);
  assert.equal(host.rig.kernel.traps, []);
});

test("the VMs of a lost host go on on another one", async ({ host, other, run, folder }) => {
  write(host, "a", MIB, "old");
  await rounds(run, "--rounds 1 --every 1ms");
  write(host, "a", MIB, "new");
  const rows = await rounds(run, "--rounds 2 --every 1ms");
  assert.equal(rows.map(({ vm }) => vm).sort(), ["a", "a", "b", "b"]);
  const { host: name } = JSON.parse((await done(run("status --json"))).stdout) as { host: string };
  host.cut();
  const line = `recover --from-host ${name} --to ${other.path}`;
  const dry = await done(run(`${line} --dry-run`));
  assert.match(dry.stdout, /^VM +SNAPSHOT +AGE +STATE\n(a|b) +\S+ +[\d.]+ m?s +ready\n(a|b) /);
  // Nobody has said that it does not run any more.
  const refused = await run(line);
  assert.is(refused.code, 6);
  assert.match(refused.stderr, /nothing was started: .* may still run, nobody has said/);
  const fenced = await run([...line.split(" "), "--fence", "exit 3"]);
  assert.is(fenced.code, 6);
  assert.match(fenced.stderr, /that makes sure of that failed: exit code 3/);
  const ls = async (): Promise<unknown[]> =>
    (JSON.parse((await done(run("ls --json", other))).stdout) as { vms: unknown[] }).vms;
  assert.is((await ls()).length, 0);
  const mark = join(folder, "fenced");
  const { stderr, stdout } = await done(run([...line.split(" "), "--fence", `echo $PLINTH_HOST > ${mark}`]));
  assert.match(stderr, /a goes back to what it was [\d.]+ m?s ago \(a\./);
  assert.match(stdout, /\na +\S+ +[\d.]+ m?s +running\n|\nb +\S+ +[\d.]+ m?s +running\n/);
  assert.is(read(other, "a", MIB, 3), "new");
  assert.is((await ls()).length, 2);
  const left = JSON.parse((await done(run("snapshot ls --json", other))).stdout) as { snapshots: unknown[] };
  assert.equal(left.snapshots, []);
  // Once more: they are there, and stay as they are.
  assert.match((await done(run(`${line} --fenced`))).stdout, /there: the host has a VM of that name already/);
  assert.equal(other.rig.kernel.traps, []);
});

test("a person is asked, and has to type the host's name", async ({ host, other, run, env }) => {
  await rounds(run, "a --rounds 1");
  const { host: name } = JSON.parse((await done(run("status --json"))).stdout) as { host: string };
  for (const [answer, code] of [
    ["yes", 6],
    [name, 0],
  ] as const) {
    const stdin = new PassThrough();
    const words = ["recover", "--from-host", name, "--to", other.path];
    const running = startCli(host, words, { env, stdin, tty: true });
    await until(() => running.stderr().includes("Type its name"), "the question");
    stdin.write(`${answer}\n`);
    assert.is((await running.result).code, code);
  }
});

test("a damaged snapshot is passed over, and the policy against going back holds", async ({
  host,
  other,
  run,
  kept,
  folder,
}) => {
  write(host, "a", MIB, "good");
  const [good] = await rounds(run, "a --rounds 1");
  write(host, "a", MIB, "late");
  const [late] = await rounds(run, "a --rounds 1");
  const { host: name } = JSON.parse((await done(run("status --json"))).stdout) as { host: string };
  assert.is(kept().length, 2);
  truncateSync(join(folder, `.local/share/plinth/snapshots/snapshots/${late!.snapshot}.plinth`), 900);
  const line = `recover --from-host ${name} --to ${other.path} --fenced`;
  // One that is newer was used before.
  const settings = join(folder, ".config/plinth");
  const newest = { "default/a": { created: 4e9, generation: "00", name: "x" } };
  writeFileSync(join(settings, "newest-snapshots.json"), JSON.stringify(newest));
  const forbidden = await run(`${line} --no-rollback`);
  assert.is(forbidden.code, 7, forbidden.stderr);
  assert.match(forbidden.stdout, /forbidden: .* the policy forbids to go back/);
  const { stderr } = await done(run(line));
  assert.match(stderr, new RegExp(`${late!.snapshot} is passed over: `));
  assert.match(stderr, new RegExp(`ago \\(${good!.snapshot}\\)`));
  assert.is(read(other, "a", MIB, 4), "good");
});

test("what fails is said and tried again, a lost line is waited for, Ctrl-C ends it", async ({ env }) => {
  const host = await FakeHost.start();
  try {
    host.add("a");
    host.snapshots.addVm("a", { memory: ["one", "", "two"], model: ["m"], state: ["s"], image: ["i"] });
    let [refusals, cuts] = [1, 0];
    host.snapshots.onAsk = (op) => {
      if (op === schema.OP_SNAPSHOT_CREATE && refusals-- > 0)
        throw { code: 1, message: "made to fail", object: "a", next: "doctor" };
    };
    host.onRequest = (op) => (op === schema.OP_SNAPSHOT_READ && cuts++ === 0 ? "lost" : undefined);
    const running = startCli(host, ["protect", "a", "--every", "10ms", "--timeout", "300ms"], { env });
    await until(() => running.stderr().includes("a: made to fail; it is tried again\n"), "what failed");
    await until(() => host.isCut, "the line to break");
    host.isCut = false;
    await until(() => running.stderr().includes("the host is back\n"), "the host to be back");
    await until(() => /a: a\.\S+, .* sent of/.test(running.stderr()), "a snapshot");
    process.emit("SIGINT");
    const { code, stderr } = await running.result;
    assert.is(code, 0, stderr);
    assert.match(stderr, /\d+ snapshots? made\n$/);
    // What the round had left that was cut off is gone too.
    assert.ok(host.snapshots.all.size <= 2);
  } finally {
    await host.stop();
  }
});

test("mistakes", async ({ run }) => {
  assert.is((await run("protect a --keep 0")).code, 2);
  assert.is((await run("recover --to x")).code, 2);
  assert.is((await run("recover --from-host x")).code, 2);
  assert.is((await run("recover --from-host x --to y --fenced")).code, 3);
  const { stderr } = await run("protect nobody --rounds 1");
  assert.match(stderr, /nobody: there is no VM "nobody".*; it is tried again\n0 snapshots made\n/);
});

test.run();
