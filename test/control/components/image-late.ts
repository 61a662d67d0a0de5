// A control component that starts well, and traps before it has said that it is up.

import { EVENT_FREE } from "../../../control/gen/abi";
import { now, timerCreate, timerSet } from "../../../control/lib/binding";

const SLOT: u32 = 2000;

export function init(): void {
  timerCreate(SLOT, EVENT_FREE);
  timerSet(SLOT, now());
}

export function onEvents(bits: u64): void {
  assert(false, "this image traps late");
}
