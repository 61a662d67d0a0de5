// What CPUID says on the model's host: a small Intel CPU, enough for a policy table to be made of it.

const LEAVES: Record<string, number[]> = {
  "0:0": [0x16, 0x756e6547, 0x6c65746e, 0x49656e69],
  "1:0": [0x000906ea, 0x00010800, 0xfffaf3ff, 0xbfebfbff],
  "2:0": [0x76036301, 0x00f0b5ff, 0, 0x00c30000],
  "4:0": [0x1c004121, 0x01c0003f, 0x3f, 0],
  "4:1": [0x1c004122, 0x01c0003f, 0x3f, 0],
  "4:2": [0x1c004143, 0x00c0003f, 0x3ff, 0],
  "7:0": [0, 0x029c6fbf, 0, 0xbc000400],
  "13:0": [7, 832, 832, 0],
  "13:1": [0xf, 832, 0, 0],
  "13:2": [256, 576, 0, 0],
  "21:0": [2, 200, 24000000, 0],
  "2147483648:0": [0x80000008, 0, 0, 0],
  "2147483649:0": [0, 0, 0x121, 0x2c100800],
  "2147483656:0": [0x3027, 0, 0, 0],
};

/** eax, ebx, ecx, edx. */
export function hostCpuid(leaf: number, subleaf: number): number[] {
  return LEAVES[`${leaf}:${subleaf}`] ?? [0, 0, 0, 0];
}
