// Frames on a line that also carries text: 0x00 COBS(payload, CRC-32C of payload) 0x00.

import { Protocol } from "../schema";
import { cborDecode, cborEncode, type Message } from "./cbor";
import { cobsDecode, cobsEncode } from "./cobs";
import { crc32c } from "./crc32c";

const CRC_SIZE = 4;

/** One message as the bytes that go on the line; throws a RangeError if it is too large for a frame. */
export function frameEncode(message: Message): Uint8Array {
  const payload = cborEncode(message);
  if (payload.length > Protocol.MAX_PAYLOAD) {
    throw new RangeError(`message has ${payload.length} bytes, the protocol allows ${Protocol.MAX_PAYLOAD}`);
  }
  const checked = new Uint8Array(payload.length + CRC_SIZE);
  checked.set(payload);
  new DataView(checked.buffer).setUint32(payload.length, crc32c(payload), true);
  const stuffed = cobsEncode(checked);
  const frame = new Uint8Array(stuffed.length + 2);
  frame.set(stuffed, 1);
  return frame;
}

/** What stood between two zeros as a message; null if COBS, CRC-32C or CBOR is bad. */
export function frameDecode(stuffed: Uint8Array): Message | null {
  const checked = cobsDecode(stuffed);
  if (checked === null || checked.length <= CRC_SIZE) return null;
  const payload = checked.subarray(0, checked.length - CRC_SIZE);
  if (payload.length > Protocol.MAX_PAYLOAD) return null;
  const crc = new DataView(checked.buffer, checked.byteOffset).getUint32(payload.length, true);
  return crc === crc32c(payload) ? cborDecode(payload) : null;
}

/** Receives what FrameReader finds, in the order of the line. */
export interface FrameSink {
  message(message: Message): void;
  text(bytes: Uint8Array): void;
  /** Two zeros with nothing between them: the other side asks whether anybody is here. */
  probe?(): void;
}

/**
 * Splits a line into frames and text. It finds back into step by itself: a zero that ends a bad or
 * empty frame may as well be the one that opens the next frame, so it is read as both. What was
 * no frame is handed on as text, so nothing of a boot log or a panic message is swallowed.
 */
export class FrameReader {
  badFrames = 0;
  private inside = false;
  private held = new Uint8Array(Protocol.MAX_FRAME);
  private length = 0;
  private readonly sink: FrameSink;

  constructor(sink: FrameSink) {
    this.sink = sink;
  }

  /** Takes the next bytes of the line, however they are cut. */
  feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const zero = bytes.indexOf(0, at);
      const end = zero < 0 ? bytes.length : zero;
      if (end > at) this.take(bytes.subarray(at, end));
      if (zero >= 0) this.delimiter();
      at = end + 1;
    }
  }

  /** Gives up an unfinished frame, for instance after a silence. */
  flush(): void {
    if (this.inside) this.giveUp();
    this.inside = false;
  }

  private take(bytes: Uint8Array): void {
    if (this.inside && this.length + bytes.length > this.held.length) {
      this.giveUp();
      this.inside = false;
    }
    if (!this.inside) return this.sink.text(bytes.slice());
    this.held.set(bytes, this.length);
    this.length += bytes.length;
  }

  private delimiter(): void {
    if (!this.inside || this.length === 0) {
      if (this.inside) this.sink.probe?.();
      this.inside = true;
      return;
    }
    const message = frameDecode(this.held.subarray(0, this.length));
    if (message === null) return this.giveUp();
    this.length = 0;
    this.inside = false;
    this.sink.message(message);
  }

  private giveUp(): void {
    if (this.length === 0) return;
    const text = this.held.slice(0, this.length);
    this.length = 0;
    this.badFrames++;
    this.sink.text(text);
  }
}
