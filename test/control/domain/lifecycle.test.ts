// How VMs end: by themselves, by their device model, by the administrator; and that nothing is left behind.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CAP_MODULE, Failure, Role, VcpuState } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

/** Kinds of the events about a VM. */
function kinds(rig: Rig, vm: string): string[] {
  const out: string[] = [];
  for (let since = 0; ;) {
    const page = rig.ok("events", { since });
    const events = page["events"] as Message[];
    if (events.length === 0) return out;
    out.push(...events.filter((event) => event["vm"] === vm).map((event) => String(event["kind"])));
    since = Number(page["next"]);
  }
}

/** What the control domain and the machine hold. */
function holdings(rig: Rig): unknown {
  const control = rig.kernel.domain("control");
  return {
    free: rig.kernel.freePages,
    slots: [...control.caps.keys()].sort((a, b) => a - b),
    mappings: control.space.mappings.length,
    domains: [...rig.kernel.domains].map((domain) => domain.label),
  };
}

test("rm gives back every capability and every frame", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("keep")]) });
  const before = holdings(rig);
  for (let round = 0; round < 5; round++) {
    rig.ok("create", { spec: vmSpec("x", { memory: 100 * MIB }) });
    assert.is(rig.state("x"), "running");
    if (round === 1) rig.ok("console.write", { vm: "x", data: "ended\r" });
    if (round === 2) rig.ok("console.write", { vm: "x", data: "trap\r" });
    if (round === 3) rig.ok("reset", { vm: "x" });
    if (round === 4) rig.ok("stop", { vm: "x" });
    rig.ok("rm", { vm: "x", force: true });
    assert.equal(holdings(rig), before);
  }
  assert.is(rig.state("keep"), "running");
});

test("a stopped VM holds its link and nothing else", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  for (const [ports, pages] of [
    [[], 22],
    [["a", "b"], 24],
  ] as const) {
    const before = rig.kernel.freePages;
    rig.ok("create", { spec: vmSpec("x", { ports: [...ports] }) });
    rig.ok("stop", { vm: "x", force: true });
    assert.is(before - rig.kernel.freePages, pages);
    rig.ok("rm", { vm: "x" });
  }
});

test("memory that does not fit below 3 GiB lies from 4 GiB on, for the VM and its device model", () => {
  const GIB = 2 ** 30;
  const rig = new Rig({ spec: hostSpec([vmSpec("big", { memory: 5 * GIB + MIB })]), memory: 8 * GIB });
  assert.is(rig.state("big"), "running");
  const places = (label: string, role: Role, from: number): number[][] =>
    rig.kernel
      .domain(label, role)
      .space.mappings.filter((m) => m.gpa >= from)
      .map((m) => [m.gpa - from, m.pages * 4096, m.first * 4096])
      .sort((a, b) => a[0]! - b[0]!);
  const parts = [
    [0, 3 * GIB, 0],
    [4 * GIB, 2 * GIB + MIB, 3 * GIB],
  ];
  assert.equal(places("vm/big", Role.VM, 0), parts);
  assert.equal(places("dm/big", Role.DEVICE_MODEL, 4 * GIB), parts);
});

test("power off, reset and end by the guest", () => {
  const rig = new Rig();
  rig.ok("console.write", { vm: "a", data: "off\r" });
  assert.is(rig.row("a")!["reason"], "powered off");
  assert.is(rig.state("a"), "stopped");
  rig.ok("console.write", { vm: "b", data: "ended\r" });
  assert.is(rig.state("b"), "crashed");
  assert.is(rig.row("b")!["reason"], "triple fault");
  rig.ok("start", { vm: "b" });
  rig.ok("console.write", { vm: "b", data: "reset\r" });
  rig.kernel.advance(1500);
  assert.is(rig.state("b"), "running");
  assert.ok(kinds(rig, "b").includes("vm-reset"));
  assert.match(
    Buffer.from(rig.ok("logs", { vm: "b" })["data"] as Uint8Array).toString(),
    /^model up: name=b\r\n$/,
  );
});

test("a guest that resets without end is held to one start a second", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  for (let n = 0; n < 5; n++) {
    rig.ok("console.write", { vm: "a", data: "reset\r" });
    assert.is(rig.state("a"), "stopped");
    rig.kernel.advance(1100);
    assert.is(rig.state("a"), "running");
  }
});

