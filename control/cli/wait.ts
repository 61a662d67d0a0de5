// Waits until a VM is in a state, says on a terminal how long it takes, and on a time-out what was seen last.

import * as schema from "../protocol/schema";
import type { Client } from "./client";
import { ErrorCode, PlinthError } from "./errors";
import { oneLine, type Output } from "./output";
import { Progress } from "./progress";
import type { VmRow } from "./results";
import { formatTime } from "./values";

/** The state of a VM that is no longer there. */
export const GONE = "gone";
/** What --wait may be given. */
export const WAIT_STATES: readonly string[] = [
  schema.STATE_STOPPED,
  schema.STATE_STARTING,
  schema.STATE_RUNNING,
  schema.STATE_PAUSED,
  schema.STATE_CRASHED,
  schema.STATE_MOVED,
  GONE,
];

const POLL_FIRST = 50;
const POLL_LAST = 1000;
const CONSOLE_LINES = 5;

/** Resolves with the VM's row (undefined for GONE) when it is in `state`. */
export async function waitForState(
  client: Client,
  vm: string,
  state: string,
  timeout: number,
  out: Output,
): Promise<VmRow | undefined> {
  const start = Date.now();
  const progress = new Progress(out);
  try {
    for (let pause = POLL_FIRST; ; pause = Math.min(pause * 2, POLL_LAST)) {
      const row = (await client.list()).find((candidate) => candidate.name === vm);
      const now = row?.state ?? GONE;
      if (now === state) return row;
      const elapsed = Date.now() - start;
      if (row === undefined) throw missing(vm, state);
      if (now === schema.STATE_CRASHED) throw await crashed(client, row, state);
      if (elapsed >= timeout) throw await tooLate(client, row, state, timeout);
      progress.show(
        `waiting for ${vm} to be ${state}: ${now}, ${formatTime(elapsed)} of ${formatTime(timeout)}`,
        { progress: `waiting for ${vm}`, wanted: state, state: now, elapsedMs: elapsed, limitMs: timeout },
      );
      await new Promise((resolve) => setTimeout(resolve, Math.min(pause, timeout - elapsed)));
    }
  } finally {
    progress.clear();
  }
}

/** The last lines of a VM's console for a message, "" if there are none. */
export async function lastConsoleLines(client: Client, vm: string): Promise<string> {
  try {
    let text = "";
    let from = 0;
    for (;;) {
      const chunk = await client.logs(vm, from);
      text = (text + Buffer.from(chunk.data).toString("latin1")).slice(-4096);
      if (chunk.data.length === 0 || chunk.next <= from) break;
      from = chunk.next;
    }
    const lines = text.split(/[\r\n]+/).filter((line) => line.trim() !== "");
    return lines
      .slice(-CONSOLE_LINES)
      .map((line) => `\n  | ${oneLine(line)}`)
      .join("");
  } catch {
    return "";
  }
}

function missing(vm: string, state: string): PlinthError {
  const message = `${vm} was removed while waiting for it to be ${state}`;
  return new PlinthError({ code: ErrorCode.NOT_FOUND, message, object: vm, next: "plinth ls" });
}

async function crashed(client: Client, row: VmRow, state: string): Promise<PlinthError> {
  const lines = await lastConsoleLines(client, row.name);
  // A row has no room for a long reason.
  const { reason } = await client.show(row.name).catch(() => row);
  const message = `${row.name} crashed while waiting for it to be ${state}: ${oneLine(reason)}${lines}`;
  return new PlinthError({
    code: ErrorCode.FAILED,
    message,
    object: row.name,
    next: `plinth logs ${row.name}`,
  });
}

async function tooLate(client: Client, row: VmRow, state: string, timeout: number): Promise<PlinthError> {
  const reason = row.reason ? ` (${oneLine(row.reason)})` : "";
  const lines = await lastConsoleLines(client, row.name);
  const message = `${row.name} is not ${state} after ${formatTime(timeout)} but ${row.state}${reason}${lines}`;
  const next = state === schema.STATE_STOPPED ? `plinth stop ${row.name} --force` : `plinth logs ${row.name}`;
  return new PlinthError({ code: ErrorCode.UNREACHABLE, message, object: row.name, next });
}
