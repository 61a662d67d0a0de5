// Specifications of a whole host: what they would change, that it happens as a whole, and that it is taken back.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { readAudit } from "../../../control/cli/audit";
import type { Client } from "../../../control/cli/client";
import { frameEncode } from "../../../control/protocol/node/frame";
import { cborEncode, type Message } from "../../../control/protocol/node/cbor";
import { Hypercall } from "../../../control/gen/abi";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

/** The steps of a plan as "action object: reason". */
function lines(rig: Rig, spec: Message): string[] {
  const { steps, refusals } = rig.plan(rig.draft(spec));
  assert.equal(refusals, []);
  return steps.map((step) => `${step["action"]} ${step["object"]}: ${step["reason"]}`);
}

function refusals(rig: Rig, spec: Message): string[] {
  return rig.plan(rig.draft(spec)).refusals.map((refusal) => `${refusal["code"]} ${refusal["message"]}`);
}

function applied(rig: Rig, spec: Message): Message {
  const reply = rig.apply(spec);
  assert.is(reply["ok"], true, JSON.stringify(reply));
  rig.settle();
  return reply["result"] as Message;
}

function holdings(rig: Rig): unknown {
  const control = rig.kernel.domain("control");
  return {
    free: rig.kernel.freePages,
    slots: [...control.caps.keys()].sort((a, b) => a - b),
    domains: [...rig.kernel.domains].map((domain) => domain.label).sort(),
  };
}

const a = vmSpec("a");
const b = vmSpec("b", { memory: 96 * MIB });

test("what a host is needs no step", () => {
  const rig = new Rig();
  assert.equal(lines(rig, hostSpec([a, b])), []);
  assert.is(applied(rig, hostSpec([a, b]))["steps"], 0);
  assert.is(rig.state("a"), "running");
});

test("steps in their order, each with its reason", () => {
  const rig = new Rig();
  rig.ok("create", { spec: vmSpec("c", { memory: 16 * MIB, start: false }) });
  const spec = {
    ...hostSpec([
      { ...a, tags: ["web"] },
      { ...b, memory: 64 * MIB },
      vmSpec("d", { memory: 32 * MIB, tenant: "red", vcpus: 2 }),
    ]),
    tenants: [{ name: "red", memory: 64 * MIB, vms: 1 }],
    host: { name: "other" },
  };
  assert.equal(lines(rig, spec), [
    'host host: name: "test" -> "other"',
    "host red: tenant: none -> 64 MiB, 1 VM",
    'change a: tags: none -> ["web"]',
    "remove c: it is not in the specification",
    "restart b: memory: 96 MiB -> 64 MiB; it runs, and is ended and started again",
    'create d: 32.8 MiB, 2 vCPUs, tenant "red"',
  ]);
  const generation = rig.kernel.domain("vm/a");
  assert.is(applied(rig, spec)["steps"], 6);
  assert.is(rig.kernel.domain("vm/a"), generation);
  assert.is(rig.row("b")!["memory"], 64 * MIB);
  assert.is(rig.state("d"), "running");
  assert.is(rig.state("c"), "none");
  assert.is(rig.ok("status")["host"], "other");
  assert.equal(lines(rig, spec), []);
});

test("what changes while a VM runs, and what restarts it", () => {
  const rig = new Rig();
  const step = (more: Message): string => lines(rig, hostSpec([{ ...a, ...more }, b]))[0]!;
  assert.match(step({ protected: true }), /^change a: protected: none -> yes$/);
  assert.match(step({ restart: { policy: "always" } }), /^change a: restart: .*always/);
  assert.match(step({ balloon: 32 * MIB }), /^change a: balloon: none -> 32 MiB$/);
  assert.match(step({ start: false }), /^change a: start: yes -> no$/);
  assert.match(step({ cmdline: "x".repeat(90) }), /^restart a: cmdline differs; it runs/);
  assert.match(step({ vcpus: 2 }), /^restart a: vcpus: 1 -> 2/);
  assert.match(step({ tenant: "default", initrd: "" }), /^restart a: initrd: "initrd" -> ""/);
  assert.match(step({ disks: [{ image: "initrd" }] }), /^replace a: .*its disks are made anew/);
  rig.ok("stop", { vm: "a", force: true });
  assert.equal(lines(rig, hostSpec([{ ...a, vcpus: 2 }, b])), [
    "change a: vcpus: 1 -> 2",
    "start a: it is not running",
  ]);
  applied(rig, hostSpec([{ ...a, vcpus: 2 }, b]));
  assert.is(rig.kernel.domain("vm/a").vcpus.length, 2);
});

