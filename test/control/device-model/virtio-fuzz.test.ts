// Random configuration, registers and rings by a hostile driver: the device model must never trap.
// PLINTH_FUZZ=N makes it N times as long; PLINTH_SEED=N starts it elsewhere.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CABLE_RING, CABLE_SIZE, Rig } from "./rig";
import { configRead, configWrite, Driver, findVirtio, VERSION_1 } from "./virtio-driver";

const LENGTH = Number(process.env["PLINTH_FUZZ"] ?? 1);
let seed = Number(process.env["PLINTH_SEED"] ?? 0x2545f491) | 0;

function random(below: number): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) % below;
}

function pick<T>(values: readonly T[]): T {
  return values[random(values.length)]!;
}

const MEMORY = 16 << 20;
const RINGS = 0x400000;
const EDGES = [0, 1, 15, 16, 511, 512, 4096, MEMORY - 1, MEMORY, 0x7fffffff, 0xfffffff0, 0xffffffff];

function machine(): Rig {
  return new Rig({ memory: MEMORY, disks: [Buffer.alloc(64 * 512), Buffer.alloc(512)], readOnly: [1] });
}

/** Fills descriptors, rings and an indirect table with what is nearly right. */
function scramble(rig: Rig, size: number): void {
  const { memory } = rig;
  for (let n = 0; n < 16; n++) {
    const at = RINGS + 0x8000 * random(2) + 16 * random(16);
    const address = random(8) ? RINGS + 0x10000 + random(0x10000) : pick(EDGES);
    memory.writeBigUInt64LE(random(50) ? BigInt(address) : (BigInt(random(0x100000000)) << 32n) | 7n, at);
    memory.writeUInt32LE(random(8) ? random(2048) : pick(EDGES), at + 8);
    memory.writeUInt16LE(random(20) ? pick([0, 1, 2, 3]) : random(8), at + 12);
    memory.writeUInt16LE(random(size + 1), at + 14);
  }
  if (random(4) === 0) {
    const at = RINGS + 16 * random(size);
    memory.writeBigUInt64LE(BigInt(RINGS + 0x8000), at);
    memory.writeUInt32LE(16 * random(20), at + 8);
    memory.writeUInt16LE(4, at + 12);
  }
  for (let n = 0; n < size; n++)
    memory.writeUInt16LE(random(size + (random(9) ? 0 : 2)), RINGS + 0x2004 + 2 * n);
  // Headers of block requests: sensible types, sectors near the end.
  for (let n = 0; n < 8; n++) {
    const at = RINGS + 0x10000 + random(0x10000);
    memory.writeUInt32LE(pick([0, 1, 4, 8, 11, 13, random(16)]), at);
    memory.writeBigUInt64LE(random(9) ? BigInt(random(70)) : 0xffffffffffffffffn, at + 8);
  }
}

/** Two requests as a block driver makes them, or two buffers for entropy; now and then something in them is changed. */
function almostRight(rig: Rig, entropy: boolean): void {
  const { memory } = rig;
  for (let n = 0; n < 8; n++) {
    const last = n % 4 === 2;
    const at = RINGS + 16 * n;
    const address = RINGS + 0x10000 + 0x1000 * n;
    memory.writeBigUInt64LE(BigInt(address), at);
    memory.writeUInt32LE(last ? 1 : n % 4 === 0 && !entropy ? 16 : 512 * random(4), at + 8);
    memory.writeUInt16LE(last ? 2 : entropy ? 3 : n % 4 === 0 ? 1 : pick([1, 3]), at + 12);
    memory.writeUInt16LE(n + 1, at + 14);
    memory.writeUInt32LE(pick([0, 1, 4, 8, 11, 13]), address);
    memory.writeBigUInt64LE(BigInt(random(70)), address + 8);
    memory.writeUInt16LE(pick([0, 4]), RINGS + 0x2004 + 2 * n);
  }
  if (random(6) === 0) memory[RINGS + random(128)] = random(256);
  if (random(6) === 0) memory[RINGS + 0x10000 + 0x1000 * random(8) + random(16)] = random(256);
}

test("rings", () => {
  const rig = machine();
  const slots = [findVirtio(rig, 4), findVirtio(rig, 2, 0), findVirtio(rig, 2, 1)];
  let served = 0;
  let stopped = 0;
  for (let round = 0; round < 1500 * LENGTH; round++) {
    const size = pick([1, 2, 8, 8, 8, 8]);
    const slot = pick(slots);
    const polite = random(2) === 0;
    const driver = new Driver(rig, slot);
    driver.negotiate(VERSION_1 | (random(2) ? 1n << 28n : 0n) | (random(2) ? 1n << 29n : 0n));
    driver.setQueue(0, { size, descriptors: RINGS, available: RINGS + 0x2000, used: RINGS + 0x4000 });
    rig.memory.writeUInt16LE(0, RINGS + 0x2002);
    driver.start();
    let index = 0;
    for (let n = 0; n < 12; n++) {
      if (polite) almostRight(rig, slot === slots[0]);
      else scramble(rig, size);
      index = polite
        ? (index + random(3)) & 0xffff
        : (index + (random(20) ? random(size + 1) : random(65536))) & 0xffff;
      rig.memory.writeUInt16LE(index, RINGS + 0x2002);
      driver.notify(0);
    }
    served += rig.memory.readUInt16LE(RINGS + 0x4002);
    rig.memory.writeUInt32LE(0, RINGS + 0x4000);
    stopped += (driver.status & 0x40) >> 6;
    rig.msis.length = 0;
    rig.log.length = 0;
  }
  // Both ways must have been gone often.
  assert.ok(served > 500, `${served} buffers were served`);
  assert.ok(stopped > 500, `${stopped} times a device stopped`);
});

