// The hashes of an object's pages, and the tree of hashes over them.

import { createHash } from "node:crypto";

export const PAGE_SIZE = 4096;
export const HASH_SIZE = 32;
/** Pages of a leaf of the tree, and branches of each node above. */
const FAN_OUT = 256;

export function sha256(...pieces: Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece);
  return hash.digest();
}

export const ZERO_PAGE: Uint8Array = new Uint8Array(PAGE_SIZE);
/** Of a page of zeros, which is nowhere kept. */
export const ZERO_HASH: Buffer = sha256(ZERO_PAGE);
const ZERO_LEAF = Buffer.concat(Array.from({ length: FAN_OUT }, () => ZERO_HASH));

export function isZero(hash: Uint8Array): boolean {
  return ZERO_HASH.equals(hash);
}

/** A hash of each page; leaves whose pages are all zero take no memory. */
export class PageMap {
  readonly pages: number;
  private readonly leaves: (Buffer | undefined)[];

  constructor(pages: number) {
    this.pages = pages;
    this.leaves = Array.from({ length: Math.ceil(pages / FAN_OUT) }, () => undefined);
  }

  /** The hash of a page; not to be changed. */
  hash(page: number): Buffer {
    const leaf = this.leaves[Math.floor(page / FAN_OUT)];
    if (leaf === undefined) return ZERO_HASH;
    const at = (page % FAN_OUT) * HASH_SIZE;
    return leaf.subarray(at, at + HASH_SIZE);
  }

  isZero(page: number): boolean {
    return this.leaves[Math.floor(page / FAN_OUT)] === undefined || ZERO_HASH.equals(this.hash(page));
  }

  set(page: number, hash: Uint8Array): void {
    const n = Math.floor(page / FAN_OUT);
    if (this.leaves[n] === undefined) {
      if (isZero(hash)) return;
      this.leaves[n] = Buffer.from(ZERO_LEAF);
    }
    this.leaves[n]!.set(hash, (page % FAN_OUT) * HASH_SIZE);
  }

  /** Pages that are not zero, in their order. */
  *used(): Generator<number> {
    for (let n = 0; n < this.leaves.length; n++) {
      if (this.leaves[n] === undefined) continue;
      const end = Math.min(this.pages, (n + 1) * FAN_OUT);
      for (let page = n * FAN_OUT; page < end; page++) if (!this.isZero(page)) yield page;
    }
  }

  /** Pages that are others than in `base`, which has as many; without it, those that are not zero. */
  *changed(base: PageMap | undefined): Generator<number> {
    if (base === undefined) return yield* this.used();
    for (let n = 0; n < this.leaves.length; n++) {
      const [ours, theirs] = [this.leaves[n], base.leaves[n]];
      if (ours === theirs || (ours && theirs && ours.equals(theirs))) continue;
      const end = Math.min(this.pages, (n + 1) * FAN_OUT);
      for (let page = n * FAN_OUT; page < end; page++)
        if (!this.hash(page).equals(base.hash(page))) yield page;
    }
  }

  /** Bytes that are not zero. */
  get size(): number {
    let pages = 0;
    for (const _ of this.used()) pages++;
    return pages * PAGE_SIZE;
  }

  /**
   * The root of the tree: a leaf is SHA-256 of 0 and its pages' hashes, a node that of its level and its branches; the
   * root, that of 255, the number of pages and the topmost node.
   */
  get root(): Buffer {
    let zeroLeaf: Buffer | undefined;
    let level = this.leaves.map((leaf, n) => {
      const pages = Math.min(FAN_OUT, this.pages - n * FAN_OUT);
      if (leaf === undefined && pages === FAN_OUT) return (zeroLeaf ??= sha256(Uint8Array.of(0), ZERO_LEAF));
      return sha256(Uint8Array.of(0), (leaf ?? ZERO_LEAF).subarray(0, pages * HASH_SIZE));
    });
    for (let height = 1; level.length > 1; height++) {
      const above: Buffer[] = [];
      for (let at = 0; at < level.length; at += FAN_OUT)
        above.push(sha256(Uint8Array.of(height), ...level.slice(at, at + FAN_OUT)));
      level = above;
    }
    const count = Buffer.alloc(8);
    count.writeBigUInt64LE(BigInt(this.pages));
    return sha256(Uint8Array.of(255), count, level[0]!);
  }

  copy(): PageMap {
    const map = new PageMap(this.pages);
    this.leaves.forEach((leaf, n) => (map.leaves[n] = leaf && Buffer.from(leaf)));
    return map;
  }
}
