// Snapshots: a VM is kept as it is, goes back, and is copied; by the shell and by programs, over restarts of the control
// domain, within tenants' limits and the host's memory; and snapshots that come from another host.

import { createHash } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { GPA_SHARED, PAGE_SIZE, Role } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

/** What a VM's console has shown, all of it. */
function log(rig: Rig, vm: string): string {
  return Buffer.from(rig.ok("logs", { vm })["data"] as Uint8Array).toString();
}

function type(rig: Rig, vm: string, text: string): void {
  rig.ok("console.write", { vm, data: text });
}

function write(rig: Rig, label: string, at: number, text: string): void {
  rig.kernel.domain(label, Role.VM).space.write(at, Buffer.from(text));
}

function read(rig: Rig, label: string, at: number, length: number): string {
  return Buffer.from(rig.kernel.domain(label, Role.VM).space.read(at, length)).toString();
}

function kinds(rig: Rig): string[] {
  const events = rig.ok("events", { since: 0 })["events"] as Message[];
  return events.map((event) => String(event["kind"]));
}

test("a clone goes on from where the VM was, and both go their own way", () => {
  const rig = new Rig();
  write(rig, "vm/a", 5 * MIB, "before");
  type(rig, "a", "hel");
  const row = rig.ok("snapshot.create", { vm: "a", note: "a note" });
  assert.is(row["name"], "a-1");
  assert.is(row["state"], "complete");
  write(rig, "vm/a", 5 * MIB, "after!");
  assert.is(rig.ok("snapshot.clone", { name: "a-1", vm: "c" })["state"], "running");
  assert.is(read(rig, "vm/c", 5 * MIB, 6), "before");
  write(rig, "vm/c", 6 * MIB, "copy");
  assert.is(read(rig, "vm/a", 6 * MIB, 4), "\0\0\0\0");
  // What was typed of a line is in the device model's own memory.
  type(rig, "c", "p me\r");
  type(rig, "a", "lo\r");
  assert.match(log(rig, "c"), /model up: name=a\r\nhelreborn as c\r\np me\r\nyou said: help me\r\n/);
  assert.match(log(rig, "a"), /hello\r\nyou said: hello\r\n/);
  assert.equal(rig.kernel.traps, []);
  assert.ok(kinds(rig).includes("vm-snapshot"));
  assert.ok(kinds(rig).includes("vm-cloned"));
  const document = rig.ok("snapshot.show", { name: "a-1" });
  assert.is(document["note"], "a note");
  assert.is(document["vendor"], "intel");
  assert.match(String(document["model"]), /^[0-9a-f]{64}$/);
  assert.equal(
    (document["objects"] as Message[]).map((object) => object["kind"]),
    ["state", "memory", "model", "link", "image"],
  );
});

test("restore takes a VM back, also one that is gone", () => {
  const rig = new Rig();
  write(rig, "vm/a", 4096, "one");
  rig.ok("snapshot.create", { vm: "a", name: "good" });
  write(rig, "vm/a", 4096, "two");
  assert.match(String(rig.error("snapshot.restore", { name: "good" })["message"]), /is running/);
  assert.is(rig.ok("snapshot.restore", { name: "good", force: true })["state"], "running");
  assert.is(read(rig, "vm/a", 4096, 3), "one");
  rig.ok("rm", { vm: "a", force: true });
  assert.is(rig.ok("snapshot.restore", { name: "good" })["name"], "a");
  assert.is(read(rig, "vm/a", 4096, 3), "one");
  type(rig, "a", "x\r");
  assert.match(log(rig, "a"), /you said: x/);
  assert.ok(kinds(rig).includes("vm-restored"));
  assert.equal(rig.kernel.traps, []);
});

