// Two serial lines: the main one for people and programs, the other one for bulk data. What one does is nothing to the other.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode, FrameReader } from "../../../control/protocol/node/frame";
import { Random } from "../../cli/random";
import { Rig, type RigOptions } from "./rig";

/** The far end of the bulk line. */
class Bulk {
  readonly messages: Message[] = [];
  text = "";
  private id = 1000;
  private readonly reader = new FrameReader({
    message: (message) => void this.messages.push(message),
    text: (bytes) => void (this.text += Buffer.from(bytes).toString("latin1")),
  });

  constructor(private readonly rig: Rig) {}

  send(op: string, fields: Message = {}): number {
    const id = ++this.id;
    this.rig.kernel.bulk.write(frameEncode({ id, op, ...fields }));
    return id;
  }

  collect(): void {
    this.reader.feed(this.rig.kernel.bulk.read());
  }

  request(op: string, fields: Message = {}): Message | undefined {
    const id = this.send(op, fields);
    this.rig.settle();
    this.collect();
    return this.messages.find((message) => message["id"] === id);
  }

  ok(op: string, fields: Message = {}): Message {
    const reply = this.request(op, fields);
    assert.is(reply?.["ok"], true, JSON.stringify(reply));
    return reply!["result"] as Message;
  }
}

function both(options: RigOptions = {}): { rig: Rig; bulk: Bulk } {
  const rig = new Rig(options);
  rig.hello();
  const bulk = new Bulk(rig);
  if (!options.oneLine) bulk.ok("hello", { version: 1 });
  bulk.messages.length = 0;
  return { rig, bulk };
}

test("the bulk line has frames alone: no shell, no boot text, no pushes", () => {
  const { rig, bulk } = both();
  bulk.collect();
  assert.is(bulk.text, "");
  rig.kernel.bulk.write("ls\rhelp\r");
  rig.settle();
  bulk.collect();
  assert.is(bulk.text, "");
  assert.match(rig.command("ls"), /running/);
  rig.ok("events.watch", { since: 0 });
  rig.ok("stop", { vm: "a", force: true });
  assert.ok(rig.pushes().length > 0);
  bulk.collect();
  assert.equal(bulk.messages, []);
});

test("requests on both are answered on the line that they came by, with the same authority", () => {
  const { rig, bulk } = both();
  rig.kernel.bulk.write(new Uint8Array(2));
  rig.settle();
  bulk.collect();
  assert.is(bulk.messages[0]?.["ev"], "ready");
  assert.is((bulk.ok("pause", { vm: "a" }) as { state: string }).state, "paused");
  assert.is(rig.state("a"), "paused");
  for (const op of ["console.attach", "events.watch", "port.attach"]) {
    const { error } = bulk.request(op, { vm: "b", since: 0 }) as { error: Message };
    assert.match(String(error["message"]), /this one is for bulk data/);
  }
});

test("a hello on the bulk line ends no attachment on the main one", () => {
  const { rig, bulk } = both();
  rig.ok("events.watch", { since: 0 });
  rig.pushes();
  bulk.ok("hello", { version: 1 });
  rig.ok("pause", { vm: "a" });
  assert.ok(rig.pushes().some((push) => push["ev"] === "event"));
});

test("a change that is repeated on the other line gets its reply, not its effect", () => {
  const { rig, bulk } = both();
  const request = frameEncode({ id: 77, op: "snapshot.create", vm: "a", name: "s" });
  rig.kernel.bulk.write(request);
  rig.settle();
  bulk.collect();
  const before = bulk.messages.find((message) => message["id"] === 77);
  assert.is(before?.["ok"], true);
  rig.kernel.serial.write(request);
  rig.settle();
  assert.equal(rig.replyTo(77), before);
});

