// Frames: CBOR documents between 0x00 bytes, with a checksum. Replies wait in a queue of their own.

import { CborWriter } from "../lib/cbor";
import { cobsDecode, cobsEncode } from "../lib/cobs";
import { crc32c } from "../lib/crc32c";
import { Protocol } from "../protocol/schema";
import { decode, encode } from "./codec";
import { Line, mainLine, Source } from "./line";
import { Kind, Value } from "./value";

const CRC_SIZE: u32 = 4;
const MAX_WAITING = 64;

const payload: usize = memory.data(4864, 16);
const encoded: usize = memory.data(4864, 16);

/** The document of a frame's content; null when it is damaged. */
export function frameDecode(at: usize, length: u32): Value | null {
  const size = cobsDecode(payload, at, length);
  if (size <= <i32>CRC_SIZE || size > Protocol.MAX_PAYLOAD + <i32>CRC_SIZE) return null;
  const content = <u32>size - CRC_SIZE;
  if (crc32c(payload, content) != load<u32>(payload + content)) return null;
  const value = decode(payload, content);
  return value != null && value.kind == Kind.MAP ? value : null;
}

/** Makes a frame at frameBytes(); returns its length with delimiters, 0: the document is too long. */
export function frameEncode(value: Value): u32 {
  const writer = new CborWriter(payload, Protocol.MAX_PAYLOAD);
  if (!encode(writer, value)) return 0;
  const length = writer.length;
  store<u32>(payload + length, crc32c(payload, length));
  store<u8>(encoded, 0);
  const size = cobsEncode(encoded + 1, payload, length + CRC_SIZE);
  store<u8>(encoded + 1 + size, 0);
  return size + 2;
}

export function frameBytes(): usize {
  return encoded;
}

/** Sends a document as a frame now on the main line, from within Source.pull. */
export function frameSend(value: Value): bool {
  const length = frameEncode(value);
  mainLine.write(encoded, length);
  return length > 0;
}

/** Replies that wait for their line. */
export class ReplySource extends Source {
  private waiting: Array<StaticArray<u8>> = [];

  constructor(private line: Line) {
    super();
  }

  /** Queues a document; false: it is too long, or nobody takes what is queued already. */
  push(value: Value): bool {
    const length = frameEncode(value);
    if (length == 0 || this.waiting.length == MAX_WAITING) return false;
    const copy = new StaticArray<u8>(length);
    memory.copy(changetype<usize>(copy), encoded, length);
    this.waiting.push(copy);
    return true;
  }

  /** Whether a reply waits; pushes come after it. */
  get busy(): bool {
    return this.waiting.length > 0;
  }

  get full(): bool {
    return this.waiting.length == MAX_WAITING;
  }

  pull(): bool {
    if (this.waiting.length == 0) return false;
    const next = this.waiting.shift();
    this.line.write(changetype<usize>(next), next.length);
    return true;
  }
}
