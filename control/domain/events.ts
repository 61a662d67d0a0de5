// What has happened: the last 256 events, numbered from 1, for the shell, for programs and for a successor.

import { FIELD_AT, FIELD_KIND, FIELD_SEQ, FIELD_TEXT, FIELD_VM, Protocol } from "../protocol/schema";
import { uptimeMs } from "./host";
import { stashEvent, stashEventOf, stashLastEvent } from "./stash";
import { clean } from "./text";
import { Value } from "./value";

const MAX_TEXT = 150;

export class Event {
  constructor(
    public seq: u64,
    public at: u64,
    public kind: string,
    public vm: string,
    public text: string,
    /** What it was decided on, for the audit log. */
    public facts: Value | null = null,
  ) {}

  toValue(): Value {
    return Value.map()
      .putUint(FIELD_SEQ, this.seq)
      .putUint(FIELD_AT, this.at)
      .putText(FIELD_KIND, this.kind)
      .putText(FIELD_VM, this.vm)
      .putText(FIELD_TEXT, this.text);
  }
}

const kept = new StaticArray<Event | null>(Protocol.EVENTS_KEPT);
let last: u64 = 0;
let listener: ((event: Event) => void) | null = null;

/** `heard` is called for each new event. */
export function eventsListen(heard: (event: Event) => void): void {
  listener = heard;
}

let follower: ((event: Event) => void) | null = null;

/** The same, for the policy hooks. */
export function eventsFollow(heard: (event: Event) => void): void {
  follower = heard;
}

/** Takes over the events of the predecessor: each is read when somebody asks for it. */
export function eventsRestore(): void {
  last = stashLastEvent();
}

function eventOf(seq: u64): Event | null {
  const event = kept[<i32>(seq % Protocol.EVENTS_KEPT)];
  if (event != null && event.seq == seq) return event;
  const value = stashEventOf(seq);
  if (value == null) return null;
  const read = new Event(
    seq,
    value.getUint(FIELD_AT),
    clean(value.getText(FIELD_KIND)),
    clean(value.getText(FIELD_VM)),
    clean(value.getText(FIELD_TEXT)),
  );
  kept[<i32>(seq % Protocol.EVENTS_KEPT)] = read;
  return read;
}

/** Records an event. `vm` is "" when it is about the host. */
export function emit(kind: string, vm: string, text: string, facts: Value | null = null): void {
  last++;
  const event = new Event(last, uptimeMs(), kind, vm, clean(text, MAX_TEXT), facts);
  kept[<i32>(last % Protocol.EVENTS_KEPT)] = event;
  stashEvent(last, event.toValue());
  const heard = listener;
  if (heard != null) heard(event);
  const follows = follower;
  if (follows != null) follows(event);
}

/** The number of the newest event; 0 before the first. */
export function lastEvent(): u64 {
  return last;
}

/** The first event after number `since` that is still kept, or null. */
export function eventAfter(since: u64): Event | null {
  const oldest: u64 = last > <u64>Protocol.EVENTS_KEPT ? last - Protocol.EVENTS_KEPT + 1 : 1;
  for (let seq = max(since + 1, oldest); seq <= last; seq++) {
    const event = eventOf(seq);
    if (event != null) return event;
  }
  return null;
}
