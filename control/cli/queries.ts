// Takes a terminal's questions out of old output: the terminal would answer them now, as if it were typed.

/** Device status and cursor reports, device attributes, DECRQM, ENQ. */
const QUESTIONS = /\x1b\[[>=?]?[0-9;]*[cn]|\x1b\[\??[0-9;]*\$p|\x1bZ|\x05/g;
/** The beginning of what may become an escape sequence. */
const UNFINISHED = /\x1b(?:\[[>=?]?[0-9;]{0,12}\$?)?$/;

/** Filters output in pieces, however they are cut. */
export class QuestionFilter {
  private held = "";

  /** The bytes without questions; an unfinished sequence at the end waits for the next piece. */
  take(bytes: Uint8Array): Uint8Array {
    const text = (this.held + Buffer.from(bytes).toString("latin1")).replace(QUESTIONS, "");
    this.held = UNFINISHED.exec(text)?.[0] ?? "";
    return Buffer.from(text.slice(0, text.length - this.held.length), "latin1");
  }

  /** What waited for a next piece that does not come. */
  rest(): Uint8Array {
    const rest = Buffer.from(this.held, "latin1");
    this.held = "";
    return rest;
  }
}