test("what comes late on a bulk line that was given up is not done", () => {
  const { rig, bulk } = both();
  rig.ok("snapshot.create", { vm: "a", name: "s" });
  const document = { ...rig.ok("snapshot.show", { name: "s" }), name: "in" };
  rig.ok("snapshot.begin", { document });
  const page = (fill: number): Message => ({
    name: "in",
    object: "memory",
    page: 3,
    data: new Uint8Array(4096).fill(fill),
  });
  bulk.ok("snapshot.write", page(1));
  // The next one is on its way for long: meanwhile its program goes on on the main line.
  rig.ok("bulk.close");
  rig.ok("snapshot.write", page(3));
  const { error } = bulk.request("snapshot.write", page(2)) as { error: Message };
  assert.is(error["code"], 5);
  assert.match(String(error["message"]), /given up/);
  const { data } = rig.ok("snapshot.read", { name: "in", object: "memory", page: 3 });
  assert.is((data as Uint8Array)[0], 3);
  bulk.ok("hello", { version: 1 });
  bulk.ok("snapshot.write", page(4));
});

test("noise on the bulk line: the main one answers, the bulk one finds its step again", () => {
  const { rig, bulk } = both();
  for (let n = 0; n < 20; n++) {
    rig.kernel.bulk.write(new Random(n + 1).bytes(3000));
    rig.settle();
    assert.is(rig.state("a"), "running");
  }
  rig.wait(3000);
  bulk.collect();
  assert.is(bulk.text, "");
  const { vms } = bulk.ok("ls") as { vms: Message[] };
  assert.is(vms.length, 2);
  assert.equal(rig.kernel.traps, []);
});

test("noise on the main line does not touch the bulk one", () => {
  const { rig, bulk } = both();
  for (let n = 0; n < 5; n++) {
    rig.kernel.serial.write(new Random(n + 1).bytes(3000));
    assert.is((bulk.ok("ls")["vms"] as Message[]).length, 2);
  }
  assert.equal(rig.kernel.traps, []);
});

test("a bulk line that floods starves nobody", () => {
  const { rig, bulk } = both();
  const frames = Buffer.concat(
    Array.from({ length: 2000 }, (_, n) => frameEncode({ id: 5000 + n, op: "images" })),
  );
  rig.kernel.bulk.write(frames);
  const id = 9;
  rig.kernel.serial.write(frameEncode({ id, op: "ls" }));
  // The main line is served first in each event, whatever waits on the other one.
  for (let n = 0; n < 3; n++) rig.kernel.step();
  assert.is(rig.replyTo(id)["ok"], true);
  assert.ok(rig.kernel.bulk.waiting > 0, "most of the flood was still to come");
  assert.match(rig.command("ls"), /running/);
  bulk.collect();
  assert.ok(bulk.messages.length > 0);
});

test("a bulk line that takes nothing stops nothing, and nothing waits for it without end", () => {
  const { rig, bulk } = both();
  rig.ok("snapshot.create", { vm: "a", name: "s" });
  rig.kernel.bulk.stall(true);
  const page = { name: "s", object: "memory", page: 0 };
  for (let n = 0; n < 200; n++) bulk.send("snapshot.read", page);
  rig.settle();
  assert.match(rig.command("ls"), /running/);
  assert.is((rig.ok("snapshot.read", page)["data"] as Uint8Array).length, 4096);
  rig.kernel.bulk.stall(false);
  rig.wait(300);
  bulk.collect();
  assert.ok(bulk.messages.length > 0 && bulk.messages.length < 200, "those that nobody read were dropped");
  bulk.ok("snapshot.read", page);
});

test("a restarted control domain has both lines", () => {
  const { rig, bulk } = both();
  rig.kernel.bulk.write(frameEncode({ id: 1, op: "test.trap" }));
  rig.settle();
  assert.is(rig.kernel.traps.length, 1);
  assert.is(rig.hello()["epoch"], 1);
  assert.is(bulk.ok("hello", { version: 1 })["epoch"], 1);
});

test("a machine without COM2 has the main line alone", () => {
  const { rig, bulk } = both({ oneLine: true });
  assert.is(bulk.request("ls"), undefined);
  assert.is(rig.state("a"), "running");
});

test.run();
