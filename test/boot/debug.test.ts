// GDB on a kernel in QEMU: symbols, the breakpoint before the end of a machine that has no VT-x, the kernel's commands.
// rigs: own

import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { chooseRig, findProgram } from "../../boot/rigs/choose";
import { startRig } from "../../boot/rigs/rig";
import { DEMO_ISO } from "./host";

const RUN = join("build", "run", "debug");

const emulator = chooseRig("qemu-tcg");
const missing =
  emulator.kind === null ? emulator.reason : findProgram("gdb") ? "" : "the package gdb is missing";
if (missing !== "") console.log(missing);

const maybe = missing === "" ? test : test.skip;

/** Boots a CPU under GDB; returns what these commands print. */
async function debug(cpu: string, kernel: string, ...commands: string[]): Promise<string> {
  const machine = { debug: true, cpu };
  const rig = await startRig({ iso: DEMO_ISO, runDir: RUN, rig: "qemu-tcg", machine });
  try {
    const all = [`target remote ${resolve(RUN, "gdb.sock")}`, ...commands, "detach"].flatMap((line) => [
      "-ex",
      line,
    ]);
    const script = join("boot", "rigs", "plinth-gdb.py");
    const args = ["-batch", "-nx", "-x", script, ...all, join("build", kernel)];
    const env = { ...process.env, DEBUGINFOD_URLS: "" };
    return (await promisify(execFile)("gdb", args, { env, timeout: 170_000 })).stdout;
  } finally {
    await rig.stop();
  }
}

maybe("symbols, and a breakpoint where a machine without VT-x is refused", async () => {
  const text = await debug(
    "Skylake-Client",
    "kernel.elf",
    "break refuse",
    "continue",
    "backtrace",
    "plinth domains",
  );
  assert.match(text, /^#0 +refuse \(format=.*\) at kernel\/\w+\.c:\d+$/m);
  assert.match(text, /^#\d+ .*kernel_main \(.*\) at kernel\/main\.c:\d+$/m);
  assert.match(text, /^no domains: the kernel has not come so far$/m);
});

maybe("a VM with AMD-V, at its first exit for its device model", async () => {
  const text = await debug(
    "EPYC",
    "kernel-svm.elf",
    "tbreak hc_vcpu_start",
    "continue",
    "plinth trace",
    "break vcpu_forward",
    "continue",
    "backtrace",
    "plinth domains",
    "plinth vcpu",
    "plinth walk ada 0x100000",
    "plinth caps dm/ada",
    "plinth trace",
  );
  assert.match(text, /^ +\d+ {2}device model +active +dm\/ada /m);
  assert.match(text, /^ +\d+ {2}VM +active +vm\/ada /m);
  assert.match(text, /^vCPU 0 of domain \d+, vm\/(ada|bob): ready/m);
  assert.match(text, /^ {2}last exit: (port|nested page fault) /m);
  assert.match(text, /^ {2}cs +[0-9a-f]{4} {2}base /m);
  assert.match(text, /^level 4 {2}entry +0 {2}[0-9a-f]{16} {2}rwx/m);
  assert.match(text, /^0x100000 is physical 0x[0-9a-f]+, in a page of \d+ KiB$/m);
  assert.match(text, /^ +3 {2}domain +vm\/ada +/m);
  assert.match(text, /us before the last: domain 1 vCPU 0 hypercall \d+: status 0$/m);
  assert.match(text, /^ +0 us before the last: domain [2-9] vCPU 0 is switched to$/m);
});

test.run();
