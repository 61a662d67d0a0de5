// The virtio transport and split rings: negotiation, order, events, and what a driver must not do.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";
import {
  configWrite,
  Driver,
  DRIVER_OK,
  EVENT_IDX,
  findVirtio,
  INDIRECT,
  INDIRECT_DESC,
  NEEDS_RESET,
  NEXT,
  PACKED,
  type QueueLayout,
  refuseQueue,
  RING_RESET,
  type Segment,
  VERSION_1,
  WRITE,
} from "./virtio-driver";

const RNG = 4;
const BUFFER = 0x500000;
const ALL = VERSION_1 | INDIRECT_DESC | EVENT_IDX;

function rng(features = ALL, size = 8): Driver {
  const rig = new Rig();
  return Driver.start(rig, findVirtio(rig, RNG), features, size, 1);
}

test("a CPU without entropy has no entropy device", () => {
  assert.throws(() => findVirtio(new Rig({ noEntropy: true }), RNG));
});

test("the device after power-on", () => {
  const rig = new Rig();
  const driver = new Driver(rig, findVirtio(rig, RNG));
  assert.is(driver.status, 0);
  assert.is(driver.offered, ALL | PACKED | RING_RESET);
  const split = new Rig({ rings: "split" });
  assert.is(new Driver(split, findVirtio(split, RNG)).offered, ALL | RING_RESET);
  assert.is(driver.get(0x10, 2), 0xffff);
  assert.is(driver.get(0x12, 2), 1);
  assert.is(driver.get(0x18, 2), 8);
  assert.is(driver.get(0x1c, 2), 0);
  driver.set(0x16, 2, 1); // a queue that is not there
  assert.is(driver.get(0x18, 2), 0);
});

test("features: VERSION_1 must be accepted, and only what is offered", () => {
  const rig = new Rig();
  const driver = new Driver(rig, findVirtio(rig, RNG));
  for (const [features, ok] of [
    [0n, false],
    [VERSION_1, true],
    [ALL, true],
    [ALL | 1n, false],
    [ALL | PACKED | RING_RESET, true],
    [ALL | (1n << 33n), false],
  ] as const) {
    driver.negotiate(features);
    assert.is((driver.status & 8) !== 0, ok, features.toString(16));
  }
});

test("features cannot change once they are accepted", () => {
  const driver = rng(VERSION_1);
  driver.set(8, 4, 0);
  driver.set(12, 4, 0xffffffff);
  assert.is(driver.get(12, 4), 0);
});

test("a buffer is filled and given back", () => {
  const driver = rng();
  driver.send(0, [{ address: BUFFER, length: 32, write: true }]);
  assert.equal(driver.take(0), { id: 0, length: 32 });
  assert.is(driver.rig.memory[BUFFER], 11);
  assert.is(driver.rig.memory[BUFFER + 31], (31 * 37 + 11) & 0xff);
  assert.is(driver.rig.memory[BUFFER + 32], 0);
});

test("a longer buffer gets what one call of the kernel gives, over all its segments", () => {
  const driver = rng();
  driver.send(0, [
    { address: BUFFER, length: 0, write: true },
    { address: BUFFER, length: 100, write: true },
    { address: BUFFER + 1000, length: 10000, write: true },
  ]);
  assert.equal(driver.take(0), { id: 0, length: 256 });
  assert.is(driver.rig.memory[BUFFER + 1000 + 155], (255 * 37 + 11) & 0xff);
  assert.is(driver.rig.memory[BUFFER + 1000 + 156], 0);
});

test("an indirect table", () => {
  const driver = rng();
  driver.chain(0x600000, [
    { address: BUFFER, length: 8, write: true },
    { address: BUFFER + 64, length: 8, write: true },
  ]);
  driver.descriptor(driver.queues[0]!.descriptors + 48, 0x600000, 32, INDIRECT);
  driver.offer(0, 3);
  driver.notify(0);
  assert.equal(driver.take(0), { id: 3, length: 16 });
});

test("indexes wrap at 65,536", () => {
  const driver = rng(VERSION_1);
  driver.chain(driver.queues[0]!.descriptors, [{ address: BUFFER, length: 1, write: true }]);
  for (let i = 0; i < 65540; i++) {
    driver.offer(0, 0);
    if (i % 8 === 7) driver.notify(0);
  }
  driver.notify(0);
  assert.is(driver.usedIndex(0), 4);
  assert.is(driver.status, DRIVER_OK);
});

