// A CD-ROM drive with a disc of one data track in it, as a SCSI logical unit: what it answers to commands.
//
// Source: SPC-4, MMC-6, "Commands". The disc is never changed, and cannot be written or ejected.

const BLOCK: u64 = 2048;

// Commands.
const TEST_UNIT_READY: u32 = 0x00;
const REQUEST_SENSE: u32 = 0x03;
const INQUIRY: u32 = 0x12;
const MODE_SENSE_6: u32 = 0x1a;
const START_STOP: u32 = 0x1b;
const PREVENT_REMOVAL: u32 = 0x1e;
const READ_CAPACITY: u32 = 0x25;
const READ_10: u32 = 0x28;
const READ_TOC: u32 = 0x43;
const MODE_SENSE_10: u32 = 0x5a;
const REPORT_UNITS: u32 = 0xa0;
const READ_12: u32 = 0xa8;

const TYPE_CD: u8 = 5;
const NO_UNIT: u8 = 0x7f;
const REMOVABLE: u8 = 0x80;
const SPC_3: u8 = 5;
const INQUIRY_LENGTH: u32 = 36;

const PAGE_CAPABILITIES: u32 = 0x2a;
const PAGE_ALL: u32 = 0x3f;
const PAGE_LENGTH: u32 = 20;
const LOCK_TRAY: u8 = 0x29; // can lock and eject, loads by a tray

const DATA_TRACK: u8 = 0x14;
const LEAD_OUT: u8 = 0xaa;
const FRAMES: u32 = 75; // a second has so many blocks
const LEAD_IN: u32 = 150; // block 0 lies so far from the start

// Sense: key << 16, code << 8 and qualifier.
const ILLEGAL_COMMAND: u32 = 0x052000;
const BEYOND_END: u32 = 0x052100;
const ILLEGAL_FIELD: u32 = 0x052400;
const NO_SUCH_UNIT: u32 = 0x052500;
const SENSE_LENGTH: u32 = 18;
const CURRENT: u8 = 0x70;

const text = "PLINTH  CD-ROM          1   ";
const buffer: usize = memory.data(64, 8);

function load16(at: usize): u32 {
  return bswap(load<u16>(at));
}

function load32(at: usize): u32 {
  return bswap(load<u32>(at));
}

export class CdRom {
  /** What the last command returns: bytes of `reply`, or of the image from `image` on. */
  length: u64 = 0;
  isImage: bool = false;
  image: u64 = 0;
  readonly reply: usize = buffer;
  private sense: u32 = 0;
  private readonly blocks: u32;

  constructor(
    private readonly base: u64,
    size: u64,
  ) {
    this.blocks = <u32>(size / BLOCK);
  }

  /** Forgets what the last command has returned. */
  nothing(): void {
    this.length = 0;
    this.isImage = false;
  }

  /** Does a command of at least 16 bytes. False: it is refused, and putSense() says why. */
  execute(cdb: usize, unit: u32): bool {
    const operation = <u32>load<u8>(cdb);
    if (operation == INQUIRY) return this.inquire(cdb, unit);
    if (operation == REPORT_UNITS) return this.reportUnits(cdb);
    if (unit != 0 && operation != REQUEST_SENSE) return this.refuse(NO_SUCH_UNIT);
    switch (operation) {
      case TEST_UNIT_READY:
      case START_STOP:
      case PREVENT_REMOVAL:
        return true;
      case REQUEST_SENSE:
        this.sense = unit != 0 ? NO_SUCH_UNIT : 0;
        return this.answer(this.putSense(buffer), load<u8>(cdb, 4));
      case READ_CAPACITY:
        store<u32>(buffer, bswap(this.blocks - 1));
        store<u32>(buffer, bswap(<u32>BLOCK), 4);
        return this.answer(8, 8);
      case READ_10:
        return this.read(load32(cdb + 2), load16(cdb + 7));
      case READ_12:
        return this.read(load32(cdb + 2), load32(cdb + 6));
      case READ_TOC:
        return this.readContents(cdb);
      case MODE_SENSE_6:
        return this.senseMode(cdb, 4, load<u8>(cdb, 4));
      case MODE_SENSE_10:
        return this.senseMode(cdb, 8, load16(cdb + 7));
      default:
        return this.refuse(ILLEGAL_COMMAND);
    }
  }

