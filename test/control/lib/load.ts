// Loads the component that exposes control/lib, with shared memory as a plain array.

import { readFileSync } from "node:fs";

const BASE = 0x10000000;
const SIZE = 0x20000;

type Export = (...args: (number | bigint)[]) => number;

export interface Library {
  call: Record<string, Export>;
  shared: Uint8Array;
  /** Sees each 32-bit load of shared memory before it happens; a hostile peer may change it. */
  onLoad: (offset: number) => void;
  put(bytes: Uint8Array | string): number;
  output(length: number): Buffer;
  input(length: number): Buffer;
}

export function loadLibrary(): Library {
  const shared = new Uint8Array(SIZE);
  const view = new DataView(shared.buffer);
  const memory = (): Uint8Array => new Uint8Array((instance.exports["memory"] as WebAssembly.Memory).buffer);
  const copy = (at: number, length: number): Buffer => Buffer.from(memory().slice(at, at + length));
  const place = (gpa: bigint, length: number): number => {
    const offset = Number(gpa) - BASE;
    if (offset < 0 || offset + length > SIZE) throw new RangeError(`shared access at 0x${gpa.toString(16)}`);
    return offset;
  };
  const library: Library = {
    call: {},
    shared,
    onLoad: () => undefined,
    put(bytes) {
      const data = Buffer.from(bytes as Uint8Array);
      memory().set(data, library.call["inputAt"]!());
      return data.length;
    },
    output: (length) => copy(library.call["outputAt"]!(), length),
    input: (length) => copy(library.call["inputAt"]!(), length),
  };
  const plinth = {
    hypercall: () => 0n,
    abort: () => {
      throw new Error("abort");
    },
    sharedRead: (to: number, gpa: bigint, length: number) => {
      const offset = place(gpa, length);
      memory().set(shared.subarray(offset, offset + length), to);
    },
    sharedWrite: (gpa: bigint, from: number, length: number) =>
      shared.set(memory().subarray(from, from + length), place(gpa, length)),
    sharedLoad32: (gpa: bigint) => {
      const offset = place(gpa, 4);
      library.onLoad(offset);
      return view.getUint32(offset, true);
    },
    sharedStore32: (gpa: bigint, value: number) => view.setUint32(place(gpa, 4), value, true),
  };
  const instance = new WebAssembly.Instance(
    new WebAssembly.Module(readFileSync("build/components/lib.wasm")),
    {
      plinth,
    },
  );
  library.call = instance.exports as Record<string, Export>;
  library.call["_start"]!();
  return library;
}

/** A small deterministic generator: values in [0, below). */
export function randomizer(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
