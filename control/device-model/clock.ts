// Time as the VM sees it: every clock of the platform counts guest TSC, so all agree after a pause.
//
// guest TSC = host TSC + tsc_offset. The kernel moves the offset when it stops a VM's time; asking it
// for every reading would cost a hypercall, so the offset is asked for again when it is older than
// RECHECK.

import { now, vcpuGet } from "../lib/binding";
import { CAP_VCPU, VcpuRegistersAt } from "../gen/abi";
import { VcpuRegisters } from "../gen/layout";

const state: usize = memory.data(VcpuRegistersAt.SIZE, 16);

/** Guest TSC ticks a second. */
export let tscHz: u64 = 1000000000;

let offset: u64 = 0;
let checkedAt: u64 = 0;
let recheck: u64 = 1000000;

/** Starts guest time at zero now, and returns the TSC offset that makes it so. */
export function startClock(hz: u64): u64 {
  tscHz = hz;
  recheck = hz / 1000;
  checkedAt = now();
  offset = 0 - checkedAt;
  return offset;
}

/** Guest TSC. */
export function guestTsc(): u64 {
  const time = now();
  if (time - checkedAt > recheck) {
    checkedAt = time;
    if (vcpuGet(CAP_VCPU, state) >= 0) offset = changetype<VcpuRegisters>(state).tsc_offset;
  }
  return time + offset;
}

/** The host TSC at which guest time `tsc` comes, as things stand. */
export function hostDeadline(tsc: u64): u64 {
  return tsc - offset;
}

/** Ticks of a clock of `hz` (below 2^31) since the VM was started. */
export function ticks(hz: u64): u64 {
  return scale(guestTsc(), tscHz, hz);
}

/** value * to / from without overflow, for rates below 2^31 (to) and 2^33 (from). */
export function scale(value: u64, from: u64, to: u64): u64 {
  return (value / from) * to + ((value % from) * to) / from;
}
