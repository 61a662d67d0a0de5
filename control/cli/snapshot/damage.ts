// What is said of a snapshot's file that is not as it was written: exit code 7, the file, and the record in it.

import { ErrorCode, PlinthError } from "../errors";

/** A file of the repository, or one that came from elsewhere, that must not be used. */
export function damaged(file: string, what: string, next = "plinth help snapshot verify"): PlinthError {
  return new PlinthError({ code: ErrorCode.INTEGRITY, message: `${file}: ${what}`, object: file, next });
}
