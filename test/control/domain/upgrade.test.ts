// The control component is replaced by another image: VMs run on, and a bad image gives way to the one before.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DomainState, GPA_SHARED, IMAGE_MAX, Role, VcpuState } from "../../../control/gen/abi";
import { cborDecode, cborEncode, type Message } from "../../../control/protocol/node/cbor";
import { crc32c } from "../../../control/protocol/node/crc32c";
import { modelImage, type ImageOptions } from "./image";
import { hostSpec, Rig, vmSpec } from "./rig";

const wasmOf = (name: string): Uint8Array => new Uint8Array(readFileSync(`build/${name}.wasm`));
const control = wasmOf("control");
/** The same component, which is another image. */
const next = (options: ImageOptions = {}): Uint8Array =>
  modelImage(control, { tail: Buffer.from("next"), ...options });
const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const booted = hashOf(control);

function upload(rig: Rig, image: Uint8Array, session = 7): Message {
  const size = image.length;
  for (let at = 0; at < size; at += 3072)
    rig.ok("image.put", { session, at, size, data: image.subarray(at, at + 3072) });
  return { session, size, hash: hashOf(image) };
}

function status(rig: Rig): Message {
  const { pauseUs, hooks: _, ...rest } = rig.ok("status")["control"] as Message;
  assert.type(pauseUs, "number");
  return rest;
}

/** Kinds of what has happened to the control component, and the last text. */
function story(rig: Rig): [string[], string] {
  const all: Message[] = [];
  for (let since = 0; ;) {
    const page = rig.ok("events", { since });
    const events = page["events"] as Message[];
    if (events.length === 0) break;
    all.push(...events);
    since = Number(page["next"]);
  }
  const mine = all.filter(({ kind }) => String(kind).startsWith("control-"));
  return [mine.map(({ kind }) => String(kind).slice(8)), String(mine.at(-1)!["text"])];
}

function upgrade(rig: Rig, image: Uint8Array): void {
  rig.ok("upgrade", upload(rig, image));
  rig.kernel.advance(100);
}

test("VMs run on, the new image is on trial, then it stays", () => {
  const rig = new Rig();
  assert.equal(status(rig), { version: "0.1.0", image: booted, trial: false });
  rig.ok("pause", { vm: "b" });
  const before = rig.ok("show", { vm: "a" })["spec"];
  const image = next();
  rig.text();
  assert.equal(rig.ok("upgrade", upload(rig, image)), { hash: hashOf(image) });
  rig.kernel.advance(100);
  assert.match(rig.text(), /is on trial in place of [0-9a-f]{12}; found 2 VMs[^]*plinth> $/);
  assert.equal(status(rig), { version: "0.1.0", image: hashOf(image), trial: true, before: booted });
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("b"), "paused");
  assert.is(rig.kernel.domain("vm/a", Role.VM).vcpus[0]!.state, VcpuState.READY);
  assert.is(rig.kernel.domain("vm/b", Role.VM).state, DomainState.PAUSED);
  assert.equal(rig.ok("show", { vm: "a" })["spec"], before);
  assert.match(String(rig.error("upgrade", { image: "linux" })["message"]), /is on trial/);
  rig.kernel.advance(1000);
  assert.equal(status(rig), { version: "0.1.0", image: hashOf(image), trial: false });
  assert.equal(story(rig)[0], ["started", "upgrade", "upgraded", "confirmed"]);
  rig.type(Buffer.from([0]));
  rig.kernel.advance(60_000);
  rig.request("ls");
  assert.is(rig.kernel.traps.length, 0);
  const checks = rig.ok("doctor")["checks"] as Message[];
  assert.ok(checks.find(({ name }) => name === "control")!["ok"], "an upgrade is no failure");
});

test("a trap after the trial starts the new image again", () => {
  const rig = new Rig();
  upgrade(rig, next());
  rig.kernel.advance(1000);
  assert.throws(() => rig.request("test.trap"), /no reply/);
  assert.is(status(rig)["image"], hashOf(next()));
  assert.equal(story(rig)[0].at(-1), "restarted");
  assert.is(rig.state("a"), "running");
});

