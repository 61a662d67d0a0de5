// The link: memory shared by the control domain and one device model, and the channel that goes with it.
//
//   0x00000  config: u32 length, then one CBOR map
//   0x01000  ring headers, 64 bytes apart: events, commands, console out, console in
//   0x02000  events ring, 4 KiB          device model -> control: u16 length + CBOR map
//   0x03000  commands ring, 4 KiB        control -> device model: u16 length + CBOR map
//   0x04000  console in, 4 KiB           control -> device model: bytes
//   0x06000  console out, 64 KiB         device model -> control: bytes; the writer never waits
//
// After writing, signal(): one signal may cover many writes. Messages and what is in them are hostile.

import { channelBind, channelSignal, sharedLoad32, sharedRead, sharedStore32, sharedWrite } from "./binding";
import { LoopReader, LoopWriter, RingReader, RingWriter } from "./ring";

/** Size of the memory object in bytes. */
export const LINK_SIZE: u32 = 0x16000;
/** The longest configuration in bytes. */
export const LINK_CONFIG_MAX: u32 = 4092;
/** The longest message in bytes. */
export const LINK_MESSAGE_MAX: u32 = 4094;

const HEADERS: u64 = 0x1000;
const EVENTS: u64 = 0x2000;
const COMMANDS: u64 = 0x3000;
const CONSOLE_IN: u64 = 0x4000;
const CONSOLE_OUT: u64 = 0x6000;
const SMALL: u32 = 0x1000;
const LARGE: u32 = 0x10000;

/** Header address of ring 0..3: events, commands, console out, console in. */
function header(base: u64, ring: u64): u64 {
  return base + HEADERS + ring * 64;
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
