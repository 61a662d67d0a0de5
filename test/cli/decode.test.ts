// `plinth decode` on made-up captures of the kernel that is built.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Result, runCli } from "./run-cli";

const KERNEL = "build/kernel.elf";

const test = suite<{ folder: string }>("decode");
test.before.each((context) => void (context.folder = mkdtempSync(join(tmpdir(), "plinth-"))));
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

function decode(folder: string, capture: string, ...more: string[]): Promise<Result> {
  const file = join(folder, "capture");
  writeFileSync(file, capture);
  return runCli(undefined, ["decode", file, ...more]);
}

function addressOf(symbol: string): bigint {
  const line = execFileSync("nm", [KERNEL], { encoding: "utf8" }).match(
    new RegExp(`^(\\w+) T ${symbol}$`, "m"),
  );
  return BigInt(`0x${line![1]!}`);
}

function buildId(): string {
  const notes = execFileSync("readelf", ["-n", KERNEL], { encoding: "utf8" });
  return /Build ID: (\w{16})/.exec(notes)![1]!;
}

test("addresses get names, between noise, with and without carriage returns", async ({ folder }) => {
  const at = (symbol: string, offset: bigint): string => (addressOf(symbol) + offset).toString(16);
  const capture =
    "plinth> \0\x9f\r\n[1.000] PANIC on CPU 3: kernel/acpi.c:12: never\r\n" +
    `[1.001]   at ${at("acpi_init", 1n)}\r\n[1.002]   at ffffffffe0004f18\n[1.003]   at 12\n` +
    `[1.004] rip ${at("kernel_main", 0n)}  cs 8\n[1.005] The kernel has stopped, build ${buildId()}. more\nnoise`;
  const { code, stdout, stderr } = await decode(folder, capture);
  assert.is(code, 0, stderr);
  const lines = stdout.trimEnd().split("\n");
  assert.is(lines.length, 6);
  assert.match(lines[0]!, /PANIC on CPU 3: kernel\/acpi\.c:12: never$/);
  assert.match(lines[1]!, / {2}acpi_init {2}kernel\/acpi\.c:\d+$/);
  assert.match(lines[2]!, /ffffffffe0004f18$/); /* not of the code */
  assert.match(lines[3]!, /at 12$/);
  assert.match(lines[4]!, / {2}kernel_main {2}kernel\/main\.c:\d+$/);
  const panic = JSON.parse((await decode(folder, capture, "--json")).stdout);
  assert.is(panic.what, "PANIC on CPU 3: kernel/acpi.c:12: never");
  assert.is(panic.lines[1].place.frames[0].function, "acpi_init");
});

test("a capture that ends too early is decoded as far as it goes", async ({ folder }) => {
  const { code, stdout } = await decode(folder, "PANIC on CPU 0: x\n");
  assert.is(code, 0);
  assert.is(stdout, "PANIC on CPU 0: x\n\n");
});

test("what cannot be decoded", async ({ folder }) => {
  const none = await decode(folder, "all is well\n");
  assert.is(none.code, 3);
  assert.match(none.stderr, /capture has no panic in it/);
  const other = await decode(folder, "PANIC on CPU 0: x\nThe kernel has stopped, build 0123456789abcdef.");
  assert.is(other.code, 7);
  assert.match(other.stderr, /of build 0123456789abcdef, and build\/kernel\.elf is of build/);
  const missing = await decode(folder, "PANIC on CPU 0: x", "--kernel", join(folder, "no.elf"));
  assert.is(missing.code, 3);
  const capture = "PANIC on CPU 0: x\nat ffffffff80101000";
  const text = await decode(folder, capture, "--kernel", join(folder, "capture"));
  assert.is(text.code, 1);
  assert.match(text.stderr, /addr2line cannot read .*capture/);
  const path = process.env["PATH"];
  process.env["PATH"] = folder;
  try {
    const bare = await decode(folder, capture);
    assert.is(bare.code, 1);
    assert.match(bare.stderr, /addr2line is not installed\nnext: +apt install binutils/);
  } finally {
    process.env["PATH"] = path;
  }
});

test.run();