/** Descriptors of a packed ring that are nearly right, with wrap counters that mostly are. */
function scramblePacked(rig: Rig, size: number, wrap: boolean): void {
  const { memory } = rig;
  for (let n = 0; n < size; n++) {
    const at = RINGS + 16 * n;
    const writable = n % 4 >= 2;
    const address = RINGS + 0x10000 + 0x1000 * n;
    memory.writeBigUInt64LE(BigInt(random(9) ? address : pick(EDGES)), at);
    memory.writeUInt32LE(random(9) ? pick([1, 16, 64, 512, 600]) : pick(EDGES), at + 8);
    memory.writeUInt16LE(random(9) ? n : random(65536), at + 12);
    let flags = (n % 4 < 3 && random(5) ? 1 : 0) | (writable ? 2 : 0);
    if (random(12) === 0) flags = pick([0, 1, 2, 3, 4, 5, 6]);
    memory.writeUInt16LE(flags | ((random(30) ? wrap : !wrap) ? 0x80 : 0x8000), at + 14);
    memory.writeUInt32LE(pick([0, 1, 4, 8, 11, 13, random(16)]), address);
    memory.writeBigUInt64LE(BigInt(random(70)), address + 8);
  }
  memory.writeUInt32LE(random(2) ? random(3) << 16 : random(0x100000000), RINGS + 0x2000);
}

test("packed rings, of network cards too", () => {
  const cable = Buffer.alloc(CABLE_SIZE);
  const rig = new Rig({
    memory: MEMORY,
    disks: [Buffer.alloc(64 * 512)],
    cards: [{ address: 2, side: 0, cable }],
  });
  const kinds = [4, 2, 1];
  let stopped = 0;
  for (let round = 0; round < 1500 * LENGTH; round++) {
    const size = pick([1, 2, 3, 8, 8, 8]);
    const kind = pick(kinds);
    const driver = new Driver(rig, findVirtio(rig, kind));
    const features = kind === 1 ? BigInt(random(0x100000000)) & driver.offered : 0n;
    const events = (random(2) ? 1n << 28n : 0n) | (random(2) ? 1n << 29n : 0n);
    driver.negotiate(VERSION_1 | (1n << 34n) | features | events);
    const queue = kind === 1 ? random(3) : 0;
    const layout = { size, descriptors: RINGS, available: RINGS + 0x2000, used: RINGS + 0x4000 };
    for (let n = 0; n <= queue; n++) driver.setQueue(n, layout);
    cable.writeUInt32LE(1, 64); // the peer is plugged in
    driver.start();
    for (let n = 0; n < 8; n++) {
      scramblePacked(rig, size, n % 2 === 0);
      const head = cable.readUInt32LE(8);
      for (let i = 0; i < 16; i++)
        cable[0x1000 + CABLE_RING + ((head + i) % CABLE_RING)] = pick([0, 0, 0, 1, 4, 200, random(256)]);
      cable.writeUInt32LE((head + 16 * random(30)) % (2 * CABLE_RING), 64 + 4);
      if (random(9) === 0) cable.writeUInt32LE(random(2 * CABLE_RING), 64 + 8);
      if (kind === 1) rig.signalCable(0);
      driver.notify(queue);
      rig.advance(random(3) ? 1 : 2_000_000_000);
    }
    stopped += (driver.status & 0x40) >> 6;
    rig.msis.length = 0;
    rig.log.length = 0;
  }
  assert.ok(stopped > 300 && stopped < 1400 * LENGTH, `${stopped} times a device stopped`);
});

test("configuration space", () => {
  const rig = machine();
  for (let round = 0; round < 40000 * LENGTH; round++) {
    const size = pick([1, 2, 4]);
    const register = random(256) & ~(size - 1);
    const value = random(3)
      ? pick([0, 7, 0xffffffff, 0xe0000000 + random(0x1ec00000), 0xc000 + random(0x900)])
      : random(0x100000000);
    if (random(3)) configWrite(rig, random(5), register, value, size);
    else configRead(rig, random(5), register, size);
    if (random(4) === 0) rig.store(0xd0000000 + random(0x30000), pick([1, 2, 4, 8]), value);
    if (random(4) === 0) rig.load(0xd0000000 + random(0x100008), pick([1, 2, 4, 8]));
    if (random(4) === 0) rig.load(0xe0000000 + random(0x50000), pick([1, 2, 4, 8]));
    if (random(4) === 0) rig.store(0xe0000000 + random(0x50000), pick([1, 2, 4, 8]), value);
    if (random(4) === 0) rig.out(0xc000 + random(0x800), value, size);
    if (random(4) === 0) rig.in(0xc000 + random(0x800), size);
    rig.msis.length = 0;
  }
});

test("registers", () => {
  const rig = machine();
  const drivers = [findVirtio(rig, 4), findVirtio(rig, 2, 0)].map((slot) => new Driver(rig, slot));
  for (let round = 0; round < 60000 * LENGTH; round++) {
    const driver = pick(drivers);
    const page = pick([0, 0, 0, 0x1000, 0x2000, 0x3000]);
    const offset = page + random(page ? 8 : 64);
    const size = pick([1, 2, 4, 8]);
    if (random(4) === 0) driver.get(offset, Math.min(size, 4));
    else
      driver.set(
        offset,
        size,
        random(2) ? random(16) : BigInt(random(0x100000000)) * BigInt(random(0x10000)),
      );
    if (random(200) === 0) driver.rig.memory.writeUInt32LE(random(0x100000000), random(MEMORY - 4));
    rig.msis.length = 0;
    rig.log.length = 0;
  }
});

test.run();
