// Values that people type: sizes, times, numbers and escaped text.

import { usageError } from "./errors";

const SIZES: Record<string, number> = { "": 1, B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const TIMES: Record<string, number> = { ms: 1, "": 1000, s: 1000, m: 60_000, h: 3_600_000 };

/** "128M", "1G", "64KiB" or plain bytes, in bytes. */
export function parseSize(text: string, what: string): number {
  const match = /^(\d+)\s*([KMGT]?)(?:i?B)?$/i.exec(text);
  const size = match ? Number(match[1]) * SIZES[match[2]!.toUpperCase()]! : NaN;
  if (!Number.isSafeInteger(size))
    throw usageError(`${what}: '${text}' is not a size; write for instance 128M or 1G`);
  return size;
}

/** "30s", "500ms", "2m" or plain seconds, in milliseconds. */
export function parseTime(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|)$/.exec(text);
  if (!match) throw usageError(`${what}: '${text}' is not a time; write for instance 30s, 500ms or 2m`);
  return Math.round(Number(match[1]) * TIMES[match[2]!]!);
}

/** An unsigned decimal number. */
export function parseNumber(text: string, what: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw usageError(`${what}: '${text}' is not a number`);
  return value;
}

/** "yes", "no", "true" or "false". */
export function parseBoolean(text: string, what: string): boolean {
  if (["yes", "true"].includes(text)) return true;
  if (["no", "false"].includes(text)) return false;
  throw usageError(`${what}: '${text}' is neither yes nor no`);
}

const ESCAPES: Record<string, string> = {
  n: "\n",
  r: "\r",
  t: "\t",
  e: "\x1b",
  a: "\x07",
  b: "\b",
  "0": "\0",
  "\\": "\\",
};

/** Text with C escapes (\n \r \t \e \xHH \\), as bytes of UTF-8. */
export function parseEscapes(text: string, what: string): Uint8Array {
  const parts: Uint8Array[] = [];
  const pattern = /\\(x[0-9a-fA-F]{2}|.|$)|[^\\]+/gs;
  for (const [whole, escape] of text.matchAll(pattern)) {
    if (escape === undefined) parts.push(Buffer.from(whole));
    else if (escape.length === 3) parts.push(Uint8Array.of(parseInt(escape.slice(1), 16)));
    else if (escape in ESCAPES) parts.push(Buffer.from(ESCAPES[escape]!));
    else
      throw usageError(
        `${what}: unknown escape '${whole}'; known are \\n \\r \\t \\e \\a \\b \\0 \\xHH \\\\`,
      );
  }
  return Buffer.concat(parts);
}

/** "512 MiB", "1.5 GiB", "640 KiB". */
export function formatSize(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = Number.isInteger(value) ? 0 : value < 10 ? 2 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** "250 ms", "4.2 s", "3 min 05 s", "2 h 07 min", "5 d 3 h". */
export function formatTime(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 48) return `${hours} h ${two((seconds % 3600) / 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
