// The MC146818 real-time clock and its 114 bytes of CMOS memory, behind ports 0x70 and 0x71.
//
// Source: Motorola MC146818A datasheet. The time is wall-clock time at guest time 0 plus guest time,
// plus what the guest has set. While an interrupt is enabled, a timer comes at its rate or each second;
// else nothing ticks: that a second or a period has passed is worked out when register C is read. An alarm that
// may not interrupt is not seen there.

import { guestTsc, hostDeadline, ticks, tscHz } from "../clock";
import { highSize, lowSize } from "../guest-memory";
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

// What firmware keeps in the memory: sizes in KiB, in 64 KiB from 16 MiB on, and from 4 GiB on; boot order; vCPUs.
const BASE_KIB: u32 = 0x15;
const EXTENDED_KIB: u32 = 0x17;
const EXTENDED_KIB_AGAIN: u32 = 0x30;
const ABOVE_16_MIB: u32 = 0x34;
const BOOT_ORDER: u32 = 0x3d;
const ABOVE_4_GIB: u32 = 0x5b;
const MORE_CPUS: u32 = 0x5f;
const DISK_THEN_CD: u32 = 0x32;

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
  private origin: i64 = 0; // unix time at guest time 0
  private start: i64 = 0; // the same, as the guest has set it
  // The time in fields, as look() finds it. While HOLD is set they stand still, and are what was written to them.
  private second: i64 = 0; // of the day
  private day: i64 = 1;
  private month: u32 = 1;
  private year: i64 = 1970;
  private flags: u32 = 0; // register C
  private timer: Timer = new Timer(new RtcTimer());
  private read: u64 = 0; // guest TSC when register C was read last
  private nextSecond: u64 = 0; // guest TSC
  private nextPeriod: u64 = 0;

  init(wallClock: u64): void {
    this.origin = <i64>wallClock;
    this.start = this.origin;
    this.memory[REG_A] = 0x26;
    this.memory[REG_B] = <u8>HOURS_24;
  }

  /** It is this late, whatever guest time says; what the guest has set stays added to it. */
  setWallClock(wallClock: u64): void {
    const origin = <i64>wallClock - <i64>ticks(1);
    this.start += origin - this.origin;
    this.origin = origin;
  }

  /** Tells firmware of the machine, as a PC's set-up would have. */
  setMachine(vcpus: u32): void {
    const kib = <u32>(lowSize >> 10);
    this.set16(BASE_KIB, 640);
    this.set16(EXTENDED_KIB, min<u32>(kib - 1024, 0xffff));
    this.set16(EXTENDED_KIB_AGAIN, min<u32>(kib - 1024, 0xffff));
    this.set16(ABOVE_16_MIB, (kib - 16384) >> 6);
    this.set16(ABOVE_4_GIB, <u32>(highSize >> 16)); // three bytes
    this.memory[ABOVE_4_GIB + 2] = <u8>(highSize >> 32);
    this.memory[BOOT_ORDER] = <u8>DISK_THEN_CD;
    this.memory[MORE_CPUS] = <u8>(vcpus - 1);
  }

  private set16(index: u32, value: u32): void {
    this.memory[index] = <u8>value;
    this.memory[index + 1] = <u8>(value >> 8);
  }

  /** Unix time at guest time 0. */
  atStart(): i64 {
    return this.origin;
  }

  // What the registers say now.
  private look(): void {
    if (this.memory[REG_B] & HOLD) return;
    const time = this.start + <i64>ticks(1);
    const days = floorDivide(time, DAY_SECONDS);
    civilFromDays(days);
    this.second = time - days * DAY_SECONDS;
    this.day = civilDay;
    this.month = civilMonth;
    this.year = civilYear;
  }

  // A day beyond the month's end carries over.
  private days(): i64 {
    return daysFromCivil(this.year, this.month, 1) + this.day - 1;
  }

  // From now on it is the time in the fields.
  private keep(): void {
    this.start = this.days() * DAY_SECONDS + this.second - <i64>ticks(1);
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
    const time = guestTsc();
    const enabled = <u32>this.memory[REG_B];
    const period = enabled & PERIODIC ? 0 : this.periodTicks();
    let flags = this.flags;
    if (!(enabled & (ALARM | UPDATE | HOLD)) && time / tscHz != this.read / tscHz) flags |= UPDATE;
    if (period != 0 && time / period != this.read / period) flags |= PERIODIC;
    this.read = time;
    this.flags = 0;
    setIrq(IRQ_RTC, false);
    return flags;
  }

  // Guest TSC ticks between periodic interrupts; 0: none.
  private period(): u64 {
    return this.memory[REG_B] & PERIODIC ? this.periodTicks() : 0;
  }

  // Guest TSC ticks of the rate in register A; 0: none. Rates 1 and 2 are those of 8 and 9.
  private periodTicks(): u64 {
    const rate = (<u32>this.memory[REG_A]) & 15;
    if (rate == 0) return 0;
    const shift: u64 = rate < 3 ? rate + 6 : rate - 1;
    return (tscHz << shift) / 32768;
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
    if (value & HOLD) this.look();
    else if (this.memory[REG_B] & HOLD) this.keep();
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
    this.look();
    const second = <u32>this.second;
    if (index == SECONDS) return this.encode(second % 60);
    if (index == MINUTES) return this.encode((second / 60) % 60);
    if (index == HOURS) return this.hourOf(second / 3600);
    if (index == WEEKDAY) return this.encode(<u32>((((this.days() + 4) % 7) + 7) % 7) + 1);
    if (index == DAY) return this.encode(<u32>this.day);
    if (index == MONTH) return this.encode(this.month);
    if (index == YEAR) return this.encode(<u32>(this.year % 100));
    return this.encode(<u32>(this.year / 100));
  }

  // A written field replaces that field of the current time; what is out of range carries over when it counts on.
  private writeTime(index: u32, value: u32): void {
    if (index == WEEKDAY) return; // follows from the date
    this.look();
    const second = this.second;
    if (index == SECONDS) this.second += <i64>this.decode(value) - (second % MINUTE);
    else if (index == MINUTES) this.second += (<i64>this.decode(value) - ((second / MINUTE) % 60)) * MINUTE;
    else if (index == HOURS) this.second += (<i64>this.decodeHour(value) - second / HOUR) * HOUR;
    else if (index == DAY) this.day = this.decode(value);
    else if (index == MONTH) this.month = min<u32>(max<u32>(this.decode(value), 1), 12);
    else if (index == YEAR) this.year = (this.year / 100) * 100 + (this.decode(value) % 100);
    else this.year = <i64>this.decode(value) * 100 + (this.year % 100);
    if (!(this.memory[REG_B] & HOLD)) this.keep();
  }
}

function floorDivide(value: i64, by: i64): i64 {
  const quotient = value / by;
  return value % by < 0 ? quotient - 1 : quotient;
}

export const rtc = new Rtc();
