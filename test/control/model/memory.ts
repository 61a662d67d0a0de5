// Memory objects of the model, sparse, and the guest-physical address space of a domain.

import { PAGE_SIZE, Right } from "../../../control/gen/abi";
import { ComponentFault } from "./faults";

/** A page of memory; `shares`: how many objects have it. */
interface Frame {
  data: Uint8Array | undefined;
  shares: number;
}

/** What all memory objects of a machine have in common. */
export class Pool {
  /** Frames that are not there because objects share them. */
  saved = 0;
}

const ZERO_PAGE = new Uint8Array(PAGE_SIZE);

/** Pages, zeroed at first; what was never written or shared has no entry. */
export class MemoryObject {
  readonly kind = "memory";
  references = 0;
  /** Free frames that are kept for it. */
  promised = 0;
  /** How many of its pages are of each node. */
  readonly nodes: number[] = [];
  private readonly frames = new Map<number, Frame>();
  /** Pages whose frames have gone back and not been touched since. */
  readonly released = new Set<number>();

  constructor(
    readonly id: number,
    readonly pages: number,
    /** Component module whose image this is, if it is one. */
    readonly wasm?: Uint8Array,
    private readonly pool = new Pool(),
  ) {}

  get size(): number {
    return this.pages * PAGE_SIZE;
  }

  /** Pages that have a frame. */
  get present(): number {
    return this.pages - this.released.size;
  }

  /** Pages of each node from one on, a few at a time, in the order of the nodes; and where to go on. */
  count(from: number): [number, number[]] {
    const next = Math.min(from + 10_000, this.pages);
    let start = 0;
    const counts = this.nodes.map((pages) => {
      const end = start + pages;
      const here = Math.min(end, next) - Math.max(start, from);
      start = end;
      return Math.max(here, 0);
    });
    return [next, counts];
  }

  release(first: number, pages: number): void {
    for (let page = first; page < first + pages; page++) {
      if (!this.released.has(page)) this.drop(page);
      this.released.add(page);
    }
  }

  /** Another object takes all pages as they are; both copy what they write. */
  cloneTo(clone: MemoryObject): void {
    for (let page = 0; page < this.pages; page++) {
      if (this.released.has(page)) {
        clone.released.add(page);
        continue;
      }
      let frame = this.frames.get(page);
      if (!frame) this.frames.set(page, (frame = { data: undefined, shares: 1 }));
      frame.shares++;
      this.pool.saved++;
      clone.frames.set(page, frame);
    }
  }

  /** Nobody has it any more. */
  free(): void {
    for (const page of [...this.frames.keys()]) this.drop(page);
  }

  /** Whether a page is not the same here and there; without `base`: whether it is there. */
  differs(page: number, base: MemoryObject | undefined): boolean {
    if (!base) return !this.released.has(page);
    if (this.released.has(page) && base.released.has(page)) return false;
    const frame = this.frames.get(page);
    return !frame || frame !== base.frames.get(page);
  }

  read(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.pieces(offset, length, (page, start, at, count) => {
      const data = this.frames.get(page)?.data;
      if (data) out.set(data.subarray(start, start + count), at);
    });
    return out;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.pieces(offset, bytes.length, (page, start, at, count) => {
      this.own(page).set(bytes.subarray(at, at + count), start);
    });
  }

  /** The bytes of a page, of which nobody else has the frame. */
  private own(page: number): Uint8Array {
    let frame = this.frames.get(page);
    if (frame && frame.shares > 1) {
      const { data } = frame;
      this.drop(page);
      frame = { data: data?.slice(), shares: 1 };
      this.frames.set(page, frame);
      if (this.promised > 0) this.promised--;
    }
    if (!frame) this.frames.set(page, (frame = { data: undefined, shares: 1 }));
    return (frame.data ??= ZERO_PAGE.slice());
  }

  private drop(page: number): void {
    const frame = this.frames.get(page);
    if (!frame) return;
    if (--frame.shares > 0) this.pool.saved--;
    this.frames.delete(page);
  }

  private pieces(
    offset: number,
    length: number,
    visit: (page: number, start: number, at: number, count: number) => void,
  ): void {
    if (offset < 0 || offset + length > this.size) throw new RangeError("outside of a memory object");
    if (this.released.size > 0) {
      const last = Math.floor((offset + length - 1) / PAGE_SIZE);
      for (let page = Math.floor(offset / PAGE_SIZE); page <= last; page++) this.released.delete(page);
    }
    for (let at = 0; at < length;) {
      const start = (offset + at) % PAGE_SIZE;
      const count = Math.min(length - at, PAGE_SIZE - start);
      visit(Math.floor((offset + at) / PAGE_SIZE), start, at, count);
      at += count;
    }
  }
}

export interface Mapping {
  /** What it was mapped through: it goes with that. */
  through?: object | undefined;
  gpa: number;
  pages: number;
  memory: MemoryObject;
  first: number;
  access: number;
}

/** What is mapped where in a domain. Addresses are below 2^53, so numbers do. */
export class AddressSpace {
  readonly mappings: Mapping[] = [];

  at(gpa: number): Mapping | undefined {
    return this.mappings.find((m) => gpa >= m.gpa && gpa < m.gpa + m.pages * PAGE_SIZE);
  }

  overlaps(gpa: number, pages: number): boolean {
    return this.mappings.some((m) => gpa < m.gpa + m.pages * PAGE_SIZE && m.gpa < gpa + pages * PAGE_SIZE);
  }

  /** Removes every mapping of a memory object. */
  forget(memory: MemoryObject): void {
    this.mappings.splice(0, this.mappings.length, ...this.mappings.filter((m) => m.memory !== memory));
  }

  read(gpa: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.pieces(gpa, length, Right.READ, (memory, offset, at, count) =>
      out.set(memory.read(offset, count), at),
    );
    return out;
  }

  write(gpa: number, bytes: Uint8Array): void {
    this.pieces(gpa, bytes.length, Right.WRITE, (memory, offset, at, count) =>
      memory.write(offset, bytes.subarray(at, at + count)),
    );
  }

  private pieces(
    gpa: number,
    length: number,
    access: number,
    visit: (memory: MemoryObject, offset: number, at: number, count: number) => void,
  ): void {
    for (let at = 0; at < length;) {
      const mapping = this.at(gpa + at);
      if (!mapping || !(mapping.access & access)) throw new ComponentFault("memory", gpa + at);
      const offset = gpa + at - mapping.gpa;
      const count = Math.min(length - at, mapping.pages * PAGE_SIZE - offset);
      visit(mapping.memory, mapping.first * PAGE_SIZE + offset, at, count);
      at += count;
    }
  }
}
