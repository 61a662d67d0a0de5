// One serial line for many clients: the host's output goes to all, each client's frames stay whole.
import type { Socket } from "node:net";

const DELIMITER = 0;
/** Longer than any frame (Protocol.MAX_FRAME), so the host has given up an unfinished one before we do. */
const FRAME_LIMIT = 4864;
/** A client that does not read this much output is dropped rather than waited for. */
const BACKLOG_LIMIT = 4 << 20;

/**
 * Cuts one client's input into pieces that may be sent between those of other clients: text as it
 * comes, a frame (0x00 ... 0x00) only when it is complete.
 */
export class InputSplitter {
  private frame: Buffer[] = [];
  private length = 0;

  constructor(private readonly send: (piece: Buffer) => void) {}

  push(chunk: Buffer): void {
    let start = 0;
    while (start < chunk.length) {
      const zero = chunk.indexOf(DELIMITER, start);
      const end = zero < 0 ? chunk.length : zero + 1;
      if (this.length === 0) {
        // Text up to the delimiter that opens a frame.
        const textEnd = zero < 0 ? end : zero;
        if (textEnd > start) this.send(chunk.subarray(start, textEnd));
        if (zero >= 0) this.keep(chunk.subarray(zero, end));
      } else {
        this.keep(chunk.subarray(start, end));
        if (zero >= 0 || this.length > FRAME_LIMIT) this.flush();
      }
      start = end;
    }
  }

  /** The client is gone: what it began is ended, so that the host drops it and the next client starts clean. */
  close(): void {
    if (this.length === 0) return;
    this.keep(Buffer.from([DELIMITER]));
    this.flush();
  }

  private keep(piece: Buffer): void {
    this.frame.push(Buffer.from(piece));
    this.length += piece.length;
  }

  private flush(): void {
    this.send(Buffer.concat(this.frame));
    this.frame = [];
    this.length = 0;
  }
}

/** Joins clients to the line. */
export class SharedLine {
  private readonly clients = new Set<Socket>();

  /** `write` sends bytes to the host; false means: stop reading until `resume`. */
  constructor(private readonly write: (bytes: Buffer) => boolean) {}

  add(client: Socket): void {
    const splitter = new InputSplitter((piece) => {
      if (!this.write(piece)) for (const each of this.clients) each.pause();
    });
    this.clients.add(client);
    client.on("data", (chunk: Buffer) => splitter.push(chunk));
    client.on("error", () => client.destroy());
    client.on("close", () => {
      this.clients.delete(client);
      splitter.close();
    });
  }

  /** The host takes bytes again. */
  resume(): void {
    for (const client of this.clients) client.resume();
  }

  broadcast(bytes: Buffer): void {
    for (const client of this.clients) {
      if (client.writableLength > BACKLOG_LIMIT) client.destroy();
      else client.write(bytes);
    }
  }

  close(): void {
    for (const client of this.clients) client.end();
  }
}
