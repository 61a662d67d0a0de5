// Tenants and their limits, tags, protected VMs: from specifications, in lists, over a restart.

import { Role } from "../../../control/gen/abi";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

const tenants = [
  { name: "red", memory: 200 * MIB, vms: 2, vcpus: 3 },
  { name: "blue", memory: 64 * MIB },
];

function rigWith(vms: Message[]): Rig {
  return new Rig({ spec: { ...hostSpec(vms), tenants } });
}

function refusal(rig: Rig, more: Message): Message {
  return rig.error("create", { spec: vmSpec("x", more) });
}

test("a VM without a tenant is the default tenant's, which is always there", () => {
  const rig = new Rig();
  assert.equal(
    (rig.ok("tenants")["tenants"] as Message[]).map((tenant) => tenant["name"]),
    ["default"],
  );
  assert.is(rig.row("a")!["tenant"], undefined);
  const used = (rig.ok("tenants")["tenants"] as Message[])[0]!["used"] as Message;
  assert.is(used["vms"], 2);
  assert.is(used["vcpus"], 2);
  assert.ok(Number(used["memory"]) > 160 * MIB);
  assert.ok(Number(used["memory"]) < 163 * MIB);
});

test("limits of a tenant: memory with what is beside it, VMs, vCPUs", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" })]);
  assert.is(rig.row("a")!["tenant"], "red");
  const memory = refusal(rig, { tenant: "red", memory: 136 * MIB });
  assert.is(memory["code"], 6);
  assert.match(
    String(memory["message"]),
    /^VM "x": tenant "red": its 2 VMs need 20[12]\.\d MiB, it may have 200\.0 MiB$/,
  );
  assert.is(memory["next"], "plinth tenants");
  assert.match(String(refusal(rig, { tenant: "red", vcpus: 3 })["message"]), /have 4 vCPUs, it may have 3/);
  assert.match(String(refusal(rig, { tenant: "blue" })["message"]), /its 1 VM need 64\.[5-9] MiB/);
  rig.ok("create", { spec: vmSpec("b", { tenant: "red", memory: 16 * MIB }) });
  const count = refusal(rig, { tenant: "red", memory: 16 * MIB });
  assert.match(String(count["message"]), /its 3 VMs are more than the 2 that it may have/);
  assert.is(rig.state("x"), "none");
});

test("a stopped VM counts, a removed one does not", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red", memory: 150 * MIB })]);
  rig.ok("stop", { vm: "a", force: true });
  assert.is(refusal(rig, { tenant: "red" })["code"], 6);
  rig.ok("rm", { vm: "a" });
  rig.ok("create", { spec: vmSpec("x", { tenant: "red" }) });
});

test("a tenant that is not there", () => {
  const error = refusal(rigWith([]), { tenant: "rad" });
  assert.is(error["code"], 3);
  assert.is(error["message"], 'VM "x": there is no tenant "rad", did you mean "red"?');
});

test("specifications with wrong tenants, tags and words are refused with the place", () => {
  for (const [more, text] of [
    [{ tenant: "No!" }, /tenant is "No!", which is no name/],
    [{ tenant: 5 }, /tenant is not a text/],
    [{ tags: "web" }, /tags is not a list of names/],
    [{ tags: ["a", "a"] }, /tags\[1\] has the name of another tag/],
    [{ tags: ["A"] }, /tags\[0\] is no name/],
    [{ tags: Array.from({ length: 9 }, (_, n) => `t${n}`) }, /more than 8 tags/],
    [{ protected: 1 }, /protected is neither true nor false/],
  ] as const)
    assert.match(String(refusal(new Rig(), more as unknown as Message)["message"]), text);
  for (const [list, text] of [
    [[{ memory: 5 }], /there is no name, or it is none, in tenants\[0\]/],
    [[{ name: "a", quota: 5 }], /unknown field "quota" in tenants\[0\]/],
    [[{ name: "a" }, { name: "a" }], /there are two tenants "a"/],
    [[{ name: "a", vms: 0 }], /vms is 0, it must be 1 to/],
    [["a"], /tenants\[0\] is not a map/],
    [{ a: 1 }, /tenants is not a list/],
  ] as const) {
    const rig = new Rig({ spec: { ...hostSpec([]), tenants: list as unknown as Message[] } });
    assert.match(rig.text(), text);
  }
});

