// A queue of bytes that grows to a limit; what is beyond it is dropped.

export class ByteQueue {
  private data: StaticArray<u8> = new StaticArray<u8>(1024);
  private head: u32 = 0;
  private tail: u32 = 0;

  constructor(private limit: u32) {}

  get length(): u32 {
    return this.head - this.tail;
  }

  push(byte: u32): void {
    if (this.length == <u32>this.data.length && !this.grow()) return;
    this.data[this.head & (this.data.length - 1)] = <u8>byte;
    this.head++;
  }

  /** The oldest byte; the caller has asked `length`. */
  shift(): u32 {
    const byte = this.data[this.tail & (this.data.length - 1)];
    this.tail++;
    return byte;
  }

  clear(): void {
    this.tail = this.head;
  }

  private grow(): bool {
    const old = this.data;
    if (<u32>old.length >= this.limit) return false;
    const count = this.length;
    const bigger = new StaticArray<u8>(old.length * 2);
    for (let i: u32 = 0; i < count; i++) bigger[i] = old[(this.tail + i) & (old.length - 1)];
    this.data = bigger;
    this.tail = 0;
    this.head = count;
    return true;
  }
}
