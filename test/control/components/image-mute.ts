// A control component that waits for ever, and never says that it is up.

import { nullCall } from "../../../control/lib/binding";

export function init(): void {
  nullCall();
}

export function onEvents(bits: u64): void {}
