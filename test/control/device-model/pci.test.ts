// PCI: both ways to configuration space, BARs, capabilities, MSI-X and the interrupt pin.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ExitMessageAt, ExitType } from "../../../control/gen/abi";
import { Rig } from "./rig";
import { configRead, configWrite, Driver, findCapability, findVirtio, VERSION_1 } from "./virtio-driver";

const ECAM = 0xd0000000;
const RNG = 4;

test("the host bridge is in slot 0, and empty slots read as ones", () => {
  const rig = new Rig();
  assert.is(configRead(rig, 0, 0), 0x00081b36);
  assert.is(configRead(rig, 0, 8) >>> 8, 0x060000);
  assert.is(configRead(rig, 31, 0), 0xffffffff);
  assert.is(configRead(rig, 0, 4, 2) & 1, 0);
});

test("other functions and buses are absent", () => {
  const rig = new Rig();
  for (const address of [0x80000100, 0x80010000, 0x80ff0000]) {
    rig.out(0xcf8, address >>> 0, 4);
    assert.is(rig.in(0xcfc, 4), 0xffffffff);
  }
  assert.is(Number(rig.load(ECAM + 0x1000, 4)), 0xffffffff);
});

test("without the enable bit there is no configuration space", () => {
  const rig = new Rig();
  rig.out(0xcf8, 0, 4);
  assert.is(rig.in(0xcfc, 4), 0xffffffff);
  rig.out(0xcf8, 0x80000000, 4);
  assert.is(rig.in(0xcf8, 4), 0x80000000);
  rig.out(0xcf8, 0x55, 1);
  assert.is(rig.in(0xcf8, 4), 0x80000000);
});

test("port 0xcf9 is still the reset register", () => {
  const rig = new Rig();
  rig.out(0xcf9, 6);
  assert.equal(rig.events().at(-1), { t: "reset" });
});

test("ECAM shows the same, and zeros behind the first 256 bytes", () => {
  const rig = new Rig();
  const slot = findVirtio(rig, RNG);
  for (let register = 0; register < 256; register += 4) {
    assert.is(Number(rig.load(ECAM + (slot << 15) + register, 4)), configRead(rig, slot, register));
  }
  assert.is(
    rig.load(ECAM + (slot << 15), 8),
    BigInt(configRead(rig, slot, 0)) | (BigInt(configRead(rig, slot, 4)) << 32n),
  );
  assert.is(rig.load(ECAM + (slot << 15) + 0x100, 4), 0n);
  rig.store(ECAM + (slot << 15) + 0x3c, 1, 7);
  assert.is(configRead(rig, slot, 0x3c, 1), 7);
});

test("BARs can be sized and moved", () => {
  const rig = new Rig();
  const slot = findVirtio(rig, RNG);
  const old = configRead(rig, slot, 0x10);
  assert.is(old, 0xe0010000);
  configWrite(rig, slot, 0x10, 0xffffffff);
  assert.is(configRead(rig, slot, 0x10), 0xffffc000);
  configWrite(rig, slot, 0x20, 0xffffffff);
  assert.is(configRead(rig, slot, 0x20), 0xfffffff1);
  configWrite(rig, slot, 0x18, 0xffffffff);
  assert.is(configRead(rig, slot, 0x18), 0);
  configWrite(rig, slot, 0x10, 0xe8000000);
  assert.is(rig.load(0xe8000012, 2), 0xffffn); // memory is not decoded yet
  configWrite(rig, slot, 4, 2, 2);
  assert.is(rig.load(0xe8000012, 2), 1n); // num_queues
  assert.is(rig.load(old + 0x12, 2), 0xffffn);
  configWrite(rig, slot, 4, 0, 2);
  assert.is(rig.load(0xe8000012, 2), 0xffffn);
});

test("a BAR outside of the window is not decoded, and never hides a chip", () => {
  const rig = new Rig();
  const slot = findVirtio(rig, RNG);
  configWrite(rig, slot, 4, 3, 2);
  for (const base of [0xfec00000, 0xfee00000, 0xfffff000, 0, 0x1000000, 0xc0000000]) {
    configWrite(rig, slot, 0x10, base);
    assert.is(rig.ioapicRead(1) & 0xff, 0x20);
  }
  for (const base of [0, 0x3f0, 0x600, 0xcf0, 0xfff0]) {
    configWrite(rig, slot, 0x20, base);
    rig.in(0xcfc, 4);
    assert.is(rig.in(0x3fa) & 0x0f, 1);
  }
});

test("read-only registers stay", () => {
  const rig = new Rig();
  const slot = findVirtio(rig, RNG);
  const before = Array.from({ length: 64 }, (_, n) => configRead(rig, slot, 4 * n));
  for (const register of [0, 8, 0x2c, 0x34, 0x40])
    configWrite(rig, slot, register, ~configRead(rig, slot, register));
  for (const n of [0, 2, 11, 13]) assert.is(configRead(rig, slot, 4 * n), before[n]);
  assert.is(configRead(rig, slot, 6, 2) & 0x10, 0x10);
});

