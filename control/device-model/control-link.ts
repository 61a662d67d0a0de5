// The way to the control domain: the configuration, the events that go out, the commands that come in.
//
// Messages (u16 length + CBOR map, see control/lib/link.ts):
//   out  {t:"ready"}  {t:"error", object, message, next}  {t:"off", value?}  {t:"reset"}  {t:"ended", reason, value}
//   in   {t:"run"}  {t:"powerbutton"}  {t:"balloon", value: pages}  {t:"stats"}  {t:"trap"}
//        {t:"reborn", name, generation: 16 bytes, wallClock, addresses: of the cards, clone}

import { log } from "../lib/binding";
import { CborReader, CborWriter, cborValid } from "../lib/cbor";
import { LINK_CONFIG_MAX, ModelLink, readConfig } from "../lib/link";
import {
  BOOT_AUTO,
  FIELD_GENERATION,
  LINK_ADDRESSES,
  LINK_BALLOON,
  LINK_CLONE,
  LINK_POWER_BUTTON,
  LINK_REBORN,
  LINK_RUN,
  LINK_STATS,
  LINK_TRAP,
  LINK_VALUE,
  LINK_WALL_CLOCK,
} from "../protocol/schema";
import { CAP_LINK, EVENT_FREE, GPA_SHARED } from "../gen/abi";
import { GENERATION_SIZE } from "./generation";

/** Event bit of the control domain's signals. */
export const EVENT_LINK: u32 = EVENT_FREE;

export const link = new ModelLink(GPA_SHARED, CAP_LINK);

/** At most this many disks. */
export const MAX_DISKS: u32 = 4;
/** At most this many named ports: what a link has rings for. */
export const MAX_PORTS: u32 = 4;

/** A disk: memory that the control domain has mapped. */
export class Disk {
  size: u64 = 0;
  readOnly: bool = false;
  isCd: bool = false;
  /** Whether its image has still to be copied to it. */
  fresh: bool = false;
}

/** A module for the VM's kernel, mapped behind the one before it. */
export class ModuleConfig {
  size: u64 = 0;
  /** Its command line stays in configBytes. */
  cmdline: usize = 0;
  cmdlineLength: u32 = 0;
}

/** A network card, and its end of a cable. */
export class Card {
  /** Its address, first byte lowest. */
  address: u64 = 0;
  side: u32 = 0;
}

/** What the control domain wants this VM to be. */
export class Config {
  name: string = "";
  memory: u64 = 0;
  vcpus: u32 = 1;
  /** How it starts: BOOT_AUTO and so on. */
  boot: string = BOOT_AUTO;
  /** What the specification calls the image that it starts from. */
  kernel: string = "";
  kernelSize: u64 = 0;
  initrdSize: u64 = 0;
  /** Of the firmware to start from; 0: it starts from a kernel. */
  firmwareSize: u64 = 0;
  /** Of the flash memory that it starts with, and whether that has still to be filled from the image. */
  flashSize: u64 = 0;
  flashFresh: bool = false;
  wallClock: u64 = 0;
  /** The VM's first generation ID, in configBytes; 0: any. */
  generation: usize = 0;
  tscHz: u64 = 0;
  physicalBits: u64 = 0;
  modules: ModuleConfig[] = [];
  disks: Disk[] = [];
  cards: Card[] = [];
  virtioConsole: bool = false;
  /** Names of the ports beside the console. */
  ports: string[] = [];
  /** Packed rings are not offered. */
  splitRings: bool = false;
  debugExit: bool = false;
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
  else if (reader.is("boot")) config.boot = reader.text();
  else if (reader.is("kernel")) config.kernel = reader.text();
  else if (reader.is("debugExit")) config.debugExit = reader.bool();
  else if (reader.is("modules")) readModules(config, reader);
  else if (reader.is("kernelSize")) config.kernelSize = reader.uint();
  else if (reader.is("initrdSize")) config.initrdSize = reader.uint();
  else if (reader.is("firmwareSize")) config.firmwareSize = reader.uint();
  else if (reader.is("flashSize")) config.flashSize = reader.uint();
  else if (reader.is("flashFresh")) config.flashFresh = reader.bool();
  else if (reader.is("wallClock")) config.wallClock = reader.uint();
  else if (reader.is(FIELD_GENERATION)) {
    if (reader.bytes() == GENERATION_SIZE) config.generation = reader.span;
  } else if (reader.is("tscHz")) config.tscHz = reader.uint();
  else if (reader.is("physicalBits")) config.physicalBits = reader.uint();
  else if (reader.is("console")) config.virtioConsole = reader.text() == "virtio";
  else if (reader.is("ports")) readPorts(config, reader);
  else if (reader.is("networks")) readCards(config, reader);
  else if (reader.is("rings")) config.splitRings = reader.text() == "split";
  else if (reader.is("disks")) readDisks(config, reader);
  else if (reader.is("cmdline")) {
    config.cmdlineLength = reader.key();
    config.cmdline = reader.span;
  } else reader.skip();
}

