// The output of one VM's console in order and without gaps, whatever happens to the line between.

import { randomInt } from "node:crypto";
import { EventEmitter } from "node:events";
import { hostname, userInfo } from "node:os";
import type { Message } from "../protocol/node/cbor";
import * as schema from "../protocol/schema";
import type { Client } from "./client";
import { ErrorCode, type PlinthError } from "./errors";
import type { ConsolePush, HostEvent } from "./results";

/** Milliseconds of silence after which the attachment is renewed: the host may have restarted. */
const RENEW_AFTER = 2000;
/** Milliseconds after which the host is told again who types: three times within the lease. */
const HOLD_AGAIN = schema.Protocol.CONSOLE_LEASE_MS / 3;

/**
 * Emits "data" (bytes), "lost" (a number of bytes that the host no longer has), "event" (a HostEvent of
 * this VM), "taken" (a PlinthError: another types into it now) and "error". Every client of the line sees the
 * pushes that any client asked for, and another client's hello ends our attachment: so positions decide what is new.
 */
export class ConsoleStream extends EventEmitter {
  /** Where the next new byte is. */
  position = 0;
  /** Where the output ended when it was opened: what is before it is replayed. */
  replayEnd = 0;
  private readonly client: Client;
  private readonly vm: string;
  private readonly session: number;
  private holding: NodeJS.Timeout | undefined;
  private timer: NodeJS.Timeout | undefined;
  private lastSeen: number | undefined;
  private checking = false;
  private held: ConsolePush[] | undefined;
  /** A restart was noticed before the event that tells of it. */
  private ahead = false;
  private renewing = false;
  private renewAgain = false;
  private closed = false;
  private readonly onPush = (message: Message): void => this.push(message);
  private readonly onHello = (): void => void this.renew();
  private readonly onClose = (error: Error): void => {
    this.fail(error);
    this.close(); // else it would try again for ever
  };

  /** Who types is known by an odd number: who comes back has the same. */
  constructor(client: Client, vm: string, session = newSession()) {
    super();
    this.client = client;
    this.vm = vm;
    this.session = session;
  }

  /** Attaches; output that the host still has comes first. */
  async open(): Promise<void> {
    const newest = this.client.lastEvent(); // asked first: what happens from now on counts
    newest.catch(() => undefined);
    this.replayEnd = (await this.client.attachConsole(this.vm, Number.MAX_SAFE_INTEGER)).at;
    const { line } = this.client;
    line.on("push", this.onPush);
    line.on("hello", this.onHello);
    line.on("close", this.onClose);
    await this.attach();
    this.rearm();
    this.lastSeen = await newest;
    await this.client.watchEvents(this.lastSeen);
  }

  /** Makes it ours to type into, until close(); force: even if another does. */
  async hold(force = false): Promise<void> {
    await this.client.holdConsole(this.vm, { session: this.session, who: whoWeAre(), force });
    clearInterval(this.holding);
    this.holding = setInterval(() => void this.holdAgain(), HOLD_AGAIN);
  }

  /** What the host does not answer now it is asked again, and the attachment meets the same trouble. */
  private async holdAgain(): Promise<void> {
    if (this.holding === undefined) return; // who only watches takes nothing
    try {
      await this.client.holdConsole(this.vm, { session: this.session, who: whoWeAre() });
    } catch (error) {
      if ((error as PlinthError).code === ErrorCode.WRONG_STATE) this.taken(error as PlinthError);
    }
  }

  private taken(error: PlinthError): void {
    if (this.holding === undefined || this.closed) return;
    clearInterval(this.holding);
    this.holding = undefined;
    this.emit("taken", error);
  }

  /** Types into the console. */
  async write(data: Uint8Array): Promise<void> {
    await this.client.writeConsole(this.vm, data, this.session);
  }

  /** Tells the host that we are gone. */
  async detach(): Promise<void> {
    this.close();
    await this.client.detachConsole(this.vm, this.session);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    clearInterval(this.holding);
    const { line } = this.client;
    line.off("push", this.onPush);
    line.off("hello", this.onHello);
    line.off("close", this.onClose);
  }

