// Flaws of CPUs that do not exist, what they need, and what the kernel is told at which level.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Mitigation, Relation, Role } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { KernelOptions } from "../model/kernel-model";
import { hostSpec, Rig, vmSpec } from "./rig";

const IBPB = Mitigation.IBPB;
const RSB = Mitigation.RSB;
const BHB = Mitigation.BHB;
const L1D = Mitigation.L1D;
const VERW = Mitigation.VERW;
const ALL = IBPB | RSB | BHB | L1D | VERW;
type Leaves = Record<string, number[]>;

function vendor(name: string, top: number): number[] {
  const word = (at: number): number => Buffer.from(name).readUInt32LE(at);
  return [top, word(0), word(8), word(4)];
}

function cpu(leaves: Leaves, mitigations: number, capabilities: number[] = []): KernelOptions {
  const archCapabilities = capabilities.reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
  const hostCpuid = (leaf: number, subleaf: number): number[] =>
    leaves[`${leaf.toString(16)}.${subleaf}`] ?? leaves[leaf.toString(16)] ?? [0, 0, 0, 0];
  return { hostCpuid, mitigations, archCapabilities };
}

/** Leaf 7's EDX has IBRS and IBPB; EBX may have RTM. */
const intel = (leaf7: Partial<{ ebx: number; bhi: boolean }> = {}): Leaves => ({
  0: vendor("GenuineIntel", 0x16),
  1: [0x50654, 0, 0, 0],
  "7.0": [2, leaf7.ebx ?? 0, 0, 2 ** 26],
  "7.2": [0, 0, 0, leaf7.bhi ? 1 << 4 : 0],
});
const amd = (family: number, leaf8 = 0, leaf21 = 0, ecx21 = 0): Leaves => ({
  0: vendor("AuthenticAMD", 0x10),
  1: [0x00000f00 | ((family - 15) << 20), 0, 0, 0],
  80000000: [0x80000021, 0, 0, 0],
  80000008: [0, leaf8, 0, 0],
  80000021: [leaf21, 0, ecx21, 0],
});

interface Flaw {
  name: string;
  ok: boolean;
  text: string;
}
const flawsOf = (rig: Rig): Flaw[] => rig.ok("hardware.mitigations")["flaws"] as unknown as Flaw[];

function start(options: KernelOptions, mitigations?: Message): Rig {
  return new Rig({
    ...options,
    spec: { ...hostSpec([vmSpec("a")]), ...(mitigations ? { mitigations } : {}) },
  });
}

for (const [name, options, flaws, exits, others] of [
  [
    "Intel of 2017, with microcode",
    cpu(intel({ ebx: 1 << 11 }), ALL),
    "branch-injection return-prediction l1tf mds",
    IBPB | RSB | VERW,
    IBPB | RSB | VERW | L1D,
  ],
  [
    "Intel with enhanced IBRS and nothing else",
    cpu(intel(), ALL, [0, 1, 5, 8]),
    "branch-injection return-prediction branch-history",
    RSB | BHB,
    IBPB | RSB | BHB,
  ],
  [
    "Intel with buffers that FB_CLEAR and RFDS_CLEAR mend",
    cpu(intel({ bhi: true }), ALL, [0, 1, 5, 8, 17, 24, 28]),
    "branch-injection return-prediction mmio-stale-data rfds",
    VERW,
    IBPB | RSB | VERW,
  ],
  [
    "Intel that is mended",
    cpu(intel({ ebx: 1 << 11 }), ALL, [0, 1, 5, 8, 13, 14, 15, 17, 20, 24]),
    "branch-injection return-prediction",
    0,
    IBPB | RSB,
  ],
  [
    "TSX that leaks where MDS does not",
    cpu(intel({ ebx: 1 << 11, bhi: true }), ALL, [0, 1, 5, 24]),
    "branch-injection return-prediction taa",
    VERW,
    IBPB | RSB | VERW,
  ],
  [
    "a nested hypervisor flushes the cache itself",
    cpu(intel({ bhi: true }), ALL, [1, 3, 5, 8, 24]),
    "branch-injection return-prediction",
    0,
    IBPB | RSB,
  ],
  ["Zen 2", cpu(amd(0x17), ALL), "branch-injection return-prediction btc srso", IBPB | RSB, IBPB | RSB],
  [
    "Zen 3",
    cpu(amd(0x19, 2 ** 29), IBPB | RSB | VERW),
    "branch-injection return-prediction srso tsa",
    IBPB | RSB | VERW,
    IBPB | RSB | VERW,
  ],
  ["Zen 5", cpu(amd(0x1a, 2 ** 29 + 2 ** 30, (1 << 8) | (1 << 29)), ALL), "branch-injection", 0, IBPB],
] as const)
  test(name, () => {
    const rig = start(options);
    const found = flawsOf(rig);
    assert.is(found.map((flaw) => flaw.name).join(" "), flaws);
    assert.ok(
      found.every(({ ok }) => ok),
      JSON.stringify(found),
    );
    const set = rig.kernel.mitigations!;
    assert.equal([set[Relation.SAME], set[Relation.WITHIN], set[Relation.BETWEEN]], [exits, others, others]);
  });

