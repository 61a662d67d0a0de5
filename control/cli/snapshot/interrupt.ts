// Ctrl-C during a transfer: it stops where it can go on later, and says so.

import { PlinthError } from "../errors";

/** The exit code. */
export const INTERRUPTED = 130;

/** Watches for Ctrl-C from its making until stop(). */
export class Interrupt {
  private isAsked = false;
  private readonly listener = (): void => void (this.isAsked = true);

  constructor() {
    // The second Ctrl-C ends the program as usual.
    process.once("SIGINT", this.listener);
  }

  stop(): void {
    process.off("SIGINT", this.listener);
  }

  /** Throws if Ctrl-C was pressed; `state` is where things are, `next` how they go on. */
  check(state: () => string, next: string): void {
    if (!this.isAsked) return;
    throw new PlinthError({ code: INTERRUPTED, message: `interrupted: ${state()}`, next });
  }
}
