// The device model, which attacks the kernel if its VM's command line says so. It must get nothing but statuses.
//
// "hostile=CALLS": guesses capabilities and calls the kernel at random, as fast as it can; "seed=N" says which calls.
// "hostile=sweep": tries every slot in and beyond its table, in each place of each call. Both then end themselves.
// "hostile=hang": comes back from no exit.
// "hostile=flood": writes to the kernel's log at each exit, without end, and is a device model beside that.

import { commRead, commWrite, hypercall, infoRead, log } from "../../../control/lib/binding";
import { CborReader } from "../../../control/lib/cbor";
import { LINK_CONFIG_MAX, readConfig } from "../../../control/lib/link";
import { GPA_GUEST } from "../../../control/gen/abi64";
import {
  CAP_VM,
  CapInfoAt,
  DomainInfoAt,
  GPA_EXIT,
  GPA_RAM,
  GPA_SHARED,
  Hypercall,
  InfoAt,
  ObjectType,
  PAGE_SIZE,
  Status,
} from "../../../control/gen/abi";
import * as model from "../../../control/device-model/index";

export { exitBuffer } from "../../../control/device-model/index";

const bytes: usize = memory.data(LINK_CONFIG_MAX, 16);
const about: usize = memory.data(128, 16);
const FLOOD_LINES: u32 = 100;
const FLOOD_LINE: string = "flood: this line says nothing, and takes the log from others";
/** Slots beyond the table that are tried, and distances at which a number may be cut. */
const BEYOND: u64 = 64;
const CUTS: StaticArray<u64> = [16, 31, 32, 63];
const PLACES: i32 = 4;

let state: u64 = 0;
let floods = false;
let hangs = false;
let turns: u64 = 0;

