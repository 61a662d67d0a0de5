// NUMA nodes: where VMs come to be, what is said of it, and what is refused.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import { firmware, GIB, nodeMemory, table, words, zeros } from "./acpi-tables";
import { hostSpec, MIB, Rig, vmSpec, type RigOptions } from "./rig";

const cpu = (node: number, id: number): number[] =>
  words([1, 0], [1, 16], [1, node & 0xff], [1, id], [4, 1], [1, 0], [1, node >> 8], [2, 0], [4, 0]);

/** Two nodes, 3 and 300, with CPUs 0 to 2 and 3 to 5. */
const MACHINE: RigOptions = {
  ...firmware([
    table("SRAT", 3, [
      ...zeros(12),
      ...[0, 1, 2].flatMap((id) => cpu(3, id)),
      ...[3, 4, 5].flatMap((id) => cpu(300, id)),
      ...nodeMemory(3, 0, GIB / 2),
      ...nodeMemory(300, GIB / 2, GIB / 2),
    ]),
  ]),
  cpus: 6,
  memory: GIB,
  nodes: [
    { id: 3, memory: GIB / 2 },
    { id: 300, memory: GIB / 2 },
  ],
};

const rigWith = (...vms: Message[]): Rig => new Rig({ ...MACHINE, spec: hostSpec(vms) });

/** Where a VM's memory is. */
function nodesOf(rig: Rig, vm: string): [number, number][] {
  const nodes = rig.ok("show", { vm })["nodes"] as Message[] | undefined;
  return (nodes ?? []).map((node) => [Number(node["node"]), Number(node["memory"]) / MIB]);
}

/** The CPUs on which it may run. */
const cpusOf = (rig: Rig, vm: string): string =>
  [...new Set(rig.kernel.domain(`vm/${vm}`).vcpus.map(({ share }) => (share.cpus & 63n).toString(2)))].join();

/** Free MiB of each node, by `hardware`. */
const free = (rig: Rig): number[] =>
  (rig.ok("hardware")["numa"] as Message[]).map((node) => Number(node["free"]) / MIB);

test("VMs go where less runs and their memory fits, with their CPUs; what a node has free is told", () => {
  const rig = rigWith(vmSpec("a", { vcpus: 2 }), vmSpec("b"), vmSpec("c", { memory: 300 * MIB }));
  assert.equal([nodesOf(rig, "a"), cpusOf(rig, "a")], [[[300, 64]], "111000"]);
  assert.equal([nodesOf(rig, "b"), cpusOf(rig, "b")], [[[3, 64]], "111"]);
  assert.equal([nodesOf(rig, "c"), cpusOf(rig, "c")], [[[3, 300]], "111"]);
  const before = free(rig);
  assert.ok(before[0]! < 512 - 364 && before[1]! < 512 - 64 && before[1]! > 512 - 70, String(before));
  rig.ok("rm", { vm: "a", force: true });
  assert.ok(free(rig)[1]! >= before[1]! + 64);
  assert.match(rig.command("show b"), /^NUMA +64 MiB on node 3$/m);
  assert.match(rig.command("hardware"), /^ {2}node 300 +3 CPUs, 512 MiB, \d+ MiB free$/m);
});

test("affinity wins over what is free; too many vCPUs for a node are bound to none", () => {
  const rig = rigWith(
    vmSpec("a", { cpus: "0-1", vcpus: 2 }),
    vmSpec("b", { cpus: "1" }),
    vmSpec("c", { vcpus: 4 }),
  );
  assert.equal([nodesOf(rig, "a"), cpusOf(rig, "a")], [[[3, 64]], "11"]);
  assert.equal([nodesOf(rig, "b"), cpusOf(rig, "b")], [[[3, 64]], "10"]);
  assert.equal([nodesOf(rig, "c"), cpusOf(rig, "c")], [[[300, 64]], "111111"]);
});

test("a node that has no CPU left for a promise is no reason to refuse it", () => {
  const alone = { scheduling: "dedicated", node: 300 };
  const rig = rigWith(...["a", "b", "c", "d"].map((name) => vmSpec(name, alone)));
  assert.equal(
    ["a", "b", "c", "d"].map((name) => [nodesOf(rig, name)[0]![0], cpusOf(rig, name)]),
    [
      [300, "111000"],
      [300, "111000"],
      [300, "111000"],
      [300, "111111"],
    ],
  );
});

test("the node that is asked for, and what is refused of it, by create and by a plan", () => {
  const rig = rigWith(vmSpec("a", { node: 3 }), vmSpec("b", { node: 3 }));
  assert.equal([nodesOf(rig, "a"), nodesOf(rig, "b")], [[[3, 64]], [[3, 64]]]);
  assert.is((rig.ok("show", { vm: "b" })["spec"] as Message)["node"], 3);
  for (const [fields, text] of [
    [{ node: 4 }, /^VM "x": node 4 is none of the host's: 3, 300$/],
    [{ node: 300, memory: 520 * MIB }, /^VM "x": needs 52\d\.\d MiB, [45]\d\d\.\d MiB are free on node 300/],
  ] as const) {
    const { refusals } = rig.plan(rig.draft(hostSpec([vmSpec("x", fields as Message)])));
    assert.match(String(refusals[0]!["message"]), text);
  }
  assert.match(
    String(rig.error("create", { spec: vmSpec("x", { node: 2 ** 32 }) })["message"]),
    /node is 4,294,967,296, it must be 0 to/,
  );
  const split = rig.command("create big memory=600M kernel=linux initrd=initrd node=3");
  assert.match(split, /needs 60\d MiB, \d+ MiB are free on node 3/);
  rig.command("create large memory=600M kernel=linux initrd=initrd");
  const parts = nodesOf(rig, "large");
  assert.is(parts.length, 2);
  assert.is(parts[0]![1] + parts[1]![1], 600);
  assert.ok(parts[1]![1] > 500, JSON.stringify(parts));
});

test("a control domain that starts again knows where VMs are; with one node nothing is said", () => {
  const rig = rigWith(vmSpec("a", { node: 3 }));
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.kernel.traps.length, 1);
  rig.ok("hello", { version: 1 });
  rig.ok("set", { vm: "a", spec: { weight: 300 } });
  assert.is(cpusOf(rig, "a"), "111");
  const plain = new Rig({ spec: hostSpec([vmSpec("a", { node: 0 })]), cpus: 2 });
  assert.equal([nodesOf(plain, "a"), cpusOf(plain, "a")], [[], "111111"]);
  assert.not.match(plain.command("show a"), /NUMA/);
  const wrong = plain.plan(plain.draft(hostSpec([vmSpec("a", { node: 1 })]))).refusals;
  assert.match(String(wrong[0]!["message"]), /node 1 is none of the host's: 0$/);
});

test.run();