test("a protected VM: stop, reset and rm need the word", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { protected: true })]) });
  for (const op of ["stop", "reset", "rm"])
    for (const words of [{}, { force: true }, { protected: true }] as Message[]) {
      const error = rig.error(op, { vm: "a", ...words });
      assert.is(error["code"], 6);
      assert.is(error["message"], 'VM "a" is protected');
      assert.is(error["next"], `plinth ${op} a --force --protected`);
    }
  assert.is(rig.state("a"), "running");
  rig.ok("reset", { vm: "a", force: true, protected: true });
  assert.match(rig.command("rm a --force"), /is protected\nnext: {2}rm a --force --protected/);
  assert.is(rig.command("rm a --force --protected"), 'VM "a" is removed\n');
});

test("set changes tags, protection and restart policy of a running VM, and nothing else", () => {
  const rig = new Rig();
  rig.ok("set", { vm: "a", spec: { tags: ["web"], protected: true } });
  rig.ok("set", { vm: "a", spec: { restart: { policy: "always" } } });
  rig.ok("set", { vm: "a", spec: { restart: { max: 9 } } });
  const spec = rig.ok("show", { vm: "a" })["spec"] as Message;
  assert.equal(spec["tags"], ["web"]);
  assert.equal(spec["restart"], { policy: "always", max: 9, window: 60 });
  assert.is(rig.row("a")!["protected"], true);
  assert.is(rig.state("a"), "running");
  const wrong = rig.error("set", { vm: "a", spec: { memory: 5 } });
  assert.match(
    String(wrong["message"]),
    /"memory" is none of what changes without a restart: tags, protected/,
  );
  assert.match(String(rig.error("set", { vm: "a", spec: { tags: 5 } })["message"]), /tags is not a list/);
  assert.match(String(rig.error("set", { vm: "a" })["message"]), /nothing is to be changed/);
  assert.is(rig.error("set", { vm: "z", spec: { tags: [] } })["code"], 3);
  assert.equal(((rig.ok("show", { vm: "a" })["spec"] as Message)["tags"] as string[]).length, 1);
});

test("tenants, tags and protection survive a restart of the control domain", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red", tags: ["web", "db"], protected: true })]);
  const before = [rig.ok("tenants"), { ...rig.row("a"), sinceMs: 0 }];
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.equal([rig.ok("tenants"), { ...rig.row("a"), sinceMs: 0 }], before);
  assert.is(rig.error("stop", { vm: "a" })["code"], 6);
  assert.is(refusal(rig, { tenant: "red", memory: 136 * MIB })["code"], 6);
});

test("the shell: tenants, ls with a column, show, create and set", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" }), vmSpec("b")]);
  assert.match(
    rig.command("tenants"),
    /^NAME +VMS +VCPUS +MEMORY\ndefault +1 +1 +64 MiB\nred +1 of 2 +1 of 3 +64 MiB of 200 MiB\nblue +0 +0 +0 MiB of 64 MiB\n$/,
  );
  assert.match(rig.command("ls"), /^NAME +TENANT +STATE.*\na +red +running .*\nb +default +running/);
  const create = "create c memory=16M kernel=linux tenant=red tags=x,y protected=yes";
  assert.match(rig.command(create), /VM "c" is starting/);
  assert.match(rig.command("show c"), /tenant +red\ntags +x, y\nprotected +yes\n/);
  assert.match(rig.command("set c protected=no tags="), /VM "c" is running/);
  assert.match(rig.command("show c"), /tenant +red\ntags *\nprotected +no\n/);
  assert.match(rig.command("set c"), /it needs a VM and what to change; usage: set VM/);
  assert.match(rig.command("set c tag=x"), /did you mean "tags="/);
  assert.match(new Rig().command("ls"), /^NAME +STATE/);
});

