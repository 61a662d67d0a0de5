// Shares of the CPUs: what specifications say of them, and what the kernel admits.

import { Hypercall, ScheduleClass, Status } from "../../../control/gen/abi";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, Rig, vmSpec } from "./rig";

/** A host of four CPUs with these VMs. */
function rigWith(...vms: Message[]): Rig {
  return new Rig({ cpus: 4, spec: hostSpec(vms) });
}

/** What the kernel was told of a VM's vCPUs. */
function shares(rig: Rig, vm: string): { scheduling: number; weight: number; part: number; cpu: number }[] {
  return rig.kernel.domain(`vm/${vm}`).vcpus.map(({ share }) => ({
    scheduling: share.scheduling,
    weight: share.weight,
    part: share.part,
    cpu: share.cpu,
  }));
}

const specOf = (rig: Rig, vm: string): Message => rig.ok("show", { vm })["spec"] as Message;
const half = { scheduling: "reserved", reserve: 50, cpus: "1" };

test("what contradicts itself is refused, with the reason, and nothing is changed", () => {
  const rig = rigWith(vmSpec("a", { weight: 300 }));
  const before = [specOf(rig, "a"), shares(rig, "a")];
  for (const [fields, text] of [
    [{ scheduling: "fast" }, /scheduling is fast, it must be shared, reserved or dedicated$/],
    [{ scheduling: "reserved" }, /scheduling is reserved, and reserve does not say how much$/],
    [{ reserve: 20 }, /reserve is for what has scheduling reserved$/],
    [{ scheduling: "dedicated", reserve: 20 }, /reserve is for what has scheduling reserved$/],
    [{ scheduling: "reserved", reserve: 20, cap: 50 }, /cap is for what has scheduling shared$/],
    [{ scheduling: "dedicated", weight: 200 }, /weight is not for what has a CPU for itself$/],
    [{ cpus: "3-1" }, /cpus is no set of CPUs in rising order, as 0-3,6$/],
    [{ cpus: "all" }, /cpus is no set of CPUs/],
    [{ weight: 0 }, /weight is 0, it must be 1 to 10,000/],
    [{ weight: 10001 }, /weight is 10,001, it must be 1 to 10,000/],
    [{ cap: 101 }, /cap is 101, it must be 1 to 100/],
    [{ scheduling: "reserved", reserve: 101 }, /reserve is 101, it must be 1 to 100/],
    [{ cap: 10, period: 1001 }, /period is 1,001, it must be 1 to 1,000/],
    [{ latency: 0 }, /latency is 0, it must be 1 to 1,000/],
  ] as const) {
    for (const error of [
      rig.error("create", { spec: vmSpec("x", fields as Message) }),
      rig.error("set", { vm: "a", spec: fields as Message }),
    ])
      assert.match(String(error["message"]), text, JSON.stringify(fields));
    const { refusals } = rig.plan(rig.draft(hostSpec([vmSpec("a", fields as Message)])));
    assert.match(String(refusals[0]!["message"]), text);
  }
  assert.is(rig.state("x"), "none");
  assert.equal([specOf(rig, "a"), shares(rig, "a")], before);
});

test("the kernel is told what the specification says, of each vCPU; the device model shares", () => {
  const rig = rigWith(
    vmSpec("a", { vcpus: 2, weight: 200, cap: 40 }),
    vmSpec("b", { ...half, period: 20 }),
    vmSpec("c", { scheduling: "dedicated", cpus: "2-3" }),
  );
  const shared = { scheduling: ScheduleClass.SHARED, cpu: 0 };
  assert.equal(shares(rig, "a"), [
    { ...shared, weight: 200, part: 0.4 },
    { ...shared, weight: 200, part: 0.4 },
  ]);
  assert.equal(shares(rig, "b")[0], { scheduling: ScheduleClass.RESERVED, weight: 0, part: 0.5, cpu: 1 });
  assert.equal(shares(rig, "c")[0], { scheduling: ScheduleClass.DEDICATED, weight: 0, part: 0, cpu: 2 });
  const spec = specOf(rig, "a");
  assert.equal([spec["weight"], spec["cap"], spec["scheduling"]], [200, 40, undefined]);
  assert.equal([specOf(rig, "b")["reserve"], specOf(rig, "b")["period"]], [50, 20]);
  assert.match(rig.command("show b"), /reserved/);
  assert.match(rig.command("show c"), /dedicated/);
});

