// The CPUID policy: what a VM may see, on the model's host.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CpuidRowAt, Hypercall, MAX_CPUID_ROWS } from "../../../control/gen/abi";
import { hostSpec, Rig, vmSpec } from "./rig";

interface Row {
  leaf: number;
  subleaf: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** The table that the control domain gives the kernel for a new VM. */
function policy(tscHz = 2_000_000_000n, features = 0xffff): Row[] {
  const rig = new Rig({ spec: hostSpec([]), tscHz, features });
  const real = rig.kernel.hypercall.bind(rig.kernel);
  const rows: Row[] = [];
  rig.kernel.hypercall = (component, nr, args) => {
    if (nr === Hypercall.CPUID_SET) {
      const view = new DataView(component.comm.buffer, component.comm.byteOffset);
      for (let n = 0; n < Number(args[1]); n++) {
        const word = (at: number): number => view.getUint32(n * CpuidRowAt.SIZE + at, true);
        rows.push({
          leaf: word(0),
          subleaf: word(4),
          eax: word(8),
          ebx: word(12),
          ecx: word(16),
          edx: word(20),
        });
      }
    }
    return real(component, nr, args);
  };
  rig.ok("create", { spec: vmSpec("x") });
  return rows;
}

function at(rows: Row[], leaf: number, subleaf = 0): Row {
  const row = rows.find((candidate) => candidate.leaf === leaf && candidate.subleaf === subleaf);
  if (!row) throw new Error(`no row ${leaf.toString(16)}:${subleaf}`);
  return row;
}

const bit = (word: number, n: number): number => (word >>> n) & 1;

test("rows are sorted, unique and few enough", () => {
  const rows = policy();
  assert.ok(rows.length > 20 && rows.length <= MAX_CPUID_ROWS);
  for (let n = 1; n < rows.length; n++) {
    const [a, b] = [rows[n - 1]!, rows[n]!];
    assert.ok(a.leaf < b.leaf || (a.leaf === b.leaf && a.subleaf < b.subleaf), `row ${n}`);
  }
});

test("leaf 1 hides what a VM must not have and shows what the kernel gives", () => {
  const one = at(policy(), 1);
  for (const hidden of [
    2 /* DTES64 */, 3 /* MONITOR */, 5 /* VMX */, 6 /* SMX */, 7 /* EST */, 8, 15 /* PDCM */, 18 /* DCA */,
    27 /* OSXSAVE */,
  ]) {
    assert.is(bit(one.ecx, hidden), 0, `ecx ${hidden}`);
  }
  for (const shown of [
    0, 21 /* x2APIC */, 24 /* TSC deadline */, 26 /* XSAVE */, 28 /* AVX */, 31 /* hypervisor */,
  ])
    assert.is(bit(one.ecx, shown), 1, `ecx ${shown}`);
  for (const hidden of [18, 21 /* DS */, 22 /* ACPI */, 28 /* HTT */, 29 /* TM */, 31 /* PBE */])
    assert.is(bit(one.edx, hidden), 0, `edx ${hidden}`);
  assert.is((one.ebx >>> 16) & 0xff, 1);
  assert.is(one.ebx >>> 24, 0);
});

test("leaf 7 has no TSX, MPX, SGX, PKU, PT", () => {
  const seven = at(policy(), 7);
  for (const hidden of [2 /* SGX */, 4 /* HLE */, 11 /* RTM */, 12, 14 /* MPX */, 15, 25 /* PT */])
    assert.is(bit(seven.ebx, hidden), 0, `ebx ${hidden}`);
  for (const hidden of [3 /* PKU */, 4, 5 /* WAITPKG */, 7 /* CET */, 16 /* LA57 */])
    assert.is(bit(seven.ecx, hidden), 0, `ecx ${hidden}`);
  assert.is(bit(seven.ebx, 5), 1);
  assert.is(seven.eax, 0);
});

test("without XSAVE in the kernel there is no AVX and no leaf 0xD", () => {
  const rows = policy(2_000_000_000n, 0);
  assert.is(bit(at(rows, 1).ecx, 26), 0);
  assert.is(bit(at(rows, 1).ecx, 28), 0);
  assert.is(bit(at(rows, 7).ebx, 5), 0);
  assert.not(rows.some((row) => row.leaf === 0xd));
});

test("leaf 0xD covers what is allowed, uncompacted", () => {
  const rows = policy();
  assert.equal(at(rows, 0xd), { leaf: 0xd, subleaf: 0, eax: 7, ebx: 832, ecx: 832, edx: 0 });
  assert.is(at(rows, 0xd, 1).eax, 7);
  assert.equal(at(rows, 0xd, 2), { leaf: 0xd, subleaf: 2, eax: 256, ebx: 576, ecx: 0, edx: 0 });
});

test("the clock leaf gives the TSC's rate exactly, and does not overflow in Linux's arithmetic", () => {
  for (const hz of [100_000_000n, 1_000_000_000n, 2_904_000_123n, 4_294_967_295n, 5_800_000_000n]) {
    const row = at(policy(hz), 0x15);
    const told = (BigInt(row.ecx) * BigInt(row.ebx)) / BigInt(row.eax);
    assert.ok(hz - told < 2n, `${hz}`);
    assert.ok(Math.floor(row.ecx / 1000) * row.ebx < 2 ** 32);
  }
});

test("signatures, topology, power and performance leaves", () => {
  const rows = policy();
  const name = (row: Row): string => {
    const bytes = Buffer.alloc(12);
    [row.ebx, row.ecx, row.edx].forEach((word, n) => bytes.writeUInt32LE(word, n * 4));
    return bytes.toString("latin1");
  };
  assert.is(name(at(rows, 0x40000000)), "PlinthPlinth");
  assert.is(name(at(rows, 0x40000100)), "KVMKVMKVM\0\0\0");
  // KVM: no delay after port accesses, clock source, steal time, stable clock.
  assert.is(at(rows, 0x40000101).eax, (1 << 1) | (1 << 3) | (1 << 5) | (1 << 24));
  assert.is(at(rows, 5).eax, 0);
  assert.is(at(rows, 6).eax, 4);
  assert.not(rows.some((row) => row.leaf === 0xa && row.eax !== 0));
  assert.is(at(rows, 0xb).ecx >>> 8, 1);
  assert.is(at(rows, 4).eax >>> 14, 0);
  assert.is(at(rows, 0x80000007).edx, 0x100);
  assert.is(at(rows, 0).eax, 0x16);
});

test.run();
