// A Plinth host on a rig, as the boot tests see it: the CLI, the library, and what both say of its VMs.

import { join } from "node:path";
import * as assert from "uvu/assert";
import { type Rig, type RigOptions, startRig } from "../../boot/rigs/rig";
import { type Client, connect } from "../../control/cli/client";
import { type Result, runCli } from "../cli/run-cli";

const BOOT_MS = 170_000;
const UP = "170s";
const ANSWER = "90s";

export const DEMO_ISO = join("build", "plinth.iso");

/** A directory for a test's rig: two kinds of rig may run the same test at once. */
export function runDir(name: string): string {
  return join("build", "run", `${name}-${process.env.PLINTH_RIG ?? "auto"}`);
}

/** Says that a part of a test was left out; uvu does not count parts, so `make test` reads this. */
export function skipped(what: string): void {
  console.log(`\nSkipped: 1, ${what}`);
}

export class Host {
  private constructor(
    readonly rig: Rig,
    readonly client: Client,
  ) {}

  /** Boots `iso` and waits until the control domain answers. uvu hides why a hook fails, so we say. */
  static boot(name: string, iso = DEMO_ISO, cpus = 1, rig: Partial<RigOptions> = {}): Promise<Host> {
    return Host.start({ iso, cpus, runDir: runDir(name), ...rig }).catch((error: Error) => {
      console.error(error.message);
      throw error;
    });
  }

  private static async start(options: RigOptions): Promise<Host> {
    const rig = await startRig(options);
    const ended = rig.exited.then((exit) => {
      throw new Error(`the rig ended with code ${exit.code}\n${exit.lastOutput}`);
    });
    ended.catch(() => undefined);
    try {
      return new Host(rig, await Promise.race([connect(rig.socketPath, { timeout: BOOT_MS }), ended]));
    } catch (error) {
      await rig.stop();
      throw error;
    }
  }

  get path(): string {
    return this.rig.socketPath;
  }

  async stop(): Promise<void> {
    await this.client.close();
    await this.rig.stop();
  }

  /** Runs one command of the CLI. */
  cli(...argv: string[]): Promise<Result> {
    return runCli({ path: this.path }, argv);
  }

  /** Runs one command that must succeed; returns what it printed. */
  async ok(...argv: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.cli(...argv);
    assert.is(code, 0, `plinth ${argv.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Runs one command that must fail with this exit code, saying all of this; returns what it said. */
  async refused(code: number, said: RegExp[], ...argv: string[]): Promise<string> {
    const result = await this.cli(...argv);
    const command = `plinth ${argv.join(" ")}`;
    assert.is(result.code, code, `${command}: ${result.stderr}`);
    for (const pattern of said)
      assert.ok(pattern.test(result.stderr), `${command}: no ${pattern} in: ${result.stderr}`);
    return result.stderr;
  }

  /** Bytes of free memory. */
  async free(): Promise<number> {
    return (await this.client.status()).memory.free;
  }

  /** A VM's state, "absent" if there is no such VM. */
  async state(vm: string): Promise<string> {
    return (await this.client.list()).find((row) => row.name === vm)?.state ?? "absent";
  }

  /** Creates and starts a Linux VM, with `more` options, and waits for its user space. */
  async createLinux(vm: string, memory: string, more: string[] = [], initrd = "initrd"): Promise<void> {
    const images = ["--memory", memory, "--kernel", "linux", "--initrd", initrd];
    const cmdline = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${vm}`;
    await this.ok("create", vm, ...images, ...more, "--cmdline", cmdline, "--start");
    await this.waitUp(vm);
  }

  /** Waits until a Linux VM is in user space. */
  async waitUp(vm: string): Promise<void> {
    await this.ok("console", vm, "--expect", `${vm} is up`, "--timeout", UP);
  }

  /** Types a command into a Linux VM's console; its answer must match. */
  async type(vm: string, command: string, answer: string): Promise<string> {
    return this.ok("console", vm, "--send", `${command}\\n`, "--expect", answer, "--timeout", ANSWER);
  }

  /** Lets a Linux VM print its uptime every second. */
  async startTicks(vm: string): Promise<void> {
    await this.type(vm, "tick &", `^tick ${vm} `);
  }

  /** Everything kept of a VM's console. */
  async scrollback(vm: string): Promise<string> {
    return (await this.ok("logs", vm)).replace(/\r/g, "");
  }

  /** The uptimes that a Linux VM has printed, in seconds. */
  async ticks(vm: string): Promise<number[]> {
    const lines = (await this.scrollback(vm)).matchAll(/tick (\S+) (\d+\.\d+)\n/g);
    return [...lines].filter((match) => match[1] === vm).map((match) => Number(match[2]));
  }

  /** Waits until a Linux VM has ticked on from now. */
  async waitTick(vm: string): Promise<void> {
    const last = (await this.ticks(vm)).at(-1) ?? 0;
    const end = Date.now() + 60_000;
    while (((await this.ticks(vm)).at(-1) ?? 0) <= last) {
      assert.ok(Date.now() < end, `${vm} has not ticked since ${last}`);
    }
  }

  /** A VM that ticks has not been stopped: no two of its ticks are further apart than this. */
  async missedNoTick(vm: string, seconds = 4): Promise<void> {
    const ticks = await this.ticks(vm);
    assert.ok(ticks.length > 1, `${vm} has ticked ${ticks.length} times`);
    for (let n = 1; n < ticks.length; n++) {
      const gap = ticks[n]! - ticks[n - 1]!;
      assert.ok(gap > 0 && gap < seconds, `${vm} ticked at ${ticks[n - 1]} and then at ${ticks[n]}`);
    }
  }
}
