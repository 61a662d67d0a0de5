// The hooks of this control image.

import { Hooks } from "./hooks";

let chosen: Hooks = new Hooks();

/** Called once, before anything else runs. */
export function hooksUse(hooks: Hooks): void {
  chosen = hooks;
}

export function policyHooks(): Hooks {
  return chosen;
}
