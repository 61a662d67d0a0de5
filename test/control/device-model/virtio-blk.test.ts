// The block device: every request, its limits, and what a driver gets for nonsense.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";
import { Driver, findVirtio, NEEDS_RESET, VERSION_1 } from "./virtio-driver";

const BLK = 2;
const SECTORS = 64;
const HEADER = 0x500000;
const DATA = 0x510000;
const STATUS_AT = 0x502000;
const OK = 0;
const IO_ERROR = 1;
const UNSUPPORTED = 2;

function image(): Buffer {
  const bytes = Buffer.alloc(SECTORS * 512);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 9)) & 0xff;
  return bytes;
}

function disk(readOnly: number[] = []): Driver {
  const rig = new Rig({ disks: [image()], readOnly });
  return Driver.start(rig, findVirtio(rig, BLK), VERSION_1, 128, 1);
}

/** One request with `data` as an outgoing, or room for `room` bytes as an incoming, part. */
function request(driver: Driver, type: number, sector: number | bigint, data?: Buffer, room = 0): number {
  const { memory } = driver.rig;
  memory.writeUInt32LE(type, HEADER);
  memory.writeUInt32LE(0, HEADER + 4);
  memory.writeBigUInt64LE(BigInt(sector), HEADER + 8);
  memory[STATUS_AT] = 0xee;
  data?.copy(memory, DATA);
  const middle = data
    ? [{ address: DATA, length: data.length }]
    : room
      ? [{ address: DATA, length: room, write: true }]
      : [];
  driver.send(0, [
    { address: HEADER, length: 16 },
    ...middle,
    { address: STATUS_AT, length: 1, write: true },
  ]);
  assert.equal(driver.take(0), { id: 0, length: room + 1 });
  return memory[STATUS_AT]!;
}

function range(sector: number, count: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(BigInt(sector), 0);
  bytes.writeUInt32LE(count, 8);
  bytes.writeUInt32LE(flags, 12);
  return bytes;
}

test("the configuration", () => {
  const driver = disk();
  assert.is(driver.get(0x2000, 8), SECTORS);
  assert.is(driver.get(0x200c, 4), 126);
  assert.is(driver.get(0x2014, 4), 512);
  assert.is(driver.get(0x2018, 1), 3, "sectors of a page, as an exponent");
  assert.is(driver.get(0x201a, 2), 8);
  assert.is(driver.get(0x201c, 4), 128);
  assert.is(driver.get(0x2024, 4), 8192, "sectors to discard");
  assert.is(driver.get(0x2030, 4), 8192, "sectors to write zeros to");
  assert.is(Number(driver.offered & 0xffffffffn) & (1 << 5), 0);
  assert.ok(driver.offered & (1n << 9n));
});

test("a queue for each vCPU, at most four, and each serves the whole disk", () => {
  for (const [vcpus, queues] of [
    [1, 1],
    [3, 3],
    [16, 4],
  ] as const) {
    const rig = new Rig({ disks: [image()], vcpus });
    const driver = new Driver(rig, findVirtio(rig, BLK));
    assert.is((driver.offered & (1n << 12n)) !== 0n, vcpus > 1);
    assert.is(driver.get(0x2022, 2), queues);
    assert.is(driver.get(0x12, 2), queues);
    driver.negotiate(VERSION_1 | (vcpus > 1 ? 1n << 12n : 0n));
    for (let queue = 0; queue < queues; queue++) driver.addQueue(queue, 16, undefined, queue);
    driver.start();
    for (let queue = 0; queue < queues; queue++) {
      rig.memory.fill(0, HEADER, HEADER + 16);
      rig.memory.writeUInt32LE(queue + 5, HEADER + 8);
      driver.send(queue, [
        { address: HEADER, length: 16 },
        { address: DATA, length: 513, write: true },
      ]);
      assert.equal(driver.take(queue), { id: 0, length: 513 });
      const at = 512 * (queue + 5);
      assert.ok(rig.memory.subarray(DATA, DATA + 512).equals(image().subarray(at, at + 512)));
    }
  }
});

test("the image is on it, and reads come from it", () => {
  const driver = disk();
  assert.ok(driver.rig.disks[0]!.equals(image()));
  assert.is(request(driver, 0, 3, undefined, 1024), OK);
  assert.ok(driver.rig.memory.subarray(DATA, DATA + 1024).equals(image().subarray(1536, 2560)));
});

test("writes go to it", () => {
  const driver = disk();
  const data = Buffer.alloc(512, 0xa5);
  assert.is(request(driver, 1, SECTORS - 1, data), OK);
  assert.ok(driver.rig.disks[0]!.subarray(-512).equals(data));
  assert.ok(driver.rig.disks[0]!.subarray(0, -512).equals(image().subarray(0, -512)));
});

test("the end of the disk, and lengths that are no sectors", () => {
  const driver = disk();
  assert.is(request(driver, 0, SECTORS, undefined, 512), IO_ERROR);
  assert.is(request(driver, 0, SECTORS - 1, undefined, 1024), IO_ERROR);
  assert.is(request(driver, 0, 0xffffffffffffffffn, undefined, 512), IO_ERROR);
  assert.is(request(driver, 0, 0x80000000000000n, undefined, 512), IO_ERROR);
  assert.is(request(driver, 0, 0, undefined, 511), IO_ERROR);
  assert.is(request(driver, 1, SECTORS, Buffer.alloc(512)), IO_ERROR);
  assert.is(request(driver, 1, 0, Buffer.alloc(100)), IO_ERROR);
  assert.ok(driver.rig.disks[0]!.equals(image()));
});

