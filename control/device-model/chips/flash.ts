// The flash chip in which firmware keeps its variables: 8 bits wide, blocks of 4 KiB, Intel's command set.
//
// While it shows its array the VM has it mapped, to be read only: reads cost nothing, and a write comes here. A
// command that makes it show something else takes the mapping away, and READ ARRAY brings it back. Where that
// fails, for lack of kernel memory, reads of the array come here too.
//
// Programming clears bits; only the erasure of a block sets them. As OVMF's driver expects of QEMU's chip, the status
// register's ready bit comes with an operation and goes with CLEAR STATUS. Blocks are never locked.
//
// Source: Intel StrataFlash Memory (J3) data sheet, "Command Definitions" and "Status Register Definition"; JEDEC
// JESD68, "Common Flash Interface"; QEMU hw/block/pflash_cfi01.c, OVMF QemuFlashFvbServicesRuntimeDxe.

import { CAP_VM, PAGE_SIZE, Right } from "../../gen/abi";
import { memMap, memUnmap } from "../../lib/binding";
import { CAP_FLASH } from "../../lib/flash";
import { eraseFlash, readGuest, value as found, writeFlash } from "../guest-memory";
import { MmioDevice } from "../mmio-bus";

const BLOCK: u32 = 4096;

// Commands, the first cycle.
const PROGRAM: u32 = 0x10;
const PROGRAM_TOO: u32 = 0x40;
const ERASE: u32 = 0x20;
const CLEAR_STATUS: u32 = 0x50;
const LOCK: u32 = 0x60;
const READ_STATUS: u32 = 0x70;
const READ_ID: u32 = 0x90;
const QUERY: u32 = 0x98;
const WRITE_BUFFER: u32 = 0xe8;
const READ_ARRAY: u32 = 0xff;
// The cycle that some of them end with.
const CONFIRM: u32 = 0xd0;

// Status register.
const READY: u32 = 0x80;
const ERASE_FAILED: u32 = 0x20;
const PROGRAM_FAILED: u32 = 0x10;
const BAD_SEQUENCE: u32 = ERASE_FAILED | PROGRAM_FAILED;

/** What the next write is. */
const enum Cycle {
  COMMAND,
  PROGRAM,
  ERASE,
  LOCK,
  COUNT,
  DATA,
  CONFIRM,
}

/** What reads see. */
const enum Shows {
  ARRAY,
  STATUS,
  ID,
  QUERY,
}

// Identifier codes by address: Intel; a chip that is not listed; not locked.
const IDS: u32 = 0x001889;

// The answer to QUERY from address 0x10 on.
const QUERY_START: u32 = 0x10;
const QUERY_SIZE: u32 = 0x1d + 4 + 15;
const QUERY_EXTENDED: u32 = 0x31;
const query: usize = memory.data(64, 8);

const BUFFER_LOG: u32 = 8;
const BUFFER: u32 = 1 << BUFFER_LOG;
const buffer: usize = memory.data(256, 8);

export class Flash extends MmioDevice {
  private cycle: Cycle = Cycle.COMMAND;
  private shows: Shows = Shows.ARRAY;
  private status: u32 = 0;
  private mapped: bool = false;
  // WRITE BUFFER: where it begins, bytes that it will have, and bytes that are still to come.
  private start: u32 = 0;
  private count: u32 = 0;
  private left: u32 = 0;

  /** `base` and `size` are whole pages of flash memory that guest-memory knows. */
  constructor(
    private base: u64,
    private size: u32,
  ) {
    super();
    fillQuery(size);
    this.map();
  }

  private map(): void {
    this.mapped = memMap(CAP_VM, CAP_FLASH, this.base, 0, this.size / PAGE_SIZE, Right.READ) >= 0;
  }

  /** The VM may be another one, which has nothing mapped yet. */
  remap(): void {
    if (!this.mapped) return;
    this.unmap();
    this.map();
  }

  private unmap(): void {
    this.mapped = false;
    memUnmap(CAP_VM, this.base, this.size / PAGE_SIZE);
  }

  private show(what: Shows): void {
    this.shows = what;
    if (what == Shows.ARRAY) {
      if (!this.mapped) this.map();
    } else if (this.mapped) this.unmap();
  }

  private array(offset: u32, size: u32): u64 {
    readGuest(this.base + offset, size);
    return found;
  }