test("nothing is left behind", () => {
  const rig = new Rig();
  const holdings = (): unknown => ({
    free: rig.kernel.freePages,
    promised: rig.kernel.promisedPages,
    slots: [...rig.kernel.domain("control").caps.keys()].sort((a, b) => a - b),
    domains: [...rig.kernel.domains].map((domain) => domain.label).sort(),
    mappings: rig.kernel.domain("control").space.mappings.length,
  });
  const before = holdings();
  rig.ok("snapshot.create", { vm: "a" });
  rig.ok("snapshot.create", { vm: "a" });
  rig.ok("snapshot.clone", { name: "a-1", vm: "c" });
  rig.ok("snapshot.clone", { name: "a-2", vm: "d", paused: true });
  assert.is(rig.state("d"), "paused");
  rig.ok("resume", { vm: "d" });
  type(rig, "d", "x\r");
  assert.match(log(rig, "d"), /you said: x/);
  assert.ok(rig.kernel.promisedPages > 0);
  for (const vm of ["c", "d"]) rig.ok("rm", { vm, force: true });
  for (const name of ["a-1", "a-2"]) rig.ok("snapshot.rm", { name });
  assert.equal(holdings(), before);
});

test("memory for what may be written is kept, or a snapshot is refused", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { memory: 96 * MIB })]), memory: 128 * MIB });
  const error = rig.error("snapshot.create", { vm: "a" });
  assert.match(
    String(error["message"]),
    /snapshot "a-1": needs 9\d MiB, so that no write fails later: [\d.]+ MiB are missing/,
  );
  assert.is(error["next"], "plinth snapshot create a --overcommit");
  assert.is(rig.state("a"), "running");
  assert.equal(rig.ok("snapshot.ls")["snapshots"], []);
  rig.ok("snapshot.create", { vm: "a", overcommit: true });
  assert.match(String(rig.error("snapshot.clone", { name: "a-1", vm: "b" })["message"]), /are missing/);
  assert.is(rig.ok("snapshot.clone", { name: "a-1", vm: "b", overcommit: true })["state"], "running");
});

test("a paused VM stays paused", () => {
  const rig = new Rig();
  rig.ok("pause", { vm: "a" });
  rig.ok("snapshot.create", { vm: "a" });
  assert.is(rig.state("a"), "paused");
  rig.ok("snapshot.clone", { name: "a-1", vm: "c" });
  assert.is(rig.state("c"), "running");
  rig.ok("resume", { vm: "a" });
  type(rig, "a", "x\r");
  assert.match(log(rig, "a"), /you said: x/);
});

test("a VM that stands still with its device model is kept again", () => {
  const rig = new Rig();
  rig.ok("pause", { vm: "a" });
  rig.ok("snapshot.create", { vm: "a", name: "one" });
  rig.ok("snapshot.create", { vm: "a", name: "two" });
  rig.ok("snapshot.clone", { name: "two", vm: "c", paused: true });
  rig.ok("snapshot.create", { vm: "c", name: "three" });
  for (const vm of ["a", "c"]) {
    assert.is(rig.state(vm), "paused");
    rig.ok("resume", { vm });
    type(rig, vm, "x\r");
    assert.match(log(rig, vm), /you said: x/);
  }
  assert.equal(rig.kernel.traps, []);
});

test("only a VM that is up can be kept", () => {
  const rig = new Rig({
    spec: hostSpec([vmSpec("slow", { cmdline: "never-ready" }), vmSpec("off", { start: false })]),
  });
  for (const vm of ["slow", "off"])
    assert.match(String(rig.error("snapshot.create", { vm })["message"]), /it must be running or paused/);
  assert.is(rig.error("snapshot.create", { vm: "of" })["code"], 3);
  assert.is(rig.error("snapshot.show", { name: "x" })["code"], 3);
  assert.match(
    String(rig.error("snapshot.create", { vm: "slow", name: "No" })["message"]),
    /must be running/,
  );
});

test("snapshots outlive the control domain, and its clones do", () => {
  const rig = new Rig();
  rig.ok("snapshot.create", { vm: "a", name: "s" });
  rig.ok("snapshot.clone", { name: "s", vm: "c" });
  const before = rig.ok("snapshot.show", { name: "s" });
  rig.kernel.serial.write(new Uint8Array(0));
  try {
    rig.request("test.trap");
  } catch {
    // it has no reply
  }
  rig.settle();
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.equal(rig.ok("snapshot.show", { name: "s" }), before);
  assert.is(rig.state("c"), "running");
  rig.ok("snapshot.clone", { name: "s", vm: "d" });
  type(rig, "d", "x\r");
  assert.match(log(rig, "d"), /you said: x/);
});

