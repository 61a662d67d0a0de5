// A copy of a console's output in a file, with the time at which each line began if that is wanted.

import { createWriteStream, type WriteStream } from "node:fs";

const NEWLINE = 0x0a;

export class LogFile {
  private readonly file: WriteStream;
  private readonly stamps: boolean;
  private atLineStart = true;

  /** Appends to `path`; `failed` hears what is wrong with it. */
  constructor(path: string, stamps: boolean, failed: (error: Error) => void) {
    this.file = createWriteStream(path, { flags: "a" });
    this.file.on("error", failed);
    this.stamps = stamps;
  }

  write(data: Uint8Array): void {
    this.file.write(this.stamps ? this.stamped(data, new Date().toISOString()) : data);
  }

  /** Resolves when all of it is written. */
  close(): Promise<void> {
    return new Promise((resolve) => this.file.end(() => resolve()));
  }

  private stamped(data: Uint8Array, time: string): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let from = 0; from < data.length;) {
      if (this.atLineStart) parts.push(Buffer.from(`${time} `));
      const end = data.indexOf(NEWLINE, from);
      const next = end < 0 ? data.length : end + 1;
      parts.push(data.subarray(from, next));
      this.atLineStart = end >= 0;
      from = next;
    }
    return Buffer.concat(parts);
  }
}
