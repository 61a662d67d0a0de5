// Hostile VMs and a hostile component, beside a neighbour of each scheduling class: none of them misses a tick beyond
// what its class promises, the kernel's counters add up, and nothing of the guests is left afterwards.

import { join } from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import type { Client } from "../../control/cli/client";
import type { TopSample, VmSpec } from "../../control/cli/results";
import { guestWords, hostLog, openConsole, type Output, row, waitState } from "./guest-runner";
import { Host } from "./host";

const CPUS = 2;
const MIB = 2 ** 20;
export const TENANT = "foe";
/** Exits that show that a storm of them was one. */
const MANY = 1000;
/** Of the time of all CPUs, in percent: what may be missing where it is added up. */
const NEAR = 2;
/** Attackers at once. */
export const MOST = 4;

/** The neighbours: what they are promised, and the longest time between two ticks that this allows, in microseconds. */
const TICK = 10_000;
const NEIGHBOURS: { name: string; share: Partial<VmSpec>; gap: number }[] = [
  // First, while a CPU has promised nothing.
  { name: "dedicated", share: { scheduling: "dedicated" }, gap: TICK + 1_000 },
  { name: "shared", share: { scheduling: "shared", latency: 20 }, gap: TICK + 20_000 },
  { name: "reserved", share: { scheduling: "reserved", reserve: 20, period: 5 }, gap: TICK + 5_000 },
];
/** What a tick takes itself, and the reading of the clocks, on a CPU of 100 million instructions a second. */
const TAKEN = 1_000;

export interface Context {
  host: Host;
  neighbours: Map<string, Output>;
  /** The counters after what grows with use has grown, and the last ones. */
  first: TopSample;
  last: TopSample;
}
export interface Attack {
  name: string;
  spec: Partial<VmSpec>;
  /** Its console says so when it has begun. */
  begun: RegExp;
  /** Whether each turn of it is an exit. */
  exits?: boolean;
}

/** A suite in a rig of its own, with the neighbours. Call its run(). */
export function isolationSuite(): Test<Context> {
  const test = suite<Context>("isolation");
  test.before(async (context) => {
    context.host = await Host.boot("isolation", join("build", "isolation.iso"), CPUS);
    context.neighbours = new Map();
    await setUp(context).catch((error: Error) => {
      console.error(error.message); // uvu hides why a hook fails
      throw error;
    });
  });
  test.after(async (context) => {
    for (const { stream } of context.neighbours.values()) stream.close();
    await context.host?.stop();
  });
  // What a failed test has left behind must not disturb the next.
  test.after.each(async ({ host, neighbours }) => {
    for (const { name } of await host.client.list())
      if (!neighbours.has(name)) await host.client.remove(name, true);
  });
  return test;
}

async function setUp(context: Context): Promise<void> {
  const { client } = context.host;
  await client.setTenant({ name: TENANT });
  for (const { name, share } of NEIGHBOURS) {
    await create(client, name, { kernel: "ticker", memory: 4 * MIB, ...share });
    context.neighbours.set(name, await openConsole(client, name));
  }
  await ticksOn(context);
  // As many as there will be, so that what grows with use has grown.
  const many = Array.from({ length: MOST }, (_, n) => `early-${n}`);
  for (const name of many) await create(client, name, { tenant: TENANT, kernel: "busy" });
  for (const name of many) await client.remove(name, true);
  context.first = context.last = await client.top();
}

export async function create(client: Client, name: string, spec: Partial<VmSpec>): Promise<void> {
  const cmdline = guestWords(spec.cmdline);
  const restart = { policy: "never", max: 0, window: 60 };
  await client.create({ name, memory: 4 * MIB, vcpus: 1, start: true, restart, ...spec, cmdline });
}

/**
 * Each neighbour ticks on: two more lines, of which the second has begun by now. Where the rig's clock is that of its
 * instructions, none of them tells of a time without a tick that is longer than what its class allows.
 */
async function ticksOn({ host, neighbours }: Context): Promise<void> {
  for (const { name, gap } of NEIGHBOURS) {
    const output = neighbours.get(name)!;
    const [lines] = await output.match(/\n(ticks \d+ missed \d+ .*\n){2}/, output.text.length);
    if (host.rig.kind !== "bochs") continue;
    for (const [line, longest] of output.text.matchAll(/largest gap (\d+) us\n/g))
      assert.ok(Number(longest) <= gap + TAKEN, `${name}: ${line}\n${lines}`);
    output.text = "\n";
  }
}