test("an image that traps at once, later, or says nothing gives way to the one before", () => {
  const cases: [string, RegExp][] = [
    ["components/image-traps", / failed, [0-9a-f]{12} is back; found 2 VMs; trap: this image traps @ test/],
    ["components/image-late", / failed, [0-9a-f]{12} is back; found 2 VMs; trap: this image traps late @ /],
    ["components/image-mute", / failed, [0-9a-f]{12} is back; found 2 VMs; it did not answer in time$/],
  ];
  for (const [name, why] of cases) {
    const rig = new Rig();
    const free = rig.kernel.freePages;
    upgrade(rig, modelImage(wasmOf(name)));
    rig.kernel.advance(12_000);
    assert.is(status(rig)["image"], booted, name);
    const [kinds, text] = story(rig);
    assert.equal(kinds, ["started", "upgrade", "rolledback"], name);
    assert.match(text, why);
    assert.is(rig.state("a"), "running");
    assert.is(rig.kernel.freePages, free, "its memory is free again");
    upgrade(rig, next());
    rig.kernel.advance(1000);
    assert.is(status(rig)["image"], hashOf(next()), "and a good one may follow");
  }
});

test("a trap on trial brings back the image before, not the one that was booted", () => {
  const rig = new Rig();
  upgrade(rig, next());
  rig.kernel.advance(1000);
  upgrade(rig, next({ tail: Buffer.from("third") }));
  assert.is(status(rig)["trial"], true);
  assert.throws(() => rig.request("test.trap"), /no reply/);
  assert.equal(status(rig), { version: "0.1.0", image: hashOf(next()), trial: false });
  assert.match(story(rig)[1], / failed, .* is back; found 2 VMs; trap: test\.trap/);
});

test("what is no control image of this kernel is refused, and leaves nothing", () => {
  const rig = new Rig();
  const free = rig.kernel.freePages;
  const image = next();
  const large = new Uint8Array(IMAGE_MAX + 1);
  const cases: [Uint8Array, RegExp][] = [
    [next({ abi: 99 }), /is built for ABI version 99, the kernel here has version \d+/],
    [next({ role: Role.DEVICE_MODEL }), /is a component, but no control component/],
    [new Uint8Array(5000).fill(0x90), /is no component of Plinth/],
    [image.subarray(0, 50_000), /is truncated: it has 50,000 of its [\d,]+ bytes/],
  ];
  for (const [bytes, why] of cases) {
    const error = rig.error("upgrade", upload(rig, bytes));
    assert.match(String(error["message"]), why);
    assert.is(error["code"], 7);
    assert.is(rig.kernel.freePages, free);
  }
  const put = { session: 8, at: 0, size: large.length, data: new Uint8Array(10) };
  assert.match(String(rig.error("image.put", put)["message"]), /has 1,048,577 bytes, .* at most 1,048,576/);
  assert.match(String(rig.error("image.put", { ...put, size: 3 })["message"]), /has only 3 bytes/);
  assert.is(rig.error("upgrade", { image: "nothing" })["code"], 3);
  assert.match(String(rig.error("upgrade", { image: "initrd" })["message"]), /is no component of Plinth/);
  assert.match(String(rig.error("upgrade", {})["message"]), /is not whole here/);
  assert.equal(status(rig), { version: "0.1.0", image: booted, trial: false });
  assert.is(rig.kernel.freePages, free);
});

test("a broken upload is refused or forgotten, and leaves nothing", () => {
  const rig = new Rig();
  const free = rig.kernel.freePages;
  const image = next();
  const wanted = upload(rig, image);
  rig.ok("image.put", { session: 7, at: 4000, size: image.length, data: Buffer.from("noise") });
  const error = rig.error("upgrade", wanted);
  assert.match(String(error["message"]), /came damaged: its hash is [0-9a-f]{12}/);
  assert.is(error["code"], 7);
  assert.is(rig.kernel.freePages, free);
  const put = { session: 9, at: 0, size: image.length, data: image.subarray(0, 3000) };
  rig.ok("image.put", put);
  assert.match(String(rig.error("image.put", { ...put, at: 4000 })["message"]), /not whole here/);
  assert.match(String(rig.error("image.put", { ...put, session: 10, at: 3000 })["message"]), /not whole/);
  assert.match(String(rig.error("upgrade", { ...put, hash: hashOf(image) })["message"]), /not whole here/);
  rig.ok("image.put", put);
  assert.ok(rig.kernel.freePages < free);
  rig.kernel.advance(61_000);
  assert.is(rig.kernel.freePages, free, "after a minute without a piece");
  rig.ok("image.put", put);
  assert.throws(() => rig.request("test.trap"), /no reply/);
  assert.is(rig.kernel.freePages, free, "or at a restart");
});

