// What can flow between domains, by the kernel's tables; rules of what tenants share; what is denied, and counted.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Right, Role } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { RigOptions } from "./rig";
import { hostSpec, Rig, vmSpec } from "./rig";

interface Found {
  kind: string;
  one: string;
  other: string;
  direction: string;
  text: string;
  allowed: boolean;
  reason: string;
}

const lan = { networks: [{ network: "lan" }] };

function rigWith(vms: Message[], more: Message = {}, options: RigOptions = {}): Rig {
  const tenants = more["tenants"] ?? [{ name: "red" }, { name: "blue" }];
  return new Rig({ ...options, spec: { ...hostSpec(vms), ...more, tenants } });
}

function explain(rig: Rig, one: string, other: string): Found[] {
  return rig.ok("policy", { one, other })["flows"] as unknown as Found[];
}

const kinds = (found: Found[]): string[] => [...new Set(found.map(({ kind }) => kind))];
const forbidden = (rig: Rig): Found[] =>
  (rig.ok("policy")["flows"] as unknown as Found[]).filter(({ allowed }) => !allowed);

test("two VMs without a network: images to read, the control domain, CPUs", () => {
  const rig = new Rig();
  const found = explain(rig, "a", "b");
  assert.equal(kinds(found), ["memory", "control", "cpus", "caches"]);
  const memory = found.filter(({ kind }) => kind === "memory");
  assert.ok(memory.every(({ direction, allowed }) => direction === "-" && allowed));
  assert.match(
    memory[0]!.text,
    /^memory \d+, image "device-model": dm\/a \(read, execute\), dm\/b \(read, execute\)$/,
  );
  assert.match(found.at(-2)!.text, /^CPUs 0, one after the other; they are on 0 and on 0$/);
});

test("a cable is memory and a channel of both device models, and one tenant's", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red", ...lan }), vmSpec("b", { tenant: "red", ...lan })]);
  const found = explain(rig, "a", "b").filter(({ text }) => text.includes('network "lan"'));
  assert.equal(
    found.map(({ kind, one, other, direction, reason }) => [kind, one, direction, other, reason]),
    [
      ["memory", "dm/a", "<->", "dm/b", 'both are tenant "red"\'s'],
      ["channel", "dm/a", "<->", "dm/b", 'both are tenant "red"\'s'],
    ],
  );
  assert.match(found[0]!.text, /: dm\/a \(read, write\), dm\/b \(read, write\)$/);
  assert.equal(forbidden(rig), []);
});

test("a VM and its device model, and the control domain with each", () => {
  const rig = new Rig();
  const pair = explain(rig, "vm/a", "dm/a");
  assert.equal(kinds(pair), ["exits", "capability", "memory", "control", "cpus", "caches"]);
  assert.ok(
    pair.some(
      ({ text, kind }) => kind === "memory" && /, memory of "a": dm\/a .*vm\/a \(read, write/.test(text),
    ),
  );
  const rights = pair.filter(({ kind }) => kind === "capability").map(({ one, text }) => `${one}: ${text}`);
  assert.ok(rights.includes("dm/a: read, interrupt"), rights.join("; "));
  const control = explain(rig, "control", "a");
  assert.ok(
    control.some(({ text }) => /, link of "a": control \(read, write.*dm\/a \(read, write\)/.test(text)),
  );
  assert.ok(control.every(({ allowed }) => allowed));
});

test("what the specification does not know of is found in the kernel, and forbidden", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" }), vmSpec("b", { tenant: "blue" })]);
  assert.equal(forbidden(rig), []);
  const { kernel } = rig;
  const [a, b] = [kernel.domain("dm/a"), kernel.domain("dm/b")];
  const memory = kernel.addMemory(1);
  a.map(0x30000000, memory, 0, 1, Right.READ);
  b.map(0x30000000, memory, 0, 1, Right.READ | Right.WRITE);
  a.put(60, kernel.domain("vm/b", Role.VM), Right.INTERRUPT);
  const [power, page] = forbidden(rig);
  assert.equal(
    [power!.kind, power!.one, power!.other, power!.text],
    ["capability", "dm/a", "vm/b", "interrupt"],
  );
  assert.equal([page!.kind, page!.one, page!.direction, page!.other], ["memory", "dm/a", "<-", "dm/b"]);
  assert.match(page!.text, /^memory \d+: dm\/a \(read\), dm\/b \(read, write\)$/);
  assert.is(page!.reason, 'no rule lets tenants "red" and "blue" share it');
  assert.is(rig.ok("policy", { one: "red", other: "blue" })["forbidden"], 2);
  assert.match(
    rig.command("policy check"),
    /FORBIDDEN memory .*\n.*\n2 ways FORBIDDEN, 3 pairs of tenants\n$/s,
  );
});

test("ports that two domains reach", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" }), vmSpec("b", { tenant: "blue" })]);
  rig.kernel.domain("dm/a").ports.push({ first: 0x60, count: 1 }, { first: 0x300, count: 32 });
  rig.kernel.domain("dm/b").ports.push({ first: 0x310, count: 4 });
  const [found] = forbidden(rig);
  assert.equal(
    [found!.kind, found!.one, found!.other, found!.text],
    ["ports", "dm/a", "dm/b", "ports 0x310 to 0x313"],
  );
});

