// What hostile VMs and components do to their neighbours, on a rig: nothing.
// rigs: VT-x, AMD-V

import * as assert from "uvu/assert";
import { type Context, MOST, TENANT, callAtRandom, create, endure, isolationSuite } from "./isolation";
import { misbehave, storm, traceless } from "./isolation";
import { hostLog, openConsole, row, waitState } from "./guest-runner";
import { Terminal } from "./terminal";

const MIB = 2 ** 20;
/** Random calls of the component, with what it has and then losing it. */
const CALLS = 50_000;
/** Bytes of a component's lines that the log takes in a second, and what a line has that does not count. */
const LOG_BYTES = 1000;
/** What a tenant may have, and for how long it is looked at. */
const TENANT_LOG_BYTES = 200;
const TENANT_CALLS = 20_000;
const SECONDS = 5;
const FLOOD = /^\[(\d+\.\d+)\] \[dm\/flood-\d\] flood: .*\n/gm;

const test = isolationSuite();

test("starving: all the time, with interrupts on and off", async (context) => {
  const kinds = Array.from({ length: MOST }, (_, n) => (n % 2 ? "loop" : "busy"));
  await endure(
    context,
    kinds.map((kernel, n) => ({ name: `${kernel}-${n}`, spec: { kernel }, begun: /^(busy|looping)$/m })),
  );
});

test("exits without end", async (context) => {
  await endure(context, [storm("exits", ["cpuid", "msr", "vmcall", "port", "mmio", "doorbell"], true)]);
});

test("interrupts without end", async (context) => {
  await endure(context, [storm("interrupts", ["ipi", "self", "nmi", "timer"])]);
});

test("output without end: the host answers", async (context) => {
  const answers = async (): Promise<void> => assert.ok(await row(context.host.client, "print"));
  await endure(context, [storm("print", ["print"])], answers);
});

test("what a VM leaves in its memory, no other sees", async (context) => {
  const { client } = context.host;
  const memory = 16 * MIB;
  for (const name of ["first", "second"]) {
    await create(client, name, { tenant: TENANT, kernel: "memory", memory, cmdline: `memory=${memory}` });
    const output = await openConsole(client, name);
    assert.match((await output.match(/^result: .*(?=[\r\n])/m))[0]!, /^result: success/, output.text);
    output.stream.close();
    await waitState(client, name, ["stopped"]);
    await client.remove(name, true);
  }
  await traceless(context);
});

/** The shell answers, and what another component says is in the log, whole, beside the floods. */
async function isHeard({ host }: Context, from: number): Promise<void> {
  const terminal = await Terminal.open(host.path);
  terminal.type("\r");
  await terminal.expect(/^plinth> /m);
  assert.match(await terminal.command("version"), /\d\.\d/);
  await terminal.close();
  await create(host.client, "bystander", { kernel: "busy", cmdline: "hostile=2" }).catch(() => undefined);
  await waitState(host.client, "bystander", ["crashed"]);
  await host.client.remove("bystander", true);
  const { text } = await hostLog(host.client, from);
  assert.match(text, /\[dm\/bystander\] hostile: 2 calls, [^]*\[dm\/bystander\] trap: hostile to the end /);
  // It may have begun in the middle of a second.
  const lines = [...text.matchAll(FLOOD)];
  const seconds = Number(lines.at(-1)![1]) - Number(lines[0]![1]);
  const bytes = lines.reduce((sum, [line]) => sum + line.length, 0);
  assert.ok(bytes <= 2 * LOG_BYTES * (seconds + 2), `${bytes} bytes in ${seconds} seconds\n${text}`);
  for (const name of ["flood-0", "flood-1"]) {
    const { model } = await host.client.show(name);
    assert.ok(model!.logDropped! > 1000, `${name}: ${model!.logDropped} lines left out`);
  }
}

const floods = ["flood-0", "flood-1"].map((name) => ({
  name,
  spec: { kernel: "storm", cmdline: "port hostile=flood" },
  begun: /^storm: /m,
}));

test("lines to the log without end, by two components: others are heard", async (context) => {
  const { next } = await hostLog(context.host.client, 0);
  await endure(context, floods, () => isHeard(context, next));
});

test("a tenant's limits of log bytes and hypercalls are for all its components together", async (context) => {
  const { client } = context.host;
  await client.setTenant({ name: TENANT, log: TENANT_LOG_BYTES, hypercalls: TENANT_CALLS });
  await endure(context, floods, async () => {
    const { next } = await hostLog(client, 0);
    const { time } = await client.top();
    while ((await client.top()).time - time < SECONDS * 1_000_000);
    const lines = (await hostLog(client, next)).text.match(FLOOD) ?? [];
    const seconds = ((await client.top()).time - time) / 1_000_000;
    const bytes = lines.join("").length;
    assert.ok(bytes > 0 && bytes <= TENANT_LOG_BYTES * (seconds + 2), `${bytes} bytes in ${seconds} s`);
    for (const { name } of floods) assert.ok((await client.show(name)).model!.throttled! > 0, name);
  });
  await client.setTenant({ name: TENANT, log: 0, hypercalls: 0 });
});

test("a component that tries every slot in each call gets statuses, and nothing of others", async (context) => {
  await misbehave(context, "sweep", /(hostile: \d{5,} calls swept, \d{3,} done[^]*){2}/);
});

test("a component that calls the kernel at random gets statuses, and ends itself", async (context) => {
  await callAtRandom(context, CALLS, 0);
});

test.run();
