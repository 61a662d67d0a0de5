// The ACPI tables in the guest's memory: signatures, lengths, checksums, and what an OS looks for.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";

const ZERO_PAGE = 0x7000;

function sum(bytes: Buffer): number {
  return bytes.reduce((a, b) => (a + b) & 0xff, 0);
}

interface Tables {
  rsdp: Buffer;
  byName: Map<string, Buffer>;
}

function parse(rig: Rig): Tables {
  const memory = rig.memory;
  const at = Number(memory.readBigUInt64LE(ZERO_PAGE + 0x70));
  const rsdp = memory.subarray(at, at + 36);
  const table = (address: number): Buffer => {
    const length = memory.readUInt32LE(address + 4);
    const bytes = memory.subarray(address, address + length);
    assert.is(sum(bytes), 0);
    return bytes;
  };
  const xsdt = table(Number(rsdp.readBigUInt64LE(24)));
  const byName = new Map<string, Buffer>();
  for (let i = 36; i < xsdt.length; i += 8) {
    const found = table(Number(xsdt.readBigUInt64LE(i)));
    byName.set(found.toString("latin1", 0, 4), found);
  }
  const fadt = byName.get("FACP") as Buffer;
  byName.set("DSDT", table(Number(fadt.readBigUInt64LE(140))));
  return { rsdp, byName };
}

test("the RSDP is where boot_params says, and both its checksums are right", () => {
  const { rsdp } = parse(new Rig());
  assert.is(rsdp.toString("latin1", 0, 8), "RSD PTR ");
  assert.is(rsdp[15], 2);
  assert.is(sum(rsdp.subarray(0, 20)), 0);
  assert.is(sum(rsdp), 0);
});

test("the FADT names the fixed hardware that the model has", () => {
  const rig = new Rig();
  const fadt = parse(rig).byName.get("FACP") as Buffer;
  assert.is(fadt.length, 244);
  assert.is(fadt.readUInt16LE(46), 9); // SCI
  assert.is(fadt.readUInt32LE(48), 0); // no SMI command port
  assert.is(fadt.readUInt32LE(56), 0x600);
  assert.is(fadt.readUInt32LE(64), 0x604);
  assert.is(fadt.readUInt32LE(76), 0x608);
  assert.is(fadt.readUInt32LE(80), 0x60c);
  assert.equal([fadt[92], fadt[93], fadt[94]], [4, 0, 0]);
  assert.equal([...fadt.subarray(220, 232)], [1, 32, 0, 1, 0x0c, 6, 0, 0, 0, 0, 0, 0]);
  const flags = fadt.readUInt32LE(112);
  assert.is(flags & (1 << 4), 0); // a fixed power button
  assert.ok(flags & (1 << 10)); // a reset register
  assert.is(fadt.readBigUInt64LE(116 + 4), 0xcf9n);
  assert.is(fadt[128], 6);
  const facs = fadt.readUInt32LE(36);
  assert.is(facs % 64, 0);
  assert.is(rig.memory.toString("latin1", facs, facs + 4), "FACS");
});

test("the MADT has one local APIC for each vCPU, the I/O APIC and the overrides", () => {
  const madt = parse(new Rig({ vcpus: 3 })).byName.get("APIC") as Buffer;
  const kinds: number[] = [];
  for (let at = 44; at < madt.length; at += madt[at + 1] ?? 1) {
    kinds.push(madt[at] ?? -1);
    if (madt[at] === 1) assert.is(madt.readUInt32LE(at + 4), 0xfec00000);
  }
  assert.equal(kinds, [0, 0, 0, 1, 2, 2, 4]);
});

test("the MCFG has bus 0", () => {
  const mcfg = parse(new Rig()).byName.get("MCFG") as Buffer;
  assert.is(mcfg.length, 60);
  assert.is(mcfg.readBigUInt64LE(44), 0xd0000000n);
  assert.is(mcfg.readUInt32LE(52), 0);
});

test("the DSDT has the host bridge, what it forwards and its interrupt pins", () => {
  const dsdt = (parse(new Rig()).byName.get("DSDT") as Buffer).toString("latin1");
  assert.ok(dsdt.includes("PCI0\x08_HID\x0c\x41\xd0\x0a\x03"));
  assert.ok(dsdt.includes("\x88\x0d\x00\x02\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00"));
  assert.ok(dsdt.includes("\x00\x00\x00\xe0\xff\xff\xbf\xfe\x00\x00\x00\x00\x00\x00\xc0\x1e"));
  for (const slot of [0, 1, 9, 31]) {
    const route = `\x04\x0c\xff\xff${String.fromCharCode(slot)}\x00\x0a\x00\x0a\x00\x0a`;
    assert.ok(dsdt.includes(route + String.fromCharCode(16 + (slot & 7))));
  }
});

test("the DSDT has _S5 and the serial port", () => {
  const dsdt = (parse(new Rig()).byName.get("DSDT") as Buffer).toString("latin1");
  assert.ok(dsdt.includes("_S5_\x12\x4b\x00\x04\x0a\x05\x0a\x05\x0a\x00\x0a\x00"));
  assert.ok(dsdt.includes("COM1\x08_HID\x0c\x41\xd0\x05\x01"));
  assert.ok(dsdt.includes("\x47\x01\xf8\x03\xf8\x03\x01\x08\x22\x10\x00\x79\x00"));
});

test("the DSDT has the generation ID, and a method for its event", () => {
  const dsdt = (parse(new Rig()).byName.get("DSDT") as Buffer).toString("latin1");
  assert.ok(dsdt.includes("VGEN\x08_HID\x0dPLIN0001\0\x08_CID\x0dVM_Gen_Counter\0"));
  assert.ok(dsdt.includes("ADDR\x12\x4a\x00\x02\x0c\x00\x10\x0f\x00\x0a\x00"));
  assert.ok(dsdt.includes("\\_GPE\x14\x44\x01_E05\x00\x86\\\x2e_SB_VGEN\x0a\x80"));
});

test.run();
