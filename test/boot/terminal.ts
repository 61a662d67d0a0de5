// A person's terminal on the serial line: types, reads, and waits for what should appear.

import { type Socket, connect } from "node:net";

const LIMIT_MS = 60_000;
const SHOWN = 600;
/** What the shell asks for the terminal's size. */
const SIZE_QUESTION = "\x1b7\x1b[999;999H\x1b[6n\x1b8";

export class Terminal {
  /** What no expectation has used up yet, without carriage returns. */
  text = "";
  /** Its height: low ones page. */
  rows = 500;
  private wake = (): void => undefined;

  private constructor(private readonly socket: Socket) {
    socket.on("error", () => undefined);
    socket.setEncoding("latin1").on("data", (text: string) => {
      this.text += text.replace(/\r/g, "");
      if (this.text.includes(SIZE_QUESTION)) this.answerSize();
      this.wake();
    });
  }

  static open(path: string): Promise<Terminal> {
    return new Promise((done, fail) => {
      const socket = connect(path, () => done(new Terminal(socket)));
      socket.once("error", fail);
    });
  }

  private answerSize(): void {
    this.text = this.text.replace(SIZE_QUESTION, "");
    this.type(`\x1b[${this.rows};80R`);
  }

  type(text: string | Uint8Array): void {
    this.socket.write(text);
  }

  /** Waits until `pattern` appears, and uses up everything to its end; returns what was used up. */
  async expect(pattern: RegExp, limit = LIMIT_MS): Promise<string> {
    const end = Date.now() + limit;
    for (;;) {
      const match = pattern.exec(this.text);
      if (match !== null) {
        const used = this.text.slice(0, match.index + match[0].length);
        this.text = this.text.slice(used.length);
        return used;
      }
      if (Date.now() >= end) throw new Error(`no ${pattern} but: ${JSON.stringify(this.text.slice(-SHOWN))}`);
      await this.more(end - Date.now());
    }
  }

  /** Types a command; returns what is printed before the next prompt. */
  async command(line: string): Promise<string> {
    this.type(`${line}\r`);
    await this.expect(new RegExp(`${line.replace(/[^\w ]/g, "\\$&")}\\n`));
    return (await this.expect(/^plinth> /m)).slice(0, -"plinth> ".length);
  }

  /** Hangs up, at once or after what was typed is on its way. */
  close(): Promise<void> {
    return new Promise((done) => {
      this.socket.on("close", () => done());
      this.socket.end(() => this.socket.destroy());
    });
  }

  private more(limit: number): Promise<void> {
    return new Promise((done) => {
      const timer = setTimeout(done, limit);
      this.wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  }
}