  /** Pushes that arrive with the reply wait until it has told where we are. */
  private async attach(): Promise<void> {
    const asked = this.position;
    const held: ConsolePush[] = [];
    this.held = held;
    try {
      const { at, oldest } = await this.client.attachConsole(this.vm, asked);
      if (at < asked && this.position === asked) this.restarted(false);
      else if (oldest > this.position) this.skip(oldest);
    } finally {
      this.held = undefined;
    }
    for (const push of held) this.pushConsole(push);
  }

  /** Attaches again where we are: a host that restarted, or that served another client, goes on from there. */
  private async renew(): Promise<void> {
    this.renewAgain = true;
    if (this.renewing || this.closed) return;
    this.renewing = true;
    clearTimeout(this.timer);
    try {
      while (this.renewAgain && !this.closed) {
        this.renewAgain = false;
        await this.attach();
        if (this.lastSeen !== undefined) await this.client.watchEvents(this.lastSeen);
      }
    } catch (error) {
      this.fail(error as Error);
    } finally {
      this.renewing = false;
      this.rearm();
    }
  }

  private rearm(): void {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(() => void this.renew(), RENEW_AFTER);
  }

  private push(message: Message): void {
    if (message.ev === schema.PUSH_EVENT) this.pushEvent(message as unknown as HostEvent);
    else if (message.ev === schema.PUSH_CONSOLE) this.pushConsole(message as unknown as ConsolePush);
  }

  private pushEvent(event: HostEvent): void {
    if (this.lastSeen === undefined || event.seq <= this.lastSeen) return;
    this.lastSeen = event.seq;
    if (event.vm !== this.vm) return;
    if (event.kind === schema.EVENT_CONSOLE_TAKEN) void this.holdAgain();
    if (event.kind === schema.EVENT_VM_STARTED || event.kind === schema.EVENT_VM_RESET) this.restarted(true);
    this.emit("event", event);
  }

  private pushConsole({ vm, at, data }: ConsolePush): void {
    if (vm !== this.vm || typeof at !== "number" || !(data instanceof Uint8Array)) return;
    if (this.held) return void this.held.push({ vm, at, data });
    if (at > this.position) return void this.renew();
    this.rearm();
    const fresh = data.subarray(this.position - at);
    if (fresh.length === 0) return void this.check();
    this.position += fresh.length;
    this.emit("data", fresh, this.position - fresh.length);
  }

  /**
   * We have seen this already: another client asked for it, or the VM was started again and counts from
   * zero. `logs` tells which without moving the pushes that the other client waits for.
   */
  private async check(): Promise<void> {
    if (this.checking || this.closed) return;
    this.checking = true;
    try {
      const asked = this.position;
      const { from } = await this.client.logs(this.vm, asked);
      if (from < asked && this.position === asked) this.restarted(false);
    } catch {
      // The attachment's renewal meets the same trouble and reports it.
    } finally {
      this.checking = false;
    }
  }

  /** The VM was started again: its console counts from zero. Told twice, by an event and by the position. */
  private restarted(byEvent: boolean): void {
    if (byEvent && this.ahead) {
      this.ahead = false;
      return;
    }
    this.ahead = !byEvent;
    this.position = 0;
    this.replayEnd = 0;
    void this.renew();
  }

  /** The host no longer has what lies between. */
  private skip(to: number): void {
    if (this.position > 0) this.emit("lost", to - this.position);
    this.position = to;
  }

  private fail(error: Error): void {
    if (!this.closed) this.emit("error", error);
  }
}

export function newSession(): number {
  return 2 * randomInt(2 ** 31) + 1;
}

/** Who types, for others: "ada@desk, process 12". */
function whoWeAre(): string {
  return `${user()}@${hostname()}, process ${process.pid}`;
}

function user(): string {
  try {
    return userInfo().username;
  } catch {
    return "somebody"; // an account without a name, as in containers
  }
}
