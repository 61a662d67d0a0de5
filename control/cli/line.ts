// Requests and replies on one line that others use too: our ids pick our replies, lost ones are noticed.

import { randomInt } from "node:crypto";
import { EventEmitter } from "node:events";
import type { Duplex } from "node:stream";
import type { Message } from "../protocol/node/cbor";
import { FrameReader, frameEncode } from "../protocol/node/frame";
import * as schema from "../protocol/schema";
import { PlinthError, unreachable } from "./errors";
import { formatTime } from "./values";

/** How one request is made. */
export interface RequestOptions {
  /** Milliseconds until the request fails with code 5. */
  timeout: number;
  /** The epoch of the host that was asked: it does a change that is sent again only if nobody can have done it. */
  epoch?: number | undefined;
}

interface Pending {
  id: number;
  op: string;
  done(reply: Message): void;
  fail(error: Error): void;
}

/** Milliseconds without a reply after which a harmless request asks whether the first was lost; doubled each time. */
const PROBE_AFTER = 1500;
/** What asks whether a host is there: to a boot loader, and to firmware, zeros are no keys. */
const ARE_YOU_THERE = new Uint8Array(2);
/** Milliseconds after which that is asked again. */
const ASK_AGAIN = 500;
/** Milliseconds after which hello is sent again to a host that is there. */
const HELLO_AGAIN = schema.Protocol.FRAME_TIMEOUT_MS + 500;
/** Milliseconds without a byte after which half a frame is text: a host on a busy machine may take long. */
const SILENCE = 5 * schema.Protocol.FRAME_TIMEOUT_MS;
/** What the shell on the line prints when it waits for a command. */
const PROMPT = "plinth> ";
/** Characters of the line's text that are kept for messages. */
const TEXT_KEPT = 4096;

/**
 * Emits "push" (a Message with `ev`), "text" (bytes outside frames), "prompt" (the host's shell waits), "ready" (the host is there), "hello" (another client said hello,
 * which ended our attachments) and "close" (an error; the line is gone).
 */
export class Line extends EventEmitter {
  /** The last text outside frames, for messages. */
  recentText = "";
  private readonly stream: Duplex;
  private readonly reader: FrameReader;
  private readonly pending = new Map<number, Pending>();
  private silence: NodeJS.Timeout | undefined;
  private closed: PlinthError | undefined;
  readonly name: string;

  constructor(stream: Duplex, name: string) {
    super();
    this.stream = stream;
    this.name = name;
    this.reader = new FrameReader({
      message: (message) => this.receive(message),
      text: (bytes) => this.receiveText(bytes),
    });
    stream.on("data", (bytes: Buffer) => this.feed(bytes));
    stream.on("error", (error: Error) => this.end(error.message));
    stream.on("end", () => this.end("the other side closed it"));
    stream.on("close", () => this.end("it was closed"));
  }

  get badFrames(): number {
    return this.reader.badFrames;
  }

  /** Sends bytes as they are: what a person types to the shell. */
  write(bytes: Uint8Array): void {
    if (!this.closed) this.stream.write(bytes);
  }

  /** Leaves the line; waits until what was sent is on its way. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.end("it was closed here");
    await new Promise<void>((resolve) => {
      this.stream.once("close", resolve);
      setTimeout(resolve, 500).unref();
      this.stream.end(() => this.stream.destroy());
    });
    this.stream.destroy();
  }

  /** Sends a frame. */
  send(message: Message): void {
    if (!this.closed) this.stream.write(frameEncode(message));
  }

  /**
   * Sends `hello` once the host has said that it is there: what still boots would take a frame for keys. It is asked
   * again and again, and at its prompt.
   */
  hello(timeout: number): Promise<unknown> {
    const id = newId();
    const message: Message = { id, op: schema.OP_HELLO, version: schema.Protocol.VERSION };
    return this.exchange(id, schema.OP_HELLO, timeout, () => {
      let sent = -Infinity;
      const ask = (): void => this.write(ARE_YOU_THERE);
      const greet = (): void => {
        if (Date.now() - sent < HELLO_AGAIN) return;
        sent = Date.now();
        this.send(message);
      };
      const timer = setInterval(ask, ASK_AGAIN);
      this.on("prompt", ask);
      this.on("ready", greet);
      ask();
      return () => {
        clearInterval(timer);
        this.off("prompt", ask);
        this.off("ready", greet);
      };
    });
  }