test("a device model that traps ends its VM, with its words, and nothing else", () => {
  const rig = new Rig();
  rig.text();
  rig.ok("test.trapModel", { vm: "a" });
  assert.is(rig.state("a"), "crashed");
  assert.match(
    String(rig.ok("show", { vm: "a" })["reason"]),
    /device model failed: told to trap @ .*fake-model\.ts:/,
  );
  assert.is(rig.state("b"), "running");
  assert.ok(kinds(rig, "a").includes("model-failed"));
  assert.match(rig.text(), /\[a: device model failed/);
  assert.is(rig.ok("status")["controlRestarts"], 0);
  assert.is(rig.ok("start", { vm: "a" })["state"], "starting");
});

test("a VM's domain that fails ends the VM", () => {
  const rig = new Rig();
  rig.kernel.fail(rig.kernel.domain("vm/a", Role.VM), Failure.ENTRY, 33, "entry failed");
  rig.kernel.run();
  assert.is(rig.row("a")!["reason"], "VM entry failed: invalid guest state");
  assert.is(rig.state("b"), "running");
});

test("an image that the device model refuses", () => {
  const rig = new Rig({
    spec: hostSpec([
      vmSpec("bad", { cmdline: "fail-early" }),
      vmSpec("trap", { cmdline: "trap-early" }),
      vmSpec("good"),
    ]),
  });
  assert.is(rig.state("bad"), "crashed");
  assert.is(rig.ok("show", { vm: "bad" })["reason"], "linux: the kernel image is truncated");
  assert.is(rig.state("trap"), "crashed");
  assert.is(rig.state("good"), "running");
  assert.match(rig.text(), /linux: the kernel image is truncated/);
});

test("a device model that is never ready is given up", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("slow", { cmdline: "never-ready" })]) });
  assert.is(rig.state("slow"), "starting");
  rig.kernel.advance(119_000);
  assert.is(rig.state("slow"), "starting");
  rig.kernel.advance(2_000);
  assert.is(rig.state("slow"), "crashed");
  assert.match(String(rig.row("slow")!["reason"]), /not ready after 120 s/);
});

test("stop ends a VM that is still starting", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("slow", { cmdline: "never-ready" })]) });
  assert.is(rig.ok("stop", { vm: "slow" })["state"], "stopped");
});

test("messages that are nonsense change nothing", () => {
  const rig = new Rig();
  rig.ok("console.write", { vm: "a", data: "garbage\r" });
  assert.is(rig.state("a"), "running");
  rig.ok("stop", { vm: "a" });
  assert.is(rig.state("a"), "stopped");
});

test("restart policy on-failure: at most max times in the window, then crashed", () => {
  const restart = { policy: "on-failure", max: 2, window: 60 };
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { restart })]) });
  for (let n = 0; n < 2; n++) {
    rig.ok("console.write", { vm: "a", data: "ended\r" });
    assert.is(rig.state("a"), "crashed");
    rig.kernel.advance(1100);
    assert.is(rig.state("a"), "running");
  }
  rig.ok("console.write", { vm: "a", data: "ended\r" });
  rig.kernel.advance(5000);
  assert.is(rig.state("a"), "crashed");
  assert.match(String(rig.row("a")!["reason"]), /given up after 2 restarts in 60 s/);
  assert.is(rig.ok("show", { vm: "a" })["restarts"], 2);
  rig.ok("start", { vm: "a" });
  rig.kernel.advance(61_000);
  rig.ok("console.write", { vm: "a", data: "off\r" });
  rig.kernel.advance(5000);
  assert.is(rig.state("a"), "stopped");
});

test("restart policy always: a power-off starts it again, and stop breaks the loop", () => {
  const restart = { policy: "always", max: 100, window: 60 };
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { restart })]) });
  rig.ok("console.write", { vm: "a", data: "off\r" });
  rig.kernel.advance(1100);
  assert.is(rig.state("a"), "running");
  rig.ok("console.write", { vm: "a", data: "ended\r" });
  assert.is(rig.ok("stop", { vm: "a" })["state"], "stopped");
  rig.kernel.advance(5000);
  assert.is(rig.state("a"), "stopped");
  rig.ok("start", { vm: "a" });
  rig.ok("stop", { vm: "a" });
  rig.kernel.advance(5000);
  assert.is(rig.state("a"), "stopped");
});

