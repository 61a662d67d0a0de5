// When to copy once more while the VM runs, when to slow it down, and when to pause it for the rest.

/** One round: the pages that were copied, and how long that took. */
export interface Round {
  pages: number;
  ms: number;
}

export type Step = "again" | "brake" | "last";

/** Rounds while the VM runs, at most. */
const MAX_ROUNDS = 12;
/** A round that leaves more than this part of what it copied has not brought the end nearer. */
const PROGRESS = 0.7;
/** So few pages are never worth a round of their own. */
const FEW = 8;

/** What the VM may use of each CPU, in percent, when it writes faster than is copied: one after the other. */
export const BRAKES: readonly number[] = [50, 20, 5];

/** Milliseconds that `pages` will take, by what the last rounds took. */
export function estimate(rounds: readonly Round[], pages: number): number {
  const copied = rounds.reduce((sum, round) => sum + round.pages, 0);
  const ms = rounds.reduce((sum, round) => sum + round.ms, 0);
  return copied === 0 ? 0 : (pages * ms) / copied;
}

/** `dirty`: pages that were written since the last round; `brakes`: how often the VM was slowed down. */
export function nextStep(rounds: readonly Round[], dirty: number, downtimeMs: number, brakes: number): Step {
  if (dirty <= FEW || estimate(rounds, dirty) <= downtimeMs || rounds.length >= MAX_ROUNDS) return "last";
  const last = rounds[rounds.length - 1]!;
  if (dirty <= PROGRESS * last.pages) return "again";
  return brakes < BRAKES.length ? "brake" : "last";
}