test("without an event index the driver's flag suppresses interrupts", () => {
  const driver = rng(VERSION_1);
  driver.useMsix(2);
  const { available } = driver.queues[0]!;
  driver.send(0, [{ address: BUFFER, length: 1, write: true }]);
  assert.is(driver.rig.msis.length, 1);
  driver.rig.memory.writeUInt16LE(1, available);
  driver.send(0, [{ address: BUFFER, length: 1, write: true }]);
  assert.is(driver.rig.msis.length, 1);
});

test("with an event index the driver says which buffer it waits for", () => {
  const driver = rng();
  driver.useMsix(2);
  const { available, used, size } = driver.queues[0]!;
  const once = (): void => driver.send(0, [{ address: BUFFER, length: 1, write: true }]);
  driver.rig.memory.writeUInt16LE(2, available + 4 + 2 * size);
  once();
  once();
  assert.is(driver.rig.msis.length, 0);
  assert.is(driver.rig.memory.readUInt16LE(used + 4 + 8 * size), 2); // the device's own event
  once();
  assert.is(driver.rig.msis.length, 1);
  once();
  assert.is(driver.rig.msis.length, 1);
});

test("nothing is done before DRIVER_OK, and all of it then", () => {
  const rig = new Rig();
  const driver = new Driver(rig, findVirtio(rig, RNG));
  driver.negotiate(ALL);
  driver.addQueue(0, 8);
  driver.send(0, [{ address: BUFFER, length: 1, write: true }]);
  assert.is(driver.usedIndex(0), 0);
  driver.start();
  assert.is(driver.usedIndex(0), 1);
});

test("nothing is done while bus mastering is off", () => {
  const driver = rng();
  configWrite(driver.rig, driver.slot, 4, 3, 2);
  driver.send(0, [{ address: BUFFER, length: 1, write: true }]);
  assert.is(driver.usedIndex(0), 0);
  configWrite(driver.rig, driver.slot, 4, 7, 2);
  assert.is(driver.usedIndex(0), 1);
});

test("notifications by port", () => {
  const driver = rng();
  driver.chain(driver.queues[0]!.descriptors, [{ address: BUFFER, length: 1, write: true }]);
  driver.offer(0, 0);
  driver.rig.out(0xc000 + 16 * driver.slot, 1, 2); // no such queue
  assert.is(driver.usedIndex(0), 0);
  driver.rig.out(0xc000 + 16 * driver.slot, 0, 2);
  assert.is(driver.usedIndex(0), 1);
});

test("a reset forgets everything", () => {
  const driver = rng();
  driver.send(0, [{ address: BUFFER, length: 1, write: true }]);
  driver.set(0x14, 1, 0);
  assert.is(driver.status, 0);
  assert.is(driver.get(0x1c, 2), 0);
  assert.is(driver.get(0x1000, 1), 0);
  driver.negotiate(ALL);
  driver.addQueue(0, 4);
  driver.start();
  driver.send(0, [{ address: BUFFER, length: 5, write: true }]);
  assert.equal(driver.take(0), { id: 0, length: 5 });
});

/** Does what must stop the device, then checks that it comes back after a reset. */
function hostile(name: string, act: (driver: Driver) => void, features = ALL): void {
  test(`hostile: ${name}`, () => {
    const driver = rng(features);
    driver.set(0x10, 2, 0);
    driver.useMsix(2);
    act(driver);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
    assert.is(driver.usedIndex(0), 0);
    assert.equal(driver.rig.msis, [{ address: 0xfee00000, data: 0x40 }], "a configuration interrupt");
    driver.notify(0);
    assert.is(driver.usedIndex(0), 0);
    driver.negotiate(ALL);
    driver.addQueue(0, 8);
    driver.start();
    driver.send(0, [{ address: BUFFER, length: 5, write: true }]);
    assert.equal(driver.take(0), { id: 0, length: 5 });
  });
}

const MEMORY = 64 << 20;

function bad(segments: Segment[]): (driver: Driver) => void {
  return (driver) => driver.send(0, segments);
}

