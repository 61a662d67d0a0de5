// The CPUID policy: an allow-list of what a VM may see of this host's CPU, as the table for HC_CPUID_SET.
//
// A feature is listed here or the VM does not see it. The kernel completes the fields that change while a
// VM runs (OSXSAVE, APIC ids, the sizes of leaf 0xD for the current XCR0). Bits: Intel SDM, "CPUID".

import { CpuidRow } from "../gen/layout";
import { CpuidRowAt, Feature, MAX_CPUID_ROWS } from "../gen/abi";
import { hostCpuid } from "../lib/binding";
import { info, rigName } from "./host";

const rows: usize = memory.data(2304, 16); /* MAX_CPUID_ROWS * CpuidRowAt.SIZE */
const regs: usize = memory.data(16, 16);
let count: u32 = 0;

function bit(n: u32): u32 {
  return (<u32>1) << n;
}

const LEAF1_ECX: u32 =
  bit(0) /* SSE3 */ |
  bit(1) /* PCLMULQDQ */ |
  bit(9) /* SSSE3 */ |
  bit(13) /* CMPXCHG16B */ |
  bit(17) /* PCID */ |
  bit(19) /* SSE4.1 */ |
  bit(20) /* SSE4.2 */ |
  bit(22) /* MOVBE */ |
  bit(23) /* POPCNT */ |
  bit(25) /* AES */ |
  bit(30); /* RDRAND */
const LEAF1_ECX_XSAVE: u32 = bit(26);
const LEAF1_ECX_AVX: u32 = bit(12) /* FMA */ | bit(28) /* AVX */ | bit(29); /* F16C */
const LEAF1_ECX_ALWAYS: u32 = bit(21) /* x2APIC */ | bit(24) /* TSC deadline */ | bit(31); /* hypervisor */

const LEAF1_EDX_MTRR: u32 = bit(12); /* with firmware, which sets them up */
const LEAF1_EDX_HTT: u32 = bit(28); /* leaf 1 counts the vCPUs */
const LEAF1_EDX: u32 =
  bit(0) /* FPU */ |
  bit(1) /* VME */ |
  bit(2) /* DE */ |
  bit(3) /* PSE */ |
  bit(4) /* TSC */ |
  bit(5) /* MSR */ |
  bit(6) /* PAE */ |
  bit(7) /* MCE */ |
  bit(8) /* CX8 */ |
  bit(9) /* APIC */ |
  bit(11) /* SEP */ |
  bit(13) /* PGE */ |
  bit(15) /* CMOV */ |
  bit(16) /* PAT */ |
  bit(17) /* PSE-36 */ |
  bit(19) /* CLFSH */ |
  bit(23) /* MMX */ |
  bit(24) /* FXSR */ |
  bit(25) /* SSE */ |
  bit(26) /* SSE2 */ |
  bit(27); /* SS */

const LEAF7_EBX: u32 =
  bit(0) /* FSGSBASE */ |
  bit(3) /* BMI1 */ |
  bit(6) /* FDP_EXCPTN_ONLY */ |
  bit(7) /* SMEP */ |
  bit(8) /* BMI2 */ |
  bit(9) /* ERMS */ |
  bit(10) /* INVPCID */ |
  bit(13) /* FPU CS/DS deprecated */ |
  bit(18) /* RDSEED */ |
  bit(19) /* ADX */ |
  bit(20) /* SMAP */ |
  bit(23) /* CLFLUSHOPT */ |
  bit(24) /* CLWB */ |
  bit(29); /* SHA */
const LEAF7_EBX_AVX: u32 = bit(5); /* AVX2 */
const LEAF7_EBX_AVX512: u32 =
  bit(16) /* F */ |
  bit(17) /* DQ */ |
  bit(21) /* IFMA */ |
  bit(28) /* CD */ |
  bit(30) /* BW */ |
  bit(31); /* VL */
const LEAF7_ECX: u32 = bit(2) /* UMIP */ | bit(8) /* GFNI */ | bit(22); /* RDPID */
const LEAF7_ECX_AVX: u32 = bit(9) /* VAES */ | bit(10); /* VPCLMULQDQ */
const LEAF7_ECX_AVX512: u32 =
  bit(1) /* VBMI */ |
  bit(6) /* VBMI2 */ |
  bit(11) /* VNNI */ |
  bit(12) /* BITALG */ |
  bit(14); /* VPOPCNTDQ */
const LEAF7_EDX: u32 = bit(4) /* FSRM */ | bit(10); /* MD_CLEAR */

const LEAFD_EAX: u32 =
  bit(0) /* x87 */ | bit(1) /* SSE */ | bit(2) /* AVX */ | bit(5) | bit(6) | bit(7); /* AVX-512 */
