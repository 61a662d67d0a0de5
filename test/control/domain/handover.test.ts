// A VM that another host has: given up in one step, it stands still until it is removed or taken back by force.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { DomainState } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

/** A host with a VM that is paused and kept as snapshot "s". */
function paused(spec: Message = vmSpec("a", { memory: 4 * MIB })): Rig {
  const rig = new Rig({ spec: hostSpec([spec]) });
  rig.ok("pause", { vm: "a" });
  rig.ok("snapshot.create", { vm: "a", name: "s" });
  return rig;
}

function moved(spec?: Message): Rig {
  const rig = paused(spec);
  assert.is(rig.ok("vm.handover", { vm: "a", snapshot: "s" })["state"], "moved");
  return rig;
}

function trap(rig: Rig): void {
  try {
    rig.request("test.trap");
  } catch {
    // it has no reply
  }
  rig.settle();
}

/** Whether the kernel has stopped its CPUs. */
function stands(rig: Rig): boolean {
  const vm = [...rig.kernel.domains].find(({ label }) => label === "vm/a");
  return vm !== undefined && vm.state === DomainState.PAUSED;
}

test("only one that has stood still since the snapshot is given up", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { memory: 4 * MIB })]) });
  rig.ok("snapshot.create", { vm: "a", name: "early" });
  assert.match(String(rig.error("vm.handover", { vm: "a", snapshot: "early" })["message"]), /must be paused/);
  rig.ok("pause", { vm: "a" });
  assert.match(
    String(rig.error("vm.handover", { vm: "a", snapshot: "early" })["message"]),
    /VM "a" has run since snapshot "early" was made of it/,
  );
  rig.ok("snapshot.create", { vm: "a", name: "late" });
  rig.ok("resume", { vm: "a" });
  rig.ok("pause", { vm: "a" });
  assert.is(rig.error("vm.handover", { vm: "a", snapshot: "late" })["code"], 4);
  assert.is(rig.error("vm.handover", { vm: "a", snapshot: "none" })["code"], 3);
  assert.is(rig.error("vm.handover", { vm: "b", snapshot: "late" })["code"], 3);
  rig.ok("snapshot.create", { vm: "a", name: "now" });
  for (let n = 0; n < 2; n++)
    assert.is(rig.ok("vm.handover", { vm: "a", snapshot: "now" })["state"], "moved");
  assert.is(rig.error("vm.handover", { vm: "a", snapshot: "late" })["code"], 4);
});

test("nothing starts it here, and all that is refused says what to do", () => {
  const rig = moved();
  const asked: [string, Message][] = [
    ["resume", {}],
    ["start", {}],
    ["stop", { force: true }],
    ["pause", {}],
    ["reset", { force: true }],
    ["balloon", { size: 2 * MIB }],
    ["set", { spec: { tags: ["x"] } }],
    ["snapshot.create", {}],
  ];
  for (const [op, more] of asked) {
    const error = rig.error(op, { vm: "a", ...more });
    assert.is(error["code"], 4, op);
    assert.match(String(error["message"]), /^VM "a" has moved to another host$/, op);
    assert.is(error["next"], "plinth rm a, or resume a --force if it does not run there");
  }
  assert.is(rig.error("snapshot.restore", { name: "s", force: true })["code"], 4);
  assert.is(rig.state("a"), "moved");
  assert.ok(stands(rig));
  const kinds = (rig.ok("events", { since: 0 })["events"] as Message[]).map((event) => event["kind"]);
  assert.ok(kinds.includes("vm-moved"));
  assert.match(rig.command("audit"), /vm\.handover +a: done/);
});

test("it is removed, or taken back by force, once", () => {
  const gone = moved();
  gone.ok("rm", { vm: "a" });
  assert.is(gone.state("a"), "none");
  const back = moved();
  assert.is(back.ok("resume", { vm: "a", force: true })["state"], "running");
  assert.not.ok(stands(back));
  assert.is(back.error("vm.handover", { vm: "a", snapshot: "s" })["code"], 4);
  assert.match(back.command("audit"), /resume +a: done, by force/);
  assert.equal(back.kernel.traps, []);
});

test("it stays moved when the control domain starts again", () => {
  const rig = moved();
  trap(rig);
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.state("a"), "moved");
  assert.ok(stands(rig));
  assert.is(rig.error("resume", { vm: "a" })["code"], 4);
  assert.is(rig.ok("vm.handover", { vm: "a", snapshot: "s" })["state"], "moved");
  assert.is(rig.ok("resume", { vm: "a", force: true })["state"], "running");
  trap(rig);
  assert.is(rig.state("a"), "running");
  // What a paused VM is kept as is known to a successor too.
  const other = paused();
  trap(other);
  assert.is(other.ok("vm.handover", { vm: "a", snapshot: "s" })["state"], "moved");
});

test("a specification leaves it alone, refuses to change it, and may remove it", () => {
  const rig = moved(vmSpec("a", { memory: 4 * MIB, restart: { policy: "always", max: 5, window: 60 } }));
  const spec = vmSpec("a", { memory: 4 * MIB, restart: { policy: "always", max: 5, window: 60 } });
  const same = rig.plan(rig.draft(hostSpec([spec])));
  assert.equal([same.steps, same.refusals], [[], []]);
  for (const change of [{ tags: ["x"] }, { memory: 8 * MIB }]) {
    const { refusals } = rig.plan(rig.draft(hostSpec([{ ...spec, ...change }])));
    assert.match(String(refusals[0]!["message"]), /VM "a" has moved to another host: it cannot be changed/);
    assert.is(rig.apply(hostSpec([{ ...spec, ...change }]))["ok"], false);
  }
  rig.wait(5000);
  assert.is(rig.state("a"), "moved");
  assert.match(String(rig.plan(rig.draft(hostSpec([]))).steps[0]!["reason"]), /it has moved/);
  assert.is(rig.apply(hostSpec([]))["ok"], true);
  assert.is(rig.state("a"), "none");
});

test("the shell shows it, and takes it back", () => {
  const rig = moved();
  assert.match(rig.command("ls"), /\na +moved /);
  assert.match(rig.command("resume a"), /has moved to another host\nnext: +rm a, or resume a --force/);
  assert.match(rig.command("resume a --force"), /VM "a" is running/);
});

test.run();