  /** Writes fixed-format sense data of the last refusal; returns their length. */
  putSense(at: usize): u32 {
    memory.fill(at, 0, SENSE_LENGTH);
    store<u8>(at, CURRENT);
    store<u8>(at, <u8>(this.sense >> 16), 2);
    store<u8>(at, <u8>(SENSE_LENGTH - 8), 7);
    store<u8>(at, <u8>(this.sense >> 8), 12);
    store<u8>(at, <u8>this.sense, 13);
    return SENSE_LENGTH;
  }

  private refuse(sense: u32): bool {
    this.sense = sense;
    return false;
  }

  // Returns what lies in `buffer`, no more than the command allows.
  private answer(length: u32, allowed: u32): bool {
    this.length = min(length, allowed);
    return true;
  }

  private read(block: u32, count: u32): bool {
    if (block > this.blocks || count > this.blocks - block) return this.refuse(BEYOND_END);
    this.isImage = true;
    this.image = this.base + block * BLOCK;
    this.length = count * BLOCK;
    return true;
  }

  private inquire(cdb: usize, unit: u32): bool {
    if (load<u8>(cdb, 1) & 1 || load<u8>(cdb, 2) != 0) return this.refuse(ILLEGAL_FIELD); // no further pages
    memory.fill(buffer, 0, INQUIRY_LENGTH);
    store<u8>(buffer, unit == 0 ? TYPE_CD : NO_UNIT);
    store<u8>(buffer, REMOVABLE, 1);
    store<u8>(buffer, SPC_3, 2);
    store<u8>(buffer, 2, 3); // format of the response
    store<u8>(buffer, <u8>(INQUIRY_LENGTH - 5), 4);
    for (let i = 0; i < text.length; i++) store<u8>(buffer + i, <u8>text.charCodeAt(i), 8);
    return this.answer(INQUIRY_LENGTH, load16(cdb + 3));
  }

  // There is unit 0.
  private reportUnits(cdb: usize): bool {
    memory.fill(buffer, 0, 16);
    store<u32>(buffer, bswap<u32>(8));
    return this.answer(16, load32(cdb + 6));
  }

  // A header of 4 bytes or of 8, and the one page.
  private senseMode(cdb: usize, header: u32, allowed: u32): bool {
    const page = load<u8>(cdb, 2) & 0x3f;
    if (page != PAGE_CAPABILITIES && page != PAGE_ALL) return this.refuse(ILLEGAL_FIELD);
    const length = header + 2 + PAGE_LENGTH;
    memory.fill(buffer, 0, length);
    if (header == 4) store<u8>(buffer, <u8>(length - 1));
    else store<u16>(buffer, bswap(<u16>(length - 2)));
    const at = buffer + header;
    store<u8>(at, <u8>PAGE_CAPABILITIES);
    store<u8>(at, <u8>PAGE_LENGTH, 1);
    store<u8>(at, LOCK_TRAY, 6);
    return this.answer(length, allowed);
  }

  // The track and the lead-out, or the one session, which begins with the track.
  private readContents(cdb: usize): bool {
    const inFrames = (load<u8>(cdb, 1) & 2) != 0;
    const first = load<u8>(cdb, 6);
    const format = (load<u8>(cdb, 2) & 15) | (load<u8>(cdb, 9) >> 6); // the old place is the last byte
    if (format > 1 || (format == 0 && first > 1 && first != LEAD_OUT)) return this.refuse(ILLEGAL_FIELD);
    let length: u32 = 4;
    store<u16>(buffer, 0x0101, 2); // first and last
    if (format == 1 || first <= 1) length = this.putTrack(length, 1, this.place(0, inFrames));
    if (format == 0) length = this.putTrack(length, LEAD_OUT, this.place(this.blocks, inFrames));
    store<u16>(buffer, bswap(<u16>(length - 2)));
    return this.answer(length, load16(cdb + 7));
  }

  private putTrack(at: u32, number: u8, place: u32): u32 {
    store<u32>(buffer + at, ((<u32>DATA_TRACK) << 8) | ((<u32>number) << 16));
    store<u32>(buffer + at, bswap(place), 4);
    return at + 8;
  }

  // Of a block: its number, or minutes, seconds and frames.
  private place(block: u32, inFrames: bool): u32 {
    if (!inFrames) return block;
    const frames = block + LEAD_IN;
    const seconds = frames / FRAMES;
    return ((seconds / 60) << 16) | ((seconds % 60) << 8) | (frames % FRAMES);
  }
}