test("flush, get-id, and what is unknown", () => {
  const driver = disk();
  assert.is(request(driver, 4, 0), OK);
  assert.is(request(driver, 8, 0, undefined, 20), OK);
  assert.is(driver.rig.memory.toString("latin1", DATA, DATA + 6), "disk0\0");
  assert.is(request(driver, 8, 0, undefined, 19), IO_ERROR);
  for (const type of [2, 3, 5, 99, 0xffffffff]) assert.is(request(driver, type, 0), UNSUPPORTED);
});

test("write-zeroes and discard", () => {
  const driver = disk();
  assert.is(request(driver, 13, 0, range(2, 3)), OK);
  assert.ok(driver.rig.disks[0]!.subarray(1024, 2560).every((byte) => byte === 0));
  assert.is(driver.rig.disks[0]![2560], image()[2560]);
  assert.is(request(driver, 11, 0, range(10, 1)), OK);
  assert.is(request(driver, 13, 0, range(2, 3, 1)), OK); // unmap
  assert.is(request(driver, 13, 0, range(2, 3, 2)), UNSUPPORTED);
  assert.is(request(driver, 11, 0, range(2, 3, 1)), UNSUPPORTED);
  assert.is(request(driver, 13, 0, range(SECTORS - 1, 2)), IO_ERROR);
  assert.is(request(driver, 13, 0, range(0, 0xffffffff)), IO_ERROR);
  assert.is(request(driver, 13, 0, Buffer.alloc(15)), IO_ERROR);
});

test("a read-only disk", () => {
  const driver = disk([0]);
  assert.ok(driver.offered & (1n << 5n));
  assert.is(request(driver, 0, 0, undefined, 512), OK);
  assert.is(request(driver, 1, 0, Buffer.alloc(512)), IO_ERROR);
  assert.is(request(driver, 13, 0, range(0, 1)), UNSUPPORTED);
  assert.ok(driver.rig.disks[0]!.equals(image()));
});

test("header and status may be cut anyhow", () => {
  const driver = disk();
  const { memory } = driver.rig;
  memory.fill(0, HEADER, HEADER + 16);
  driver.send(0, [
    { address: HEADER, length: 3 },
    { address: HEADER + 3, length: 13 },
    { address: DATA, length: 100, write: true },
    { address: DATA + 100, length: 413, write: true },
  ]);
  assert.equal(driver.take(0), { id: 0, length: 513 });
  assert.is(memory[DATA + 512], OK);
  assert.ok(memory.subarray(DATA, DATA + 512).equals(image().subarray(0, 512)));
});

const GIB = 2 ** 30;

test("buffers in memory above 4 GiB, and none across the hole", () => {
  const rig = new Rig({ disks: [image()], memory: 3 * GIB + 0x10000 });
  const buffer = (address: number, length: number): Driver => {
    const driver = Driver.start(rig, findVirtio(rig, BLK), VERSION_1, 128, 1);
    rig.memory.fill(0, HEADER, HEADER + 16); // read from sector 0 on
    driver.send(0, [
      { address: HEADER, length: 16 },
      { address, length, write: true },
      { address: STATUS_AT, length: 1, write: true },
    ]);
    return driver;
  };
  assert.equal(buffer(4 * GIB + 0xfe00, 512).take(0), { id: 0, length: 513 });
  assert.ok(rig.highMemory.subarray(0xfe00).equals(image().subarray(0, 512)));
  assert.equal(buffer(3 * GIB - 512, 512).take(0), { id: 0, length: 513 });
  assert.ok(rig.memory.subarray(3 * GIB - 512).equals(image().subarray(0, 512)));
  for (const [address, length] of [
    [3 * GIB - 512, 1024],
    [3 * GIB, 512],
    [4 * GIB - 512, 512],
    [4 * GIB - 512, 1024],
    [3 * GIB - 512, GIB + 1024],
    [4 * GIB + 0xfe00, 1024],
    [4 * GIB + 0x10000, 512],
  ] as const) {
    const driver = buffer(address, length);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET, `0x${address.toString(16)}, ${length} bytes`);
    assert.is(driver.take(0), undefined);
  }
});

for (const [name, segments] of [
  ["no header", [{ address: STATUS_AT, length: 1, write: true }]],
  [
    "a short header",
    [
      { address: HEADER, length: 15 },
      { address: STATUS_AT, length: 1, write: true },
    ],
  ],
  ["no status", [{ address: HEADER, length: 16 }]],
] as const) {
  test(`hostile: ${name}`, () => {
    const driver = disk();
    driver.send(0, [...segments]);
    assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
  });
}

test("four disks, one of which misbehaves", () => {
  const rig = new Rig({ disks: [image(), image(), image(), image()] });
  const drivers = [0, 1, 2, 3].map((n) => {
    const driver = new Driver(rig, findVirtio(rig, BLK, n));
    driver.negotiate(VERSION_1);
    driver.addQueue(0, 128, 0x400000 + n * 0x10000);
    driver.start();
    return driver;
  });
  drivers[1]!.send(0, [{ address: HEADER, length: 16 }]);
  assert.is(request(drivers[2]!, 1, 0, Buffer.alloc(512, 9)), OK);
  assert.equal(
    rig.disks.map((one) => one[0]),
    [0, 0, 9, 0],
  );
  assert.equal(
    drivers.map((driver) => driver.status & NEEDS_RESET),
    [0, NEEDS_RESET, 0, 0],
  );
});

test.run();
