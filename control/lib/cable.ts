// The cable between two network cards: memory that two device models share, and the channel that goes with it.
//
//   0x0000  side 0's words: +0 u32 epoch, 0: not plugged in   +4 u32 head of its ring   +8 u32 tail of the other's
//           +12 u32 1: it waits for room in its ring
//   0x0040  side 1's words
//   0x1000  side 0's ring, then side 1's: CABLE_RING bytes each, what that side sends
//
//   record  u32 length of the frame; 10 bytes of virtio-net header; u16 0; the frame; padding to 16 bytes
//
// Positions run from 0 to 2 * CABLE_RING, so that a full ring is not an empty one. Each side takes the other to
// be hostile: what is the other's is loaded once and checked, what is its own is kept here and only published.
// A side is signalled when it may be asleep: the reader if it had read all there was, the writer if it says so.
// The control domain clears the epoch of a side whose device model is gone.

import { channelBind, channelSignal, sharedLoad32, sharedRead, sharedStore32, sharedWrite } from "./binding";
import { GPA_SHARED } from "../gen/abi";

/** Bytes of a ring: the longest frame, and room to go on while it is read. */
export const CABLE_RING: u32 = 0x11000;
/** Size of the memory object in bytes. */
export const CABLE_SIZE: u32 = 0x1000 + 2 * CABLE_RING;
/** Cards that a VM may have, and where its device model finds their cables, channels and events. */
export const MAX_CARDS: u32 = 4;
export const GPA_CABLES: u64 = GPA_SHARED + 0x100000;
export const CABLE_STEP: u64 = 0x40000;
export const CAP_CABLES: u32 = 24;
export const EVENT_CABLES: u32 = 32;

export const RECORD_SIZE: u32 = 16;
/** The longest frame: an IP packet of 64 KiB behind an Ethernet header with two tags. */
export const FRAME_MAX: u32 = 65535 + 14 + 8;

const DATA: u64 = 0x1000;
const SIDE: u64 = 64;
const EPOCH: u64 = 0;
const HEAD: u64 = 4;
const TAIL: u64 = 8;
const WAITING: u64 = 12;
const LAP: u32 = 2 * CABLE_RING;

/** Where a side's words are in the memory object. */
export function cableSide(side: u32): u64 {
  return side * SIDE;
}

function recordSize(length: u32): u32 {
  return (RECORD_SIZE + length + 15) & ~15;
}

function distance(from: u32, to: u32): u32 {
  return to >= from ? to - from : to + LAP - from;
}

function advance(position: u32, by: u32): u32 {
  const to = position + by;
  return to < LAP ? to : to - LAP;
}

/** A position that a peer has written. Nonsense is ~0. */
function loadPosition(at: u64): u32 {
  const position = sharedLoad32(at);
  return position < LAP && !(position & 15) ? position : ~0;
}

/** A place in a ring, where what follows may be split in two. */
class Place {
  constructor(private readonly data: u64) {}

  position: u32 = 0;

  /** Address of the byte `offset` behind the position. */
  address(offset: u32): u64 {
    const at = this.position + offset;
    return this.data + (at % CABLE_RING);
  }

  /** How many bytes lie in one piece from there on. */
  run(offset: u32): u32 {
    return CABLE_RING - ((this.position + offset) % CABLE_RING);
  }
}

export class Cable {
  /** The record being written, and the record being read. */
  readonly out: Place;
  readonly in: Place;

  private readonly mine: u64;
  private readonly peer: u64;
  private epoch: u32 = 0;
  private isPlugged: bool = false;
  private first: u32 = 0; // the head when wake() was last called
  private waits: bool = false; // what is published as WAITING
  private reading: u32 = 0; // size of the record being read

  constructor(
    base: u64,
    side: u32,
    private readonly channel: u32,
  ) {
    this.mine = base + cableSide(side);
    this.peer = base + cableSide(1 - side);
    this.out = new Place(base + DATA + side * <u64>CABLE_RING);
    this.in = new Place(base + DATA + (1 - side) * <u64>CABLE_RING);
    this.epoch = sharedLoad32(this.mine + EPOCH);
    sharedStore32(this.mine + EPOCH, 0);
  }

  /** Signals of the other side set this event from now on. */
  bind(event: u32): i64 {
    return channelBind(this.channel, event);
  }

  signal(): void {
    channelSignal(this.channel);
  }

