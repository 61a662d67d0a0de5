// The balloon: what a driver gives and reports goes back to the host, and nothing else; targets; nonsense.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { MIB, type Options, Rig } from "./rig";
import {
  DEVICE,
  Driver,
  EVENT_IDX,
  findVirtio,
  NEEDS_RESET,
  PACKED,
  PackedDriver,
  VERSION_1,
} from "./virtio-driver";

const BALLOON = 5;
const LIST = 0x500000;
const STATS_VQ = 2n;
const DEFLATE_ON_OOM = 4n;
const POISON = 16n;
const REPORTING = 32n;
const REPORTS = 4;
const GIB = 2 ** 30;

function start(features = VERSION_1, options: Options = {}): Driver {
  const rig = new Rig(options);
  const driver = new Driver(rig, findVirtio(rig, BALLOON));
  driver.negotiate(features);
  for (const index of [0, 1, 2, REPORTS]) driver.addQueue(index, 16, undefined, index);
  driver.start();
  return driver;
}

/** Gives or takes back pages, by their numbers. */
function list(driver: Driver, queue: number, pages: number[]): void {
  pages.forEach((page, n) => driver.rig.memory.writeUInt32LE(page, LIST + 4 * n));
  driver.send(queue, [{ address: LIST, length: 4 * pages.length }]);
}

function report(driver: Driver, ranges: [address: number, length: number][], queue = REPORTS): void {
  driver.send(
    queue,
    ranges.map(([address, length]) => ({ address, length, write: true })),
  );
}

const pagesOf = (rig: Rig): number[] => [...rig.released].sort((a, b) => a - b);
const range = (first: number, count: number): number[] => Array.from({ length: count }, (_, n) => first + n);

test("what is offered, and the target", () => {
  const driver = start();
  assert.is(driver.offered & 0x3fn, STATS_VQ | DEFLATE_ON_OOM | POISON | REPORTING);
  assert.is(driver.get(DEVICE, 4), 0);
  const generation = driver.get(0x15, 1);
  driver.rig.command({ t: "balloon", value: 4096 });
  assert.is(driver.get(DEVICE, 4), 4096);
  assert.is.not(driver.get(0x15, 1), generation);
  driver.set(DEVICE + 4, 4, 0x1234);
  assert.is(driver.get(DEVICE + 4, 4), 0x1234);
  driver.set(DEVICE, 4, 7); // the target is not the driver's
  assert.is(driver.get(DEVICE, 4), 4096);
});

test("pages that are given go back to the host, neighbours together", () => {
  const driver = start();
  list(driver, 0, [0x900, 0x901, 0x902, 0x8ff, 0x8fe, 0xa00]);
  assert.equal(driver.take(0), { id: 0, length: 0 });
  assert.equal(pagesOf(driver.rig), [...range(0x8fe, 5), 0xa00]);
  assert.is(driver.rig.releases, 2);
  list(driver, 0, [0x900, 0x900, 0x900]); // again, and twice
  assert.equal(driver.take(0), { id: 0, length: 0 });
  list(driver, 1, [0x900]);
  assert.equal(driver.take(1), { id: 0, length: 0 });
});

test("pages above 4 GiB are those behind the hole", () => {
  const driver = start(VERSION_1, { memory: 3 * GIB + MIB });
  list(driver, 0, [0xbffff, 0x100000, 0x1000ff]);
  assert.equal(driver.take(0), { id: 0, length: 0 });
  assert.equal(pagesOf(driver.rig), [0xbffff, 0xc0000, 0xc00ff]);
});

for (const [name, page] of [
  ["the first behind the memory", (64 * MIB) / 4096],
  ["in the hole: an I/O APIC", 0xfec00],
  ["at 4 GiB", 0x100000],
  ["the last there can be", 0xffffffff],
] as const) {
  test(`hostile: a page that is no memory, ${name}`, () => {
    const driver = start();
    list(driver, 0, [page]);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
    assert.is(driver.rig.released.size, 0);
  });
}

for (const length of [0, 3, 5, 16388]) {
  test(`hostile: a list of ${length} bytes`, () => {
    const driver = start();
    driver.send(0, length ? [{ address: LIST, length }] : [{ address: LIST, length: 4, write: true }]);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
    assert.is(driver.rig.released.size, 0);
  });
}

