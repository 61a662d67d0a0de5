// Documents to CBOR and back. Input is hostile: it is checked as a whole before anything is built.

import { CborReader, CborWriter, cborValid, Major } from "../lib/cbor";
import { Kind, Value } from "./value";

/** The document in `length` bytes of CBOR; null when they are not exactly one valid item. */
export function decode(at: usize, length: u32): Value | null {
  if (!cborValid(at, length)) return null;
  return readItem(new CborReader(at, length));
}

/** Writes a document; false when it does not fit. */
export function encode(writer: CborWriter, value: Value): bool {
  writeItem(writer, value);
  return writer.ok;
}

function readItem(reader: CborReader): Value | null {
  switch (reader.peek()) {
    case Major.UINT:
      return Value.uint(reader.uint());
    case Major.TEXT:
      return Value.string(reader.text());
    case Major.BYTES:
      return readBytes(reader);
    case Major.ARRAY:
      return readList(reader);
    case Major.MAP:
      return readMap(reader);
    case Major.SIMPLE:
      return readSimple(reader);
    default:
      return null; /* a negative number: nothing of ours has one */
  }
}

function readSimple(reader: CborReader): Value {
  if (!reader.isNull()) return Value.bool(reader.bool());
  reader.null();
  return new Value(Kind.NULL);
}

function readBytes(reader: CborReader): Value {
  const length = reader.bytes();
  const data = new StaticArray<u8>(length);
  memory.copy(changetype<usize>(data), reader.span, length);
  return Value.bytes(data);
}

function readList(reader: CborReader): Value | null {
  const list = Value.list();
  const count = reader.array();
  for (let i: u32 = 0; i < count; i++) {
    const item = readItem(reader);
    if (item == null) return null;
    list.add(item);
  }
  return list;
}

function readMap(reader: CborReader): Value | null {
  const map = Value.map();
  const count = reader.map();
  for (let i: u32 = 0; i < count; i++) {
    if (reader.peek() != Major.TEXT) return null;
    const key = reader.text();
    const item = readItem(reader);
    if (item == null) return null;
    map.put(key, item);
  }
  return map;
}

function writeItem(writer: CborWriter, value: Value): void {
  switch (value.kind) {
    case Kind.NULL:
      writer.null();
      break;
    case Kind.BOOL:
      writer.bool(value.number != 0);
      break;
    case Kind.UINT:
      writer.uint(value.number);
      break;
    case Kind.TEXT:
      writer.text(value.text);
      break;
    case Kind.BYTES:
      writer.bytes(changetype<usize>(value.blob), value.blob.length);
      break;
    case Kind.LIST:
      writer.array(value.items.length);
      for (let i = 0; i < value.items.length; i++) writeItem(writer, value.items[i]);
      break;
    default:
      writer.map(value.items.length);
      for (let i = 0; i < value.items.length; i++) {
        writer.text(value.keys[i]);
        writeItem(writer, value.items[i]);
      }
  }
}
