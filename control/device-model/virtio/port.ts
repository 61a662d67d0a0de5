// One port of the console device: what the driver has been told of it, and the bytes of a named one.
//
// Nothing is lost: a buffer of the driver stays in its queue while the link's ring is full, and what comes
// from the host waits until the VM has opened the port and there is a buffer for it.

import { ModelPort } from "../../lib/link";
import { link } from "../control-link";
import { chain } from "./chain";
import { Virtqueue } from "./queue";

const PIECE: u32 = 256;
const bytes: usize = memory.data(256, 8);

/** What the driver is still to be told: bits, in the order in which they are sent. */
export const enum Tell {
  ADD = 1,
  CONSOLE = 2,
  NAME = 4,
  CLOSE = 8,
  OPEN = 16,
}

export class Port {
  /** Bits of Tell. */
  untold: u32 = 0;
  /** The driver knows it, and has said that it can use it. */
  private known: bool = false;
  private ready: bool = false;
  /** What the driver was told last. */
  private hostOpen: bool = false;
  private hostSession: u32 = 0;
  /** Whether the VM has it open, and the session that the host sees. */
  private open: bool = false;
  private session: u32 = 0;
  /** Bytes that are taken of the first buffer that the driver sends. */
  private taken: u64 = 0;

  /** rings: null for the console. */
  constructor(
    readonly name: string,
    readonly rings: ModelPort | null,
  ) {}

  /** The driver is ready to hear of ports. */
  add(): void {
    if (this.known) return;
    this.known = true;
    this.untold |= Tell.ADD;
  }

  /** The driver can use the port, or cannot. */
  onReady(isReady: bool): void {
    if (!this.known || this.ready == isReady) return;
    this.look();
    this.ready = isReady;
    const rings = this.rings;
    if (!isReady) this.untold = 0;
    else if (rings === null) this.untold |= Tell.CONSOLE | Tell.OPEN;
    else this.untold |= this.hostSession & 1 ? Tell.NAME | Tell.OPEN : Tell.NAME;
  }

  /** A message to the driver has been sent. */
  onTold(what: Tell): void {
    this.untold &= ~what;
    if (what == Tell.OPEN) this.hostOpen = true;
    else if (what == Tell.CLOSE) this.hostOpen = false;
  }

  /** The VM has opened or closed it. What it has sent before it closed comes before the news of that. */
  onOpen(isOpen: bool): void {
    this.open = isOpen;
    if (isOpen) this.publish();
  }

  private publish(): void {
    const rings = this.rings;
    if (rings === null || (this.session & 1) == (this.open ? 1 : 0)) return;
    rings.session = ++this.session;
    link.signal();
  }

  /** The device is reset, or does nothing any more: the driver forgets the port. */
  forget(): void {
    this.untold = 0;
    this.known = false;
    this.ready = false;
    this.hostOpen = false;
    this.taken = 0;
    this.open = false;
    this.publish();
  }

  /** Looks whether the host has opened or closed it. */
  look(): void {
    const rings = this.rings;
    if (rings === null) return;
    const session = rings.hostSession;
    if (session == this.hostSession) return;
    this.hostSession = session;
    rings.in.skipTo(rings.hostFirst);
    if (!this.ready) return;
    this.untold &= ~Tell.OPEN;
    if (this.hostOpen) this.untold |= Tell.CLOSE;
    if (session & 1) this.untold |= Tell.OPEN;
  }

  /** Moves what the host has sent into buffers. True: something was moved. */
  receive(queue: Virtqueue): bool {
    const rings = this.rings;
    if (rings === null || !this.open) return false;
    let any = false;
    while (rings.in.available > 0 && queue.pop()) {
      if (chain.writable == 0) {
        queue.fault = "a buffer for input cannot be written";
        break;
      }
      while (chain.writable > 0) {
        const length = rings.in.read(bytes, <u32>min<u64>(chain.writable, PIECE));
        if (length == 0) break;
        chain.put(bytes, length);
      }
      queue.push();
      any = true;
    }
    return any;
  }

  /** Moves what the driver sends to the host, as far as there is room. True: something was moved. */
  transmit(queue: Virtqueue): bool {
    const rings = this.rings;
    if (rings === null) return false;
    let any = false;
    while (rings.out.room > 0) {
      if (!queue.pop()) {
        if (!queue.unfinished) this.publish();
        break;
      }
      chain.leave(min<u64>(this.taken, chain.readable));
      while (chain.readable > 0) {
        const length = min<u32>(<u32>min<u64>(chain.readable, PIECE), rings.out.room);
        if (length == 0) break;
        chain.take(bytes, length);
        rings.out.write(bytes, length);
        this.taken += length;
        any = true;
      }
      if (chain.readable > 0) {
        queue.rewind();
        break;
      }
      this.taken = 0;
      queue.push();
    }
    return any;
  }
}
