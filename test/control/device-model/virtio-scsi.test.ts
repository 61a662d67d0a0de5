// The SCSI host with a CD-ROM: what its driver gets for every command, right or wrong.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";
import { configRead, Driver, findVirtio, NEEDS_RESET, type Segment, VERSION_1 } from "./virtio-driver";

const SCSI = 8;
const BLOCKS = 20;
const REQUEST = 0x500000;
const RESPONSE = 0x502000;
const DATA = 0x510000;
const COMMANDS = 2;
const BAD_TARGET = 3;
const HERE = [1, 0, 0x40, 0, 0, 0, 0, 0];

function image(): Buffer {
  const bytes = Buffer.alloc(BLOCKS * 2048 + 100); // what is no whole block is not there
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 11 + (i >> 11)) & 0xff;
  return bytes;
}

function drive(): Driver {
  const rig = new Rig({ disks: [image()], cdroms: [0] });
  const driver = new Driver(rig, findVirtio(rig, SCSI));
  driver.negotiate(VERSION_1);
  for (let queue = 0; queue < 3; queue++) driver.addQueue(queue, 16);
  driver.start();
  return driver;
}

interface Answer {
  response: number;
  status: number;
  residual: number;
  /** Key, code and qualifier. */
  sense: number[];
  data: Buffer;
}

/** One command with room for `room` bytes. */
function command(driver: Driver, cdb: number[], room = 0, unit = HERE): Answer {
  const { memory } = driver.rig;
  memory.fill(0, REQUEST, REQUEST + 51);
  memory.fill(0xee, RESPONSE, RESPONSE + 108);
  memory.fill(0xee, DATA, DATA + room + 16);
  Buffer.from(unit).copy(memory, REQUEST);
  Buffer.from(cdb).copy(memory, REQUEST + 19);
  const segments: Segment[] = [
    { address: REQUEST, length: 51 },
    { address: RESPONSE, length: 108, write: true },
  ];
  if (room > 0) segments.push({ address: DATA, length: room, write: true });
  driver.send(COMMANDS, segments);
  const used = driver.take(COMMANDS);
  assert.ok(used, "the request comes back");
  const residual = memory.readUInt32LE(RESPONSE + 4);
  assert.is(used.length, 108 + room - residual);
  assert.is(memory[DATA + room], 0xee);
  const sense = memory.subarray(RESPONSE + 12, RESPONSE + 12 + memory.readUInt32LE(RESPONSE));
  return {
    response: memory[RESPONSE + 11]!,
    status: memory[RESPONSE + 10]!,
    residual,
    sense: sense.length === 0 ? [] : [sense[2]!, sense[12]!, sense[13]!],
    data: Buffer.from(memory.subarray(DATA, DATA + room - residual)),
  };
}

/** A command that must do well, and return so many bytes. */
function good(driver: Driver, cdb: number[], room: number, length = room): Buffer {
  const answer = command(driver, cdb, room);
  assert.is(answer.status, 0, `sense ${answer.sense}`);
  assert.is(answer.response, 0);
  assert.is(answer.data.length, length);
  return answer.data;
}

function refused(driver: Driver, cdb: number[], sense: number[], unit = HERE): void {
  const answer = command(driver, cdb, 64, unit);
  assert.is(answer.status, 2);
  assert.equal(answer.sense, sense, `command ${cdb}`);
  assert.is(answer.residual, 64);
}

test("the configuration: one queue of requests, one target with one unit", () => {
  const driver = drive();
  assert.is(driver.get(0x2000, 4), 1);
  assert.is(driver.get(0x2004, 4), 14 + 112);
  assert.is(driver.get(0x2014, 4), 96);
  assert.is(driver.get(0x2018, 4), 32);
  assert.is(driver.get(0x201e, 2), 0);
  assert.is(driver.get(0x2020, 4), 0);
});

test("it is a CD-ROM drive with a disc in it", () => {
  const driver = drive();
  const inquiry = good(driver, [0x12, 0, 0, 0, 96], 96, 36);
  assert.equal([...inquiry.subarray(0, 5)], [5, 0x80, 5, 2, 31]);
  assert.is(inquiry.toString("latin1", 8, 36), "PLINTH  CD-ROM          1   ");
  good(driver, [0x12, 0, 0, 0, 5], 36, 5);
  good(driver, [0x00], 0);
  good(driver, [0x1e, 0, 0, 0, 1], 0);
  good(driver, [0x1b, 0, 0, 0, 2], 0);
  const capacity = good(driver, [0x25], 8);
  assert.equal([capacity.readUInt32BE(0), capacity.readUInt32BE(4)], [BLOCKS - 1, 2048]);
  const units = good(driver, [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], 16);
  assert.equal([...units], [0, 0, 0, 8, ...new Array<number>(12).fill(0)]);
  assert.is(good(driver, [0x03, 0, 0, 0, 18], 18)[2], 0);
  assert.is(good(driver, [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128], 128, 30).readUInt16BE(0), 28);
  assert.is(good(driver, [0x1a, 0, 0x3f, 0, 255], 128, 26)[0], 25);
});

