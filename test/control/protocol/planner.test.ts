// The planner: its rules one by one, and that Node and the control domain come to the same plan.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { mitigationsText, planTenant, planVm } from "../../../control/cli/spec-plan";
import type { RuleSpec, TenantSpec, VmSpec } from "../../../control/cli/results";
import type { Message } from "../../../control/protocol/node/cbor";
import { cpuList } from "../../../control/protocol/cpus";
import {
  chooseNode,
  exactSize,
  planChange,
  PlanHost,
  PlanNode,
  PlanTenant,
  PlanVm,
  Refusal,
} from "../../../control/protocol/planner";
import { Random } from "../../cli/random";
import { hostSpec, MIB, Rig, vmSpec } from "../domain/rig";

function host(vms: PlanVm[] = [], tenants: PlanTenant[] = [new PlanTenant("default")]): PlanHost {
  return Object.assign(new PlanHost(), { name: "h", vms, tenants, free: 1024 * MIB });
}

function vm(name: string, more: Partial<PlanVm> = {}): PlanVm {
  return Object.assign(new PlanVm(name), { cost: 10 * MIB, needs: 10 * MIB, frees: 10 * MIB }, more);
}

const steps = (have: PlanHost, want: PlanHost): string[] =>
  planChange(have, want).steps.map((step) => `${step.action} ${step.object}`);
const refusals = (have: PlanHost, want: PlanHost): string[] =>
  planChange(have, want).refusals.map((refusal) => refusal.message);

test("sizes are told in full", () => {
  assert.is(exactSize(128 * MIB), "128 MiB");
  assert.is(exactSize(128 * MIB + 4096), "131076 KiB");
  assert.is(exactSize(5), "5 B");
  assert.is(exactSize(0), "0 MiB");
});

test("removals come before what needs their memory", () => {
  const have = host([vm("a", { up: true }), vm("b", { up: true })]);
  assert.equal(steps(have, host([vm("c"), vm("b")])), ["remove a", "create c"]);
  assert.equal(steps(host([vm("b")]), host([vm("b")])), ["start b"]);
  assert.equal(steps(host([vm("b")]), host([vm("b", { start: false })])), []);
});

test("memory: each VM in its turn, with what the ended ones give back", () => {
  const have = host([vm("a", { up: true, frees: 5 * MIB })]);
  have.free = 5 * MIB;
  assert.equal(refusals(have, host([vm("b"), vm("c")])), [
    'VM "c": needs 10.0 MiB, 0.0 MiB are free by then',
  ]);
  assert.equal(refusals(have, host([vm("b", { start: false }), vm("c")])), []);
});

/** Nodes with these bytes and numbers of CPUs. */
function nodes(...all: [free: number, cpus: number, vcpus?: number][]): PlanNode[] {
  let cpu = 0;
  return all.map(([free, count, vcpus = 0], n) =>
    Object.assign(new PlanNode(10 + n, free * MIB), {
      cpus: Array.from({ length: count }, () => cpu++),
      vcpus,
    }),
  );
}

test("a VM's node: what it asks for, its CPUs, its memory, what runs there", () => {
  const choose = (of: PlanNode[], needs = 10, cpus = [0, 1, 2, 3], vcpus = 1, asked = -1): number =>
    chooseNode(of, asked, needs * MIB, vcpus, cpus);
  assert.is(choose(nodes([100, 4])), -1);
  assert.is(choose([]), -1);
  assert.is(choose(nodes([100, 2], [50, 2]), 10, [2]), 1);
  assert.is(choose(nodes([5, 2], [50, 2, 9])), 1);
  assert.is(choose(nodes([50, 2, 3], [20, 2, 2])), 1);
  assert.is(choose(nodes([50, 2], [60, 2])), 1);
  assert.is(choose(nodes([50, 1], [20, 3, 1])), 1, "two of three CPUs are left, and none of one");
  assert.is(choose(nodes([5, 2], [6, 2, 8])), 1, "where most of it is");
  assert.is(choose(nodes([99, 0], [6, 4])), 1, "not where no CPU is");
  assert.is(choose(nodes([99, 0], [60, 0])), 0, "but where the firmware names none");
  assert.is(choose(nodes([99, 2], [5, 2]), 10, [0], 1, 11), 1);
});

