// What `events` and `audit` print of the past.

import {
  FIELD_EVENTS,
  FIELD_FROM,
  FIELD_HASH,
  FIELD_HEAD,
  FIELD_MAX,
  FIELD_NEXT,
  FIELD_RECORDS,
  FIELD_SEQ,
  FIELD_SINCE,
  OP_EVENTS,
} from "../../protocol/schema";
import { auditResult } from "../audit";
import { commandRun } from "../commands";
import { Event, eventAfter, lastEvent } from "../events";
import { counted, hex } from "../text";
import { Value } from "../value";
import { formatEvent, formatRecord } from "./format";
import { print } from "./screen";

/** So many of the newest, if nobody says how many. */
export const EVENTS_SHOWN: u64 = 20;

/** Says how many events between number `since` and an event are gone; "" for none. */
export function missingEvents(event: Event, since: u64): string {
  const count = event.seq - since - 1;
  return count > 0 ? "(" + counted(count, "event") + " before these are not kept any more)\n" : "";
}

/** The newest events, or those after a number. */
export function printEvents(request: Value): void {
  const wanted = request.getUint(FIELD_MAX, EVENTS_SHOWN);
  let since: u64 = lastEvent() > wanted ? lastEvent() - wanted : 0;
  if (request.get(FIELD_SINCE) != null) {
    const next = request.getUint(FIELD_SINCE);
    since = request.get(FIELD_MAX) != null ? max(since, next) : next;
    const event = eventAfter(since);
    if (event != null && since == next) print(missingEvents(event, since));
  }
  for (;;) {
    const page = commandRun(OP_EVENTS, Value.map().putUint(FIELD_SINCE, since))!.result!;
    const events = page.getList(FIELD_EVENTS);
    if (events.length == 0) break;
    for (let i = 0; i < events.length; i++) print(formatEvent(events[i]));
    since = page.getUint(FIELD_NEXT);
  }
}

/** The newest records of the audit log, and the hash that stands for all there ever were. */
export function printAudit(count: u64): void {
  const end = Value.map().putUint(FIELD_FROM, (<u64>1) << 52);
  const head = auditResult(end).result!.get(FIELD_HEAD)!;
  const newest = head.getUint(FIELD_SEQ);
  let from: u64 = newest > count ? newest - count + 1 : 1;
  while (from <= newest) {
    const page = auditResult(Value.map().putUint(FIELD_FROM, from)).result!;
    const records = page.getList(FIELD_RECORDS);
    for (let i = 0; i < records.length; i++) print(formatRecord(records[i].blob));
    from = page.getUint(FIELD_NEXT, newest + 1);
  }
  print("hash of record " + newest.toString() + ": " + hex(head.get(FIELD_HASH)!.blob) + "\n");
}
