// The loader: where things end up, the state of vCPU 0, and hostile images.

import { existsSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Segment, SegmentStateAt, VcpuRegistersAt } from "../../../control/gen/abi";
import { gpr, isFlat, refused, segment } from "./images";
import { MIB, type Options, Rig, tinyKernel } from "./rig";

const ZERO_PAGE = 0x7000;

function message(patch: (image: Buffer) => void, options: Options = {}): string {
  return refused({ kernel: tinyKernel(patch), ...options }).message;
}

test("SMBIOS tables lie where systems look for them", () => {
  const { memory } = new Rig();
  const anchor = memory.subarray(0xf0000, 0xf0018);
  assert.is(anchor.toString("latin1", 0, 5), "_SM3_");
  assert.is(
    anchor.reduce((sum, byte) => (sum + byte) & 0xff, 0),
    0,
  );
  const at = Number(anchor.readBigUInt64LE(16));
  assert.equal([memory[at], memory[at + 1]], [1, 27]);
  assert.ok(memory.toString("latin1", at + 27, at + 64).startsWith("Plinth\0Virtual machine\0a\0\0"));
});

test("a good image is loaded and the vCPU is at its entry point", () => {
  const initrd = Buffer.from("an initrd");
  const rig = new Rig({ initrd, cmdline: "console=ttyS0 quiet" });
  assert.equal(rig.events(), [{ t: "ready" }]);
  const memory = rig.memory;
  assert.is(memory[0x1000000], 0x5a);
  assert.is(memory[0x1000000 + 4096], 0);
  const at = memory.readUInt32LE(ZERO_PAGE + 0x218);
  assert.is(memory.readUInt32LE(ZERO_PAGE + 0x21c), initrd.length);
  assert.is(at % 4096, 0);
  assert.is(memory.toString("latin1", at, at + initrd.length), "an initrd");
  assert.ok(at > 63 * MIB);
  const cmdline = memory.readUInt32LE(ZERO_PAGE + 0x228);
  assert.is(memory.toString("latin1", cmdline, cmdline + 20), "console=ttyS0 quiet\0");
  assert.is(memory.toString("latin1", ZERO_PAGE + 0x202, ZERO_PAGE + 0x206), "HdrS");
  assert.is(memory[ZERO_PAGE + 0x210], 0xff);
  assert.is(memory[ZERO_PAGE + 0x1ef], 0); // the sentinel
  const state = rig.state as Buffer;
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.rip), 0x1000200n);
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.gpr + 8 * 6), BigInt(ZERO_PAGE));
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.cr0), 0x80000031n);
  assert.is(state.readBigUInt64LE(VcpuRegistersAt.efer), 0x500n);
  assert.is(BigInt.asUintN(64, state.readBigUInt64LE(VcpuRegistersAt.tsc_offset) + rig.now), 0n);
  const cs = VcpuRegistersAt.segments + Segment.CS * SegmentStateAt.SIZE;
  assert.is(state.readUInt16LE(cs + SegmentStateAt.selector), 0x10);
  assert.is(state.readUInt32LE(cs + SegmentStateAt.access), 0xa09b);
  const ldtr = VcpuRegistersAt.segments + Segment.LDTR * SegmentStateAt.SIZE;
  assert.is(state.readUInt32LE(ldtr + SegmentStateAt.access), 0x10000);
});

test("page tables map the first 4 GiB one to one", () => {
  const rig = new Rig();
  const cr3 = Number((rig.state as Buffer).readBigUInt64LE(VcpuRegistersAt.cr3));
  const entry = (table: bigint, index: bigint): bigint =>
    rig.memory.readBigUInt64LE(Number((table & ~0xfffn) + index * 8n));
  for (const address of [0n, 0x1000200n, 0x7fffffffn, 0xfec00000n, 0xffffffffn]) {
    const pdpt = entry(BigInt(cr3), 0n);
    const pd = entry(pdpt, address >> 30n);
    const leaf = entry(pd, (address >> 21n) & 511n);
    assert.is(leaf, (address & ~0x1fffffn) | 0x83n);
  }
});

test("e820 covers the memory, sorted and without overlap", () => {
  const rig = new Rig({ memory: 96 * MIB });
  const count = rig.memory[ZERO_PAGE + 0x1e8] ?? 0;
  let end = 0n;
  for (let i = 0; i < count - 1; i++) {
    const at = ZERO_PAGE + 0x2d0 + i * 20;
    assert.is(rig.memory.readBigUInt64LE(at), end);
    end += rig.memory.readBigUInt64LE(at + 8);
  }
  assert.is(end, BigInt(96 * MIB));
  const last = ZERO_PAGE + 0x2d0 + (count - 1) * 20; // PCI configuration space
  assert.is(rig.memory.readBigUInt64LE(last), 0xd0000000n);
  assert.is(rig.memory.readUInt32LE(last + 16), 2);
});

