// The demonstration that `make run` plays without a terminal: every step goes through the plinth CLI.
import { spawn } from "node:child_process";
import { join } from "node:path";

const CLI = join("build", "plinth.cjs");

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
    await new Demo(socketPath).play();
    console.log("\ndemo: every step did what it should");
    return 0;
  } catch (error) {
    console.error(`\ndemo: ${(error as Error).message}`);
    return 1;
  }
}

class Demo {
  constructor(private readonly socketPath: string) {}

  async play(): Promise<void> {
    await this.boot();
    await this.useConsoles();
    await this.pauseAndResume();
    await this.stopAndRemove();
    say("bob runs on");
    await this.type("bob", "hostname", "^bob$");
    expectEqual(await this.stateOf("bob"), "running");
  }

  private async boot(): Promise<void> {
    say("the host, and its two VMs on their way to user space");
    await this.plinth("status");
    for (const vm of ["ada", "bob"]) await this.waitFor(vm, `${vm} is up`);
    const rows = (await this.rows()).map((row) => `${row.name} ${row.state} ${row.memory >> 20}`);
    expectEqual(rows.join(", "), "ada running 128, bob running 96");
  }

  private async useConsoles(): Promise<void> {
    say("each console belongs to its own VM");
    for (const vm of ["ada", "bob"]) {
      await this.type(vm, "hostname", `^${vm}$`);
      await this.type(vm, "uname -a", `^Linux ${vm} .*`);
      await this.type(vm, "free", "^Mem: .*");
      await this.type(vm, "cat /proc/cmdline", `plinth.name=${vm}`);
    }
  }

  private async pauseAndResume(): Promise<void> {
    say("ada is paused: her clock stops, bob's does not");
    const tick = ["--expect", "^tick ada .*", "--timeout", "60s"];
    await this.plinth("console", "ada", "--send", "tick &\\n", ...tick);
    await this.plinth("pause", "ada", "--wait");
    expectEqual(await this.stateOf("ada"), "paused");
    const before = await this.ticks("ada");
    await this.type("bob", "sleep 3; echo three seconds", "^three seconds$");
    expectEqual(await this.ticks("ada"), before);
    await this.plinth("resume", "ada", "--wait");
    await this.plinth("console", "ada", "--send", "\\n", ...tick);
    expectEqual(await this.stateOf("ada"), "running");
  }

  private async stopAndRemove(): Promise<void> {
    say("ada is told by her power button to stop, and removed: her memory comes back, to the frame");
    const memory = (await this.rows()).find((row) => row.name === "ada")!.memory;
    const occupied = await this.free();
    const freed = await this.remove("ada");
    if (freed - occupied < memory)
      throw new Error(`only ${freed - occupied} of ada's ${memory} bytes came back`);
    const image = ["--memory", "128M", "--kernel", "linux", "--initrd", "initrd"];
    const cmdline = "console=ttyS0 quiet cryptomgr.notests plinth.name=ada";
    await this.plinth("create", "ada", ...image, "--cmdline", cmdline, "--start");
    await this.waitFor("ada", "ada is up");
    expectEqual(await this.remove("ada", "--force"), freed);
  }

  /** Stops and removes a VM; returns how much memory is free then. */
  private async remove(vm: string, ...how: string[]): Promise<number> {
    await this.plinth("stop", vm, ...how, "--wait");
    expectEqual(await this.stateOf(vm), "stopped");
    await this.plinth("rm", vm, "--wait");
    expectEqual(await this.stateOf(vm), "absent");
    return this.free();
  }

  private async rows(): Promise<VmRow[]> {
    return (JSON.parse(await this.plinth("ls", "--json")) as { vms: VmRow[] }).vms;
  }

  private async stateOf(vm: string): Promise<string> {
    return (await this.rows()).find((row) => row.name === vm)?.state ?? "absent";
  }

  private async free(): Promise<number> {
    return (JSON.parse(await this.plinth("status", "--json")) as HostStatus).memory.free;
  }

  /** How often a VM's clock has ticked, by its scroll-back. */
  private async ticks(vm: string): Promise<number> {
    return (await this.plinth("console", vm)).match(/^tick /gm)?.length ?? 0;
  }

  private waitFor(vm: string, pattern: string): Promise<string> {
    return this.plinth("console", vm, "--expect", pattern, "--timeout", "170s");
  }

  /** Types a command into a VM's console; its answer must match, and the prompt must come back. */
  private type(vm: string, command: string, pattern: string): Promise<string> {
    const steps = ["--send", `${command}\\n`, "--expect", pattern, "--expect", `${vm}# `];
    return this.plinth("console", vm, ...steps, "--timeout", "60s");
  }

  /** Runs one command of the CLI, shows it as a person would have typed it, and returns its output. */
  private plinth(...args: string[]): Promise<string> {
    const words = args.map((arg) => (/^[\w./=-]+$/.test(arg) ? arg : `'${arg}'`));
    console.log(`\n$ plinth ${words.join(" ")}`);
    return new Promise((done, fail) => {
      const child = spawn(process.execPath, [CLI, "--socket", this.socketPath, ...args], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
      child.on("error", fail);
      child.on("close", (code, signal) => {
        process.stdout.write(output.replace(/\r\n/g, "\n").replace(/\n?$/, "\n"));
        if (code === 0) done(output);
        else fail(new Error(`plinth ${args[0]} ended with ${code ?? signal}`));
      });
    });
  }
}

function say(text: string): void {
  console.log(`\n# ${text}`);
}

function expectEqual<T>(actual: T, expected: T): void {
  if (actual !== expected) throw new Error(`expected "${String(expected)}", got "${String(actual)}"`);
}