test("the memory of nodes: each VM in its turn, with what the ended ones give back there", () => {
  const on = (node: string, more: Partial<PlanVm> = {}): PlanVm => {
    const one = vm(`n${node}`, more);
    one.set("node", node);
    return one;
  };
  const have = host([vm("a", { up: true, node: 1 })]);
  Object.assign(have, { nodes: nodes([15, 2], [5, 2]), cpus: 4 });
  assert.equal(refusals(have, host([on("11"), on("10")])), []);
  assert.equal(refusals(have, host([on("11", { needs: 16 * MIB })])), [
    'VM "n11": needs 16.0 MiB, 15.0 MiB are free on node 11 by then',
  ]);
  assert.equal(refusals(have, host([vm("a"), on("11")])), [
    'VM "n11": needs 10.0 MiB, 5.0 MiB are free on node 11 by then',
  ]);
  assert.equal(refusals(have, host([on("12", { start: false })])), [
    'VM "n12": node 12 is none of the host\'s: 10, 11',
  ]);
  assert.equal(refusals(have, host([vm("b", { needs: 22 * MIB }), on("11")])), [
    'VM "n11": needs 10.0 MiB, 8.0 MiB are free on node 11 by then',
  ]);
  assert.equal(refusals(host(), host([on("12")])), [], "nobody knows the nodes");
  assert.equal(
    have.nodes.map(({ free, vcpus }) => [free / MIB, vcpus]),
    [
      [15, 0],
      [5, 0],
    ],
    "the facts stay as they were",
  );
});

test("with VMs that go there is room for 128", () => {
  const many = (count: number, prefix: string): PlanVm[] =>
    Array.from({ length: count }, (_, n) => vm(`${prefix}${n}`, { needs: 0, up: true }));
  assert.equal(refusals(host(many(20, "a")), host(many(12, "b"))), []);
  assert.match(refusals(host(many(80, "a")), host(many(49, "b")))[0]!, /it takes 129 VMs at once/);
});

test("a limit that is reached is not exceeded", () => {
  const red = Object.assign(new PlanTenant("red"), { memory: 20 * MIB, vms: 2, vcpus: 2 });
  const two = [vm("a", { tenant: "red" }), vm("b", { tenant: "red" })];
  assert.equal(refusals(host(), host(two, [red])), []);
  two[0]!.cost++;
  two[1]!.vcpus = 2;
  assert.equal(refusals(host(), host(two, [red])), [
    'tenant "red": its 2 VMs need 20.0 MiB, it may have 20.0 MiB',
    'tenant "red": its 2 VMs have 3 vCPUs, it may have 2',
  ]);
});

test("a network has two cards, a host 16 networks", () => {
  const lan = (name: string, ...networks: string[]): PlanVm => vm(name, { needs: 0, networks });
  assert.equal(refusals(host(), host([lan("a", "x", "x")])), []);
  assert.match(
    refusals(host(), host([lan("a", "x", "x"), lan("b", "x")]))[0]!,
    /"b": network "x" has two cards/,
  );
  const many = Array.from({ length: 17 }, (_, n) => lan(`v${n}`, `n${n}`));
  assert.equal(refusals(host(), host(many.slice(1))), []);
  assert.match(refusals(host(), host(many))[0]!, /it has 17 networks, and a host has at most 16/);
});

test("sets of CPUs", () => {
  assert.equal(cpuList("0"), [0]);
  assert.equal(cpuList("0-3,6,62-63"), [0, 1, 2, 3, 6, 62, 63]);
  for (const text of [
    "",
    ",",
    "-",
    "a",
    "0,",
    ",0",
    "0-",
    "3-1",
    "1,1",
    "2,1",
    "0-2,2",
    "64",
    "0--1",
    "0-1-2",
    "0 ,1",
  ])
    assert.equal(cpuList(text), [], text);
  assert.equal(cpuList("0,".repeat(30)), []);
});

