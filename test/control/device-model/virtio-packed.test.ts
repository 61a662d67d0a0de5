// Packed rings: order, wrap counters, events, several queues and their reset, and what a driver must not do.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";
import {
  AVAIL,
  DRIVER_OK,
  Driver,
  EVENT_IDX,
  EVENTS_AT,
  EVENTS_OFF,
  findVirtio,
  INDIRECT,
  INDIRECT_DESC,
  NEEDS_RESET,
  NEXT,
  PACKED,
  PackedDriver,
  type QueueLayout,
  refuseQueue,
  RING_RESET,
  type Segment,
  USED,
  VERSION_1,
  WRITE,
} from "./virtio-driver";

const RNG = 4;
const BLK = 2;
const BUFFER = 0x500000;
const TABLE = 0x600000;
const MEMORY = 64 << 20;
const ALL = VERSION_1 | INDIRECT_DESC | EVENT_IDX | PACKED;

function rng(features = ALL, size = 8): PackedDriver {
  const rig = new Rig();
  return PackedDriver.start(rig, findVirtio(rig, RNG), features, size, 1);
}

const bytes = (length: number, at = BUFFER): Segment => ({ address: at, length, write: true });

test("a buffer is filled and given back", () => {
  const driver = rng();
  driver.send(0, [bytes(32)], 5);
  assert.equal(driver.take(0), { id: 5, length: 32 });
  assert.is(driver.rig.memory.readUInt16LE(driver.place(0, 0).at + 14), AVAIL | USED | WRITE);
  assert.is(driver.rig.memory[BUFFER + 31], (31 * 37 + 11) & 0xff);
  assert.is(driver.rig.memory[BUFFER + 32], 0);
  assert.is(driver.take(0), undefined);
});

test("chains over the ring's end, in a ring whose size is no power of two", () => {
  const driver = rng(ALL, 5);
  for (let n = 0; n < 50; n++) {
    driver.send(0, [bytes(3), bytes(n % 7, BUFFER + 100), bytes(2, BUFFER + 200)], n % 3);
    assert.equal(driver.take(0), { id: n % 3, length: 5 + (n % 7) }, `buffer ${n}`);
  }
  assert.is(driver.status, DRIVER_OK);
});

test("many buffers at once, each given back in its place", () => {
  const driver = rng();
  for (let lap = 0; lap < 5; lap++) {
    driver.offerBuffer(0, [bytes(1), bytes(1)], 1);
    driver.offerBuffer(0, [bytes(4)], 2);
    driver.offerTable(0, TABLE, [bytes(5), bytes(6)], 3);
    driver.offerBuffer(0, [bytes(2), bytes(2), bytes(2)], 4);
    driver.notify(0);
    assert.equal(driver.take(0), { id: 1, length: 2 });
    assert.equal(driver.take(0), { id: 2, length: 4 });
    assert.equal(driver.take(0), { id: 3, length: 11 });
    assert.equal(driver.take(0), { id: 4, length: 6 });
    assert.is(driver.take(0), undefined);
  }
});

test("an indirect table has no next flags and takes one descriptor", () => {
  const driver = rng();
  driver.offerTable(0, TABLE, [bytes(8), bytes(8, BUFFER + 64)], 9);
  driver.notify(0);
  assert.equal(driver.take(0), { id: 9, length: 16 });
});

test("what was not written is not said to be", () => {
  const rig = new Rig({ disks: [new Uint8Array(1 << 20)] });
  const driver = PackedDriver.start(rig, findVirtio(rig, BLK), ALL);
  rig.memory.fill(0, BUFFER, BUFFER + 16);
  rig.memory.writeUInt32LE(4, BUFFER); // a flush
  driver.send(0, [{ address: BUFFER, length: 16 }, bytes(1, BUFFER + 16)], 1);
  assert.equal(driver.take(0), { id: 1, length: 1 });
});

test("an available descriptor of another lap is none", () => {
  const driver = rng();
  driver.descriptor(driver.place(0, 0).at, BUFFER, 1, 0, WRITE | USED);
  driver.notify(0);
  assert.is(driver.take(0), undefined);
  driver.descriptor(driver.place(0, 0).at, BUFFER, 1, 0, WRITE | USED | AVAIL);
  driver.notify(0);
  assert.is(driver.status, DRIVER_OK);
  assert.is(driver.rig.memory[BUFFER], 0);
});

test("flags switch interrupts off and on", () => {
  const driver = rng(ALL & ~EVENT_IDX);
  driver.useMsix(2);
  driver.send(0, [bytes(1)]);
  assert.is(driver.rig.msis.length, 1);
  driver.wantEvents(0, EVENTS_OFF);
  driver.send(0, [bytes(1)]);
  assert.is(driver.rig.msis.length, 1);
  driver.wantEvents(0, 0);
  driver.send(0, [bytes(1)]);
  assert.is(driver.rig.msis.length, 2);
});

