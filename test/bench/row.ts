// A row of the report, and how its figures are written.

/** One row; a budget of "" means that none is set. */
export interface Row {
  what: string;
  measured: string;
  /** Beside `measured`, with the other backend; "": it has no such thing, or nothing measures it. */
  amd?: string;
  budget: string;
}

export const MILLION = 1_000_000;
export const MIB = 1 << 20;

export function inMillions(instructions: number): string {
  return `${(instructions / MILLION).toFixed(2)} M`;
}

export function percent(part: number, whole: number): string {
  return `${((100 * part) / whole).toFixed(2)} %`;
}

export function kib(bytes: number): string {
  return `${Math.ceil(bytes / 1024)} KiB`;
}
