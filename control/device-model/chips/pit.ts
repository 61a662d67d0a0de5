// The 8254 timer, and port 0x61 with the gate and the output of its channel 2.
//
// Source: Intel 8254 datasheet (231164); port 0x61 as in the 82371SB (PIIX3). Counters are not counted:
// each reading is worked out from guest time. BCD counting is not done.

import { guestTsc, hostDeadline, scale, ticks, tscHz } from "../clock";
import { IRQ_TIMER, pulseIrq, setIrq } from "../interrupts";
import { PortDevice } from "../port-bus";
import { Timer, TimerClient } from "../timers";

export const PIT_HZ: u64 = 1193182;
export const PIT_PORT: u32 = 0x40;
export const SPEAKER_PORT: u32 = 0x61;

/** The most interrupts a second that channel 0 raises. */
const MAX_RATE: u64 = 20000;

const READ_BACK: u32 = 3;
const ACCESS_LATCH: u32 = 0;
const ACCESS_HIGH: u32 = 2;

class Channel {
  mode: u32 = 3;
  access: u32 = 3;
  reload: u32 = 0x10000;
  private written: u32 = 0x10000; // what the next start loads
  start: u64 = 0; // PIT ticks at which the count was loaded
  loaded: bool = false; // a count has been written since the mode was
  private gate: bool = true;
  private writeLow: u32 = 0;
  private writesHigh: bool = false;
  private readsHigh: bool = false;
  private latch: i32 = -1;
  private latchReads: u32 = 0;
  private status: i32 = -1;
  private stopped: bool = false; // it does not count: its gate is down, or has not risen
  private passed: u64 = 0; // PIT ticks that it had counted when it stopped

  /** PIT ticks that it has counted of what was loaded. */
  elapsed(): u64 {
    return this.stopped ? this.passed : ticks(PIT_HZ) - this.start;
  }

  /** Modes 1 and 5 begin when the gate rises, and do not mind if it falls. */
  private get isTriggered(): bool {
    return this.mode == 1 || this.mode == 5;
  }

  count(): u32 {
    if (!this.loaded) return 0;
    const passed = this.elapsed();
    const reload = <u64>this.reload;
    if (this.mode == 2) return <u32>(reload - (passed % reload));
    if (this.mode == 3) return (<u32>(reload - ((passed * 2) % reload))) & ~1;
    return (<u32>(reload - passed)) & 0xffff;
  }

  output(): bool {
    if (!this.loaded) return this.mode != 0;
    if (this.stopped && this.mode != 0) return true;
    const passed = this.elapsed();
    if (this.mode == 2) return passed % this.reload != this.reload - 1;
    if (this.mode == 3) return passed % this.reload < (this.reload + 1) >> 1;
    if (this.mode <= 1) return passed >= this.reload;
    return passed != this.reload;
  }

  setControl(access: u32, mode: u32): void {
    this.access = access;
    this.mode = mode;
    this.loaded = false;
    this.writesHigh = false;
    this.readsHigh = false;
    this.latch = -1;
    this.status = -1;
  }

  latchCount(): void {
    if (this.latch >= 0) return;
    this.latch = <i32>(this.count() & 0xffff);
    this.latchReads = this.access == 3 ? 2 : 1;
  }

  latchStatus(): void {
    if (this.status >= 0) return;
    const output: u32 = this.output() ? 0x80 : 0;
    const empty: u32 = this.loaded ? 0 : 0x40;
    this.status = <i32>(output | empty | (this.access << 4) | (this.mode << 1));
  }

  /** A write of the counter; true when the count is complete. */
  write(value: u32): bool {
    let count = value;
    if (this.access == ACCESS_HIGH) {
      count = value << 8;
    } else if (this.access == 3) {
      this.writesHigh = !this.writesHigh;
      if (this.writesHigh) {
        this.writeLow = value;
        return false;
      }
      count = this.writeLow | (value << 8);
    }
    this.written = count == 0 ? 0x10000 : count;
    // A count of 1 is not allowed in modes 2 and 3.
    if (this.written == 1 && (this.mode == 2 || this.mode == 3)) this.written = 2;
    if (!this.isTriggered || !this.loaded) this.begin(!this.isTriggered && this.gate);
    this.loaded = true;
    return true;
  }

  // From the count that was written: it counts at once, or stands still.
  private begin(counts: bool): void {
    this.reload = this.written;
    this.start = ticks(PIT_HZ);
    this.passed = 0;
    this.stopped = !counts;
  }

