// A kernel that breaks when a domain ends: what it says on the line, and what `plinth decode` makes of that.
// rigs: VT-x, AMD-V

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Rig, startRig } from "../../boot/rigs/rig";
import { runCli } from "../cli/run-cli";
import { runDir } from "./host";
import { Terminal } from "./terminal";

const BOOT_MS = 170_000;
const KERNEL = process.env.PLINTH_RIG === "qemu-tcg" ? "kernel-svm.elf" : "kernel.elf";
const RUN = runDir("panic");

const test = suite<{ rig: Rig; terminal: Terminal }>("panic");

test.before(async (context) => {
  context.rig = await startRig({ iso: join("build", "panic.iso"), runDir: RUN });
  context.terminal = await Terminal.open(context.rig.socketPath);
});
test.after(async (context) => context.rig?.stop());

test("a panic says all on the line that it took back, and decode names it", async ({ terminal }) => {
  await terminal.expect(/\[bob: running\]/, BOOT_MS); // before that there may be no domain of it yet
  terminal.type("stop bob --force\r");
  const text = await terminal.expect(/The kernel has stopped, build [0-9a-f]{16}\..*\n/);
  assert.match(text, /PANIC on CPU 0: page fault, vector 14, error 3\n/);
  assert.match(text, /\brdi 600dcafe0000000\d/);
  assert.match(text, / us before: domain 1 vCPU 0 hypercall \d+:0\n/);
  assert.match(text, / us before: domain \d+ vCPU 0 is switched to/);
  assert.match(text, /domain \d+ is vm\/bob\n/);

  const capture = join(RUN, "panic.txt");
  writeFileSync(capture, `noise\r\n${text.replace(/\n/g, "\r\n")}`);
  const decode = (...more: string[]): ReturnType<typeof runCli> =>
    runCli(undefined, ["decode", capture, ...more]);
  const named = await decode("--kernel", join("build", "panic", KERNEL));
  assert.is(named.code, 0, named.stderr);
  assert.not.match(named.stdout, /noise/);
  const lines = named.stdout.split("\n");
  const at = (pattern: RegExp): number => {
    const found = lines.findIndex((line) => pattern.test(line));
    assert.ok(found >= 0, `no ${pattern} in:\n${named.stdout}`);
    return found;
  };
  const chain = [
    at(/rip ffffffff\w+ .* write_to_code {2}test\/boot\/panic\.c:\d+$/),
    at(/at ffffffff\w+ {2}__wrap_domain_destroy {2}test\/boot\/panic\.c:\d+$/),
    at(/hc_domain_destroy {2}kernel\/hypercall\.c:\d+$/),
    at(/exit_hypercall {2}kernel\/exit\.c:\d+$/),
  ];
  assert.equal(
    chain,
    [...chain].sort((a, b) => a - b),
  );
  const json = JSON.parse((await decode("--kernel", join("build", "panic", KERNEL), "--json")).stdout);
  assert.match(json.what, /^PANIC on CPU 0: page fault/);

  const other = await decode("--kernel", join("build", "kernel.elf"));
  assert.is(other.code, 7);
  assert.match(
    other.stderr,
    /panic is of a kernel of build [0-9a-f]{16}, and build\/kernel\.elf is of build/,
  );
});

test.run();
