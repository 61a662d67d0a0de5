// Runs test guests of test/guest one after another beside a neighbour that counts its clock's ticks.
//
// After each: what the host says of the VM, that its memory has come back, that no tick was missed.

import { join } from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import { type Rig, startRig } from "../../boot/rigs/rig";
import { type Client, connect, type VmRow } from "../../control/cli/client";
import type { ConsoleStream } from "../../control/cli/console-stream";
import { runDir, skipped } from "./host";

const BOOT_LIMIT_MS = 120_000;
export const LINE_LIMIT_MS = 120_000;
const ANSWER_LIMIT_MS = 60_000;
export const MEMORY = 16 << 20;
const TICKER = "neighbour";
const RESULT = /^result: .*(?=[\r\n])/m;

/** The output of a VM, and waiting for what it will print. */
export class Output {
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

export interface Context {
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
    runDir: runDir(name),
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

export async function openConsole(client: Client, vm: string): Promise<Output> {
  const stream = client.console(vm);
  consoles.push(stream);
  const output = new Output(stream);
  await stream.open();
  return output;
}

export async function row(client: Client, vm: string): Promise<VmRow | undefined> {
  return (await client.list()).find((one) => one.name === vm);
}

/** Waits until the host says that the VM is in one of these states. */
export async function waitState(client: Client, vm: string, states: string[]): Promise<VmRow> {
  const end = Date.now() + LINE_LIMIT_MS;
  for (;;) {
    const found = await row(client, vm);
    if (found !== undefined && states.includes(found.state)) return found;
    if (Date.now() > end) throw new Error(`${vm} is ${found?.state}, not ${states.join(" or ")}`);
  }
}

/** The command line of a guest of test/guest, which asks it what the rig cannot do. */
export function guestWords(words = ""): string {
  return process.env.PLINTH_RIG === "qemu-tcg" ? `${words} tcg`.trim() : words;
}

export async function create(
  client: Client,
  vm: string,
  kernel: string,
  options: Options = {},
): Promise<void> {
  const restart = { policy: "never", max: 0, window: 60 };
  const all = { memory: MEMORY, vcpus: 1, start: true, restart, ...options };
  const cmdline = guestWords(options.cmdline);
  await client.create({ name: vm, kernel, ...all, cmdline });
}

export interface Options {
  cmdline?: string;
  debugExit?: boolean;
}

/**
 * How many ticks the neighbour has missed, by a line that it has begun after this call. Where its clock is not that of
 * its instructions, what else the machine does takes ticks away: then it is enough that it ticks on.
 */
export async function missedTicks({ rig, ticker }: Context): Promise<number> {
  const from = ticker.text.length;
  const found = await ticker.match(/\n.*\nticks \d+ missed (\d+) .*\n/, from);
  return rig.kind === "bochs" ? Number(found[1]) : 0;
}

/** The kernel's log from `from` on. */
export async function hostLog(client: Client, from: number): Promise<{ text: string; next: number }> {
  let text = "";
  for (let at = from; ;) {
    const chunk = await client.logs(undefined, at);
    if (chunk.next === at || chunk.data.length === 0) return { text, next: at };
    text += Buffer.from(chunk.data).toString("latin1");
    at = chunk.next;
  }
}

export async function before(context: Context): Promise<number> {
  context.missed = await missedTicks(context);
  context.free = (await context.client.status()).memory.free;
  return (await hostLog(context.client, 0)).next;
}

/** Removes the VM; nothing of it is left, and the neighbour has not noticed it. */
export async function after(context: Context, vm: string): Promise<void> {
  const { client } = context;
  await client.remove(vm, true);
  assert.is(await row(client, vm), undefined);
  assert.is((await client.status()).memory.free, context.free, "free memory, to the byte");
  const bad = (await client.doctor()).filter((check) => !check.ok);
  assert.equal(bad, [], "doctor");
  assert.is(await missedTicks(context), context.missed, "ticks that the neighbour missed");
  assert.is((await row(client, TICKER))?.state, "running");
}

/** A guest that says its outcome and switches itself off. */
export async function runGuest(context: Context, kernel: string, options: Options = {}): Promise<void> {
  await before(context);
  await create(context.client, kernel, kernel, options);
  const output = await openConsole(context.client, kernel);
  try {
    const [result] = await output.match(RESULT);
    assert.match(result!, /^result: success/, output.text);
    for (const [, why] of output.text.matchAll(/^skipped: (.*)$/gm)) skipped(`${kernel}: ${why}`);
    const end = await waitState(context.client, kernel, ["stopped", "crashed"]);
    assert.is(end.state, "stopped");
    assert.is(end.reason, "powered off");
  } finally {
    output.stream.close();
  }
  await after(context, kernel);
}

/** A suite in a rig of its own, with the neighbour. Call its run(). */
export function guestSuite(name: string): Test<Context> {
  const test = suite<Context>(name);
  test.before(async (context) => {
    await boot(context, `${name}.iso`);
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
  return test;
}
