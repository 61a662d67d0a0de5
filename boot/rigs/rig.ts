// Chooses a rig, starts it under a supervisor process, and talks to that supervisor.
//
// The supervisor owns the emulator. It re-exports COM1 as the Unix socket RUNDIR/plinth.sock, COM2 as
// RUNDIR/plinth-bulk.sock, keeps RUNDIR/serial.log, and answers on RUNDIR/rig.ctl in JSON lines: `status`, `exited`; `down` ends it.
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { dirname, join, resolve } from "node:path";
import { type RigChoice, type RigKind, chooseRig, findOvmf } from "./choose";

export { RIG_KINDS, type RigChoice, type RigKind, chooseRig } from "./choose";

/** What QEMU can be besides its usual machine, for tests and measurements. Bochs knows only the usual one. */
export interface Machine {
  /** The chip set: q35 unless said. */
  board?: "pc" | "q35";
  /** SeaBIOS unless said. */
  firmware?: "bios" | "uefi";
  /** What the image is: a CD unless said; for `network` the image is a folder, served by TFTP. */
  medium?: "cd" | "usb" | "nvme" | "network";
  /** A second disk, which boots after the medium. */
  disk?: string;
  /** CPUs that share a core: 1 unless said. */
  threads?: number;
  /** What -cpu says. */
  cpu?: string;
  /** What else is on QEMU's command line. */
  options?: string[];
  /**
   * One instruction is one tick of the TSC and one nanosecond: slower, and the same every time. "turns": it is
   * ICOUNT_TURNS of both, and several CPUs run in turns of 62 instructions, not of 100 milliseconds.
   */
  icount?: boolean | "turns";
  /** Stops before the first instruction, and waits for GDB at RUNDIR/gdb.sock. */
  debug?: boolean;
}

/** What startRig needs to know. */
export interface RigOptions {
  /** The boot image. */
  iso: string;
  memoryMiB?: number;
  cpus?: number;
  /** Where the sockets and the logs go; one rig at a time per directory. */
  runDir?: string;
  rig?: RigKind | "auto";
  machine?: Machine;
  /** What Bochs's debugger is told before the machine is switched on and after each stop. */
  debugger?: string[];
  /** Told which rig was chosen and why. */
  log?: (line: string) => void;
  /** True: the rig outlives the caller (`rig up`). False: it ends with the caller. */
  detached?: boolean;
}

/** How the emulator ended. */
export interface RigExit {
  code: number;
  /** The last lines that the emulator and the host printed. */
  lastOutput: string;
}

/** What the supervisor says of itself. */
export interface RigStatus {
  kind: RigKind;
  reason: string;
  /** Process id of the supervisor. */
  pid: number;
  emulatorPid: number;
  socketPath: string;
  serialLog: string;
  memoryMiB: number;
  cpus: number;
  iso: string;
  startedAt: number;
}

/** A running rig. */
export interface Rig {
  kind: RigKind;
  reason: string;
  socketPath: string;
  serialLog: string;
  pid: number;
  /** Ends the emulator and waits until it is gone. */
  stop(): Promise<void>;
  exited: Promise<RigExit>;
}

/** What the caller hands to the supervisor. */
export interface SupervisorConfig {
  kind: RigKind;
  reason: string;
  iso: string;
  memoryMiB: number;
  cpus: number;
  runDir: string;
  detached: boolean;
  machine: Machine;
  debugger: string[];
}

/** A line from the supervisor. */
export type SupervisorMessage = { status: RigStatus } | { exited: RigExit };

/** The kernel's last line on a machine that it cannot run on. */
export const REFUSAL = /^(?:\[[\d.]+\] )?(Plinth cannot run here: .*?)\r?\n/m;

/** Nanoseconds, and ticks of the TSC, for an instruction of any CPU where they run in turns. */
export const ICOUNT_TURNS = 16;

export const DEFAULT_RUN_DIR = join("build", "run");
const START_TIMEOUT_MS = 20_000;
const SOCKET_PATH_LIMIT = 107;

