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
  const waitFor = (vm: string, pattern: string): string =>
    plinth("console", vm, "--expect", pattern, "--timeout", "170s");
  /** Types a command into a VM's console; its answer must match, and the prompt must come back. */
  const type = (vm: string, command: string, pattern: string): string =>
    plinth(
      "console",
      vm,
      "--send",
      `${command}\\n`,
      "--expect",
      pattern,
      "--expect",
      `${vm}# `,
      "--timeout",
      "120s",
    );
  const rows = (): VmRow[] => json<{ vms: VmRow[] }>("ls").vms;
  const stateOf = (vm: string): string => rows().find((row) => row.name === vm)?.state ?? "absent";
  const free = (): number => json<HostStatus>("status").memory.free;
  /** How often a VM's clock has ticked, by its scroll-back. */
  const ticks = (vm: string): number => plinth("console", vm).match(/^tick /gm)?.length ?? 0;

  say("the host, and its two VMs on their way to user space");
  plinth("status");
  for (const vm of ["ada", "bob"]) waitFor(vm, `${vm} is up`);
  const summary = rows().map((row) => `${row.name} ${row.state} ${row.memory >> 20}`);
  expectEqual(summary.join(", "), "ada running 128, bob running 96");

  say("each console belongs to its own VM");
  for (const vm of ["ada", "bob"]) {
    type(vm, "hostname", `^${vm}$`);
    type(vm, "uname -a", `^Linux ${vm} .*`);
    type(vm, "free", "^Mem: .*");
    type(vm, "cat /proc/cmdline", `plinth.name=${vm}`);
  }

  say("ada is paused: her clock stops, bob's does not");
  plinth("console", "ada", "--send", "tick &\\n", "--expect", "^tick ada .*", "--timeout", "60s");
  plinth("pause", "ada", "--wait");
  expectEqual(stateOf("ada"), "paused");
  const before = ticks("ada");
  type("bob", "sleep 3; echo three seconds", "^three seconds$");
  expectEqual(String(ticks("ada")), String(before));
  plinth("resume", "ada", "--wait");
  plinth("console", "ada", "--send", "\\n", "--expect", "^tick ada .*", "--timeout", "60s");
  expectEqual(stateOf("ada"), "running");

  say("ada is stopped and removed: her memory comes back, to the frame");
  const occupied = free();
  const memory = rows().find((row) => row.name === "ada")!.memory;
  const remove = (): number => {
    plinth("stop", "ada", "--force", "--wait");
    expectEqual(stateOf("ada"), "stopped");
    plinth("rm", "ada", "--wait");
    expectEqual(stateOf("ada"), "absent");
    return free();
  };
  const freed = remove();
  if (freed - occupied < memory)
    throw new Error(`only ${freed - occupied} of ada's ${memory} bytes came back`);
  const image = ["--kernel", "linux", "--initrd", "initrd", "--cmdline"];
  plinth(
    "create",
    "ada",
    "--memory",
    "128M",
    ...image,
    "console=ttyS0 quiet cryptomgr.notests plinth.name=ada",
    "--start",
  );
  waitFor("ada", "ada is up");
  expectEqual(String(remove()), String(freed));

  say("bob runs on");
  type("bob", "hostname", "^bob$");
  expectEqual(stateOf("bob"), "running");
}

function say(text: string): void {
  console.log(`\n# ${text}`);
}

function expectEqual(actual: string, expected: string): void {
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
