// The test guests that are about the CPU, memory and time.
// rigs: VT-x, AMD-V

import * as assert from "uvu/assert";
import {
  after,
  before,
  create,
  guestSuite,
  hostLog,
  MEMORY,
  missedTicks,
  openConsole,
  row,
  runGuest,
  waitState,
} from "./guest-runner";

const test = guestSuite("guests");

for (const kernel of [
  "msr",
  "port",
  "cpuid",
  "cr",
  "vector",
  "vmx",
  "apic",
  "masked",
  "xapic",
  "clock",
  "events",
]) {
  test(kernel, (context) => runGuest(context, kernel));
}

// Twice: the second would see what the first has left.
test("memory", (context) => runGuest(context, "memory", { cmdline: `memory=${MEMORY}` }));
test("memory again", (context) => runGuest(context, "memory", { cmdline: `memory=${MEMORY}` }));

test("loop", async (context) => {
  const { client } = context;
  await before(context);
  await create(client, "loop", "loop");
  const output = await openConsole(client, "loop");
  await output.match(/^looping$/m);
  // The neighbour ticks on beside it, and it does not see the power button.
  assert.is(await missedTicks(context), context.missed);
  await client.stop("loop");
  assert.is(await missedTicks(context), context.missed);
  assert.is((await row(client, "loop"))?.state, "running");
  await client.stop("loop", true);
  await waitState(client, "loop", ["stopped"]);
  output.stream.close();
  await after(context, "loop");
});

// Its clock stands still with it: neither it nor a copy of it has missed a tick.
test("snapshot of the neighbour", async (context) => {
  const { client } = context;
  // What it writes to has tables of small pages from now on.
  await client.createSnapshot("neighbour", { name: "first" });
  await missedTicks(context);
  await client.removeSnapshot("first");
  await before(context);
  await client.createSnapshot("neighbour", { name: "kept" });
  assert.is(await missedTicks(context), context.missed);
  await client.cloneSnapshot("kept", "copy", {});
  const output = await openConsole(client, "copy");
  const [, missed] = await output.match(/\n.*\nticks \d+ missed (\d+) .*\n/, output.text.length);
  if (context.rig.kind === "bochs") assert.is(Number(missed), context.missed);
  output.stream.close();
  await client.removeSnapshot("kept");
  await after(context, "copy");
});

test("triple", async (context) => {
  const { client } = context;
  const log = await before(context);
  const since = await client.lastEvent();
  await create(client, "triple", "triple");
  const end = await waitState(client, "triple", ["stopped", "crashed"]);
  assert.is(end.state, "crashed");
  assert.match(end.reason, /triple fault/);
  const { events } = await client.events(since);
  const told = events.find((event) => event.vm === "triple" && /triple fault/.test(event.text));
  assert.ok(told, JSON.stringify(events));
  assert.match((await hostLog(client, log)).text, /exit reason 2\b[^]*rip [0-9a-f]+ rflags/);
  await after(context, "triple");
});

test.run();
