// Frames that go from one VM to another by a balloon, while CPUs of the one who gave them may still have the
// translations: nobody ever sees what another has written there. (`isolation` has the memory of VMs that have ended.)
// rigs: VT-x, AMD-V (long)

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { guestWords, openConsole, waitState } from "./guest-runner";
import { Host } from "./host";

const CPUS = 2;
const MIB = 2 ** 20;
/** The less there is, the sooner a frame comes round. */
const HOST_MIB = 128;
const MEMORY = 16 * MIB;
/** What the guest `reuse` keeps for itself, of its memory. */
const KEPT = 4 * MIB;
/** What is beside the memory of a VM: its device model, tables. */
const BESIDE = 3 * MIB;
const ROUNDS = 1000;

const test = suite<{ host: Host; free: number }>("reuse");

test.before(async (context) => {
  const options = { memoryMiB: HOST_MIB };
  context.host = await Host.boot("reuse", join("build", "isolation.iso"), CPUS, options);
  for (const name of ["red", "blue"]) await context.host.client.setTenant({ name });
  for (const name of ["early-1", "early-2"]) await start(context.host, name, "red", "busy"); // what grows with use
  for (const name of ["early-1", "early-2"]) await context.host.client.remove(name, true);
  context.free = await context.host.free();
});
test.after(async (context) => context.host?.stop());
test.after.each(async ({ host, free }) => {
  for (const { name } of await host.client.list()) await host.client.remove(name, true);
  assert.is(await host.free(), free, "free memory, to the byte");
});

async function start(
  { client }: Host,
  name: string,
  tenant: string,
  kernel: string,
  words = "",
  memory = MEMORY,
): Promise<void> {
  const restart = { policy: "never", max: 0, window: 60 };
  const vcpus = kernel === "reuse" ? CPUS + 1 : 1;
  const cmdline = guestWords(words);
  await client.create({ name, tenant, kernel, memory, vcpus, start: true, restart, cmdline });
}

/** What a VM can have. */
async function room({ client }: Host): Promise<number> {
  const { free, reserved, promised } = (await client.status()).memory;
  return free - reserved - promised;
}

/** What a guest that ends has found. */
async function succeeds({ client }: Host, name: string): Promise<string> {
  const output = await openConsole(client, name);
  const [result] = await output.match(/^result: .*(?=[\r\n])/m);
  output.stream.close();
  assert.match(result, /^result: success/, `${name}: ${output.text}`);
  await waitState(client, name, ["stopped"]);
  return output.text;
}

test("pages go to the balloon while all CPUs of two VMs use them", async ({ host }) => {
  const words = (pattern: number): string => `pattern=${pattern} cpus=${CPUS + 1} rounds=${ROUNDS}`;
  await start(host, "red", "red", "reuse", words(1));
  await start(host, "blue", "blue", "reuse", words(2));
  for (const name of ["red", "blue"]) assert.match(await succeeds(host, name), /foreign: 0 /);
});

test("what a balloon has given, another VM finds zeroed", async ({ host }) => {
  const all = await room(host);
  await start(host, "red", "red", "reuse", "pattern=1 keep");
  const output = await openConsole(host.client, "red");
  await output.match(/^kept: /m);
  output.stream.close();
  const memory = Math.floor(((await room(host)) - BESIDE) / MIB) * MIB;
  assert.ok(memory > all - MEMORY && memory < all - KEPT, `${memory} of ${all}: more than red has left`);
  await start(host, "blue", "blue", "memory", `memory=${memory}`, memory);
  await succeeds(host, "blue");
});

test.run();