const XCR0_AVX: u32 = bit(0) | bit(1) | bit(2);
const XCR0_AVX512: u32 = bit(5) | bit(6) | bit(7);
const LEAFD1_EAX: u32 = bit(0) /* XSAVEOPT */ | bit(2); /* XGETBV with ECX = 1 */
const LEAFD1_EAX_XSAVEC: u32 = bit(1);

const EXTENDED1_ECX: u32 = bit(0) /* LAHF in 64-bit mode */ | bit(5) /* LZCNT */ | bit(8); /* PREFETCHW */
const EXTENDED1_EDX: u32 =
  bit(11) /* SYSCALL */ |
  bit(20) /* NX */ |
  bit(26) /* 1 GiB pages */ |
  bit(27) /* RDTSCP */ |
  bit(29); /* 64-bit */

const EXTENDED1_ECX_CORES: u32 = bit(1); /* what leaf 1 counts are cores, on AMD's CPUs */
const EXTENDED1_EDX_LEAF1: u32 = 0x0183f3ff & ~LEAF1_EDX_MTRR; /* AMD's copies of bits of leaf 1 */

const LAST_LEAF: u32 = 0x16;
const LEAF6_ARAT: u32 = bit(2);
const CACHE_SHARING: u32 = 0xffffc000; /* leaf 4 EAX: ids of sharing logical CPUs and of cores */
const KVM_FEATURES: u32 =
  bit(1) /* no delay after port accesses */ |
  bit(3) /* clock source, new MSRs */ |
  bit(5) /* steal time */ |
  bit(24); /* the clock is the same on all vCPUs */

/** Address of the rows of the last policyBuild. */
export function policyRows(): usize {
  return rows;
}

function host(leaf: u32, subleaf: u32): void {
  hostCpuid(leaf, subleaf, regs);
}

function eax(): u32 {
  return load<u32>(regs);
}

function ebx(): u32 {
  return load<u32>(regs, 4);
}

function ecx(): u32 {
  return load<u32>(regs, 8);
}

function edx(): u32 {
  return load<u32>(regs, 12);
}

function add(leaf: u32, subleaf: u32, a: u32, b: u32, c: u32, d: u32): void {
  if (count == MAX_CPUID_ROWS) return;
  const row = changetype<CpuidRow>(rows + <usize>count * CpuidRowAt.SIZE);
  row.leaf = leaf;
  row.subleaf = subleaf;
  row.eax = a;
  row.ebx = b;
  row.ecx = c;
  row.edx = d;
  count++;
}

/** The parts of XCR0 that a VM may enable: what the host has and this policy lists; 0 without XSAVE. */
function allowedXcr0(): u32 {
  host(1, 0);
  if ((ecx() & LEAF1_ECX_XSAVE) == 0 || (info().features & Feature.XSAVE) == 0) return 0;
  host(0xd, 0);
  let mask = eax() & LEAFD_EAX;
  if ((mask & XCR0_AVX) != XCR0_AVX || (mask & XCR0_AVX512) != XCR0_AVX512) mask &= ~XCR0_AVX512;
  return mask;
}

function addBasic(xcr0: u32, vcpus: u32, firmware: bool): void {
  const avx = (xcr0 & XCR0_AVX) == XCR0_AVX;
  host(0, 0);
  add(0, 0, LAST_LEAF, ebx(), ecx(), edx());
  host(1, 0);
  const wanted = LEAF1_ECX | (xcr0 != 0 ? LEAF1_ECX_XSAVE : 0) | (avx ? LEAF1_ECX_AVX : 0);
  const extra = (vcpus > 1 ? LEAF1_EDX_HTT : 0) | (firmware ? edx() & LEAF1_EDX_MTRR : 0);
  const lineAndCount = (ebx() & 0xff00) | (vcpus << 16);
  add(1, 0, eax(), lineAndCount, (ecx() & wanted) | LEAF1_ECX_ALWAYS, (edx() & LEAF1_EDX) | extra);
  host(2, 0);
  add(2, 0, eax(), ebx(), ecx(), edx());
  for (let i: u32 = 0; i < 6; i++) {
    host(4, i);
    if ((eax() & 31) == 0) break;
    add(4, i, (eax() & ~CACHE_SHARING) | ((vcpus - 1) << 26), ebx(), ecx(), edx());
  }
  add(5, 0, 0, 0, 0, 0);
  add(6, 0, LEAF6_ARAT, 0, 0, 0);
}

function addFeatures(xcr0: u32): void {
  let b = LEAF7_EBX;
  let c = LEAF7_ECX;
  if ((xcr0 & XCR0_AVX) == XCR0_AVX) {
    b |= LEAF7_EBX_AVX;
    c |= LEAF7_ECX_AVX;
  }
  if ((xcr0 & XCR0_AVX512) == XCR0_AVX512) {
    b |= LEAF7_EBX_AVX512;
    c |= LEAF7_ECX_AVX512;
  }
  host(7, 0);
  add(7, 0, 0, ebx() & b, ecx() & c, edx() & LEAF7_EDX);
  add(7, 1, 0, 0, 0, 0); /* a leaf with one row answers for all subleaves */
}

