// A trap of the control domain leaves the VMs alone; a trap of a device model ends its own VM only.
// rigs: VT-x, AMD-V

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startCli, until } from "../cli/run-cli";
import { Host } from "./host";

const VMS = ["ada", "bob"];
const RESTARTS = 3;

const test = suite<{ host: Host }>("restart");

test.before(async (context) => {
  context.host = await Host.boot("restart");
});
test.after(async (context) => context.host?.stop());

test("a trap of the control domain: the VMs run on, and the next one has everything", async ({ host }) => {
  for (const vm of VMS) {
    await host.waitUp(vm);
    await host.startTicks(vm);
  }
  const shown = await Promise.all(VMS.map((vm) => host.client.show(vm)));
  for (let n = 0; n < RESTARTS; n++) {
    const since = await host.client.lastEvent();
    const { code, stderr } = await host.cli("test", "trap");
    assert.is(code, 0, stderr);
    assert.match(stderr, new RegExp(`${n} -> ${n + 1} restarts`));

    const rows = await host.client.list();
    assert.equal(
      rows.map(({ name, state, memory }) => [name, state, memory]),
      [
        ["ada", "running", 128 << 20],
        ["bob", "running", 96 << 20],
      ],
    );
    const { events } = await host.client.events(since);
    assert.is(events.length, 1, JSON.stringify(events));
    assert.is(events[0]!.kind, "control-restarted");
    assert.match(events[0]!.text, /trap: test\.trap: .* @ control\/domain\/commands\.ts:\d+:\d+/);
    assert.match(events[0]!.text, /found 2 VMs/);

    for (const [index, vm] of VMS.entries()) {
      await host.type(vm, `echo $((${n} + 70)) by $(hostname)`, `^${n + 70} by ${vm}$`);
      assert.equal((await host.client.show(vm)).spec, shown[index]!.spec);
      await host.waitTick(vm);
      await host.missedNoTick(vm);
    }
  }
  for (const vm of VMS) {
    const text = await host.scrollback(vm);
    assert.match(text, `plinth-guest: ${vm} is up`);
    for (let n = 0; n < RESTARTS; n++) assert.match(text, `${n + 70} by ${vm}\n`);
  }
});

test("a control domain that is kept busy takes no time from the VMs", async ({ host }) => {
  const before = (await host.client.status()).uptimeMs;
  const first = (await host.ticks("ada")).at(-1)!;
  for (let n = 0; n < 200; n++) await host.client.show("ada");
  await host.waitTick("ada");
  const passed = ((await host.client.status()).uptimeMs - before) / 1000;
  const ticked = (await host.ticks("ada")).at(-1)! - first;
  assert.ok(Math.abs(passed - ticked) < 4, `${passed} s passed on the host, ${ticked} s in ada`);
});

test("an open console goes on through a trap", async ({ host }) => {
  const running = startCli({ path: host.path }, ["console", "ada"], { tty: true });
  await until(() => running.stdout().includes("tick ada"), "scroll-back");
  await host.ok("test", "trap");
  running.stdin.write("echo still $((40 + 2))\r");
  await until(() => running.stdout().includes("still 42"), "the answer after the trap");
  running.stdin.write("\x1d");
  assert.is((await running.result).code, 0);
});

test("a paused VM stays paused through a trap", async ({ host }) => {
  await host.ok("pause", "bob", "--wait");
  const before = await host.ticks("bob");
  await host.ok("test", "trap");
  assert.is(await host.state("bob"), "paused");
  await host.waitTick("ada");
  assert.equal(await host.ticks("bob"), before);
  await host.ok("resume", "bob", "--wait");
  await host.waitTick("bob");
});

test("a trap of a device model ends its VM and nothing else", async ({ host }) => {
  const since = await host.client.lastEvent();
  await host.ok("test", "trap-model", "bob");
  await waitForState(host, "bob", "crashed");
  const { events } = await host.client.events(since);
  assert.equal(
    events.map(({ kind, vm }) => [kind, vm]),
    [["model-failed", "bob"]],
  );
  assert.match(events[0]!.text, /^device model failed: .* @ control\/device-model\/[\w/-]+\.ts:\d+:\d+/);
  await host.refused(4, [/bob/, /next: plinth start bob/], "pause", "bob");
  assert.match(await host.scrollback("bob"), "plinth-guest: bob is up");
  await host.waitTick("ada");
  await host.missedNoTick("ada");
  assert.is(await host.state("ada"), "running");
});

test("a VM that starts while the control domain traps comes up; its memory comes back", async ({ host }) => {
  await host.ok("rm", "bob", "--wait");
  const free = await host.free();
  await host.ok("create", "bob", "--memory", "96M", "--kernel", "linux", "--initrd", "initrd", "--start");
  await host.ok("test", "trap");
  await host.ok("rm", "bob", "--force", "--wait");
  assert.is(await host.free(), free);
  await host.createLinux("bob", "96M");
  await host.type("bob", "hostname", "^bob$");
  await host.ok("rm", "bob", "--force", "--wait");
  assert.is(await host.free(), free);
});

test("a VM that is to be restarted on failure comes up again after its device model trapped", async ({
  host,
}) => {
  await host.ok("test", "trap-model", "ada");
  await waitForState(host, "ada", "running", 1);
  await host.waitUp("ada");
  assert.is((await host.client.show("ada")).restarts, 1);
});

test("reboot and poweroff typed in a VM", async ({ host }) => {
  const since = await host.client.lastEvent();
  await host.ok("console", "ada", "--send", "reboot\\n", "--expect", "ada is up", "--timeout", "170s");
  await host.ok("console", "ada", "--expect", "ada# ", "--send", "poweroff\\n");
  await waitForState(host, "ada", "stopped");
  const kinds = (await host.client.events(since)).events.map((event) => event.kind);
  assert.equal(kinds, ["vm-reset", "vm-started", "vm-running", "vm-off"]);
  assert.is((await host.client.list())[0]!.reason, "powered off");
});

/** Waits until a VM is in a state, after so many restarts. */
async function waitForState(host: Host, vm: string, state: string, restarts = 0): Promise<void> {
  const end = Date.now() + 60_000;
  for (;;) {
    const now = await host.client.show(vm);
    if (now.state === state && now.restarts >= restarts) return;
    assert.ok(Date.now() < end, `${vm} is not ${state} but ${now.state}: ${now.reason}`);
  }
}

test.run();
