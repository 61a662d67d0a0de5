// The control domain: starts everything, then answers events. Each event is handled to its end.

import { ABI_VERSION, EVENT_DOMAIN } from "../gen/abi";
import { capDrop, log, now, timerCreate, timerSet } from "../lib/binding";
import { auditTick } from "./audit";
import { balloonsTick } from "./balloons";
import { clockStart } from "./clock";
import { bootAgain, bootFresh, bootProblems } from "./boot";
import { eventsFollow, eventsListen } from "./events";
import { hostRead, info, tscAt, uptimeMs } from "./host";
import { linesEvent, linesFlush, linesQueued, linesStart, linesTick, mainLine } from "./line";
import { policyHear, policyTick } from "./policy";
import { portsTick } from "./ports";
import { sessionStart } from "./session";
import { shellEvent, shellNotice, shellReceive, shellSource, shellStart, shellTick } from "./shell/shell";
import { EVENT_TIMER, EVENT_UART, SLOT_TIMER } from "./slots";
import { stashOpen } from "./stash";
import { upgradeReady, upgradeTick } from "./upgrade";
import { BUILD, PRODUCT, VERSION } from "./version";
import { vmsDomainEvent, vmsLinkEvents, vmsTick } from "./vm-watch";
import { scalingTick } from "./scaling";

/** Links that had more to read than one event's share: bit n is event n. */
let unfinished: u64 = 0;

/** While a line has something to send, it is looked after this often even without an interrupt. */
const LINE_CHECK_MS: u64 = 2;
/** And this often when it has nothing: what was typed is seen even if its interrupt was lost. */
const IDLE_CHECK_MS: u64 = 250;

export function init(): void {
  hostRead();
  assert(info().abi_version == ABI_VERSION, "the kernel's ABI version is not that of this control domain");
  const again = stashOpen();
  capDrop(SLOT_TIMER);
  timerCreate(SLOT_TIMER, EVENT_TIMER);
  const line = linesStart();
  clockStart();
  mainLine.add(shellSource);
  sessionStart(shellReceive);
  shellNotice("\n" + PRODUCT + " " + VERSION + " (" + BUILD + ")");
  if (!line) log("control: there is no COM1, so there is no shell");
  eventsFollow(policyHear);
  const summary = again ? bootAgain() : bootFresh();
  const problems = bootProblems();
  for (let i = 0; i < problems.length; i++) shellNotice("error: " + problems[i]);
  shellNotice(summary);
  shellNotice('Type "help" for the commands.');
  eventsListen(shellEvent);
  shellStart();
  finish(u64.MAX_VALUE);
  upgradeReady();
}

export function onEvents(bits: u64): void {
  const all = bits | unfinished;
  unfinished = 0;
  if ((all & (((<u64>1) << EVENT_UART) | ((<u64>1) << EVENT_TIMER))) != 0) linesEvent();
  if ((all & ((<u64>1) << EVENT_DOMAIN)) != 0) vmsDomainEvent();
  for (let event: u32 = EVENT_TIMER + 1; event < 64; event++) {
    if (((all >> event) & 1) == 0) continue;
    if (vmsLinkEvents(event)) unfinished |= (<u64>1) << event;
  }
  linesFlush();
  finish(upgradeTick(uptimeMs()));
}

/** Does what is due, sends what there is, and sets the timer for what comes next, at `due` at the latest. */
function finish(due: u64): void {
  const time = uptimeMs();
  policyTick(time);
  let next = min(min(vmsTick(time), portsTick(time)), min(min(linesTick(time), shellTick(time)), due));
  next = min(min(next, balloonsTick(time)), scalingTick(time));
  if (unfinished != 0) next = time;
  linesFlush();
  auditTick(time);
  next = min(next, time + (linesQueued() > 0 ? LINE_CHECK_MS : IDLE_CHECK_MS));
  timerSet(SLOT_TIMER, next <= time ? now() : tscAt(next + 1));
}
