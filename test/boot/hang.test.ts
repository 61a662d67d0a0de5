// A device model that never comes back from an exit, on a CPU that it shares and on one of its VM's own: the host
// answers, a neighbour ticks on, `stop --force` and `rm` work, and nothing is left.
// rigs: VT-x, AMD-V

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { guestWords, openConsole, type Output, row } from "./guest-runner";
import { Host } from "./host";

const CPUS = 2;
const TICKER = "neighbour";
/** Microseconds after which it hangs without doubt. */
const LONG = 500_000;

const test = suite<{ host: Host; ticker: Output }>("hang");

const options = (kernel: string, words: string): string[] => {
  const guest = ["--memory", "4M", "--kernel", kernel, "--cmdline", guestWords(words)];
  return [...guest, "--restart", "never", "--start"];
};

test.before(async (context) => {
  const host = await Host.boot("hang", join("build", "isolation.iso"), CPUS);
  context.host = host;
  await host.ok("create", TICKER, ...options("ticker", ""));
  context.ticker = await openConsole(host.client, TICKER);
  await host.ok("create", "early", ...options("busy", "")); // what grows with use
  await host.ok("rm", "early", "--force");
});
test.after(async ({ host, ticker }) => {
  ticker?.stream.close();
  await host?.stop();
});
test.after.each(async ({ host: { client } }) => {
  for (const { name } of await client.list()) if (name !== TICKER) await client.remove(name, true);
});

/** Waits until the device model of a VM has had so much time. */
async function hangs({ client }: Host, name: string): Promise<void> {
  for (const end = Date.now() + 120_000; ;) {
    const vm = (await client.top()).vms.find((one) => one.name === name);
    if (vm !== undefined && vm.model > LONG) return;
    assert.ok(Date.now() < end, `${name} does not hang: ${JSON.stringify(vm)}`);
  }
}

for (const [kind, words] of [
  ["shares", []],
  ["has for itself", ["--scheduling", "dedicated"]],
] as const)
  test(`on a CPU that it ${kind}`, async ({ host, ticker }) => {
    const free = await host.free();
    await host.ok("create", "hanging", ...options("storm", "port hostile=hang"), ...words);
    await hangs(host, "hanging");
    assert.is((await row(host.client, "hanging"))?.state, "running");
    await ticker.match(/\n(ticks .*\n){2}/, ticker.text.length);
    await host.ok("stop", "hanging", "--force");
    assert.is(await host.state("hanging"), "stopped");
    await host.ok("rm", "hanging");
    assert.is(await host.free(), free, "free memory, to the byte");
    await ticker.match(/\n(ticks .*\n){2}/, ticker.text.length);
  });

test.run();