test("what is promised of CPUs fits on them, the largest parts first", () => {
  const share = (
    name: string,
    fields: Record<string, string | number>,
    more: Partial<PlanVm> = {},
  ): PlanVm => {
    const out = vm(name, { needs: 0, ...more });
    for (const [field, value] of Object.entries(fields))
      out.set(field, typeof value === "number" ? String(value) : `"${value}"`);
    return out;
  };
  const part = (name: string, reserve: number, more = {}): PlanVm =>
    share(name, { scheduling: "reserved", reserve, ...more });
  const alone = (name: string, more = {}): PlanVm => share(name, { scheduling: "dedicated", ...more });
  const said = (cpus: number, ...vms: PlanVm[]): string[] =>
    refusals(host(), host(vms)).concat(refusals(Object.assign(host(), { cpus }), host(vms)));
  assert.equal(said(1, part("a", 80)), [], "all but what is the control domain's");
  assert.equal(said(1, part("a", 81)), [
    'VM "a": its vCPU 0 should have 81 % of a CPU, and no CPU that it may run on has that left',
  ]);
  assert.match(said(1, alone("a"))[0]!, /its vCPU 0 should have a CPU for itself, and no CPU/);
  assert.equal(said(2, part("a", 40), part("b", 40), alone("c")), []);
  assert.match(said(2, part("a", 41), part("b", 40), alone("c"))[0]!, /"b": its vCPU 0 should have 40 %/);
  assert.equal(said(3, share("a", { scheduling: "dedicated" }, { vcpus: 2 })), []);
  assert.match(said(2, share("a", { scheduling: "dedicated" }, { vcpus: 2 }))[0]!, /its vCPU 1 should have/);
  assert.equal(said(2, part("a", 60, { cpus: "1" }), part("b", 60, { cpus: "0-1" })), []);
  assert.match(said(2, part("a", 60, { cpus: "1" }), part("b", 41, { cpus: "1" }))[0]!, /"b"/);
  assert.equal(said(2, part("a", 60), Object.assign(alone("b"), { start: false })), [], "it does not run");
  assert.equal(said(2, share("a", { cpus: "2" })), ['VM "a": cpus is "2", and the host has 2 CPUs']);
  const red = Object.assign(new PlanTenant("red"), { cpus: "0-1" });
  const have = Object.assign(host(), { cpus: 4 });
  assert.equal(refusals(have, host([share("a", { cpus: "2" }, { tenant: "red" })], [red])), [
    'VM "a": cpus is "2", and its tenant has CPUs 0-1; the host has 4 CPUs',
  ]);
});

test("networks, CPUs, cores and caches between tenants need a rule each", () => {
  const [red, blue] = ["red", "blue"].map((name) => new PlanTenant(name)) as [PlanTenant, PlanTenant];
  const a = vm("a", { tenant: "red", needs: 0, networks: ["x", "x", "y"] });
  const b = vm("b", { tenant: "blue", needs: 0, networks: ["y"] });
  const want = host([a, b], [red, blue]);
  const said = (): string[] =>
    planChange(host(), want).refusals.map(({ denied, tenant }) => `${denied} ${tenant}`);
  assert.equal(said(), ["networks blue"]);
  want.rules = [{ tenants: ["red", "blue"], share: ["networks"] }];
  assert.equal(said(), []);
  [red.cpus, blue.cpus] = ["0-3", "3-4"];
  assert.equal(said(), ["cores blue"]);
  blue.cpus = "4-7";
  assert.equal(said(), []);
  const have = Object.assign(host(), { cores: [0, 0, 1, 1, 1, 2, 3, 3], caches: [0, 0, 0, 0, 0, 0, 0, 0] });
  assert.match(refusals(have, want)[0]!, /CPU 4 is a thread of a core of tenant "red"; it needs the rule/);
  want.rules = [{ tenants: ["red", "blue"], share: ["networks", "cores"] }];
  assert.match(refusals(have, want)[0]!, /CPU 4 shares its last-level cache with tenant "red"; it needs/);
  want.rules[0]!.share.push("caches");
  assert.equal(refusals(have, want), []);
  blue.cpus = "4-8";
  assert.match(refusals(have, want)[0]!, /tenant "blue": its CPUs are 4-8, the host has 8 CPUs/);
  want.rules[0]!.tenants.push("green");
  assert.match(refusals(host(), want)[0]!, /rules\[0\]: there is no tenant "green"/);
});

test("what is wrong with a VM on this host is passed on", () => {
  const bad = vm("a", { refusal: new Refusal(3, "no image", "a", "images") });
  assert.equal(planChange(host(), host([bad])).refusals, [bad.refusal]);
});

/** A random VM of few names and many fields. */
function randomVm(random: Random, name: string): Message {
  const pick = <T>(...values: T[]): T => values[random.below(values.length)]!;
  return vmSpec(name, {
    memory: pick(8, 16) * MIB,
    tenant: pick("default", "default", "red", "blue", "none"),
    vcpus: pick(1, 1, 2),
    tags: pick([], ["web"], ["web", "db"]),
    protected: pick(false, false, false, false, true),
    cmdline: pick("x", "y", "z".repeat(80)),
    balloon: pick<Message[string] | undefined>(undefined, undefined, 16 * MIB, { floor: 16 * MIB }),
    start: pick(true, true, false),
    disks: pick([], [], [{ image: "initrd" }]),
    networks: pick([], [], [{ network: "lan" }]),
    restart: pick({ policy: "never" }, { policy: "always", max: 2 }),
  });
}

