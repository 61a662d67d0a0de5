// Policy hooks: the example by itself, and in a control image; and hooks that trap.

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HookScale, HookVm } from "../../../control/domain/hooks/hooks";
import { hooks } from "../../../control/domain/hooks/lab";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, type RigOptions, vmSpec } from "./rig";

const GIB = 1024 * MIB;
const lab = new Uint8Array(readFileSync("build/control-lab.wasm"));

function vm(fields: Partial<HookVm>): HookVm {
  return Object.assign(new HookVm("x"), fields);
}

test("the example admits, places and starts again", () => {
  const policy = hooks();
  assert.is(policy.name(), "lab");
  assert.is(policy.admit(vm({ tenant: "lab", memory: GIB })), "");
  assert.is(policy.admit(vm({ tenant: "lab", memory: GIB + 1 })), "a VM of tenant lab has at most 1 GiB");
  assert.is(policy.admit(vm({ tenant: "other", memory: 4 * GIB })), "");
  assert.equal(policy.place(vm({ tenant: "lab" }), 5), [3, 4]);
  assert.equal(policy.place(vm({ tenant: "lab" }), 1), []);
  assert.equal(policy.place(vm({ tenant: "other" }), 8), []);
  assert.is(
    policy.onEvent("vm-ended", vm({ tenant: "lab", restarts: 1 }))!.reason,
    "a lab VM crashed, start 2 of 3",
  );
  assert.is(policy.onEvent("vm-ended", vm({ tenant: "lab", restarts: 3 })), null);
  assert.is(policy.onEvent("vm-off", vm({ tenant: "lab" })), null);
});

test("the example has as many copies as have something to do", () => {
  const policy = hooks();
  const asked = (fields: Partial<HookScale>, tenant = "lab"): number =>
    policy.scale(Object.assign(new HookScale(vm({ tenant, memory: MIB })), { free: GIB, ...fields }));
  assert.is(asked({ copies: 2, cpu: 71 }), 3);
  assert.is(asked({ copies: 2, cpu: 71, free: MIB }), 2, "there is no memory for another");
  assert.is(asked({ copies: 2, cpu: 70 }), 2);
  assert.is(asked({ copies: 2, cpu: 20 }), 2);
  assert.is(asked({ copies: 2, cpu: 19 }), 1);
  assert.is(asked({ copies: 2, cpu: 99 }, "web"), 2);
});

const tenants = [{ name: "lab" }, { name: "default" }];
const spec = (...vms: Message[]): Message => ({ ...hostSpec(vms), tenants });
const rigOf = (options: RigOptions = {}): Rig =>
  new Rig({ wasm: lab, memory: 8 * GIB, cpus: 4, spec: spec(vmSpec("a", { tenant: "lab" })), ...options });

test("what a hook forbids is denied with its reason, and audited", () => {
  const rig = rigOf();
  assert.is((rig.ok("status")["control"] as Message)["hooks"], "lab");
  assert.match(rig.command("status"), /image [0-9a-f]{12}, policy hooks lab\n/);
  const big = vmSpec("big", { tenant: "lab", memory: 2 * GIB });
  const error = rig.error("create", { spec: big });
  assert.is(error["code"], 6);
  assert.is(error["message"], 'VM "big": a VM of tenant lab has at most 1 GiB');
  assert.is(rig.state("big"), "none");
  const reply = rig.apply(spec(vmSpec("a", { tenant: "lab" }), big, vmSpec("c", { memory: 2 * GIB })));
  assert.is((reply["error"] as Message)["code"], 6);
  assert.match(
    String((reply["error"] as Message)["message"]),
    /^VM "big": a VM of tenant lab has at most 1 GiB$/,
  );
  assert.is(rig.state("c"), "none");
  const rows = rig.ok("tenants")["tenants"] as { name: string; denials?: unknown }[];
  assert.equal(rows.find((row) => row.name === "lab")!.denials, { hooks: 2 }, "and counted");
  assert.match(rig.command("audit 10"), /create +big: refused: VM "big": a VM of tenant lab/);
  rig.ok("create", { spec: vmSpec("c", { memory: 2 * GIB }) });
  assert.is(rig.apply(spec(vmSpec("c", { memory: 2 * GIB })))["ok"], true);
});

test("where a hook wants a VM is told", () => {
  const rig = rigOf();
  assert.equal(rig.ok("show", { vm: "a" })["placed"], [2, 3]);
  assert.is(rig.kernel.domain("vm/a").vcpus[0]!.share.cpus, 0b1100n, "and the kernel keeps it there");
});

