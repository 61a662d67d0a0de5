// `plinth top`: once, as records, live on a terminal; against the shipping control domain.

import { PassThrough } from "node:stream";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { run } from "../../control/cli/run";
import { ModelHost } from "./model-host";
import { runCli, startCli, until } from "./run-cli";

const test = suite<{ host: ModelHost }>("top");

test.before.each(async (context) => {
  context.host = new ModelHost();
  await context.host.start();
});
test.after.each(async (context) => context.host.stop());

test("without a terminal: one look, over an interval", async ({ host }) => {
  host.rig.kernel.vm("vm/a").vcpu.counters.set(12, 5);
  const { code, stdout, stderr } = await runCli(host, ["top", "--interval", "200ms"]);
  assert.is(code, 0, stderr);
  const lines = stdout.split("\n");
  assert.match(lines[0]!, /^test, up .*; over \d+ ms of 1 CPU:$/);
  assert.match(
    lines[1]!,
    /^\d+\.\d % VMs, \d+\.\d % models, \d+\.\d % host, \d+\.\d % idle; [\d.]+ MiB of 512 MiB free$/,
  );
  assert.match(lines[2]!, /^NAME +STATE +MEMORY +RUN% +READY% +MODEL% +EXITS\/S +MOST EXITS$/);
  assert.match(lines[3]!, /^a +running +64 MiB +0\.0 +0\.0 +0\.0 +0$/);
  assert.is(lines.length, 6);
  const tenants = await runCli(host, "top tenants --once --interval 100ms".split(" "));
  assert.match(tenants.stdout, /\nTENANT +VMS .*\ndefault +2 +160 MiB /);
});

test("records for ever, until the reader has enough; shares are a whole", async ({ host }) => {
  const running = startCli(host, "top --json --interval 100ms".split(" "));
  await until(() => running.stdout().split("\n").length > 3, "three records");
  const { vcpu } = host.rig.kernel.vm("vm/a");
  vcpu.counters.set(30, 40);
  vcpu.runTime += 20_000_000n;
  await until(() => running.stdout().includes('"io":'), "what the VM did");
  await host.stop();
  await running.result;
  const records = running
    .stdout()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  for (const { shares, vms, tenants, intervalMs, cpus, memory } of records) {
    const sum = shares.vms + shares.models + shares.host + shares.idle;
    assert.ok(Math.abs(sum - 100) < 0.001, `${sum}`);
    assert.ok(intervalMs >= 20 && cpus === 1 && memory.free < memory.total);
    assert.equal(
      vms.map((vm: { name: string }) => vm.name),
      ["a", "b"],
    );
    assert.is(tenants[0].vms, 2);
    for (const vm of vms) assert.ok(vm.run >= 0 && vm.run <= 100 && vm.exits >= 0 && vm.ready >= 0);
  }
  assert.ok(records.some(({ vms }) => vms[0].run > 5 && vms[0].reasons.io > 0));
});

test("mistakes", async ({ host }) => {
  for (const [line, text] of [
    ["top vms", /it knows only 'tenants'/],
    ["top --interval 1ms", /it is at least 100ms/],
    ["top --interval soon", /is not a time/],
  ] as const) {
    const { code, stderr } = await runCli(host, line.split(" "));
    assert.is(code, 2);
    assert.match(stderr, text);
  }
});

/** A terminal of so many columns; `keys` are typed into it. */
function terminal(
  host: ModelHost,
  env: Record<string, string>,
): { out(): string; keys: PassThrough; raw(): boolean; code: Promise<number> } {
  let text = "";
  let raw = false;
  const keys = new PassThrough();
  const stdout = Object.assign(new PassThrough(), { isTTY: true, columns: 60, rows: 5 });
  stdout.on("data", (bytes: Buffer) => (text += bytes.toString()));
  const stdin = Object.assign(keys, { isTTY: true, setRawMode: (on: boolean) => (raw = on) });
  const stderr = new PassThrough().resume();
  const code = run(["--socket", host.path, "top", "--interval", "100ms"], { stdin, stdout, stderr, env });
  return { out: () => text, keys, raw: () => raw, code };
}

test("live: in place, what fits, t for tenants, any other key leaves and restores the terminal", async ({
  host,
}) => {
  await runCli(host, "create c --memory 16M --kernel linux --start --wait".split(" "));
  const screen = terminal(host, {});
  await until(() => screen.out().split("\x1b[H").length > 3, "three screens");
  assert.ok(screen.raw());
  assert.match(screen.out(), /^\x1b\[\?1049h\x1b\[\?25l\x1b\[H/);
  assert.match(screen.out(), /\.\.\. 3 more\x1b\[K\r\n\x1b\[J/);
  for (const line of screen.out().split(/\r\n|\x1b\[H/)) {
    const visible = line.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");
    assert.ok(visible.length < 60, visible);
  }
  screen.keys.write("t");
  await until(() => screen.out().includes("TENANT"), "tenants");
  screen.keys.write("q");
  assert.is(await screen.code, 0);
  assert.not(screen.raw());
  assert.ok(screen.out().endsWith("\x1b[?25h\x1b[?1049l"));
});

test("TERM=dumb: plain text again and again", async ({ host }) => {
  const screen = terminal(host, { TERM: "dumb" });
  await until(() => screen.out().split("NAME").length > 3, "three tables");
  assert.not.match(screen.out(), /\x1b/);
  await host.stop();
  assert.is(await screen.code, 5);
});

test.run();
