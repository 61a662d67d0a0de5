// Makes a module's globals visible: the native image has them in its RAM, so they are part of a component's state.

const GLOBALS = 6;
const EXPORTS = 7;
const GLOBAL_KIND = 3;

class Reader {
  constructor(
    readonly bytes: Uint8Array,
    public at: number,
  ) {}

  byte(): number {
    return this.bytes[this.at++]!;
  }

  /** An unsigned LEB128 number below 2^32. */
  number(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }
}

function number(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...number(value >>> 7)];
}

/** Indices of the globals that change; each is set by one constant, or another global, at first. */
function mutable(bytes: Uint8Array, at: number): number[] {
  const reader = new Reader(bytes, at);
  const count = reader.number();
  const found: number[] = [];
  for (let index = 0; index < count; index++) {
    reader.byte();
    if (reader.byte() === 1) found.push(index);
    reader.byte();
    reader.number();
    if (reader.byte() !== 0x0b) throw new Error("a global with an initializer of more than one instruction");
  }
  return found;
}

export interface Opened {
  module: WebAssembly.Module;
  /** Names of the exports that are its mutable globals. */
  globals: string[];
}

const opened = new WeakMap<Uint8Array, Opened>();

/** The module with all its mutable globals exported. */
export function openGlobals(wasm: Uint8Array): Opened {
  const known = opened.get(wasm);
  if (known) return known;
  const parts: Uint8Array[] = [wasm.subarray(0, 8)];
  let indices: number[] = [];
  const reader = new Reader(wasm, 8);
  while (reader.at < wasm.length) {
    const start = reader.at;
    const id = reader.byte();
    const length = reader.number();
    const body = reader.at;
    reader.at += length;
    if (id === GLOBALS) indices = mutable(wasm, body);
    if (id !== EXPORTS) {
      parts.push(wasm.subarray(start, reader.at));
      continue;
    }
    const old = new Reader(wasm, body);
    const count = number(old.number() + indices.length);
    const added = indices.flatMap((index) => {
      const name = Buffer.from(`global ${index}`);
      return [name.length, ...name, GLOBAL_KIND, ...number(index)];
    });
    const rest = wasm.subarray(old.at, reader.at);
    const size = count.length + rest.length + added.length;
    parts.push(Uint8Array.from([EXPORTS, ...number(size), ...count]), rest, Uint8Array.from(added));
  }
  const result = {
    module: new WebAssembly.Module(Buffer.concat(parts)),
    globals: indices.map((index) => `global ${index}`),
  };
  opened.set(wasm, result);
  return result;
}
