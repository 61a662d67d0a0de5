// How hypercalls and components of the model fail.

import { Status } from "../../../control/gen/abi";

/** A hypercall is refused with this status. */
export class Refusal extends Error {
  constructor(readonly status: Status) {
    super(`status ${status}`);
  }
}

/** A component ends: it trapped, touched what is not mapped, or used a port that is not its own. */
export class ComponentFault extends Error {
  constructor(
    readonly cause_: "trap" | "memory" | "exit" | "hang" | "replaced",
    readonly detail: number,
    text?: string,
  ) {
    super(text ?? `${cause_} at 0x${detail.toString(16)}`);
  }
}

export function refuseIf(condition: boolean, status: Status): void {
  if (condition) throw new Refusal(status);
}
