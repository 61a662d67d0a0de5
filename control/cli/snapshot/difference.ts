// Where two snapshots differ: in what is said of them, and in how many pages of each object.

import { PAGE_SIZE } from "./page-map";
import type { Manifest } from "./manifest";
import type { Message } from "../../protocol/node/cbor";

export interface ObjectDifference {
  kind: string;
  /** Pages that differ, of how many; and their bytes. */
  pages: number;
  of: number;
  bytes: number;
}

export interface FieldDifference {
  field: string;
  one: unknown;
  other: unknown;
}

/** Fields of two documents that are not the same; inner ones are named with dots. */
export function documentDifferences(one: Message, other: Message, prefix = ""): FieldDifference[] {
  const fields = [...new Set([...Object.keys(one), ...Object.keys(other)])].sort();
  return fields.flatMap((field) => {
    const [a, b] = [one[field], other[field]];
    const name = prefix + field;
    if (isPlain(a) && isPlain(b)) return documentDifferences(a, b, `${name}.`);
    return plainText(a) === plainText(b) ? [] : [{ field: name, one: a ?? null, other: b ?? null }];
  });
}

export function pageDifferences(one: Manifest, other: Manifest): ObjectDifference[] {
  const mapOf = ({ document, maps }: Manifest, kind: string): Manifest["maps"][number] | undefined =>
    maps[document.objects.findIndex((object) => object.kind === kind)];
  const kinds = [...one.document.objects, ...other.document.objects].map(({ kind }) => kind);
  return [...new Set(kinds)].map((kind) => {
    const [a, b] = [mapOf(one, kind), mapOf(other, kind)];
    const of = Math.max(a?.pages ?? 0, b?.pages ?? 0);
    if (a?.pages !== b?.pages) return difference(kind, of, of);
    let pages = 0;
    for (const _ of a!.changed(b)) pages++;
    return difference(kind, pages, of);
  });
}

export function difference(kind: string, pages: number, of: number): ObjectDifference {
  return { kind, pages, of, bytes: pages * PAGE_SIZE };
}

function isPlain(value: unknown): value is Message {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  );
}

/** A value of a document as text, for comparing and for people. */
export function plainText(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return `[${value.map(plainText).join(", ")}]`;
  if (isPlain(value))
    return `{${Object.entries(value)
      .map(([key, item]) => `${key}: ${plainText(item)}`)
      .join(", ")}}`;
  return value === undefined || value === null ? "" : String(value);
}
