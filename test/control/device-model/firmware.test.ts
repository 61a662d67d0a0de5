// A VM that starts from firmware: its first state, fw_cfg, the chip set, and what hostile firmware may try.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  ACCESS_READ,
  ExitMessageAt,
  ExitType,
  Segment,
  SegmentStateAt,
  VcpuRegistersAt,
} from "../../../control/gen/abi";
import { MIB, type Options, Rig } from "./rig";

const DESCRIPTOR = 0x9000;
const ERROR = 1;
const READ = 2;
const SKIP = 4;
const SELECT = 8;
const WRITE = 16;
const DIRECTORY = 0x19;

function image(): Buffer {
  const bytes = Buffer.alloc(256 * 1024, 0x90);
  bytes.write("LOW", 0);
  bytes.write("SHADOW", 128 * 1024);
  bytes.write("TOP", bytes.length - 3);
  return bytes;
}

function boot(options: Options = {}): Rig {
  const rig = new Rig({ firmware: image(), ...options });
  assert.equal(rig.events(), [{ t: "ready" }]);
  return rig;
}

/** A DMA transfer with its descriptor at `at`; returns the control word that the device leaves. */
function dma(rig: Rig, control: number, length: number, address: bigint, at = DESCRIPTOR): number {
  rig.memory.writeUInt32BE(control >>> 0, at);
  rig.memory.writeUInt32BE(length >>> 0, at + 4);
  rig.memory.writeBigUInt64BE(address, at + 8);
  ring(rig, BigInt(at));
  return rig.memory.readUInt32BE(at);
}

function swap(value: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes.readUInt32BE();
}

function ring(rig: Rig, address: bigint): void {
  rig.out(0x514, swap(Number(address >> 32n)), 4);
  rig.out(0x518, swap(Number(address & 0xffffffffn)), 4);
}

/** An item by ports. */
function item(rig: Rig, key: number, length: number): Buffer {
  rig.out(0x510, key, 2);
  return Buffer.from(Array.from({ length }, () => rig.in(0x511)));
}

/** The file directory: name to key and size. */
function files(rig: Rig): Map<string, { key: number; size: number }> {
  const count = item(rig, DIRECTORY, 4).readUInt32BE();
  const entries = item(rig, DIRECTORY, 4 + 64 * count);
  const found = new Map<string, { key: number; size: number }>();
  for (let n = 0; n < count; n++) {
    const at = 4 + 64 * n;
    const name = entries.toString("latin1", at + 8, at + 64).replace(/\0.*$/s, "");
    found.set(name, { size: entries.readUInt32BE(at), key: entries.readUInt16BE(at + 4) });
  }
  return found;
}

function file(rig: Rig, name: string): Buffer {
  const entry = files(rig).get(name);
  assert.ok(entry, name);
  return item(rig, entry.key, entry.size);
}

function config(rig: Rig, slot: number, fn: number, offset: number, size = 4): number {
  rig.out(0xcf8, (0x80000000 | (slot << 11) | (fn << 8) | (offset & 0xfc)) >>> 0, 4);
  return rig.in(0xcfc + (offset & 3), size);
}

function setConfig(rig: Rig, slot: number, fn: number, offset: number, value: number, size = 4): void {
  rig.out(0xcf8, (0x80000000 | (slot << 11) | (fn << 8) | (offset & 0xfc)) >>> 0, 4);
  rig.out(0xcfc + (offset & 3), value, size);
}

test("SMBIOS tables as files: the VM's name, a UUID that is the item's too", () => {
  const rig = boot();
  const anchor = file(rig, "etc/smbios/smbios-anchor");
  const tables = file(rig, "etc/smbios/smbios-tables");
  assert.is(anchor.toString("latin1", 0, 5), "_SM3_");
  assert.is(anchor.readUInt32LE(12), tables.length);
  assert.equal([tables[0], tables[1]], [1, 27]);
  const strings = tables.toString("latin1", 27).split("\0");
  assert.equal(strings.slice(0, 4), ["Plinth", "Virtual machine", "a", ""]);
  const uuid = item(rig, 2, 16);
  assert.equal([uuid[6]! >> 4, uuid[8]! >> 6], [8, 2]);
  assert.is(tables.readUInt32LE(8), uuid.readUInt32BE(0));
  assert.is(tables.readUInt16LE(14), uuid.readUInt16BE(6));
  assert.equal(tables.subarray(16, 24), uuid.subarray(8));
  assert.equal(tables.subarray(-6), Buffer.from([127, 4, 2, 0, 0, 0]));
});

