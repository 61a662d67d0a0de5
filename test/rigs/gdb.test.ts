// The GDB commands of boot/rigs/plinth-gdb.py on a kernel whose machine is a unit test: the same objects, no emulator.

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { findProgram } from "../../boot/rigs/choose";

const PROGRAM = join("build", "test", "gdb-target");
const missing = findProgram("gdb") === null;
const maybe = missing ? test.skip : test;
if (missing) console.log("the package gdb is missing");

test.before(() => {
  if (missing) return;
  const flags = ["-std=gnu11", "-g", "-O1", "-iquote", "kernel", "-iquote", "boot", "-DPLINTH_HOST_TEST"];
  mkdirSync(join("build", "test"), { recursive: true });
  execFileSync("gcc", [...flags, join("test", "unit", "hypercall.c"), "-o", PROGRAM]);
});

/** Runs to the end of the first VM, then these commands; returns what they print. */
function gdb(...commands: string[]): string {
  const all = ["break pair_destroy", "run >/dev/null", ...commands].flatMap((line) => ["-ex", line]);
  const args = ["-batch", "-nx", "-x", join("boot", "rigs", "plinth-gdb.py"), ...all, PROGRAM];
  const env = { ...process.env, DEBUGINFOD_URLS: "" };
  return execFileSync("gdb", args, {
    encoding: "utf8",
    env,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
  });
}

maybe("domains, capabilities, tables, vCPUs, events", () => {
  const text = gdb(
    "plinth domains",
    "plinth caps control",
    "plinth walk 3 0x5000",
    "plinth walk 3 0x7000000",
    "plinth vcpu",
    "plinth vcpu 3 0",
    "plinth trace",
  );
  assert.match(text, /^ +1 {2}control +active +control +1 vCPUs/m);
  assert.match(text, /^ +2 {2}device model +active .* 1 vCPUs/m);
  assert.match(text, /^ +3 {2}VM +active /m);
  assert.match(text, /^ +2 {2}root +read$/m);
  assert.match(text, /^ +102 {2}memory +70 pages +read\+write\+execute\+grant\+control\+interrupt$/m);
  assert.match(text, /^level 4 {2}entry +0 .*\n(.*\n)*level 1 {2}entry +5 {2}[0-9a-f]{16} {2}rwx/m);
  assert.match(text, /^0x5000 is physical 0x[0-9a-f]+, in a page of 4 KiB$/m);
  assert.match(text, /^0x7000000 is not mapped$/m);
  assert.match(text, /^vCPU 0 of domain 1, control: ready/m);
  assert.match(text, /^vCPU 0 of domain 3, : stopped/m);
  assert.match(text, /^ {2}rax [0-9a-f]{16} {2}rcx /m);
  assert.match(text, /us before the last: domain 1 vCPU 0 hypercall \d+: status \d+$/m);
});

maybe("what is not there is named", () => {
  const failing = (command: string, error: RegExp): void =>
    assert.match(
      gdb(`python\ntry:\n  gdb.execute(${JSON.stringify(command)})\nexcept gdb.error as e:\n  print(e)`),
      error,
    );
  failing("plinth caps nobody", /there is no domain "nobody"; next: plinth domains/);
  failing("plinth vcpu 9", /there is no CPU 9: 1 are up/);
  failing("plinth dance", /there is no command "plinth dance"; next: plinth help/);
  failing("plinth walk 3", /usage: plinth walk DOMAIN/);
});

test.run();