test("the shell takes a boot module, and the audit log tells of it", () => {
  const rig = new Rig({ control: next() });
  assert.match(rig.command("status"), /image [0-9a-f]{12}\n/);
  assert.match(rig.command("upgrade"), /it needs an image; usage: upgrade IMAGE/);
  assert.match(rig.command("upgrade linux"), /the image is no component of Plinth/);
  assert.match(rig.command("upgrade control-new"), /^control image [0-9a-f]{64} takes over\n/);
  rig.kernel.advance(100);
  assert.match(rig.command("status"), /image [0-9a-f]{12}, on trial\n/);
  rig.kernel.advance(1000);
  const records = rig.command("audit 20");
  assert.match(records, / shell +upgrade +linux: refused: the image is no component/);
  assert.match(records, / shell +upgrade +control-new: done/);
  assert.match(records, /control-upgrade .*control image [0-9a-f]{12} is to replace [0-9a-f]{12}/);
  assert.match(records, /control-confirmed .*is up, and stays/);
});

const STASH = GPA_SHARED + 0x1000000;

/** Rewrites what a piece of the stash says. */
function spoil(rig: Rig, document: number, change: (value: Message) => void): void {
  const { space } = rig.kernel.domain("control");
  for (let copy = 0; copy < 2; copy++) {
    const at = STASH + (2 * document + copy) * 0x1400;
    const head = Buffer.from(space.read(at, 16));
    const length = head.readUInt32LE(8);
    if (head.readUInt32LE(0) === 0 || length === 0) continue;
    const value = cborDecode(space.read(at + 16, length)) as Message;
    change(value);
    const bytes = cborEncode(value);
    head.writeUInt32LE(bytes.length, 8);
    head.writeUInt32LE(crc32c(bytes), 12);
    space.write(at, head);
    space.write(at + 16, bytes);
  }
}

/** Lets an image take over a stash that was changed as it was handed over. */
function handOver(rig: Rig, document: number, change: (value: Message) => void): void {
  const wanted = upload(rig, next());
  rig.ok("upgrade", wanted);
  spoil(rig, document, change);
  rig.kernel.advance(100);
}

test("what an older version did not write has its default, what a newer one wrote is ignored", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a"), vmSpec("b")]) });
  handOver(rig, 1, (value) => {
    value["version"] = 1;
    for (const field of ["needs", "target", "lastExit", "restarts", "stopping", "due"]) delete value[field];
    const spec = value["spec"] as Message;
    delete spec["restart"];
    spec["quantum"] = 5;
    value["weather"] = ["fine"];
  });
  assert.is(status(rig)["trial"], true);
  const shown = rig.ok("show", { vm: "a" });
  assert.is(shown["state"], "running");
  assert.is((shown["balloon"] as Message)["target"], shown["memory"]);
  assert.equal((shown["spec"] as Message)["restart"], { policy: "never", max: 3, window: 60 });
  assert.is((shown["spec"] as Message)["cmdline"], "name=a");
});

test("a stash that needs a newer component is refused, and the image before goes on", () => {
  const rig = new Rig();
  const wanted = upload(rig, next());
  rig.ok("upgrade", wanted);
  let once = true;
  const real = rig.kernel.upgradeControl.bind(rig.kernel);
  rig.kernel.upgradeControl = (memory, cap) => {
    spoil(rig, 0, (value) => void (value["needs"] = 4));
    real(memory, cap);
  };
  const start = rig.kernel.appendLog.bind(rig.kernel);
  rig.kernel.appendLog = (domain, text) => {
    if (once && /has failed/.test(text)) spoil(rig, 0, (value) => void (value["needs"] = 1));
    if (/has failed/.test(text)) once = false;
    start(domain, text);
  };
  rig.kernel.advance(100);
  assert.is(status(rig)["image"], booted);
  assert.match(
    story(rig)[1],
    /^control image ([0-9a-f]{12}) failed, (?!\1)[0-9a-f]{12} is back; found 2 VMs; trap: what is handed over needs version 4, this component has 3 @ /,
  );
  assert.is(rig.state("a"), "running");
});

test("a restart with such a stash finds VMs by their labels, and says why", () => {
  const rig = new Rig();
  spoil(rig, 0, (value) => void (value["needs"] = 4));
  spoil(rig, 1, (value) => void (value["needs"] = 4));
  rig.text();
  rig.type(Buffer.from([0, 0]));
  assert.throws(() => rig.request("test.trap"), /no reply/);
  assert.is(rig.row("a")!["reason"], "found by its label");
  const events = rig.ok("events", { since: 0 })["events"] as Message[];
  assert.match(String(events.at(-1)!["text"]), /needs version 4, this component has 3/);
  assert.throws(() => rig.request("test.trap"), /no reply/);
  assert.is(story(rig)[0].at(-1), "restarted");
  assert.is(
    rig.ok("events", { since: Number(events.at(-1)!["seq"]) })["next"],
    Number(events.at(-1)!["seq"]) + 1,
  );
});

test.run();
