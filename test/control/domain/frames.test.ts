// Programs at the serial line: round trips with cbor-x, several requests in flight, garbage and half frames.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import { cobsEncode } from "../../../control/protocol/node/cobs";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

test("hello, status, ls, show, images, doctor", () => {
  const rig = new Rig();
  assert.equal(Object.keys(rig.hello()), ["version", "product", "build", "epoch"]);
  const status = rig.ok("status");
  assert.is(status["host"], "test");
  assert.equal(status["vms"], { total: 2, running: 2 });
  assert.equal(Object.keys(status["memory"] as Message), [
    "total",
    "free",
    "clean",
    "kernel",
    "reserved",
    "promised",
  ]);
  const row = rig.row("b")!;
  assert.equal(Object.keys(row), ["name", "state", "reason", "memory", "vcpus", "sinceMs"]);
  assert.is(row["memory"], 96 * MIB);
  const show = rig.ok("show", { vm: "a" });
  assert.is((show["spec"] as Message)["cmdline"], "name=a");
  assert.is(show["mapped"], 64 * MIB);
  assert.ok(
    (rig.ok("images")["images"] as Message[]).some(
      (image) => image["name"] === "linux" && image["size"] === 100_000,
    ),
  );
  assert.ok((rig.ok("doctor")["checks"] as Message[]).length > 10);
});

test("errors carry the exit code, the object and the next command", () => {
  const rig = new Rig();
  assert.equal(rig.error("show", { vm: "nobody" }), {
    code: 3,
    message: 'there is no VM "nobody"',
    object: "nobody",
    next: "plinth ls",
  });
  assert.equal(rig.error("rm", { vm: "a" }), {
    code: 4,
    message: 'VM "a" is running, it must be stopped or crashed',
    object: "a",
    next: "plinth stop a",
  });
  assert.is(rig.error("dance")["code"], 2);
  assert.is(rig.error("hello", { version: 9 })["code"], 7);
  assert.is(rig.error("create", { spec: { name: "x" } })["code"], 2);
  assert.is(rig.error("create", {})["code"], 2);
  assert.is(rig.error("create", { spec: vmSpec("a") })["code"], 4);
  assert.is(rig.error("create", { spec: vmSpec("x", { kernel: "none" }) })["code"], 3);
  assert.match(
    String(rig.error("create", { spec: vmSpec("x", { memory: 3000 * MIB }) })["message"]),
    /needs 3,00\d MiB, 33\d MiB are free/,
  );
  assert.is(rig.state("x"), "none");
});

test("the life of a VM", () => {
  const rig = new Rig();
  assert.is(rig.ok("pause", { vm: "a" })["state"], "paused");
  assert.is(rig.error("pause", { vm: "a" })["code"], 4);
  assert.is(rig.ok("resume", { vm: "a" })["state"], "running");
  rig.ok("stop", { vm: "a" });
  assert.is(rig.state("a"), "stopped");
  assert.is(rig.ok("start", { vm: "a" })["state"], "starting");
  assert.is(rig.state("a"), "running");
  rig.ok("reset", { vm: "a" });
  assert.is(rig.state("a"), "running");
  assert.is(rig.ok("stop", { vm: "a", force: true })["state"], "stopped");
  assert.is(rig.ok("rm", { vm: "a" })["name"], "a");
  assert.is(rig.ok("rm", { vm: "b", force: true })["state"], "running");
  assert.equal(rig.ok("ls"), { vms: [] });
});

test("several requests in flight are answered in their order, between typed text", () => {
  const rig = new Rig();
  const frames = [1, 2, 3, 4, 5].map((id) => frameEncode({ id: 100 + id, op: "show", vm: "a" }));
  rig.kernel.serial.write(
    Buffer.concat(
      ["ver", frames[0]!, frames[1]!, "si", frames[2]!, "on\r", frames[3]!, frames[4]!].map((x) =>
        Buffer.from(x as string),
      ),
    ),
  );
  rig.kernel.run();
  assert.match(rig.text(), /plinth control 0\.1\.0/);
  assert.equal(
    rig.messages.map((message) => message["id"]),
    [101, 102, 103, 104, 105],
  );
});

