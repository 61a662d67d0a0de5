// What `make run` does: starts the best rig, shows the boot, then the shell, or without a terminal the demo.
// usage: run [--rig auto|bochs|qemu-kvm] [--memory MIB] [--cpus N] [--iso FILE] [--run-dir DIR] [--debugger]
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chooseRig } from "./choose";
import { playDemo } from "./demo";
import { HEADLESS, bochsConfig } from "./emulator";
import { DEFAULT_RUN_DIR, type Rig, type RigKind, startRig } from "./rig";

const CLI = join("build", "plinth.cjs");
const PROMPT = "plinth> ";
const BOOT_TIMEOUT_MS = 300_000;

const { values: options } = parseArgs({
  options: {
    rig: { type: "string", default: "auto" },
    memory: { type: "string", default: "512" },
    cpus: { type: "string", default: "1" },
    iso: { type: "string", default: join("build", "plinth.iso") },
    "run-dir": { type: "string", default: DEFAULT_RUN_DIR },
    debugger: { type: "boolean", default: false },
  },
});

/** Copies the host's boot text to stderr until its prompt is there. */
function showBoot(rig: Rig): Promise<void> {
  return new Promise((done, fail) => {
    const socket = createConnection(rig.socketPath);
    const timer = setTimeout(
      () => fail(new Error(`no prompt after ${BOOT_TIMEOUT_MS / 1000} s; see ${rig.serialLog}`)),
      BOOT_TIMEOUT_MS,
    );
    let text = "";
    let shown = 0;
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      const lines = text.lastIndexOf("\n") + 1;
      process.stderr.write(text.slice(shown, lines).replace(/\x1b\[[0-9;]*[A-Za-z]|[^\n\x20-\x7e]/g, ""));
      shown = lines;
      if (!text.includes(PROMPT)) return;
      clearTimeout(timer);
      socket.destroy();
      done();
    });
    void rig.exited.then((exit) => {
      clearTimeout(timer);
      fail(new Error(`the rig ended while booting (code ${exit.code})\n${exit.lastOutput}`));
    });
  });
}

/** Hands the terminal to the shell; the rig ends when it is left. */
function attachShell(rig: Rig): Promise<number> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [CLI, "--socket", rig.socketPath, "shell"], { stdio: "inherit" });
    child.on("exit", (code) => done(code ?? 1));
    void rig.exited.then(() => child.kill());
  });
}

/** Bochs in the foreground, its debugger on this terminal; COM1 goes to a file. */
function runDebugger(): number {
  const choice = chooseRig("bochs");
  if (choice.kind === null) throw new Error(choice.reason);
  const runDir = resolve(options["run-dir"]!);
  mkdirSync(runDir, { recursive: true });
  const serial = join(runDir, "serial.log");
  const config = {
    kind: choice.kind,
    reason: choice.reason,
    iso: resolve(options.iso!),
    memoryMiB: Number(options.memory),
    cpus: Number(options.cpus),
    runDir,
    detached: false,
  };
  writeFileSync(join(runDir, "bochsrc"), bochsConfig(config, `com1: enabled=1, mode=file, dev=${serial}`));
  console.error(
    `COM1 goes to ${serial}; symbols are in build/kernel.elf; type c to go on, q to quit, help for help`,
  );
  const env = { ...process.env, ...HEADLESS };
  return spawnSync("bochs-bin", ["-q", "-f", join(runDir, "bochsrc")], { env, stdio: "inherit" }).status ?? 1;
}

async function main(): Promise<number> {
  if (options.debugger) return runDebugger();
  const rig = await startRig({
    iso: options.iso!,
    runDir: options["run-dir"]!,
    memoryMiB: Number(options.memory),
    cpus: Number(options.cpus),
    rig: options.rig as RigKind | "auto",
    log: (line) => console.error(line),
  });
  try {
    console.error(
      `rig: booting ${options.iso} with ${options.memory} MiB and ${options.cpus} CPU; log: ${rig.serialLog}`,
    );
    await showBoot(rig);
    if (!existsSync(CLI)) throw new Error(`${CLI} is missing; next: make all`);
    const person = process.stdin.isTTY && process.stdout.isTTY;
    const ended = rig.exited.then((exit) => {
      throw new Error(`the rig ended (code ${exit.code})\n${exit.lastOutput}`);
    });
    ended.catch(() => undefined);
    return await Promise.race([person ? attachShell(rig) : playDemo(rig.socketPath), ended]);
  } finally {
    await rig.stop();
  }
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(`make run: ${error.message}`);
    process.exit(1);
  },
);
