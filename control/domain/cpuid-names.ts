// The CPU features that a VM sees, by the names of the manuals, from the rows of its CPUID policy.

import { CpuidRowAt } from "../gen/abi";
import { CpuidRow } from "../gen/layout";

/** Names of the bits of one register, from bit 0 on; "": no feature, or none that a VM may see. */
class Register {
  constructor(
    public leaf: u32,
    public subleaf: u32,
    /** 0 to 3: EAX to EDX. */
    public register: u32,
    public names: string[],
  ) {}
}

// prettier-ignore
const REGISTERS: Register[] = [
  new Register(1, 0, 2, ("sse3 pclmulqdq - - - - - - - ssse3 - - fma cx16 - - - pcid - sse4.1 sse4.2 x2apic movbe popcnt " +
    "tsc-deadline aes xsave - avx f16c rdrand hypervisor").split(" ")),
  new Register(1, 0, 3, ("fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge - cmov pat pse36 - clflush - - - mmx fxsr " +
    "sse sse2 ss").split(" ")),
  new Register(7, 0, 1, ("fsgsbase - - bmi1 - avx2 - smep bmi2 erms invpcid - - - - - avx512f avx512dq rdseed adx smap " +
    "avx512ifma - clflushopt clwb - - - avx512cd sha avx512bw avx512vl").split(" ")),
  new Register(7, 0, 2, ("- avx512vbmi umip - - - avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - " +
    "avx512vpopcntdq - - - - - - - rdpid").split(" ")),
  new Register(7, 0, 3, "- - - - fsrm - - - - - md-clear".split(" ")),
  new Register(0xd, 1, 0, "xsaveopt xsavec xgetbv1".split(" ")),
  new Register(0x80000001, 0, 2, "lahf - - - - lzcnt - - prefetchw".split(" ")),
  new Register(0x80000001, 0, 3, ("- - - - - - - - - - - syscall - - - - - - - - nx - - - - - pages-1g rdtscp - " +
    "long-mode").split(" ")),
  new Register(0x80000007, 0, 3, "- - - - - - - - invariant-tsc".split(" ")),
];

function valueOf(row: CpuidRow, register: u32): u32 {
  return register == 0 ? row.eax : register == 1 ? row.ebx : register == 2 ? row.ecx : row.edx;
}

/** The names of all features that `length` bytes of rows show. */
export function featureNames(rows: usize, length: u32): string[] {
  const found: string[] = [];
  for (let at: usize = 0; at < length; at += CpuidRowAt.SIZE) {
    const row = changetype<CpuidRow>(rows + at);
    for (let i = 0; i < REGISTERS.length; i++) {
      const one = REGISTERS[i];
      if (one.leaf != row.leaf || one.subleaf != row.subleaf) continue;
      const bits = valueOf(row, one.register);
      for (let bit = 0; bit < one.names.length; bit++)
        if (one.names[bit] != "-" && ((bits >> bit) & 1) != 0) found.push(one.names[bit]);
    }
  }
  return found;
}
