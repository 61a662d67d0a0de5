// Prints results: data on stdout, talk on stderr, JSON when asked for, colours only where they help.

import kleur from "kleur";
import * as schema from "../protocol/schema";
import { formatTime } from "./values";

/** The streams and the environment of one run; tests give their own. */
export interface World {
  stdin: NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?: (on: boolean) => unknown };
  stdout: NodeJS.WritableStream & { isTTY?: boolean; columns?: number; rows?: number };
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
  env: Record<string, string | undefined>;
}

/** Where a command's results go. */
export class Output {
  readonly json: boolean;
  readonly world: World;
  /** "json": how far things are, as records; "never"; else as a line, where stderr is a terminal. */
  readonly progress: string;

  /** `color`: "always", "never"; else what the environment and the terminal say. */
  constructor(world: World, json: boolean, color = "auto", progress = "auto") {
    this.world = world;
    this.json = json;
    this.progress = progress;
    const { NO_COLOR, FORCE_COLOR, TERM } = world.env;
    kleur.enabled =
      color === "always" ||
      (color !== "never" &&
        !NO_COLOR &&
        TERM !== "dumb" &&
        (FORCE_COLOR ? FORCE_COLOR !== "0" : Boolean(world.stdout.isTTY)));
  }

  /** Data for people or pipes. */
  line(text: string): void {
    this.world.stdout.write(text + "\n");
  }

  /** Data as it is. */
  bytes(data: Uint8Array): void {
    this.world.stdout.write(data);
  }

  /** Talk: what happens, hints, warnings. */
  talk(text: string): void {
    this.world.stderr.write(text + "\n");
  }

  /** The resulting object, indented for a person's eyes. */
  object(value: unknown): void {
    this.line(JSON.stringify(value, plain, 2));
  }

  /** One object of a stream, on one line. */
  record(value: unknown): void {
    this.line(JSON.stringify(value, plain));
  }

  /** Rows under headings, columns aligned; a column of numbers is told by a leading ">" in its heading. */
  table(headings: readonly string[], rows: readonly (readonly string[])[]): void {
    for (const line of tableLines(headings, rows)) this.line(line);
  }

  /** Facts, one a line: name, then value. */
  facts(pairs: readonly (readonly [string, string])[]): void {
    const width = Math.max(...pairs.map(([name]) => name.length));
    for (const [name, value] of pairs) this.line(`${kleur.bold(name.padEnd(width))}  ${value}`.trimEnd());
  }
}

/** The lines of a table, as Output.table() prints it. */
export function tableLines(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const right = headings.map((heading) => heading.startsWith(">"));
  const names = headings.map((heading) => heading.replace(/^>/, ""));
  const widths = names.map((name, n) => Math.max(visible(name), ...rows.map((row) => visible(row[n] ?? ""))));
  const print = (row: readonly string[]): string =>
    row
      .map((cell, n) => {
        const space = " ".repeat(widths[n]! - visible(cell));
        return right[n] ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  return [kleur.bold(print(names)), ...rows.map(print)];
}

/** A VM's state in the colour of its urgency. */
export function colourState(state: string): string {
  if (state === schema.STATE_RUNNING) return kleur.green(state);
  if (state === schema.STATE_CRASHED) return kleur.red(state);
  if (state === schema.STATE_STOPPED) return kleur.dim(state);
  return kleur.yellow(state);
}

/** "1 unit", "2 units". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** What the host or a VM said, on one line and without escapes or control characters. */
export function oneLine(text: unknown): string {
  return String(text ?? "")
    .replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, "")
    .replace(/\s+/g, " ")
    .replace(/[\x00-\x1f\x7f-\x9f]/g, "?")
    .trim();
}

/** "3 min 05 s ago". */
export function since(milliseconds: number): string {
  return formatTime(Number(milliseconds));
}

function visible(text: string): number {
  return text.replace(/\x1b\[[0-9;]*m/g, "").length;
}

/** JSON has no bigint and no bytes: integers above 2^53 become decimal text, bytes become base64. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  return value;
}