test("the boot order is that of the disks", () => {
  const disks = [Buffer.alloc(4096), Buffer.alloc(4096)];
  const rig = boot({ disks, cdroms: [0], noEntropy: true });
  const paths = ["/pci@i0cf8/scsi@2/channel@0/disk@0,0", "/pci@i0cf8/scsi@3/disk@0,0"];
  assert.is(file(rig, "bootorder").toString("latin1"), `${paths.join("\n")}\0`);
  assert.not.ok(files(boot()).has("bootorder"));
});

test("the first instruction is at the end of the firmware, in real mode", () => {
  const state = boot().state as Buffer;
  const cs = VcpuRegistersAt.segments + Segment.CS * SegmentStateAt.SIZE;
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.rip), 0xfff0n);
  assert.is(state.readBigUInt64LE(cs + SegmentStateAt.base), 0xffff0000n);
  assert.is(state.readUInt16LE(cs + SegmentStateAt.selector), 0xf000);
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.cr0), 0x60000010n);
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.rflags), 2n);
});

test("the last 128 KiB are in RAM below 1 MiB", () => {
  const rig = boot();
  assert.is(rig.memory.toString("latin1", 0xe0000, 0xe0006), "SHADOW");
  assert.is(rig.memory.toString("latin1", 0xffffd, 0x100000), "TOP");
});

test("firmware that cannot be is refused", () => {
  for (const [size, memory] of [
    [4096, 64],
    [128 * 1024 + 1, 64],
    [17 * MIB, 64],
    [128 * 1024, 8],
  ] as const) {
    const rig = new Rig({ firmware: Buffer.alloc(size), memory: memory * MIB });
    const [event] = rig.events();
    assert.is(event?.["t"], "error");
    assert.is(rig.state, null);
    assert.is(event?.["object"], memory < 16 ? "memory" : "firmware");
  }
});

test("code in the firmware may access devices", () => {
  const bytes = image();
  bytes.set([0x8b, 0x08], bytes.length - 0x100); // MOV ecx, [rax]
  const rig = new Rig({ firmware: bytes });
  rig.message(ExitType.MMIO, [
    [ExitMessageAt.gpa, 0xfec00000n],
    [ExitMessageAt.access, ACCESS_READ],
    [ExitMessageAt.cs_access, 0xc09b],
    [ExitMessageAt.rip, 0xffffff00n],
  ]);
  assert.is(rig.exitMessage().readUInt32LE(ExitMessageAt.gpr + 8), 0);
  // The last bytes: an instruction must not be read beyond the end.
  rig.message(ExitType.MMIO, [
    [ExitMessageAt.gpa, 0xfec00000n],
    [ExitMessageAt.access, ACCESS_READ],
    [ExitMessageAt.cs_access, 0xc09b],
    [ExitMessageAt.rip, 0xfffffff8n],
  ]);
});

