// The bytes of one named port of a VM, in order and without loss, whatever happens to the line between.
//
// Positions make every request repeatable: the host keeps what it has sent until we ask for what is behind
// it, and takes what we have sent twice only once.

import { randomInt } from "node:crypto";
import type { Message } from "../protocol/node/cbor";
import * as schema from "../protocol/schema";
import type { Client } from "./client";
import { unreachable } from "./errors";
import { formatTime } from "./values";

/** Bytes in one request: what a port's buffer holds twice. */
const CHUNK = 1024;
/** Milliseconds after which the host is asked though it has told nothing: the news may have been lost. */
const ASK_AGAIN = 1000;

export class PortStream {
  private readonly client: Client;
  private readonly vm: string;
  private readonly port: string;
  /** A session is known by a number of our own; while it lasts that is odd. */
  private readonly session = 2 * randomInt(2 ** 31) + 1;
  private readAt = 0;
  private writeAt = 0;
  private endsAt = 0;
  private unread = 0;
  private opened = false;
  /** How often there was something new, and who waits for the next time. */
  private news = 0;
  private waiters: (() => void)[] = [];
  private readonly onPush = (message: Message): void => {
    if (message.ev === schema.PUSH_PORT && message.vm === this.vm && message.port === this.port) this.wake();
  };

  constructor(client: Client, vm: string, port: string) {
    this.client = client;
    this.vm = vm;
    this.port = port;
  }

  /** Attaches. wait: the VM may open it later; force: another program's session ends. */
  async open(options: { wait?: boolean; force?: boolean } = {}): Promise<void> {
    const { vm, port, session } = this;
    this.client.line.on("push", this.onPush);
    const reply = await this.client.attachPort({ vm, port, session, ...options });
    this.readAt = reply.read;
    this.writeAt = reply.write;
    this.endsAt = reply.ended;
    this.opened = reply.open;
  }

  /** Leaves; what was read is not given to the next program. */
  async close(): Promise<void> {
    const { vm, port, session } = this;
    this.client.line.off("push", this.onPush);
    this.wake();
    await this.client.detachPort({ vm, port, session, from: this.readAt });
  }

  /**
   * The next bytes that the VM has sent; undefined: it has closed the port. `limit`: for opening it, of which `waits`
   * hears how long it takes.
   */
  async read(limit: number, waits?: (elapsed: number) => void): Promise<Uint8Array | undefined> {
    const { vm, port, session } = this;
    for (const start = Date.now(); ;) {
      const { news } = this;
      const reply = await this.client.readPort({ vm, port, session, from: this.readAt });
      this.note(reply.unread);
      this.readAt = (this.readAt + reply.data.length) >>> 0;
      if (reply.data.length > 0) return reply.data;
      if (((reply.session - this.endsAt) | 0) >= 0) return undefined;
      this.opened ||= (reply.session & 1) === 1;
      if (!this.opened && Date.now() - start > limit)
        throw unreachable(
          `${vm}: nothing in the VM has opened port '${port}' within ${formatTime(limit)}`,
          `plinth console ${vm}`,
        );
      if (!this.opened) waits?.(Date.now() - start);
      await this.newsAfter(news);
    }
  }

  /** Sends bytes; waits while the VM does not read. */
  async write(data: Uint8Array): Promise<void> {
    const { vm, port, session } = this;
    for (let sent = 0; sent < data.length;) {
      const { news } = this;
      const piece = data.subarray(sent, sent + CHUNK);
      const reply = await this.client.writePort({ vm, port, session, at: this.writeAt, data: piece });
      const taken = (reply.next - this.writeAt) >>> 0;
      this.writeAt = reply.next;
      this.note(reply.unread);
      sent += taken;
      if (taken === 0) await this.newsAfter(news);
    }
  }

  /** Resolves when the VM has taken everything that was sent; someone must read() meanwhile. */
  async taken(limit: number): Promise<void> {
    for (const start = Date.now(); this.unread > 0;) {
      if (Date.now() - start > limit)
        throw unreachable(
          `${this.vm} does not read its port '${this.port}': ${this.unread} bytes were not taken`,
          `plinth show ${this.vm}`,
        );
      await this.newsAfter(this.news);
    }
  }

  /** Bytes that were sent and that the VM has not taken. */
  get waiting(): number {
    return this.unread;
  }

  private note(unread: number): void {
    if (unread < this.unread) this.wake();
    this.unread = unread;
  }

  private wake(): void {
    this.news++;
    for (const waiter of this.waiters.splice(0)) waiter();
  }

  /** Resolves when there is something new since `count`, or it is time to ask anyway. */
  private async newsAfter(count: number): Promise<void> {
    if (this.news !== count) return;
    const timer = setTimeout(() => this.wake(), ASK_AGAIN);
    await new Promise<void>((resolve) => this.waiters.push(resolve));
    clearTimeout(timer);
  }
}
