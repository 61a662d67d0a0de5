// The control domain traps: its VMs run on, and the new one finds them.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import { DomainState, GPA_SHARED, Role, VcpuState } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, Rig, vmSpec } from "./rig";

/** Where a copy of a document is: 0 is about the host, 1 + n about VM n. */
const stashCopy = (document: number, copy: number): number =>
  GPA_SHARED + 0x1000000 + (2 * document + copy) * 0x1400;

function trap(rig: Rig): string {
  rig.text();
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  return rig.text();
}

/** Like trap(), with the text that its restart printed. */
function trapText(rig: Rig): string {
  rig.text();
  return rig.type(frameEncode({ id: 9999, op: "test.trap" }));
}

test("VMs run on, are listed, and their consoles still work", () => {
  const rig = new Rig();
  rig.ok("pause", { vm: "b" });
  rig.ok("console.write", { vm: "a", data: "before\r" });
  const text = trapText(rig);
  assert.match(
    text,
    /control domain restarted \(.*test\.trap: the control domain was told to trap.*\); found 2 VMs/,
  );
  assert.match(text, /plinth> $/);
  assert.is(rig.kernel.traps.length, 1);
  assert.is(rig.kernel.domain("vm/a", Role.VM).vcpus[0]!.state, VcpuState.READY);
  assert.is(rig.kernel.domain("vm/b", Role.VM).state, DomainState.PAUSED);
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("b"), "paused");
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.ok("status")["host"], "test");
  rig.ok("console.attach", { vm: "a" });
  assert.match(rig.consoleText("a"), /model up: name=a\r\nbefore\r\nyou said: before/);
  rig.ok("console.write", { vm: "a", data: "after\r" });
  assert.match(rig.consoleText("a"), /you said: after/);
  assert.is((rig.ok("show", { vm: "a" })["spec"] as Message)["cmdline"], "name=a");
  rig.ok("resume", { vm: "b" });
  rig.ok("stop", { vm: "b" });
  assert.is(rig.state("b"), "stopped");
});

test("events go on where they were", () => {
  const rig = new Rig();
  const before = rig.ok("events", { since: 0 })["events"] as Message[];
  trap(rig);
  const after = rig.ok("events", { since: 0 })["events"] as Message[];
  assert.equal(after.slice(0, before.length), before);
  assert.is(after[before.length]!["kind"], "control-restarted");
  assert.is(after[before.length]!["seq"], before.length + 1);
});

test("many restarts leak nothing", () => {
  const rig = new Rig();
  trap(rig);
  const free = rig.kernel.freePages;
  const slots = rig.kernel.domain("control").caps.size;
  for (let n = 0; n < 6; n++) trap(rig);
  assert.is(rig.kernel.freePages, free);
  assert.is(rig.kernel.domain("control").caps.size, slots);
  assert.is(rig.state("a"), "running");
  rig.ok("rm", { vm: "a", force: true });
  rig.ok("rm", { vm: "b", force: true });
  assert.equal(
    [...rig.kernel.domains].map((domain) => domain.label),
    ["control"],
  );
});

test("stopped and crashed VMs keep their state, specification and console", () => {
  const rig = new Rig();
  rig.ok("console.write", { vm: "a", data: "ended\r" });
  rig.ok("stop", { vm: "b", force: true });
  trap(rig);
  assert.is(rig.state("a"), "crashed");
  assert.is(rig.row("a")!["reason"], "triple fault");
  assert.is(rig.state("b"), "stopped");
  assert.match(Buffer.from(rig.ok("logs", { vm: "a" })["data"] as Uint8Array).toString(), /model up: name=a/);
  rig.ok("start", { vm: "a" });
  assert.is(rig.state("a"), "running");
});

