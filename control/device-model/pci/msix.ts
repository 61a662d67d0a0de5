// The MSI-X table and pending bits of a PCI function: one BAR of 4 KiB.
//
//   0x000   table: message address (64 bits), message data, vector control      0x800   pending bits
//
// Source: PCI Local Bus Specification 3.0, section 6.8.2, "MSI-X Capability and Table Structures".

import { msi } from "../../lib/binding";
import { CAP_VM } from "../../gen/abi";
import { MmioDevice } from "../mmio-bus";

export const MSIX_BAR_SIZE: u32 = 0x1000;
export const MSIX_PENDING: u32 = 0x800;
export const MSIX_MAX_VECTORS: u32 = 32;

const ENTRY_WORDS: u32 = 4;
const DATA: u32 = 2;
const CONTROL: u32 = 3;
const MASKED: u32 = 1;
// A message goes to a local APIC, or nowhere.
const APIC_PAGE: u32 = 0xfee;

export class Msix extends MmioDevice {
  private table: StaticArray<u32>;
  private pending: u32 = 0;
  private enabled: bool = false;
  private functionMasked: bool = false;

  constructor(readonly vectors: u32) {
    super();
    assert(vectors <= MSIX_MAX_VECTORS, "msi-x: too many vectors");
    this.table = new StaticArray<u32>(<i32>(vectors * ENTRY_WORDS));
    for (let n: u32 = 0; n < vectors; n++) this.table[n * ENTRY_WORDS + CONTROL] = MASKED;
  }

  get isEnabled(): bool {
    return this.enabled;
  }

  /** Message control has been written. */
  configure(enabled: bool, functionMasked: bool): void {
    this.enabled = enabled;
    this.functionMasked = functionMasked;
    this.sendPending();
  }

  /** Sends a vector's message, or remembers it while it is masked. */
  raise(vector: u32): void {
    if (!this.enabled || vector >= this.vectors) return;
    if (this.functionMasked || this.table[vector * ENTRY_WORDS + CONTROL] & MASKED) {
      this.pending |= 1 << vector;
    } else {
      this.send(vector);
    }
  }

  /** Forgets a vector that has not been sent, because its cause is gone. */
  forgetPending(): void {
    this.pending = 0;
  }

  private send(vector: u32): void {
    const at = vector * ENTRY_WORDS;
    const low = this.table[at] & ~3;
    if (low >> 20 != APIC_PAGE || this.table[at + 1] != 0) return;
    msi(CAP_VM, low, this.table[at + DATA]);
  }

  private sendPending(): void {
    if (!this.enabled || this.functionMasked || this.pending == 0) return;
    for (let vector: u32 = 0; vector < this.vectors; vector++) {
      const bit: u32 = 1 << vector;
      if (!(this.pending & bit) || this.table[vector * ENTRY_WORDS + CONTROL] & MASKED) continue;
      this.pending &= ~bit;
      this.send(vector);
    }
  }

  private readWord(offset: u32): u32 {
    if (offset == MSIX_PENDING) return this.pending;
    const index = offset >> 2;
    return index < this.vectors * ENTRY_WORDS ? this.table[index] : 0;
  }

  private writeWord(offset: u32, value: u32): void {
    const index = offset >> 2;
    if (index >= this.vectors * ENTRY_WORDS) return; // pending bits are read-only
    this.table[index] = (index & 3) == CONTROL ? value & MASKED : value;
  }

  mmioRead(offset: u32, size: u32): u64 {
    if (size == 8) return (<u64>this.readWord(offset & ~3)) | ((<u64>this.readWord((offset & ~3) + 4)) << 32);
    return this.readWord(offset & ~3) >> ((offset & 3) * 8);
  }

  // Only whole words are allowed; anything else is undefined, and ignored here.
  mmioWrite(offset: u32, size: u32, value: u64): void {
    if (offset & 3 || size < 4) return;
    this.writeWord(offset, <u32>value);
    if (size == 8) this.writeWord(offset + 4, <u32>(value >> 32));
    this.sendPending();
  }
}
