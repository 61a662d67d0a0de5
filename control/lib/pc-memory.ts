// Where a PC has its memory: below the devices' addresses, and what does not fit there from 4 GiB on.
//
//   0            3 GiB: the hole                                      4 GiB
//   | low memory | PCI windows, ECAM, I/O and local APICs, firmware | high memory ...
//
// Page n of a VM's memory object is at n * 4 KiB while that is below the hole; the rest follows at 4 GiB.
// The boundary is QEMU's for its "pc" machine, which SeaBIOS and OVMF are made for.

/** Low memory ends here, or earlier. */
export const LOW_MEMORY_END: u64 = 0xc0000000;
/** High memory starts here. */
export const HIGH_MEMORY: u64 = 0x100000000;
/** A device model can map no more. */
export const MEMORY_MAX: u64 = 256 << 30;

/** Bytes of `size` that lie below the hole. */
export function lowMemory(size: u64): u64 {
  return min(size, LOW_MEMORY_END);
}

/** Bytes of `size` that lie above it. */
export function highMemory(size: u64): u64 {
  return size - lowMemory(size);
}