  /** Whether both ends are plugged in. */
  get isUp(): bool {
    return sharedLoad32(this.peer + EPOCH) != 0;
  }

  /** Plugs this end in: both rings are empty for it. */
  plug(): void {
    const tail = loadPosition(this.peer + TAIL);
    const head = loadPosition(this.peer + HEAD);
    this.out.position = tail == ~0 ? 0 : tail;
    this.in.position = head == ~0 ? 0 : head;
    this.first = this.out.position;
    sharedStore32(this.mine + HEAD, this.out.position);
    sharedStore32(this.mine + TAIL, this.in.position);
    sharedStore32(this.mine + WAITING, 0);
    this.waits = false;
    this.epoch = max<u32>(this.epoch + 1, 1);
    sharedStore32(this.mine + EPOCH, this.epoch);
    this.isPlugged = true;
    this.signal();
  }

  /** The memory may be another cable's: whatever was on its way is lost. */
  change(): void {
    if (this.isPlugged) this.plug();
    else this.pull();
  }

  /** Pulls this end out. */
  pull(): void {
    this.isPlugged = false;
    sharedStore32(this.mine + EPOCH, 0);
    this.signal();
  }

  // --- sending ---

  private hasRoom(length: u32): bool {
    const tail = loadPosition(this.peer + TAIL);
    if (tail == ~0) return false;
    const used = distance(tail, this.out.position);
    return used <= CABLE_RING && recordSize(length) <= CABLE_RING - used;
  }

  /** Whether a frame fits now. If not, the other side signals when there is room. */
  reserve(length: u32): bool {
    if (!this.hasRoom(length)) {
      this.waits = true;
      sharedStore32(this.mine + WAITING, 1);
      if (!this.hasRoom(length)) {
        this.signal();
        return false;
      }
    }
    if (this.waits) sharedStore32(this.mine + WAITING, 0);
    this.waits = false;
    return true;
  }

  /** Copies linear memory into the record being written. */
  write(offset: u32, from: usize, length: u32): void {
    const piece = min(length, this.out.run(offset));
    sharedWrite(this.out.address(offset), from, piece);
    if (piece < length) sharedWrite(this.out.address(offset + piece), from + piece, length - piece);
  }

  /** The record is complete; the other side sees it. */
  commit(length: u32): void {
    this.out.position = advance(this.out.position, recordSize(length));
    sharedStore32(this.mine + HEAD, this.out.position);
  }

  /**
   * After commits: signals the other side if it may be asleep. It is not while it has something to read that
   * was there before: then it looks again when it has read that.
   */
  wake(): void {
    const head = this.out.position;
    const tail = loadPosition(this.peer + TAIL);
    const unread = distance(this.first, head);
    if (tail == ~0 || (tail != head && distance(tail, head) <= unread)) this.signal();
    this.first = head;
  }

  // --- receiving ---

  /** Bytes that can be read. A head that cannot be true empties the ring. */
  get waiting(): u32 {
    const head = loadPosition(this.peer + HEAD);
    const available: u32 = head == ~0 ? 0 : distance(this.in.position, head);
    if (available <= CABLE_RING) return available;
    this.move(head);
    return 0;
  }

  /** Copies the head of the next record to `record`, RECORD_SIZE bytes. False: there is none. */
  next(record: usize): bool {
    const available = this.waiting;
    if (available < RECORD_SIZE) return false;
    sharedRead(record, this.in.address(0), RECORD_SIZE);
    const length = load<u32>(record);
    if (length <= FRAME_MAX && recordSize(length) <= available) {
      this.reading = recordSize(length);
      return true;
    }
    this.drop();
    return false;
  }

  /** Copies bytes of the record being read to linear memory. */
  read(to: usize, offset: u32, length: u32): void {
    const piece = min(length, this.in.run(offset));
    sharedRead(to, this.in.address(offset), piece);
    if (piece < length) sharedRead(to + piece, this.in.address(offset + piece), length - piece);
  }

  /** The record has been read. */
  release(): void {
    this.move(advance(this.in.position, this.reading));
  }

  /** Forgets all that is there to be read. */
  drop(): void {
    const head = loadPosition(this.peer + HEAD);
    if (head != ~0) this.move(head);
  }

  private move(position: u32): void {
    this.in.position = position;
    sharedStore32(this.mine + TAIL, position);
    if (sharedLoad32(this.peer + WAITING) == 1) this.signal();
  }
}
