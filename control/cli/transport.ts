// Opens the line to the host: a Unix socket, TCP, or a serial device or pty in raw mode.

import { execFileSync } from "node:child_process";
import { closeSync, constants, existsSync, openSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { ReadStream } from "node:tty";
import { unreachable, usageError } from "./errors";

/** Where the host is. */
export type Address =
  | { kind: "socket"; path: string }
  | { kind: "tcp"; host: string; port: number }
  | { kind: "device"; path: string };

/** What the options and the environment say about the connection. */
export interface AddressSource {
  socket?: string | undefined;
  tcp?: string | undefined;
  device?: string | undefined;
  env: Record<string, string | undefined>;
}

/** The socket of a rig that `plinth rig up` started here. */
export function defaultSocket(env: Record<string, string | undefined>): string {
  const here = join("build", "run", "plinth.sock");
  if (existsSync(here) || !env.XDG_RUNTIME_DIR) return here;
  const user = join(env.XDG_RUNTIME_DIR, "plinth.sock");
  return existsSync(user) ? user : here;
}

/** Options first, then PLINTH_CONNECT, then the default socket. */
export function resolveAddress(source: AddressSource): Address {
  const given = [source.socket, source.tcp, source.device].filter((value) => value !== undefined);
  if (given.length > 1) throw usageError("give only one of --socket, --tcp and --device");
  if (source.socket !== undefined) return { kind: "socket", path: source.socket };
  if (source.tcp !== undefined) return parseTcp(source.tcp, "--tcp");
  if (source.device !== undefined) return { kind: "device", path: source.device };
  const text = source.env.PLINTH_CONNECT;
  return text ? parseAddress(text) : { kind: "socket", path: defaultSocket(source.env) };
}

/** "unix:PATH", "tcp:HOST:PORT", "device:PATH", or a bare path: under /dev a device, else a socket. */
export function parseAddress(text: string): Address {
  if (text.startsWith("unix:")) return { kind: "socket", path: text.slice(5) };
  if (text.startsWith("tcp:")) return parseTcp(text.slice(4).replace(/^\/\//, ""), "PLINTH_CONNECT");
  if (text.startsWith("device:")) return { kind: "device", path: text.slice(7) };
  if (text.startsWith("/dev/")) return { kind: "device", path: text };
  return { kind: "socket", path: text };
}

/** The bulk line beside a socket: a rig has "plinth-bulk.sock" beside "plinth.sock". undefined: there is none. */
export function bulkBeside(address: Address): Address | undefined {
  if (address.kind !== "socket") return undefined;
  const path = `${address.path.replace(/\.sock$/, "")}-bulk.sock`;
  return existsSync(path) ? { kind: "socket", path } : undefined;
}

function parseTcp(text: string, what: string): Address {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d+)$/.exec(text);
  const port = match ? Number(match[3]) : 0;
  if (!match || port < 1 || port > 65535) throw usageError(`${what}: '${text}' is not HOST:PORT`);
  return { kind: "tcp", host: match[1] ?? (match[2] || "localhost"), port };
}

/** The address as it is written in messages. */
export function addressText(address: Address): string {
  return address.kind === "tcp" ? `${address.host}:${address.port}` : address.path;
}

/** Opens the line within `timeout` milliseconds. */
export function openTransport(address: Address, timeout: number): Promise<Duplex> {
  return address.kind === "device" ? openDevice(address.path) : openSocket(address, timeout);
}

function openSocket(address: Address, timeout: number): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket =
      address.kind === "tcp"
        ? createConnection({ host: address.host, port: address.port, noDelay: true })
        : createConnection((address as { path: string }).path);
    const fail = (cause: string): void => {
      socket.destroy();
      reject(unreachable(`cannot connect to ${addressText(address)}: ${cause}`, nextAfter(address)));
    };
    const timer = setTimeout(() => fail(`no connection within ${timeout} ms`), timeout);
    socket.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      fail(causeOf(error));
    });
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.removeAllListeners("error");
      resolve(socket);
    });
  });
}

function causeOf(error: NodeJS.ErrnoException): string {
  if (error.code === "ENOENT") return "there is no such socket";
  if (error.code === "ECONNREFUSED") return "nothing listens there";
  if (error.code === "EACCES") return "permission denied";
  return error.message;
}

function nextAfter(address: Address): string {
  return address.kind === "socket" ? "plinth rig up" : "plinth help connect";
}

/** `stty` sets the line; a tty.ReadStream then reads and writes it without blocking. */
async function openDevice(path: string): Promise<Duplex> {
  const refused = (cause: string): Error =>
    unreachable(`cannot open ${path}: ${cause}`, "plinth help connect");
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  } catch (error) {
    throw refused(causeOf(error as NodeJS.ErrnoException).replace("socket", "device"));
  }
  const settings = [
    "115200",
    "raw",
    "-echo",
    "-echoe",
    "-echok",
    "-hupcl",
    "clocal",
    "cs8",
    "-parenb",
    "-cstopb",
  ];
  try {
    execFileSync("stty", ["-F", path, ...settings], { stdio: ["ignore", "ignore", "pipe"] });
    // Node calls tty streams read-only unless told otherwise; `writable` is honoured since node 0.x.
    const options = { writable: true } as unknown as ConstructorParameters<typeof ReadStream>[1];
    return new ReadStream(fd, options) as unknown as Duplex;
  } catch {
    closeSync(fd);
    throw refused("it is no serial line or terminal");
  }
}
