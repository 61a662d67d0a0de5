// The one exit message that a device model works on: a static copy of the exit page of a vCPU.
//
// The native loop copies a message in, calls onExit and copies the answer out, so nothing here is
// shared with the guest while a handler runs.

import { ExitMessageAt, Reply } from "../../gen/abi";
import { ExitMessage } from "../../gen/layout";

/** Address of the buffer that the native loop fills; exported by the component as exitBuffer(). */
export const messageAddress: usize = memory.data(ExitMessageAt.SIZE, 16);

/** The exit that is being handled. */
export const message = changetype<ExitMessage>(messageAddress);

/** Which vCPU caused it. */
export let vcpuIndex: u32 = 0;

export function setVcpuIndex(index: u32): void {
  vcpuIndex = index;
}

/** Answers with an exception. `error` below 0 means that the exception has no error code. */
export function answerException(vector: u32, error: i32 = -1, cr2: u64 = 0): void {
  message.reply = Reply.INJECT;
  message.reply_vector = error >= 0 ? vector | 0x80000000 : vector;
  message.reply_error = error >= 0 ? <u32>error : 0;
  message.reply_cr2 = cr2;
}
