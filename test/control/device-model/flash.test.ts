// The flash chip: its commands, when the VM has the array mapped, what lasts, and what a hostile guest may try.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Right } from "../../../control/gen/abi";
import { MIB, type Options, Rig } from "./rig";

const BLOCK = 4096;
const SIZE = 8 * BLOCK;
const FIRMWARE = 256 * 1024;
const BASE = 2 ** 32 - FIRMWARE;
const READY = 0x80;
const ERASE_FAILED = 0x20;
const PROGRAM_FAILED = 0x10;

/** Firmware whose flash memory has the byte 0xf0 everywhere but for its first. */
function image(): Buffer {
  const bytes = Buffer.alloc(FIRMWARE, 0x90);
  bytes.fill(0xf0, 0, SIZE);
  bytes[0] = 0x12;
  return bytes;
}

function boot(options: Options = {}): Rig {
  const rig = new Rig({ firmware: image(), flash: SIZE, ...options });
  assert.equal(rig.events(), [{ t: "ready" }]);
  return rig;
}

function write(rig: Rig, offset: number, ...bytes: number[]): void {
  for (const byte of bytes) rig.store(BASE + offset, 1, byte);
}

function read(rig: Rig, offset: number, size = 1): number {
  return Number(rig.load(BASE + offset, size));
}

/** What reads see when they come to the chip. */
function status(rig: Rig): number {
  assert.is(rig.flashMapped, null, "the chip shows its array");
  return read(rig, 0);
}

test("new flash memory holds what the image has there, old flash memory what it had", () => {
  const flash = (rig: Rig): Buffer => rig.firmware.subarray(0, SIZE);
  assert.equal(flash(boot()), image().subarray(0, SIZE));
  const flashHolds = Buffer.alloc(SIZE, 0x77);
  assert.equal(flash(boot({ flashHolds })), flashHolds);
});

test("the array is mapped, to be read only, while the chip shows it", () => {
  const rig = boot();
  const mapped = { gpa: BigInt(BASE), pages: BigInt(SIZE / BLOCK), access: BigInt(Right.READ) };
  assert.equal(rig.flashMapped, mapped);
  for (const command of [0x70, 0x90, 0x98, 0x10, 0x20]) {
    write(rig, 5, command);
    assert.is(rig.flashMapped, null, command.toString(16));
    write(rig, 5, 0xff, 0xff); // the first may be a command's second cycle
    assert.equal(rig.flashMapped, mapped);
  }
  assert.is(rig.flashChanges, 1 + 2 * 5);
});

test("a VM that goes on from a snapshot gets the array mapped again, if the chip shows it", () => {
  const rig = boot();
  const born = { t: "reborn", generation: Buffer.alloc(16, 1) };
  for (const mapped of [rig.flashMapped, null]) {
    rig.flashMapped = mapped;
    rig.command(born);
    assert.is(rig.flashMapped?.gpa, BigInt(BASE));
  }
  write(rig, 5, 0x70);
  rig.command(born);
  assert.is(rig.flashMapped, null);
});

test("what OVMF does to find out that there is a chip", () => {
  const rig = boot();
  write(rig, 0, 0x50);
  assert.ok(rig.flashMapped);
  write(rig, 0, 0x70);
  assert.is(status(rig), 0);
  write(rig, 0, 0xff);
  assert.ok(rig.flashMapped);
  assert.equal(rig.firmware.subarray(0, SIZE), image().subarray(0, SIZE));
});

test("a byte is programmed: bits are cleared and none is set", () => {
  const rig = boot();
  write(rig, 100, 0x10, 0x3c);
  assert.is(status(rig), READY);
  assert.is(rig.firmware[100], 0x30);
  write(rig, 101, 0x40, 0xff);
  assert.is(rig.firmware[101], 0xf0);
  rig.store(BASE + 104, 1, 0x10);
  rig.store(BASE + 104, 4, 0x11223344);
  assert.is(rig.firmware.readUInt32LE(104), 0x10203040);
  assert.is(rig.flashChanges, 2, "many bytes in a row change the mapping once");
  write(rig, 104, 0xff);
  assert.ok(rig.flashMapped);
  assert.is(rig.firmware[99], 0xf0);
  assert.is(rig.firmware[108], 0xf0);
});

test("a block is erased, and nothing around it", () => {
  const rig = boot();
  write(rig, 2 * BLOCK + 17, 0x20, 0xd0);
  assert.is(status(rig), READY);
  const expected = image().subarray(0, SIZE);
  expected.fill(0xff, 2 * BLOCK, 3 * BLOCK);
  assert.equal(rig.firmware.subarray(0, SIZE), expected);
});

test("an erasure that is not confirmed is an error, until the status is cleared", () => {
  const rig = boot();
  write(rig, 0, 0x20, 0x55);
  assert.is(status(rig), READY | ERASE_FAILED | PROGRAM_FAILED);
  write(rig, 0, 0x10, 0xff);
  assert.is(status(rig), READY | ERASE_FAILED | PROGRAM_FAILED);
  write(rig, 0, 0x50, 0x70);
  assert.is(status(rig), 0);
  write(rig, 0, 0x33);
  assert.is(status(rig), READY | ERASE_FAILED | PROGRAM_FAILED);
  assert.equal(rig.firmware.subarray(0, SIZE), image().subarray(0, SIZE));
});

