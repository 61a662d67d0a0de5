// How far something is, on stderr: one line that a terminal shows in place, or NDJSON with --progress=json.

import { fstatSync } from "node:fs";
import type { Output, World } from "./output";
import { formatSize, formatTime } from "./values";

/** What --progress may be given. */
export const PROGRESS: readonly string[] = ["auto", "json", "never"];

/** Milliseconds before a transfer is worth a word, and between two words about it. */
const FIRST = 500;
const NEXT = 250;

/** One line on a terminal's stderr that is rewritten in place; for programs a record each time. */
export class Progress {
  private readonly out: Output;
  private shown = false;

  constructor(out: Output) {
    this.out = out;
  }

  show(text: string, record: object): void {
    const { stderr, env } = this.out.world;
    if (this.out.progress === "json") this.out.talk(JSON.stringify(record));
    if (this.out.progress !== "auto" || !stderr.isTTY || env.TERM === "dumb") return;
    stderr.write(`\r\x1b[K${text}`);
    this.shown = true;
  }

  clear(): void {
    if (this.shown) this.out.world.stderr.write("\r\x1b[K");
    this.shown = false;
  }
}

/** Bytes on their way: how many, of how many, how fast, and how long it still takes. */
export class Transfer {
  private readonly progress: Progress;
  private readonly what: string;
  private readonly total: number | undefined;
  private readonly clock: () => number;
  private readonly start: number;
  private told: number;
  private bytes = 0;

  /** `what`: "sending host.yaml"; without `total` nobody knows how much it will be. */
  constructor(out: Output, what: string, total?: number, clock: () => number = Date.now) {
    this.progress = new Progress(out);
    this.what = what;
    this.total = total;
    this.clock = clock;
    this.start = clock();
    this.told = this.start + FIRST - NEXT;
  }

  add(bytes: number): void {
    this.at(this.bytes + bytes);
  }

  /** So many bytes are through. */
  at(bytes: number): void {
    this.bytes = bytes;
    const now = this.clock();
    if (now - this.told < NEXT) return;
    this.told = now;
    this.show(now - this.start);
  }

  /** It is over, well or not: the line is for others again. */
  end(): void {
    this.progress.clear();
  }

  private show(elapsed: number): void {
    const { bytes, total, what } = this;
    const rate = elapsed > 0 ? (bytes * 1000) / elapsed : 0;
    const part = total ? Math.min(1, bytes / total) : undefined;
    const left = total !== undefined && rate > 0 ? (Math.max(0, total - bytes) * 1000) / rate : undefined;
    const amount =
      part === undefined
        ? formatSize(bytes)
        : `${formatSize(bytes)} of ${formatSize(total!)} (${Math.floor(100 * part)} %)`;
    const rest = left === undefined ? "" : `, ${formatTime(left)} left`;
    this.progress.show(`${what}: ${amount}, ${formatSize(Math.round(rate))}/s${rest}`, {
      progress: what,
      bytes,
      ...(total === undefined ? {} : { total }),
      bytesPerSecond: Math.round(rate),
      ...(left === undefined ? {} : { secondsLeft: Math.ceil(left / 1000) }),
    });
  }
}

/** How much stdin holds, if it is a file. */
export function inputSize({ stdin }: World): number | undefined {
  const { fd } = stdin as { fd?: number };
  if (typeof fd !== "number") return undefined;
  const found = fstatSync(fd);
  return found.isFile() ? found.size : undefined;
}