test("a mapping that could be made counts like one that is there", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" }), vmSpec("b", { tenant: "blue" })]);
  const memory = rig.kernel.addMemory(1);
  rig.kernel.domain("dm/a").put(60, memory, Right.READ);
  rig.kernel.domain("dm/b").put(60, memory, Right.WRITE);
  assert.match(forbidden(rig)[0]!.text, /dm\/a could map it \(read\), dm\/b could map it \(write\)/);
});

test("through a third VM", () => {
  const rig = new Rig({
    spec: hostSpec([
      vmSpec("a", { networks: [{ network: "x" }] }),
      vmSpec("r", { networks: [{ network: "x" }, { network: "y" }] }),
      vmSpec("b", { networks: [{ network: "y" }] }),
    ]),
  });
  const path = explain(rig, "a", "b").find(({ kind }) => kind === "path")!;
  assert.is(path.direction, "<->");
  assert.match(path.text, /dm\/a <-> dm\/r, then dm\/r <-> dm\/b$/);
  assert.is(
    explain(rig, "a", "r").find(({ kind }) => kind === "path"),
    undefined,
  );
});

test("names: tenants, either by its kind, unknown ones, the same twice", () => {
  const rig = rigWith([vmSpec("red", { tenant: "blue" }), vmSpec("b", { tenant: "red" })]);
  assert.is(explain(rig, "tenant=red", "vm=red")[0]!.one, "dm/red");
  assert.match(
    String(rig.error("policy", { one: "red", other: "blue" })["message"]),
    /are not two: both have/,
  );
  const unknown = rig.error("policy", { one: "b", other: "tenant=rod" });
  assert.is(unknown["code"], 3);
  assert.match(String(unknown["message"]), /"tenant=rod" is no VM, tenant or domain/);
  rig.ok("stop", { vm: "b", force: true });
  assert.equal(kinds(explain(rig, "b", "vm=red")), ["cpus", "caches"]);
  assert.match(rig.command("policy explain b nobody"), /error: "nobody" is no VM/);
  assert.match(rig.command("policy"), /it needs two VMs, tenants or domains to compare, or check/);
  assert.match(rig.type("policy \t\t"), /explain +check/);
});

test("a network between tenants needs a rule", () => {
  const vms = [vmSpec("a", { tenant: "red", ...lan })];
  const rig = rigWith(vms);
  const error = rig.error("create", { spec: vmSpec("b", { tenant: "blue", ...lan }) });
  assert.is(error["code"], 6);
  assert.is(
    error["message"],
    'VM "b": network "lan" has a card of "a", which is tenant "red"\'s; ' +
      "it needs the rule {tenants: [red, blue], share: [networks]}",
  );
  assert.is(rig.state("b"), "none");
  const open = rigWith(vms, { rules: [{ tenants: ["blue", "red"], share: ["networks"] }] });
  open.ok("create", { spec: vmSpec("b", { tenant: "blue", ...lan }) });
  const cable = explain(open, "a", "b").filter(({ text }) => text.includes("lan"));
  assert.equal(
    cable.map(({ allowed, reason }) => [allowed, reason]),
    [
      [true, "a rule lets them share networks"],
      [true, "a rule lets them share networks"],
    ],
  );
});

