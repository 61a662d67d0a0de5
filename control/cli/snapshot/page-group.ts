// Some pages together in two records: their hashes, and their bytes, compressed.

import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { HASH_SIZE, PAGE_SIZE, sha256 } from "./page-map";
import {
  decode,
  encode,
  type FileRecord,
  type RecordReader,
  RecordType,
  type RecordWriter,
} from "./record-file";

/** Pages of a group. What a program that is ended has read of the last group is read again. */
export const GROUP = 16;
const MAX_GROUP = 64;
const PLAIN = 0;
const BROTLI = 1;
const QUALITY = 4;
const WINDOW_BITS = 18;

/** Where the bytes of some pages are. */
export interface Group {
  reader: RecordReader;
  at: number;
  number: number;
  hashes: Uint8Array;
}

export function writeGroup(
  writer: RecordWriter,
  hashes: readonly Uint8Array[],
  pages: readonly Uint8Array[],
): void {
  const plain = Buffer.concat(pages);
  const packed = brotliCompressSync(plain, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: QUALITY,
      [constants.BROTLI_PARAM_LGWIN]: WINDOW_BITS,
      [constants.BROTLI_PARAM_SIZE_HINT]: plain.length,
    },
  });
  const isSmaller = packed.length < plain.length;
  writer.record(RecordType.GROUP, encode({ hashes: Buffer.concat(hashes) }));
  writer.record(
    RecordType.DATA,
    Buffer.concat([Uint8Array.of(isSmaller ? BROTLI : PLAIN), isSmaller ? packed : plain]),
  );
}

/** The hashes in a record that begins a group. */
export function readGroupHead(reader: RecordReader, record: FileRecord): Uint8Array {
  if (record.type !== RecordType.GROUP) throw reader.problem(record, "does not belong here");
  const { hashes } = decode(reader, record);
  if (!(hashes instanceof Uint8Array) || hashes.length === 0 || hashes.length % HASH_SIZE !== 0)
    throw reader.problem(record, "has bad hashes");
  if (hashes.length > MAX_GROUP * HASH_SIZE) throw reader.problem(record, "has too many pages");
  return hashes;
}

/** The pages of a group; each is what its hash says. */
export function readGroup({ reader, at, number, hashes }: Group): Buffer[] {
  const record = reader.read(at, number);
  if (record.type !== RecordType.DATA) throw reader.problem(record, "does not belong here");
  const count = hashes.length / HASH_SIZE;
  const plain = unpack(record.payload, count * PAGE_SIZE);
  if (plain === null) throw reader.problem(record, "does not hold the pages of its group");
  return Array.from({ length: count }, (_, n) => {
    const page = plain.subarray(n * PAGE_SIZE, (n + 1) * PAGE_SIZE);
    if (!sha256(page).equals(hashes.subarray(n * HASH_SIZE, (n + 1) * HASH_SIZE)))
      throw reader.problem(record, `holds another page than its hash says, the one at ${n}`);
    return page;
  });
}

/** Never makes more than `size` bytes of it. */
function unpack(payload: Uint8Array, size: number): Buffer | null {
  const bytes = Buffer.from(payload.subarray(1));
  if (payload[0] === PLAIN) return bytes.length === size ? bytes : null;
  if (payload[0] !== BROTLI) return null;
  try {
    const plain = brotliDecompressSync(bytes, { maxOutputLength: size });
    return plain.length === size ? plain : null;
  } catch {
    return null;
  }
}