function randomHost(random: Random): Message & { vms: Message[] } {
  const names = ["a", "b", "c", "d", "e", "f"].filter(() => random.below(3) > 0);
  const vms = names
    .map((name) => randomVm(random, name))
    .map((spec) => (Number(spec["memory"]) < 16 * MIB ? { ...spec, balloon: undefined } : spec));
  const cpus = (): Message => (random.below(3) > 0 ? { cpus: "0" } : {});
  const tenants = [
    { name: "red", vms: 1 + random.below(3), ...cpus() },
    { name: "blue", vcpus: 1 + random.below(4), ...cpus() },
  ];
  const rule = { tenants: ["red", "blue", "default"], share: ["networks", "cores", "caches"] };
  rule.share.length = 1 + random.below(3);
  return {
    ...hostSpec(vms),
    tenants: tenants.slice(random.below(2)),
    rules: [rule].slice(random.below(2)),
    vms,
  };
}

/** A specification as the control domain tells it: with its defaults. */
function told(rig: Rig, spec: Message): VmSpec {
  rig.ok("create", { spec: { ...spec, name: "x", start: false } });
  const known = rig.ok("show", { vm: "x" })["spec"] as unknown as VmSpec;
  rig.ok("rm", { vm: "x", force: true, protected: true });
  return { ...known, name: String(spec["name"]), start: spec["start"] as boolean };
}

function planOfNode(rig: Rig, scratch: Rig, want: Message & { vms: Message[] }): string[] {
  const have = new PlanHost();
  have.name = "test";
  have.free = 4096 * MIB;
  have.rules = rig.ok("rules")["rules"] as unknown as RuleSpec[];
  have.mitigations = mitigationsText();
  have.cores = have.caches = [0];
  have.tenants = (rig.ok("tenants")["tenants"] as unknown as TenantSpec[]).map(planTenant);
  have.vms = (rig.ok("ls")["vms"] as Message[]).map((row) => {
    const out = planVm(rig.ok("show", { vm: row["name"]! })["spec"] as unknown as VmSpec);
    out.up = row["state"] === "running";
    return out;
  });
  const wanted = new PlanHost();
  wanted.name = "test";
  wanted.tenants = [{ name: "default" }, ...(want["tenants"] as unknown as TenantSpec[])].map(planTenant);
  wanted.mitigations = mitigationsText();
  wanted.rules = want["rules"] as unknown as RuleSpec[];
  wanted.vms = want.vms.map((spec) => planVm(told(scratch, spec)));
  const plan = planChange(have, wanted);
  return [...plan.refusals.map((one) => `${one.code} ${one.message}`), ...plan.steps.map(stepText)];
}

/** Sizes are left out: Node knows nothing of what is beside a VM's memory. */
function stepText(step: { action: string; object: string; reason: string; ends: boolean }): string {
  const reason = step.action === "create" ? step.reason.replace(/^[\d.]+ MiB/, "SIZE") : step.reason;
  return `${step.action} ${step.object}: ${reason} ${step.ends}`;
}

test("150 pairs of random hosts: the same plan in Node and in the control domain", () => {
  const scratch = new Rig({
    spec: { ...hostSpec([]), tenants: ["red", "blue", "none"].map((name) => ({ name })) },
    memory: 2048 * MIB,
  });
  let steps = 0;
  let refused = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed * 7919);
    const rig = new Rig({ spec: randomHost(random), memory: 1024 * MIB });
    const want = randomHost(random);
    const plan = rig.plan(rig.draft(want));
    const found = [
      ...plan.refusals.map((one) => `${one["code"]} ${one["message"]}`),
      ...plan.steps.map((step) => stepText(step as unknown as Parameters<typeof stepText>[0])),
    ];
    assert.equal(found, planOfNode(rig, scratch, want), `seed ${seed}`);
    steps += plan.steps.length;
    refused += plan.refusals.length;
    const reply = rig.apply(want);
    assert.is(reply["ok"], plan.refusals.length === 0, JSON.stringify(reply));
    if (reply["ok"] !== true) continue;
    rig.settle();
    const rest = rig.plan(rig.draft(want));
    assert.equal([rest.steps, rest.refusals], [[], []], `seed ${seed}: ${JSON.stringify(rest)}`);
  }
  assert.ok(steps > 500 && refused > 50, `${steps} steps, ${refused} refusals`);
});

test.run();