test("a tenant's snapshots count for it", () => {
  const spec = {
    ...hostSpec([vmSpec("a", { tenant: "lab" })]),
    tenants: [{ name: "lab", memory: 150 * MIB }, { name: "web" }],
  };
  const rig = new Rig({ spec });
  rig.ok("snapshot.create", { vm: "a" });
  const error = rig.error("snapshot.create", { vm: "a" });
  assert.is(error["code"], 6);
  assert.match(String(error["message"]), /tenant "lab" has 1\d\d MiB of 150 MiB/);
  assert.is(rig.error("create", { spec: vmSpec("b", { tenant: "lab" }) })["code"], 6);
  const foreign = rig.error("snapshot.clone", { name: "a-1", vm: "x", tenant: "web" });
  assert.match(String(foreign["message"]), /it would share memory with tenant "lab"/);
});

test("a card is plugged in only where its side of the network is free", () => {
  const rig = new Rig({
    spec: hostSpec([
      vmSpec("a", { networks: [{ network: "n" }] }),
      vmSpec("b", { networks: [{ network: "n" }] }),
    ]),
  });
  rig.ok("snapshot.create", { vm: "a" });
  rig.ok("snapshot.clone", { name: "a-1", vm: "c" });
  const cable = (label: string): unknown =>
    rig.kernel.domain(label, Role.DEVICE_MODEL).space.at(GPA_SHARED + 0x100000)?.memory;
  assert.ok(cable("dm/c"));
  assert.is.not(cable("dm/c"), cable("dm/a"));
  rig.ok("snapshot.restore", { name: "a-1", force: true });
  assert.is(cable("dm/a"), cable("dm/b"));
  rig.ok("rm", { vm: "c", force: true });
  rig.ok("reset", { vm: "a" });
  assert.is(cable("dm/a"), cable("dm/b"));
});

test("the shell: create, ls, show, clone, restore, rm", () => {
  const rig = new Rig();
  assert.is(rig.command("snapshot ls"), "no snapshots; snapshot create VM makes one\n");
  assert.is(rig.command("snapshot create a first note=hello"), 'snapshot "first" is made\n');
  assert.match(
    rig.command("snapshot ls"),
    /NAME +VM +AGE +MEMORY +OWN +STATE\nfirst +a +.* 64 MiB +.* complete\n/,
  );
  const shown = rig.command("snapshot show first");
  assert.match(shown, /stood still +[\d,]+ ticks, [\d,]+ us\n/);
  assert.match(shown, /note +hello\n/);
  assert.is(rig.command("snapshot clone first c"), 'VM "c" is running\n');
  assert.match(
    rig.command("snapshot restore first"),
    /error: VM "a" is running.*\nnext: +snapshot restore first --force\n/,
  );
  assert.is(rig.command("snapshot restore first --force"), 'VM "a" is running\n');
  assert.is(rig.command("snapshot rm first"), 'snapshot "first" is removed\n');
  assert.match(rig.command("snapshot"), /it needs one of create, ls, show, restore, clone, rm/);
  assert.match(rig.command("snapshot clone x"), /clone needs the name of the new VM/);
  assert.match(rig.command("snapshot rm x --now"), /rm has no option "--now"/);
  assert.match(rig.command("help snapshot"), /snapshot create ada before-update/);
  assert.match(rig.type("snapshot cl\t"), /clone /);
  rig.type("\x03");
  assert.match(rig.command("audit"), /snapshot\.restore +first: done, by force/);
});

