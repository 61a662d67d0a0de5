// VMs that take all the time they get fill every CPU, each with what its specification says: a dedicated CPU, a
// reservation, a cap, and weights for what is left.
// rigs: VT-x

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { TopSample, TopVm } from "../../control/cli/results";
import { Host } from "./host";

const CPUS = 4;
/** Microseconds of the host that are measured, at least. */
const MEASURED = 4_000_000;
/** Of a CPU, in percent: what fills it, and what is near enough. */
const FULL = 98;
const NEAR = 2;

const SHARED = { a1: 100, a2: 100, a3: 100, a4: 100, b1: 200, b2: 200 };
const PROMISED: Record<string, string[]> = {
  dedicated: ["--scheduling", "dedicated"],
  reserved: ["--scheduling", "reserved", "--reserve", "30"],
  capped: ["--cap", "10"],
};

const test = suite<{ host: Host }>("saturation");

test.before(async (context) => {
  context.host = await Host.boot("saturation", join("build", "time.iso"), CPUS);
  for (const [name, options] of Object.entries(PROMISED)) await busy(context.host, name, options);
  for (const [name, weight] of Object.entries(SHARED))
    await busy(context.host, name, ["--weight", String(weight)]);
});
test.after(async (context) => context.host?.stop());

async function busy(host: Host, name: string, options: string[]): Promise<void> {
  await host.ok("create", name, "--memory", "16M", "--kernel", "busy", ...options, "--start");
  await host.ok("console", name, "--expect", "^busy$");
}

const row = (sample: TopSample, name: string): TopVm => sample.vms.find((vm) => vm.name === name)!;

/** What a VM had of a CPU between two samples, in percent; the host takes each VM's sample at its own time. */
function percent(before: TopSample, after: TopSample, name: string, what: "run" | "ready"): number {
  const [first, last] = [row(before, name), row(after, name)];
  return ((last[what] - first[what]) / (last.at - first.at)) * 100;
}

test("each has what it should, and nothing is left", async ({ host }) => {
  const before = await host.client.top();
  let after = before;
  while (after.time - before.time < MEASURED) after = await host.client.top();
  const ran = (name: string): number => percent(before, after, name, "run");
  const names = [...Object.keys(PROMISED), ...Object.keys(SHARED)];
  const shown = names.map((name) => `${name} ${ran(name).toFixed(1)} %`).join(", ");

  const partOf = (what: "idle" | "control"): number =>
    ((after[what] - before[what]) / (after.time - before.time)) * 100;
  const [idle, control] = [partOf("idle"), partOf("control")]; // which is asked all the time
  const used = names.reduce((sum, name) => sum + ran(name), control);
  const rest = `idle ${idle.toFixed(1)} %, control domain ${control.toFixed(1)} % of a CPU`;
  assert.ok(idle < 100 - FULL && used > CPUS * FULL, `${shown}; ${rest}`);
  assert.ok(ran("dedicated") > FULL, shown);
  assert.ok(Math.abs(ran("reserved") - 30) < NEAR, shown);
  assert.ok(Math.abs(ran("capped") - 10) < NEAR, shown);

  // What is left is shared by weight, over all CPUs.
  const left = Object.keys(SHARED).reduce((sum, name) => sum + ran(name), 0);
  for (const [name, weight] of Object.entries(SHARED)) {
    const due = (left * weight) / 800;
    assert.ok(
      Math.abs(ran(name) / due - 1) < NEAR / 100,
      `${name} should have ${due.toFixed(1)} %: ${shown}`,
    );
  }
  // Who is ready runs or waits.
  for (const name of names) {
    const all = ran(name) + percent(before, after, name, "ready");
    assert.ok(Math.abs(all - 100) < NEAR, `${name} ran and waited ${all.toFixed(1)} % of the time`);
  }
});

test("a dedicated CPU knows no exits for scheduling", async ({ host }) => {
  const before = await host.client.top();
  let after = before;
  while (after.time - before.time < 200_000) after = await host.client.top();
  assert.equal(row(after, "dedicated").counters, row(before, "dedicated").counters);
});

test("what no CPU has left is refused, by the planner and by the kernel, and nothing changes", async ({
  host,
}) => {
  const said = [/each of its vCPUs should have 90 % of a CPU/, /no CPU that it may run on has that left/];
  await host.refused(1, said, "set", "a1", "scheduling=reserved", "reserve=90", "cpus=0");
  assert.match(await host.ok("show", "a1"), /scheduling +shared, weight 100; on CPU/);
});

test("shares change while VMs run", async ({ host }) => {
  await host.ok("set", "dedicated", "scheduling=shared", "cpus=1");
  await host.ok("set", "a1", "scheduling=dedicated", "cpus=3");
  assert.match(await host.ok("show", "a1"), /scheduling +dedicated, cpus 3; on CPU 3;/);
  assert.match(await host.ok("show", "dedicated"), /scheduling +shared, cpus 1; on CPU 1;/);
});

test.run();
