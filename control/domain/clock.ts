// The wall clock: the machine's RTC, read once, and the TSC since then.

import { CAP_SELF } from "../gen/abi";
import { portIn, portOut, portsMap } from "../lib/binding";
import { uptimeMs } from "./host";

const INDEX: u32 = 0x70;
const DATA: u32 = 0x71;
const MAX_TRIES = 10000;

const enum Rtc {
  SECONDS = 0,
  MINUTES = 2,
  HOURS = 4,
  DAY = 7,
  MONTH = 8,
  YEAR = 9,
  STATUS_A = 10,
  STATUS_B = 11,
  UPDATING = 0x80,
  BINARY = 4,
  HOURS_24 = 2,
}

let bootSeconds: u64 = 0;

function read(register: u32): u32 {
  portOut(INDEX, 1, register);
  return portIn(DATA, 1);
}

function decimal(value: u32, binary: bool): u32 {
  return binary ? value : (value >> 4) * 10 + (value & 15);
}

/** Days from 1970-01-01 to a date of the Gregorian calendar. */
function daysSince1970(year: u32, month: u32, day: u32): u64 {
  const y = month <= 2 ? year - 1 : year;
  const m = month <= 2 ? month + 9 : month - 3;
  const days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
  return days - 719468;
}

/** Reads the RTC. Where there is none, the wall clock is unknown: 0. */
export function clockStart(): void {
  bootSeconds = 0;
  if (portsMap(CAP_SELF, INDEX, 2) < 0) return;
  for (let i = 0; i < MAX_TRIES && (read(Rtc.STATUS_A) & Rtc.UPDATING) != 0; i++);
  const status = read(Rtc.STATUS_B);
  if (status == 0xff) return;
  const binary = (status & Rtc.BINARY) != 0;
  const rawHour = read(Rtc.HOURS);
  let hour = decimal(rawHour & 0x7f, binary);
  if ((status & Rtc.HOURS_24) == 0) hour = (hour % 12) + ((rawHour & 0x80) != 0 ? 12 : 0);
  const month = decimal(read(Rtc.MONTH), binary);
  const day = decimal(read(Rtc.DAY), binary);
  const year = 2000 + decimal(read(Rtc.YEAR), binary);
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23) return;
  const minutes = hour * 60 + decimal(read(Rtc.MINUTES), binary);
  const seconds = daysSince1970(year, month, day) * 86400 + minutes * 60 + decimal(read(Rtc.SECONDS), binary);
  const uptime = uptimeMs() / 1000;
  bootSeconds = seconds > uptime ? seconds - uptime : 0;
}

/** Seconds since 1970, 0: unknown. */
export function wallClock(): u64 {
  return bootSeconds == 0 ? 0 : bootSeconds + uptimeMs() / 1000;
}
