// The block device: a disk in a memory object that is mapped at `base`.
//
// Source: virtio 1.2, section 5.2, "Block Device".

import { sharedFill } from "../../lib/binding";
import { chain } from "./chain";
import { VirtioDevice } from "./device";

const ID: u32 = 2;
const CLASS_STORAGE: u32 = 0x010000;
const QUEUE_SIZE: u32 = 128;

const FEATURE_SEG_MAX: u64 = 1 << 2;
const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_BLOCK_SIZE: u64 = 1 << 6;
const FEATURE_FLUSH: u64 = 1 << 9;
const FEATURE_TOPOLOGY: u64 = 1 << 10;
const FEATURE_QUEUES: u64 = 1 << 12;
const FEATURE_DISCARD: u64 = 1 << 13;
const FEATURE_WRITE_ZEROES: u64 = 1 << 14;

// The device's configuration.
const CONFIG_SIZE: u32 = 60;
const CAPACITY: u32 = 0;
const SEG_MAX: u32 = 12;
const BLOCK_SIZE: u32 = 20;
const PHYSICAL_EXPONENT: u32 = 24;
const MIN_IO: u32 = 26;
const OPTIMAL_IO: u32 = 28;
const QUEUES: u32 = 34;
const MAX_DISCARD_SECTORS: u32 = 36;
const MAX_DISCARD_SEGMENTS: u32 = 40;
const DISCARD_ALIGNMENT: u32 = 44;
const MAX_ZEROES_SECTORS: u32 = 48;
const MAX_ZEROES_SEGMENTS: u32 = 52;
const ZEROES_MAY_UNMAP: u32 = 56;

// Requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

const SECTOR: u64 = 512;
/** Sectors of a page of the host, a power of two, and of what is well done at once. */
const PAGE_EXPONENT: u64 = 3;
const WELL_DONE: u64 = 128;
const HEADER_SIZE: u32 = 16;
const RANGE_SIZE: u32 = 16;
const ID_SIZE: u32 = 20;
/** Sectors that one discard or write-zeroes may name: what is zeroed at once. */
const RANGE_MAX: u32 = 8192;
const UNMAP: u32 = 1;

const scratch: usize = memory.data(32, 8);

export class Blk extends VirtioDevice {
  private readonly sectors: u64;

  /** size: bytes, of which whole sectors count. */
  constructor(
    private readonly base: u64,
    size: u64,
    private readonly serial: string,
    private readonly readOnly: bool,
    queues: u32,
  ) {
    super("blk", ID, CLASS_STORAGE, Blk.featuresOf(readOnly, queues), queues, QUEUE_SIZE, CONFIG_SIZE);
    this.sectors = size / SECTOR;
    this.setConfig(CAPACITY, 8, this.sectors);
    this.setConfig(SEG_MAX, 4, QUEUE_SIZE - 2);
    this.setConfig(BLOCK_SIZE, 4, SECTOR);
    this.setConfig(PHYSICAL_EXPONENT, 1, PAGE_EXPONENT);
    this.setConfig(MIN_IO, 2, 1 << PAGE_EXPONENT);
    this.setConfig(OPTIMAL_IO, 4, WELL_DONE);
    this.setConfig(QUEUES, 2, queues);
    this.setConfig(MAX_DISCARD_SECTORS, 4, RANGE_MAX);
    this.setConfig(MAX_DISCARD_SEGMENTS, 4, 1);
    this.setConfig(DISCARD_ALIGNMENT, 4, 1);
    this.setConfig(MAX_ZEROES_SECTORS, 4, RANGE_MAX);
    this.setConfig(MAX_ZEROES_SEGMENTS, 4, 1);
    this.setConfig(ZEROES_MAY_UNMAP, 1, 1);
  }

  private static featuresOf(readOnly: bool, queues: u32): u64 {
    let features = FEATURE_SEG_MAX | FEATURE_BLOCK_SIZE | FEATURE_FLUSH | FEATURE_TOPOLOGY;
    features |= readOnly ? FEATURE_READ_ONLY : FEATURE_DISCARD | FEATURE_WRITE_ZEROES;
    return queues > 1 ? features | FEATURE_QUEUES : features;
  }

  process(index: u32): void {
    const queue = this.queues[index];
    while (queue.pop()) {
      if (chain.readable < HEADER_SIZE || chain.writable < 1) {
        queue.fault = "a request has no header or no room for its status";
        break;
      }
      chain.take(scratch, HEADER_SIZE);
      const status = this.request(load<u32>(scratch), load<u64>(scratch, 8));
      chain.skip(chain.writable - 1); // the status is the last byte of the buffer
      store<u8>(scratch, status);
      chain.put(scratch, 1);
      queue.push();
    }
    this.finish(index);
  }

  private request(kind: u32, sector: u64): u8 {
    switch (kind) {
      case IN:
        return this.read(sector, chain.writable - 1);
      case OUT:
        return this.write(sector, chain.readable);
      case FLUSH:
        return OK; // memory has no cache in front of it
      case GET_ID:
        return this.identify();
      case DISCARD:
      case WRITE_ZEROES:
        return this.readOnly ? UNSUPPORTED : this.zero(kind);
      default:
        return UNSUPPORTED;
    }
  }

  private holds(sector: u64, length: u64): bool {
    return length % SECTOR == 0 && sector <= this.sectors && length / SECTOR <= this.sectors - sector;
  }

  private read(sector: u64, length: u64): u8 {
    if (!this.holds(sector, length)) return IO_ERROR;
    chain.putFrom(this.base + sector * SECTOR, length);
    return OK;
  }

  private write(sector: u64, length: u64): u8 {
    if (this.readOnly || !this.holds(sector, length)) return IO_ERROR;
    chain.takeTo(this.base + sector * SECTOR, length);
    return OK;
  }

  private identify(): u8 {
    memory.fill(scratch, 0, ID_SIZE);
    for (let i = 0; i < min<i32>(this.serial.length, ID_SIZE); i++) {
      store<u8>(scratch + i, <u8>this.serial.charCodeAt(i));
    }
    return chain.writable > ID_SIZE && chain.put(scratch, ID_SIZE) ? OK : IO_ERROR;
  }

  // Ranges of {sector u64, count u32, flags u32}. A discarded range reads as zeros here.
  private zero(kind: u32): u8 {
    if (chain.readable != RANGE_SIZE) return IO_ERROR;
    chain.take(scratch, RANGE_SIZE);
    const sector = load<u64>(scratch);
    const count = load<u32>(scratch, 8);
    const flags = load<u32>(scratch, 12);
    if (flags & ~(kind == WRITE_ZEROES ? UNMAP : 0)) return UNSUPPORTED;
    if (count > RANGE_MAX || !this.holds(sector, <u64>count * SECTOR)) return IO_ERROR;
    sharedFill(this.base + sector * SECTOR, 0, <u64>count * SECTOR);
    return OK;
  }
}
