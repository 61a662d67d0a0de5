// Made-up ACPI tables, laid out as firmware does.

export const BASE = 0x7fe0000;
export const HEADER = 36;

export type Bytes = number[] | Uint8Array;

export function checksum(bytes: Uint8Array, at: number, end = bytes.length): Uint8Array {
  bytes[at] = 0;
  bytes[at] = -bytes.subarray(0, end).reduce((sum, byte) => sum + byte, 0) & 0xff;
  return bytes;
}

export function table(signature: string, revision: number, body: Bytes): Uint8Array {
  const out = Buffer.alloc(HEADER + body.length);
  out.write(signature, 0, "latin1");
  out.writeUInt32LE(out.length, 4);
  out[8] = revision;
  out.write("MAKERS", 10, "latin1");
  out.write("MACHINE ", 16, "latin1");
  out.set(body, HEADER);
  return checksum(out, 9);
}

export function words(...parts: [size: 1 | 2 | 4 | 8, value: number | bigint][]): number[] {
  return parts.flatMap(([size, value]) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return [...bytes.subarray(0, size)];
  });
}

export const zeros = (count: number): number[] => new Array<number>(count).fill(0);

export const GIB = 2 ** 30;

/** An entry of the SRAT for memory of a node. */
export function nodeMemory(node: number, base: number, size: number, flags = 1): number[] {
  return words([1, 1], [1, 40], [4, node], [2, 0], [8, base], [8, size], [4, 0], [4, flags], [8, 0]);
}

export interface Firmware {
  tables: { at: number; bytes: Uint8Array }[];
  rsdp: Uint8Array;
}

/** Lays tables out in memory, behind a root table of this width. */
export function firmware(tables: Uint8Array[], wide = true): Firmware {
  const size = wide ? 8 : 4;
  const starts: number[] = [];
  let at = BASE + HEADER + size * tables.length;
  for (const one of tables) {
    starts.push(at);
    at += one.length;
  }
  const root = table(
    wide ? "XSDT" : "RSDT",
    1,
    starts.flatMap((start) => words([wide ? 8 : 4, start])),
  );
  const bytes = Buffer.concat([root, ...tables]);
  const rsdp = Buffer.alloc(36);
  rsdp.write("RSD PTR ", 0, "latin1");
  rsdp[15] = wide ? 2 : 0;
  rsdp.writeUInt32LE(wide ? 0x1000 : BASE, 16);
  rsdp.writeUInt32LE(36, 20);
  if (wide) rsdp.writeBigUInt64LE(BigInt(BASE), 24);
  checksum(rsdp, 8, 20);
  checksum(rsdp, 32);
  return { tables: [{ at: BASE, bytes }], rsdp: wide ? rsdp : rsdp.subarray(0, 20) };
}
