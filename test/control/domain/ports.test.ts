// Named ports: specifications, sessions, positions that make every request repeatable, and what is refused.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { Protocol } from "../../../control/protocol/schema";
import { hostSpec, Rig, vmSpec } from "./rig";

const RING = 2048;
const POURED = Array.from({ length: 5000 }, (_, n) => String.fromCharCode(33 + ((5000 - n) % 90))).join("");

/** A host with one VM that has two ports; what is given is typed into its console. */
function host(...lines: string[]): Rig {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { ports: ["data", "log"] })]) });
  for (const line of lines) type(rig, line);
  return rig;
}

function type(rig: Rig, line: string): void {
  rig.ok("console.write", { vm: "a", data: `${line}\r` });
}

const of = (session: number, more: Message = {}): Message => ({ vm: "a", port: "data", session, ...more });

const text = (reply: Message): string => Buffer.from(reply["data"] as Uint8Array).toString("latin1");

function write(rig: Rig, session: number, at: unknown, data: string): Message {
  return rig.ok("port.write", of(session, { at: Number(at), data: new Uint8Array(Buffer.from(data)) }));
}

function refused(ports: unknown): string {
  const spec = vmSpec("x", { ports: ports as string[] });
  return String(new Rig({ spec: hostSpec([]) }).error("create", { spec })["message"]);
}

test("a specification with ports comes back as it was, and show says who has them open", () => {
  const rig = host("open");
  assert.equal((rig.ok("show", { vm: "a" })["spec"] as Message)["ports"], ["data", "log"]);
  rig.ok("port.attach", of(7));
  rig.ok("port.attach", { ...of(9, { wait: true }), port: "log" });
  assert.equal(rig.ok("show", { vm: "a" })["ports"], [
    { name: "data", open: true, attached: true },
    { name: "log", open: false, attached: true },
  ]);
  rig.ok("stop", { vm: "a", force: true });
  assert.equal((rig.ok("show", { vm: "a" })["ports"] as Message[])[0], {
    name: "data",
    open: false,
    attached: false,
  });
});

test("what is wrong in a specification is named", () => {
  assert.match(refused("data"), "ports is not a list of names");
  assert.match(refused([3]), "ports[0] is no name");
  assert.match(refused(["data", "A b"]), "ports[1] is no name");
  assert.match(refused(["data", "data"]), "ports[1] has the name of another port");
  assert.match(refused(["a", "b", "c", "d", "e"]), "it has more than 4 ports");
});

test("what cannot be attached is refused with its reason", () => {
  const rig = host();
  const error = (fields: Message): Message => rig.error("port.attach", { session: 1, ...fields });
  assert.match(String(error({ vm: "b", port: "data" })["message"]), 'there is no VM "b"');
  const near = error({ vm: "a", port: "dat" });
  assert.is(near["code"], 3);
  assert.match(String(near["message"]), 'VM "a": there is no port "dat", did you mean "data"?');
  assert.match(String(error({ vm: "a", port: "zzzzz" })["message"]), "its ports are data, log");
  const closed = error({ vm: "a", port: "data" });
  assert.is(closed["code"], 4);
  assert.match(String(closed["message"]), 'port "data" is not open in the VM');
  assert.is(closed["next"], "plinth port a data --wait");
  assert.is(error({ vm: "a", port: "data", session: 2, wait: true })["code"], 2);
  rig.ok("stop", { vm: "a", force: true });
  const stopped = error({ vm: "a", port: "data" });
  assert.is(stopped["code"], 4);
  assert.is(stopped["next"], "plinth start a");
});

test("bytes go both ways; a request that comes twice counts once", () => {
  const rig = host("open");
  const { read, write: at } = rig.ok("port.attach", of(7));
  assert.is(write(rig, 7, at, "hello")["next"], Number(at) + 5);
  assert.is(write(rig, 7, at, "hello")["next"], Number(at) + 5);
  assert.is(write(rig, 7, at, "hello world")["next"], Number(at) + 11);
  const first = rig.ok("port.read", of(7, { from: read! }));
  assert.is(text(first), "hello world");
  assert.equal(rig.ok("port.read", of(7, { from: read! })), first);
  const behind = Number(read) + 11;
  assert.is(text(rig.ok("port.read", of(7, { from: behind }))), "");
  assert.is(rig.error("port.read", of(7, { from: read! }))["code"], 1);
  assert.is(rig.error("port.write", of(7, { at: Number(at) + 12, data: new Uint8Array(1) }))["code"], 2);
});

