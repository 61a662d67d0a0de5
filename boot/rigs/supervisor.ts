// The process that owns an emulator: shares its serial ports, logs COM1, and ends with whoever started it.
// usage: rig-supervisor CONFIG (SupervisorConfig as JSON); started by startRig in rig.ts
import { createWriteStream, readFileSync, rmSync } from "node:fs";
import { type Server, type ServerOpts, type Socket, createServer } from "node:net";
import { join } from "node:path";
import { bochsLog, emulatorLog, startEmulator } from "./emulator";
import { SharedLine } from "./line";
import type { RigStatus, SupervisorConfig, SupervisorMessage } from "./rig";

const TAIL_LINES = 15;
const KILL_AFTER_MS = 3000;
/** Milliseconds until the line is read again: not to be noticed, and far more than an emulator takes for a byte. */
const GATHER_MS = 1;
/** Sockets that stop reading once they have something. */
const GATHERING: ServerOpts & { highWaterMark: number } = { highWaterMark: 1 };
/** Milliseconds in which the last bytes of an emulator that has ended must come. */
const LAST_WORDS_MS = 1000;

const config = JSON.parse(process.argv[2]!) as SupervisorConfig;
const socketPath = join(config.runDir, "plinth.sock");
const bulkPath = join(config.runDir, "plinth-bulk.sock");
const controlPath = join(config.runDir, "rig.ctl");
const serialPath = join(config.runDir, "serial.log");

/** The last lines of a text, without control characters. */
function tail(text: string): string {
  const clean = text
    .replace(/^ALSA lib .*\n/gm, "") // Bochs looks for a sound card
    .replace(/^qemu-system-x86_64: warning: TCG doesn't support requested feature.*\n/gm, "")
    .replace(/[^\n\x20-\x7e]/g, "")
    .trimEnd();
  return clean.split("\n").slice(-TAIL_LINES).join("\n");
}

function tailOfFile(path: string): string {
  try {
    return tail(readFileSync(path, "latin1"));
  } catch {
    return "";
  }
}

/** Reads a socket of a GATHERING server. An emulator writes bytes one by one: those of a moment are taken together. */
function gather(socket: Socket, take: (bytes: Buffer) => void): void {
  socket.on("readable", () =>
    setTimeout(() => {
      const bytes = socket.read() as Buffer | null;
      if (bytes !== null) take(bytes);
    }, GATHER_MS),
  );
}

function listen(server: Server, ...where: [string] | [number, string]): Promise<void> {
  return new Promise((done, fail) => {
    server.on("error", fail);
    server.listen(...(where as [number, string]), () => done());
  });
}

/** A serial port of the emulator, which connects to us, and its clients. */
class SerialPort {
  port = 0;
  private emulator: Socket | null = null;
  private readonly early: Buffer[] = [];
  private readonly line = new SharedLine((bytes) =>
    this.emulator === null ? this.early.push(bytes) > 0 : this.emulator.write(bytes),
  );

  /** `heard` gets what the host says. */
  static async open(heard?: (bytes: Buffer) => void): Promise<SerialPort> {
    const port = new SerialPort();
    const server = createServer(GATHERING, (socket) => port.connected(socket, heard));
    await listen(server, 0, "127.0.0.1");
    const address = server.address();
    port.port = typeof address === "object" && address !== null ? address.port : 0;
    return port;
  }

  private connected(socket: Socket, heard: ((bytes: Buffer) => void) | undefined): void {
    this.emulator = socket;
    socket.setNoDelay(true);
    for (const bytes of this.early.splice(0)) socket.write(bytes);
    gather(socket, (bytes) => {
      heard?.(bytes);
      this.line.broadcast(bytes);
    });
    socket.on("drain", () => this.line.resume());
    socket.on("error", () => socket.destroy());
  }

  /** Clients find the line at `path`. */
  async share(path: string): Promise<void> {
    rmSync(path, { force: true });
    await listen(
      createServer((socket) => this.line.add(socket)),
      path,
    );
  }

  /** The emulator is gone: resolves when all that it has said has been read. */
  end(): Promise<void> {
    const socket = this.emulator;
    return new Promise((done) => {
      if (socket === null || socket.readableEnded || socket.destroyed) return done();
      socket.on("close", () => done());
      setTimeout(done, LAST_WORDS_MS);
    });
  }

  close(): void {
    this.line.close();
  }
}

async function main(): Promise<void> {
  const serialLog = createWriteStream(serialPath);
  const followers = new Set<Socket>();
  const say = (socket: Socket, message: SupervisorMessage): void => {
    socket.write(JSON.stringify(message) + "\n");
  };

  const main = await SerialPort.open((bytes) => serialLog.write(bytes));
  const bulk = await SerialPort.open();
  const emulator = startEmulator(config, [main.port, bulk.port]);

  const stop = (why: string): void => {
    console.error(`ending the emulator: ${why}`);
    emulator.kill("SIGTERM");
    setTimeout(() => emulator.kill("SIGKILL"), KILL_AFTER_MS).unref();
  };
  const status: RigStatus = {
    kind: config.kind,
    reason: config.reason,
    pid: process.pid,
    emulatorPid: emulator.pid ?? 0,
    socketPath,
    serialLog: serialPath,
    memoryMiB: config.memoryMiB,
    cpus: config.cpus,
    iso: config.iso,
    startedAt: Date.now(),
  };

  await main.share(socketPath);
  await bulk.share(bulkPath);

  let starter: Socket | null = null;
  const controlServer = createServer((socket) => {
    followers.add(socket);
    starter ??= socket;
    say(socket, { status });
    socket.setEncoding("utf8").on("data", (text: string) => {
      if (text.includes("down")) stop("asked to");
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      followers.delete(socket);
      // A rig that is not detached lives as long as the process that started it.
      if (socket === starter && !config.detached) stop("its starter is gone");
    });
  });
  await listen(controlServer, controlPath);

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.on(signal, () => stop(`got ${signal}`));
  const finish = async (code: number, cause: string): Promise<void> => {
    await Promise.all([main.end(), bulk.end()]);
    console.error(`the emulator ended with code ${code} ${cause}`);
    for (const path of [socketPath, bulkPath, controlPath]) rmSync(path, { force: true });
    const outputs = [cause, tailOfFile(serialPath), tailOfFile(emulatorLog(config))];
    if (config.kind === "bochs") outputs.push(tailOfFile(bochsLog(config)));
    const lastOutput = outputs.filter((text) => text !== "").join("\n");
    for (const follower of followers) {
      say(follower, { exited: { code, lastOutput } });
      follower.end();
    }
    main.close();
    bulk.close();
    serialLog.end(() => process.exit(0));
  };
  emulator.on("error", (error) => void finish(-1, error.message));
  emulator.on("exit", (code, signal) => void finish(code ?? -1, signal === null ? "" : `ended by ${signal}`));
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exit(1);
});
