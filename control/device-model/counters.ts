// What each device has done, for `plinth show`: the control domain reads it in the link.

import { sharedWrite } from "../lib/binding";
import { Count, LINK_COUNTERS, LINK_COUNTERS_SIZE, LINK_COUNTERS_STEP } from "../lib/link";
import { GPA_SHARED } from "../gen/abi";

let devices: u32 = 0;

export class Counters {
  private readonly values: StaticArray<u64> = new StaticArray<u64>(<i32>Count.COUNT);
  private readonly at: u64;
  /** How many of the values are used. */
  length: u32 = Count.COMMON;

  /** kind: the virtio id. */
  constructor(kind: u32) {
    assert((devices + 1) * LINK_COUNTERS_STEP <= LINK_COUNTERS_SIZE, "counters: too many devices");
    this.at = GPA_SHARED + LINK_COUNTERS + devices++ * LINK_COUNTERS_STEP;
    this.values[Count.KIND] = kind;
    this.publish();
  }

  add(what: Count, value: u64): void {
    this.values[what] += value;
  }

  set(what: Count, value: u64): void {
    this.values[what] = value;
  }

  publish(): void {
    sharedWrite(this.at, changetype<usize>(this.values), this.length * 8);
  }
}