test("what does not fit below the devices' addresses is memory from 4 GiB on", () => {
  const rig = new Rig({ memory: 3584 * MIB, initrd: Buffer.from("an initrd") });
  const ranges = [];
  for (let i = 0; i < (rig.memory[ZERO_PAGE + 0x1e8] ?? 0); i++) {
    const at = ZERO_PAGE + 0x2d0 + i * 20;
    const start = Number(rig.memory.readBigUInt64LE(at));
    ranges.push([
      start,
      start + Number(rig.memory.readBigUInt64LE(at + 8)),
      rig.memory.readUInt32LE(at + 16),
    ]);
  }
  assert.equal(ranges.slice(-3), [
    [MIB, 3072 * MIB, 1],
    [0xd0000000, 0xd0100000, 2],
    [4096 * MIB, 4608 * MIB, 1],
  ]);
  const initrd = rig.memory.readUInt32LE(ZERO_PAGE + 0x218);
  assert.is(initrd, 2048 * MIB - 4096); // initrd_addr_max, not where memory ends
});

test("a last paragraph that is not full, as memtest86+ has it", () => {
  const rig = new Rig({ kernel: tinyKernel().subarray(0, -15) });
  assert.equal(rig.events(), [{ t: "ready" }]);
});

test("boot: linux32 enters at the 32-bit entry point, as does an image without another", () => {
  const old = tinyKernel((k) => k.writeUInt16LE(0, 0x236));
  const older = tinyKernel((k) => k.writeUInt16LE(0x20a, 0x206));
  for (const options of [{ boot: "linux32" }, { kernel: old }, { kernel: older, boot: "linux32" }]) {
    const rig = new Rig(options);
    assert.equal(rig.events(), [{ t: "ready" }]);
    isFlat(rig, 0x1000000);
    assert.is(gpr(rig, 6), ZERO_PAGE);
    const gdt = Number(segment(rig, Segment.GDTR).base);
    assert.is(rig.memory.readBigUInt64LE(gdt + 0x10), 0x00cf9b000000ffffn);
    assert.is(rig.memory.readBigUInt64LE(gdt + 0x18), 0x00cf93000000ffffn);
  }
  assert.match(refused({ boot: "linux32", modules: [{ image: Buffer.alloc(1) }] }).message, "no modules");
});

test("run starts the vCPU", () => {
  const rig = new Rig();
  assert.is(rig.started, 0);
  rig.command({ t: "run" });
  assert.is(rig.started, 1);
});

test("each hostile field is refused by name, with the figures", () => {
  assert.match(
    message((k) => k.writeUInt8(200, 0x1f1)),
    "setup_sects 200 puts the kernel beyond the end of the image (5,120 bytes)",
  );
  assert.match(
    message((k) => k.writeUInt32LE(0xffffffff, 0x1f4)),
    "syssize says 68,719,476,720 bytes of kernel, and the image holds 4,096 bytes",
  );
  assert.match(
    message((k) => k.writeUInt32LE(3, 0x1f4)),
    "syssize 3 is too small",
  );
  assert.match(
    message((k) => k.writeUInt16LE(0, 0x1fe)),
    "boot_flag is 0x0, not 0xaa55",
  );
  assert.match(
    message((k) => k.writeUInt8(0, 0x202), { boot: "linux" }),
    "this is no Linux bzImage",
  );
  assert.match(
    message((k) => k.writeUInt16LE(0x20b, 0x206), { boot: "linux" }),
    "version 0x20b of the boot protocol is too old (0x20c is the least)",
  );
  assert.match(
    message((k) => k.writeUInt16LE(0x209, 0x206)),
    "version 0x209 of the boot protocol is too old (0x20a is the least)",
  );
  assert.match(
    message((k) => k.writeUInt8(0, 0x201)),
    "jump says that the setup header ends at 0x202",
  );
  assert.match(
    message((k) => k.writeUInt8(0xff, 0x201)),
    "jump says that the setup header ends at 0x301",
  );
  assert.match(
    message((k) => k.writeUInt8(0, 0x211)),
    "LOADED_HIGH",
  );
  assert.match(
    message((k) => k.writeUInt16LE(0, 0x236), { boot: "linux" }),
    "xloadflags: no 64-bit entry point; boot: linux32 uses the 32-bit one",
  );
  assert.match(
    message((k) => k.writeUInt32LE(0, 0x230)),
    "kernel_alignment 0x0 is no power of two",
  );
  assert.match(
    message((k) => k.writeUInt32LE(0x300000, 0x230)),
    "kernel_alignment 0x300000 is no power of two",
  );
  assert.match(
    message((k) => k.writeUInt32LE(16, 0x260)),
    "init_size 16 bytes is less than the kernel's own 4,096 bytes",
  );
  assert.match(
    message((k) => k.writeUInt32LE(0xffffffff, 0x260)),
    "init_size 4,294,967,295 bytes at pref_address 0x1000000 does not fit the VM's memory (67,108,864 bytes)",
  );
  assert.match(
    message((k) => k.writeBigUInt64LE(0xffffffffffffffffn, 0x258)),
    "does not fit the VM's memory",
  );
  assert.match(
    message((k) => {
      k.writeUInt8(0, 0x234);
      k.writeBigUInt64LE(0x1000001n, 0x258);
    }),
    "pref_address 0x1000001 is not a multiple of kernel_alignment",
  );
  assert.match(
    message((k) => {
      k.writeUInt8(0, 0x234);
      k.writeBigUInt64LE(0n, 0x258);
    }),
    "pref_address 0x0 lies below 1 MiB",
  );
});