test("set changes a VM that runs, and leaves all as it was when the kernel refuses", () => {
  const rig = rigWith(vmSpec("a", half), vmSpec("b", { weight: 300 }), vmSpec("c"));
  rig.ok("set", { vm: "b", spec: { weight: 50, cap: 20 } });
  assert.equal([shares(rig, "b")[0]!.weight, shares(rig, "b")[0]!.part], [50, 0.2]);
  const before = [specOf(rig, "c"), shares(rig, "c"), shares(rig, "a")];
  const more = { scheduling: "reserved", reserve: 51, cpus: "1" };
  const error = rig.error("set", { vm: "c", spec: more });
  assert.is(error["code"], 1);
  assert.match(
    String(error["message"]),
    /^VM "c": each of its vCPUs should have 51 % of a CPU of CPUs 1, and no CPU that it may run on has that left$/,
  );
  assert.equal([specOf(rig, "c"), shares(rig, "c"), shares(rig, "a")], before);
  assert.is(rig.state("c"), "running");
  const first = rig.error("set", { vm: "c", spec: { scheduling: "dedicated", cpus: "0" } });
  assert.match(String(first["message"]), /should have a CPU of CPUs 0 for itself/);
  rig.ok("set", { vm: "a", spec: { reserve: 49 } });
  rig.ok("set", { vm: "c", spec: more });
  /* Another scheduling begins without what belonged to the one before. */
  rig.ok("set", { vm: "c", spec: { scheduling: "shared" } });
  assert.equal([specOf(rig, "c")["reserve"], shares(rig, "c")[0]!.part], [undefined, 0]);
  rig.ok("set", { vm: "c", spec: { cpus: "" } });
  assert.is(specOf(rig, "c")["cpus"], undefined);
});

test("apply moves a reservation from one VM to another in one step, or takes it back", () => {
  const most = { scheduling: "reserved", reserve: 80, cpus: "1" };
  const rig = rigWith(vmSpec("a", most), vmSpec("b"));
  const reply = rig.apply(hostSpec([vmSpec("a"), vmSpec("b", most)]));
  assert.is(reply["ok"], true, JSON.stringify(reply));
  assert.equal([shares(rig, "a")[0]!.part, shares(rig, "b")[0]!.part], [0, 0.8]);
  assert.equal([rig.state("a"), rig.state("b")], ["running", "running"]);
  assert.is(rig.row("a")!["restarts"] ?? 0, 0);
  /* More than there is, is seen before anything is done. */
  const refused = rig.apply(hostSpec([vmSpec("a", half), vmSpec("b", most)]));
  assert.match(
    String((refused["error"] as Message)["message"]),
    /^VM "a": its vCPU 0 should have 50 % of a CPU, and no CPU that it may run on has that left$/,
  );
  assert.equal([shares(rig, "a")[0]!.part, shares(rig, "b")[0]!.part], [0, 0.8]);
});

test("each share that the kernel refuses midway takes the whole of apply back", () => {
  const most = { scheduling: "reserved", reserve: 80, cpus: "1" };
  const want = hostSpec([vmSpec("a", { weight: 200 }), vmSpec("b", most)]);
  let failed = 0;
  for (let step = 0; ; step++) {
    const rig = rigWith(vmSpec("a", most), vmSpec("b", { cap: 30 }));
    const before = ["a", "b"].map((vm) => [specOf(rig, vm), shares(rig, vm), rig.state(vm)]);
    const draft = rig.draft(want);
    const { digest } = rig.plan(draft);
    const real = rig.kernel.hypercall.bind(rig.kernel);
    let left = step;
    rig.kernel.hypercall = (component, nr, args) =>
      nr === Number(Hypercall.VCPU_SHARE) && left-- === 0
        ? BigInt(-Status.NO_QUOTA)
        : real(component, nr, args);
    const reply = rig.request("apply", { ...draft, digest });
    rig.kernel.hypercall = real;
    rig.settle();
    const ended = left >= 0; /* there were fewer calls */
    if (reply["ok"] !== true) {
      failed++;
      const after = ["a", "b"].map((vm) => [specOf(rig, vm), shares(rig, vm), rig.state(vm)]);
      assert.equal(after, before, `after call ${step}`);
    }
    if (ended) break;
  }
  assert.ok(failed >= 2, `${failed} failures`);
});

test("shares survive a restart of the control domain", () => {
  const rig = rigWith(vmSpec("a", { ...half, latency: 5 }), vmSpec("b", { weight: 300 }));
  const before = [specOf(rig, "a"), shares(rig, "a"), specOf(rig, "b"), shares(rig, "b")];
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.equal([specOf(rig, "a"), shares(rig, "a"), specOf(rig, "b"), shares(rig, "b")], before);
  const error = rig.error("set", { vm: "b", spec: { scheduling: "reserved", reserve: 60, cpus: "1" } });
  assert.match(String(error["message"]), /no CPU that it may run on has that left/);
});

test("the shell: create, set, show, help and completion", () => {
  const rig = rigWith(vmSpec("a"));
  assert.match(rig.command("set a weight=200 cap=80%"), /VM "a" is running/);
  assert.match(rig.command("set a cap=much"), /cap is "much", it must be a number/);
  assert.match(rig.command("help set"), /scheduling=shared\|reserved\|dedicated/);
  rig.type("\x03");
  assert.is(rig.type("set a we\t").trimEnd(), "set a weight=");
  rig.type("\x03");
  assert.is(specOf(rig, "a")["weight"], 200);
  assert.match(rig.command("tenant set lab cpus=2-3"), /on CPUs 2-3\n$/);
  assert.match(rig.command("tenant set lab cpus=x"), /no set of/);
  assert.not.match(rig.command("tenant set lab cpus=none"), /on CPUs/);
});

test.run();
