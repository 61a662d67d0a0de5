/*
 * What specifications say of CPUs: the fields of a VM's CPU time, and sets of the host's CPUs, "0-3,6". For the control
 * domain and for Node, like planner.ts.
 */

import {
  FIELD_CAP,
  FIELD_CPUS,
  FIELD_LATENCY,
  FIELD_PERIOD,
  FIELD_RESERVE,
  FIELD_SCHEDULING,
  FIELD_WEIGHT,
} from "./schema";

/** How a VM gets its CPU time: all of it changes while it runs. */
export const SHARE_FIELDS: string[] = [
  FIELD_SCHEDULING,
  FIELD_WEIGHT,
  FIELD_CAP,
  FIELD_RESERVE,
  FIELD_PERIOD,
  FIELD_LATENCY,
  FIELD_CPUS,
];

/** CPUs of a host, at most. */
const MAX_CPU: i32 = 63;
/** Characters of such a set, at most. */
export const MAX_CPUS_TEXT: i32 = 48;

function digitAt(text: string, at: i32): i32 {
  const digit = at < text.length ? text.charCodeAt(at) - 0x30 : -1;
  return digit >= 0 && digit <= 9 ? digit : -1;
}

/** The CPUs of a set in rising order, each once; none if it is no such set. */
export function cpuList(text: string): i32[] {
  const wrong: i32[] = [];
  const out: i32[] = [];
  if (text.length > MAX_CPUS_TEXT) return wrong;
  let first: i32 = -1; /* of a range */
  let next: i32 = 0; /* the least that may follow */
  for (let at = 0; at <= text.length; at++) {
    if (digitAt(text, at) < 0) return wrong;
    let number: i32 = 0;
    for (; digitAt(text, at) >= 0; at++) {
      number = number * 10 + digitAt(text, at);
      if (number > MAX_CPU) return wrong;
    }
    if (number < next) return wrong;
    const end = at < text.length ? text.charAt(at) : ",";
    if (end == "-" && first < 0) {
      first = number;
      next = number;
      continue;
    }
    if (end != ",") return wrong;
    for (let cpu: i32 = first < 0 ? number : first; cpu <= number; cpu++) out.push(cpu);
    first = -1;
    next = number + 1;
  }
  return out;
}