test("a console: attach replays, writes are taken, detach ends it", () => {
  const rig = new Rig();
  assert.equal(rig.ok("console.attach", { vm: "a" }), { at: 0, oldest: 0 });
  assert.is(rig.consoleText("a"), "model up: name=a\r\n");
  assert.equal(rig.ok("console.write", { vm: "a", data: Buffer.from("hello\r") }), { size: 6 });
  assert.is(rig.consoleText("a"), "hello\r\nyou said: hello\r\n");
  rig.ok("console.write", { vm: "a", data: "text\r" });
  assert.match(rig.consoleText("a"), /you said: text/);
  rig.ok("console.detach", { vm: "a" });
  rig.ok("console.write", { vm: "a", data: "more\r" });
  assert.is(rig.consoleText("a"), "");
  const again = rig.ok("console.attach", { vm: "a", from: 18 });
  assert.is(again["at"], 18);
  const pushes = rig.pushes();
  assert.is(pushes[0]!["at"], 18);
  assert.match(Buffer.from(pushes[0]!["data"] as Uint8Array).toString(), /^hello/);
  assert.is(rig.error("console.attach", { vm: "zz" })["code"], 3);
  assert.is(rig.error("console.write", { vm: "a" })["code"], 2);
  rig.hello();
  rig.ok("console.write", { vm: "a", data: "x\r" });
  assert.equal(rig.pushes(), []);
});

test("more input than the VM reads is taken in part", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { cmdline: "never-ready" })]) });
  rig.kernel.domain("dm/a").state = 1; // its device model does not run
  const taken = [1, 2, 3].map(() => rig.ok("console.write", { vm: "a", data: "y".repeat(2000) })["size"]);
  assert.equal(taken, [2000, 2000, 96]);
});

test("a flood on one console leaves the other, and requests, alive; a gap shows in the positions", () => {
  const rig = new Rig();
  rig.ok("console.attach", { vm: "a" });
  rig.ok("console.attach", { vm: "b" });
  rig.pushes();
  rig.kernel.serial.write(frameEncode({ id: 900, op: "console.write", vm: "a", data: "flood\r" }));
  rig.kernel.serial.write(frameEncode({ id: 901, op: "console.write", vm: "b", data: "me too\r" }));
  rig.kernel.serial.write(frameEncode({ id: 902, op: "ls" }));
  rig.kernel.run();
  rig.text();
  const order = rig.messages.map((message) =>
    message["ev"] !== undefined ? String(message["vm"]) : Number(message["id"]),
  );
  const ls = order.indexOf(902);
  const b = order.indexOf("b");
  assert.ok(ls >= 0 && b >= 0, "both answered");
  assert.ok(order.length - ls > 10, "the reply came before most of the flood");
  const a = rig.messages.filter((message) => message["vm"] === "a");
  const last = a.at(-1)!;
  assert.match(Buffer.from(last["data"] as Uint8Array).toString(), /line 4999/);
  let gaps = 0;
  let end = "model up: name=a\r\n".length;
  for (const push of a) {
    if (Number(push["at"]) !== end) gaps++;
    end = Number(push["at"]) + (push["data"] as Uint8Array).length;
  }
  assert.is(gaps, 1);
});

test("what a VM printed comes before the news of its end", () => {
  const rig = new Rig();
  rig.ok("events.watch", { since: 0 });
  rig.ok("console.attach", { vm: "a" });
  rig.pushes();
  for (const data of ["flood\r", "off\r"])
    rig.kernel.serial.write(frameEncode({ id: data.length, op: "console.write", vm: "a", data }));
  rig.kernel.run();
  rig.text();
  const kinds = rig.messages.map((message) => message["kind"] ?? message["ev"]);
  const off = kinds.indexOf("vm-off");
  assert.ok(off > 0, "its end is told");
  assert.ok(kinds.lastIndexOf("console") < off, kinds.join(" "));
  assert.ok(kinds.lastIndexOf("console") > 0, "and what it printed");
});