test("at boot what is denied is left out, and said", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red", ...lan }), vmSpec("b", { tenant: "blue", ...lan })]);
  assert.match(rig.text(), /error: VM "b": network "lan" has a card of "a", which is tenant "red"'s/);
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("b"), "none");
});

test("tenants with CPUs of their own do not share them, their cores or caches", () => {
  const leaves: Record<number, (subleaf: number) => number[]> = {
    0: () => [0xb, 0, 0, 0],
    4: (n) => (n === 0 ? [(1 << 14) | 1, 0, 0, 0] : n === 1 ? [(3 << 14) | 1, 0, 0, 0] : [0, 0, 0, 0]),
    0xb: () => [1, 2, 0, 0],
  };
  const machine = { cpus: 8, hostCpuid: (leaf: number, n: number) => leaves[leaf]?.(n) ?? [0, 0, 0, 0] };
  const start = (red: string, blue: string, ...share: string[]): Rig =>
    rigWith(
      [vmSpec("a", { tenant: "red" }), vmSpec("b", { tenant: "blue" })],
      {
        tenants: [
          { name: "red", cpus: red },
          { name: "blue", cpus: blue },
        ],
        ...(share.length > 0 ? { rules: [{ tenants: ["red", "blue"], share }] } : {}),
      },
      machine,
    );
  const same = start("0-3", "3-5");
  assert.match(same.text(), /tenant "blue": CPU 3 is tenant "red"'s too; it needs the rule .*cores/);
  assert.is(same.state("b"), "none");
  assert.match(start("0-2", "3").text(), /CPU 3 is a thread of a core of tenant "red"; /);
  assert.match(start("0,1", "2-3").text(), /CPU 2 shares its last-level cache with tenant "red"; /);
  const apart = start("0-3", "4-7");
  assert.is(apart.state("b"), "running");
  assert.equal(kinds(explain(apart, "red", "blue")), ["memory", "control"]);
  const shared = start("0-2", "3-5", "cores", "caches");
  assert.is(shared.state("b"), "running");
  assert.equal(
    explain(shared, "a", "b")
      .slice(-2)
      .map(({ kind, reason }) => [kind, reason]),
    [
      ["cores", "a rule lets them share cores"],
      ["caches", "a rule lets them share caches"],
    ],
  );
  assert.match(start("0-8", "9").text(), /tenant "red": its CPUs are 0-8, the host has 8 CPUs/);
});

test("rules and CPUs that are none are refused with the place", () => {
  for (const [more, text] of [
    [{ rules: 5 }, /rules is not a list/],
    [{ rules: [5] }, /rules\[0\] is not a map of tenants and share/],
    [{ rules: [{ tenants: ["red"], share: ["cores"] }] }, /tenants in rules\[0\] has 1 items, not 2 to 4/],
    [{ rules: [{ tenants: ["red", "red"], share: ["cores"] }] }, /tenants\[1\] in rules\[0\] is no name, or/],
    [{ rules: [{ tenants: ["red", "blue"], share: [] }] }, /share in rules\[0\] has 0 items/],
    [{ rules: [{ tenants: ["red", "blue"], share: ["disks"] }] }, /has "disks", which is none of networks/],
    [{ rules: [{ tenants: ["red", "blue"], why: 1 }] }, /unknown field "why" in rules\[0\]/],
    [{ rules: [{ tenants: ["red", "green"], share: ["cores"] }] }, /rules\[0\]: there is no tenant "green"/],
    [{ tenants: [{ name: "red", cpus: "3-1" }] }, /cpus is "3-1", which is no set of CPUs/],
    [{ tenants: [{ name: "red", cpus: 3 }] }, /cpus is not a text/],
  ] as unknown as [Message, RegExp][])
    assert.match(rigWith([], more).text(), text);
});

test("denials are counted by tenant and kind, logged, and survive a restart", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red", protected: true, ...lan })], {
    tenants: [{ name: "red" }, { name: "blue", vms: 1 }],
  });
  rig.error("create", { spec: vmSpec("b", { tenant: "blue", ...lan }) });
  rig.error("rm", { vm: "a", force: true });
  rig.ok("create", { spec: vmSpec("c", { tenant: "blue", memory: 16 << 20 }) });
  rig.error("create", { spec: vmSpec("d", { tenant: "blue" }) });
  rig.error("create", { spec: vmSpec("d", { tenant: "blue" }) });
  const counts = (): unknown =>
    (rig.ok("tenants")["tenants"] as Message[]).map(({ name, denials }) => [name, denials]);
  const expected = [
    ["default", {}],
    ["red", { protected: 1 }],
    ["blue", { limits: 2, networks: 1 }],
  ];
  assert.equal(counts(), expected);
  assert.is(rig.ok("status")["denials"], 4);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.equal(counts(), expected);
  const events = rig.command("events");
  assert.match(events, /denied \(networks\): VM "b": network "lan"/);
  assert.match(rig.command("tenants"), /blue .*\n {2}denied: limits 2, networks 1\n/);
  assert.match(rig.command("status"), /policy +4 denials/);
});

