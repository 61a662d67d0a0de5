// The virtio console: both directions, and input only where there is a buffer for it.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig";
import { Driver, findVirtio, NEEDS_RESET, VERSION_1 } from "./virtio-driver";

const CONSOLE = 3;
const BUFFER = 0x500000;
const FLUSH_NS = 3_000_000;

function console_(): Driver {
  const rig = new Rig({ console: "virtio" });
  const driver = new Driver(rig, findVirtio(rig, CONSOLE));
  driver.negotiate(VERSION_1);
  driver.addQueue(0, 16, 0x400000, 1);
  driver.addQueue(1, 16, 0x410000, 2);
  driver.start();
  driver.useMsix(3);
  return driver;
}

test("a VM with a serial console has none", () => {
  assert.throws(() => findVirtio(new Rig(), CONSOLE));
});

test("what the guest writes is printed, beside what the serial port prints", () => {
  const driver = console_();
  driver.rig.out(0x3f8, 0x3e);
  driver.rig.memory.write("hello\n", BUFFER);
  driver.send(1, [
    { address: BUFFER, length: 2 },
    { address: BUFFER + 2, length: 4 },
  ]);
  driver.rig.advance(FLUSH_NS);
  assert.is(driver.rig.output(), ">hello\n");
  assert.equal(driver.take(1), { id: 0, length: 0 });
  assert.equal(driver.rig.msis, [{ address: 0xfee00000, data: 0x42 }]);
});

test("what is typed waits for a buffer, and does not reach the serial port", () => {
  const driver = console_();
  driver.rig.type("abc");
  assert.is(driver.rig.in(0x3fd) & 1, 0);
  assert.is(driver.usedIndex(0), 0);
  driver.send(0, [{ address: BUFFER, length: 2, write: true }]);
  assert.equal(driver.take(0), { id: 0, length: 2 });
  driver.send(0, [{ address: BUFFER + 2, length: 10, write: true }]);
  assert.equal(driver.take(0), { id: 0, length: 1 });
  assert.is(driver.rig.memory.toString("latin1", BUFFER, BUFFER + 3), "abc");
  driver.send(0, [{ address: BUFFER + 3, length: 10, write: true }]);
  assert.is(driver.take(0), undefined);
  driver.rig.type("d");
  assert.equal(driver.take(0), { id: 0, length: 1 });
  assert.is(driver.rig.memory[BUFFER + 3], 0x64);
});

test("an emergency write prints without any queue", () => {
  const rig = new Rig({ console: "virtio" });
  const driver = new Driver(rig, findVirtio(rig, CONSOLE));
  driver.set(0x2008, 4, 0x21);
  rig.advance(FLUSH_NS);
  assert.is(rig.output(), "!");
});

test("hostile: a buffer for input that cannot be written", () => {
  const driver = console_();
  driver.rig.type("x");
  driver.send(0, [{ address: BUFFER, length: 2 }]);
  assert.is(driver.status & NEEDS_RESET, NEEDS_RESET);
});

test("an absurdly long output is cut", () => {
  const driver = console_();
  driver.send(
    1,
    Array.from({ length: 16 }, () => ({ address: 0, length: 64 << 20 })),
  );
  assert.equal(driver.take(1), { id: 0, length: 0 });
});

test.run();