/** All time that the host has accounted for. */
function accounted(sample: TopSample): number {
  const vms = sample.vms.reduce((sum, { run, model }) => sum + run + model, 0);
  return sample.idle + sample.control + sample.past + vms;
}

function addsUp(before: TopSample, after: TopSample): void {
  const passed = (after.time - before.time) * after.cpus;
  const had = accounted(after) - accounted(before);
  const text = `${JSON.stringify(before)}\n${JSON.stringify(after)}`;
  assert.ok(Math.abs(had / passed - 1) < NEAR / 100, `${had} of ${passed} us are accounted for\n${text}`);
  const grows = (one: object, other: object, what: string): void => {
    const [old, now] = [one, other] as Record<string, number>[];
    assert.ok((now![what] ?? 0) >= (old![what] ?? 0), `${what} has gone back\n${text}`);
  };
  for (const what of ["time", "idle", "control", "past"]) grows(before, after, what);
  for (const vm of after.vms) {
    const sum = Object.values(vm.counters).reduce((total, one) => total + one, 0);
    assert.is(sum, vm.exits, `all exits of ${vm.name} are of some kind`);
    const old = before.vms.find(({ name, starts }) => name === vm.name && starts === vm.starts);
    if (old === undefined) continue;
    for (const what of ["run", "ready", "model", "exits"]) grows(old, vm, what);
    for (const reason of Object.keys(old.counters)) grows(old.counters, vm.counters, reason);
  }
}

/** All of them at once; `meanwhile` is what must work then. Afterwards they are gone, without a trace. */
export async function endure(
  context: Context,
  attacks: Attack[],
  meanwhile?: () => Promise<void>,
): Promise<void> {
  const { client } = context.host;
  for (const { name, spec, begun } of attacks) {
    await create(client, name, { tenant: TENANT, ...spec });
    const output = await openConsole(client, name);
    await output.match(begun);
    output.stream.close();
  }
  await ticksOn(context);
  await meanwhile?.();
  await count(context);
  for (const { name, exits } of attacks) {
    const vm = context.last.vms.find((one) => one.name === name)!;
    assert.ok(vm.run > 0, `${name} has not run`);
    if (exits) assert.ok(vm.exits > MANY, `${name}: ${vm.exits} exits`);
  }
  for (const { name } of attacks) await client.remove(name, true);
  await traceless(context);
}

/** Reads the counters, which must add up since they were read last. */
async function count(context: Context): Promise<void> {
  const now = await context.host.client.top();
  addsUp(context.last, now);
  context.last = now;
}

/** Nothing is left of any attack, and the neighbours have not noticed. */
export async function traceless(context: Context): Promise<void> {
  const { client } = context.host;
  await ticksOn(context);
  await count(context);
  assert.is(context.last.free, context.first.free, "free memory, to the byte");
  assert.is(context.last.caps, context.first.caps, "capabilities");
  for (const { name } of NEIGHBOURS) assert.is((await row(client, name))?.state, "running");
}

export const storm = (name: string, words: string[], exits = false): Attack => ({
  name,
  spec: { kernel: "storm", vcpus: words.length, cmdline: words.join(" ") },
  begun: /^storm: /m,
  exits,
});

/** A component that calls the kernel in some way gets nothing but statuses; then it ends itself, and nothing is left. */
export async function misbehave(context: Context, words: string, told: RegExp): Promise<void> {
  const { client } = context.host;
  const from = (await hostLog(client, 0)).next;
  const spec = { tenant: TENANT, kernel: "busy", cmdline: `hostile=${words}` };
  await create(client, "hostile", spec).catch(() => undefined);
  await waitState(client, "hostile", ["crashed", "stopped"]);
  const { text } = await hostLog(client, from);
  assert.match(text, told);
  assert.match(text, /\[dm\/hostile\] trap: hostile to the end /);
  await client.remove("hostile", true);
  await traceless(context);
}

/** So many calls, with what it has, and then as many losing it: those leave no room in the log for how many were done. */
export async function callAtRandom(context: Context, calls: number, seed: number): Promise<void> {
  await misbehave(context, `${calls} seed=${seed}`, new RegExp(`hostile: ${calls} calls, \\d{4,} done`));
}