test("tenant set makes a tenant, changes its limits one by one, and takes them away", () => {
  const rig = new Rig();
  const set = (spec: Message): Message => rig.ok("tenant.set", { spec: { name: "red", ...spec } });
  const rest = { used: { memory: 0, vms: 0, vcpus: 0 }, denials: {} };
  assert.equal(set({ memory: 200 * MIB, vms: 2 }), { name: "red", memory: 200 * MIB, vms: 2, ...rest });
  assert.equal(set({ vcpus: 3 }), { name: "red", memory: 200 * MIB, vms: 2, vcpus: 3, ...rest });
  assert.equal(set({ vms: 0 }), { name: "red", memory: 200 * MIB, vcpus: 3, ...rest });
  assert.match(rig.command("events 1"), /tenant-changed +tenant "red" has other limits/);
  rig.ok("create", { spec: vmSpec("x", { tenant: "red" }) });
  const low = rig.error("tenant.set", { spec: { name: "red", memory: 32 * MIB } });
  assert.is(low["code"], 6);
  assert.match(String(low["message"]), /tenant "red": its 1 VM need 64\.\d MiB, it may have 32\.0 MiB/);
  for (const [spec, text] of [
    [{ name: "No!" }, /that is no name/],
    [{ name: "red", quota: 5 }, /unknown field "quota"/],
    [{ name: "red", vms: "two" }, /vms is not a whole number/],
    [{ name: "red", vms: 2 ** 20 }, /vms is 1,048,576, it must be 0 to/],
  ] as const)
    assert.match(String(rig.error("tenant.set", { spec: spec as Message })["message"]), text);
  assert.is(rig.error("tenant.set")["code"], 2);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  const list = rig.ok("tenants")["tenants"] as Message[];
  assert.equal([list.length, list[1]!["memory"], list[1]!["vcpus"]], [2, 200 * MIB, 3]);
});

test("a tenant's CPUs are set as rules have it, and a tenant that a rule names stays", () => {
  const rules = [{ tenants: ["red", "blue"], share: ["networks"] }];
  const tenants = [{ name: "red", cpus: "0-1" }, { name: "blue" }, { name: "none" }];
  const rig = new Rig({ cpus: 4, spec: { ...hostSpec([]), tenants, rules } });
  const refused = rig.error("tenant.set", { spec: { name: "blue", cpus: "1-2" } });
  assert.match(String(refused["message"]), /^tenant "blue": CPU 1 is tenant "red"'s too; it needs the rule/);
  assert.equal(rig.ok("tenant.set", { spec: { name: "blue", cpus: "2-3" } })["cpus"], "2-3");
  assert.equal(rig.ok("tenant.set", { spec: { name: "blue", vms: 2 } })["cpus"], "2-3", "it stays");
  assert.equal(rig.ok("tenant.set", { spec: { name: "blue", cpus: "" } })["cpus"], undefined);
  assert.match(
    String(rig.error("tenant.set", { spec: { name: "blue", cpus: "x" } })["message"]),
    /no set of/,
  );
  assert.match(String(rig.error("tenant.rm", { tenant: "red" })["message"]), /rules\[0\] names it/);
  rig.ok("tenant.rm", { tenant: "none" });
});

test("VMs run on their tenant's CPUs, and go where it goes", () => {
  const tenants = (red: string): Message[] => [{ name: "red", cpus: red }, { name: "default" }];
  const vms = [vmSpec("a", { tenant: "red" }), vmSpec("b", { tenant: "red", cpus: "1-2" }), vmSpec("c")];
  const rig = new Rig({ cpus: 4, spec: { ...hostSpec(vms), tenants: tenants("0-1") } });
  const where = (): bigint[] =>
    ["a", "b", "c"].map((name) => rig.kernel.domain(`vm/${name}`, Role.VM).vcpus[0]!.share.cpus & 15n);
  assert.equal(where(), [3n, 2n, 15n]);
  assert.is(rig.apply({ ...hostSpec(vms), tenants: tenants("2-3") })["ok"], true);
  assert.equal(where(), [12n, 4n, 15n]);
  rig.ok("tenant.set", { spec: { name: "red", cpus: "1,3" } });
  assert.equal(where(), [10n, 2n, 15n]);
  const none = rig.apply({ ...hostSpec(vms), tenants: tenants("3") });
  assert.match(JSON.stringify(none), /cpus is .*1-2.*, and its tenant has CPUs 3; the host has 4 CPUs/);
});

test("tenant rm is refused while it has VMs, naming them, and for the default one", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" }), vmSpec("b", { tenant: "red", start: false })]);
  const refused = rig.error("tenant.rm", { tenant: "red" });
  assert.is(refused["code"], 4);
  assert.is(refused["message"], 'tenant "red": it has 2 VMs: a, b');
  assert.is(refused["next"], "plinth rm a");
  assert.is(rig.error("tenant.rm", { tenant: "default" })["code"], 6);
  assert.is(
    rig.error("tenant.rm", { tenant: "rad" })["message"],
    'there is no tenant "rad", did you mean "red"?',
  );
  rig.ok("rm", { vm: "a", force: true });
  rig.ok("rm", { vm: "b" });
  rig.ok("tenant.rm", { tenant: "red" });
  assert.is(refusal(rig, { tenant: "red" })["code"], 3);
});