test("fw_cfg is there, by port and by DMA", () => {
  const rig = boot({ vcpus: 2 });
  assert.is(item(rig, 0, 4).toString(), "QEMU");
  assert.is(item(rig, 1, 4).readUInt32LE(), 3);
  assert.is(rig.in(0x514, 4), 0x554d4551);
  assert.is(rig.in(0x518, 4), 0x47464320);
  assert.is(item(rig, 5, 2).readUInt16LE(), 2);
  assert.is(item(rig, 0x0f, 2).readUInt16LE(), 2);
  assert.is(item(rig, 3, 8).readBigUInt64LE(), 64n << 20n);
  assert.equal([...item(rig, 0x7777, 4)], [0, 0, 0, 0]);
  assert.equal([...item(rig, 0, 6)], [0x51, 0x45, 0x4d, 0x55, 0, 0]);
  rig.memory.fill(0xee, 0x8000, 0x8010);
  assert.is(dma(rig, (0 << 16) | SELECT | READ, 6, 0x8000n), 0);
  assert.is(rig.memory.toString("latin1", 0x8000, 0x8006), "QEMU\0\0");
  assert.is(rig.memory[0x8006], 0xee);
  dma(rig, (1 << 16) | SELECT, 0, 0n);
  assert.is(dma(rig, SKIP, 1, 0n), 0);
  assert.is(dma(rig, READ, 2, 0x8000n), 0);
  assert.is(rig.memory.readUInt16LE(0x8000), 0);
});

test("etc/e820 is the VM's memory", () => {
  const e820 = file(boot(), "etc/e820");
  assert.is(e820.length, 20);
  assert.is(e820.readBigUInt64LE(0), 0n);
  assert.is(e820.readBigUInt64LE(8), 64n << 20n);
  assert.is(e820.readUInt32LE(16), 1);
});

test("DMA that is not wholly in memory fails, and nothing is written", () => {
  const rig = boot();
  const before = Buffer.from(rig.memory);
  ring(rig, 64n << 20n);
  ring(rig, 0xffffffffffffffffn);
  assert.ok(before.equals(rig.memory));
  const top = BigInt(64 * MIB);
  for (const address of [top, top - 3n, 0xffffffffn, 0x100000000n, 0xfffffffffffffffen]) {
    assert.is(dma(rig, SELECT | READ, 4, address), ERROR, address.toString(16));
  }
  assert.is(dma(rig, (DIRECTORY << 16) | SELECT | READ, 0xffffffff, 0x8000n), ERROR);
  assert.is(dma(rig, SELECT | READ, 0x100001, 0x8000n), ERROR);
  assert.is(dma(rig, SELECT | READ, 0x100000, 0x10000n), 0);
  assert.is(dma(rig, SELECT | WRITE, 4, 0x8000n), ERROR);
  assert.is(dma(rig, SELECT | SKIP, 0xffffffff, 0n), 0);
  assert.is(dma(rig, READ, 4, 0x8000n), 0);
  assert.is(rig.memory.readUInt32LE(0x8000), 0);
});

test("a transfer may overwrite its own descriptor", () => {
  const rig = boot();
  assert.is(dma(rig, SELECT | READ, 16, BigInt(DESCRIPTOR)), 0);
  assert.is(rig.memory.readUInt32LE(DESCRIPTOR + 4), 0);
});

/** Does what firmware does with the script; returns memory with all files in it and where each is. */
function link(rig: Rig): { memory: Buffer; at: Map<string, number> } {
  const memory = Buffer.alloc(64 * 1024);
  const at = new Map<string, number>();
  const script = file(rig, "etc/table-loader");
  const name = (from: number): string => script.toString("latin1", from, from + 56).replace(/\0.*$/s, "");
  let next = 0x1000;
  assert.is(script.length % 128, 0);
  for (let command = 0; command < script.length; command += 128) {
    const first = name(command + 4);
    const start = at.get(first) ?? 0;
    const u32 = (n: number): number => script.readUInt32LE(command + n);
    if (u32(0) === 1) {
      assert.is(u32(60) & (u32(60) - 1), 0);
      next = Math.ceil(next / u32(60)) * u32(60);
      at.set(first, next);
      const bytes = file(rig, first);
      memory.set(bytes, next);
      next += bytes.length;
    } else if (u32(0) === 2) {
      const where = start + u32(116);
      const target = at.get(name(command + 60)) ?? -1;
      const size = script[command + 120] ?? 0;
      memory.writeUIntLE(memory.readUIntLE(where, Math.min(size, 6)) + target, where, Math.min(size, 6));
    } else if (u32(0) === 4) {
      const address = (at.get(name(command + 60)) ?? 0) + u32(120);
      const target = files(rig).get(first);
      assert.equal([u32(116), script[command + 124], target?.size], [0, 8, 8]);
      rig.memory.writeBigUInt64LE(BigInt(address), 0x8000);
      assert.is(dma(rig, ((target?.key ?? 0) << 16) | SELECT | WRITE, 8, 0x8000n), 0);
    } else {
      assert.is(u32(0), 3);
      const sum = memory.subarray(start + u32(64), start + u32(64) + u32(68)).reduce((a, b) => a + b, 0);
      assert.is(memory[start + u32(60)], 0, "a checksum must be 0 before");
      memory[start + u32(60)] = -sum & 0xff;
    }
  }
  return { memory, at };
}