hostile("a chain that loops", (driver) => {
  const { descriptors } = driver.queues[0]!;
  driver.descriptor(descriptors, BUFFER, 1, WRITE | NEXT, 1);
  driver.descriptor(descriptors + 16, BUFFER, 1, WRITE | NEXT, 0);
  driver.offer(0, 0);
  driver.notify(0);
});
hostile("a chain that leaves the table", (driver) => {
  driver.descriptor(driver.queues[0]!.descriptors, BUFFER, 1, WRITE | NEXT, 8);
  driver.offer(0, 0);
  driver.notify(0);
});
hostile("a head that is no descriptor", (driver) => {
  driver.offer(0, 8);
  driver.notify(0);
});
hostile("an index that runs away", (driver) => {
  driver.rig.memory.writeUInt16LE(9, driver.queues[0]!.available + 2);
  driver.notify(0);
});
hostile("an address that is no memory", bad([{ address: MEMORY, length: 1, write: true }]));
hostile("a length over the end", bad([{ address: MEMORY - 8, length: 9, write: true }]));
hostile("an address that wraps", bad([{ address: 0xffffffffffffffffn, length: 2, write: true }]));
hostile("an absurd length", bad([{ address: 0, length: 0xffffffff, write: true }]));
hostile("device memory as a buffer", bad([{ address: 0xfec00000, length: 4, write: true }]));
hostile(
  "readable after writable",
  bad([
    { address: BUFFER, length: 1, write: true },
    { address: BUFFER, length: 1 },
  ]),
);
hostile("nothing to write to", bad([{ address: BUFFER, length: 8 }]));
hostile(
  "an indirect table that was not negotiated",
  (driver) => {
    driver.descriptor(driver.queues[0]!.descriptors, 0x600000, 16, INDIRECT);
    driver.offer(0, 0);
    driver.notify(0);
  },
  VERSION_1,
);
for (const [name, length, flags, address] of [
  ["with a next", 16, INDIRECT | NEXT, 0x600000],
  ["of no length", 0, INDIRECT, 0x600000],
  ["of an odd length", 17, INDIRECT, 0x600000],
  ["that is no memory", 16, INDIRECT, MEMORY],
  ["of absurd length", 0xfffffff0, INDIRECT, 0x600000],
  ["in itself", 16, INDIRECT, 0x600000],
] as const) {
  hostile(`an indirect table ${name}`, (driver) => {
    const flag = name === "in itself" ? INDIRECT : WRITE;
    driver.descriptor(0x600000, BUFFER, 1, flag);
    driver.descriptor(driver.queues[0]!.descriptors, address, length, flags);
    driver.offer(0, 0);
    driver.notify(0);
  });
}
hostile("an indirect chain that loops", (driver) => {
  driver.descriptor(0x600000, BUFFER, 1, WRITE | NEXT, 0);
  driver.descriptor(driver.queues[0]!.descriptors, 0x600000, 16, INDIRECT);
  driver.offer(0, 0);
  driver.notify(0);
});
hostile("an indirect chain that leaves its table", (driver) => {
  driver.descriptor(0x600000, BUFFER, 1, WRITE | NEXT, 1);
  driver.descriptor(driver.queues[0]!.descriptors, 0x600000, 16, INDIRECT);
  driver.offer(0, 0);
  driver.notify(0);
});

for (const [name, change] of [
  ["no power of two", { size: 3 } as Partial<QueueLayout>],
  ["larger than offered", { size: 16 }],
  ["of size 0", { size: 0 }],
  ["with descriptors outside of memory", { descriptors: MEMORY - 64 }],
  ["with misaligned descriptors", { descriptors: 0x400008 }],
  ["with a misaligned available ring", { available: 0x402001 }],
  ["with its available ring outside of memory", { available: MEMORY - 4 }],
  ["with a misaligned used ring", { used: 0x404002 }],
  ["with its used ring outside of memory", { used: MEMORY - 4 }],
] as const) {
  test(`hostile: a queue ${name}`, () => {
    const rig = new Rig();
    refuseQueue(new Driver(rig, findVirtio(rig, RNG)), ALL, change);
  });
}

test("an available ring at any even address", () => {
  const rig = new Rig();
  const driver = new Driver(rig, findVirtio(rig, RNG));
  driver.negotiate(ALL);
  const layout = { size: 8, descriptors: 0x400000, available: 0x402002, used: 0x404004 };
  driver.addQueue(0, 8);
  driver.negotiate(ALL);
  driver.setQueue(0, layout);
  driver.queues[0] = layout;
  driver.start();
  driver.send(0, [{ address: BUFFER, length: 5, write: true }]);
  assert.equal(driver.take(0), { id: 0, length: 5 });
});

test.run();
