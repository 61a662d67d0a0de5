// Consoles that several look at: one types, others watch, one takes over; and how they share the line.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

const ADA = { vm: "a", session: 101, who: "ada@desk" };
const BOB = { vm: "a", session: 203, who: "bob@lab" };

function write(rig: Rig, session: number, text: string): Message {
  return rig.request("console.write", { vm: "a", session, data: Buffer.from(text) });
}

test("one program types, another is told who, and may take over", () => {
  const rig = new Rig();
  rig.ok("console.hold", ADA);
  const refused = rig.error("console.hold", BOB);
  assert.is(refused["code"], 4);
  assert.is(
    refused["message"],
    'VM "a": its console is in use by ada@desk; --force takes it over, --read-only watches',
  );
  assert.is(refused["next"], "plinth console a --read-only");
  assert.is(write(rig, BOB.session, "x")["ok"], false);
  assert.is(write(rig, 0, "x")["ok"], false, "nor does who does not say who it is");
  assert.is(write(rig, ADA.session, "x")["ok"], true);
  rig.ok("console.hold", { ...BOB, force: true });
  const lost = write(rig, ADA.session, "y")["error"] as Message;
  assert.match(String(lost["message"]), /in use by bob@lab/);
  assert.is(write(rig, BOB.session, "y")["ok"], true);
  assert.match(rig.command("events 1"), /console-taken +a: console taken over from ada@desk by bob@lab/);
  rig.ok("console.detach", { vm: "a", session: ADA.session }); // it is not its own any more
  assert.is(rig.error("console.hold", ADA)["code"], 4);
  rig.ok("console.detach", { vm: "a", session: BOB.session });
  rig.ok("console.hold", ADA);
});

test("a program that is silent for long is gone; one that says it is there is not", () => {
  const rig = new Rig();
  rig.ok("console.hold", ADA);
  rig.wait(14_000);
  rig.ok("console.hold", ADA);
  rig.wait(14_000);
  assert.is(rig.error("console.hold", BOB)["code"], 4);
  rig.wait(2000);
  rig.ok("console.hold", BOB);
  assert.is(rig.error("console.hold", { ...ADA, session: 4 })["code"], 2);
  assert.is(rig.error("console.hold", { ...ADA, vm: "q" })["code"], 3);
});

test("the shell types, watches, is refused, takes over, and is told that it was taken", () => {
  const rig = new Rig();
  rig.ok("console.hold", ADA);
  assert.match(
    rig.command("console a"),
    /^error: VM "a": its console is in use by ada@desk; .*\nnext: {2}console a --read-only\n$/,
  );
  assert.match(rig.command("console a --read-only"), /^Console of VM "a", read-only\..*\nmodel up: name=a/);
  assert.is(rig.type("x"), "\x07");
  assert.is(write(rig, ADA.session, "hi\r")["ok"], true);
  assert.match(rig.text(), /you said: hi/);
  assert.match(rig.type("~."), /left the console/);
  assert.match(rig.command("console a --force"), /^Console of VM "a"\./);
  assert.match(rig.type("me\r"), /you said: me/);
  const lost = write(rig, ADA.session, "x")["error"] as Message;
  assert.match(String(lost["message"]), /in use by the host's shell/);
  rig.ok("console.hold", { ...BOB, force: true });
  assert.match(rig.text(), /\[bob@lab types into the console of VM "a" now: you watch; ~\. leaves\]\r\n$/);
  assert.is(rig.type("x"), "\x07");
  rig.type("\x1d");
  assert.is(rig.error("console.hold", ADA)["code"], 4, "the shell has left what was not its own any more");
  assert.match(rig.command("console b"), /^Console of VM "b"\./);
  rig.type("\x1d");
  rig.ok("console.hold", { ...ADA, vm: "b" });
  assert.match(rig.command("console b --read"), /it has no option "--read"/);
});

test("a VM that is removed and made anew while the shell watches it", () => {
  const rig = new Rig();
  rig.command("console a");
  rig.ok("rm", { vm: "a", force: true });
  rig.ok("create", { spec: vmSpec("a") });
  assert.match(rig.type("again\r"), /you said: again/);
  assert.is(rig.error("console.hold", ADA)["code"], 4);
});

test("completion of the new words", () => {
  const rig = new Rig();
  for (const [typed, added] of [
    ["console a --r", "ead-only "],
    ["console a --f", "orce "],
    ["events --f", "ollow "],
    ["top t", "enants "],
  ]) {
    rig.type("\x03");
    assert.is(rig.type(`${typed}\t`), typed! + added);
  }
});

/** Programs read all these consoles, and all VMs print much while the line is held up. */
function flood(rig: Rig, names: string[]): void {
  rig.hello();
  for (const vm of names) rig.ok("console.attach", { vm, from: 2 ** 40 });
  rig.kernel.serial.stall(true);
  for (const vm of names)
    rig.kernel.serial.write(frameEncode({ id: 0, op: "console.write", vm, data: Buffer.from("flood\r") }));
  rig.settle();
}

test("tenants share the line, however many VMs each has that print without end", () => {
  const vms = ["r1", "r2", "r3", "r4"].map((name) => vmSpec(name, { memory: 8 * MIB, tenant: "red" }));
  const rig = new Rig({
    spec: {
      ...hostSpec([...vms, vmSpec("b1", { memory: 8 * MIB, tenant: "blue" })]),
      tenants: [{ name: "red" }, { name: "blue" }],
    },
  });
  const names = ["r1", "r2", "r3", "r4", "b1"];
  flood(rig, names);
  rig.kernel.serial.stall(false);
  rig.settle();
  const order = rig.pushes().map((push) => String(push["vm"]));
  // What was under way before all had something does not count.
  const last = order.lastIndexOf("b1");
  const together = order.slice(order.indexOf("b1"), last + 1);
  const blue = together.filter((vm) => vm === "b1").length;
  assert.ok(blue >= 14, order.join(" "));
  assert.ok(Math.abs(together.length - 2 * blue) <= 1, together.join(" "));
  const each = names.slice(0, 4).map((name) => together.filter((vm) => vm === name).length);
  assert.ok(Math.max(...each) - Math.min(...each) <= 1, together.join(" "));
});

test("a shell's answer comes within a few pieces while every VM prints without end", () => {
  const names = Array.from({ length: 8 }, (_, n) => `v${n}`);
  const rig = new Rig({
    spec: {
      ...hostSpec(names.map((name) => vmSpec(name, { memory: 8 * MIB, tenant: name }))),
      tenants: names.map((name) => ({ name })),
    },
  });
  flood(rig, names);
  rig.text();
  rig.kernel.serial.write("version\r");
  rig.settle();
  rig.kernel.serial.stall(false);
  rig.settle();
  const bytes = rig.kernel.serial.read();
  const told = bytes.indexOf("plinth control");
  assert.ok(told >= 0 && told < 3000, `after ${told} bytes`);
  assert.ok(bytes.length > 60_000, `${bytes.length}`);
});

test.run();
