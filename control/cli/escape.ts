// The ways out of a raw terminal: Ctrl-] anywhere, and "~." after a newline.

/** Told what a typed byte means. */
export interface EscapeHandler {
  /** Bytes for the other side. */
  send(bytes: Uint8Array): void;
  /** The person wants to leave. */
  leave(): void;
  /** The person typed "~?". */
  help(): void;
}

export const ESCAPE_HELP = [
  "~.      leave (typed at the start of a line)",
  "Ctrl-]  leave",
  "~~      send one ~",
  "~?      this help",
].join("\r\n");

const ESC = 0x1b;
const CTRL_BRACKET = 0x1d;
const TILDE = 0x7e;

/** Watches what is typed for an escape; everything else is passed on at once. */
export class EscapeReader {
  private atLineStart = true;
  private tilde = false;
  /** What of an escape sequence was seen, and whether a line began before it. */
  private sequence: "" | "escape" | "parameters" = "";
  private before = false;
  private readonly handler: EscapeHandler;

  constructor(handler: EscapeHandler) {
    this.handler = handler;
  }

  /** Takes typed bytes; after an escape that leaves, the rest is dropped. */
  feed(bytes: Uint8Array): void {
    const out: number[] = [];
    for (const byte of bytes) {
      const action = this.step(byte, out);
      if (action === undefined) continue;
      if (out.length > 0) this.handler.send(Uint8Array.from(out.splice(0)));
      if (action === "leave") return this.handler.leave();
      this.handler.help();
    }
    if (out.length > 0) this.handler.send(Uint8Array.from(out));
  }

  private step(byte: number, out: number[]): "leave" | "help" | undefined {
    if (byte === CTRL_BRACKET) return "leave";
    if (this.tilde) {
      this.tilde = false;
      if (byte === 0x2e) return "leave";
      if (byte === 0x3f) {
        this.atLineStart = true;
        return "help";
      }
      out.push(TILDE);
      this.atLineStart = false;
      if (byte === TILDE) return undefined;
    } else if (byte === TILDE && this.atLineStart) {
      this.tilde = true;
      return undefined;
    }
    out.push(byte);
    this.atLineStart = this.beginsLine(byte);
    return undefined;
  }

  /** A terminal's answer to a question (its cursor, its kind) is not typed: a line begins behind it if it did before. */
  private beginsLine(byte: number): boolean {
    if (byte === ESC) {
      if (this.sequence === "") this.before = this.atLineStart;
      this.sequence = "escape";
    } else if (this.sequence === "escape") {
      this.sequence = byte === 0x5b ? "parameters" : "";
    } else if (this.sequence === "parameters" && (byte < 0x30 || byte > 0x3f)) {
      this.sequence = "";
      return this.before && "Rcn".includes(String.fromCharCode(byte));
    }
    return byte === 0x0d || byte === 0x0a;
  }
}
