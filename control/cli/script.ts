// Plays --send and --expect against a console: each step in order, each expectation on what came since.

import { usageError } from "./errors";
import type { Given } from "./arguments";
import { parseEscapes } from "./values";

/** One step of a script. */
export type Step =
  { kind: "send"; text: string; data: Uint8Array } | { kind: "expect"; text: string; pattern: RegExp };

/** The steps in the order in which the options were given. */
export function parseSteps(given: readonly Given[]): Step[] {
  const steps: Step[] = [];
  for (const { name, value } of given) {
    if (name === "send") steps.push({ kind: "send", text: value, data: parseEscapes(value, "--send") });
    if (name === "expect") steps.push({ kind: "expect", text: value, pattern: parsePattern(value) });
  }
  return steps;
}

function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text, "m");
  } catch (error) {
    throw usageError(`--expect: ${(error as Error).message}`);
  }
}

/** "step 2 of 3 (--expect 'login:')". */
export function stepText(steps: readonly Step[], index: number): string {
  const step = steps[index]!;
  return `step ${index + 1} of ${steps.length} (--${step.kind} '${step.text}')`;
}

/** Text that is kept for a pattern to match across chunks. */
const KEPT = 1 << 20;
const NOT_TEXT = /\r|\x1b\[[0-9;?]*[ -/]*[@-~]/g;

/** Collects console output and finds patterns in what no earlier step has used up. */
export class Transcript {
  private text = "";
  private wake: (() => void) | undefined;
  private readonly decoder = new TextDecoder();

  /** Takes output of the console, without carriage returns and escapes, so that "^" and "$" match at line ends. */
  add(bytes: Uint8Array): void {
    const text = this.text + this.decoder.decode(bytes, { stream: true });
    this.text = text.replace(NOT_TEXT, "").slice(-KEPT);
    this.wake?.();
  }

  /** Uses up everything so far: what a program was sent must be answered after it. */
  clear(): void {
    this.text = "";
  }

  /** The first match; `open` if more output could make it longer. */
  find(pattern: RegExp): { line: string; end: number; open: boolean } | null {
    const found = pattern.exec(this.text);
    if (!found) return null;
    const end = found.index + found[0].length;
    const start = this.text.slice(0, found.index).lastIndexOf("\n") + 1;
    return { line: this.text.slice(start, end), end, open: end === this.text.length };
  }

  /** Uses up everything to where a match ended. */
  use(end: number): void {
    this.text = this.text.slice(end);
  }

  /** Resolves when more output has come. */
  more(): Promise<void> {
    return new Promise((resolve) => (this.wake = resolve));
  }

  /** The last lines that no step used up. */
  lastLines(count: number): string[] {
    return this.text.trimEnd().split("\n").slice(-count);
  }
}
