// Memory objects of the model, sparse, and the guest-physical address space of a domain.

import { PAGE_SIZE, Right } from "../../../control/gen/abi";
import { ComponentFault } from "./faults";

const CHUNK = 65536;

/** Zeroed pages; chunks come into being when they are written. */
export class MemoryObject {
  readonly kind = "memory";
  references = 0;
  private readonly chunks = new Map<number, Uint8Array>();
  /** Pages whose frames have gone back and not been touched since. */
  readonly released = new Set<number>();

  constructor(
    readonly id: number,
    readonly pages: number,
    /** Component module whose image this is, if it is one. */
    readonly wasm?: Uint8Array,
  ) {}

  get size(): number {
    return this.pages * PAGE_SIZE;
  }

  /** Pages that have a frame. */
  get present(): number {
    return this.pages - this.released.size;
  }

  release(first: number, pages: number): void {
    for (let page = first; page < first + pages; page++) {
      if (!this.released.has(page)) this.write(page * PAGE_SIZE, new Uint8Array(PAGE_SIZE));
      this.released.add(page);
    }
  }

  read(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.pieces(offset, length, (chunk, start, at, count) => {
      const data = this.chunks.get(chunk);
      if (data) out.set(data.subarray(start, start + count), at);
    });
    return out;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.pieces(offset, bytes.length, (chunk, start, at, count) => {
      let data = this.chunks.get(chunk);
      if (!data) this.chunks.set(chunk, (data = new Uint8Array(CHUNK)));
      data.set(bytes.subarray(at, at + count), start);
    });
  }

  private pieces(
    offset: number,
    length: number,
    visit: (chunk: number, start: number, at: number, count: number) => void,
  ): void {
    if (offset < 0 || offset + length > this.size) throw new RangeError("outside of a memory object");
    if (this.released.size > 0) {
      const last = Math.floor((offset + length - 1) / PAGE_SIZE);
      for (let page = Math.floor(offset / PAGE_SIZE); page <= last; page++) this.released.delete(page);
    }
    for (let at = 0; at < length;) {
      const start = (offset + at) % CHUNK;
      const count = Math.min(length - at, CHUNK - start);
      visit(Math.floor((offset + at) / CHUNK), start, at, count);
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