test("an event says at which descriptor the interrupt comes, in which lap", () => {
  for (let event = 0; event < 24; event++) {
    const driver = rng();
    driver.useMsix(2);
    for (let n = 0; n < 24; n++) {
      // A driver keeps its event near to what it waits for: at most a lap ahead.
      if (event - n < 8) driver.wantEvents(0, EVENTS_AT, event);
      else driver.wantEvents(0, EVENTS_OFF);
      driver.send(0, [bytes(1)]);
      driver.take(0);
      assert.is(driver.rig.msis.length, n < event ? 0 : 1, `event ${event}, buffer ${n}`);
      if (n === event) break;
    }
  }
});

test("one interrupt for several buffers, if the event is among them", () => {
  for (const [event, interrupts] of [
    [2, 1],
    [4, 1],
    [5, 1],
    [6, 0],
  ] as const) {
    const driver = rng();
    driver.useMsix(2);
    driver.wantEvents(0, EVENTS_AT, event);
    for (let n = 0; n < 3; n++) driver.offerBuffer(0, [bytes(1), bytes(1)], n);
    driver.notify(0);
    assert.is(driver.rig.msis.length, interrupts, `event ${event}`);
  }
});

test("the device asks to be notified for the next descriptor, with its lap", () => {
  const driver = rng();
  driver.notify(0);
  assert.equal(driver.deviceEvents(0), { flags: EVENTS_AT, place: 0x8000 });
  for (let n = 0; n < 7; n++) driver.offerBuffer(0, [bytes(1)]);
  driver.notify(0);
  assert.equal(driver.deviceEvents(0), { flags: EVENTS_AT, place: 0x8007 });
  driver.send(0, [bytes(1)]);
  assert.equal(driver.deviceEvents(0), { flags: EVENTS_AT, place: 0 });
});

test("a turn of a device is limited, and it goes on by itself", () => {
  const size = 64;
  const rig = new Rig({ disks: [new Uint8Array(4 << 20)] });
  const driver = PackedDriver.start(rig, findVirtio(rig, BLK), ALL, size);
  rig.memory.fill(0, BUFFER, BUFFER + 0x1000);
  for (let id = 0; id < size / 4; id++) {
    driver.offerTable(
      0,
      TABLE + id * 0x100,
      [{ address: BUFFER, length: 16 }, bytes(0x40000, 0x700000), bytes(1, BUFFER + 16)],
      id,
    );
  }
  driver.notify(0);
  let done = 0;
  while (driver.take(0)) done++;
  assert.ok(done > 0 && done < size / 4, `${done} in the first turn`);
  for (let turn = 0; turn < 10 && done < size / 4; turn++) {
    rig.advance(1);
    while (driver.take(0)) done++;
  }
  assert.is(done, size / 4);
  assert.is(driver.status, DRIVER_OK);
});

/** Does what must stop the device, then checks that it comes back after a reset. */
function hostile(name: string, act: (driver: PackedDriver) => void, features = ALL): void {
  test(`hostile: ${name}`, () => {
    const driver = rng(features);
    driver.set(0x10, 2, 0);
    driver.useMsix(2);
    act(driver);
    driver.notify(0);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
    assert.equal(driver.rig.msis, [{ address: 0xfee00000, data: 0x40 }], "a configuration interrupt");
    assert.is(driver.take(0), undefined);
    driver.negotiate(ALL);
    driver.addQueue(0, 8);
    driver.start();
    driver.send(0, [bytes(5)]);
    assert.equal(driver.take(0), { id: 0, length: 5 });
  });
}