  /** Resolves when the shell on the line prompts, or after so many milliseconds. */
  prompted(timeout: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.off("prompt", done);
        resolve();
      };
      const timer = setTimeout(done, timeout);
      this.on("prompt", done);
    });
  }

  /** Sends one request and resolves with its result; rejects with a PlinthError. */
  request(op: string, fields: Message, options: RequestOptions): Promise<unknown> {
    if (this.closed) return Promise.reject(this.closed);
    const id = newId();
    return this.exchange(id, op, options.timeout, () => {
      this.send({ id, op, ...fields });
      return this.watchForLoss(id, { op, ...fields }, options);
    });
  }

  private exchange(id: number, op: string, timeout: number, start: () => () => void): Promise<unknown> {
    if (this.closed) return Promise.reject(this.closed);
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        settle();
        reject(error);
      };
      const done = (reply: Message): void => {
        settle();
        if (reply.ok === true) resolve(reply.result);
        else reject(replyError(reply));
      };
      this.pending.set(id, { id, op, done, fail });
      const timer = setTimeout(() => fail(this.noAnswer(op, timeout)), timeout);
      const stop = start();
      const settle = (): void => {
        this.pending.delete(id);
        clearTimeout(timer);
        stop();
      };
    });
  }

  /**
   * Replies come in the order of requests: if a later one is answered, ours was lost (noise, or the
   * control domain restarted). Then it is sent again: a host answers a change that it has done once more,
   * and refuses one that its predecessor may have done.
   */
  private watchForLoss(id: number, message: Message, options: RequestOptions): () => void {
    let probe = 0;
    let wait = PROBE_AFTER;
    const lost = (): void => {
      if (this.pending.has(id)) this.send({ ...message, id, epoch: options.epoch });
    };
    const ask = (): void => {
      this.pending.delete(probe);
      probe = newId();
      this.pending.set(probe, { id: probe, op: schema.OP_LS, done: lost, fail: () => undefined });
      this.send({ id: probe, op: schema.OP_LS });
      wait *= 2;
      timer = setTimeout(ask, wait);
    };
    let timer = setTimeout(ask, wait);
    return () => {
      clearTimeout(timer);
      this.pending.delete(probe);
    };
  }

  private noAnswer(op: string, timeout: number): PlinthError {
    const last = this.recentText
      .split(/[\r\n]+/)
      .filter((line) => line.trim() !== "")
      .pop();
    const heard = last ? `; the last text on the line is '${printable(last)}'` : "; the line is silent";
    const next = last ? "plinth shell" : "plinth rig status";
    return unreachable(`no answer to '${op}' from ${this.name} within ${formatTime(timeout)}${heard}`, next);
  }

  private feed(bytes: Buffer): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.reader.flush(), SILENCE);
    this.silence.unref();
    this.reader.feed(bytes);
  }

  private receive(message: Message): void {
    if (message.ev === schema.PUSH_READY) {
      this.emit("ready");
      return;
    }
    if (typeof message.ev === "string") {
      this.emit("push", message);
      return;
    }
    const ours = typeof message.id === "number" ? this.pending.get(message.id) : undefined;
    if (ours) {
      this.pending.delete(ours.id);
      ours.done(message);
    } else if (isHello(message.result)) {
      this.emit("hello");
    }
  }

  private receiveText(bytes: Uint8Array): void {
    this.recentText = (this.recentText + Buffer.from(bytes).toString("latin1")).slice(-TEXT_KEPT);
    this.emit("text", bytes);
    if (this.recentText.slice(-bytes.length - PROMPT.length).includes(PROMPT)) this.emit("prompt");
  }

  private end(cause: string): void {
    if (this.closed) return;
    clearTimeout(this.silence);
    this.reader.flush();
    this.closed = unreachable(`lost the connection to ${this.name}: ${cause}`, "plinth rig status");
    for (const pending of [...this.pending.values()]) {
      const message = `lost the connection to ${this.name} while waiting for the answer to '${pending.op}': ${cause}`;
      pending.fail(unreachable(message, "plinth rig status"));
    }
    this.pending.clear();
    this.emit("close", this.closed);
  }
}

/** Ids are random, because every client of the line sees every reply. */
function newId(): number {
  return randomInt(1, 2 ** 32);
}

function isHello(result: unknown): boolean {
  return typeof result === "object" && result !== null && "product" in result && "build" in result;
}

function replyError(reply: Message): PlinthError {
  const error = (reply.error ?? {}) as Message;
  const text = (key: string): string => (typeof error[key] === "string" ? (error[key] as string) : "");
  const code = typeof error.code === "number" && error.code >= 1 && error.code <= 7 ? error.code : 1;
  const message = text("message") || "the host refused without saying why";
  return new PlinthError({ code, message, object: text("object"), next: text("next") });
}

function printable(text: string): string {
  return text
    .replace(/\x1b\[[0-9;]*[A-Za-z]/g, "")
    .replace(/[^\x20-\x7e]/g, "?")
    .slice(-100);
}
