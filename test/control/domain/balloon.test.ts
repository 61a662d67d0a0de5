// The target of a VM's balloon: in its specification, by command, and over restarts.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

const PAGES_32M = 8192;

function refused(balloon: unknown): string {
  const spec = vmSpec("x", { balloon: balloon as number });
  return String(new Rig({ spec: hostSpec([]) }).error("create", { spec })["message"]);
}

const shown = (rig: Rig): Message => rig.ok("show", { vm: "a" });

const target = (rig: Rig): unknown => (shown(rig)["balloon"] as Message)["target"];

/** How many pages the device model was told to take, each time. */
function told(rig: Rig): number[] {
  rig.ok("console.attach", { vm: "a" });
  return [...rig.consoleText("a").matchAll(/balloon (\d+)/g)].map((match) => Number(match[1]));
}

test("a specification's target is the device model's from the start, and comes back as it was", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { balloon: 32 * MIB })]) });
  assert.equal(told(rig), [PAGES_32M]);
  assert.is((shown(rig)["spec"] as Message)["balloon"], 32 * MIB);
  assert.is(target(rig), 32 * MIB);
});

test("without one a VM has all its memory, and the device model is told nothing", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a")]) });
  assert.equal(told(rig), []);
  assert.is((shown(rig)["spec"] as Message)["balloon"], undefined);
  assert.is(target(rig), 64 * MIB);
});

test("a command's target is kept over restarts of the VM and of the control domain", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { balloon: 32 * MIB })]) });
  rig.ok("balloon", { vm: "a", size: 48 * MIB });
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(target(rig), 48 * MIB);
  rig.ok("stop", { vm: "a", force: true });
  rig.ok("start", { vm: "a" });
  assert.is(target(rig), 48 * MIB);
  assert.is(told(rig).at(-1), PAGES_32M / 2);
});

test("what is wrong is named", () => {
  assert.match(refused("32M"), 'VM "x": balloon is not a whole number');
  assert.match(refused(MIB), /balloon is 1,048,576, it must be 16,777,216 to/);
  assert.match(refused(65 * MIB), "balloon is 68,157,440, it must be no more than memory, 67,108,864");
  assert.match(refused(32 * MIB + 1), "balloon is not a multiple of 4,096 bytes");
});

test("a person's words: create with a target and a port, and show", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  rig.command("create a memory=64M kernel=linux balloon=32M port=data port=log");
  assert.is(target(rig), 32 * MIB);
  const text = rig.command("show a");
  assert.match(text, /^balloon +leaves it 64 MiB, target 32 MiB$/m);
  assert.match(text, /^port +data$/m);
  rig.ok("console.write", { vm: "a", data: "open\r" });
  assert.match(rig.command("show a"), /^port +data, open in the VM$/m);
  rig.ok("port.attach", { vm: "a", port: "data", session: 7 });
  assert.match(rig.command("show a"), /^port +data, open in the VM, attached to$/m);
  assert.match(
    rig.command("create b memory=64M kernel=linux balloon=much"),
    'balloon is "much", it must be like',
  );
});

test.run();