test("memory: VMs are refused when they no longer fit, and fit again after rm", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const names: string[] = [];
  for (;;) {
    const name = `vm${names.length}`;
    if (rig.request("create", { spec: vmSpec(name) })["ok"] !== true) break;
    names.push(name);
  }
  assert.is(names.length, 7);
  assert.is(rig.state("vm7"), "none");
  rig.ok("rm", { vm: "vm3", force: true });
  rig.ok("create", { spec: vmSpec("again") });
  assert.is(rig.state("again"), "running");
});

test("each step of a build that fails is undone", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const before = holdings(rig);
  let failed = 0;
  for (let step = 0; ; step++) {
    const real = rig.kernel.hypercall.bind(rig.kernel);
    let left = step;
    rig.kernel.hypercall = (component, nr, args) => {
      const building =
        [9, 14, 15, 17, 6, 25, 27, 28, 20].includes(nr) && component.domain.label === "control";
      return building && left-- === 0 ? -5n : real(component, nr, args);
    };
    const reply = rig.request("create", { spec: vmSpec("x") });
    rig.kernel.hypercall = real;
    if (reply["ok"] === true) break;
    failed++;
    assert.match(
      String((reply["error"] as Message)["message"]),
      /^VM "x": .* failed: there is not enough free memory$/,
    );
    assert.equal(holdings(rig), before, `after step ${step}`);
  }
  assert.ok(failed >= 15, `${failed} steps`);
});

test("128 VMs, and the 129th is refused; all are heard", () => {
  const rig = new Rig({ spec: hostSpec([]), memory: 4096 * MIB });
  for (let n = 0; n < 128; n++) rig.ok("create", { spec: vmSpec(`vm${n}`, { memory: 16 * MIB }) });
  assert.match(
    String(rig.error("create", { spec: vmSpec("more", { memory: 16 * MIB }) })["message"]),
    /there are 128 VMs/,
  );
  const rows: Message[] = [];
  for (let from = 0; from < 128;) {
    const reply = rig.ok("ls", { from });
    rows.push(...(reply["vms"] as Message[]));
    from = Number(reply["next"] ?? 128);
  }
  assert.is(rows.filter((row) => row["state"] === "running").length, 128);
  assert.is(rig.kernel.domain("vm/vm127").vcpus[0]!.state, VcpuState.READY);
  // These have one event bit.
  for (const vm of ["vm3", "vm48", "vm93"]) rig.ok("console.write", { vm, data: "off\r" });
  for (const vm of ["vm3", "vm48", "vm93"]) assert.is(rig.ok("show", { vm })["state"], "stopped");
});

test("the device model gets what the contract says", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { cmdline: "never-ready" })]) });
  const model = rig.kernel.domain("dm/a");
  const access = (gpa: number): number => model.space.at(gpa)!.access;
  assert.is(access(0x100000), 5);
  assert.is(access(0x1000000), 3);
  assert.is(access(0x10000000), 3);
  assert.is(access(0x20000000), 1);
  assert.is(access(0x40000000), 1);
  assert.is(access(0x100000000), 3);
  assert.is(rig.kernel.domain("vm/a").space.at(0)!.access, 7);
  assert.equal(
    [...model.caps.keys()].filter((slot) => slot > 2).sort((x, y) => x - y),
    [3, 4, 5, 8],
  );
  assert.ok(rig.kernel.domain("control").caps.has(CAP_MODULE));
});

test("a loaded VM's device model maps no image any more", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  const { space } = rig.kernel.domain("dm/a");
  for (const gpa of [0x20000000, 0x40000000]) assert.is(space.at(gpa), undefined);
  assert.is(space.at(0x100000000)!.access, 3);
});

test("a VM that does not listen to its power button says so, and runs on", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  rig.ok("console.write", { vm: "a", data: "ignore\r" });
  rig.ok("stop", { vm: "a" });
  assert.is(rig.state("a"), "running");
  assert.is(rig.row("a")!["reason"], "its power button is pressed, but it does not listen to it");
  const events = rig.ok("events", { since: 0 })["events"] as Message[];
  assert.is(events.at(-1)!["kind"], "vm-unheard");
  rig.ok("stop", { vm: "a", force: true });
});

test.run();