hostile("a chain as long as the ring, that does not end", (driver) => {
  for (let n = 0; n < 8; n++) driver.descriptor(driver.place(0, n).at, BUFFER, 1, 0, WRITE | NEXT | AVAIL);
});
hostile("a chain that goes on with what is not available", (driver) => {
  driver.descriptor(driver.place(0, 0).at, BUFFER, 1, 0, WRITE | NEXT | AVAIL);
});
hostile("a chain whose second descriptor has the wrong wrap counter", (driver) => {
  driver.descriptor(driver.place(0, 1).at, BUFFER, 1, 0, WRITE | USED);
  driver.descriptor(driver.place(0, 0).at, BUFFER, 1, 0, WRITE | NEXT | AVAIL);
});
hostile("a chain whose second descriptor is used", (driver) => {
  driver.descriptor(driver.place(0, 1).at, BUFFER, 1, 0, WRITE | USED | AVAIL);
  driver.descriptor(driver.place(0, 0).at, BUFFER, 1, 0, WRITE | NEXT | AVAIL);
});
for (const [name, segments] of [
  ["an address that is no memory", [bytes(1, MEMORY)]],
  ["a length over the end", [bytes(9, MEMORY - 8)]],
  ["an address that wraps", [{ address: 0xffffffffffffffffn, length: 2, write: true }]],
  ["an absurd length", [bytes(0xffffffff, 0)]],
  ["device memory as a buffer", [bytes(4, 0xfec00000)]],
  ["readable after writable", [bytes(1), { address: BUFFER, length: 1 }]],
  ["nothing to write to", [{ address: BUFFER, length: 8 }]],
] as [string, Segment[]][]) {
  hostile(name, (driver) => driver.offerBuffer(0, segments));
}
for (const [name, length, flags, address] of [
  ["with a next", 16, INDIRECT | NEXT, TABLE],
  ["of no length", 0, INDIRECT, TABLE],
  ["of an odd length", 17, INDIRECT, TABLE],
  ["that is no memory", 16, INDIRECT, MEMORY],
  ["of absurd length", 0xfffffff0, INDIRECT, TABLE],
  ["longer than any buffer", 257 * 16, INDIRECT, TABLE],
  ["in itself", 16, INDIRECT, TABLE],
] as const) {
  hostile(`an indirect table ${name}`, (driver) => {
    for (let n = 0; n < 257; n++) driver.descriptor(TABLE + 16 * n, BUFFER, 1, 0, WRITE);
    if (name === "in itself") driver.descriptor(TABLE, BUFFER, 1, 0, INDIRECT);
    driver.offerBuffer(0, [{ address, length }], 0, flags);
  });
}
hostile("an indirect table behind another descriptor", (driver) => {
  driver.descriptor(TABLE, BUFFER, 1, 0, WRITE);
  driver.descriptor(driver.place(0, 1).at, TABLE, 16, 0, INDIRECT | AVAIL);
  driver.descriptor(driver.place(0, 0).at, BUFFER, 1, 0, NEXT | AVAIL);
});
hostile(
  "an indirect table that was not negotiated",
  (driver) => driver.offerTable(0, TABLE, [bytes(1)]),
  VERSION_1 | PACKED,
);

for (const [name, change] of [
  ["larger than offered", { size: 16 } as Partial<QueueLayout>],
  ["with the largest size there is", { size: 0x8000 }],
  ["of size 0", { size: 0 }],
  ["with descriptors outside of memory", { descriptors: MEMORY - 64 }],
  ["with misaligned descriptors", { descriptors: 0x400008 }],
  ["with misaligned driver events", { available: 0x402002 }],
  ["with driver events outside of memory", { available: MEMORY }],
  ["with misaligned device events", { used: 0x404002 }],
  ["with device events outside of memory", { used: MEMORY }],
] as const) {
  test(`hostile: a queue ${name}`, () => {
    const rig = new Rig();
    refuseQueue(new PackedDriver(rig, findVirtio(rig, RNG)), ALL, change);
  });
}

for (const packed of [false, true]) {
  const name = packed ? "packed" : "split";

  test(`${name}: a queue is reset alone, and enabled again`, () => {
    const rig = new Rig({ disks: [new Uint8Array(1 << 20)], vcpus: 2 });
    const make = packed ? PackedDriver : Driver;
    const driver = new make(rig, findVirtio(rig, BLK));
    driver.negotiate((packed ? ALL : ALL & ~PACKED) | RING_RESET | (1n << 12n));
    for (const queue of [0, 1]) driver.addQueue(queue, 8);
    driver.start();
    rig.memory.fill(0, BUFFER, BUFFER + 0x1000);
    const request = (queue: number): void =>
      driver.send(queue, [
        { address: BUFFER, length: 16 },
        bytes(512, BUFFER + 0x200),
        bytes(1, BUFFER + 16),
      ]);
    for (const queue of [0, 1]) {
      request(queue);
      assert.equal(driver.take(queue), { id: 0, length: 513 });
    }
    driver.set(0x16, 2, 0);
    driver.set(0x3a, 2, 1);
    assert.is(driver.get(0x3a, 2), 0, "the reset is done");
    assert.is(driver.get(0x1c, 2), 0, "and the queue is off");
    driver.notify(0);
    request(1);
    assert.equal(driver.take(1), { id: 0, length: 513 }, "the other queue goes on");
    driver.addQueue(0, 8);
    assert.is(driver.get(0x1c, 2), 1);
    request(0);
    assert.equal(driver.take(0), { id: 0, length: 513 });
    assert.is(driver.status, DRIVER_OK);
  });

  test(`${name}: a queue cannot be reset if that was not negotiated`, () => {
    const rig = new Rig();
    const features = packed ? ALL : ALL & ~PACKED;
    const driver = packed
      ? PackedDriver.start(rig, findVirtio(rig, RNG), features)
      : Driver.start(rig, findVirtio(rig, RNG), features);
    driver.set(0x16, 2, 0);
    driver.set(0x3a, 2, 1);
    assert.is(driver.get(0x1c, 2), 1);
    driver.send(0, [bytes(5)]);
    assert.equal(driver.take(0), { id: 0, length: 5 });
  });
}

test.run();
