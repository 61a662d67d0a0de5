// The serial line's two directions: typed text and frames are told apart on the way in, and on the way out
// several sources share the line, each in its turn, so that none of them can silence the others.

import { Protocol } from "../protocol/schema";
import { uptimeMs } from "./host";
import { uartKick, uartPut, uartQueued, uartRoom, uartWrite } from "./uart";

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

const sources: Source[] = [];
let turn: i32 = 0;
let bulkTurn: bool = false;

const frame: usize = memory.data(4736, 16); /* Protocol.MAX_FRAME */
let frameLength: u32 = 0;
let inFrame: bool = false;
/** The last 0x00 ended something bad: it may have been the beginning of a frame. */
let doubtful: bool = false;
let lastByteAt: u64 = 0;
let badFrames: u64 = 0;

let onText: ((byte: u32) => void) | null = null;
let onFrame: ((at: usize, length: u32) => bool) | null = null;
let onProbe: (() => void) | null = null;

/** `text` gets each typed byte, `framed` what is between two 0x00, false: it is bad; `probed` is told of an empty frame. */
export function lineListen(
  text: (byte: u32) => void,
  framed: (at: usize, length: u32) => bool,
  probed: () => void,
): void {
  onText = text;
  onFrame = framed;
  onProbe = probed;
}

export function lineBadFrames(): u64 {
  return badFrames;
}

export function lineAdd(source: Source): void {
  sources.push(source);
}

export function lineWrite(from: usize, length: u32): void {
  uartWrite(from, length);
}

export function linePut(byte: u32): void {
  uartPut(byte);
}

/** Asks the sources in turn for as much as the line can soon take. */
export function lineFill(): void {
  while (uartQueued() < LOW_WATER && uartRoom() >= MAX_PIECE) if (!pullOne()) break;
}

function pullOne(): bool {
  bulkTurn = !bulkTurn;
  return pullOf(bulkTurn) || pullOf(!bulkTurn);
}

function pullOf(bulk: bool): bool {
  const start = turn;
  for (let i = 1; i <= sources.length; i++) {
    const at = (start + i) % sources.length;
    if (sources[at].isBulk != bulk || !sources[at].pull()) continue;
    if (!bulk) turn = at;
    return true;
  }
  return false;
}

/** Sends what there is. Call it after anything that may have made output. */
export function lineFlush(): void {
  lineFill();
  uartKick();
}

/** What a person's terminal sends; no frame has two of these first, for its payload begins with a map. */
function isTyped(byte: u32): bool {
  return (
    (byte >= 0x20 && byte < 0x7f) || (byte >= 8 && byte <= 13) || byte == 0x7f || byte == 0x1b || byte == 3
  );
}

function text(byte: u32): void {
  const heard = onText;
  if (heard != null) heard(byte);
}

/** A received byte. */
export function lineReceive(byte: u32): void {
  lineTick(uptimeMs());
  lastByteAt = uptimeMs();
  if (byte == 0) {
    delimiter();
  } else if (!inFrame) {
    text(byte);
  } else if (frameLength == Protocol.MAX_FRAME) {
    leaveFrame(true);
  } else {
    store<u8>(frame + frameLength++, <u8>byte);
    if (frameLength == 2 && isTyped(load<u8>(frame)) && isTyped(byte)) leaveAsText();
  }
}

function delimiter(): void {
  if (!inFrame || frameLength == 0) {
    // Someone asks whether we are there; what follows may as well be typed.
    const probed = inFrame && !doubtful;
    doubtful = probed;
    inFrame = true;
    frameLength = 0;
    const heard = onProbe;
    if (probed && heard != null) heard();
    return;
  }
  const heard = onFrame;
  const good = heard != null && heard(frame, frameLength);
  frameLength = 0;
  if (!good) badFrames++;
  doubtful = !good;
  inFrame = !good;
}

/** Not a frame after all: noise, then someone typing. */
function leaveAsText(): void {
  if (!doubtful) badFrames++;
  const length = frameLength;
  inFrame = false;
  doubtful = false;
  frameLength = 0;
  for (let i: u32 = 0; i < length; i++) text(load<u8>(frame + i));
}

function leaveFrame(count: bool): void {
  if (count) badFrames++;
  inFrame = false;
  doubtful = false;
  frameLength = 0;
}

/** Gives up a frame that does not end. Returns when it must be called again, u64.MAX_VALUE: need not. */
export function lineTick(now: u64): u64 {
  if (!inFrame) return u64.MAX_VALUE;
  const limit = lastByteAt + Protocol.FRAME_TIMEOUT_MS;
  if (now < limit) return limit;
  if (frameLength == 1 && isTyped(load<u8>(frame))) leaveAsText();
  else leaveFrame(frameLength > 0);
  return u64.MAX_VALUE;
}