function random(): u64 {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/** A slot, a small number, an address, or anything. */
function argument(): u64 {
  const value = random();
  switch (<u32>(value >> 32) % 8) {
    case 0:
    case 1:
    case 2:
      return value % 16;
    case 3:
      return value % 4096;
    case 4: {
      const base: u64 = value & 1 ? GPA_GUEST : value & 2 ? GPA_RAM : value & 4 ? GPA_EXIT : GPA_SHARED;
      return base + ((value >> 8) % 64) * PAGE_SIZE;
    }
    case 5:
      return 1 << (value % 64);
    case 6:
      return ~(value % 4096);
    default:
      return value;
  }
}

/**
 * Not what would stop or end it, and not what returns no value; nor what lets its VM fail, with which it would end
 * (bad-entry.ts does that). Last comes what takes away what it has, and what fills the log.
 */
function allowed(number: u32, last: bool): bool {
  if (number <= <u32>Hypercall.ANSWER) return false;
  switch (number) {
    case Hypercall.TRAP:
    case Hypercall.VCPU_START:
      return false;
    case Hypercall.LOG:
    case Hypercall.CAP_DROP:
    case Hypercall.CAP_REVOKE:
      return last;
  }
  return true;
}

function check(number: u32, status: i64): u32 {
  assert(status >= -(<i64>Status.BAD_STATE), "call " + number.toString() + " returned " + status.toString());
  return status >= 0 ? 1 : 0;
}

function attack(calls: u32, last: bool): void {
  let done: u32 = 0;
  for (let n: u32 = 0; n < calls;) {
    const number = <u32>(random() % (Hypercall.COUNT + 2));
    if (!allowed(number, last)) continue;
    if (n % 8 == 0) {
      store<u64>(bytes, random());
      commWrite(<u32>(random() % (PAGE_SIZE / 8)) * 8, bytes, 8);
    }
    const status = hypercall(number, argument(), argument(), argument(), argument(), argument(), argument());
    done += check(number, status);
    n++;
  }
  log("hostile: " + calls.toString() + " calls, " + done.toString() + " done");
}

// --- every slot ---

/** Whom it may know: itself and its VM; and the objects that it was given. */
let self: u32 = 0;
let vm: u32 = 0;
let slots: u64 = 0;
const given: u64[] = [];

/** What this call tells of the slot is in `about`; false: nothing. */
function tells(number: Hypercall, slot: u64): bool {
  const status = hypercall(number, slot, 0, 0, 0, 0, 0);
  check(number, status);
  if (status >= 0) commRead(about, 0, 128);
  return status >= 0;
}

function meet(): void {
  infoRead(about, InfoAt.domain_id, 4);
  self = load<u32>(about);
  assert(tells(Hypercall.DOMAIN_INFO, CAP_VM), "it knows its VM");
  vm = load<u32>(about, DomainInfoAt.id);
  assert(tells(Hypercall.CAP_INFO, 0), "and how many slots it has");
  slots = load<u32>(about, CapInfoAt.slots);
  for (let slot: u64 = 0; slot < slots; slot++)
    if (tells(Hypercall.CAP_INFO, slot) && load<u32>(about, CapInfoAt.type) != <u32>ObjectType.NONE)
      given.push(load<u64>(about, CapInfoAt.object_id));
}

function known(id: u32): bool {
  return id == self || id == vm;
}

/** Nobody else's is in its table, whatever it has called; what it has made itself are channels and timers. */
function look(slot: u64): void {
  const text = "slot " + slot.toString();
  if (tells(Hypercall.DOMAIN_INFO, slot)) assert(known(load<u32>(about, DomainInfoAt.id)), text + ": domain");
  if (!tells(Hypercall.CAP_INFO, slot)) return assert(slot >= slots, text + ": nothing is told");
  assert(slot < slots, text + ": it is beyond the table");
  const type = load<u32>(about, CapInfoAt.type);
  if (type == <u32>ObjectType.DOMAIN || type == <u32>ObjectType.VCPU)
    assert(known(load<u32>(about, CapInfoAt.domain_id)), text + ": of another domain");
  if (type == <u32>ObjectType.NONE || type == <u32>ObjectType.CHANNEL || type == <u32>ObjectType.TIMER)
    return;
  assert(given.includes(load<u64>(about, CapInfoAt.object_id)), text + ": a new object");
}

function guesses(): u64[] {
  const list: u64[] = [];
  for (let slot: u64 = 0; slot < slots + BEYOND; slot++) list.push(slot);
  for (let i = 0; i < CUTS.length; i++)
    for (let slot: u64 = 0; slot < 16; slot++) list.push(((<u64>1) << CUTS[i]) + slot);
  for (let slot: u64 = 0; slot < 16; slot++) list.push(~slot);
  return list;
}

/** Each guess in each place of each call; in the others is nothing, what is small, or its VM. */
function sweep(list: u64[], last: bool): void {
  const a = new StaticArray<u64>(6);
  let calls: u32 = 0;
  let done: u32 = 0;
  for (let number: u32 = 0; number < <u32>Hypercall.COUNT + 2; number++) {
    if (!allowed(number, last) || number == <u32>Hypercall.LOG) continue;
    for (let i = 0; i < list.length; i++)
      for (let n = 0; n < 3 * PLACES; n++) {
        a.fill(n % 3 == 2 ? CAP_VM : n % 3);
        a[n / 3] = list[i];
        done += check(number, hypercall(number, a[0], a[1], a[2], a[3], a[4], a[5]));
        calls++;
      }
  }
  for (let i = 0; i < list.length; i++) look(list[i]);
  log("hostile: " + calls.toString() + " calls swept, " + done.toString() + " done");
}

// --- which of them ---

/** What is behind "name=" in a command line; "": nothing. */
function word(words: string, name: string): string {
  const all = words.split(" ");
  for (let i = 0; i < all.length; i++) if (all[i].startsWith(name)) return all[i].substring(name.length);
  return "";
}

function be(what: string, seed: u64): void {
  if (what == "sweep") {
    meet();
    const list = guesses();
    sweep(list, false);
    sweep(list, true);
  } else {
    state = 0x9e3779b97f4a7c15 + seed * 2;
    const calls = <u32>U32.parseInt(what);
    attack(calls, false);
    attack(calls, true);
  }
  assert(false, "hostile to the end");
}

export function init(): void {
  const length = readConfig(GPA_SHARED, bytes);
  const reader = new CborReader(bytes, length);
  if (reader.find("cmdline")) {
    const words = reader.text();
    const what = word(words, "hostile=");
    const seed = word(words, "seed=");
    floods = what == "flood";
    hangs = what == "hang";
    if (what != "" && !floods && !hangs) be(what, seed == "" ? 0 : U64.parseInt(seed));
  }
  model.init();
}

function flood(): void {
  const length = FLOOD_LINE.length;
  String.UTF8.encodeUnsafe(changetype<usize>(FLOOD_LINE), length, bytes);
  commWrite(0, bytes, length);
  for (let n: u32 = 0; n < FLOOD_LINES; n++)
    check(Hypercall.LOG, hypercall(Hypercall.LOG, length, 0, 0, 0, 0, 0));
}

export function onExit(index: u32): void {
  if (floods) flood();
  while (hangs) turns++;
  model.onExit(index);
}

export function onEvents(bits: u64): void {
  model.onEvents(bits);
}
