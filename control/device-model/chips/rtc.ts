// The MC146818 real-time clock and its 114 bytes of CMOS memory, behind ports 0x70 and 0x71.
//
// Source: Motorola MC146818A datasheet. The time is wall-clock time at the VM's start plus guest time,
// plus what the guest has set. While an interrupt is enabled, a timer comes at its rate or each second;
// else nothing ticks, and register C stays 0.

import { guestTsc, hostDeadline, ticks, tscHz } from "../clock";
import { IRQ_RTC, setIrq } from "../interrupts";
import { PortDevice } from "../port-bus";
import { Timer, TimerClient } from "../timers";
import { daysFromCivil, civilFromDays, civilDay, civilMonth, civilYear } from "./calendar";

export const RTC_PORT: u32 = 0x70;

const SECONDS: u32 = 0x00;
const MINUTES: u32 = 0x02;
const HOURS: u32 = 0x04;
const WEEKDAY: u32 = 0x06;
const DAY: u32 = 0x07;
const MONTH: u32 = 0x08;
const YEAR: u32 = 0x09;
const REG_A: u32 = 0x0a;
const REG_B: u32 = 0x0b;
const REG_C: u32 = 0x0c;
const REG_D: u32 = 0x0d;
const CENTURY: u32 = 0x32;

const UPDATING: u32 = 0x80; // A
const HOLD: u32 = 0x80; // B: SET
const BINARY: u32 = 0x04; // B
const HOURS_24: u32 = 0x02; // B
const VALID: u32 = 0x80; // D

// Interrupts: enables in B and flags in C.
const PERIODIC: u32 = 0x40;
const ALARM: u32 = 0x20;
const UPDATE: u32 = 0x10;
const SOURCES: u32 = PERIODIC | ALARM | UPDATE;
const IRQ_FLAG: u32 = 0x80; // C
const ANY: u32 = 0xc0; // an alarm byte from here on matches everything

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY_SECONDS: i64 = 86400;

class RtcTimer extends TimerClient {
  onTimer(): void {
    rtc.tick();
  }
}

class Rtc extends PortDevice {
  private memory: StaticArray<u8> = new StaticArray<u8>(128);
  private index: u32 = 0;
  private start: i64 = 0; // unix time at guest time 0
  private held: i64 = 0; // the time that stands still while HOLD is set
  private flags: u32 = 0; // register C
  private timer: Timer = new Timer(new RtcTimer());
  private nextSecond: u64 = 0; // guest TSC
  private nextPeriod: u64 = 0;

  init(wallClock: u64): void {
    this.start = <i64>wallClock;
    this.memory[REG_A] = 0x26;
    this.memory[REG_B] = <u8>HOURS_24;
  }

  private unixTime(): i64 {
    if (this.memory[REG_B] & HOLD) return this.held;
    return this.start + <i64>ticks(1);
  }

  private setUnixTime(time: i64): void {
    this.held = time;
    this.start = time - <i64>ticks(1);
  }

  // Register values are BCD unless register B says binary.
  private encode(value: u32): u32 {
    return this.memory[REG_B] & BINARY ? value : ((value / 10) << 4) | (value % 10);
  }

  private decode(value: u32): u32 {
    return this.memory[REG_B] & BINARY ? value : (value >> 4) * 10 + (value & 15);
  }

  portRead(port: u32, _size: u32): u32 {
    if (!(port & 1)) return 0xff; // the index register is write-only
    const index = this.index;
    if (index == REG_A) return this.memory[REG_A] | this.updating();
    if (index == REG_C) return this.readFlags();
    if (index == REG_D) return VALID;
    return this.isTime(index) ? this.readTime(index) : this.memory[index];
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    value &= 0xff;
    if (!(port & 1)) {
      this.index = value & 0x7f; // bit 7 masks NMI, which nothing here raises
      return;
    }
    const index = this.index;
    if (index == REG_C || index == REG_D) return;
    if (index == REG_A) value &= 0x7f;
    if (index == REG_B) this.writeB(value);
    if (this.isTime(index)) this.writeTime(index, value);
    else this.memory[index] = <u8>value;
    if (index == REG_A || index == REG_B) this.startTimer();
  }

  private readFlags(): u32 {
    const flags = this.flags;
    this.flags = 0;
    setIrq(IRQ_RTC, false);
    return flags;
  }

  // Guest TSC ticks between periodic interrupts; 0: none. Rates 1 and 2 are those of 8 and 9.
  private period(): u64 {
    const rate = (<u32>this.memory[REG_A]) & 15;
    if (rate == 0 || !(this.memory[REG_B] & PERIODIC)) return 0;
    return (tscHz << (<u64>((rate < 3 ? rate + 7 : rate) - 1))) / 32768;
  }