test("64 snapshots and no more", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { memory: 4 * MIB })]) });
  for (let n = 1; n <= 64; n++) rig.ok("snapshot.create", { vm: "a" });
  assert.match(String(rig.error("snapshot.create", { vm: "a" })["message"]), /there are 64, no more/);
  const names: unknown[] = [];
  for (let from: number | undefined = 0; from !== undefined;) {
    const reply = rig.ok("snapshot.ls", { from });
    names.push(...(reply["snapshots"] as Message[]).map((row) => row["name"]));
    from = reply["next"] as number | undefined;
  }
  assert.is(new Set(names).size, 64);
});

test("a hundred copies at once", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { memory: 16 * MIB })]) });
  rig.ok("snapshot.create", { vm: "a" });
  for (let n = 0; n < 100; n++) rig.ok("snapshot.clone", { name: "a-1", vm: `c${n}`, overcommit: true });
  for (const vm of ["c0", "c45", "c90", "c99"]) {
    type(rig, vm, `I am ${vm}\r`);
    assert.match(log(rig, vm), new RegExp(`you said: I am ${vm}\r\n$`));
  }
  assert.equal(rig.kernel.traps, []);
  assert.is(rig.ok("status")["controlRestarts"], 0);
});

/** All pages of an object that are there, or differ from a base. */
function pagesOf(rig: Rig, name: string, object: string, base?: string): number[] {
  const pages: number[] = [];
  for (let from = 0; ;) {
    const reply = rig.ok("snapshot.pages", { name, object, from, ...(base ? { base } : {}) });
    const ranges = reply["ranges"] as number[];
    for (let i = 0; i < ranges.length; i += 2)
      for (let n = 0; n < ranges[i + 1]!; n++) pages.push(ranges[i]! + n);
    const next = Number(reply["next"]);
    if (next === from) return pages;
    from = next;
  }
}

function isZero(data: Uint8Array): boolean {
  return data.every((byte) => byte === 0);
}

/** Sends a snapshot to another host. */
function send(from: Rig, to: Rig, name: string, as: Message, base?: { from: string; to: string }): void {
  const document = { ...from.ok("snapshot.show", { name }), ...as };
  const needs = to.ok("snapshot.begin", { document, ...(base ? { base: base.to } : {}) })[
    "needs"
  ] as string[];
  for (const object of needs)
    for (const page of pagesOf(from, name, object, base?.from)) {
      const data = from.ok("snapshot.read", { name, object, page })["data"] as Uint8Array;
      if (base || !isZero(data)) to.ok("snapshot.write", { name: as["name"], object, page, data });
    }
}

test("a snapshot goes to another host, and goes on there", () => {
  const from = new Rig({ spec: hostSpec([vmSpec("a", { memory: 4 * MIB })]) });
  const to = new Rig({ spec: hostSpec([]) });
  write(from, "vm/a", MIB, "moved");
  type(from, "a", "half ");
  from.ok("snapshot.create", { vm: "a", name: "s" });
  send(from, to, "s", { name: "t" });
  assert.match(String(to.error("snapshot.clone", { name: "t", vm: "x" })["message"]), /not come whole/);
  assert.is(to.ok("snapshot.end", { name: "t" })["state"], "complete");
  assert.is(
    to.error("snapshot.write", { name: "t", object: "memory", page: 0, data: new Uint8Array(4096) })["code"],
    4,
  );
  assert.is(to.ok("snapshot.restore", { name: "t" })["name"], "a");
  assert.is(read(to, "vm/a", MIB, 5), "moved");
  type(to, "a", "done\r");
  assert.match(log(to, "a"), /you said: half done/);
  const hashes = (rig: Rig, name: string): Buffer =>
    Buffer.from(
      rig.ok("snapshot.hash", { name, object: "memory", page: 250, count: 10 })["hashes"] as Uint8Array,
    );
  assert.equal(hashes(from, "s"), hashes(to, "t"));
  const page = createHash("sha256").update(
    Buffer.concat([Buffer.from("moved"), Buffer.alloc(PAGE_SIZE - 5)]),
  );
  assert.equal(hashes(from, "s").subarray(6 * 32, 7 * 32), page.digest());
});

