// The ends of a VM: power-off, reset, and what the guest has brought upon itself.

import { Reply } from "../gen/abi";
import { flushConsole } from "./console";
import { sendEnded, sendEvent, sendOff } from "./control-link";
import { message } from "./exits/message";

let ended = false;

/** The VM switches itself off (ACPI S5). The exit that says so is answered with a stop. */
export function endOff(): void {
  if (begin()) sendEvent("off");
}

/** The VM ends itself with an exit code. */
export function endExit(code: u32): void {
  if (begin()) sendOff(code);
}

/** The VM resets itself. The control domain makes it anew. */
export function endReset(): void {
  if (begin()) sendEvent("reset");
}

/** The VM has ended without wanting to. */
export function endBroken(reason: string, value: u64): void {
  if (begin()) sendEnded(reason, value);
}

function begin(): bool {
  message.reply = Reply.STOP;
  if (ended) return false;
  ended = true;
  flushConsole();
  return true;
}
