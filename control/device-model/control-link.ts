// The way to the control domain: the configuration, the events that go out, the commands that come in.
//
// Messages (u16 length + CBOR map, see control/lib/link.ts):
//   out  {t:"ready"}  {t:"error", object, message, next}  {t:"off"}  {t:"reset"}  {t:"ended", reason, value}
//   in   {t:"run"}  {t:"powerbutton"}  {t:"trap"}

import { log } from "../lib/binding";
import { CborReader, CborWriter, cborValid } from "../lib/cbor";
import { LINK_CONFIG_MAX, ModelLink, readConfig } from "../lib/link";
import { LINK_POWER_BUTTON, LINK_RUN, LINK_TRAP } from "../protocol/schema";
import { CAP_LINK, EVENT_FREE, GPA_SHARED } from "../gen/abi";

/** Event bit of the control domain's signals. */
export const EVENT_LINK: u32 = EVENT_FREE;

export const link = new ModelLink(GPA_SHARED, CAP_LINK);

/** At most this many disks. */
export const MAX_DISKS: u32 = 4;

/** A disk: memory that the control domain has mapped. */
export class Disk {
  size: u64 = 0;
  readOnly: bool = false;
  /** Whether its image has still to be copied to it. */
  fresh: bool = false;
}

/** What the control domain wants this VM to be. */
export class Config {
  name: string = "";
  memory: u64 = 0;
  vcpus: u32 = 1;
  kernelSize: u64 = 0;
  initrdSize: u64 = 0;
  wallClock: u64 = 0;
  tscHz: u64 = 0;
  disks: Disk[] = [];
  virtioConsole: bool = false;
  /** The command line stays where it was read: in configBytes. */
  cmdline: usize = 0;
  cmdlineLength: u32 = 0;
}

const configBytes: usize = memory.data(LINK_CONFIG_MAX, 8);
const messageBytes: usize = memory.data(1024, 8);
const MESSAGE_MAX: u32 = 1024;
const writer = new CborWriter(messageBytes, MESSAGE_MAX);

/** Reads the configuration; null if it is nonsense. */
export function loadConfig(): Config | null {
  const length = readConfig(GPA_SHARED, configBytes);
  if (length <= 0 || !cborValid(configBytes, length)) return null;
  const reader = new CborReader(configBytes, length);
  const config = new Config();
  const pairs = reader.map();
  for (let i: u32 = 0; i < pairs && reader.ok; i++) readField(config, reader);
  return reader.ok ? config : null;
}

function readField(config: Config, reader: CborReader): void {
  reader.key();
  if (reader.is("name")) config.name = reader.text();
  else if (reader.is("memory")) config.memory = reader.uint();
  else if (reader.is("vcpus")) config.vcpus = <u32>reader.uint();
  else if (reader.is("kernelSize")) config.kernelSize = reader.uint();
  else if (reader.is("initrdSize")) config.initrdSize = reader.uint();
  else if (reader.is("wallClock")) config.wallClock = reader.uint();
  else if (reader.is("tscHz")) config.tscHz = reader.uint();
  else if (reader.is("console")) config.virtioConsole = reader.text() == "virtio";
  else if (reader.is("disks")) readDisks(config, reader);
  else if (reader.is("cmdline")) {
    config.cmdlineLength = reader.key();
    config.cmdline = reader.span;
  } else reader.skip();
}

function readDisks(config: Config, reader: CborReader): void {
  const count = reader.array();
  for (let i: u32 = 0; i < count && reader.ok; i++) {
    const disk = new Disk();
    const pairs = reader.map();
    for (let n: u32 = 0; n < pairs && reader.ok; n++) {
      reader.key();
      if (reader.is("size")) disk.size = reader.uint();
      else if (reader.is("readOnly")) disk.readOnly = reader.bool();
      else if (reader.is("fresh")) disk.fresh = reader.bool();
      else reader.skip();
    }
    config.disks.push(disk);
  }
}

function open(kind: string, pairs: u32): void {
  writer.clear();
  writer.map(pairs);
  field("t", kind);
}

function field(key: string, value: string): void {
  writer.text(key);
  writer.text(value);
}

function send(): void {
  if (!writer.ok || !link.events.send(messageBytes, writer.length)) log("device model: an event was lost");
  link.signal();
}

/** An event that has nothing but its kind: "ready", "off", "reset". */
export function sendEvent(kind: string): void {
  open(kind, 1);
  send();
}

export function sendError(object: string, message: string, next: string): void {
  open("error", 4);
  field("object", object);
  field("message", message);
  field("next", next);
  send();
}

export function sendEnded(reason: string, value: u64): void {
  open("ended", 3);
  field("reason", reason);
  writer.text("value");
  writer.uint(value);
  send();
}

/** Kinds of commands. */
export const enum Command {
  NONE = 0,
  RUN = 1,
  POWER_BUTTON = 2,
  TRAP = 3,
  UNKNOWN = 4,
}

/** Takes the next command of the control domain. */
export function nextCommand(): Command {
  const length = link.commands.receive(messageBytes, MESSAGE_MAX);
  if (length == 0) return Command.NONE;
  if (length < 0 || !cborValid(messageBytes, length)) return Command.UNKNOWN;
  const reader = new CborReader(messageBytes, length);
  if (!reader.find("t")) return Command.UNKNOWN;
  reader.key();
  if (reader.is(LINK_RUN)) return Command.RUN;
  if (reader.is(LINK_TRAP)) return Command.TRAP;
  return reader.is(LINK_POWER_BUTTON) ? Command.POWER_BUTTON : Command.UNKNOWN;
}
