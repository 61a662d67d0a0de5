// What every way of using a console shares: printing, failing, and waiting for output to come or to end.

import type { Context } from "./command";
import type { ConsoleStream } from "./console-stream";
import { QuestionFilter } from "./queries";

/** Milliseconds without output after which something typed counts as answered. */
const QUIET = 1000;
const STEP = 20;
const NEWLINE = 0x0a;

export class ConsoleSession {
  readonly context: Context;
  readonly stream: ConsoleStream;
  readonly vm: string;
  /** Whether a person sits at the terminal and it may answer the VM. */
  attended = false;
  private readonly questions = new QuestionFilter();
  private lastByte = NEWLINE;
  private lastOutput = Date.now();
  private readonly failure: Promise<never>;
  private reject!: (error: Error) => void;

  constructor(context: Context, stream: ConsoleStream, vm: string) {
    this.context = context;
    this.stream = stream;
    this.vm = vm;
    this.failure = new Promise<never>((_, reject) => (this.reject = reject));
    this.failure.catch(() => undefined);
    stream.on("error", (error: Error) => this.fail(error));
    stream.on("data", () => (this.lastOutput = Date.now()));
  }

  /** Ends whatever is being waited for. */
  fail(error: Error): void {
    this.reject(error);
  }

  /** The promise, unless the console fails before. */
  orFail<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.failure]);
  }

  /**
   * Console output as it is, or as a line of NDJSON. A terminal's questions are taken out where nobody
   * waits for the answer: from what was printed before we came, and everywhere if no person is attached.
   */
  print(data: Uint8Array, at: number): void {
    const { out, world } = this.context;
    if (out.json) return out.record({ vm: this.vm, at, text: Buffer.from(data).toString("utf8") });
    const live = this.attended ? Math.max(0, Math.min(data.length, this.stream.replayEnd - at)) : data.length;
    const old = data.subarray(0, live);
    if (old.length > 0) this.write(world.stdout.isTTY ? this.questions.take(old) : old);
    if (live < data.length) this.write(Buffer.concat([this.questions.rest(), data.subarray(live)]));
  }

  /** Ends a line that the VM has begun, so that what follows is not behind it. */
  endLine(): void {
    if (this.lastByte !== NEWLINE && !this.context.out.json) this.context.out.line("");
  }

  private write(data: Uint8Array): void {
    this.lastByte = data[data.length - 1] ?? this.lastByte;
    this.context.out.bytes(data);
  }

  /** Resolves when all that the VM had printed before we came has been seen, or no more of it comes. */
  async replayed(): Promise<void> {
    this.lastOutput = Date.now();
    while (this.stream.position < this.stream.replayEnd && !this.isQuiet()) await pause();
  }

  /** Resolves when the VM has printed nothing for a second; the time-out limits a VM that never stops. */
  async quiet(): Promise<void> {
    this.lastOutput = Date.now();
    const end = Date.now() + this.context.timeout;
    while (!this.isQuiet() && Date.now() < end) await pause();
  }

  private isQuiet(): boolean {
    return Date.now() - this.lastOutput > QUIET;
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, STEP));
}
