// diff, apply, tenants, set and protected VMs: the tool with the shipping control domain.

import { PassThrough } from "node:stream";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ModelHost } from "./model-host";
import { type Result, runCli, startCli, until } from "./run-cli";

const test = suite<{ host: ModelHost; folder: string; file: string }>("apply");

test.before.each(async (context) => {
  context.host = new ModelHost();
  context.folder = mkdtempSync(join(tmpdir(), "plinth-"));
  context.file = join(context.folder, "host.yaml");
  await context.host.start();
});
test.after.each(async ({ host, folder }) => {
  await host.stop();
  rmSync(folder, { recursive: true });
});

/** The VMs of the model host as a file, with changes to a, and more. */
function yaml(a: string, more = ""): string {
  return `version: 1
host: { name: test }
tenants: [{ name: red, memory: 100M }]
profiles:
  guest: { kernel: linux, initrd: initrd, restart: { policy: never } }
vms:
  - { name: a, profile: guest, memory: 64M, cmdline: name=a${a} }
  - { name: b, profile: guest, memory: 96M, cmdline: name=b }
${more}`;
}

const run = (host: ModelHost, line: string, options = {}): Promise<Result> =>
  runCli(host, line.split(" "), options);

test("diff, dry run, apply, and nothing left to do", async ({ host, file }) => {
  writeFileSync(file, yaml(", tags: [web]", "  - { name: c, profile: guest, memory: 32M, tenant: red }\n"));
  const diff = await run(host, `diff -f ${file}`);
  assert.is(diff.code, 0, diff.stderr);
  assert.is(
    diff.stdout,
    '~ host     red  tenant: none -> 100 MiB\n~ change   a    tags: none -> ["web"]\n' +
      '+ create   c    32.8 MiB, 1 vCPU, tenant "red"\n',
  );
  assert.is((await run(host, `apply -f ${file} --dry-run`)).stdout, diff.stdout);
  const dry = JSON.parse((await run(host, `apply -f ${file} --dry-run --json`)).stdout);
  assert.equal(dry.refusals, []);
  assert.equal(dry.steps[1], { action: "change", object: "a", reason: 'tags: none -> ["web"]', ends: false });
  assert.is(host.rig.state("c"), "none");
  const done = await run(host, `apply -f ${file} --wait`);
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stderr, /applied: 3 steps/);
  assert.is(host.rig.state("c"), "running");
  const again = await run(host, `apply -f ${file}`);
  assert.match(again.stderr, /the host is what the specification says/);
  assert.equal(JSON.parse((await run(host, `apply -f ${file} --json`)).stdout), { applied: 0, steps: [] });
  assert.match((await run(host, "tenants")).stdout, /red +1 +1 +32\.\d MiB of 100 MiB/);
  assert.is(JSON.parse((await run(host, "tenants --json")).stdout).tenants[1].used.vms, 1);
});

