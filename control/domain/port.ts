// A named port of a VM as a program outside sees it: one at a time, by a session that it names itself.
//
// A session's bytes have positions, so that a request whose answer was lost can come again: what was
// written twice counts once, and what was read stays until the reader asks for what is behind it. All of
// that is in the link; a successor of this control domain goes on with it.

import { ControlPort } from "../lib/link";
import { Protocol } from "../protocol/schema";
import { uptimeMs } from "./host";

/** The ports of these names in the link that is mapped at `address`. */
export function portsOf(names: string[], address: u64): Port[] {
  const ports: Port[] = [];
  for (let i = 0; i < names.length; i++) ports.push(new Port(names[i], new ControlPort(address, i)));
  return ports;
}

/** Whether a program may be attached to a port, or one was when this control domain started. */
let used = true;

export function portsUsed(): bool {
  return used;
}

/** No program is attached to any. */
export function portsUnused(): void {
  used = false;
}

export class Port {
  /** The program has been told that there is nothing, or no room: it is to hear when that changes. */
  waiting: bool = false;
  private usedAt: u64 = uptimeMs();
  // What it was told then.
  private seen: u32 = 0;
  private unread: u32 = 0;

  constructor(
    public name: string,
    private rings: ControlPort,
  ) {}

  /** Whether a program is attached; one that has been silent for long is not. */
  get isAttached(): bool {
    return (this.rings.session & 1) != 0;
  }

  /** Whether the VM has opened it. */
  get isOpen(): bool {
    return (this.rings.guestSession & 1) != 0;
  }

  /** Whether there is something to read or, some day, may be. */
  get isReadable(): bool {
    return this.isOpen || this.rings.out.available > 0;
  }

  get session(): u32 {
    return this.rings.session;
  }

  attach(session: u32): void {
    used = true;
    this.usedAt = uptimeMs();
    if (this.rings.session != session) this.rings.session = session;
  }

  detach(): void {
    if (this.isAttached) this.rings.session = this.rings.session + 1;
    this.waiting = false;
  }

  /** The program is still there. */
  touch(): void {
    this.usedAt = uptimeMs();
  }

  /** When its program counts as gone. */
  get leaseEnd(): u64 {
    return this.usedAt + Protocol.PORT_LEASE_MS;
  }

  /** Of the VM's side: odd while it has the port open. */
  get guestSession(): u32 {
    return this.rings.guestSession;
  }

  get readPosition(): u32 {
    return this.rings.out.position;
  }

  get writePosition(): u32 {
    return this.rings.in.position;
  }

  get unreadBytes(): u32 {
    return this.rings.unread;
  }

  /** Drops what is before `from` and copies what follows. -1: nothing is there. */
  read(from: u32, to: usize, limit: u32): i32 {
    if (!this.rings.out.skipTo(from)) return -1;
    return <i32>this.rings.out.peek(to, limit);
  }

  /** Writes what the ring has room for, but nothing twice. False: `at` is none of our positions. */
  write(at: u32, from: usize, length: u32): bool {
    const again = this.rings.in.position - at;
    if (again > length) return false;
    this.rings.in.write(from + again, length - again);
    return true;
  }

  /** The program waits for a change from now on. */
  await(): void {
    this.waiting = true;
    this.seen = this.rings.guestSession;
    this.unread = this.rings.unread;
  }

  /** Whether there is something new since then. */
  get hasNews(): bool {
    if (!this.waiting) return false;
    const rings = this.rings;
    return rings.out.available > 0 || rings.guestSession != this.seen || rings.unread < this.unread;
  }
}