test("there are at most 16 tenants", () => {
  const rig = new Rig();
  for (let n = 1; n < 16; n++) rig.ok("tenant.set", { spec: { name: `t${n}` } });
  assert.match(
    String(rig.error("tenant.set", { spec: { name: "more" } })["message"]),
    /as many tenants as a host/,
  );
  assert.match(rig.command("tenants"), /\nt15 +0 +0 +0 MiB\n$/);
});

test("what is done to tenants is in the audit log", () => {
  const rig = new Rig();
  rig.ok("tenant.set", { spec: { name: "red" } });
  rig.command("tenant rm red");
  const audit = rig.command("audit 6");
  assert.match(audit, /cli +tenant\.set +red: done/);
  assert.match(audit, /shell +tenant\.rm +red: done/);
});

/** The word that Tab makes of the last one. */
function completed(rig: Rig, typed: string): string {
  rig.type("\x03");
  return rig.type(`${typed}\t`).trimEnd();
}

test("a new user makes a second tenant with its own limits and a VM, by what help and completion offer", () => {
  const rig = new Rig();
  assert.match(rig.command("help"), /^tenant +make a tenant, change its limits, remove it$/m);
  assert.match(
    rig.command("help tenant"),
    /^usage: tenant set NAME \[memory=SIZE\] \[vms=N\] \[vcpus=N\] \[cpus=SET\] \[exits=N\] \[ipis=N\] \[hypercalls=N\] \[log=N\] \[cache=N\] \[bandwidth=N\], tenant rm NAME\n/,
  );
  assert.is(completed(rig, "tenant s"), "tenant set");
  assert.is(completed(rig, "tenant set lab m"), "tenant set lab memory=");
  rig.type("\x03");
  assert.is(
    rig.command("tenant set lab memory=100M vms=2"),
    'tenant "lab" has VMs: 0 of 2, vCPUs: 0, memory: 0 MiB of 100 MiB\n',
  );
  assert.match(rig.command("help create"), /tenant= {2}whose it is/);
  assert.is(completed(rig, "create eve tenant=l"), "create eve tenant=lab");
  assert.is(
    completed(rig, "create eve tenant=lab memory=64M kernel=l"),
    "create eve tenant=lab memory=64M kernel=linux",
  );
  rig.type("\x03");
  assert.match(
    rig.command('create eve tenant=lab memory=64M kernel=linux initrd=initrd cmdline="console=ttyS0"'),
    /VM "eve" is starting/,
  );
  assert.match(
    rig.command("create eva tenant=lab memory=64M kernel=linux"),
    /^error: VM "eva": tenant "lab": its 2 VMs need 12\d\.\d MiB, it may have 100\.0 MiB\nnext: {2}tenants\n$/,
  );
  assert.match(rig.command("tenants"), /\nlab +1 of 2 +1 +64 MiB of 100 MiB\n/);
  assert.match(rig.command("tenant set lab memory=none vms=1"), /VMs: 1 of 1, vCPUs: 1, memory: 64 MiB\n/);
  assert.is(rig.command("tenant rm lab"), 'error: tenant "lab": it has 1 VM: eve\nnext:  rm eve\n');
  rig.command("rm eve --force");
  assert.is(completed(rig, "tenant rm l"), "tenant rm lab");
  rig.type("\x03");
  assert.is(rig.command("tenant rm lab"), 'tenant "lab" is removed\n');
});