test("ending or removing VMs needs a yes: typed, or --yes", async ({ host, file }) => {
  writeFileSync(file, yaml(", vcpus: 2").replace(/ {2}- \{ name: b.*\n/, ""));
  const refused = await run(host, `apply -f ${file}`);
  assert.is(refused.code, 2);
  assert.match(
    refused.stderr,
    /this ends or removes 2 VMs: b, a; that needs --yes\nnext: plinth apply -f .* --yes/,
  );
  assert.is(host.rig.state("b"), "running");
  for (const [answer, code, state] of [
    ["n", 1, "running"],
    ["", 1, "running"],
    ["yes", 0, "none"],
  ] as const) {
    const running = startCli(host, ["apply", "-f", file], { tty: true, stdin: new PassThrough() });
    await until(() => running.stderr().includes("Go on? [y/N] "), "the question");
    running.stdin.end(`${answer}\n`);
    assert.is((await running.result).code, code);
    assert.is(host.rig.state("b"), state);
  }
  assert.is(host.rig.row("a")!["vcpus"], 2);
  // A VM that is stopped has disks to lose.
  assert.is((await run(host, "create c --memory 8M --kernel linux --disk initrd")).code, 0);
  assert.match(
    (await run(host, `apply -f ${file}`)).stderr,
    /this ends or removes 1 VM: c; that needs --yes/,
  );
  assert.is((await run(host, `apply -f ${file} --yes`)).code, 0);
  assert.is(host.rig.state("c"), "none");
});

test("refusals: all are told, the first is the exit code", async ({ host, file }) => {
  const more =
    "  - { name: c, memory: 200M, kernel: linux, tenant: red }\n  - { name: d, memory: 8M, kernel: no }\n";
  writeFileSync(file, yaml("", more));
  for (const line of [`diff -f ${file}`, `apply -f ${file} --yes`]) {
    const { code, stderr } = await run(host, line);
    assert.is(code, 3, stderr);
    assert.match(stderr, /refused: tenant "red": its 1 VM need 20\d\.\d MiB, it may have 100\.0 MiB/);
    assert.match(stderr, /VM "d": there is no image "no"\nnext: plinth images/);
  }
  const json = await run(host, `diff -f ${file} --json`);
  assert.is(JSON.parse(json.stdout).refusals.length, 2);
  assert.is(host.rig.state("c"), "none");
});

test("a specification of several frames", async ({ host, file }) => {
  const vms = Array.from(
    { length: 20 },
    (_, n) =>
      `  - { name: vm${n}, memory: 4M, kernel: linux, start: false, cmdline: "${"x".repeat(900)}" }\n`,
  );
  writeFileSync(file, yaml("", vms.join("")));
  const { code, stderr } = await run(host, `apply -f ${file}`);
  assert.is(code, 0, stderr);
  assert.is((await run(host, "ls --json")).stdout.match(/"name"/g)!.length, 22);
  assert.is((await run(host, "ls")).stdout.trimEnd().split("\n").length, 23);
});

test("export, in each form, is what changes nothing", async ({ host, file, folder }) => {
  writeFileSync(file, yaml(", tags: [web], protected: true"));
  assert.is((await run(host, `apply -f ${file}`)).code, 0);
  for (const format of ["yaml", "json", "toml"]) {
    const out = join(folder, `out.${format}`);
    const { code, stdout, stderr } = await run(host, `export --format ${format}`);
    assert.is(code, 0, stderr);
    writeFileSync(out, stdout);
    assert.is((await run(host, `check -f ${out}`)).code, 0);
    const diff = await run(host, `diff -f ${out}`);
    assert.is(diff.stdout, "");
    assert.match(diff.stderr, /the host is what the specification says/);
  }
  assert.is(JSON.parse((await run(host, "export --json")).stdout).vms.length, 2);
  assert.is((await run(host, "export --format xml")).code, 2);
});

test("rules: denied, exported, applied; policy explain and check", async ({ host, file }) => {
  const lan = ", networks: [{ network: lan }]";
  const text = yaml(`, tenant: red${lan}`, `  - { name: c, profile: guest, memory: 16M${lan} }\n`);
  writeFileSync(file, text);
  for (const command of ["check", "diff", "apply --yes"]) {
    const { code, stderr } = await run(host, `${command} -f ${file}`);
    assert.is(code, 6, stderr);
    assert.match(stderr, /it needs the rule {tenants: \[red, default\], share: \[networks\]}/);
  }
  assert.match((await run(host, "policy check")).stderr, /nothing forbidden/);
  writeFileSync(
    file,
    text.replace("profiles:", "rules: [{ tenants: [red, default], share: [networks] }]\nprofiles:"),
  );
  const done = await run(host, `apply -f ${file} --yes --wait`);
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stdout, /rules: none -> red, default: networks/);
  assert.match((await run(host, "export")).stdout, /rules:\n +- tenants:\n +- red\n/);
  const refused = "create d --memory 16M --kernel linux --tenant red --network lan";
  assert.is((await run(host, refused)).code, 1, "the cable has two ends");
  assert.is((await run(host, "create e --memory 64M --kernel linux --tenant red")).code, 6);
  assert.match((await run(host, "status")).stdout, /denied +1 time by policy/);
  assert.match((await run(host, "tenants")).stdout, /NAME .* DENIED\n(.*\n)?red .* limits 1\n/);
  const explain = await run(host, "policy explain a c");
  assert.is(explain.code, 0, explain.stderr);
  assert.match(
    explain.stdout,
    /allowed +memory +dm\/a <-> dm\/c\n.*network "lan": .*: a rule lets them share networks/,
  );
  assert.match((await run(host, "policy check")).stderr, /nothing forbidden between 1 pair of tenants/);
  const { kernel } = host.rig;
  const memory = kernel.addMemory(1);
  for (const label of ["dm/a", "dm/b"]) kernel.domain(label).map(0x30000000, memory, 0, 1, 3);
  const found = await run(host, "policy check --json");
  assert.is(found.code, 6);
  assert.is(JSON.parse(found.stdout).forbidden, 1);
  assert.match(found.stderr, /1 way that no rule allows: memory \d+: dm\/b \(read, write\), dm\/a/);
});

test("the example of the README is a specification", async () => {
  const { code, stderr } = await runCli(undefined, ["check", "-f", "boot/images/tenants.yaml"]);
  assert.is(code, 0, stderr);
});

test("create, set and protected VMs", async ({ host, file }) => {
  writeFileSync(file, yaml(""));
  assert.is((await run(host, `apply -f ${file}`)).code, 0);
  const create =
    "create c --memory 8M --kernel linux --tenant red --tag web --tag x --protected --start --wait";
  assert.is((await run(host, create)).code, 0);
  const show = (await run(host, "show c")).stdout;
  assert.match(show, /tenant +red\ntags +web, x\nprotected +yes\n/);
  for (const line of ["stop c", "stop c --force", "reset c", "rm c --force"]) {
    const { code, stderr } = await run(host, line);
    assert.is(code, 6, stderr);
    assert.match(stderr, /VM "c" is protected\nnext: plinth (stop|reset|rm) c --force --protected/);
  }
  assert.is((await run(host, `apply -f ${file} --yes`)).code, 6);
  const set = await run(host, "set c protected=no tags=");
  assert.is(set.code, 0, set.stderr);
  assert.match((await run(host, "set c protected=maybe")).stderr, /'maybe' is neither yes nor no/);
  assert.match((await run(host, "set c memory=5")).stderr, /'memory=5' is none of tags=/);
  assert.is((await run(host, "rm c --force")).code, 0);
  assert.is((await run(host, "create d --memory 8M --kernel linux --tenant none")).code, 3);
});

test.run();
