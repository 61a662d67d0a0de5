// plinth scale, with the shipping control domain on the model of the kernel.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { numbersOf } from "../../control/cli/fleet/scale";
import { hostSpec, MIB, vmSpec } from "../control/domain/rig";
import { ModelHost } from "./model-host";
import { type Result, runCli } from "./run-cli";

interface World {
  host: ModelHost;
  run: (line: string) => Promise<Result>;
  names: () => Promise<string[]>;
}

const test = suite<World>("scale");

test.before.each(async (context) => {
  const host = (context.host = new ModelHost({ spec: hostSpec([vmSpec("a", { memory: 8 * MIB })]) }));
  await host.start();
  context.run = (line) => runCli(host, line.split(" "), { env: {} });
  context.names = async () =>
    (
      JSON.parse((await runCli(host, ["ls", "--json"], { env: {} })).stdout) as { vms: { name: string }[] }
    ).vms
      .map(({ name }) => name)
      .sort();
});
test.after.each(({ host }) => host.stop());

test("the numbers of copies", () => {
  const rows = ["a", "a-2", "a-10", "a-1x", "a-01", "b-3", "a-1-2", "ab-4", "a-1"].map((name) => ({ name }));
  assert.equal(numbersOf("a", rows), [1, 2, 10]);
  assert.equal(numbersOf("a-1", rows), [2]);
});

test("up, down, and nothing to do", async ({ host, run, names }) => {
  const dry = await run("scale a --to 2 --dry-run");
  assert.is(dry.stdout, "keep a as scale.a\nmake a-1 from scale.a\nmake a-2 from scale.a\n");
  assert.equal(await names(), ["a"]);
  const up = await run("scale a --to 3");
  assert.is(up.code, 0, up.stderr);
  assert.is(up.stderr, "a has 3: 3 made\n");
  assert.equal(await names(), ["a", "a-1", "a-2", "a-3"]);
  assert.is((await run("scale a --to 3")).stderr, "a has 3: nothing was to be done\n");
  // A gap is filled first; the snapshot is there already.
  assert.is((await run("rm a-2 --force")).code, 0);
  const json = JSON.parse((await run("scale a --to 4 --json")).stdout) as { makes: string[]; keeps: boolean };
  assert.equal([json.makes, json.keeps], [["a-2", "a-4"], false]);
  const down = JSON.parse((await run("scale a --to 1 --force --json")).stdout) as { removes: string[] };
  assert.equal(down.removes, ["a-4", "a-3", "a-2"]);
  assert.equal(await names(), ["a", "a-1"]);
  assert.equal(host.rig.kernel.traps, []);
});

test("the power button first", async ({ host, run, names }) => {
  await run("scale a --to 2");
  const start = host.asked.length;
  const down = await run("scale a --to 0 --timeout 3s");
  const ops = host.asked.slice(start).filter((op) => op === "stop" || op === "rm");
  assert.is(down.code, 0, down.stderr);
  assert.equal(ops, ["stop", "rm", "stop", "rm"]);
  assert.equal(await names(), ["a"]);
});

test("one that does not listen to its power button stays", async ({ host, run, names }) => {
  await run("scale a --to 2");
  host.rig.ok("console.write", { vm: "a-2", data: "ignore\r" });
  const down = await run("scale a --to 0 --timeout 1s");
  assert.is(down.code, 5, down.stderr);
  assert.match(down.stderr, /a-2 is not stopped after 1.0 s.*/);
  assert.match(down.stderr, /next: plinth stop a-2 --force/);
  assert.equal(await names(), ["a", "a-1", "a-2"]);
  assert.is((await run("scale a --to 0 --force")).code, 0);
});

test("what does not fit is named, and what was made stays", async ({ host, run, names }) => {
  const { code, stderr } = await run("scale a --to 100");
  assert.is(code, 1, stderr);
  const [, made, has] = /^plinth: (\d+) of 100 were made: a has (\d+), more do not fit: /.exec(stderr)!;
  assert.is(made, has);
  assert.ok(Number(made) > 1);
  assert.match(stderr, /are missing; each may write 8 MiB, .* are free\n/);
  assert.match(stderr, new RegExp(`next: plinth scale a --to ${has}, or with --overcommit`));
  assert.is((await names()).length, 1 + Number(has));
  assert.is((await run(`scale a --to ${has}`)).code, 0);
  assert.is((await run(`scale a --to ${Number(has) + 1} --overcommit`)).code, 0);
  assert.equal(host.rig.kernel.traps, []);
});

test("mistakes", async ({ run }) => {
  assert.is((await run("scale a")).code, 2);
  assert.is((await run("scale a --to x")).code, 2);
  assert.is((await run("scale a --to 500")).code, 2);
  assert.is((await run("scale b --to 1")).code, 3);
  assert.is((await run("scale b --to 0")).code, 0);
  assert.match((await run("scale a --to 1 --snapshot none --dry-run")).stdout, /keep a as none/);
});

test.run();
