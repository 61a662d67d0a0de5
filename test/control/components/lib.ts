// Exposes control/lib to tests: a work area in linear memory and one export for each thing to try.

import { CborReader, CborWriter, Major, cborValid } from "../../../control/lib/cbor";
import { cobsBound, cobsDecode, cobsEncode } from "../../../control/lib/cobs";
import { crc32c } from "../../../control/lib/crc32c";
import { ControlLink, ModelLink, readConfig } from "../../../control/lib/link";
import { sha256 } from "../../../control/lib/sha256";
import { TextBuffer, utf8Valid } from "../../../control/lib/text";

const AREA: u32 = 0x20000;
const input: usize = memory.data(0x20000, 16);
const output: usize = memory.data(0x20000, 16);
const text = new TextBuffer(output, 64);
const BASE: u64 = 0x10000000;
let control: ControlLink | null = null;
let model: ModelLink | null = null;

export function init(): void {}
export function onEvents(bits: u64): void {}

export function inputAt(): usize {
  return input;
}

export function outputAt(): usize {
  return output;
}

/** The hash of the input, to the output. */
export function hash(length: u32): void {
  sha256(output, input, length);
}

export function valid(length: u32): bool {
  return cborValid(input, length);
}

function transcodeItem(reader: CborReader, writer: CborWriter): void {
  switch (reader.peek()) {
    case Major.UINT: {
      writer.uint(reader.uint());
      break;
    }
    case Major.NEGATIVE: {
      writer.int(reader.int());
      break;
    }
    case Major.BYTES: {
      reader.bytes();
      writer.bytes(reader.span, reader.spanLength);
      break;
    }
    case Major.TEXT: {
      writer.text(reader.text());
      break;
    }
    case Major.ARRAY: {
      const count = reader.array();
      const opened = writer.openArray();
      for (let i: u32 = 0; i < count && reader.ok; i++) transcodeItem(reader, writer);
      writer.close(opened, count);
      break;
    }
    case Major.MAP: {
      const count = reader.map();
      writer.map(count);
      for (let i: u32 = 0; i < count * 2 && reader.ok; i++) transcodeItem(reader, writer);
      break;
    }
    default: {
      if (reader.isNull()) {
        reader.null();
        writer.null();
      } else writer.bool(reader.bool());
    }
  }
}

/** Reads the item in `input` piece by piece and writes it to `output`: the length, -1: refused. */
export function transcode(length: u32, capacity: u32): i32 {
  const reader = new CborReader(input, length);
  const writer = new CborWriter(output, min(capacity, AREA));
  transcodeItem(reader, writer);
  return reader.ok && reader.atEnd && writer.ok ? <i32>writer.length : -1;
}

/** Looks for the key "needle" in the map in `input`: the offset of its value, -1: not there, -2: no map. */
export function find(length: u32): i32 {
  const reader = new CborReader(input, length);
  if (reader.find("needle")) return <i32>(reader.at - input);
  return reader.ok && reader.at == input ? -1 : -2;
}

export function crc(length: u32, split: u32): u32 {
  return crc32c(input + split, length - split, crc32c(input, split));
}

export function encodeCobs(length: u32): i32 {
  const encoded = cobsEncode(output, input, length);
  return encoded <= cobsBound(length) ? <i32>encoded : -1;
}

export function decodeCobs(length: u32): i32 {
  return cobsDecode(output, input, length);
}

/** Decodes in place. */
export function decodeCobsInPlace(length: u32): i32 {
  return cobsDecode(input, input, length);
}

export function utf8(length: u32): bool {
  return utf8Valid(input, length);
}

export function formatUint(value: u64, width: u32): u32 {
  return text.clear().uint(value, width).length;
}

export function formatInt(value: i64): u32 {
  return text.clear().int(value).length;
}

export function formatHex(value: u64, width: u32): u32 {
  return text.clear().hex(value, width).length;
}

export function formatSize(value: u64): u32 {
  return text.clear().size(value).length;
}

/** Forgets both ends, as a restart does, and makes them again. */
export function openLink(): void {
  control = new ControlLink(BASE, 1);
  model = new ModelLink(BASE, 2);
}

export function sendEvent(length: u32): bool {
  return model!.events.send(input, length);
}

export function receiveEvent(limit: u32): i32 {
  return control!.events.receive(output, limit);
}

export function typeKeys(length: u32): u32 {
  return control!.consoleIn.write(input, length);
}

export function takeKeys(limit: u32): u32 {
  return model!.consoleIn.read(output, limit);
}

export function print(length: u32): void {
  model!.consoleOut.write(input, length);
}

export function consoleHead(): u64 {
  return control!.consoleOut.head;
}

export function consoleOldest(): u64 {
  return control!.consoleOut.oldest;
}

export function readConsole(position: u64, limit: u32): u32 {
  return control!.consoleOut.read(position, output, limit);
}

export function configure(length: u32): bool {
  return control!.writeConfig(input, length);
}

export function configured(): i32 {
  return readConfig(BASE, output);
}
