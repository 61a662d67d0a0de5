// Two threads of one core run one tenant at a time, and both tenants get their turns.
// rigs: VT-x

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const THREADS = 2;
/** Microseconds of the host that are measured, at least. */
const MEASURED = 1_000_000;

const test = suite<{ host: Host }>("smt");

test.before(async (context) => {
  const machine = { threads: THREADS };
  context.host = await Host.boot("smt", join("build", "time.iso"), THREADS, { machine });
  for (const tenant of ["lab", "shop"]) await context.host.ok("tenant", "set", tenant, "vms=2");
});
test.after(async (context) => context.host?.stop());

async function busy(host: Host, name: string, tenant: string): Promise<void> {
  await host.ok("create", name, "--memory", "16M", "--kernel", "busy", "--tenant", tenant, "--start");
  await host.ok("console", name, "--expect", "^busy$");
}

/** What each of the VMs has had of a CPU meanwhile, in percent. */
async function shares(host: Host): Promise<Map<string, number>> {
  const before = await host.client.top();
  let after = before;
  while (after.time - before.time < MEASURED) after = await host.client.top();
  return new Map(
    after.vms.map(({ name, run, at }, n) => [
      name,
      ((run - before.vms[n]!.run) / (at - before.vms[n]!.at)) * 100,
    ]),
  );
}

test("two tenants share the core in time, each a turn after the other", async ({ host }) => {
  await busy(host, "a", "lab");
  await busy(host, "b", "shop");
  const had = await shares(host);
  const text = JSON.stringify([...had]);
  assert.ok(had.get("a")! + had.get("b")! < 101, `both ran at once: ${text}`);
  for (const vm of ["a", "b"]) assert.ok(had.get(vm)! > 40, text);
});

// (The control domain, which is asked all the time, runs on one of them, too.)
test("two VMs of one tenant use both threads", async ({ host }) => {
  await host.ok("rm", "b", "--force");
  await busy(host, "c", "lab");
  const had = await shares(host);
  for (const vm of ["a", "c"]) assert.ok(had.get(vm)! > 80, JSON.stringify([...had]));
});

test.run();