test("firmware can place the ACPI tables, and all checksums are right", () => {
  const { memory, at } = link(boot({ vcpus: 3 }));
  const sum = (from: number, length: number): number =>
    memory.subarray(from, from + length).reduce((a, b) => a + b, 0) & 0xff;
  const rsdp = at.get("etc/acpi/rsdp") ?? 0;
  assert.is(memory.toString("latin1", rsdp, rsdp + 8), "RSD PTR ");
  assert.is(sum(rsdp, 20), 0);
  assert.is(sum(rsdp, 36), 0);
  const xsdt = Number(memory.readBigUInt64LE(rsdp + 24));
  const found: string[] = [];
  const check = (table: number): number => {
    found.push(memory.toString("latin1", table, table + 4));
    assert.is(sum(table, memory.readUInt32LE(table + 4)), 0, found.at(-1));
    return table;
  };
  check(xsdt);
  for (let entry = 36; entry < memory.readUInt32LE(xsdt + 4); entry += 8) {
    const table = check(Number(memory.readBigUInt64LE(xsdt + entry)));
    if (found.at(-1) !== "FACP") continue;
    check(memory.readUInt32LE(table + 40));
    assert.is(memory.readBigUInt64LE(table + 140), BigInt(memory.readUInt32LE(table + 40)));
    const facs = memory.readUInt32LE(table + 36);
    assert.is(memory.toString("latin1", facs, facs + 4), "FACS");
    assert.is(facs % 64, 0);
  }
  assert.equal(found, ["XSDT", "FACP", "DSDT", "APIC"]);
});

test("firmware says where it has put the generation ID, and there it changes", () => {
  const first = Buffer.from("0123456789abcdef");
  const rig = boot({ generation: first });
  const { memory, at } = link(rig);
  const found = (at.get("etc/vmgenid_guid") ?? 0) + 40;
  assert.is((found - 40) % 4096, 0);
  assert.equal(memory.subarray(found, found + 16), first);
  const address = memory.indexOf("ADDR") + 9; // behind the package's head
  assert.is(memory.readUInt32LE(address), found);
  const generation = Buffer.alloc(16, 0xe1);
  rig.command({ t: "reborn", name: "b", generation, wallClock: 0, addresses: [], clone: true });
  assert.equal(rig.memory.subarray(found, found + 16), generation);
  assert.is(rig.memory.indexOf("Virtual machine"), -1, "the tables are the firmware's");
  assert.equal(file(rig, "etc/vmgenid_guid").subarray(40), generation);
});

test("before firmware has said where the generation ID is, it changes in the file", () => {
  const rig = boot();
  const before = Buffer.from(rig.memory);
  rig.command({ t: "reborn", generation: Buffer.alloc(16, 0xe1) });
  assert.ok(before.equals(rig.memory));
  assert.equal(file(rig, "etc/vmgenid_guid").subarray(40), Buffer.alloc(16, 0xe1));
});

