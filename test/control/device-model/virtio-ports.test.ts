// Named ports of the virtio console: the control queues, both directions with flow control, and who has what open.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { MIB, PORT_RING, Rig } from "./rig";
import { Driver, DRIVER_OK, findVirtio, NEEDS_RESET, PackedDriver, VERSION_1 } from "./virtio-driver";

const CONSOLE = 3;
const MULTIPORT = 1n << 1n;
const SIZE = 16;
const BUFFER = 0x600000;
/** Buffers of queue n begin here, a page each. */
const at = (queue: number, buffer = 0): number => BUFFER + queue * 0x10000 + buffer * 0x1000;

const READY = 0;
const ADD = 1;
const PORT_READY = 3;
const CONSOLE_PORT = 4;
const OPEN = 6;
const NAME = 7;

const FROM_HOST = 4;
const TO_HOST = 5;

type Message = [id: number, event: number, value: number, name?: string];

/** A driver of the console that keeps receive buffers in its queues. */
class Guest {
  readonly rig: Rig;
  readonly driver: Driver;
  private readonly next: number[] = [];

  constructor(
    private readonly packed: boolean,
    options: { console?: string; ports?: string[] } = { console: "virtio", ports: ["data", "org.log.0"] },
    features = MULTIPORT,
  ) {
    this.rig = new Rig({ memory: 64 * MIB, ...options });
    const slot = findVirtio(this.rig, CONSOLE);
    this.driver = packed ? new PackedDriver(this.rig, slot) : new Driver(this.rig, slot);
    this.start(features);
  }

  start(features = MULTIPORT): void {
    this.driver.negotiate(features | VERSION_1 | (this.packed ? 1n << 34n : 0n));
    const queues = this.driver.get(0x12, 2);
    for (let queue = 0; queue < queues; queue++) this.driver.addQueue(queue, SIZE);
    this.next.length = 0;
    this.driver.start();
  }

  /** The same, with buffers for what the device has to say. */
  static hearing(packed: boolean, options?: { console?: string; ports?: string[] }): Guest {
    const guest = new Guest(packed, options);
    for (let n = 0; n < 12; n++) guest.offer(2, 64, true);
    return guest;
  }

  /** Offers one buffer. */
  offer(queue: number, length: number, write: boolean, address = this.place(queue)): void {
    const segments = [{ address, length, write }];
    const { driver } = this;
    const id = ((this.next[queue] ?? 1) - 1) % SIZE;
    if (driver instanceof PackedDriver) driver.offerBuffer(queue, segments, id);
    else {
      const { descriptors } = driver.queues[queue]!;
      driver.descriptor(descriptors + 16 * id, address, length, write ? 2 : 0);
      driver.offer(queue, id);
    }
    driver.notify(queue);
  }

  private place(queue: number): number {
    const n = this.next[queue] ?? 0;
    this.next[queue] = n + 1;
    return at(queue, n % SIZE);
  }

  /** Sends text as one buffer; whether the device has given it back. */
  send(queue: number, text: string): boolean {
    this.rig.memory.write(text, at(queue, (this.next[queue] ?? 0) % SIZE), "latin1");
    this.offer(queue, text.length, false);
    return this.driver.take(queue) !== undefined;
  }

  /** Takes a buffer that the device has filled. */
  filled(queue: number): string | undefined {
    const done = this.driver.take(queue);
    return done && this.rig.memory.toString("latin1", at(queue, done.id), at(queue, done.id) + done.length);
  }

  say(id: number, event: number, value: number): void {
    const message = Buffer.alloc(8);
    message.writeUInt32LE(id >>> 0, 0);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    assert.ok(this.send(3, message.toString("latin1")), "the device has taken a control message");
  }

  /** What the device has said; it gets its buffers back. */
  heard(): Message[] {
    const messages: Message[] = [];
    for (let text = this.filled(2); text !== undefined; text = this.filled(2)) {
      const bytes = Buffer.from(text, "latin1");
      const name = bytes.length > 8 ? [bytes.toString("latin1", 8)] : [];
      messages.push([
        bytes.readUInt32LE(0),
        bytes.readUInt16LE(4),
        bytes.readUInt16LE(6),
        ...name,
      ] as Message);
      this.offer(2, 64, true);
    }
    return messages;
  }
}

const OUT = "o".repeat(1000);

