// Errors as users see them: what happened to which object, why, and the next command to type.

import { ErrorCode } from "../protocol/schema";

export { ErrorCode };

/** What an error says. */
export interface ErrorDetails {
  code: number;
  message: string;
  object?: string | undefined;
  next?: string | undefined;
}

/** Every failure that the CLI or its library reports; `code` is the exit code. */
export class PlinthError extends Error {
  readonly code: number;
  readonly object: string;
  readonly next: string;

  constructor(details: ErrorDetails) {
    super(details.message);
    this.name = "PlinthError";
    this.code = details.code;
    this.object = details.object ?? "";
    this.next = details.next ?? "";
  }

  toJSON(): { error: ErrorDetails } {
    const { code, message, object, next } = this;
    return { error: { code, message, object, next } };
  }
}

/** A mistake in the command line. */
export function usageError(message: string, next = "plinth help"): PlinthError {
  return new PlinthError({ code: ErrorCode.USAGE, message, next });
}

/** No connection, or no answer in time. */
export function unreachable(message: string, next: string): PlinthError {
  return new PlinthError({ code: ErrorCode.UNREACHABLE, message, next });
}

/** Any thrown value as a PlinthError. */
export function toPlinthError(error: unknown): PlinthError {
  if (error instanceof PlinthError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new PlinthError({ code: ErrorCode.FAILED, message });
}
