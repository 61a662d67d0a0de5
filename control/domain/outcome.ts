// What an operation gives: a result document, or a fault that names object, cause and next command.

import { ErrorCode } from "../protocol/schema";
import { Value } from "./value";

/** `next` is a shell command; for the CLI it gets "plinth " in front. */
export class Fault {
  constructor(
    public code: ErrorCode,
    public message: string,
    public object: string = "",
    public next: string = "",
  ) {}
}

export class Outcome {
  constructor(
    public result: Value | null,
    public fault: Fault | null,
  ) {}

  static of(result: Value): Outcome {
    return new Outcome(result, null);
  }

  static fail(fault: Fault): Outcome {
    return new Outcome(null, fault);
  }
}
