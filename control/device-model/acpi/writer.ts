// A piece of linear memory in which an ACPI table grows, and the checksum that closes it.
//
// Source: ACPI specification 6.5, "System Description Table Header".

const CAPACITY: u32 = 4096;

/** Length of the header that every table but RSDP and FACS begins with. */
export const TABLE_HEADER: u32 = 36;
export const LENGTH_AT: u32 = 4;
export const CHECKSUM_AT: u32 = 9;

export class TableWriter {
  readonly start: usize = memory.data(4096, 16);
  length: u32 = 0;

  u8(value: u32): void {
    assert(this.length < CAPACITY, "acpi: table too long");
    store<u8>(this.start + this.length++, <u8>value);
  }

  u16(value: u32): void {
    this.u8(value & 0xff);
    this.u8((value >> 8) & 0xff);
  }

  u32(value: u32): void {
    this.u16(value & 0xffff);
    this.u16(value >> 16);
  }

  u64(value: u64): void {
    this.u32(<u32>value);
    this.u32(<u32>(value >> 32));
  }

  zeros(count: u32): void {
    for (let i: u32 = 0; i < count; i++) this.u8(0);
  }

  ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.u8(text.charCodeAt(i));
  }

  /** Replaces a byte that has been written. */
  patch(at: u32, value: u32): void {
    assert(at < this.length, "acpi: patch beyond the table");
    store<u8>(this.start + at, <u8>value);
  }

  /** Starts a table with its header. */
  begin(signature: string, revision: u32): void {
    this.length = 0;
    this.ascii(signature);
    this.u32(0); // length
    this.u8(revision);
    this.u8(0); // checksum
    this.ascii("PLINTH");
    this.ascii("PLINTHVM");
    this.u32(1);
    this.ascii("PLTH");
    this.u32(1);
  }

  /** Sets length and checksum of a table that begin() has started. */
  end(): void {
    for (let i: u32 = 0; i < 4; i++) this.patch(LENGTH_AT + i, (this.length >> (8 * i)) & 0xff);
    this.checksum(CHECKSUM_AT, 0, this.length);
  }

  /** Sets the byte at `at` so that [from, to) adds up to zero. */
  checksum(at: u32, from: u32, to: u32): void {
    this.patch(at, 0);
    let sum: u32 = 0;
    for (let i = from; i < to; i++) sum += load<u8>(this.start + i);
    this.patch(at, 0 - sum);
  }
}

export const writer = new TableWriter();
