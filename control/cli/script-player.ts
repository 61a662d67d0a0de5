// Runs the steps of a console script and says which one failed.

import * as schema from "../protocol/schema";
import type { ConsoleSession } from "./console-session";
import { ErrorCode, PlinthError, unreachable } from "./errors";
import { oneLine } from "./output";
import type { HostEvent } from "./results";
import { stepText, Transcript, type Step } from "./script";
import { formatTime } from "./values";

const ENDINGS: readonly string[] = [schema.EVENT_VM_OFF, schema.EVENT_VM_CRASHED, schema.EVENT_VM_REMOVED];
const LINES_IN_ERRORS = 8;
/** Milliseconds for which a match at the very end of the output may still grow: "Linux .*" in mid-line. */
const SETTLE = 200;

/**
 * Plays the steps in order. What was printed before we came is searched by expectations that no
 * --send precedes, and of it only the matching line is shown; all later output is shown as it comes.
 */
export async function playScript(session: ConsoleSession, steps: readonly Step[]): Promise<void> {
  const { stream } = session;
  const transcript = new Transcript();
  let current = 0;
  stream.on("data", (data: Uint8Array, at: number) => {
    transcript.add(data);
    const fresh = data.subarray(Math.max(0, stream.replayEnd - at));
    if (fresh.length > 0) session.print(fresh, stream.position - fresh.length);
  });
  stream.on("event", (event: HostEvent) => {
    const step = steps[current];
    // What is there already has come in time, even if more of it could follow.
    if (ENDINGS.includes(event.kind) && step?.kind === "expect" && !transcript.find(step.pattern)) {
      session.fail(ended(session, event, `in ${stepText(steps, current)}`, transcript));
    }
  });
  await session.orFail(stream.open());
  for (; current < steps.length; current++) {
    const step = steps[current]!;
    if (step.kind === "expect") {
      await session.orFail(expectation(session, transcript, steps, current));
      continue;
    }
    await session.orFail(session.replayed());
    transcript.clear();
    await session.orFail(stream.write(step.data));
  }
  if (steps[steps.length - 1]!.kind === "send") await session.orFail(session.quiet());
  session.endLine();
}

async function expectation(
  session: ConsoleSession,
  transcript: Transcript,
  steps: readonly Step[],
  current: number,
): Promise<void> {
  const { context, stream } = session;
  const step = steps[current] as Extract<Step, { kind: "expect" }>;
  const deadline = Date.now() + context.longTimeout;
  for (let settled = false; ;) {
    const old = stream.position <= stream.replayEnd;
    const found = transcript.find(step.pattern);
    const left = deadline - Date.now();
    if (found && (!found.open || settled || left <= 0)) {
      if (old && !context.out.json) context.out.line(found.line);
      transcript.use(found.end);
      return;
    }
    if (left <= 0) throw tooLate(session, stepText(steps, current), transcript);
    settled = !(await moreWithin(transcript, found ? Math.min(SETTLE, left) : left));
  }
}

/** Whether more output came within so many milliseconds. */
async function moreWithin(transcript: Transcript, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(resolve, milliseconds, false)));
  // The console may end while this waits: only the connection keeps the process.
  timer?.unref();
  try {
    return await Promise.race([transcript.more().then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

function tooLate(session: ConsoleSession, step: string, transcript: Transcript): PlinthError {
  const { vm, context } = session;
  const limit = formatTime(context.longTimeout);
  return unreachable(
    `${vm}: ${step} did not happen within ${limit}${lastLines(transcript)}`,
    `plinth logs ${vm}`,
  );
}

function ended(
  session: ConsoleSession,
  event: HostEvent,
  where: string,
  transcript: Transcript,
): PlinthError {
  const { vm } = session;
  const message = `${vm}: ${oneLine(event.text || event.kind)}, ${where}${lastLines(transcript)}`;
  return new PlinthError({ code: ErrorCode.FAILED, message, object: vm, next: `plinth show ${vm}` });
}

function lastLines(transcript: Transcript): string {
  const lines = transcript.lastLines(LINES_IN_ERRORS).filter((line) => line.trim() !== "");
  if (lines.length === 0) return "; its console printed nothing since the step before";
  return `; the last lines of its console:${lines.map((line) => `\n  | ${oneLine(line)}`).join("")}`;
}