test("levels: off, needed, all; what is off is said, and the doctor names it", () => {
  const machine = cpu(intel(), ALL);
  assert.equal(start(machine, { between: "off", within: "off", exits: "off" }).kernel.mitigations, [0, 0, 0]);
  const all = start(machine, { between: "all", within: "all", exits: "all" });
  assert.equal(all.kernel.mitigations, [ALL & ~L1D, ALL, ALL]);
  const some = start(machine, { within: "off" });
  assert.equal(some.kernel.mitigations, [IBPB | RSB | VERW, 0, IBPB | RSB | VERW | L1D]);
  const l1tf = flawsOf(some).find(({ name }) => name === "l1tf")!;
  assert.not(l1tf.ok);
  assert.match(l1tf.text, /no L1D flush between VMs: mitigations.within is off, between is needed$/);
  const open = flawsOf(start(machine, { exits: "off" })).filter(({ ok }) => !ok);
  assert.match(open[0]!.text, /no IBPB at each exit: mitigations.exits is off/);
  assert.match(some.command("doctor"), /flaws of this CPU stay open: l1tf\n/);
  assert.match(start(machine).command("doctor"), /ok +what this CPU's flaws need is done\n/);
  const shown = some.command("hardware");
  assert.match(shown, /flaws +branch-injection: .*\n(.*\n)* +OPEN: l1tf: /);
  assert.match(shown, /mitigations +exits \(needed\): IBPB, RSB fill, VERW\n +cycles: IBPB 1,000 to/);
  assert.match(shown, / within \(off\): nothing\n/);
});

test("what the CPU cannot do is not asked of the kernel, and said", () => {
  const rig = start(cpu(intel(), RSB | BHB), { between: "all", within: "needed", exits: "all" });
  assert.equal(rig.kernel.mitigations, [RSB | BHB, 0, RSB | BHB]);
  const texts = flawsOf(rig).map(({ name, text }) => `${name}: ${text}`);
  assert.match(texts[0]!, /branch-injection: .*: this CPU, or its microcode, has no IBPB$/);
  assert.match(texts.at(-1)!, /mds: .*: this CPU, or its microcode, has no VERW$/);
});

test("a change by apply is a step, survives a restart, and is exported", () => {
  const rig = start(cpu(intel(), ALL));
  const spec = { ...hostSpec([vmSpec("a")]), mitigations: { within: "off" } };
  const plan = rig.plan(rig.draft(spec));
  assert.is(
    plan.steps[0]!["reason"],
    "mitigations: between needed, within needed, exits needed -> between needed, within off, exits needed",
  );
  assert.is(rig.apply(spec)["ok"], true);
  assert.is(rig.kernel.mitigations![Relation.WITHIN], 0);
  rig.kernel.mitigations = undefined;
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.kernel.mitigations![Relation.WITHIN], 0);
  assert.equal(rig.ok("rules")["mitigations"], { between: "needed", within: "off", exits: "needed" });
});

test("levels that are none", () => {
  for (const [value, text] of [
    [5, /mitigations is not a map/],
    [{ between: "some" }, /mitigations.between is "some", it must be one of needed, all, off/],
    [{ exit: "all" }, /unknown field "exit" in mitigations, did you mean "exits"/],
  ] as [unknown, RegExp][])
    assert.match(start(cpu(intel(), 0), value as Message).text(), text);
});

test("the kernel knows tenants by numbers that stay, also over changes and restarts", () => {
  const vms = ["a", "b", "c"].map((name, n) =>
    vmSpec(name, { tenant: ["red", "blue", "red"][n]!, memory: 16 << 20 }),
  );
  const rig = new Rig({ spec: { ...hostSpec(vms), tenants: [{ name: "red" }, { name: "blue" }] } });
  const numbers = (): number[] =>
    ["a", "b", "c"].flatMap((name) => [
      rig.kernel.domain(`vm/${name}`, Role.VM).tenant,
      rig.kernel.domain(`dm/${name}`).tenant,
    ]);
  const [red, , blue] = numbers();
  assert.ok(red! > 0 && blue! > 0 && red !== blue);
  assert.equal(numbers(), [red, red, blue, blue, red, red]);
  assert.is(rig.kernel.domain("control").tenant, 0);
  const tenants = [{ name: "new" }, { name: "blue" }, { name: "red" }];
  assert.is(rig.apply({ ...hostSpec(vms), tenants })["ok"], true);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  rig.ok("reset", { vm: "a" });
  rig.ok("create", { spec: vmSpec("d", { tenant: "new", memory: 16 << 20 }) });
  assert.equal(numbers(), [red, red, blue, blue, red, red]);
  assert.not([0, red, blue].includes(rig.kernel.domain("vm/d", Role.VM).tenant));
});

test.run();