test("a VM that sends much waits for its reader, and nothing is lost over a restart of the control domain", () => {
  const rig = host("open", "pour");
  let from = Number(rig.ok("port.attach", of(7))["read"]);
  let got = "";
  for (let n = 0; n < 20 && got.length < 5000; n++) {
    const piece = text(rig.ok("port.read", of(7, { from })));
    assert.ok(piece.length > 0 && piece.length <= RING);
    got += piece.slice(0, 700);
    from += Math.min(piece.length, 700);
    if (n === 2) rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  }
  assert.is(got, POURED);
});

test("a VM that does not read makes its writer wait, and wakes it", () => {
  const rig = host("open", "deaf");
  const at = Number(rig.ok("port.attach", of(7))["write"]);
  assert.equal(write(rig, 7, at, "x".repeat(3000)), { next: at + RING, unread: RING });
  assert.is(write(rig, 7, at + RING, "x")["next"], at + RING);
  assert.equal(rig.pushes(), []);
});

test("a program hears that there is something new, once for each time that it has found nothing", () => {
  const rig = host("open");
  const from = Number(rig.ok("port.attach", of(7))["read"]);
  rig.ok("port.read", of(7, { from }));
  assert.equal(rig.pushes(), []);
  type(rig, "pour");
  assert.equal(rig.pushes(), [{ ev: "port", vm: "a", port: "data" }]);
  type(rig, "hm");
  assert.equal(rig.pushes(), []);
});

test("the end of the VM's side is told by its session's number", () => {
  const rig = host("open", "pour");
  const { read, ended } = rig.ok("port.attach", of(7));
  let from = Number(read);
  type(rig, "close");
  for (;;) {
    const reply = rig.ok("port.read", of(7, { from }));
    from += text(reply).length;
    if (reply["session"] === ended && text(reply) === "") break;
    assert.ok(from - Number(read) <= 5000);
  }
  assert.is(from - Number(read), 5000);
  rig.ok("port.detach", of(7, { from }));
  const again = rig.ok("port.attach", of(9, { wait: true }));
  assert.is(again["open"], false);
  assert.is(again["ended"], Number(ended) + 2);
});

test("what a VM had sent before it closed can still be read", () => {
  const rig = host("open");
  const at = Number(rig.ok("port.attach", of(7))["write"]);
  write(rig, 7, at, "last words");
  type(rig, "close");
  rig.ok("port.detach", of(7, { from: 0 }));
  const { read, ended } = rig.ok("port.attach", of(9));
  const reply = rig.ok("port.read", of(9, { from: read! }));
  assert.is(text(reply), "last words");
  assert.is(reply["session"], ended);
});

test("a port has one user; another waits for it, takes it, or gets it when the first is silent", () => {
  const rig = host("open");
  rig.ok("port.attach", of(7));
  rig.ok("port.attach", of(7)); // the same request again
  const busy = rig.error("port.attach", of(9));
  assert.is(busy["code"], 4);
  assert.is(busy["next"], "plinth port a data --force");
  rig.ok("port.attach", of(9, { force: true }));
  assert.is(rig.error("port.read", of(7, { from: 0 }))["code"], 4);
  rig.ok("port.detach", of(7, { from: 0 })); // not its own any more
  rig.ok("port.read", of(9, { from: 0 }));
  rig.kernel.advance(Protocol.PORT_LEASE_MS - 1000);
  rig.ok("port.read", of(9, { from: 0 }));
  rig.kernel.advance(Protocol.PORT_LEASE_MS - 1000);
  rig.ok("port.read", of(9, { from: 0 }));
  rig.kernel.advance(Protocol.PORT_LEASE_MS + 1000);
  rig.ok("port.attach", of(11));
  rig.ok("port.detach", of(11, { from: 0 }));
  rig.ok("console.attach", { vm: "a" });
  const told = rig.consoleText("a").match(/session (begins|ends)/g);
  assert.equal(told, ["session begins", "session begins", "session ends", "session begins", "session ends"]);
});

test("what one program has left unread by the VM does not reach the VM after it", () => {
  const rig = host("deaf", "open");
  const at = Number(rig.ok("port.attach", of(7))["write"]);
  assert.is(write(rig, 7, at, "stale")["unread"], 5);
  rig.ok("port.detach", of(7, { from: 0 }));
  rig.ok("port.attach", of(9));
  assert.is(write(rig, 9, at + 5, "")["unread"], 0);
});

test("a VM that was started again has new ports", () => {
  const rig = host("open");
  rig.ok("port.attach", of(7));
  rig.ok("reset", { vm: "a" });
  assert.is(rig.error("port.read", of(7, { from: 0 }))["code"], 4);
  assert.is(rig.error("port.attach", of(7))["code"], 4);
});

test.run();
