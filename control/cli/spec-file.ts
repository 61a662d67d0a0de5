// Reads a specification file: JSON, YAML or TOML, by its name or by what it looks like.

import { readFileSync } from "node:fs";
import { parse as parseToml, stringify as writeToml, TomlError } from "smol-toml";
import { parse as parseYaml, stringify as writeYaml, YAMLParseError } from "yaml";
import { ErrorCode, PlinthError, usageError } from "./errors";
import { isFields } from "./schema-check";

export type Fields = Record<string, unknown>;

const READERS: Record<string, (text: string) => unknown> = {
  json: JSON.parse,
  yaml: (text) => parseYaml(text, { maxAliasCount: 100 }),
  yml: (text) => parseYaml(text, { maxAliasCount: 100 }),
  toml: parseToml,
};

const WRITERS: Record<string, (value: unknown) => string> = {
  yaml: (value) => writeYaml(value),
  json: (value) => JSON.stringify(value, null, 2),
  toml: (value) => writeToml(value as Fields),
};

/** What writeSpec() writes. */
export const FORMATS: readonly string[] = Object.keys(WRITERS);

export function writeSpec(value: unknown, format: string): string {
  return WRITERS[format]!(value);
}

/** What a file holds; "-" is standard input. */
export function readSpecFile(file: string): Fields {
  const text = readText(file);
  let value: unknown;
  try {
    value = READERS[formatOf(file, text)]!(text);
  } catch (error) {
    throw usageError(`${file}${problemOf(error)}`, "plinth help apply");
  }
  value = plain(value);
  if (!isFields(value))
    throw usageError(`${file}: it is no specification: an object with fields`, "plinth help apply");
  return value;
}

/** The same of plain objects: a TOML table has no prototype. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!isFields(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const message = `${file}: ${missing ? "no such file" : (error as Error).message}`;
    throw new PlinthError({ code: missing ? ErrorCode.NOT_FOUND : ErrorCode.USAGE, message, object: file });
  }
}

/** By the end of the name; else by the first line that is no comment. */
function formatOf(file: string, text: string): string {
  const ending = /\.([a-z]+)$/i.exec(file)?.[1]?.toLowerCase() ?? "";
  if (ending in READERS) return ending;
  const first = /^\s*([^#\s].*)$/m.exec(text)?.[1] ?? "";
  if (/^(\{|\[\s*[\]{"])/.test(first)) return "json";
  return /^(\[|[\w."-]+\s*=)/.test(first) ? "toml" : "yaml";
}

/** ":LINE:COLUMN: cause", on one line. */
function problemOf(error: unknown): string {
  const cause = (error as Error).message.split("\n", 1)[0]!;
  if (error instanceof TomlError) return `:${error.line}:${error.column}: ${cause}`;
  if (!(error instanceof YAMLParseError) || !error.linePos) return `: ${cause}`;
  const { line, col } = error.linePos[0];
  return `:${line}:${col}: ${cause.replace(/ at line \d+, column \d+:?$/, "")}`;
}