test("differences only: what was written between two snapshots", () => {
  const from = new Rig({ spec: hostSpec([vmSpec("a", { memory: 4 * MIB })]) });
  const to = new Rig({ spec: hostSpec([]) });
  from.ok("snapshot.create", { vm: "a", name: "s1" });
  write(from, "vm/a", 3 * PAGE_SIZE, "x");
  write(from, "vm/a", 700 * PAGE_SIZE, "y");
  from.ok("snapshot.create", { vm: "a", name: "s2" });
  assert.equal(pagesOf(from, "s2", "memory", "s1"), [3, 700]);
  assert.equal(pagesOf(from, "s2", "memory", "s2"), []);
  send(from, to, "s1", { name: "t1" });
  to.ok("snapshot.end", { name: "t1" });
  send(from, to, "s2", { name: "t2" }, { from: "s1", to: "t1" });
  assert.is(to.ok("snapshot.end", { name: "t2" })["base"], "t1");
  to.ok("snapshot.restore", { name: "t2" });
  assert.is(read(to, "vm/a", 700 * PAGE_SIZE, 1), "y");
  to.ok("snapshot.restore", { name: "t1", force: true });
  assert.is(read(to, "vm/a", 700 * PAGE_SIZE, 1), "\0");
  assert.equal(to.kernel.traps, []);
});

test("what cannot go on here is refused at once, with what is missing", () => {
  const from = new Rig({ spec: hostSpec([vmSpec("a", { memory: 4 * MIB })]) });
  from.ok("snapshot.create", { vm: "a", name: "s" });
  const document = from.ok("snapshot.show", { name: "s" });
  const to = new Rig({ spec: hostSpec([]), memory: 64 * MIB });
  const before = to.kernel.freePages;
  const refusal = (change: Message): string => {
    const error = to.error("snapshot.begin", { document: { ...document, ...change } });
    assert.is(error["code"], 7, JSON.stringify(change));
    return String(error["message"]);
  };
  assert.match(refusal({ vendor: "amd" }), /its CPU is of "amd", this host's of intel/);
  assert.match(refusal({ format: 2 }), /its format is 2/);
  assert.match(refusal({ abi: 99 }), /ABI version 99/);
  assert.match(refusal({ tscHz: 2_000_000_000 }), /TSC runs at 2,000,000,000 Hz/);
  assert.match(refusal({ features: ["sse3", "amx-tile"] }), /CPU lacks amx-tile/);
  const spec = { ...(document["spec"] as Message), memory: 256 * MIB };
  const objects = (document["objects"] as Message[]).map((object) =>
    object["kind"] === "memory" ? { kind: "memory", pages: 65536 } : object,
  );
  assert.match(refusal({ spec, objects }), /needs 2\d\d MiB, \d+ MiB are free/);
  assert.match(refusal({ spec }), /object "memory" has 1,024 pages/);
  assert.match(refusal({ objects: objects.slice(1) }), /memory/);
  assert.equal(to.ok("snapshot.begin", { document, dry: true })["needs"], [
    "state",
    "memory",
    "model",
    "link",
  ]);
  assert.is(to.kernel.freePages, before);
  assert.equal(to.ok("snapshot.ls")["snapshots"], []);
});

test("a snapshot that comes damaged does not end", () => {
  const from = new Rig({ spec: hostSpec([vmSpec("a", { memory: 4 * MIB })]) });
  from.ok("snapshot.create", { vm: "a", name: "s" });
  const to = new Rig({ spec: hostSpec([]) });
  to.ok("snapshot.begin", { document: from.ok("snapshot.show", { name: "s" }) });
  const error = to.error("snapshot.end", { name: "s" });
  assert.is(error["code"], 7);
  assert.match(String(error["message"]), /its state/);
  to.ok("snapshot.write", { name: "s", object: "state", page: 0, data: new Uint8Array(4096).fill(0x5a) });
  to.error("snapshot.end", { name: "s" });
  to.ok("snapshot.rm", { name: "s" });
  assert.is(to.ok("status")["controlRestarts"], 0);
});

test.run();