/** One package, a core for each vCPU, one thread a core; APIC ids are vCPU numbers. */
function addTopology(vcpus: u32): void {
  add(0xb, 0, 0, 1, 1 << 8, 0);
  add(0xb, 1, 32 - clz(vcpus - 1), vcpus, (2 << 8) | 1, 0);
}

/**
 * Bochs's XSAVEC puts all but x87 and SSE 160 bytes below where its XRSTOR looks for them (2.7), and its XRSTOR
 * miscounts what it is not asked for (2.7, 3.0): a guest's vector registers would be lost. test/guest/vector sees it.
 */
function compacts(): bool {
  return rigName() != "bochs";
}

function addXsave(xcr0: u32): void {
  if (xcr0 == 0) return;
  let size: u32 = 576; /* legacy area and header */
  for (let i: u32 = 2; i < 8; i++) {
    if ((xcr0 & bit(i)) == 0) continue;
    host(0xd, i);
    size = max(size, ebx() + eax());
  }
  add(0xd, 0, xcr0, size, size, 0);
  host(0xd, 1);
  add(0xd, 1, eax() & (LEAFD1_EAX | (compacts() ? LEAFD1_EAX_XSAVEC : 0)), 0, 0, 0);
  for (let i: u32 = 2; i < 8; i++) {
    if ((xcr0 & bit(i)) == 0) continue;
    host(0xd, i);
    add(0xd, i, eax(), ebx(), ecx() & ~(<u32>1), 0);
  }
}

/** The TSC runs at the rate of the crystal (which is also the local APIC timer's), or at twice it. */
function addClock(): void {
  const hz = info().tsc_hz;
  const ratio: u32 = hz >> 32 != 0 ? 2 : 1;
  add(0x15, 0, 1, ratio, <u32>(hz / ratio), 0);
  const mhz = <u32>(hz / 1000000);
  add(0x16, 0, mhz, mhz, 100, 0);
}

function addHypervisor(): void {
  add(0x40000000, 0, 0x40000001, 0x6e696c50, 0x6c506874, 0x68746e69); /* "PlinthPlinth" */
  add(0x40000001, 0, 0, 0, 0, 0);
  add(0x40000100, 0, 0x40000101, 0x4b4d564b, 0x564b4d56, 0x4d); /* "KVMKVMKVM" */
  add(0x40000101, 0, KVM_FEATURES, 0, 0, 0);
}

/** The width of physical addresses, which VMs see as it is. */
export function physicalBits(): u32 {
  host(0x80000008, 0);
  return eax() & 0xff;
}

function addExtended(vcpus: u32): void {
  const invariant: u32 = (info().features & Feature.INVARIANT_TSC) != 0 ? bit(8) : 0;
  add(0x80000000, 0, 0x80000008, 0, 0, 0);
  host(0x80000001, 0);
  const amd = (edx() & EXTENDED1_EDX_LEAF1) != 0;
  const cores = amd && vcpus > 1 ? EXTENDED1_ECX_CORES : 0;
  const listed = EXTENDED1_EDX | (LEAF1_EDX & EXTENDED1_EDX_LEAF1);
  add(0x80000001, 0, 0, 0, (ecx() & EXTENDED1_ECX) | cores, edx() & listed);
  for (let leaf: u32 = 0x80000002; leaf <= 0x80000004; leaf++) {
    host(leaf, 0);
    add(leaf, 0, eax(), ebx(), ecx(), edx());
  }
  for (let leaf: u32 = 0x80000005; leaf <= 0x80000006; leaf++) {
    host(leaf, 0); /* caches; TLBs on AMD's CPUs */
    add(leaf, 0, eax(), ebx(), ecx(), edx());
  }
  add(0x80000007, 0, 0, 0, 0, invariant);
  host(0x80000008, 0);
  const idBits = 32 - clz(vcpus - 1);
  add(0x80000008, 0, eax() & 0xffff, 0, amd ? (idBits << 12) | (vcpus - 1) : 0, 0);
}

/**
 * Builds the table for a VM of so many vCPUs, with or without firmware, sorted by leaf and subleaf, at
 * policyRows(); returns the number of rows.
 */
export function policyBuild(vcpus: u32, firmware: bool): u32 {
  count = 0;
  const xcr0 = allowedXcr0();
  addBasic(xcr0, vcpus, firmware);
  addFeatures(xcr0);
  addTopology(vcpus);
  addXsave(xcr0);
  addClock();
  addHypervisor();
  addExtended(vcpus);
  return count;
}
