// A machine that is watched from power-on by what it prints on COM1, with nobody answering.

import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { type Rig, type RigOptions, startRig } from "../../boot/rigs/rig";
import { runDir } from "./host";

const LIMIT_MS = 170_000;
const POLL_MS = 50;

/** Types on the serial line. */
export function type(rig: Rig, text: string): Promise<void> {
  return new Promise((done, fail) => {
    const socket = connect(rig.socketPath, () => socket.end(text, "latin1"));
    socket.on("error", fail);
    socket.on("close", () => done());
    socket.resume();
  });
}

/** Boots until all of `lines` were printed, in any order; returns all that was printed by then. `look` sees the machine then. */
export async function bootUntil(
  name: string,
  options: RigOptions,
  lines: RegExp[],
  look: (rig: Rig) => Promise<void> = async () => undefined,
): Promise<string> {
  const rig = await startRig({ ...options, runDir: runDir(name) });
  try {
    const text = await waitFor(rig, lines);
    await look(rig);
    return text;
  } finally {
    await rig.stop();
  }
}

/** What GRUB and firmware tell a terminal, and carriage returns. */
const TERMINAL = /\x1b\[[0-9;?=]*[A-Za-z]|\r/g;

/** Waits until all of `lines` were printed since power-on. */
export async function waitFor(rig: Rig, lines: RegExp[]): Promise<string> {
  let ended: string | null = null;
  void rig.exited.then((exit) => (ended = exit.lastOutput));
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const over = ended;
    const text = readFileSync(rig.serialLog, "latin1").replace(TERMINAL, "");
    const missing = lines.find((line) => !line.test(text));
    if (missing === undefined) return text;
    if (over !== null) throw new Error(`no ${missing}; the rig ended:\n${over}`);
    if (Date.now() > end) throw new Error(`no ${missing} in:\n${text}`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}