  mmioRead(offset: u32, size: u32): u64 {
    if (this.shows == Shows.ARRAY) return this.array(offset, size);
    if (this.shows == Shows.STATUS) return this.status;
    if (this.shows == Shows.ID) return (IDS >> (8 * (offset & 3))) & 0xff;
    const at = (offset & 0xff) - QUERY_START;
    return at < QUERY_SIZE ? load<u8>(query + at) : 0;
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    const byte = (<u32>value) & 0xff;
    const cycle = this.cycle;
    this.cycle = Cycle.COMMAND;
    if (cycle == Cycle.COMMAND) return this.command(byte);
    if (cycle == Cycle.COUNT) return this.begin(byte);
    if (cycle == Cycle.DATA) return this.take(offset, size, value);
    if (cycle == Cycle.PROGRAM) return this.program(offset, size, value);
    if (byte != CONFIRM && cycle != Cycle.LOCK) return this.fail(BAD_SEQUENCE);
    if (cycle == Cycle.ERASE) eraseFlash(this.base + (offset & ~(BLOCK - 1)), BLOCK);
    else if (cycle == Cycle.CONFIRM) this.programBuffer();
    this.status |= READY;
  }

  private command(command: u32): void {
    if (command == READ_ARRAY) return this.show(Shows.ARRAY);
    if (command == READ_ID) return this.show(Shows.ID);
    if (command == QUERY) return this.show(Shows.QUERY);
    if (command == CLEAR_STATUS) {
      this.status = 0;
      return this.show(Shows.ARRAY);
    }
    this.show(Shows.STATUS);
    if (command == PROGRAM || command == PROGRAM_TOO) this.cycle = Cycle.PROGRAM;
    else if (command == ERASE) this.cycle = Cycle.ERASE;
    else if (command == LOCK) this.cycle = Cycle.LOCK;
    else if (command == WRITE_BUFFER) {
      this.status |= READY; // there is always a buffer
      this.cycle = Cycle.COUNT;
    } else if (command != READ_STATUS) this.fail(BAD_SEQUENCE);
  }

  private fail(how: u32): void {
    this.status |= READY | how;
  }

  private program(offset: u32, size: u32, value: u64): void {
    writeFlash(this.base + offset, size, this.array(offset, size) & value);
    this.status |= READY;
  }

  // The count is that of bytes, less one. What is not written stays: ones clear no bit.
  private begin(count: u32): void {
    this.count = count + 1;
    this.left = count + 1;
    memory.fill(buffer, 0xff, BUFFER);
    this.cycle = Cycle.DATA;
  }

  private take(offset: u32, size: u32, value: u64): void {
    if (this.left == this.count) this.start = offset;
    const at = offset - this.start; // below the start it is beyond the end
    if (size > this.left || at >= this.count || size > this.count - at) return this.fail(BAD_SEQUENCE);
    for (let n: u32 = 0; n < size; n++) store<u8>(buffer + at + n, <u8>(value >> (8 * n)));
    this.left -= size;
    this.cycle = this.left > 0 ? Cycle.DATA : Cycle.CONFIRM;
  }

  private programBuffer(): void {
    const end = min(this.count, this.size - this.start);
    for (let n: u32 = 0; n < end; n++) this.program(this.start + n, 1, load<u8>(buffer + n));
  }
}

function put(address: u32, byte: u32): void {
  store<u8>(query + (address - QUERY_START), <u8>byte);
}

// What is zero is left out: voltages and times that nobody has to keep to.
function fillQuery(size: u32): void {
  put(0x10, 0x51); // QRY
  put(0x11, 0x52);
  put(0x12, 0x59);
  put(0x13, 0x01); // Intel's extended command set, described at 0x31
  put(0x15, QUERY_EXTENDED);
  put(0x27, 32 - clz(size - 1)); // at most 2^n bytes
  put(0x2a, BUFFER_LOG);
  put(0x2c, 1); // one region: of blocks, less one; of 256 bytes, 16 a block
  put(0x2d, size / BLOCK - 1);
  put(0x2e, (size / BLOCK - 1) >> 8);
  put(0x2f, BLOCK / 256);
  put(QUERY_EXTENDED, 0x50); // PRI, version 1.0, without any feature
  put(QUERY_EXTENDED + 1, 0x52);
  put(QUERY_EXTENDED + 2, 0x49);
  put(QUERY_EXTENDED + 3, 0x31);
  put(QUERY_EXTENDED + 4, 0x30);
}