test("blocks are read, by 10 and by 12 bytes", () => {
  const driver = drive();
  const disc = image();
  assert.equal(good(driver, [0x28, 0, 0, 0, 0, 3, 0, 0, 2], 4096), disc.subarray(3 * 2048, 5 * 2048));
  assert.equal(good(driver, [0xa8, 0, 0, 0, 0, 19, 0, 0, 0, 1], 2048), disc.subarray(19 * 2048, 20 * 2048));
  assert.equal(good(driver, [0x28, 0, 0, 0, 0, 0, 0, 0, 20], 1000), disc.subarray(0, 1000));
  good(driver, [0x28, 0, 0, 0, 0, 20, 0, 0, 0], 0);
  good(driver, [0x28, 0, 0, 0, 0, 1, 0, 0, 1], 4096, 2048);
  const beyond = [5, 0x21, 0];
  refused(driver, [0x28, 0, 0, 0, 0, 20, 0, 0, 1], beyond);
  refused(driver, [0x28, 0, 0, 0, 0, 0, 0, 0, 21], beyond);
  refused(driver, [0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1], beyond);
  refused(driver, [0xa8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], beyond);
});

test("the table of contents: a track and the lead-out, by blocks and by minutes", () => {
  const driver = drive();
  const toc = good(driver, [0x43, 0, 0, 0, 0, 0, 0, 0, 64], 64, 20);
  assert.is(toc.readUInt16BE(0), 18);
  assert.equal([...toc.subarray(2, 8)], [1, 1, 0, 0x14, 1, 0]);
  assert.equal([toc.readUInt32BE(8), toc[14], toc.readUInt32BE(16)], [0, 0xaa, BLOCKS]);
  const minutes = good(driver, [0x43, 2, 0, 0, 0, 0, 0xaa, 0, 64], 64, 12);
  assert.equal([...minutes.subarray(6, 12)], [0xaa, 0, 0, 0, 2, BLOCKS]);
  assert.is(good(driver, [0x43, 0, 1, 0, 0, 0, 0, 0, 12], 12).readUInt16BE(0), 10);
  refused(driver, [0x43, 0, 2, 0, 0, 0, 0, 0, 64], [5, 0x24, 0]);
  refused(driver, [0x43, 0, 0, 0, 0, 0, 2, 0, 64], [5, 0x24, 0]);
});

test("what is not there is refused: commands, pages, units, targets", () => {
  const driver = drive();
  refused(driver, [0x2a, 0, 0, 0, 0, 0, 0, 0, 1], [5, 0x20, 0]);
  refused(driver, [0xff], [5, 0x20, 0]);
  refused(driver, [0x12, 1, 0x80, 0, 64], [5, 0x24, 0]);
  refused(driver, [0x5a, 0, 0x08, 0, 0, 0, 0, 0, 64], [5, 0x24, 0]);
  refused(driver, [0x00], [5, 0x25, 0], [1, 0, 0x40, 1, 0, 0, 0, 0]);
  assert.is(command(driver, [0x12, 0, 0, 0, 36], 36, [1, 0, 0x40, 1, 0, 0, 0, 0]).data[0], 0x7f);
  for (const unit of [
    [1, 1, 0x40, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
  ]) {
    const answer = command(driver, [0x12, 0, 0, 0, 36], 36, unit);
    assert.equal([answer.response, answer.data.length], [BAD_TARGET, 0]);
  }
  assert.is(command(driver, [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], 16, [0xc1, 1, 0, 0, 0, 0, 0, 0]).data[3], 8);
});

test("tasks are aborted because they have ended; events are not told of", () => {
  const driver = drive();
  const { memory } = driver.rig;
  const control = (bytes: number[], room: number): number[] => {
    Buffer.from(bytes).copy(memory, REQUEST);
    driver.send(0, [
      { address: REQUEST, length: bytes.length },
      { address: RESPONSE, length: room, write: true },
    ]);
    assert.is(driver.take(0)?.length, room);
    return [...memory.subarray(RESPONSE, RESPONSE + room)];
  };
  assert.equal(control([0, 0, 0, 0, 0, 0, 0, 0, ...HERE, 0, 0, 0, 0, 0, 0, 0, 0], 1), [0]);
  assert.equal(control([0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1), [3]);
  assert.equal(control([1, 0, 0, 0, ...HERE, 0xff, 0, 0, 0], 5), [0, 0, 0, 0, 0]);
  driver.send(1, [{ address: DATA, length: 16, write: true }]);
  assert.is(driver.take(1), undefined);
  assert.is(driver.status, 0x0f);
});

test("a notification counts wherever in the ports' BAR it is written", () => {
  const driver = drive();
  const port = configRead(driver.rig, driver.slot, 0x20) & ~3;
  const { memory } = driver.rig;
  Buffer.from([...HERE, ...new Array<number>(43).fill(0)]).copy(memory, REQUEST);
  driver.chain(driver.queues[COMMANDS]!.descriptors, [
    { address: REQUEST, length: 51 },
    { address: RESPONSE, length: 108, write: true },
  ]);
  driver.offer(COMMANDS, 0);
  driver.rig.out(port + 4 * COMMANDS, COMMANDS, 2); // as SeaBIOS does
  assert.is(driver.usedIndex(COMMANDS), 1);
});

test("a request without its header, or without room, stops the device", () => {
  for (const [header, room] of [
    [50, 108],
    [51, 107],
  ] as const) {
    const driver = drive();
    driver.send(COMMANDS, [
      { address: REQUEST, length: header },
      { address: RESPONSE, length: room, write: true },
    ]);
    assert.ok(driver.status & NEEDS_RESET);
  }
  const driver = drive();
  driver.send(0, [{ address: REQUEST, length: 24 }]);
  assert.ok(driver.status & NEEDS_RESET);
});

test.run();