test("events: pages, watching", () => {
  const rig = new Rig();
  const all: Message[] = [];
  for (let since = 0; ;) {
    const page = rig.ok("events", { since });
    const events = page["events"] as Message[];
    if (events.length === 0) break;
    all.push(...events);
    since = Number(page["next"]);
  }
  assert.equal(
    all.map((event) => event["seq"]),
    all.map((_, n) => n + 1),
  );
  assert.ok(all.some((event) => event["kind"] === "vm-running" && event["vm"] === "b"));
  rig.ok("events.watch", { since: all.length });
  rig.ok("pause", { vm: "a" });
  const pushes = rig.pushes();
  assert.is(pushes.length, 1);
  assert.equal(
    [pushes[0]!["ev"], pushes[0]!["kind"], pushes[0]!["vm"], pushes[0]!["seq"]],
    ["event", "vm-paused", "a", all.length + 1],
  );
  for (let n = 0; n < 150; n++) {
    rig.ok("resume", { vm: "a" });
    rig.ok("pause", { vm: "a" });
  }
  const page = rig.ok("events", { since: 0 })["events"] as Message[];
  assert.is(page[0]!["seq"], all.length + 1 + 300 - 256 + 1);
});

test("logs: the kernel's and a VM's", () => {
  const rig = new Rig();
  rig.kernel.appendLog(undefined, "x".repeat(5000));
  const first = rig.ok("logs", { from: 0 });
  assert.is((first["data"] as Uint8Array).length, 3072);
  const second = rig.ok("logs", { from: first["next"] as number });
  assert.is((second["data"] as Uint8Array).length, 5001 - 3072);
  assert.is((rig.ok("logs", { from: second["next"] as number })["data"] as Uint8Array).length, 0);
  assert.is(
    Buffer.from(rig.ok("logs", { vm: "a" })["data"] as Uint8Array).toString(),
    "model up: name=a\r\n",
  );
});

test("damaged frames are counted and skipped", () => {
  const rig = new Rig();
  const good = frameEncode({ id: 77, op: "ls" });
  const bad = good.slice();
  bad[5]! ^= 0x40;
  rig.type(bad);
  rig.type(good);
  assert.ok(rig.replyTo(77)["ok"]);
  assert.is(rig.ok("status")["badFrames"], 1);
  const noMap = Buffer.concat([
    Buffer.from([0]),
    Buffer.from(cobsEncode(Buffer.from([0x83, 1, 2, 3, 9, 9, 9, 9]))),
    Buffer.from([0]),
  ]);
  rig.type(noMap);
  assert.is(rig.ok("status")["badFrames"], 2);
  rig.type(Buffer.concat([Buffer.from([0]), Buffer.alloc(5000, 0x81), Buffer.from([0])]));
  assert.ok(Number(rig.ok("status")["badFrames"]) >= 3);
});

test("half a frame, then silence: typing works again", () => {
  const rig = new Rig();
  rig.type(frameEncode({ id: 1, op: "ls" }).subarray(0, 8));
  rig.kernel.advance(2500);
  assert.match(rig.command("version"), /plinth control/);
  assert.is(rig.ok("status")["badFrames"], 1);
});

test("half a frame, then a whole one", () => {
  const rig = new Rig();
  rig.type(frameEncode({ id: 1, op: "ls" }).subarray(0, 8));
  rig.type(frameEncode({ id: 2, op: "ls" }));
  assert.ok(rig.replyTo(2)["ok"]);
  assert.match(rig.command("version"), /plinth control/);
});

test("a stray zero does not eat what a person types", () => {
  const rig = new Rig();
  assert.match(rig.command("\0version"), /plinth control/);
  rig.type(Buffer.from([0, 0, 0]));
  assert.match(rig.command("version"), /plinth control/);
  rig.type(Buffer.concat([Buffer.from([0]), Buffer.from([0xff, 0xfe, 0xfd]), Buffer.from([0])]));
  assert.match(rig.command("version"), /plinth control/);
});

