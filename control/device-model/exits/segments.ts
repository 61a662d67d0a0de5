// Segments of the vCPU that caused the exit: asked for when an address needs them, and its checks.
//
// Source: Intel SDM volume 3A, "Protection": limits and types; volume 1, "Canonical Addressing".

import { CAP_VCPU, Segment, SegmentStateAt, VcpuRegistersAt } from "../../gen/abi";
import { SegmentState, VcpuRegisters } from "../../gen/layout";
import { vcpuGet } from "../../lib/binding";
import { ALIGNMENT_CHECK, fault, GENERAL_PROTECTION, STACK_FAULT } from "./fault";
import { message, vcpuIndex } from "./message";

const CR0_PE: u64 = 1;
const CR0_AM: u64 = 0x40000;
const CR4_LA57: u64 = 0x1000;
const RFLAGS_VM: u64 = 0x20000;
const RFLAGS_AC: u64 = 0x40000;

// VMX access rights.
const WRITABLE: u32 = 2; // of data; of code: readable
const EXPAND_DOWN: u32 = 4; // of data; of code: conforming
const CODE: u32 = 8;
const BIG: u32 = 1 << 14; // D/B
const UNUSABLE: u32 = 1 << 16;

const state: usize = memory.data(VcpuRegistersAt.SIZE, 16);
let known = false;

/** A new exit: what was asked for holds no longer. */
export function forgetSegments(): void {
  known = false;
}

/** A segment register, by its number in the ABI. */
export function segment(number: i32): SegmentState {
  if (!known) {
    known = true;
    if (vcpuGet(CAP_VCPU + vcpuIndex, state) < 0) memory.fill(state, 0, VcpuRegistersAt.SIZE);
  }
  return changetype<SegmentState>(
    changetype<VcpuRegisters>(state).segments.address + number * SegmentStateAt.SIZE,
  );
}

function checksTypes(): bool {
  return (message.cr0 & CR0_PE) != 0 && !(message.rflags & RFLAGS_VM);
}

/** Whether the code that caused the exit runs at the level of its caller. */
export function isConforming(): bool {
  return (message.cs_access & (CODE | EXPAND_DOWN)) == (CODE | EXPAND_DOWN);
}

/** Privilege level of the code that caused the exit. */
export function currentLevel(): u32 {
  const access = isConforming() ? segment(Segment.SS).access : message.cs_access;
  return (access >> 5) & 3;
}

/** Size of the stack pointer in bytes, for code of `mode`. */
export function stackSize(mode: u32): u32 {
  if (mode == 8) return 8;
  return segment(Segment.SS).access & BIG ? 4 : 2;
}

/** What segmentLinear() found. */
export let linear: u64 = 0;

/** The linear address of `size` bytes at an offset, for code of `mode`. False: a fault, which is noted. */
export function segmentLinear(number: i32, offset: u64, size: u32, write: bool, mode: u32): bool {
  if (mode == 8) {
    linear = offset + (number >= Segment.FS ? segment(number).base : 0);
    if (!canonical(linear) || !canonical(linear + size - 1)) return wrong(number);
  } else {
    const s = segment(number);
    if (!allows(s, offset, size, write)) return wrong(number);
    linear = (s.base + offset) & 0xffffffff;
  }
  const misaligned = (linear & (size - 1)) != 0;
  if (misaligned && message.rflags & RFLAGS_AC && message.cr0 & CR0_AM && currentLevel() == 3)
    return fault(ALIGNMENT_CHECK);
  return true;
}

function wrong(number: i32): bool {
  return fault(number == Segment.SS ? STACK_FAULT : GENERAL_PROTECTION);
}

function canonical(address: u64): bool {
  const shift: u64 = message.cr4 & CR4_LA57 ? 7 : 16;
  return <u64>((<i64>(address << shift)) >> shift) == address;
}

function allows(s: SegmentState, offset: u64, size: u32, write: bool): bool {
  const access = s.access;
  if (access & UNUSABLE) return false;
  if (checksTypes()) {
    if (access & CODE) {
      if (write || !(access & WRITABLE)) return false;
    } else if (write && !(access & WRITABLE)) return false;
  }
  const last = offset + size - 1;
  if ((access & (CODE | EXPAND_DOWN)) == EXPAND_DOWN) {
    return offset > s.limit && last <= (access & BIG ? 0xffffffff : 0xffff);
  }
  return last <= s.limit;
}