  private startTimer(): void {
    const time = guestTsc();
    this.nextSecond = (time / tscHz + 1) * tscHz;
    this.nextPeriod = time + this.period();
    this.arm();
  }

  private arm(): void {
    const enabled = <u32>this.memory[REG_B];
    let next: u64 = 0;
    if (enabled & (ALARM | UPDATE) && !(enabled & HOLD)) next = this.nextSecond;
    if (this.period() != 0 && (next == 0 || this.nextPeriod < next)) next = this.nextPeriod;
    this.timer.set(next == 0 ? 0 : hostDeadline(next) + 1);
  }

  // The timer: an update or a period, or both, may be due.
  tick(): void {
    const time = guestTsc();
    if (time >= this.nextSecond) {
      this.nextSecond = (time / tscHz + 1) * tscHz;
      this.flags |= UPDATE;
      if (this.alarmMatches()) this.flags |= ALARM;
    }
    const period = this.period();
    if (period != 0 && time >= this.nextPeriod) {
      this.nextPeriod = max(this.nextPeriod + period, time);
      this.flags |= PERIODIC;
    }
    if (this.flags & this.memory[REG_B] & SOURCES) {
      this.flags |= IRQ_FLAG;
      setIrq(IRQ_RTC, true);
    }
    this.arm();
  }

  private alarmMatches(): bool {
    for (let index: u32 = SECONDS; index <= HOURS; index += 2) {
      const wanted = <u32>this.memory[index + 1];
      if (wanted < ANY && wanted != this.readTime(index)) return false;
    }
    return true;
  }

  private isTime(index: u32): bool {
    return index == CENTURY || (index <= YEAR && index != 1 && index != 3 && index != 5);
  }

  // The update takes the last 244 us of a second.
  private updating(): u32 {
    if (this.memory[REG_B] & HOLD) return 0;
    return guestTsc() % tscHz > tscHz - tscHz / 4098 ? UPDATING : 0;
  }

  private writeB(value: u32): void {
    const was = this.memory[REG_B] & HOLD;
    const time = this.unixTime();
    if (value & HOLD && !was) this.held = time;
    if (!(value & HOLD) && was) this.setUnixTime(time);
  }

  private hourOf(hour: u32): u32 {
    if (this.memory[REG_B] & HOURS_24) return this.encode(hour);
    const half = hour % 12;
    return this.encode(half == 0 ? 12 : half) | (hour >= 12 ? 0x80 : 0);
  }

  private decodeHour(value: u32): u32 {
    if (this.memory[REG_B] & HOURS_24) return this.decode(value);
    return (this.decode(value & 0x7f) % 12) + (value & 0x80 ? 12 : 0);
  }

  private readTime(index: u32): u32 {
    const time = this.unixTime();
    const days = floorDivide(time, DAY_SECONDS);
    const second = <u32>(time - days * DAY_SECONDS);
    if (index == SECONDS) return this.encode(second % 60);
    if (index == MINUTES) return this.encode((second / 60) % 60);
    if (index == HOURS) return this.hourOf(second / 3600);
    if (index == WEEKDAY) return this.encode(<u32>((((days + 4) % 7) + 7) % 7) + 1);
    civilFromDays(days);
    if (index == DAY) return this.encode(civilDay);
    if (index == MONTH) return this.encode(civilMonth);
    if (index == YEAR) return this.encode(<u32>(civilYear % 100));
    return this.encode(<u32>(civilYear / 100));
  }

  // A written field replaces that field of the current time; what is out of range carries over.
  private writeTime(index: u32, value: u32): void {
    if (index == WEEKDAY) return; // follows from the date
    const time = this.unixTime();
    const days = floorDivide(time, DAY_SECONDS);
    let second = time - days * DAY_SECONDS;
    civilFromDays(days);
    let day: i64 = civilDay;
    let month = civilMonth;
    let year = civilYear;
    if (index == SECONDS) second += <i64>this.decode(value) - (second % MINUTE);
    else if (index == MINUTES) second += (<i64>this.decode(value) - ((second / MINUTE) % 60)) * MINUTE;
    else if (index == HOURS) second += (<i64>this.decodeHour(value) - second / HOUR) * HOUR;
    else if (index == DAY) day = this.decode(value);
    else if (index == MONTH) month = min<u32>(max<u32>(this.decode(value), 1), 12);
    else if (index == YEAR) year = (year / 100) * 100 + (this.decode(value) % 100);
    else year = <i64>this.decode(value) * 100 + (year % 100);
    this.setUnixTime(daysFromCivil(year, month, 1) * DAY_SECONDS + (day - 1) * DAY_SECONDS + second);
  }
}

function floorDivide(value: i64, by: i64): i64 {
  const quotient = value / by;
  return value % by < 0 ? quotient - 1 : quotient;
}

export const rtc = new Rtc();