test("a hook starts a VM that crashed, three times", () => {
  const rig = rigOf();
  for (let n = 1; n <= 3; n++) {
    rig.ok("console.write", { vm: "a", data: "ended\r" });
    assert.is(rig.state("a"), "crashed");
    rig.kernel.advance(1500);
    assert.is(rig.state("a"), "running");
    assert.match(rig.command("events 5"), new RegExp(`policy +a: start: a lab VM crashed, start ${n} of 3`));
  }
  rig.ok("console.write", { vm: "a", data: "ended\r" });
  rig.kernel.advance(5000);
  assert.is(rig.state("a"), "crashed");
});

test("copies come up to the least, stay below the most, and go by the power button", () => {
  const scale = (min: number, max: number): Message => ({ scale: { min, max } });
  const rig = rigOf({ spec: spec(vmSpec("a", { tenant: "lab", memory: 8 * MIB, ...scale(2, 3) })) });
  const copies = (): unknown[] => (rig.ok("ls")["vms"] as Message[]).map(({ name }) => name);
  rig.wait(1100);
  assert.equal(copies(), ["a", "a-1"], "one at a time");
  rig.wait(5000);
  assert.equal(copies(), ["a", "a-1", "a-2"], "they have nothing to do: no more than the least");
  assert.match(rig.command("audit 20"), /policy +a: scale: made a-2; 1 copies use 0 % of their vCPUs/);
  assert.equal((rig.ok("show", { vm: "a" })["spec"] as Message)["scale"], { min: 2, max: 3 });
  assert.is((rig.ok("show", { vm: "a-1" })["spec"] as Message)["scale"], undefined);
  // A specification that has the VM leaves its copies alone.
  const same = spec(vmSpec("a", { tenant: "lab", memory: 8 * MIB, ...scale(2, 3) }));
  assert.equal(rig.plan(rig.draft(same)).steps, []);
  // A lower bound: the newest goes first.
  rig.ok("set", { vm: "a", spec: { scale: { min: 0, max: 1 } } });
  rig.wait(1100);
  assert.match(rig.command("events 9"), /policy +a-2: scale: power button pressed/);
  rig.wait(3000);
  rig.wait(3000);
  assert.equal(copies(), ["a"], "below 20 % the example wants none");
  assert.equal(rig.kernel.traps, []);
});

test("a copy that does not listen to its power button is ended", () => {
  const rig = rigOf({
    spec: spec(vmSpec("a", { tenant: "lab", memory: 8 * MIB, scale: { min: 1, max: 1 } })),
  });
  rig.wait(1100);
  rig.ok("console.write", { vm: "a-1", data: "ignore\r" });
  rig.ok("set", { vm: "a", spec: { scale: { min: 0, max: 1 } } });
  for (let n = 0; n < 6; n++) rig.wait(1100);
  assert.is(rig.state("a-1"), "none");
});

test("what hinders a copy is said once", () => {
  const rig = new Rig({
    spec: hostSpec([vmSpec("a", { memory: 96 * MIB, scale: { min: 1, max: 2 } })]),
    memory: 128 * MIB,
  });
  for (let n = 0; n < 5; n++) rig.wait(1100);
  assert.is(rig.command("events 20").split("scale: no more: ").length - 1, 1);
  assert.is(rig.state("a"), "running");
});

test("low memory is told once, and again after there was enough", () => {
  const rig = new Rig({ memory: 512 * MIB, spec: hostSpec([]) });
  const { free } = rig.ok("status")["memory"] as { free: number };
  const large = vmSpec("a", { memory: free - (free % MIB) - 24 * MIB });
  const told = (): number => rig.command("events 50").split("memory-low").length - 1;
  for (let n = 1; n <= 2; n++) {
    rig.ok("create", { spec: large });
    rig.kernel.advance(1000);
    assert.is(told(), n);
    rig.ok("rm", { vm: "a", force: true });
    rig.kernel.advance(1000);
    assert.is(told(), n);
  }
});

test("a hook that traps costs a restart, and no VM", () => {
  const rig = new Rig({ wasm: new Uint8Array(readFileSync("build/control-broken.wasm")) });
  assert.is(rig.state("a"), "running");
  assert.throws(() => rig.request("create", { spec: vmSpec("trap") }), /no reply/);
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.match(rig.command("events 3"), /control-restarted .*this hook traps/);
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("trap"), "none");
});

test.run();