test("the most tenants and rules that there can be survive a restart, and fit a reply", () => {
  const tenants = Array.from({ length: 15 }, (_, n) => ({
    name: `${n}`.padEnd(27, "x"),
    memory: 2 ** 48,
    vms: 65536,
    vcpus: 65536,
    cpus: Array.from({ length: 16 }, (_, cpu) => 10 + cpu).join(","),
  }));
  const share = ["networks", "cores", "caches"];
  const names = tenants.map(({ name }) => name);
  const rules = Array.from({ length: 12 }, (_, n) => ({ tenants: names.slice(n, n + 4), share }));
  rules.slice(9).forEach((rule, n) => (rule.tenants = names.slice(0, 4 - (n % 2))));
  const rig = new Rig({ spec: { ...hostSpec([]), tenants, rules }, cpus: 64 });
  const known = (): unknown => [
    rig.ok("rules"),
    (rig.ok("tenants")["tenants"] as Message[]).map(({ name, memory, cpus }) => [name, memory, cpus]),
  ];
  const before = known();
  assert.is(((before as Message[])[0]!["rules"] as unknown[]).length, 12);
  const errors = names.slice(4).map((tenant) => rig.error("create", { spec: vmSpec("x", { tenant }) }));
  assert.match(
    String(errors.at(-1)!["message"]),
    /^VM "x": tenant "14x+": CPU 10 is tenant "0x+"'s too; it needs/,
  );
  assert.ok(Number(rig.ok("status")["denials"]) >= 20);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.equal(known(), before);
});

test("rates of a VM, and what of its device model was braked", () => {
  const rig = new Rig();
  const { kernel } = rig;
  const vm = kernel.domain("vm/a", Role.VM);
  const rates = (): Message => rig.ok("show", { vm: "a" })["rates"] as Message;
  rates();
  kernel.advance(2000);
  vm.vcpus[0]!.exits += 4000;
  vm.vcpus[0]!.ipis += 200;
  const { exits, ipis, overMs } = rates() as Record<string, number>;
  assert.ok(
    exits! > 1900 && exits! <= 2000 && ipis! > 95 && ipis! <= 100 && overMs! >= 2000,
    `${exits} ${ipis}`,
  );
  assert.is(rates()["exits"], exits, "not over less than a second");
  assert.match(
    rig.command("show a"),
    / {2}a second +[\d,]+ exits, \d+ IPIs, \d+ hypercalls of its device model\n/,
  );
  assert.not.match(rig.command("show a"), /braked/);
  Object.assign(kernel.domain("dm/a"), { throttled: 3, logDropped: 1 });
  assert.equal(rig.ok("show", { vm: "a" })["model"], { hypercalls: 0, throttled: 3, logDropped: 1 });
  assert.match(
    rig.command("show a"),
    /braked +its device model: 3 hypercalls had to wait, 1 log line left out\n/,
  );
});

test("rules survive a restart and come back for an export", () => {
  const rules = [{ tenants: ["red", "blue"], share: ["networks", "cores"] }];
  const rig = rigWith([vmSpec("a", { tenant: "red", ...lan })], { rules });
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.equal(rig.ok("rules")["rules"], rules);
  rig.ok("create", { spec: vmSpec("b", { tenant: "blue", ...lan }) });
});

test.run();
