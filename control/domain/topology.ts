// Which of the host's CPUs are threads of one core, and which share a last-level cache: from CPUID and APIC ids.

import { hostCpuid } from "../lib/binding";
import { info } from "./host";

const regs: usize = memory.data(16, 16);
const CACHE_LEVELS: u32 = 8;

let cores: i32[] = [];
let caches: i32[] = [];

function eax(leaf: u32, subleaf: u32): u32 {
  return hostCpuid(leaf, subleaf, regs) < 0 ? 0 : load<u32>(regs);
}

function ebx(leaf: u32, subleaf: u32): u32 {
  return hostCpuid(leaf, subleaf, regs) < 0 ? 0 : load<u32>(regs + 4);
}

/** Bits that number up to `count` things. */
function bitsFor(count: u32): u32 {
  return count > 1 ? 32 - clz(count - 1) : 0;
}

/** Bits of an APIC id that number the threads of a core: Intel SDM, "CPUID", leaf 0xB; AMD APM, leaf 0x8000001E. */
function threadBits(): u32 {
  if (eax(0, 0) >= 0xb && (ebx(0xb, 0) & 0xffff) != 0) return eax(0xb, 0) & 31;
  if (eax(0x80000000, 0) >= 0x8000001e) return bitsFor(((ebx(0x8000001e, 0) >> 8) & 0xff) + 1);
  return 0;
}

/** Bits that number the threads behind one last-level cache: leaf 4, or 0x8000001D, which has its form. */
function cacheBits(): u32 {
  const leaf: u32 = eax(0, 0) >= 4 && (eax(4, 0) & 31) != 0 ? 4 : 0x8000001d;
  if (leaf != 4 && eax(0x80000000, 0) < leaf) return 32;
  let bits: u32 = 32;
  for (let n: u32 = 0; n < CACHE_LEVELS; n++) {
    const found = eax(leaf, n);
    if ((found & 31) == 0) break;
    bits = bitsFor(((found >> 14) & 0xfff) + 1);
  }
  return bits;
}

/** For each CPU a number that is the same for those whose APIC ids differ in the lowest bits only. */
function units(bits: u32): i32[] {
  const out: i32[] = [];
  const ids = info().apic_ids.address;
  for (let cpu: u32 = 0; cpu < info().cpus; cpu++)
    out.push(bits < 32 ? <i32>(load<u32>(ids + 4 * cpu) >> bits) : 0);
  return out;
}

/** The core of each CPU. */
export function coreUnits(): i32[] {
  if (cores.length == 0) cores = units(threadBits());
  return cores;
}

/** The last-level cache of each CPU; where the CPU does not tell, they are taken to share one. */
export function cacheUnits(): i32[] {
  if (caches.length == 0) caches = units(cacheBits());
  return caches;
}
