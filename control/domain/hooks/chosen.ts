// The hooks of this control image.

import { HOOKS_NONE } from "../../protocol/schema";
import { Hooks } from "./hooks";

let chosen: Hooks = new Hooks();

/** Whether this image has hooks of its own. */
export function hasHooks(): bool {
  return chosen.name() != HOOKS_NONE;
}

/** Called once, before anything else runs. */
export function hooksUse(hooks: Hooks): void {
  chosen = hooks;
}

export function policyHooks(): Hooks {
  return chosen;
}
