// The demonstration that `make run` plays without a terminal: every step goes through the plinth CLI.
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const CLI = join("build", "plinth.cjs");
const STEP_TIMEOUT_MS = 180_000;

interface VmRow {
  name: string;
  state: string;
  memory: number;
}

interface HostStatus {
  memory: { free: number };
}

/** Plays all steps; 0 when each did what it should. */
export async function playDemo(socketPath: string): Promise<number> {
  try {
    playSteps(socketPath);
    console.log("demo: every step did what it should");
    return 0;
  } catch (error) {
    console.error(`demo: ${(error as Error).message}`);
    return 1;
  }
}

function playSteps(socketPath: string): void {
  const plinth = (...args: string[]): string => runCli(socketPath, args);
  const json = <T>(...args: string[]): T => JSON.parse(plinth(...args, "--json")) as T;
  /** Types a command into a VM's console and returns what came until its prompt. */
  const type = (vm: string, command: string, expect: string): string =>
    plinth("console", vm, "--send", `${command}\\n`, "--expect", expect, "--timeout", "120s");
  const rows = (): VmRow[] => json<{ vms: VmRow[] }>("ls").vms;
  const stateOf = (vm: string): string => rows().find((row) => row.name === vm)?.state ?? "absent";
  const free = (): number => json<HostStatus>("status").memory.free;

  plinth("status");
  for (const vm of ["ada", "bob"]) plinth("console", vm, "--expect", `${vm} is up`, "--timeout", "170s");
  check(rows().map((row) => `${row.name} ${row.state} ${row.memory >> 20}`).join(), "ada running 128,bob running 96");
  for (const vm of ["ada", "bob"]) {
    type(vm, "hostname", `\n${vm}\r`);
    type(vm, "uname -a", `Linux ${vm} `);
    type(vm, "free", "Mem:");
    type(vm, "cat /proc/cmdline", `plinth.name=${vm}\r`);
  }

  type("ada", "tick &", "tick ada");
  plinth("pause", "ada");
  check(stateOf("ada"), "paused");
  plinth("resume", "ada");
  check(stateOf("ada"), "running");
  plinth("console", "ada", "--expect", "tick ada");

  const before = free();
  const memory = rows().find((row) => row.name === "ada")!.memory;
  plinth("stop", "ada", "--force");
  check(stateOf("ada"), "stopped");
  plinth("rm", "ada");
  check(stateOf("ada"), "absent");
  const gained = free() - before;
  if (gained < memory) throw new Error(`only ${gained} of ada's ${memory} bytes came back`);
  type("bob", "hostname", "\nbob\r");
  check(stateOf("bob"), "running");
}

function check(actual: string, expected: string): void {
  if (actual !== expected) throw new Error(`expected "${expected}", got "${actual}"`);
}

/** Runs one command of the CLI and shows it as a person would have typed it. */
function runCli(socketPath: string, args: string[]): string {
  console.log(`\n$ plinth ${args.map((arg) => (/^[\w./=-]+$/.test(arg) ? arg : `'${arg}'`)).join(" ")}`);
  const result = spawnSync(process.execPath, [CLI, "--socket", socketPath, ...args], {
    encoding: "utf8",
    timeout: STEP_TIMEOUT_MS,
    stdio: ["ignore", "pipe", "pipe"],
  });
  process.stdout.write(result.stdout.replace(/\r\n/g, "\n").replace(/\n?$/, "\n"));
  process.stderr.write(result.stderr);
  if (result.status !== 0) throw new Error(`plinth ${args[0]} ended with ${result.status ?? result.signal}`);
  return result.stdout;
}
