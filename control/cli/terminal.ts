// Puts a person's terminal into raw mode, and always back.

import { ESCAPE_HELP, EscapeReader } from "./escape";
import type { World } from "./output";

/** A terminal that is attached to something until the person leaves. */
export interface RawTerminal {
  /** Resolves when the person typed an escape or the terminal ended. */
  readonly left: Promise<void>;
  /** Restores the terminal; may be called more than once. */
  restore(): void;
}

/** Attaches the terminal: `send` gets what is typed, except for escapes. */
export function attachTerminal(world: World, send: (bytes: Uint8Array) => void): RawTerminal {
  const { stdin, stderr } = world;
  let leave: () => void;
  const left = new Promise<void>((resolve) => (leave = resolve));
  const reader = new EscapeReader({
    send,
    leave: () => leave(),
    help: () => stderr.write(`\r\n${ESCAPE_HELP}\r\n`),
  });
  const onData = (bytes: Buffer | string): void => reader.feed(Buffer.from(bytes as Buffer));
  const onEnd = (): void => leave();
  stdin.setRawMode?.(true);
  stdin.on("data", onData);
  stdin.on("end", onEnd);
  stdin.resume();
  return {
    left,
    restore: () => {
      stdin.off("data", onData);
      stdin.off("end", onEnd);
      stdin.setRawMode?.(false);
      stdin.pause();
    },
  };
}