/** Starts a rig; rejects with a message that says what to do when there is none, or one runs already. */
export async function startRig(options: RigOptions): Promise<Rig> {
  const runDir = resolve(options.runDir ?? DEFAULT_RUN_DIR);
  const control = join(runDir, "rig.ctl");
  const gdb = join(runDir, "gdb.sock");
  if (join(runDir, "plinth-bulk.sock").length > SOCKET_PATH_LIMIT) {
    throw new Error(`${runDir}: the path is too long for a Unix socket; choose a shorter directory`);
  }
  if (!existsSync(options.iso)) throw new Error(`${options.iso}: no such boot image; next: make iso`);
  const choice: RigChoice = chooseRig(options.rig ?? "auto");
  if (choice.kind === null) throw new Error(choice.reason);
  const machine = options.machine ?? {};
  if (choice.kind !== "bochs" && options.debugger !== undefined)
    throw new Error(`${choice.kind} has no debugger that follows orders: bochs has`);
  const special = Object.keys(machine).filter((key) => key !== "threads");
  if (choice.kind === "bochs" && special.length > 0)
    throw new Error(`bochs cannot be the machine asked for (${special.join(", ")}): QEMU can`);
  if (machine.firmware === "uefi" && findOvmf() === null)
    throw new Error("UEFI firmware for QEMU: the package ovmf is missing; next: make setup");
  options.log?.(`rig: ${choice.kind}, ${choice.reason}`);
  if ((await rigStatus(runDir)) !== null) {
    throw new Error(`a rig is running in ${runDir}; next: plinth rig down`);
  }

  mkdirSync(runDir, { recursive: true });
  for (const path of [control, gdb]) rmSync(path, { force: true });
  const config: SupervisorConfig = {
    kind: choice.kind,
    reason: choice.reason,
    iso: resolve(options.iso),
    memoryMiB: options.memoryMiB ?? 512,
    cpus: options.cpus ?? 1,
    runDir,
    detached: options.detached ?? false,
    debugger: options.debugger ?? [],
    machine: machine.disk === undefined ? machine : { ...machine, disk: resolve(machine.disk) },
  };
  const supervisorLog = join(runDir, "supervisor.log");
  const out = openSync(supervisorLog, "w");
  const child = spawn(process.execPath, [findSupervisor(), JSON.stringify(config)], {
    detached: true,
    stdio: ["ignore", out, out],
  });
  closeSync(out);
  let dead = false;
  child.on("exit", () => (dead = true));
  child.unref();

  const deadline = Date.now() + START_TIMEOUT_MS;
  let socket: Socket | null = null;
  for (;;) {
    socket ??= await connect(control);
    if (socket !== null && (!machine.debug || existsSync(gdb))) return followSupervisor(socket);
    if (dead || Date.now() > deadline) {
      throw new Error(`the rig did not start: ${readFileSync(supervisorLog, "utf8").trim()}`);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** What runs in runDir, or null. */
export async function rigStatus(runDir: string = DEFAULT_RUN_DIR): Promise<RigStatus | null> {
  const socket = await connect(join(resolve(runDir), "rig.ctl"));
  if (socket === null) return null;
  return new Promise((done) => {
    onMessages(socket, (message) => {
      if ("status" in message) {
        done(message.status);
        socket.destroy();
      }
    });
    socket.on("close", () => done(null));
  });
}

/** Ends the rig in runDir; false if there was none. */
export async function stopRig(runDir: string = DEFAULT_RUN_DIR): Promise<boolean> {
  const socket = await connect(join(resolve(runDir), "rig.ctl"));
  if (socket === null) return false;
  socket.write("down\n");
  socket.resume();
  await new Promise((done) => socket.on("close", done));
  return true;
}

/** The supervisor's bundle lies in build/tools, at or above whatever bundle this code is part of. */
function findSupervisor(): string {
  for (let folder = __dirname; ; folder = dirname(folder)) {
    for (const name of ["rig-supervisor.cjs", "tools/rig-supervisor.cjs", "build/tools/rig-supervisor.cjs"]) {
      if (existsSync(join(folder, name))) return join(folder, name);
    }
    if (folder === dirname(folder))
      throw new Error("build/tools/rig-supervisor.cjs is missing; next: make all");
  }
}

function connect(path: string): Promise<Socket | null> {
  return new Promise((done) => {
    const socket = createConnection(path);
    socket.on("connect", () => done(socket));
    socket.on("error", () => done(null));
  });
}

function onMessages(socket: Socket, handle: (message: SupervisorMessage) => void): void {
  let pending = "";
  socket.setEncoding("utf8").on("data", (text: string) => {
    const lines = (pending + text).split("\n");
    pending = lines.pop()!;
    for (const line of lines) handle(JSON.parse(line) as SupervisorMessage);
  });
}

function followSupervisor(socket: Socket): Promise<Rig> {
  return new Promise((ready, refuse) => {
    let exit: RigExit = { code: -1, lastOutput: "the rig's supervisor was killed" };
    let end: (exit: RigExit) => void;
    const exited = new Promise<RigExit>((done) => (end = done));
    const closed = new Promise<void>((done) => socket.on("close", () => done()));
    void closed.then(() => {
      end(exit);
      refuse(new Error(`the rig did not start: ${exit.lastOutput}`));
    });
    const stop = async (): Promise<void> => {
      if (socket.writable) socket.write("down\n");
      await closed;
    };
    onMessages(socket, (message) => {
      if ("exited" in message) exit = message.exited;
      else {
        const { kind, reason, socketPath, serialLog, pid } = message.status;
        ready({ kind, reason, socketPath, serialLog, pid, stop, exited });
      }
    });
  });
}
