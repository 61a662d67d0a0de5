// How far something is: on a terminal a line in place, for programs records, else nothing.

import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Output, type World } from "../../control/cli/output";
import { inputSize, Progress, Transfer } from "../../control/cli/progress";
import { FakeHost } from "./fake-host";
import { runCli } from "./run-cli";

/** Output whose stderr is a terminal or not, and what was said there. */
function output(isTTY: boolean, progress: string, env = {}): { out: Output; said(): string } {
  let text = "";
  const stderr = Object.assign(new PassThrough(), { isTTY });
  stderr.on("data", (bytes: Buffer) => (text += bytes.toString()));
  const world = { stdin: new PassThrough(), stdout: new PassThrough(), stderr, env } as unknown as World;
  return { out: new Output(world, false, "auto", progress), said: () => text };
}

/** A transfer of 1 MiB in 16 pieces, a quarter of a second each. */
function transfer(out: Output, total?: number): void {
  let now = 0;
  const one = new Transfer(out, "sending x", total, () => now);
  for (let n = 0; n < 16; n++) {
    now += 250;
    one.add(2 ** 16);
  }
  one.end();
}

test("bytes, percent, rate and time left, from half a second on, and then the line is empty again", () => {
  const { out, said } = output(true, "auto");
  transfer(out, 2 ** 20);
  const lines = said().split("\r\x1b[K").slice(1);
  assert.is(lines[0], "sending x: 128 KiB of 1 MiB (12 %), 256 KiB/s, 3.5 s left");
  assert.is(lines[14], "sending x: 1 MiB of 1 MiB (100 %), 256 KiB/s, 0 ms left");
  assert.is(lines.at(-1), "");
});

test("without a total, bytes and rate", () => {
  const { out, said } = output(true, "auto");
  transfer(out);
  assert.match(said(), /^\r\x1b\[Ksending x: 128 KiB, 256 KiB\/s\r/);
});

test("records for programs, terminal or not", () => {
  const { out, said } = output(false, "json");
  transfer(out, 2 ** 20);
  const records = said()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.is(records.length, 15);
  assert.equal(records[0], {
    progress: "sending x",
    bytes: 131072,
    total: 1048576,
    bytesPerSecond: 262144,
    secondsLeft: 4,
  });
});

test("nothing where it only disturbs", () => {
  for (const { out, said } of [
    output(false, "auto"),
    output(true, "never"),
    output(true, "auto", { TERM: "dumb" }),
  ]) {
    transfer(out, 2 ** 20);
    new Progress(out).show("x", {});
    assert.is(said(), "");
  }
});

test("more than was said, and nothing at all", () => {
  const { out, said } = output(true, "auto");
  let now = 0;
  const one = new Transfer(out, "x", 10, () => now);
  now = 1000;
  one.at(0);
  now = 2000;
  one.at(20);
  assert.match(
    said(),
    /x: 0 B of 10 B \(0 %\), 0 B\/s\r\x1b\[Kx: 20 B of 10 B \(100 %\), 10 B\/s, 0 ms left$/,
  );
});

test("stdin's size is known if it is a file", () => {
  const folder = mkdtempSync(join(tmpdir(), "plinth-"));
  const path = join(folder, "file");
  writeFileSync(path, "12345");
  const world = (stdin: object): World => ({ stdin }) as unknown as World;
  assert.is(inputSize(world({ fd: openSync(path, "r") })), 5);
  assert.is(inputSize(world({ fd: openSync("/dev/null", "r") })), undefined);
  assert.is(inputSize(world(new PassThrough())), undefined);
  rmSync(folder, { recursive: true });
});

test("--wait tells what it waits for, for how long, and on a time-out how far it came", async () => {
  const host = await FakeHost.start();
  host.add("a", "starting", "loading the kernel\nalmost there\n").reason = "loading";
  host.vms.get("a")!.state = "stopped";
  const started = runCli(host, "start a --wait=paused --timeout 300ms --progress=json".split(" "));
  const { code, stderr } = await started;
  assert.is(code, 5);
  const lines = stderr.trimEnd().split("\n");
  const first = JSON.parse(lines[0]!);
  assert.is(first.progress, "waiting for a");
  assert.equal([first.wanted, first.state, first.limitMs], ["paused", "running", 300]);
  assert.match(stderr, /plinth: a is not paused after 300 ms but running/);
  assert.is((await runCli(host, ["ls", "--progress", "loud"])).code, 2);
  await host.stop();
});

test.run();
