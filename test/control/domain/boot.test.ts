// Booting the VMs of a host specification, and what is said about one that is wrong.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Role, VcpuState } from "../../../control/gen/abi";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

test("greets, starts the VMs of the specification and prompts", () => {
  const rig = new Rig();
  const text = rig.text();
  assert.match(text, /plinth control 0\.1\.0 \(.*\)\r\n/);
  assert.match(text, /host "test": 2 VMs, 2 starting\r\n/);
  assert.match(text, /plinth> /);
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("b"), "running");
  assert.equal(rig.kernel.traps, []);
  assert.is(rig.kernel.domain("vm/a", Role.VM).vcpus[0]!.state, VcpuState.READY);
});

test("output goes on when the line's interrupts get lost", () => {
  const rig = new Rig({ deafLine: true });
  rig.kernel.advance(500);
  assert.match(rig.text(), /plinth control [^]*2 VMs, 2 starting[^]*\[b: running\]\r\nplinth> $/);
});

test("no specification: no VMs, and the prompt", () => {
  const rig = new Rig({ spec: null });
  assert.match(rig.text(), /there is no module "spec", so there are no VMs/);
  assert.match(rig.command("ls"), /no VMs/);
});

test("a specification that is no CBOR is said to be so", () => {
  for (const spec of [
    new Uint8Array([0xa1, 0xff]),
    new Uint8Array(0),
    new Uint8Array(70_000),
    Buffer.from("hello"),
  ]) {
    const rig = new Rig({ spec });
    assert.match(rig.text(), /error: host specification: /);
    assert.match(rig.command("ls"), /no VMs/);
  }
});

test("each wrong VM has its line, the others start", () => {
  const rig = new Rig({
    spec: hostSpec([
      vmSpec("good"),
      vmSpec("Bad Name"),
      vmSpec("huge", { memory: 2048 * MIB }),
      vmSpec("odd", { memory: 64 * MIB + 5 }),
      vmSpec("good", {}),
      vmSpec("nokernel", { kernel: "bsd" }),
      vmSpec("typo", { memroy: 5 }),
      vmSpec("smp", { vcpus: 17 }),
    ]),
  });
  const text = rig.text();
  assert.match(text, /error: VM "vms\[1\]": a name has up to 27/);
  assert.match(text, /error: VM "huge": needs 2,0\d\d MiB, \d+ MiB are free\r\n  next: free/);
  assert.match(text, /error: VM "odd": memory is not a multiple of 4,096 bytes/);
  assert.match(text, /error: VM "good": there is one of that name/);
  assert.match(text, /error: VM "nokernel": there is no image "bsd"\r\n  next: images/);
  assert.match(text, /error: VM "typo": unknown field "memroy", did you mean "memory"\?/);
  assert.match(text, /error: VM "smp": vcpus is 17, it must be 1 to 16/);
  assert.is(rig.state("good"), "running");
  assert.is((rig.ok("ls")["vms"] as unknown[]).length, 1);
});

test("boot modules that are missing or truncated are named, and no VM starts from them", () => {
  const manifest = { linux: 100_001, initrd: 50_000, "device-model": 1, disk: 5 };
  const rig = new Rig({
    manifest,
    spec: hostSpec([
      vmSpec("short"),
      vmSpec("gone", { kernel: "initrd", disks: [{ image: "disk", readOnly: true }] }),
    ]),
  });
  const text = rig.text();
  const next = "\\r\\n  next: write the boot image again\\r\\n";
  const line = (said: string): RegExp => new RegExp(`error: boot module "${said}${next}`);
  assert.match(text, line('linux" is truncated: it has 100,000 of its 100,001 bytes'));
  assert.match(text, line('device-model" is truncated: it has [\\d,]+ of its 1 bytes'));
  assert.match(text, line('disk" is missing: the boot loader could not read it'));
  assert.match(text, /error: VM "short": boot module "linux" is truncated: .*\r\n {2}next: doctor/);
  assert.match(text, /error: VM "gone": boot module "device-model" is truncated/);
  assert.not.match(text, /boot module "initrd"/);
  assert.match(rig.command("ls"), /no VMs/);
  assert.match(
    rig.command("doctor"),
    /^LOOK +boot module "linux" is truncated.*; boot module "disk" is missing/m,
  );
  const created = rig.error("create", { spec: vmSpec("new") });
  assert.match(String(created["message"]), /^VM "new": boot module "linux" is truncated/);
  assert.equal(rig.kernel.traps, []);
});

test("a whole image: nothing is said", () => {
  const rig = new Rig({ manifest: { linux: 100_000, initrd: 50_000 } });
  assert.not.match(rig.text(), /boot module/);
  assert.is(rig.state("a"), "running");
});

test("a truncated specification is said to be that, and no more", () => {
  const rig = new Rig({ spec: new Uint8Array([0xa1]), manifest: { spec: 2 } });
  const text = rig.text();
  assert.match(text, /error: boot module "spec" is truncated: it has 1 of its 2 bytes\r\n/);
  assert.is(text.match(/error: /g)?.length, 1);
});

test("a specification of garbage never traps", () => {
  let seed = 1;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (let round = 0; round < 60; round++) {
    const bytes = Buffer.from(new Uint8Array(200).map(() => random(256)));
    bytes[0] = 0xa0 + random(4);
    const rig = new Rig({ spec: bytes });
    assert.equal(rig.kernel.traps, []);
  }
});

test.run();
