// Balloons by policy: a host that lacks memory takes back from VMs whose specification has a floor, in proportion to what
// each has above it; when there is room again they get it back.
//
// Only memory that a driver has given counts. A VM that does not give what it was asked for within a while is not asked
// for more: it has no driver, or does not want to.

import { PAGE_SIZE } from "../gen/abi";
import { Count, LINK_COUNTERS_SIZE, LINK_COUNTERS_STEP } from "../lib/link";
import { EVENT_VM_RELAXED, EVENT_VM_SQUEEZED, STATE_RUNNING } from "../protocol/schema";
import { emit } from "./events";
import { freePages, hostNow, uptimeMs } from "./host";
import { mib } from "./text";
import { Vm } from "./vm";
import { vmSendTarget } from "./vm-actions";
import { vmsAll, vmSave } from "./vms";

/** The virtio id of a balloon. */
const BALLOON: u32 = 5;
const MIB: u64 = 1 << 20;
const TICK_MS: u64 = 1000;
/** So long a driver may take to give what it is asked for. */
const ANSWER_MS: u64 = 10000;
/** With less than this part of its memory free a host takes back, until twice as much is. */
const LOW_PART: u64 = 16;
/** So long a start that found no room is remembered. */
const WANTED_MS: u64 = 60000;

const counters: usize = memory.data(128, 16);
let nextTick: u64 = 0;
let wanted: u64 = 0;
let wantedUntil: u64 = 0;

/** Reads what is counted of a VM's balloon to `to`, a place for Count.COUNT numbers. False: it has none. */
export function balloonRead(vm: Vm, to: usize): bool {
  const link = vm.link;
  if (link == null || !vm.alive) return false;
  for (let i: u32 = 0; i < LINK_COUNTERS_SIZE / LINK_COUNTERS_STEP; i++) {
    link.readCounters(i, to);
    if (load<u32>(to) == BALLOON) return true;
  }
  return false;
}

/** Bytes that a VM's driver has given; it and the device model can say what they like. */
export function balloonGiven(vm: Vm): u64 {
  if (!balloonRead(vm, counters)) return 0;
  return min(load<u64>(counters + <usize>Count.BALLOON_PAGES * 8), vm.spec.memory / PAGE_SIZE) * PAGE_SIZE;
}

/** A VM from which the policy may take. */
class Giver {
  given: u64 = 0;
  asked: u64 = 0;
  /** What it may still be asked for. */
  spare: u64 = 0;
  /** It gives what it was asked for, or has not had the time. */
  answers: bool = true;

  constructor(
    public vm: Vm,
    now: u64,
  ) {
    this.given = balloonGiven(vm);
    this.asked = vm.spec.memory - vm.leaves;
    this.answers = this.given >= this.asked || now - vm.heldAt < ANSWER_MS;
    if (this.answers && vm.leaves > vm.spec.floor) this.spare = vm.leaves - vm.spec.floor;
  }

  hold(bytes: u64, now: u64): void {
    this.vm.held = bytes;
    this.vm.heldAt = now;
    vmSave(this.vm);
    vmSendTarget(this.vm);
  }
}

function givers(now: u64): Giver[] {
  const out: Giver[] = [];
  const all = vmsAll();
  for (let i = 0; i < all.length; i++)
    if (all[i].spec.floor > 0 && all[i].alive && all[i].state == STATE_RUNNING)
      out.push(new Giver(all[i], now));
  return out;
}

/** A start needs so much; what VMs can give back for it, in bytes. */
export function balloonsWant(bytes: u64): u64 {
  const now = uptimeMs();
  const list = givers(now);
  let spare: u64 = 0;
  for (let i = 0; i < list.length; i++) spare += list[i].spare;
  if (spare == 0) return 0;
  wanted = bytes;
  wantedUntil = now + WANTED_MS;
  nextTick = now;
  return spare;
}

/** Looks at the host's memory when it is time to. Returns when to look again. */
export function balloonsTick(now: u64): u64 {
  if (now < nextTick) return nextTick;
  const list = givers(now);
  nextTick = now + TICK_MS;
  if (list.length > 0) balance(list, now);
  return nextTick;
}

function balance(list: Giver[], now: u64): void {
  if (now >= wantedUntil) wanted = 0;
  const part = (hostNow().total_pages * PAGE_SIZE) / LOW_PART;
  const low = max(part, wanted);
  const high = low + part;
  let free = freePages() * PAGE_SIZE;
  let owed: u64 = 0; /* what VMs may take back and have not */
  for (let i = 0; i < list.length; i++) {
    const giver = list[i];
    if (giver.asked > giver.given && giver.answers) free += giver.asked - giver.given;
    if (giver.given > giver.asked) owed += giver.given - giver.asked;
  }
  free = free > owed ? free - owed : 0;
  if (free < low) squeeze(list, high - free, free, now);
  else if (free > high) relax(list, free - high, now);
}

/** The part of `all` that goes with `mine` of `sum`, in whole MiB. */
function partOf(all: u64, mine: u64, sum: u64): u64 {
  return (((all / MIB) * (mine / MIB)) / max<u64>(sum / MIB, 1)) * MIB;
}

function squeeze(list: Giver[], need: u64, free: u64, now: u64): void {
  let spare: u64 = 0;
  for (let i = 0; i < list.length; i++) spare += list[i].spare;
  for (let i = 0; i < list.length; i++) {
    const vm = list[i].vm;
    const take = min(list[i].spare, partOf(need, list[i].spare, spare) + MIB);
    if (take == 0) continue;
    if (vm.held == 0) emit(EVENT_VM_SQUEEZED, vm.name, "gives memory back: the host has " + mib(free));
    list[i].hold(vm.held + take, now);
  }
}

function relax(list: Giver[], room: u64, now: u64): void {
  let held: u64 = 0;
  for (let i = 0; i < list.length; i++) held += list[i].vm.held;
  for (let i = 0; i < list.length; i++) {
    const vm = list[i].vm;
    const give = min(vm.held, partOf(room, vm.held, held));
    if (give == 0) continue;
    list[i].hold(vm.held - give, now);
    if (vm.held == 0) emit(EVENT_VM_RELAXED, vm.name, "has all its memory again");
  }
}
