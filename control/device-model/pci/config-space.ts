// The 256 bytes of configuration space of one PCI function, and which of their bits can be written.
//
// Source: PCI Local Bus Specification 3.0, chapter 6, "Configuration Space".

export const CONFIG_SIZE: u32 = 256;

// Registers of header type 0.
export const VENDOR_ID: u32 = 0x00;
export const DEVICE_ID: u32 = 0x02;
export const COMMAND: u32 = 0x04;
export const STATUS: u32 = 0x06;
export const REVISION: u32 = 0x08;
export const CACHE_LINE_SIZE: u32 = 0x0c;
export const LATENCY_TIMER: u32 = 0x0d;
export const HEADER_TYPE: u32 = 0x0e;
export const BAR0: u32 = 0x10;
export const SUBSYSTEM_VENDOR: u32 = 0x2c;
export const SUBSYSTEM_ID: u32 = 0x2e;
export const CAPABILITIES: u32 = 0x34;
export const INTERRUPT_LINE: u32 = 0x3c;
export const INTERRUPT_PIN: u32 = 0x3d;
export const HEADER_END: u32 = 0x40;

export class ConfigSpace {
  private bytes: StaticArray<u8> = new StaticArray<u8>(<i32>CONFIG_SIZE);
  private writable: StaticArray<u8> = new StaticArray<u8>(<i32>CONFIG_SIZE);

  /** What is at [offset, offset + size); beyond the end there are zeros. */
  read(offset: u32, size: u32): u32 {
    let value: u32 = 0;
    for (let i: u32 = 0; i < size && offset + i < CONFIG_SIZE; i++) {
      value |= (<u32>this.bytes[offset + i]) << (8 * i);
    }
    return value;
  }

  /** A write of the guest: only writable bits change. */
  write(offset: u32, size: u32, value: u32): void {
    for (let i: u32 = 0; i < size && offset + i < CONFIG_SIZE; i++) {
      const mask = this.writable[offset + i];
      const byte = <u8>(value >> (8 * i));
      this.bytes[offset + i] = (this.bytes[offset + i] & ~mask) | (byte & mask);
    }
  }

  /** A write of the device itself. */
  set(offset: u32, size: u32, value: u32): void {
    for (let i: u32 = 0; i < size; i++) this.bytes[offset + i] = <u8>(value >> (8 * i));
  }

  /** Makes bits writable for the guest. */
  allow(offset: u32, size: u32, mask: u32): void {
    for (let i: u32 = 0; i < size; i++) this.writable[offset + i] = <u8>(mask >> (8 * i));
  }
}