test("a buffer is written with its confirmation, in any order and width", () => {
  const rig = boot();
  const at = BLOCK + 8;
  write(rig, at, 0xe8);
  assert.is(status(rig), READY);
  write(rig, at, 8 - 1);
  write(rig, at, 0x01);
  rig.store(BASE + at + 4, 4, 0xa0b0c0d0);
  write(rig, at + 3, 0x23, 0x33); // twice: the last counts
  write(rig, at + 1, 0x43);
  assert.is(rig.firmware[at], 0xf0, "not before its end");
  write(rig, at, 0xd0);
  assert.is(status(rig), READY);
  assert.is(rig.firmware.toString("hex", at, at + 9), "0040f030d0c0b0a0f0");
});

test("a buffer that is left, or not confirmed, is an error and writes nothing", () => {
  for (const cycles of [
    [
      [8, 0x11],
      [16, 0],
    ],
    [
      [8, 0x11],
      [7, 0],
    ],
    [
      [8, 0],
      [9, 0],
      [10, 0],
      [11, 0],
      [8, 0xff],
    ],
  ] as const) {
    const rig = boot();
    write(rig, 8, 0xe8, 3);
    for (const [offset, byte] of cycles) write(rig, offset, byte);
    assert.is(status(rig), READY | ERASE_FAILED | PROGRAM_FAILED);
    assert.equal(rig.firmware.subarray(0, SIZE), image().subarray(0, SIZE));
  }
});

test("a buffer may end with the chip, and not behind it", () => {
  const rig = boot();
  write(rig, SIZE - 1, 0xe8, 0xff);
  for (let n = 0; n < 256; n++) write(rig, SIZE - 1, 0x10);
  write(rig, SIZE - 1, 0xd0);
  assert.is(rig.firmware[SIZE - 1], 0x10);
  assert.is(rig.firmware[SIZE], 0x90);
});

test("the chip says what it is", () => {
  const rig = boot();
  write(rig, 0, 0x90);
  assert.equal([read(rig, 0), read(rig, 1), read(rig, 2)], [0x89, 0x18, 0]);
  write(rig, 0x55, 0x98);
  const query = Buffer.from(Array.from({ length: 0x100 }, (_, n) => read(rig, n)));
  assert.is(query.toString("latin1", 0x10, 0x13), "QRY");
  assert.is(query.readUInt16LE(0x13), 1);
  assert.is(1 << query[0x27]!, SIZE);
  assert.is(1 << query[0x2a]!, 256);
  assert.is((query.readUInt16LE(0x2d) + 1) * query.readUInt16LE(0x2f) * 256, SIZE);
  assert.is(query.toString("latin1", query.readUInt16LE(0x15)).slice(0, 5), "PRI10");
  write(rig, 0, 0x60, 0x01);
  assert.is(status(rig), READY);
});

test("where the kernel maps nothing the chip answers reads of its array too", () => {
  const rig = boot();
  rig.noMappings = true;
  write(rig, 0, 0x10, 0x02, 0xff);
  assert.is(rig.flashMapped, null);
  assert.is(rig.load(BASE, 8), 0xf0f0f0f0f0f0f002n);
  rig.noMappings = false;
  write(rig, 0, 0xff);
  assert.ok(rig.flashMapped);
});

test("what is not flash memory is not written", () => {
  const rig = boot();
  rig.store(BASE + SIZE, 1, 0x20);
  rig.store(BASE + SIZE, 1, 0xd0);
  rig.store(BASE - 4, 4, 0x10);
  assert.ok(rig.flashMapped);
  assert.equal(rig.firmware.subarray(SIZE), image().subarray(SIZE));
  const rom = new Rig({ firmware: image() });
  rom.store(BASE, 1, 0x70);
  assert.is(rom.flashMapped, null);
  assert.is(rom.firmware[0], 0x12);
});

test("more flash memory than firmware is refused", () => {
  for (const [flash, firmware] of [
    [FIRMWARE, FIRMWARE],
    [FIRMWARE - 65536, FIRMWARE],
    [SIZE + 1, FIRMWARE],
    [MIB + BLOCK, 4 * MIB],
  ] as const) {
    const rig = new Rig({ firmware: Buffer.alloc(firmware), flash });
    assert.is(rig.events()[0]?.["t"], "error");
    assert.is(rig.state, null);
    assert.is(rig.flashMapped, null);
  }
});

test("random commands trap nothing and touch nothing else", () => {
  const rig = boot({ disks: [Buffer.alloc(4096)] });
  const before = Buffer.from(rig.memory);
  const commands = [0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xd0, 0xe8, 0xff, 0, 1, 7];
  let seed = 4711;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 0x100000000) * below);
  };
  for (let n = 0; n < 50_000; n++) {
    const size = [1, 1, 1, 2, 4, 8][random(6)]!;
    const offset = (random(4) ? random(64) : random(SIZE + 16) - 8) & -size;
    if (random(4))
      rig.store(BASE + offset, size, random(3) ? commands[random(commands.length)]! : random(2 ** 32));
    else if (rig.flashMapped === null) rig.load(BASE + offset, size);
  }
  before.set(rig.memory.subarray(0x100000, 0x100004), 0x100000); // the instructions
  assert.ok(before.equals(rig.memory));
  assert.equal(rig.firmware.subarray(SIZE), image().subarray(SIZE));
});

test.run();