test("hostile: the generation ID is said to be where there is no memory; the file is written wrongly", () => {
  const rig = boot();
  const key = (name: string): number => ((files(rig).get(name)?.key ?? 0) << 16) | SELECT | WRITE;
  const address = key("etc/vmgenid_addr");
  for (const place of [1n, BigInt(64 * MIB - 15), 0xe0000000n, 0xfffffffffffffff8n]) {
    rig.memory.writeBigUInt64LE(place, 0x8000);
    assert.is(dma(rig, address, 8, 0x8000n), 0);
    rig.command({ t: "reborn", generation: Buffer.alloc(16, 0xe1) });
  }
  assert.equal(rig.memory.subarray(0, 18), Buffer.from([0, ...Array<number>(16).fill(0xe1), 0]));
  assert.is(rig.memory.at(-1), 0);
  assert.is(dma(rig, address, 9, 0x8000n), ERROR);
  assert.is(dma(rig, address, 8, BigInt(64 * MIB - 7)), ERROR);
  assert.is(dma(rig, address, 4, 0x8000n), 0);
  assert.is(dma(rig, WRITE, 5, 0x8000n), ERROR);
  assert.is(dma(rig, WRITE, 4, 0x8000n), 0);
  assert.is(dma(rig, WRITE, 1, 0x8000n), ERROR);
  assert.is(dma(rig, key("etc/vmgenid_guid"), 16, 0x8000n), ERROR);
});

test("the chip set is an i440FX with PIIX3 and PIIX4", () => {
  const rig = boot({ disks: [Buffer.alloc(4096)] });
  assert.is(config(rig, 0, 0, 0), 0x12378086);
  assert.is(config(rig, 0, 0, 0x2c), 0x11001af4);
  assert.is(config(rig, 1, 0, 0), 0x70008086);
  assert.is(config(rig, 1, 0, 0x0e, 1), 0x80);
  assert.is(config(rig, 1, 3, 0), 0x71138086);
  assert.is(config(rig, 1, 1, 0), 0xffffffff);
  assert.is(config(rig, 3, 0, 0), 0x10421af4);
  assert.is(rig.load(0xd0000000, 4), 0xffffffffn); // no ECAM
});

test("PAM registers keep their bits, and memory stays memory", () => {
  const rig = boot();
  setConfig(rig, 0, 0, 0x59, 0xff, 1);
  setConfig(rig, 0, 0, 0x5a, 0x33, 1);
  assert.is(config(rig, 0, 0, 0x59, 1), 0x30);
  assert.is(config(rig, 0, 0, 0x5a, 1), 0x33);
  assert.is(rig.memory.toString("latin1", 0xe0000, 0xe0006), "SHADOW");
});

test("power management is where PMBA says, and at 0x600 too; SMM counts as set up", () => {
  const rig = boot();
  const timer = (at: number): number => {
    const before = rig.in(at, 4);
    rig.advance(1_000_000);
    return rig.in(at, 4) - before;
  };
  assert.is(config(rig, 1, 3, 0x40), 0x601);
  assert.is(config(rig, 1, 3, 0x80, 1), 1);
  assert.is(rig.in(0xb008, 4), 0xffffffff);
  setConfig(rig, 1, 3, 0x40, 0xffffb03f);
  assert.is(config(rig, 1, 3, 0x40), 0xb001);
  assert.is(rig.in(0xb004, 2) & 1, 1);
  assert.ok(timer(0xb008) > 3500 && timer(0x608) > 3500, "a millisecond");
  rig.out(0xb002, 0x100, 2);
  assert.is(rig.in(0x602, 2), 0x100);
  setConfig(rig, 1, 3, 0x80, 0xfe, 1);
  assert.is(config(rig, 1, 3, 0x80, 1), 0);
  assert.is(rig.in(0xb004, 2), 0xffff);
  assert.is(rig.in(0x602, 2), 0x100);
  // Wherever it is put, what is there already stays.
  setConfig(rig, 1, 3, 0x80, 1, 1);
  for (let base = 0; base < 0x10000; base += 64) {
    setConfig(rig, 1, 3, 0x40, base);
    rig.in(base + 8, 4);
    rig.in((base + 12) & 0xffff, 4);
  }
  setConfig(rig, 1, 3, 0x40, 0);
  assert.is(rig.in(0x70), 0xff);
  assert.is(config(rig, 1, 3, 0x5b, 1), 2);
  assert.is(rig.in(0x604, 2) & 1, 1);
});

