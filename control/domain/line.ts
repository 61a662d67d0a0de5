// A serial line's two directions: typed text and frames are told apart on the way in, and on the way out
// several sources share the line, each in its turn, so that none of them can silence the others.
//
// There are two lines: people and programs are on the main one. The bulk line, where the machine has it, carries frames
// alone: requests and replies, so that pages of memory leave the main one to others. Each has queues of its own, and
// a bounded share of each event, the main one first: what one does, or does not, is nothing to the other.

import { Protocol } from "../protocol/schema";
import { uptimeMs } from "./host";
import { SLOT_UART, SLOT_UART_BULK } from "./slots";
import { Uart, UartUser } from "./uart";

/** Something that has output. A source is asked again and again; it gives one piece each time. */
export abstract class Source {
  /** Queues one piece (at most MAX_PIECE bytes) with linePut; false: there is nothing now. */
  abstract pull(): bool;

  /** Whether it is what VMs print without end: then it has every other turn, however many others there are. */
  get isBulk(): bool {
    return false;
  }
}

/** A piece is a whole frame with its delimiters, at most. */
const MAX_PIECE: u32 = 4864;
/** With this much queued, sources are not asked: what is typed is answered soon. */
const LOW_WATER: u32 = 512;

/** What is heard on a line. */
export abstract class Listener {
  /** A byte outside frames. */
  abstract text(byte: u32): void;
  /** What is between two 0x00; false: it is bad. */
  abstract frame(at: usize, length: u32): bool;
  /** An empty frame: someone asks whether we are there. */
  abstract probe(): void;
}

export class Line extends UartUser {
  private sources: Source[] = [];
  private turn: i32 = 0;
  private bulkTurn: bool = false;
  private frameLength: u32 = 0;
  private inFrame: bool = false;
  /** The last 0x00 ended something bad: it may have been the beginning of a frame. */
  private doubtful: bool = false;
  private lastByteAt: u64 = 0;
  private listener: Listener | null = null;
  badFrames: u64 = 0;

  constructor(
    public uart: Uart,
    /** Protocol.MAX_FRAME bytes. */
    private frame: usize,
  ) {
    super();
  }

  listen(listener: Listener): void {
    this.listener = listener;
  }

  add(source: Source): void {
    this.sources.push(source);
  }

  /** Queues bytes, from within Source.pull. */
  write(from: usize, length: u32): void {
    for (let i: u32 = 0; i < length; i++) this.uart.put(load<u8>(from + i));
  }

  /** Asks the sources in turn for as much as the line can soon take. */
  refill(): void {
    while (this.uart.queued < LOW_WATER && this.uart.room >= MAX_PIECE) if (!this.pullOne()) break;
  }

  /** Sends what there is. Call it after anything that may have made output. */
  flush(): void {
    if (!this.uart.present) return;
    this.refill();
    this.uart.kick(this);
  }

  private pullOne(): bool {
    this.bulkTurn = !this.bulkTurn;
    return this.pullOf(this.bulkTurn) || this.pullOf(!this.bulkTurn);
  }

  private pullOf(bulk: bool): bool {
    const sources = this.sources;
    const turn = this.turn;
    for (let i = 1; i <= sources.length; i++) {
      const at = (turn + i) % sources.length;
      if (sources[at].isBulk != bulk || !sources[at].pull()) continue;
      if (!bulk) this.turn = at;
      return true;
    }
    return false;
  }

  private text(byte: u32): void {
    const listener = this.listener;
    if (listener != null) listener.text(byte);
  }

  /** A received byte. */
  receive(byte: u32): void {
    this.tick(uptimeMs());
    this.lastByteAt = uptimeMs();
    if (byte == 0) {
      this.delimiter();
    } else if (!this.inFrame) {
      this.text(byte);
    } else if (this.frameLength == Protocol.MAX_FRAME) {
      this.leaveFrame(true);
    } else {
      store<u8>(this.frame + this.frameLength++, <u8>byte);
      if (this.frameLength == 2 && isTyped(load<u8>(this.frame)) && isTyped(byte)) this.leaveAsText();
    }
  }

  private delimiter(): void {
    const listener = this.listener;
    if (!this.inFrame || this.frameLength == 0) {
      // Someone asks whether we are there; what follows may as well be typed.
      const probed = this.inFrame && !this.doubtful;
      this.doubtful = probed;
      this.inFrame = true;
      this.frameLength = 0;
      if (probed && listener != null) listener.probe();
      return;
    }
    const good = listener != null && listener.frame(this.frame, this.frameLength);
    this.frameLength = 0;
    if (!good) this.badFrames++;
    this.doubtful = !good;
    this.inFrame = !good;
  }

  /** Not a frame after all: noise, then someone typing. */
  private leaveAsText(): void {
    if (!this.doubtful) this.badFrames++;
    const length = this.frameLength;
    this.leaveFrame(false);
    for (let i: u32 = 0; i < length; i++) this.text(load<u8>(this.frame + i));
  }

  private leaveFrame(count: bool): void {
    if (count) this.badFrames++;
    this.inFrame = false;
    this.doubtful = false;
    this.frameLength = 0;
  }

  /** Gives up a frame that does not end. Returns when it must be called again, u64.MAX_VALUE: need not. */
  tick(now: u64): u64 {
    if (!this.inFrame) return u64.MAX_VALUE;
    const limit = this.lastByteAt + Protocol.FRAME_TIMEOUT_MS;
    if (now < limit) return limit;
    if (this.frameLength == 1 && isTyped(load<u8>(this.frame))) this.leaveAsText();
    else this.leaveFrame(this.frameLength > 0);
    return u64.MAX_VALUE;
  }
}

/** What a person's terminal sends; no frame has two of these first, for its payload begins with a map. */
function isTyped(byte: u32): bool {
  return (
    (byte >= 0x20 && byte < 0x7f) || (byte >= 8 && byte <= 13) || byte == 0x7f || byte == 0x1b || byte == 3
  );
}

/* Memory: UART_QUEUE and Protocol.MAX_FRAME bytes of each. */
export const mainLine: Line = new Line(
  new Uart(0x3f8, 4, SLOT_UART, memory.data(8192, 16)),
  memory.data(4736, 16),
);
export const bulkLine: Line = new Line(
  new Uart(0x2f8, 3, SLOT_UART_BULK, memory.data(8192, 16)),
  memory.data(4736, 16),
);

/** Finds the serial ports. False: there is no main one. */
export function linesStart(): bool {
  bulkLine.uart.start();
  return mainLine.uart.start();
}

/** An interrupt of either, or the time to look without one. */
export function linesEvent(): void {
  mainLine.uart.event(mainLine);
  bulkLine.uart.event(bulkLine);
}

export function linesFlush(): void {
  mainLine.flush();
  bulkLine.flush();
}

/** Returns when it must be called again. */
export function linesTick(now: u64): u64 {
  if (mainLine.uart.isBehind || bulkLine.uart.isBehind) return now;
  return min(mainLine.tick(now), bulkLine.tick(now));
}

/** Bytes that wait to be sent. */
export function linesQueued(): u32 {
  return mainLine.uart.queued + bulkLine.uart.queued;
}

export function linesBadFrames(): u64 {
  return mainLine.badFrames + bulkLine.badFrames;
}

/** How often received bytes were lost because a FIFO was full. */
export function linesOverruns(): u64 {
  return mainLine.uart.overruns + bulkLine.uart.overruns;
}

/** Queues a byte of the main line, from within Source.pull. */
export function linePut(byte: u32): void {
  mainLine.uart.put(byte);
}
