// Where keys, trust and repositories are on the administrator's machine, and files there that only the user can read.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { ErrorCode, PlinthError } from "../errors";

export type Environment = Record<string, string | undefined>;

function home(env: Environment): string {
  return env.HOME || homedir();
}

/** ~/.config/plinth */
export function settingsFolder(env: Environment): string {
  return join(env.XDG_CONFIG_HOME || join(home(env), ".config"), "plinth");
}

/** Where snapshots are kept if nothing else is said. */
export function defaultRepository(env: Environment): string {
  return (
    env.PLINTH_REPO || join(env.XDG_DATA_HOME || join(home(env), ".local", "share"), "plinth", "snapshots")
  );
}

/** The text of a file; undefined: there is none. */
export function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Replaces a file at once: nobody sees half of it. */
export function writePrivate(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}.new`;
  writeFileSync(fresh, text, { mode: 0o600 });
  renameSync(fresh, file);
}

/** The JSON object in a file of the settings; {} if there is none. */
export function readSettings(file: string): Record<string, unknown> {
  const text = readIfThere(file);
  if (text === undefined) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  const message = `${file} is no JSON object`;
  throw new PlinthError({ code: ErrorCode.FAILED, message, object: file, next: `rm ${file}` });
}