test("a new balloon target reaches a VM that runs", () => {
  const rig = new Rig();
  applied(rig, hostSpec([{ ...a, balloon: 32 * MIB }, b]));
  assert.is((rig.ok("show", { vm: "a" })["balloon"] as Message)["target"], 32 * MIB);
  applied(rig, hostSpec([a, b]));
  assert.is((rig.ok("show", { vm: "a" })["balloon"] as Message)["target"], 64 * MIB);
});

test("refusals name object, cause and next command, and nothing is done", () => {
  const rig = new Rig({ spec: hostSpec([{ ...a, protected: true }, b]) });
  const before = holdings(rig);
  const cases: [Message, RegExp][] = [
    [hostSpec([b]), /^6 VM "a" is protected, and this would remove it$/],
    [hostSpec([{ ...a, vcpus: 2 }, b]), /^6 VM "a" is protected, and this would end it$/],
    [hostSpec([a, b, vmSpec("c", { kernel: "no" })]), /^3 VM "c": there is no image "no"$/],
    [
      hostSpec([a, b, vmSpec("c", { memory: 900 * MIB })]),
      /^1 VM "c": needs 902\.\d MiB, \d+\.\d MiB are free by then$/,
    ],
    [hostSpec([a, b, b]), /^2 VM "b": there are two of that name$/],
    [hostSpec([a, b, vmSpec("c", { tenant: "red" })]), /^3 VM "c": there is no tenant "red"$/],
    [hostSpec([a, { name: "b" }]), /^2 VM "b": it has no memory$/],
    [{ ...hostSpec([a, b]), more: 1 }, /^2 host specification: unknown field "more"$/],
    [{ version: 2, vms: [] }, /version is 2/],
    [{ version: 1 }, /^2 host specification: it has no list vms$/],
    [
      { ...hostSpec([a, b]), tenants: [{ name: "default", vms: 1 }] },
      /^6 tenant "default": its 2 VMs are more/,
    ],
  ];
  for (const [spec, text] of cases) {
    const found = refusals(rig, spec);
    assert.ok(
      found.some((line) => text.test(line)),
      `${text}: ${found.join("; ")}`,
    );
    const reply = rig.apply(spec);
    assert.is(reply["ok"], false);
    assert.match(String((reply["error"] as Message)["next"]), /^plinth /);
    assert.equal(holdings(rig), before);
  }
  const lan = { networks: [{ network: "lan" }] };
  const three = ["x", "y", "z"].map((name) => vmSpec(name, { memory: 8 * MIB, ...lan }));
  assert.match(refusals(rig, hostSpec([a, b, ...three]))[0]!, /VM "z": network "lan" has two cards already/);
});

test("memory of VMs that go counts for those that come", () => {
  const rig = new Rig();
  const big = vmSpec("big", { memory: 420 * MIB });
  assert.match(
    refusals(rig, hostSpec([a, b, big]))[0]!,
    /"big": needs 42\d\.\d MiB, 3\d\d\.\d MiB are free by then/,
  );
  assert.is(applied(rig, hostSpec([big]))["steps"], 3);
  assert.is(rig.state("big"), "running");
  applied(rig, hostSpec([a, b]));
  assert.is(rig.state("a"), "running");
});

test("each step that fails midway takes the whole back", () => {
  const want = hostSpec([{ ...a, vcpus: 2, tags: ["x"] }, vmSpec("c"), vmSpec("d", { memory: 16 * MIB })]);
  const calls: number[] = [
    Hypercall.MEM_CREATE,
    Hypercall.DOMAIN_CREATE,
    Hypercall.MEM_MAP,
    Hypercall.VCPU_CREATE,
  ];
  let failed = 0;
  for (let step = 0; ; step++) {
    const rig = new Rig();
    const before = holdings(rig);
    const draft = rig.draft(want);
    const { digest } = rig.plan(draft);
    const real = rig.kernel.hypercall.bind(rig.kernel);
    let left = step;
    rig.kernel.hypercall = (component, nr, args) =>
      calls.includes(nr) && component.domain.label === "control" && left-- === 0
        ? -5n
        : real(component, nr, args);
    const reply = rig.request("apply", { ...draft, digest });
    rig.kernel.hypercall = real;
    rig.settle();
    if (reply["ok"] === true) break;
    failed++;
    const { message } = reply["error"] as Message;
    assert.match(
      String(message),
      /^step \d of 4, (restart|create) "[acd]": .* failed: .*; nothing was changed, but these were started again: "a", "b"$/,
    );
    assert.equal(holdings(rig), before, `after call ${step}`);
    assert.is(rig.state("a"), "running");
    assert.is(rig.state("b"), "running");
    assert.equal(lines(rig, hostSpec([a, b])), []);
  }
  assert.ok(failed >= 30, `${failed} failures`);
});

