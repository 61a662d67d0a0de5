// The link: memory shared by the control domain and one device model, and the channel that goes with it.
//
//   0x00000  config: u32 length, then one CBOR map
//   0x01000  ring headers, 64 bytes apart: events, commands, console out, console in
//   0x02000  events ring, 4 KiB          device model -> control: u16 length + CBOR map
//   0x03000  commands ring, 4 KiB        control -> device model: u16 length + CBOR map
//   0x04000  console in, 4 KiB           control -> device model: bytes
//   0x05000  counters, 128 bytes a device: device model -> control: u64 values, see Count
//   0x06000  console out, 64 KiB         device model -> control: bytes; the writer never waits
//   0x16000  ports, 4 KiB each           half a page of bytes from, half a page to the VM; both writers wait
//
// The ring headers of port n are 4 + 2n (from the VM) and 5 + 2n (to it). Behind head and tail they have
//   +8  u32  the writer's session: odd while it has the port open, another number after each change
//   +12 u32  where the bytes of this session begin: what is before it belongs to one that has ended
//
// After writing, signal(): one signal may cover many writes. Messages and what is in them are hostile.

import { channelBind, channelSignal, sharedLoad32, sharedRead, sharedStore32, sharedWrite } from "./binding";
import { LoopReader, LoopWriter, RingReader, RingWriter } from "./ring";

/** Size of the memory object in bytes, and what each port adds. */
export const LINK_SIZE: u32 = 0x16000;
export const LINK_PORT_SIZE: u32 = 0x1000;
/** The longest configuration in bytes. */
export const LINK_CONFIG_MAX: u32 = 4092;
/** The longest message in bytes. */
export const LINK_MESSAGE_MAX: u32 = 4094;

/** What is counted of a device: places of u64 values. */
export const enum Count {
  /** The virtio id; bit 32: its link is up. */
  KIND = 0,
  NOTIFIES = 1,
  INTERRUPTS = 2,
  /** Buffers given back, and bytes in them that the device has read, and has written. */
  REQUESTS = 3,
  BYTES_OUT = 4,
  BYTES_IN = 5,
  COMMON = 6,
  /* Network: frames and their bytes, sent and received by the VM, and frames that were not. */
  FRAMES_OUT = 6,
  FRAMES_IN = 7,
  FRAME_BYTES_OUT = 8,
  FRAME_BYTES_IN = 9,
  DROPS_OUT = 10,
  DROPS_IN = 11,
  /* Balloon: pages that the driver has given. */
  BALLOON_PAGES = 6,
  /* And what it says of the VM's memory, in bytes, and of its major faults; a total of 0: nothing yet. */
  STAT_TOTAL = 7,
  STAT_FREE = 8,
  STAT_AVAILABLE = 9,
  STAT_CACHES = 10,
  STAT_MAJOR_FAULTS = 11,
  COUNT = 12,
}
export const COUNT_LINK_UP: u64 = 1 << 32;

/** Where the counters are, and how far those of two devices are apart. */
export const LINK_COUNTERS: u64 = 0x5000;
export const LINK_COUNTERS_SIZE: u32 = 0x1000;
export const LINK_COUNTERS_STEP: u32 = 128;

const HEADERS: u64 = 0x1000;
const EVENTS: u64 = 0x2000;
const COMMANDS: u64 = 0x3000;
const CONSOLE_IN: u64 = 0x4000;
const CONSOLE_OUT: u64 = 0x6000;
const PORTS: u64 = LINK_SIZE;
const PORT: u32 = LINK_PORT_SIZE / 2;
const SMALL: u32 = 0x1000;
const LARGE: u32 = 0x10000;

/** Header address of ring 0..3: events, commands, console out, console in; then those of ports. */
function header(base: u64, ring: u64): u64 {
  return base + HEADERS + ring * 64;
}

const SESSION: u64 = 8;
const FIRST: u64 = 12;

function fromVm(base: u64, port: u64): u64 {
  return header(base, 4 + 2 * port);
}

function toVm(base: u64, port: u64): u64 {
  return header(base, 5 + 2 * port);
}

/** A port at the device model's end. */
export class ModelPort {
  readonly out: RingWriter;
  readonly in: RingReader;

  constructor(
    private readonly base: u64,
    private readonly index: u32,
  ) {
    const data = base + PORTS + index * LINK_PORT_SIZE;
    this.out = new RingWriter(fromVm(base, index), data, PORT);
    this.in = new RingReader(toVm(base, index), data + PORT, PORT);
  }