test("command lines, initrds and memory sizes that do not fit are refused", () => {
  assert.match(refused({ cmdline: "x".repeat(2048) }).message, "2,048 bytes are more than");
  assert.match(refused({ cmdline: "a\0b" }).message, "byte 1 of the command line is zero");
  const big = refused({ initrd: Buffer.alloc(50 * MIB) });
  assert.is(big.object, "initrd");
  assert.match(big.message, "52,428,800 bytes do not fit in the");
  assert.is(
    refused({ initrd: Buffer.alloc(9), kernel: tinyKernel((k) => k.writeUInt32LE(0, 0x22c)) }).object,
    "initrd",
  );
  assert.match(refused({ memory: MIB }).message, "1,048,576 bytes");
  assert.match(refused({ memory: 64 * MIB + 1 }).message, "whole pages");
});

test("nonsense instead of a configuration is an error, not a trap", () => {
  assert.match(refused({ rawConfig: Buffer.from([0xff, 0xff]) }).message, "configuration is not valid");
  assert.match(refused({ rawConfig: Buffer.alloc(0) }).message, "configuration is not valid");
  assert.match(refused({ rawConfig: Buffer.from([0xa0]) }).message, "configuration is not valid");
});

test("every truncation of an image is refused", () => {
  const whole = tinyKernel();
  const tail = 15; // its last paragraph need not be full
  for (let length = 0; length < whole.length - tail; length += length >= 0x1f0 && length < 0x290 ? 1 : 31) {
    refused({ kernel: whole.subarray(0, length), memory: 24 * MIB });
  }
});

test("fuzzed headers are loaded or refused, and never trap", () => {
  let seed = 0x2545f491;
  const random = (below: number): number => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) % below;
  };
  const edges = [0, 1, 2, 0x7f, 0x80, 0xff];
  let ready = 0;
  const until = Date.now() + 2000;
  let runs = 0;
  while (runs < 400 && Date.now() < until) {
    runs++;
    const kernel = tinyKernel((k) => {
      for (let n = 1 + random(4); n > 0; n--) {
        k[0x1f1 + random(0x290 - 0x1f1)] = random(2) ? (edges[random(edges.length)] ?? 0) : random(256);
      }
    });
    const rig = new Rig({ memory: 24 * MIB, kernel, initrd: Buffer.alloc(random(3) * 5000) });
    const events = rig.events();
    assert.is(events.length, 1);
    if (events[0]?.["t"] === "ready") ready++;
    else assert.is(events[0]?.["t"], "error");
  }
  assert.ok(ready > 0 && ready < runs);
});

const withGuest = existsSync("build/guest/linux") ? test : test.skip;

withGuest("Debian's cloud kernel is accepted", () => {
  const rig = new Rig({
    memory: 128 * MIB,
    kernel: readFileSync("build/guest/linux"),
    initrd: Buffer.alloc(MIB),
  });
  assert.equal(rig.events(), [{ t: "ready" }]);
});

test.run();