test("reported pages go back, whole ones only", () => {
  const driver = start(VERSION_1 | REPORTING);
  report(driver, [
    [0x900000, 4 * MIB],
    [0xe00800, 0x2000],
    [0xf00000, 0x800],
  ]);
  assert.equal(driver.take(REPORTS), { id: 0, length: 0 });
  assert.equal(pagesOf(driver.rig), [...range(0x900, 1024), 0xe01]);
});

test("drivers that do not count absent queues report by queue 2", () => {
  const driver = start(VERSION_1 | REPORTING);
  report(driver, [[0x900000, 2 * MIB]], 2);
  assert.equal(driver.take(2), { id: 0, length: 0 });
  assert.is(driver.rig.released.size, 512);
});

test("free pages with a pattern in them stay", () => {
  const driver = start(VERSION_1 | REPORTING | POISON);
  driver.set(DEVICE + 12, 4, 0xaaaaaaaa);
  report(driver, [[0x900000, 2 * MIB]]);
  assert.equal(driver.take(REPORTS), { id: 0, length: 0 });
  assert.is(driver.rig.released.size, 0);
  driver.set(DEVICE + 12, 4, 0);
  report(driver, [[0x900000, 2 * MIB]]);
  assert.is(driver.rig.released.size, 512);
});

test("hostile: reports over the end, over devices, and to be read", () => {
  for (const [address, length] of [
    [63 * MIB, 2 * MIB],
    [0xfec00000, 4096],
    [0, 0xffffffff],
  ] as [number, number][]) {
    const driver = start(VERSION_1 | REPORTING);
    report(driver, [[address, length]]);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
    assert.is(driver.rig.released.size, 0);
  }
  const driver = start(VERSION_1 | REPORTING);
  driver.send(REPORTS, [{ address: 0x900000, length: 4096 }]);
  assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
});

test("the rings themselves may be given: the device reads what is there then", () => {
  const driver = start();
  list(driver, 0, range(0x400, 256));
  assert.equal(driver.take(0), { id: 0, length: 0 });
  assert.is(driver.rig.released.size, 256);
  assert.is(driver.status & NEEDS_RESET, 0);
});

for (const packed of [false, true]) {
  const name = packed ? "packed" : "split";

  test(`${name}: statistics stay with the device until it wants new ones`, () => {
    const rig = new Rig({ noEntropy: true });
    const slot = findVirtio(rig, BALLOON);
    const driver = packed ? new PackedDriver(rig, slot) : new Driver(rig, slot);
    driver.negotiate(VERSION_1 | EVENT_IDX | STATS_VQ | (packed ? PACKED : 0n));
    for (const index of [0, 1, 2]) driver.addQueue(index, 16);
    driver.start();
    /** Tags and values, as the driver has them. */
    const tell = (...stats: [tag: number, value: number][]): void => {
      stats.forEach(([tag, value], n) => {
        rig.memory.writeUInt16LE(tag, LIST + 10 * n);
        rig.memory.writeBigUInt64LE(BigInt(value), LIST + 10 * n + 2);
      });
      driver.send(2, [{ address: LIST, length: 10 * stats.length }]);
    };
    const counted = (): number[] => rig.counters(0).slice(7, 12);
    rig.command({ t: "stats" }); // nothing is there yet
    tell([5, 100 * MIB], [4, 60 * MIB], [6, 70 * MIB], [7, 8 * MIB], [2, 9], [77, 1]);
    assert.equal(counted(), [100 * MIB, 60 * MIB, 70 * MIB, 8 * MIB, 9]);
    assert.is(driver.take(2), undefined);
    rig.command({ t: "stats" });
    assert.equal(driver.take(2), { id: 0, length: 0 });
    const wanted =
      driver instanceof PackedDriver
        ? driver.deviceEvents(2).place & 0x7fff
        : rig.memory.readUInt16LE(driver.queues[2]!.used + 4 + 8 * 16);
    assert.is(wanted, 1, "it wants to be notified of the next");
    tell([4, 50 * MIB]);
    assert.equal(counted(), [100 * MIB, 50 * MIB, 70 * MIB, 8 * MIB, 9]);
    assert.is(driver.take(2), undefined);
    tell([4, 1], [4, 2]);
    assert.is(driver.status & NEEDS_RESET, 0);
    driver.set(0x14, 1, 0);
    assert.is(counted()[0], 0);
  });
}

test("hostile: statistics without an end", () => {
  const driver = start(VERSION_1 | STATS_VQ);
  driver.send(2, [{ address: 0, length: 32 * MIB }]);
  assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
  driver.rig.command({ t: "stats" });
});

test.run();