  set session(value: u32) {
    sharedStore32(fromVm(this.base, this.index) + SESSION, value);
  }

  /** The session of the host's side, and where it begins. */
  get hostSession(): u32 {
    return sharedLoad32(toVm(this.base, this.index) + SESSION);
  }

  get hostFirst(): u32 {
    return sharedLoad32(toVm(this.base, this.index) + FIRST);
  }
}

/** A port at the control domain's end. */
export class ControlPort {
  readonly out: RingReader;
  readonly in: RingWriter;

  constructor(
    private readonly base: u64,
    private readonly index: u32,
  ) {
    const data = base + PORTS + index * LINK_PORT_SIZE;
    this.out = new RingReader(fromVm(base, index), data, PORT);
    this.in = new RingWriter(toVm(base, index), data + PORT, PORT);
  }

  /** The session of the VM's side. */
  get guestSession(): u32 {
    return sharedLoad32(fromVm(this.base, this.index) + SESSION);
  }

  get session(): u32 {
    return sharedLoad32(toVm(this.base, this.index) + SESSION);
  }

  /** Begins or ends a session: nothing that was written before and not read is for the VM any more. */
  set session(value: u32) {
    sharedStore32(toVm(this.base, this.index) + FIRST, this.in.position);
    sharedStore32(toVm(this.base, this.index) + SESSION, value);
  }

  /** Bytes that the VM has not taken yet. */
  get unread(): u32 {
    return PORT - this.in.room;
  }
}

/** What both ends have. */
export class Link {
  constructor(
    readonly base: u64,
    readonly channel: u32,
  ) {}

  /** Tells the other end that there is something to read, or room to write. */
  signal(): void {
    channelSignal(this.channel);
  }

  /** Signals of the other end set this event from now on. Returns a negated Status on error. */
  bind(event: u32): i64 {
    return channelBind(this.channel, event);
  }
}

/** The control domain's end, over memory that is mapped at `base`. */
export class ControlLink extends Link {
  readonly events: RingReader;
  readonly commands: RingWriter;
  /** What the VM has printed; keeps the last 63 KiB for everyone who attaches. */
  readonly consoleOut: LoopReader;
  /** Keys for the VM. */
  readonly consoleIn: RingWriter;

  constructor(base: u64, channel: u32) {
    super(base, channel);
    this.events = new RingReader(header(base, 0), base + EVENTS, SMALL);
    this.commands = new RingWriter(header(base, 1), base + COMMANDS, SMALL);
    this.consoleOut = new LoopReader(header(base, 2), base + CONSOLE_OUT, LARGE);
    this.consoleIn = new RingWriter(header(base, 3), base + CONSOLE_IN, SMALL);
  }

  /** Copies what device `index` has counted to `to`, Count.COUNT values; they are the device model's word. */
  readCounters(index: u32, to: usize): void {
    sharedRead(to, this.base + LINK_COUNTERS + index * LINK_COUNTERS_STEP, Count.COUNT * 8);
  }

  /** Sets the configuration, before the device model starts. False: too long. */
  writeConfig(from: usize, length: u32): bool {
    if (length > LINK_CONFIG_MAX) return false;
    sharedWrite(this.base + 4, from, length);
    sharedStore32(this.base, length);
    return true;
  }
}

/** The device model's end: `new ModelLink(GPA_SHARED, CAP_LINK)`. */
export class ModelLink extends Link {
  readonly events: RingWriter;
  readonly commands: RingReader;
  readonly consoleOut: LoopWriter;
  readonly consoleIn: RingReader;

  constructor(base: u64, channel: u32) {
    super(base, channel);
    this.events = new RingWriter(header(base, 0), base + EVENTS, SMALL);
    this.commands = new RingReader(header(base, 1), base + COMMANDS, SMALL);
    this.consoleOut = new LoopWriter(header(base, 2), base + CONSOLE_OUT, LARGE);
    this.consoleIn = new RingReader(header(base, 3), base + CONSOLE_IN, SMALL);
  }
}

/** Reads the configuration of a link to `to`, LINK_CONFIG_MAX bytes: its length, -1: nonsense. */
export function readConfig(base: u64, to: usize): i32 {
  const length = sharedLoad32(base);
  if (length > LINK_CONFIG_MAX) return -1;
  sharedRead(to, base + 4, length);
  return <i32>length;
}
