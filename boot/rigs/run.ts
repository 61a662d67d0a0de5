// What `make run` does: starts the best rig, shows the boot, then the shell, or without a terminal the demo.
// usage: run [--rig auto|bochs|qemu-tcg|qemu-kvm] [--memory MIB] [--cpus N] [--iso FILE] [--run-dir DIR] [--debugger]
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chooseRig, findProgram } from "./choose";
import { playDemo } from "./demo";
import { HEADLESS, bochsConfig } from "./emulator";
import { DEFAULT_RUN_DIR, REFUSAL, type Rig, type RigKind, startRig } from "./rig";

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
      const refusal = REFUSAL.exec(text)?.[1];
      if (refusal !== undefined) fail(new Error(refusal));
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

/** The symbols of the kernel that runs on this rig. */
function kernelOf(rig: Rig): string {
  const other = join("build", "kernel-svm.elf");
  return rig.kind === "qemu-tcg" && existsSync(other) ? other : join("build", "kernel.elf");
}

/** GDB on this terminal, before the machine's first instruction; the shell is for another terminal. */
async function runGdb(): Promise<number> {
  if (findProgram("gdb") === null) throw new Error("the package gdb is missing; next: make setup");
  const runDir = resolve(options["run-dir"]!);
  const rig = await startRig({
    iso: options.iso!,
    runDir,
    memoryMiB: Number(options.memory),
    cpus: Number(options.cpus),
    rig: options.rig === "auto" ? "qemu-tcg" : (options.rig as RigKind),
    machine: { debug: true },
    log: (line) => console.error(line),
  });
  const kernel = kernelOf(rig);
  console.error(`symbols: ${kernel}; the shell, once it runs: plinth --socket ${rig.socketPath} shell`);
  console.error(
    "plinth help lists what GDB knows of the kernel; c lets it go on, Ctrl-C stops it, q ends it",
  );
  process.on("SIGINT", () => undefined); /* that is for GDB */
  const script = join("boot", "rigs", "plinth-gdb.py");
  const args = ["-q", "-x", script, "-ex", `target remote ${join(runDir, "gdb.sock")}`, kernel];
  const status = await new Promise<number>((done) =>
    spawn("gdb", args, { stdio: "inherit" }).on("exit", (code) => done(code ?? 1)),
  );
  await rig.stop();
  return status;
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
    machine: {},
    debugger: [],
  };
  writeFileSync(join(runDir, "bochsrc"), bochsConfig(config, `com1: enabled=1, mode=file, dev=${serial}`));
  console.error(
    `COM1 goes to ${serial}; symbols are in build/kernel.elf; type c to go on, q to quit, help for help`,
  );
  const env = { ...process.env, ...HEADLESS };
  return spawnSync("bochs-bin", ["-q", "-f", join(runDir, "bochsrc")], { env, stdio: "inherit" }).status ?? 1;
}

async function main(): Promise<number> {
  if (options.debugger) return options.rig === "bochs" ? runDebugger() : runGdb();
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