/** The reply to `apply` when the n-th creation of a domain fails. */
function failing(rig: Rig, spec: Message, nth: number): Message {
  const draft = rig.draft(spec);
  const { digest } = rig.plan(draft);
  const real = rig.kernel.hypercall.bind(rig.kernel);
  let left = nth;
  rig.kernel.hypercall = (component, nr, args) =>
    nr === Number(Hypercall.DOMAIN_CREATE) && --left === 0 ? -5n : real(component, nr, args);
  const error = rig.error("apply", { ...draft, digest });
  rig.kernel.hypercall = real;
  rig.settle();
  return error;
}

test("what was started is stopped again, what was stopped stays so", () => {
  const rig = new Rig({ spec: hostSpec([a, b, vmSpec("c", { memory: 8 * MIB, start: false })]) });
  rig.ok("stop", { vm: "b", force: true });
  const was = [rig.row("b"), rig.row("c")].map((row) => [row!["state"], row!["reason"]]);
  const want = [a, b, vmSpec("c", { memory: 8 * MIB, start: false, ports: ["data"] }), vmSpec("d")];
  // The device model of d comes before that of b; its domain is the second.
  for (const nth of [1, 2, 3, 4]) {
    const error = failing(rig, hostSpec(want), nth);
    assert.match(String(error["message"]), /^step \d of 3, (create "d"|start "b"): .*; nothing was changed$/);
    assert.equal(
      [rig.row("b"), rig.row("c")].map((row) => [row!["state"], row!["reason"]]),
      was,
    );
    assert.is((rig.ok("show", { vm: "c" })["spec"] as Message)["ports"], undefined);
    assert.is(rig.state("d"), "none");
  }
  applied(rig, hostSpec(want));
  assert.is(rig.state("b"), "running");
});

test("disks: a restart keeps them, another list makes them anew, a failure keeps the old", () => {
  const disk = { disks: [{ image: "initrd" }] };
  const rig = new Rig({ spec: hostSpec([{ ...a, ...disk }]) });
  const slots = holdings(rig);
  applied(rig, hostSpec([{ ...a, ...disk, cmdline: "other" }]));
  assert.equal(holdings(rig), slots);
  assert.match(lines(rig, hostSpec([a]))[0]!, /^replace a: .*disks: .* -> none; its disks are made anew/);
  assert.match(String(failing(rig, hostSpec([a]), 1)["message"]), /started again: "a"$/);
  assert.equal(holdings(rig), slots);
  applied(rig, hostSpec([a]));
  assert.is((rig.ok("show", { vm: "a" })["spec"] as Message)["disks"], undefined);
});

test("networks change hands within one specification", () => {
  const lan = (name: string, network: string): Message =>
    vmSpec(name, { memory: 8 * MIB, networks: [{ network }] });
  const rig = new Rig({
    spec: hostSpec([lan("p", "one"), lan("q", "one"), lan("r", "two"), lan("s", "two")]),
  });
  applied(rig, hostSpec([lan("p", "two"), lan("q", "one"), lan("r", "one"), lan("t", "two")]));
  for (const name of ["p", "q", "r", "t"]) assert.is(rig.state(name), "running");
  assert.is(rig.state("s"), "none");
});

test("another specification, or a host that has changed, is not applied", () => {
  const rig = new Rig();
  const draft = rig.draft(hostSpec([a]));
  const { digest } = rig.plan(draft);
  rig.ok("stop", { vm: "b", force: true });
  assert.match(
    String(rig.error("apply", { ...draft, digest })["message"]),
    /host has changed since the plan/,
  );
  rig.draft(hostSpec([]));
  const error = rig.error("apply", { ...draft, digest });
  assert.is(error["code"], 4);
  assert.match(String(error["message"]), /not whole here/);
  assert.is(rig.error("plan", { session: 0, size: 0 })["code"], 4);
  assert.is(rig.state("b"), "stopped");
});

