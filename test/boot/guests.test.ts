// Runs the test guests of test/guest one after another beside a neighbour that counts its clock's ticks.
//
// After each: what the host says of the VM, that its memory has come back, that no tick was missed.

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Rig, startRig } from "../../boot/rigs/rig";
import { type Client, connect, type VmRow } from "../../control/cli/client";
import type { ConsoleStream } from "../../control/cli/console-stream";

const BOOT_LIMIT_MS = 120_000;
const LINE_LIMIT_MS = 120_000;
const ANSWER_LIMIT_MS = 60_000;
const MEMORY = 16 << 20;
const TICKER = "neighbour";
const RESULT = /^result: .*$/m;

/** The output of a VM, and waiting for what it will print. */
class Output {
  text = "";
  private changed: () => void = () => undefined;

  constructor(readonly stream: ConsoleStream) {
    stream.on("data", (bytes: Uint8Array) => {
      this.text += Buffer.from(bytes).toString("latin1").replaceAll("\r", "");
      this.changed();
    });
    stream.on("error", () => undefined);
  }

  /** Waits until what follows `from` matches. */
  async match(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    const end = Date.now() + LINE_LIMIT_MS;
    for (;;) {
      const found = pattern.exec(this.text.slice(from));
      if (found !== null) return found;
      if (Date.now() > end) throw new Error(`no ${pattern} in: ${this.text.slice(-500)}`);
      await new Promise<void>((done) => {
        const timer = setTimeout(done, end - Date.now() + 1);
        this.changed = (): void => {
          clearTimeout(timer);
          done();
        };
      });
    }
  }
}

interface Context {
  rig: Rig;
  client: Client;
  ticker: Output;
  /** Free memory before the guest. */
  free: number;
  missed: number;
}

async function boot(context: Context, iso: string): Promise<void> {
  const name = iso.replace(/\.iso$/, "");
  context.rig = await startRig({
    iso: join("build", iso),
    memoryMiB: 192,
    runDir: join("build", "run", name),
  });
  const end = Date.now() + BOOT_LIMIT_MS;
  for (;;) {
    try {
      context.client = await connect(context.rig.socketPath, { timeout: ANSWER_LIMIT_MS });
      return;
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

const consoles: ConsoleStream[] = [];

async function openConsole(client: Client, vm: string): Promise<Output> {
  const stream = client.console(vm);
  consoles.push(stream);
  const output = new Output(stream);
  await stream.open();
  return output;
}

async function row(client: Client, vm: string): Promise<VmRow | undefined> {
  return (await client.list()).find((one) => one.name === vm);
}

/** Waits until the host says that the VM is in one of these states. */
async function waitState(client: Client, vm: string, states: string[]): Promise<VmRow> {
  const end = Date.now() + LINE_LIMIT_MS;
  for (;;) {
    const found = await row(client, vm);
    if (found !== undefined && states.includes(found.state)) return found;
    if (Date.now() > end) throw new Error(`${vm} is ${found?.state}, not ${states.join(" or ")}`);
  }
}

async function create(client: Client, vm: string, kernel: string, cmdline = ""): Promise<void> {
  const restart = { policy: "never", max: 0, window: 60 };
  await client.create({ name: vm, memory: MEMORY, vcpus: 1, kernel, cmdline, start: true, restart });
}

/** How many ticks the neighbour has missed, by a line that it has begun after this call. */
async function missedTicks({ ticker }: Context): Promise<number> {
  const from = ticker.text.length;
  const found = await ticker.match(/\n.*\nticks \d+ missed (\d+) .*\n/, from);
  return Number(found[1]);
}

/** The kernel's log from `from` on. */
async function hostLog(client: Client, from: number): Promise<{ text: string; next: number }> {
  let text = "";
  for (let at = from; ;) {
    const chunk = await client.logs(undefined, at);
    if (chunk.next === at || chunk.data.length === 0) return { text, next: at };
    text += Buffer.from(chunk.data).toString("latin1");
    at = chunk.next;
  }
}

async function before(context: Context): Promise<number> {
  context.missed = await missedTicks(context);
  context.free = (await context.client.status()).memory.free;
  return (await hostLog(context.client, 0)).next;
}

/** Removes the VM; nothing of it is left, and the neighbour has not noticed it. */
async function after(context: Context, vm: string): Promise<void> {
  const { client } = context;
  await client.remove(vm);
  assert.is(await row(client, vm), undefined);
  assert.is((await client.status()).memory.free, context.free, "free memory, to the byte");
  const bad = (await client.doctor()).filter((check) => !check.ok);
  assert.equal(bad, [], "doctor");
  assert.is(await missedTicks(context), context.missed, "ticks that the neighbour missed");
  assert.is((await row(client, TICKER))?.state, "running");
}

/** A guest that says its outcome and switches itself off. */
async function runGuest(context: Context, kernel: string, cmdline = ""): Promise<void> {
  await before(context);
  await create(context.client, kernel, kernel, cmdline);
  const output = await openConsole(context.client, kernel);
  try {
    const [result] = await output.match(RESULT);
    assert.match(result!, /^result: success/, output.text);
    const end = await waitState(context.client, kernel, ["stopped", "crashed"]);
    assert.is(end.state, "stopped");
    assert.is(end.reason, "powered off");
  } finally {
    output.stream.close();
  }
  await after(context, kernel);
}

const test = suite<Context>("guests");

test.before(async (context) => {
  await boot(context, "guests.iso");
  await create(context.client, TICKER, "ticker");
  context.ticker = await openConsole(context.client, TICKER);
  await context.ticker.match(/^ticks /m);
});
// What a failed test has left behind must not disturb the next.
test.after.each(async ({ client }) => {
  for (const { name } of await client.list()) if (name !== TICKER) await client.remove(name, true);
});
test.after(async ({ client, rig }) => {
  for (const stream of consoles) stream.close();
  await client?.close();
  await rig?.stop();
});

for (const kernel of ["msr", "port", "cpuid", "cr", "vmx", "apic", "events"]) {
  test(kernel, (context) => runGuest(context, kernel));
}

// Twice: the second would see what the first has left.
test("memory", (context) => runGuest(context, "memory", `memory=${MEMORY}`));
test("memory again", (context) => runGuest(context, "memory", `memory=${MEMORY}`));

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
