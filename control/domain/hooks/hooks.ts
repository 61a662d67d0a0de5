/*
 * Policy hooks: what an operator may decide in code. A control image is built with one set of them; this one, which
 * decides nothing, is in the image that boots (README.md says how to build another).
 *
 * Hooks see facts and return a decision; they have no other way to anything, and no memory between two calls, so that
 * `plinth audit replay` comes to the same decision from the same facts. They are written in the subset of TypeScript that
 * asc, esbuild and tsc all accept, like the planner. One that traps ends the control component, which starts again.
 */

import { HOOKS_NONE } from "../../protocol/schema";

/** A VM that is asked for, or to which something has happened. */
export class HookVm {
  tenant: string = "";
  /** Bytes. */
  memory: i64 = 0;
  vcpus: i32 = 1;
  tags: string[] = [];
  /** How often a policy has started it again. */
  restarts: i32 = 0;

  constructor(public name: string) {}
}

/** A VM of which there are copies by policy, and how these do. */
export class HookScale {
  /** How many there are, and how many there are at least and at most. */
  copies: i32 = 0;
  min: i32 = 0;
  max: i32 = 0;
  /** How much of their vCPUs they have used since they were asked for last, in percent, on average. */
  cpu: i32 = 0;
  /** Bytes of the host that are free. */
  free: i64 = 0;

  constructor(public vm: HookVm) {}
}

/** What an event asks for. */
export class HookAction {
  /** HOOK_START or HOOK_STOP. */
  action: string = "";
  /** Which VM; "": the one of the event. */
  vm: string = "";
  /** Told to people, and kept in the audit log. */
  reason: string = "";
}

/** Starts a VM that has ended; ends one that runs. */
export const HOOK_START: string = "start";
export const HOOK_STOP: string = "stop";

export class Hooks {
  /** What these hooks are, for `status`. */
  name(): string {
    return HOOKS_NONE;
  }

  /** Why a VM may not be on this host, "" if it may: when it is created, changed, or in a specification to be applied. */
  admit(_vm: HookVm): string {
    return "";
  }

  /** The CPUs of the host on which a VM may run, of 0 to cpus - 1; none: on any. Asked when it starts. */
  place(_vm: HookVm, _cpus: i32): i32[] {
    return [];
  }

  /**
   * How many copies there are to be of a VM whose specification has `scale`. Asked once a second; what is below its min or
   * above its max is taken as that, and there is one more or one less at a time.
   */
  scale(facts: HookScale): i32 {
    return facts.copies;
  }

  /** What is to be done after an event (EVENT_ in schema.ts), of a VM or with "" of the host; null: nothing. */
  onEvent(_kind: string, _vm: HookVm): HookAction | null {
    return null;
  }
}
