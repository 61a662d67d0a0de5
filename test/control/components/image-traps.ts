// A control component that traps as soon as it starts.

import { nullCall } from "../../../control/lib/binding";

export function init(): void {
  nullCall();
  assert(false, "this image traps");
}

export function onEvents(bits: u64): void {}
