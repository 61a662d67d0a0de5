// The exception that an instruction under emulation has met, until it is answered with.

import { answerException } from "./message";

export const GENERAL_PROTECTION: u32 = 13;
export const INVALID_OPCODE: u32 = 6;
export const STACK_FAULT: u32 = 12;
export const PAGE_FAULT: u32 = 14;
export const ALIGNMENT_CHECK: u32 = 17;

let vector: u32 = 0;
let error: i32 = 0;
let address: u64 = 0;

/** Notes an exception; `code` below 0: without an error code. False, for the caller to pass on. */
export function fault(exception: u32, code: i32 = 0, cr2: u64 = 0): bool {
  vector = exception;
  error = code;
  address = cr2;
  return false;
}

/** Answers the exit with the exception that was noted last. */
export function answerFault(): void {
  answerException(vector, error, address);
}
