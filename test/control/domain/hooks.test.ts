// Policy hooks: the example by itself, and in a control image; and hooks that trap.

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HookVm } from "../../../control/domain/hooks/hooks";
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
