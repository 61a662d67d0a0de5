// Coming back after the host or the line was lost.

import type { Context } from "./command";
import { ErrorCode, type PlinthError } from "./errors";

/** Milliseconds between two attempts to reach a host that was lost. */
const TRY_AGAIN = 1000;

/** Tries to reach the host until that works; false: the person has left. */
export async function reconnected(
  context: Context,
  left: Promise<unknown>,
  gone: () => boolean,
): Promise<boolean> {
  while (!gone()) {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([left, new Promise((resolve) => (timer = setTimeout(resolve, TRY_AGAIN)))]);
    clearTimeout(timer);
    if (gone()) break;
    try {
      await Promise.race([context.reconnect(), left]);
    } catch (error) {
      if ((error as PlinthError).code === ErrorCode.UNREACHABLE) continue;
      throw error;
    }
    return !gone();
  }
  return false;
}