function readPorts(config: Config, reader: CborReader): void {
  const count = reader.array();
  for (let i: u32 = 0; i < count && reader.ok; i++) config.ports.push(reader.text());
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
      else if (reader.is("cdrom")) disk.isCd = reader.bool();
      else if (reader.is("fresh")) disk.fresh = reader.bool();
      else reader.skip();
    }
    config.disks.push(disk);
  }
}

function readModules(config: Config, reader: CborReader): void {
  const count = reader.array();
  for (let i: u32 = 0; i < count && reader.ok; i++) {
    const module = new ModuleConfig();
    const pairs = reader.map();
    for (let n: u32 = 0; n < pairs && reader.ok; n++) {
      reader.key();
      if (reader.is("size")) module.size = reader.uint();
      else if (reader.is("cmdline")) {
        module.cmdlineLength = reader.key();
        module.cmdline = reader.span;
      } else reader.skip();
    }
    config.modules.push(module);
  }
}

function readCards(config: Config, reader: CborReader): void {
  const count = reader.array();
  for (let i: u32 = 0; i < count && reader.ok; i++) {
    const card = new Card();
    const pairs = reader.map();
    for (let n: u32 = 0; n < pairs && reader.ok; n++) {
      reader.key();
      if (reader.is("address")) card.address = reader.uint();
      else if (reader.is("side")) card.side = <u32>reader.uint();
      else reader.skip();
    }
    config.cards.push(card);
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

/** The VM has switched itself off with an exit code. */
export function sendOff(code: u32): void {
  open("off", 2);
  writer.text("value");
  writer.uint(code);
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
  BALLOON = 4,
  STATS = 5,
  REBORN = 6,
  UNKNOWN = 7,
}

/** What came with the last command. */
export let commandValue: u64 = 0;

/** What the VM is from now on, which goes on from a snapshot. */
export class Rebirth {
  name: string = "";
  /** Its generation ID, where the message is. */
  generation: usize = 0;
  wallClock: u64 = 0;
  /** Of its network cards, first byte lowest. */
  addresses: u64[] = [];
  /** It is another VM than the one of the snapshot, which may go on too. */
  isClone: bool = false;
}

/** What came with the last REBORN. */
export let rebirth: Rebirth = new Rebirth();

/** Takes the next command of the control domain. */
export function nextCommand(): Command {
  const length = link.commands.receive(messageBytes, MESSAGE_MAX);
  if (length == 0) return Command.NONE;
  if (length < 0 || !cborValid(messageBytes, length)) return Command.UNKNOWN;
  const reader = new CborReader(messageBytes, length);
  if (!reader.find("t")) return Command.UNKNOWN;
  reader.key();
  if (reader.is(LINK_RUN)) return Command.RUN;
  if (reader.is(LINK_STATS)) return Command.STATS;
  if (reader.is(LINK_TRAP)) return Command.TRAP;
  if (reader.is(LINK_POWER_BUTTON)) return Command.POWER_BUTTON;
  if (reader.is(LINK_REBORN)) return readRebirth(length) ? Command.REBORN : Command.UNKNOWN;
  if (!reader.is(LINK_BALLOON)) return Command.UNKNOWN;
  const again = new CborReader(messageBytes, length);
  if (!again.find(LINK_VALUE)) return Command.UNKNOWN;
  commandValue = again.uint();
  return again.ok ? Command.BALLOON : Command.UNKNOWN;
}

function readRebirth(length: u32): bool {
  const reader = new CborReader(messageBytes, length);
  const found = new Rebirth();
  const pairs = reader.map();
  for (let i: u32 = 0; i < pairs && reader.ok; i++) {
    reader.key();
    if (reader.is("name")) found.name = reader.text();
    else if (reader.is(FIELD_GENERATION)) {
      if (reader.bytes() == GENERATION_SIZE) found.generation = reader.span;
    } else if (reader.is(LINK_WALL_CLOCK)) found.wallClock = reader.uint();
    else if (reader.is(LINK_CLONE)) found.isClone = reader.bool();
    else if (reader.is(LINK_ADDRESSES)) {
      const count = reader.array();
      for (let n: u32 = 0; n < count && reader.ok; n++) found.addresses.push(reader.uint());
    } else reader.skip();
  }
  rebirth = found;
  return reader.ok && found.generation != 0;
}
