// A reader's place in a VM's console output. It survives the VM's restart and says what it had to skip.

import { vmFind } from "./vms";

/** Where a reader that was overrun goes on: this far behind the newest byte. */
const RESUME_DISTANCE: u64 = 8192;

export class Cursor {
  position: u64 = 0;
  /** Bytes that the last read() had to skip because they were overwritten. */
  skipped: u64 = 0;
  /** Whether the last read() found that the VM has a new console. */
  renewed: bool = false;
  private generation: u32 = 0;

  constructor(public name: string) {}

  /** Goes to byte `from`, or to the oldest there is. */
  seek(from: u64): void {
    const vm = vmFind(this.name);
    if (vm == null) return;
    this.generation = vm.generation;
    const link = vm.link;
    this.position = link == null ? 0 : min(max(from, link.consoleOut.oldest), link.consoleOut.head);
  }

  /** Whether the VM still exists. */
  get valid(): bool {
    return vmFind(this.name) != null;
  }

  /** Bytes there are to read. */
  get pending(): u64 {
    const vm = vmFind(this.name);
    if (vm == null) return 0;
    const link = vm.link;
    if (link == null) return 0;
    const head = link.consoleOut.head;
    if (vm.generation != this.generation) return head;
    return head > this.position ? head - this.position : 0;
  }

  /** Reads up to `limit` bytes to `to`; returns how many. */
  read(to: usize, limit: u32): u32 {
    this.skipped = 0;
    this.renewed = false;
    const vm = vmFind(this.name);
    if (vm == null) return 0;
    const link = vm.link;
    if (link == null) return 0;
    if (vm.generation != this.generation) {
      this.generation = vm.generation;
      this.position = 0;
      this.renewed = true;
    }
    const out = link.consoleOut;
    if (this.position < out.oldest) {
      const resume = max(out.oldest, out.head - RESUME_DISTANCE);
      this.skipped = resume - this.position;
      this.position = resume;
    }
    const length = out.read(this.position, to, limit);
    this.position += length;
    return length;
  }
}
