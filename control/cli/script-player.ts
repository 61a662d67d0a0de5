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

/**
 * Plays the steps in order. What was printed before we came is searched by expectations that no
 * --send precedes, and of it only the matching line is shown; all later output is shown as it comes.
 */
export async function playScript(session: ConsoleSession, steps: readonly Step[]): Promise<void> {
  const { stream, context } = session;
  const transcript = new Transcript();
  let current = 0;
  stream.on("data", (data: Uint8Array, at: number) => {
    transcript.add(data);
    const fresh = data.subarray(Math.max(0, stream.replayEnd - at));
    if (fresh.length > 0) session.print(fresh, stream.position - fresh.length);
  });
  stream.on("event", (event: HostEvent) => {
    if (ENDINGS.includes(event.kind) && steps[current]?.kind === "expect") {
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
  else if (!context.out.json && stream.position > stream.replayEnd) context.out.line("");
}

async function expectation(
  session: ConsoleSession,
  transcript: Transcript,
  steps: readonly Step[],
  current: number,
): Promise<void> {
  const { context, stream } = session;
  const step = steps[current] as Extract<Step, { kind: "expect" }>;
  let expired = false;
  let wake = (): void => undefined;
  const timer = setTimeout(() => {
    expired = true;
    wake();
  }, context.longTimeout);
  const expiry = new Promise<void>((resolve) => (wake = resolve));
  try {
    for (;;) {
      const old = stream.position <= stream.replayEnd;
      const seen = transcript.match(step.pattern);
      if (seen !== null) {
        if (old && !context.out.json) context.out.line(seen);
        return;
      }
      if (expired) throw tooLate(session, stepText(steps, current), transcript);
      await Promise.race([transcript.more(), expiry]);
    }
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