test("two zeros ask whether the host is there; who types after them is heard", () => {
  const rig = new Rig();
  rig.pushes();
  for (const asked of [1, 2, 3]) {
    rig.type(Buffer.alloc(2));
    assert.equal(rig.pushes(), [{ ev: "ready" }], `question ${asked}`);
  }
  rig.type(Buffer.concat([Buffer.alloc(2), frameEncode({ id: 1, op: "ls" })]));
  assert.ok(rig.replyTo(1)["ok"]);
  rig.type(Buffer.alloc(2));
  assert.match(rig.command("version"), /plinth control/);
  assert.is(rig.ok("status")["badFrames"], 0);
});

test("fuzzed frames never trap the control domain", () => {
  const rig = new Rig();
  let seed = 12345;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 9) % n;
  };
  const ops = [
    "hello",
    "status",
    "ls",
    "show",
    "start",
    "pause",
    "resume",
    "images",
    "console.attach",
    "console.detach",
    "console.write",
    "logs",
    "events",
    "events.watch",
    "create",
    "doctor",
  ];
  const values: (() => Message[string])[] = [
    () => random(1000),
    () => BigInt(random(1 << 30)) * 0xffffffffn,
    () => "a",
    () => "x".repeat(random(200)),
    () => null,
    () => true,
    () => Buffer.from("abc"),
    () => [1, [2, { a: [] }]],
    () => ({ name: "z", memory: random(1 << 28), kernel: "linux" }),
  ];
  for (let round = 0; round < 1500; round++) {
    const request: Message = { id: random(1 << 20), op: ops[random(ops.length)]! };
    for (const key of ["vm", "from", "data", "spec", "since", "force", "version"]) {
      if (random(3) === 0) request[key] = values[random(values.length)]!();
    }
    const frame = Buffer.from(frameEncode(request));
    const damage = random(4);
    if (damage === 0) frame[random(frame.length)] = random(256);
    if (damage === 1) rig.type(frame.subarray(0, random(frame.length)));
    else rig.type(frame);
    if (random(50) === 0) rig.kernel.advance(2500);
    rig.text();
    rig.messages.length = 0;
  }
  assert.equal(rig.kernel.traps, []);
  rig.type(Buffer.from([0, 0]));
  rig.kernel.advance(2500);
  rig.type("\x1d\x03");
  assert.is(rig.hello()["version"], 1);
});

test("negative numbers, floats, deep nesting and doubled keys are damage", () => {
  const rig = new Rig();
  const raw = (...bytes: number[]): void => {
    rig.type(rawFrame(Uint8Array.from(bytes)));
  };
  raw(0xa1, 0x62, 0x69, 0x64, 0x20);
  raw(0xa1, 0x62, 0x69, 0x64, 0xf9, 0x3c, 0x00);
  raw(0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02);
  raw(0xa1, 0x61, 0x61, ...Array<number>(12).fill(0x81), 0x01);
  raw(0xbf, 0xff);
  assert.is(rig.ok("status")["badFrames"], 5);
});

function rawFrame(payload: Uint8Array): Uint8Array {
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(checksum(payload));
  return Buffer.concat([
    Buffer.from([0]),
    Buffer.from(cobsEncode(Buffer.concat([payload, crc]))),
    Buffer.from([0]),
  ]);
}

function checksum(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

test("a change that is asked for again with the same id is answered again, not done again", () => {
  const rig = new Rig();
  const frame = frameEncode({ id: 4711, op: "pause", vm: "a" });
  for (let round = 0; round < 2; round++) {
    rig.kernel.serial.write(frame);
    rig.settle();
    assert.is(rig.replyTo(4711)["ok"], true);
  }
  assert.is((rig.request("pause", { vm: "a" })["error"] as { code: number }).code, 4);
});

test("a change whose first request another epoch may have done is refused", () => {
  const rig = new Rig();
  const { epoch } = rig.hello();
  rig.ok("pause", { vm: "a", epoch: epoch! });
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  const error = rig.error("resume", { vm: "a", epoch: epoch! });
  assert.equal([error["code"], error["next"]], [5, "plinth show a"]);
  assert.match(
    String(error["message"]),
    /restarted before it answered "resume": it may have been done or not/,
  );
  assert.is(rig.state("a"), "paused");
  rig.ok("ls", { epoch: epoch! });
  rig.ok("resume", { vm: "a", epoch: rig.hello()["epoch"]! });
});

test.run();
