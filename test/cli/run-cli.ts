// Runs the CLI in this process with streams that a test can write and read.

import { PassThrough } from "node:stream";
import * as assert from "uvu/assert";
import { run } from "../../control/cli/run";

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  stdin?: string | PassThrough;
  env?: Record<string, string>;
  /** Makes stdin a terminal. */
  tty?: boolean;
}

/** A run that goes on; `stdout()` is what it has printed so far. */
export interface Running {
  result: Promise<Result>;
  stdin: PassThrough;
  stdout(): string;
  stderr(): string;
  raw(): boolean;
}

export function startCli(
  host: { path: string } | undefined,
  argv: readonly string[],
  options: RunOptions = {},
): Running {
  const stdin = options.stdin instanceof PassThrough ? options.stdin : new PassThrough();
  if (typeof options.stdin === "string") stdin.end(options.stdin);
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const text = { out: "", err: "" };
  let raw = false;
  stdout.on("data", (bytes: Buffer) => (text.out += bytes.toString()));
  stderr.on("data", (bytes: Buffer) => (text.err += bytes.toString()));
  const setRawMode = (on: boolean): void => void (raw = on);
  const world = {
    stdin: Object.assign(stdin, { isTTY: options.tty ?? false, setRawMode }),
    stdout,
    stderr,
    env: options.env ?? {},
  };
  const all = host ? ["--socket", host.path, ...argv] : argv;
  const result = run(all, world).then(async (code) => {
    await new Promise((resolve) => setImmediate(resolve));
    return { code, stdout: text.out, stderr: text.err };
  });
  return { result, stdin, stdout: () => text.out, stderr: () => text.err, raw: () => raw };
}

export function runCli(
  host: { path: string } | undefined,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<Result> {
  return startCli(host, argv, options).result;
}

/** The result of a run that must succeed. */
export async function done(result: Promise<Result>): Promise<Result> {
  const ended = await result;
  assert.is(ended.code, 0, ended.stderr);
  return ended;
}

/** Resolves when `check` is true; fails after five seconds. */
export async function until(check: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 5000;
  while (!check()) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