test("a port BAR has 32 bits, so that its size can be read", () => {
  const rig = boot({ disks: [Buffer.alloc(4096)] });
  setConfig(rig, 3, 0, 0x20, 0xffffffff);
  assert.is(config(rig, 3, 0, 0x20), 0xfffffff1);
  setConfig(rig, 3, 0, 4, 7);
  setConfig(rig, 3, 0, 0x20, 0x1c000);
  assert.is(rig.in(0xc000), 0xff);
});

test("BARs may be anywhere between memory and the I/O APIC", () => {
  const rig = boot({ disks: [Buffer.alloc(4096)] });
  setConfig(rig, 3, 0, 4, 7);
  for (const [base, there] of [
    [0x80000000, true],
    [0xd0000000, true],
    [0xfebfc000, true],
    [0xfec00000, false],
  ] as const) {
    setConfig(rig, 3, 0, 0x10, base);
    assert.is(rig.load(base + 0x12, 2) === 1n, there, base.toString(16)); // num_queues
  }
});

test("the router takes IRQs that PCI may have, and 'none'", () => {
  const rig = boot();
  for (const [value, kept] of [
    [10, 10],
    [0x80, 0x80],
    [0x7b, 0x0b],
  ] as const) {
    setConfig(rig, 1, 0, 0x60, value, 1);
    assert.is(config(rig, 1, 0, 0x60, 1), kept);
  }
  for (let value = 0; value < 256; value++) setConfig(rig, 1, 0, 0x63, value, 1);
});

test("the debug port says that it is there, and its lines appear on the console", () => {
  const rig = boot();
  assert.is(rig.in(0x402), 0xe9);
  for (const byte of Buffer.from("hello\nworld")) rig.out(0x402, byte);
  rig.advance(10_000_000);
  assert.is(rig.output(), "hello\r\n");
  for (let n = 0; n < 1000; n++) rig.out(0x402, 0x41);
  rig.advance(10_000_000);
  assert.ok(rig.output().startsWith("world" + "A".repeat(155) + "\r\n"));
});

test("random accesses to what firmware uses trap nothing", () => {
  const rig = boot({ disks: [Buffer.alloc(4096)], vcpus: 2 });
  let seed = 12345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 0x100000000) * below);
  };
  const ports = [0x402, 0x510, 0x511, 0x514, 0x518, 0xb2, 0xb3, 0x600, 0x604, 0x70, 0x71];
  const sizes = [1, 2, 4];
  for (let n = 0; n < 30_000; n++) {
    const size = sizes[random(3)]!;
    const value = random(2) ? random(0x100000000) : random(64);
    const port = ports[random(ports.length)]!;
    const kind = random(4);
    if (kind === 0) setConfig(rig, random(5), random(8), random(256) & -size, value, size);
    else if (kind === 1) config(rig, random(5), random(8), random(256) & -size, size);
    else if (kind === 2) rig.in(port, size);
    else if (port !== 0x604 || !(value & 0x2000)) rig.out(port, value, size);
    if (n % 16 === 0) {
      const address = random(2)
        ? BigInt(random(64 * MIB))
        : BigInt(random(0x100000000)) << BigInt(random(33));
      dma(rig, random(0x100000000), random(2) ? random(256) : random(0x100000000), address);
    }
  }
  assert.is(item(rig, 0, 4).toString(), "QEMU");
});

test("CMOS has the memory's size and the vCPUs", () => {
  const rig = boot({ vcpus: 4 });
  const cmos = (index: number): number => {
    rig.out(0x70, index);
    return rig.in(0x71);
  };
  assert.is(cmos(0x34) | (cmos(0x35) << 8), (64 - 16) * 16);
  assert.is(cmos(0x15) | (cmos(0x16) << 8), 640);
  assert.is(cmos(0x17) | (cmos(0x18) << 8), 63 * 1024);
  assert.is(cmos(0x5f), 3);
});

test.run();