test("mistakes in tenant's words", () => {
  const rig = new Rig();
  for (const [typed, text] of [
    ["tenant", /it needs set or rm; usage: tenant set/],
    ["tenant make x", /it knows no "make"/],
    ["tenant set", /it needs a tenant's name/],
    ["tenant set x memory=much", /memory is "much", it must be like 128M or 1G, or none/],
    ["tenant set x vms=many", /vms is "many", it must be a number, or none/],
    ["tenant set x mem=1M", /did you mean "memory="/],
    ["tenant rm x y", /"y" is too much/],
    ["tenant rm x", /there is no tenant "x"/],
  ] as const)
    assert.match(rig.command(typed), text);
});

test("a brake on exits, IPIs, hypercalls and log bytes a second is the kernel's, over restarts of the control domain", () => {
  const rig = rigWith([vmSpec("a", { tenant: "red" })]);
  const set = (spec: Message): Message => rig.ok("tenant.set", { spec: { name: "red", ...spec } });
  const braked = (): number[][] =>
    [...rig.kernel.brakes.values()].filter((all) => all.some((one) => one > 0));
  assert.equal(braked(), []);
  set({ exits: 5000, ipis: 3 });
  assert.equal(braked(), [[500, 1, 0, 0]]);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  rig.kernel.brakes.clear();
  set({ ipis: 100 });
  assert.equal(braked(), [[500, 10, 0, 0]]);
  set({ exits: 0, hypercalls: 2000, log: 300 });
  assert.equal(braked(), [[0, 10, 200, 300]]);
  const [, red] = rig.ok("tenants")["tenants"] as Message[];
  assert.ok(red!["hypercalls"] === 2000 && red!["log"] === 300, "and told");
  rig.command("tenant set red hypercalls=50 log=none");
  assert.equal(braked(), [[0, 10, 5, 0]]);
  set({ ipis: 0, hypercalls: 0, log: 0 });
  assert.equal(braked(), []);
  const wrong = rig.error("tenant.set", { spec: { name: "red", exits: "many" } });
  assert.match(String(wrong["message"]), /exits is not a whole number/);
});

test("ls in pieces has every VM once", () => {
  const rig = new Rig({ spec: hostSpec([]), memory: 1024 * MIB });
  const tags = Array.from({ length: 8 }, (_, n) => `tag-${n}-with-a-long-name-here`);
  for (let n = 0; n < 20; n++)
    rig.ok("create", { spec: vmSpec(`vm${n}`, { memory: 16 * MIB, tags, start: false }) });
  const names: unknown[] = [];
  for (let from: unknown = 0; from !== undefined;) {
    const page = rig.ok("ls", { from: from as number });
    names.push(...(page["vms"] as Message[]).map((vm) => vm["name"]));
    from = page["next"];
  }
  assert.equal(
    names,
    Array.from({ length: 20 }, (_, n) => `vm${n}`),
  );
});

test.run();