  read(): u32 {
    if (this.status >= 0) {
      const status = <u32>this.status;
      this.status = -1;
      return status;
    }
    const count = this.latch >= 0 ? <u32>this.latch : this.count();
    const high = this.access == ACCESS_HIGH || (this.access == 3 && this.readsHigh);
    if (this.access == 3) this.readsHigh = !this.readsHigh;
    if (this.latch >= 0 && --this.latchReads == 0) this.latch = -1;
    return high ? (count >> 8) & 0xff : count & 0xff;
  }

  /** Modes 0 and 4 stand still while the gate is down; a rising gate starts the others again. */
  setGate(up: bool): void {
    if (up == this.gate) return;
    this.gate = up;
    if (!up) {
      if (this.isTriggered) return;
      this.passed = this.elapsed();
      this.stopped = true;
    } else if (this.mode == 0 || this.mode == 4) {
      this.start = ticks(PIT_HZ) - this.passed;
      this.stopped = false;
    } else this.begin(true);
  }
}

class PitTimer extends TimerClient {
  onTimer(): void {
    pit.tick();
  }
}

class Pit extends PortDevice {
  private channels: StaticArray<Channel> = [new Channel(), new Channel(), new Channel()];
  private timer: Timer = new Timer(new PitTimer());
  private nextTick: u64 = 0; // PIT ticks
  private speaker: u32 = 0;

  constructor() {
    super();
    this.channels[2].setGate(false);
  }

  // A period of channel 0 is over.
  tick(): void {
    const channel = this.channels[0];
    if (!channel.loaded) return;
    const time = ticks(PIT_HZ);
    if (time < this.nextTick) {
      this.arm();
    } else if (channel.mode == 2 || channel.mode == 3) {
      pulseIrq(IRQ_TIMER);
      // A model that was late makes up for one period only.
      this.nextTick += channel.reload;
      if (this.nextTick + channel.reload < time) this.nextTick = time + channel.reload;
      this.arm();
    } else {
      setIrq(IRQ_TIMER, true);
    }
  }

  // No more often than MAX_RATE, so that no guest can make its model do nothing but tick.
  private arm(): void {
    this.nextTick = max(this.nextTick, ticks(PIT_HZ) + PIT_HZ / MAX_RATE);
    this.timer.set(hostDeadline(scale(this.nextTick, PIT_HZ, tscHz) + 1));
  }

  private startChannel0(): void {
    const channel = this.channels[0];
    if (channel.mode != 2 && channel.mode != 3) setIrq(IRQ_TIMER, false);
    if (channel.mode == 1 || channel.mode == 5) return; // need a gate, which channel 0 has not
    this.nextTick = channel.start + channel.reload;
    this.arm();
  }

  portRead(port: u32, _size: u32): u32 {
    if (port == SPEAKER_PORT) return this.readSpeaker();
    return port == PIT_PORT + 3 ? 0xff : this.channels[port & 3].read();
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    value &= 0xff;
    if (port == SPEAKER_PORT) {
      this.speaker = value & 3;
      this.channels[2].setGate((value & 1) != 0);
    } else if (port == PIT_PORT + 3) {
      this.control(value);
    } else if (this.channels[port & 3].write(value) && port == PIT_PORT) {
      this.startChannel0();
    }
  }

  private control(value: u32): void {
    const select = value >> 6;
    if (select == READ_BACK) {
      for (let i: u32 = 0; i < 3; i++) {
        if (!(value & (2 << i))) continue;
        if (!(value & 0x20)) this.channels[i].latchCount();
        if (!(value & 0x10)) this.channels[i].latchStatus();
      }
      return;
    }
    const access = (value >> 4) & 3;
    if (access == ACCESS_LATCH) {
      this.channels[select].latchCount();
      return;
    }
    const mode = (value >> 1) & 7;
    this.channels[select].setControl(access, mode > 5 ? mode & 3 : mode);
    if (select != 0) return;
    this.timer.set(0);
    // OUT is low in mode 0 until the count is over, and high in the others.
    setIrq(IRQ_TIMER, false);
  }

  // Bit 5: output of channel 2; bit 4: the refresh clock, a change every 15 us.
  private readSpeaker(): u32 {
    const output: u32 = this.channels[2].output() ? 0x20 : 0;
    const refresh = ((<u32>(guestTsc() / (tscHz / 66288 + 1))) & 1) << 4;
    return this.speaker | output | refresh;
  }
}

export const pit = new Pit();