for (const packed of [false, true]) {
  const name = packed ? "packed" : "split";

  /** A guest that knows its ports; the first has been opened in it. */
  const ready = (): Guest => {
    const guest = Guest.hearing(packed);
    guest.say(0xffffffff, READY, 1);
    for (const id of [0, 1, 2]) guest.say(id, PORT_READY, 1);
    guest.say(1, OPEN, 1);
    guest.heard();
    return guest;
  };

  test(`${name}: ports are added and named; the console is one and open`, () => {
    const guest = Guest.hearing(packed);
    assert.is(guest.driver.get(0x2004, 4), 3, "max_nr_ports");
    assert.is(guest.driver.get(0x12, 2), 8, "queues");
    guest.say(0xffffffff, READY, 1);
    const added = [0, 1, 2].map((id): Message => [id, ADD, 1]);
    assert.equal(guest.heard(), added);
    guest.say(0, PORT_READY, 1);
    assert.equal(guest.heard(), [
      [0, CONSOLE_PORT, 1],
      [0, OPEN, 1],
    ]);
    guest.rig.portSession(1, 77);
    guest.say(1, PORT_READY, 1);
    guest.say(2, PORT_READY, 1);
    assert.equal(guest.heard(), [
      [1, NAME, 1, "data"],
      [2, NAME, 1, "org.log.0"],
      [2, OPEN, 1],
    ]);
    guest.say(0xffffffff, READY, 1); // once more: a port is added once
    guest.say(1, PORT_READY, 1);
    assert.equal(guest.heard(), []);
    assert.is(guest.driver.status, DRIVER_OK);
  });

  test(`${name}: a driver is told as it gives buffers for it`, () => {
    const guest = new Guest(packed);
    guest.say(0xffffffff, READY, 1);
    for (const id of [0, 1, 2]) {
      assert.is(guest.filled(2), undefined);
      guest.offer(2, 64, true);
      assert.is(Buffer.from(guest.filled(2)!, "latin1").readUInt32LE(0), id);
    }
  });

  test(`${name}: a port that the driver cannot use is not spoken of`, () => {
    const guest = Guest.hearing(packed);
    guest.say(0xffffffff, READY, 0);
    assert.equal(guest.heard(), []);
    guest.say(0xffffffff, READY, 1);
    guest.heard();
    guest.say(1, PORT_READY, 0);
    guest.say(9, PORT_READY, 1);
    guest.say(1, 99, 1);
    guest.rig.portSession(0, 3);
    assert.equal(guest.heard(), []);
    assert.is(guest.driver.status, DRIVER_OK);
  });

  test(`${name}: with a serial console there is no port 0`, () => {
    const guest = Guest.hearing(packed, { ports: ["data"] });
    guest.say(0xffffffff, READY, 1);
    assert.equal(guest.heard(), [[1, ADD, 1]]);
    guest.rig.type("x");
    assert.is(guest.rig.in(0x3f8), 0x78, "what is typed goes to the serial port");
  });

  test(`${name}: what the guest sends waits for room, in one buffer or in many, and arrives in order`, () => {
    const guest = ready();
    const { rig } = guest;
    const long = Array.from({ length: 4000 }, (_, n) => String.fromCharCode(33 + (n % 90))).join("");
    assert.not(guest.send(TO_HOST, long), "a buffer that does not fit stays");
    assert.not(guest.send(TO_HOST, "second"));
    let got = "";
    for (let n = 0; n < 100 && got.length < long.length + 6; n++) got += rig.portRead(0, 100);
    assert.is(got, `${long}second`);
    assert.ok(guest.driver.take(TO_HOST));
    assert.ok(guest.driver.take(TO_HOST));
    assert.ok(guest.send(TO_HOST, "third"));
    assert.is(rig.portRead(0), "third");
    assert.is(guest.driver.status, DRIVER_OK);
  });

  test(`${name}: what the host sends waits until the guest has opened the port, and for buffers`, () => {
    const guest = ready();
    const { rig } = guest;
    guest.say(1, OPEN, 0);
    rig.portSession(0, 5);
    assert.equal(guest.heard(), [[1, OPEN, 1]]);
    rig.portWrite(0, "abcdef");
    guest.offer(FROM_HOST, 4, true);
    assert.is(guest.filled(FROM_HOST), undefined);
    guest.say(1, OPEN, 1);
    assert.is(guest.filled(FROM_HOST), "abcd");
    assert.is(rig.portUnread(0), 2);
    guest.offer(FROM_HOST, 4, true);
    assert.is(guest.filled(FROM_HOST), "ef");
    guest.offer(FROM_HOST, 2000, true);
    rig.portWrite(0, OUT);
    assert.is(guest.filled(FROM_HOST), OUT);
    assert.is(rig.portUnread(0), 0);
  });

  test(`${name}: the driver hears of each session; what one has left does not reach the next`, () => {
    const guest = ready();
    const { rig } = guest;
    rig.portSession(0, 5);
    rig.portWrite(0, "old");
    rig.portSession(0, 6);
    assert.equal(guest.heard(), [
      [1, OPEN, 1],
      [1, OPEN, 0],
    ]);
    assert.is(rig.portUnread(0), 0);
    rig.portSession(0, 9);
    rig.portSession(0, 11);
    rig.portWrite(0, "new");
    assert.equal(guest.heard(), [
      [1, OPEN, 1],
      [1, OPEN, 0],
      [1, OPEN, 1],
    ]);
    guest.offer(FROM_HOST, 16, true);
    assert.is(guest.filled(FROM_HOST), "new");
  });

  test(`${name}: that the guest has closed a port is told after its last byte`, () => {
    const guest = ready();
    const { rig } = guest;
    assert.is(rig.portGuest(0) & 1, 1);
    for (let n = 0; n < 3; n++) guest.send(TO_HOST, OUT);
    guest.say(1, OPEN, 0);
    assert.is(rig.portRead(0).length, PORT_RING);
    assert.is(rig.portGuest(0) & 1, 0, "the rest is in the ring now");
    assert.is(rig.portRead(0).length, 3000 - PORT_RING);
  });

  test(`${name}: a reset closes every port, and its driver starts from nothing`, () => {
    const guest = ready();
    guest.rig.portSession(0, 5);
    guest.driver.set(0x14, 1, 0);
    assert.is(guest.rig.portGuest(0) & 1, 0);
    guest.start();
    guest.say(0xffffffff, READY, 1);
    guest.say(1, PORT_READY, 1);
    for (let n = 0; n < 5; n++) guest.offer(2, 64, true);
    assert.equal(guest.heard().slice(1, 4), [
      [1, ADD, 1],
      [1, NAME, 1, "data"],
      [1, OPEN, 1],
    ]);
  });

  test(`${name}: without MULTIPORT there are two queues that do something`, () => {
    const guest = new Guest(packed, undefined, 0n);
    guest.rig.portSession(0, 5);
    guest.rig.type("hi");
    guest.offer(0, 16, true);
    assert.is(guest.filled(0), "hi");
    assert.not(guest.send(3, "\xff\xff\xff\xff\0\0\x01\0"));
    assert.not(guest.send(TO_HOST, "x"));
    assert.is(guest.driver.status, DRIVER_OK);
  });

  for (const [what, act] of [
    ["a control message that is too short", (guest) => guest.send(3, "short")],
    [
      "a buffer for control messages that is too short",
      (guest) => {
        guest.start();
        guest.offer(2, 7, true);
        guest.say(0xffffffff, READY, 1);
      },
    ],
    [
      "a buffer for a port's bytes that cannot be written",
      (guest) => {
        guest.offer(FROM_HOST, 16, false);
        guest.rig.portWrite(0, "x");
      },
    ],
    ["a buffer that is no memory", (guest) => guest.offer(TO_HOST, 16, false, 64 * MIB)],
  ] as [string, (guest: Guest) => void][]) {
    test(`${name}: hostile: ${what}`, () => {
      const guest = ready();
      guest.rig.portSession(0, 5);
      act(guest);
      assert.is(guest.driver.status & NEEDS_RESET, NEEDS_RESET);
      assert.is(guest.rig.portGuest(0) & 1, 0, "its ports are closed");
    });
  }

  test(`${name}: hostile: rings and sessions of the link that cannot be true`, () => {
    const guest = ready();
    for (const ring of [4, 5])
      for (const word of [0, 1, 2, 3])
        for (const value of [1, 0x7fffffff, 0x80000000, 0xffffffff]) {
          guest.rig.scribble(ring, word, value);
          guest.send(TO_HOST, OUT);
          guest.offer(FROM_HOST, 16, true);
          guest.heard();
        }
  });
}

test.run();