test("pieces of a specification as they should not come", () => {
  const rig = new Rig();
  const data = new Uint8Array(10);
  assert.is(rig.error("spec.put", { session: 7, at: 10, data })["code"], 4);
  assert.is(rig.error("spec.put", { session: 7, at: 0 })["code"], 2);
  assert.is(rig.error("spec.put", { session: 7, at: 65530, data })["code"], 2);
  assert.is(rig.error("spec.put", { session: 7, at: 2 ** 50, data })["code"], 2);
  assert.is(rig.ok("spec.put", { session: 7, at: 0, data })["size"], 10);
  assert.is(rig.ok("spec.put", { session: 7, at: 0, data })["size"], 10);
  assert.is(rig.ok("spec.put", { session: 7, at: 5, data })["size"], 15);
  assert.match(refusals(rig, { version: 1, vms: 5 })[0]!, /no list vms/);
  const { refusals: found } = rig.plan(rig.draft(cborEncode(hostSpec([])).subarray(0, 20)));
  assert.match(String(found[0]!["message"]), /not a CBOR map/);
});

test("the control domain traps in the middle of apply: what is left is known, and can be applied to", () => {
  const disk = { disks: [{ image: "initrd" }] };
  const want = hostSpec([
    { ...a, vcpus: 2, tags: ["x"] },
    { ...b, memory: 32 * MIB },
    vmSpec("c", { networks: [{ network: "lan" }] }),
    vmSpec("d", { memory: 16 * MIB }),
  ]);
  const first = hostSpec([
    a,
    { ...b, ...disk },
    vmSpec("e", { memory: 16 * MIB, networks: [{ network: "lan" }] }),
  ]);
  const clean = new Rig({ spec: first });
  applied(clean, want);
  let traps = 0;
  for (let at = 7; at < 16; at++) {
    const rig = new Rig({ spec: first, trapAt: at });
    try {
      rig.apply(want);
    } catch {
      traps++;
    }
    rig.settle();
    assert.is(rig.ok("status")["controlRestarts"], rig.kernel.traps.length);
    applied(rig, want);
    for (const name of ["a", "b", "c", "d"]) assert.is(rig.state(name), "running", `${at}: ${name}`);
    assert.equal(lines(rig, want), []);
    applied(rig, hostSpec([]));
    assert.equal((holdings(rig) as { domains: string[] }).domains, ["control"]);
    const empty = new Rig({ spec: hostSpec([]) });
    assert.equal(holdings(rig), holdings(empty), `${at}`);
  }
  assert.ok(traps >= 6, `${traps} traps`);
});

test("three tenants and twelve VMs, applied, changed and removed 100 times, with traps between", async () => {
  const tenants = ["red", "green", "blue"].map((name) => ({ name, memory: 80 * MIB, vms: 4, vcpus: 8 }));
  const vms = Array.from({ length: 12 }, (_, n) =>
    vmSpec(`vm${n}`, { memory: 16 * MIB, tenant: tenants[n % 3]!.name, tags: [`t${n}`] }),
  );
  const rig = new Rig({ spec: hostSpec([]) });
  const before = holdings(rig);
  for (let round = 0; round < 100; round++) {
    applied(rig, { ...hostSpec(vms), tenants });
    assert.is((rig.ok("ls")["vms"] as Message[]).filter((vm) => vm["state"] === "running").length, 12);
    applied(rig, {
      ...hostSpec(vms.map((vm) => ({ ...vm, vcpus: 1 + (round % 2) })).slice(round % 3)),
      tenants,
    });
    if (round % 12 === 1) rig.type(frameEncode({ id: 9000 + round, op: "test.trap" }));
    applied(rig, hostSpec([]));
    assert.equal(holdings(rig), before, `round ${round}`);
  }
  await readAudit({ audit: async (from: number) => rig.ok("audit", { from }) } as unknown as Client);
});

test("what apply has done is known after a restart", () => {
  const rig = new Rig();
  const want = { ...hostSpec([{ ...a, tenant: "red", vcpus: 2 }]), tenants: [{ name: "red", vms: 2 }] };
  applied(rig, want);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.equal(lines(rig, want), []);
});

test.run();