test("a VM that ended while there was no control domain is found out", () => {
  const rig = new Rig();
  rig.kernel.serial.write(frameEncode({ id: 9001, op: "test.trap" }));
  rig.kernel.serial.write(frameEncode({ id: 9002, op: "console.write", vm: "a", data: "off\r" }));
  rig.kernel.run();
  rig.text();
  rig.kernel.run();
  assert.ok(["stopped", "running"].includes(rig.state("a")));
  const model = rig.kernel.domain("dm/b");
  rig.kernel.serial.write(frameEncode({ id: 9003, op: "test.trap" }));
  model.component!.pending |= 0n;
  rig.kernel.fail(model, 1, 0, "asked for");
  rig.kernel.run();
  assert.is(rig.state("b"), "crashed");
});

test("with a spoilt stash, VMs are found by their labels and links", () => {
  const rig = new Rig();
  const control = rig.kernel.domain("control");
  for (let document = 0; document < 3; document++)
    for (let copy = 0; copy < 2; copy++)
      control.space.write(stashCopy(document, copy) + 16, new Uint8Array(64).fill(0x5a));
  trap(rig);
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("b"), "running");
  const show = rig.ok("show", { vm: "b" });
  assert.is(show["reason"], "found by its label");
  assert.equal((show["spec"] as Message)["cmdline"], "name=b");
  assert.equal((show["spec"] as Message)["kernel"], "linux");
  assert.is(show["memory"], 96 << 20);
});

test("VMs come back in their order, a removed one does not, and a new one is the last", () => {
  const rig = new Rig({ spec: hostSpec(["a", "b", "c"].map((name) => vmSpec(name))) });
  const names = (): unknown[] => (rig.ok("ls")["vms"] as Message[]).map((vm) => vm["name"]);
  rig.ok("rm", { vm: "a", force: true });
  rig.ok("create", { spec: vmSpec("x") }); // where a was
  trap(rig);
  assert.equal(names(), ["b", "c", "x"]);
  rig.ok("rm", { vm: "b", force: true });
  rig.ok("create", { spec: vmSpec("y") });
  trap(rig);
  assert.equal(names(), ["c", "x", "y"]);
});

test("one spoilt copy of the stash: the one before is used", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  const control = rig.kernel.domain("control");
  const sequence = (copy: number): number =>
    new DataView(control.space.read(stashCopy(1, copy), 8).buffer).getUint32(4, true);
  const newer = sequence(0) > sequence(1) ? 0 : 1;
  control.space.write(stashCopy(1, newer) + 20, new Uint8Array(8));
  trap(rig);
  assert.is(rig.state("a"), "running");
});

test("objects of a build that a trap cut short are freed", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  const free = rig.kernel.freePages;
  const real = rig.kernel.hypercall.bind(rig.kernel);
  rig.kernel.hypercall = (component, nr, args) => {
    if (nr === 27 && component.domain.label === "control") throw new WebAssembly.RuntimeError("cut short");
    return real(component, nr, args);
  };
  rig.type(frameEncode({ id: 9005, op: "create", spec: vmSpec("x") }));
  rig.kernel.hypercall = real;
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("x"), "crashed");
  rig.ok("rm", { vm: "x" });
  assert.is(rig.kernel.freePages, free);
});

test("a VM still starting becomes ready after the restart", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  rig.ok("stop", { vm: "a", force: true });
  rig.kernel.serial.write(frameEncode({ id: 9001, op: "start", vm: "a" }));
  rig.kernel.serial.write(frameEncode({ id: 9002, op: "test.trap" }));
  rig.kernel.run();
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.state("a"), "running");
});

test("starts that were still to come, come", () => {
  const restart = { policy: "on-failure", max: 3, window: 60 };
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { restart })]) });
  rig.kernel.serial.write(frameEncode({ id: 9001, op: "console.write", vm: "a", data: "ended\r" }));
  rig.kernel.run();
  rig.kernel.serial.write(frameEncode({ id: 9002, op: "test.trap" }));
  rig.settle();
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.state("a"), "running");
  assert.is(rig.ok("show", { vm: "a" })["restarts"], 1);
});

test("a trap while the VMs of the specification are built costs the one that was being built", () => {
  const rig = new Rig({ trapAt: 2 });
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.row("a")!["reason"], "lost when the control domain restarted");
  assert.is(rig.state("b"), "running");
});

test.run();