test("the capabilities are MSI-X and the five of virtio", () => {
  const rig = new Rig({ disks: [Buffer.alloc(4096)] });
  const slot = findVirtio(rig, 2);
  const kinds: number[] = [];
  for (let n = 0; ; n++) {
    const at = findCapability(rig, slot, 9, n);
    if (at === 0) break;
    kinds.push(configRead(rig, slot, at + 3, 1));
  }
  assert.equal(kinds, [1, 3, 4, 2, 2, 5]);
  const msix = findCapability(rig, slot, 0x11);
  assert.is(configRead(rig, slot, msix + 2, 2), 1); // two vectors
  assert.is(configRead(rig, slot, msix + 4), 1);
  assert.is(configRead(rig, slot, msix + 8), 0x801);
});

function once(driver: Driver): void {
  driver.send(0, [{ address: 0x500000, length: 16, write: true }]);
}

test("MSI-X: a masked vector waits, per vector and for the function", () => {
  const rig = new Rig();
  const driver = Driver.start(rig, findVirtio(rig, RNG), VERSION_1, 8, 1);
  const table = (configRead(rig, driver.slot, 0x14) & ~15) >>> 0;
  const control = findCapability(rig, driver.slot, 0x11) + 2;
  driver.useMsix(2);
  once(driver);
  assert.equal(rig.msis.splice(0), [{ address: 0xfee00000, data: 0x41 }]);
  rig.store(table + 0x1c, 4, 1);
  once(driver);
  assert.equal(rig.msis, []);
  assert.is(rig.load(table + 0x800, 4), 2n);
  rig.store(table + 0x1c, 4, 0);
  assert.equal(rig.msis.splice(0), [{ address: 0xfee00000, data: 0x41 }]);
  assert.is(rig.load(table + 0x800, 4), 0n);
  configWrite(rig, driver.slot, control, 0xc000, 2);
  once(driver);
  assert.equal(rig.msis, []);
  configWrite(rig, driver.slot, control, 0x8000, 2);
  assert.is(rig.msis.length, 1);
});

test("MSI-X: a message that goes to no local APIC goes nowhere", () => {
  const rig = new Rig();
  const driver = Driver.start(rig, findVirtio(rig, RNG), VERSION_1, 8, 1);
  driver.useMsix(2);
  rig.store(((configRead(rig, driver.slot, 0x14) & ~15) >>> 0) + 0x10, 4, 0x1000);
  once(driver);
  assert.equal(rig.msis, []);
});

test("the pin is level-triggered: it asks again until the ISR is read", () => {
  const rig = new Rig();
  const driver = Driver.start(rig, findVirtio(rig, RNG));
  const pin = 16 + driver.slot;
  rig.ioapic(pin, 0x55, 0x8000);
  const eoi = (): unknown => rig.message(ExitType.EOI, [[ExitMessageAt.value, 0x55n]]);
  once(driver);
  assert.is(rig.msis.splice(0).length, 1);
  assert.is(configRead(rig, driver.slot, 6, 2) & 8, 8);
  eoi();
  assert.is(rig.msis.splice(0).length, 1);
  assert.is(driver.get(0x1000, 1), 1);
  assert.is(driver.get(0x1000, 1), 0);
  eoi();
  assert.is(rig.msis.length, 0);
  configWrite(rig, driver.slot, 4, 0x407, 2);
  once(driver);
  assert.is(rig.msis.length, 0);
  configWrite(rig, driver.slot, 4, 0x007, 2);
  assert.is(rig.msis.length, 1);
});

test("the virtio window in configuration space reaches the registers", () => {
  const rig = new Rig();
  const slot = findVirtio(rig, RNG);
  const at = findCapability(rig, slot, 9, 4);
  assert.is(configRead(rig, slot, at + 3, 1), 5);
  configWrite(rig, slot, at + 4, 0, 1);
  configWrite(rig, slot, at + 8, 0x12);
  configWrite(rig, slot, at + 12, 2);
  assert.is(configRead(rig, slot, at + 16) & 0xffff, 1);
  configWrite(rig, slot, at + 8, 0x14);
  configWrite(rig, slot, at + 12, 1);
  configWrite(rig, slot, at + 16, 3);
  assert.is(configRead(rig, slot, at + 16) & 0xff, 3);
  for (const [bar, offset, length] of [
    [1, 0, 4],
    [0, 0x4000, 4],
    [0, 0x11, 2],
    [0, 0, 3],
    [0, 0xffffffff, 1],
  ] as const) {
    configWrite(rig, slot, at + 4, bar, 1);
    configWrite(rig, slot, at + 8, offset);
    configWrite(rig, slot, at + 12, length);
    assert.is(configRead(rig, slot, at + 16), 0xffffffff);
    configWrite(rig, slot, at + 16, 0);
  }
});

test.run();
