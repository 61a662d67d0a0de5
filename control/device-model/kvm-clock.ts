// The paravirtual clock of KVM's ABI: what the guest asks for by MSR is written into its memory, once.
//
// Source: Linux Documentation/virt/kvm/x86/msr.rst and arch/x86/include/asm/pvclock-abi.h. The TSC of a VM is
// invariant and the same on all its vCPUs, so what is written stays true: time = (TSC - timestamp) * multiplier.

import { message } from "./exits/message";
import { tscHz } from "./clock";
import { rtc } from "./chips/rtc";
import { writeGuestBytes } from "./guest-memory";

const WALL_CLOCK: u32 = 0;
const ENABLED: u64 = 1;
const STABLE: u8 = 1; // flags: the same on all vCPUs
const GIGA: u64 = 1000000000;

// struct pvclock_vcpu_time_info
const TIME_SIZE: u32 = 32;
const VERSION: usize = 0;
const TIMESTAMP: usize = 8;
const SYSTEM_TIME: usize = 16;
const MULTIPLIER: usize = 24;
const SHIFT: usize = 28;
const FLAGS: usize = 29;

// struct pvclock_wall_clock: the wall clock at system time 0
const WALL_SIZE: u32 = 12;
const SECONDS: usize = 4;

const page: usize = memory.data(32, 8);
let version: u32 = 0;

/** A clock MSR has been written. An address that is not memory gets nothing. */
export function onClock(): void {
  memory.fill(page, 0, TIME_SIZE);
  version += 2; // even: not being written; the guest itself waits for the end of its WRMSR
  store<u32>(page, version, VERSION);
  if (message.port == WALL_CLOCK) {
    store<u32>(page, <u32>rtc.atStart(), SECONDS);
    writeGuestBytes(message.value, page, WALL_SIZE);
  } else if (message.value & ENABLED) {
    fillTime();
    writeGuestBytes(message.value & ~ENABLED, page, TIME_SIZE);
  }
}

// Nanoseconds are (ticks << shift) * multiplier >> 32, with a multiplier of nearly 32 bits.
function fillTime(): void {
  let rate = tscHz;
  let shift: i8 = 0;
  for (; rate > 2 * GIGA; shift--) rate >>= 1;
  for (; rate <= GIGA; shift++) rate <<= 1;
  store<u64>(page, message.gpa, TIMESTAMP);
  store<u64>(page, 0, SYSTEM_TIME);
  store<u32>(page, <u32>((GIGA << 32) / rate), MULTIPLIER);
  store<i8>(page, shift, SHIFT);
  store<u8>(page, STABLE, FLAGS);
}
