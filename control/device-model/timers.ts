// The timers of all devices on one timer of the kernel, which is set to the earliest of them.

import { timerCreate, timerSet } from "../lib/binding";
import { CAP_FREE, EVENT_FREE } from "../gen/abi";

/** Event bit of the kernel timer. */
export const EVENT_TIMER: u32 = EVENT_FREE + 1;
const CAP_TIMER: u32 = CAP_FREE;
const MAX_TIMERS = 16;

/** Something that wants to be called at a time. */
export abstract class TimerClient {
  abstract onTimer(): void;
}

/** One timer; off while `deadline` is 0. */
export class Timer {
  deadline: u64 = 0;

  constructor(private client: TimerClient) {
    assert(count < MAX_TIMERS, "timers: too many");
    timers[count++] = this;
  }

  /** Arms it for a host TSC; 0: off. */
  set(deadline: u64): void {
    const earlier = deadline != 0 && (armed == 0 || deadline < armed);
    this.deadline = deadline;
    // A deadline that moves back leaves the kernel's timer alone: it comes early once, and is set again.
    if (earlier) arm(deadline);
  }

  expire(): void {
    this.deadline = 0;
    this.client.onTimer();
  }
}

const timers = new StaticArray<Timer | null>(MAX_TIMERS);
let count = 0;
let armed: u64 = 0;

/** Makes the kernel timer. */
export function initTimers(): void {
  assert(timerCreate(CAP_TIMER, EVENT_TIMER) >= 0, "device model: no timer");
}

function arm(deadline: u64): void {
  armed = deadline;
  timerSet(CAP_TIMER, deadline);
}

/** The kernel timer has fired: calls every client whose time has come. */
export function onTimerEvent(time: u64): void {
  armed = 0;
  for (let i = 0; i < count; i++) {
    const timer = timers[i]!;
    if (timer.deadline != 0 && timer.deadline <= time) timer.expire();
  }
  let next: u64 = 0;
  for (let i = 0; i < count; i++) {
    const deadline = timers[i]!.deadline;
    if (deadline != 0 && (next == 0 || deadline < next)) next = deadline;
  }
  if (next != 0 && next != armed) arm(next);
}
