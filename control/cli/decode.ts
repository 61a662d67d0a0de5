// Gives the addresses of a kernel's panic their names: functions and source lines, by binutils.

import { execFile } from "node:child_process";
import { ErrorCode, PlinthError } from "./errors";

/** An address of the kernel's code, as "at ADDRESS" (where a call returns to) or "rip ADDRESS". */
const ADDRESS = /\b(at|rip) (ffffffff[0-9a-f]{8})\b/;
const START = /PANIC on CPU \d+: /;
const BUILD = /The kernel has stopped, build ([0-9a-f]{16})/;

export interface Place {
  address: string;
  /** The innermost first: what was inlined, and into what. */
  frames: { function: string; source: string }[];
}

/** A panic as it was captured, beginning at its first line. */
export interface Panic {
  what: string;
  build: string;
  lines: { text: string; place?: Place }[];
}

/** Reads a capture of the serial line; noise before the panic is left out. One of the kernels must be that of the panic. */
export async function decodePanic(capture: string, file: string, kernels: string[]): Promise<Panic> {
  const all = capture.replace(/[^\n -~]/g, "").split("\n");
  const first = all.findIndex((line) => START.test(line));
  if (first < 0)
    throw new PlinthError({
      code: ErrorCode.NOT_FOUND,
      message: `${file} has no panic in it: no line "PANIC on CPU ..."`,
      object: file,
      next: "capture the serial line from the host's start on",
    });
  const end = all.findIndex((line, n) => n >= first && BUILD.test(line));
  const lines = all.slice(first, end < 0 ? undefined : end + 1);
  const build = end < 0 ? "" : BUILD.exec(all[end]!)![1]!;
  const kernel = build === "" ? kernels[0]! : await findBuild(build, kernels);
  const places = await lookUp(
    lines.flatMap((line) => (ADDRESS.test(line) ? [placeOf(line)!] : [])),
    kernel,
  );
  return {
    what: lines[0]!.slice(lines[0]!.search(START)),
    build,
    lines: lines.map((text) => {
      const place = ADDRESS.test(text) ? places.get(placeOf(text)!) : undefined;
      return place ? { text, place } : { text };
    }),
  };
}

/** Where the code was: a call returns behind itself. */
function placeOf(line: string): string | undefined {
  const [, kind, digits] = ADDRESS.exec(line) ?? [];
  if (digits === undefined) return undefined;
  return (BigInt(`0x${digits}`) - (kind === "at" ? 1n : 0n)).toString(16);
}

/** Names of another kernel would be wrong without looking so. */
async function findBuild(build: string, kernels: string[]): Promise<string> {
  const found: string[] = [];
  for (const kernel of kernels) {
    const notes = await binutils("readelf", ["-n", kernel], kernel);
    const id = /Build ID: ([0-9a-f]{16})/.exec(notes)?.[1] ?? "unknown";
    if (id === build) return kernel;
    found.push(`${kernel} is of build ${id}`);
  }
  throw new PlinthError({
    code: ErrorCode.INTEGRITY,
    message: `the panic is of a kernel of build ${build}, and ${found.join(", ")}`,
    object: kernels[0]!,
    next: "give the kernel.elf of that build with --kernel",
  });
}

/** addr2line answers each address with itself, and then function and source of each frame. */
async function lookUp(addresses: string[], kernel: string): Promise<Map<string, Place>> {
  const places = new Map<string, Place>();
  if (addresses.length === 0) return places;
  const text = await binutils("addr2line", ["-a", "-f", "-i", "-e", kernel, ...addresses], kernel);
  let place: Place | undefined;
  const lines = text.trimEnd().split("\n");
  for (let n = 0; n < lines.length; n++) {
    const line = lines[n]!;
    if (line.startsWith("0x")) {
      const address = BigInt(line).toString(16);
      places.set(address, (place = { address, frames: [] }));
    } else {
      const source = (lines[++n] ?? "").replace(/^.*?\/(?=(kernel|boot|test)\/)/, "");
      if (line !== "??") place?.frames.push({ function: line, source: source.replace(/ \(.*\)$/, "") });
    }
  }
  return places;
}

function binutils(program: string, args: string[], kernel: string): Promise<string> {
  return new Promise((done, fail) => {
    execFile(program, args, { maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
      if (error === null) return done(stdout);
      const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
      fail(
        new PlinthError({
          code: ErrorCode.FAILED,
          message: missing
            ? `the program ${program} is not installed`
            : `${program} cannot read ${kernel}: ${stderr.trim().split("\n")[0] ?? error.message}`,
          object: missing ? program : kernel,
          next: missing ? "apt install binutils" : "make, or --kernel FILE",
        }),
      );
    });
  });
}
