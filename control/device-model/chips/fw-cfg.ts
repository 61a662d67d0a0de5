// The firmware configuration device: named files and numbered items that firmware reads, by port or by DMA.
//
// Source: QEMU docs/specs/fw_cfg.rst. Everything that the DMA interface moves is big endian. A guest can
// write a file that is made for that, by DMA; what is beyond an item's end, or no item at all, reads as zeros.

import { fillGuest, readGuestBytes, writeGuest, writeGuestBytes } from "../guest-memory";
import { PortDevice } from "../port-bus";

export const FW_CFG_PORT: u32 = 0x510;
export const FW_CFG_PORTS: u32 = 12;

const SELECTOR: u32 = 0; // a word
const DATA: u32 = 1; // a byte
const DMA_HIGH: u32 = 4;
const DMA_LOW: u32 = 8;
const DMA_SIGNATURE_HIGH: u32 = 0x554d4551; // "QEMU"
const DMA_SIGNATURE_LOW: u32 = 0x47464320; // " CFG"

// The descriptor of a DMA transfer, and its control word.
const DESCRIPTOR: u32 = 16;
const ERROR: u32 = 1;
const READ: u32 = 2;
const SKIP: u32 = 4;
const SELECT: u32 = 8;
const WRITE: u32 = 16;
/** More than this is no item's size: a transfer must not keep the device model busy. */
const LENGTH_MAX: u32 = 0x100000;

const KEY_SIGNATURE: u32 = 0x00;
const KEY_ID: u32 = 0x01;
const KEY_DIRECTORY: u32 = 0x19;
const KEY_FIRST_FILE: u32 = 0x20;
const WITH_DMA: u32 = 3; // both interfaces

const MAX_ITEMS: u32 = 32;
const MAX_FILES: u32 = 16;
const ENTRY: u32 = 64; // of the directory
const NAME_MAX: i32 = 55;
const MAX_NUMBERS: u32 = 24;

const descriptor: usize = memory.data(16, 8);
const directory: usize = memory.data(1028, 8); // a count and MAX_FILES entries
const numbers: usize = memory.data(192, 8); // values of small items

class FwCfg extends PortDevice {
  private keys: StaticArray<u32> = new StaticArray<u32>(<i32>MAX_ITEMS);
  private starts: StaticArray<usize> = new StaticArray<usize>(<i32>MAX_ITEMS);
  private lengths: StaticArray<u32> = new StaticArray<u32>(<i32>MAX_ITEMS);
  private writable: i32 = -1; // an item, if there is one
  private items: u32 = 0;
  private files: u32 = 0;
  private values: u32 = 0;
  // What is selected, and how far it has been read.
  private start: usize = 0;
  private mayWrite: bool = false;
  private length: u32 = 0;
  private offset: u32 = 0;
  private dmaHigh: u32 = 0;

  constructor() {
    super();
    this.addNumber(KEY_SIGNATURE, 4, DMA_SIGNATURE_HIGH);
    this.addNumber(KEY_ID, 4, WITH_DMA);
    this.addItem(KEY_DIRECTORY, directory, 4);
  }

  /** An item of bytes that stay where they are. */
  addItem(key: u32, start: usize, length: u32): void {
    assert(this.items < MAX_ITEMS, "fw_cfg: too many items");
    this.keys[this.items] = key;
    this.starts[this.items] = start;
    this.lengths[this.items++] = length;
  }

  /** An item of 1 to 8 bytes, little endian. */
  addNumber(key: u32, size: u32, value: u64): void {
    assert(this.values < MAX_NUMBERS, "fw_cfg: too many numbers");
    const at = numbers + 8 * this.values++;
    store<u64>(at, value);
    this.addItem(key, at, size);
  }

  /** A file of bytes that stay where they are. */
  addFile(name: string, start: usize, length: u32): void {
    assert(this.files < MAX_FILES && name.length <= NAME_MAX, "fw_cfg: too many files or a long name");
    const key = KEY_FIRST_FILE + this.files;
    const at = directory + 4 + this.files++ * ENTRY;
    store<u32>(at, bswap(length));
    store<u16>(at, bswap(<u16>key), 4);
    for (let i = 0; i < name.length; i++) store<u8>(at + i, <u8>name.charCodeAt(i), 8);
    store<u32>(directory, bswap(this.files));
    this.addItem(key, start, length);
    this.lengths[2] = 4 + this.files * ENTRY;
  }

  /** The one file that the guest writes. */
  addWritableFile(name: string, start: usize, length: u32): void {
    assert(this.writable < 0, "fw_cfg: a second file to be written");
    this.writable = <i32>this.items;
    this.addFile(name, start, length);
  }

  /** A file that is a number of 8 bytes. */
  addNumberFile(name: string, value: u64): void {
    assert(this.values < MAX_NUMBERS, "fw_cfg: too many numbers");
    const at = numbers + 8 * this.values++;
    store<u64>(at, value);
    this.addFile(name, at, 8);
  }

  private select(key: u32): void {
    this.offset = 0;
    this.length = 0;
    this.mayWrite = false;
    for (let i: u32 = 0; i < this.items; i++) {
      if (this.keys[i] != key) continue;
      this.start = this.starts[i];
      this.length = this.lengths[i];
      this.mayWrite = <i32>i == this.writable;
    }
  }

  portRead(port: u32, size: u32): u32 {
    const at = port - FW_CFG_PORT;
    if (at == DATA && size == 1) return this.offset < this.length ? load<u8>(this.start + this.offset++) : 0;
    if (at == DMA_HIGH && size == 4) return DMA_SIGNATURE_HIGH;
    if (at == DMA_LOW && size == 4) return DMA_SIGNATURE_LOW;
    return 0;
  }

  portWrite(port: u32, size: u32, value: u32): void {
    const at = port - FW_CFG_PORT;
    if (at == SELECTOR && size == 2) this.select(value & 0xffff);
    else if (at == DMA_HIGH && size == 4) this.dmaHigh = bswap(value);
    else if (at == DMA_LOW && size == 4) {
      const address = ((<u64>this.dmaHigh) << 32) | bswap(value);
      this.dmaHigh = 0;
      writeGuest(address, 4, bswap(this.transfer(address)));
    }
  }

  // The descriptor is read once. Returns the control word that tells how it went.
  private transfer(at: u64): u32 {
    if (!readGuestBytes(descriptor, at, DESCRIPTOR)) return ERROR;
    const control = bswap(load<u32>(descriptor));
    const length = bswap(load<u32>(descriptor, 4));
    const address = bswap(load<u64>(descriptor, 8));
    if (control & SELECT) this.select(control >> 16);
    if (control & READ) return this.move(address, length) ? 0 : ERROR;
    if (control & WRITE) return this.take(address, length) ? 0 : ERROR;
    if (control & SKIP) this.offset += min(length, this.length - this.offset);
    return 0;
  }

  private take(address: u64, length: u32): bool {
    if (length == 0) return true;
    if (!this.mayWrite || length > this.length - this.offset) return false;
    if (!readGuestBytes(this.start + this.offset, address, length)) return false;
    this.offset += length;
    return true;
  }

  private move(address: u64, length: u32): bool {
    if (length > LENGTH_MAX) return false;
    const part = min(length, this.length - this.offset);
    if (part > 0 && !writeGuestBytes(address, this.start + this.offset, part)) return false;
    this.offset += part;
    return length == part || fillGuest(address + part, 0, length - part);
  }
}

export const fwCfg = new FwCfg();
