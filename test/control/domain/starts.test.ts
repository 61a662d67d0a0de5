// How a VM starts: boot, modules and debugExit in specifications, and what becomes of them.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, Rig, vmSpec } from "./rig";

const module_ = { image: "initrd", cmdline: "a b" };

function refused(more: Record<string, unknown>): string {
  const rig = new Rig({ spec: hostSpec([]) });
  return String(rig.error("create", { spec: vmSpec("x", more as Message) })["message"]);
}

function specOf(rig: Rig): Record<string, unknown> {
  return rig.ok("show", { vm: "x" })["spec"] as Record<string, unknown>;
}

const spec = vmSpec("x", { boot: "multiboot", modules: [module_, { image: "linux" }], debugExit: true });

function same(found: Record<string, unknown>): void {
  assert.is(found["boot"], "multiboot");
  assert.is(found["debugExit"], true);
  assert.equal(found["modules"], [module_, { image: "linux", cmdline: "" }]);
}

test("a specification comes back as it was; what is usual is left out", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  rig.ok("create", { spec });
  same(specOf(rig));
  rig.ok("rm", { vm: "x", force: true });
  rig.ok("create", { spec: vmSpec("x", { boot: "auto", modules: [], debugExit: false }) });
  for (const key of ["boot", "modules", "debugExit"]) assert.not.ok(key in specOf(rig), key);
});

test("what is wrong is named", () => {
  assert.match(refused({ boot: "floppy" }), 'boot is "floppy", it must be one of auto, linux, linux32, pvh');
  assert.match(refused({ modules: "initrd" }), "modules is not a list");
  assert.match(refused({ modules: ["initrd"] }), "modules[0] is not a map of image and cmdline");
  assert.match(refused({ modules: [module_, {}] }), "there is no image in modules[1]");
  assert.match(refused({ modules: [{ image: "initrd", args: "" }] }), 'unknown field "args" in modules[0]');
  assert.match(refused({ modules: [{ image: "tape" }] }), 'there is no image "tape"');
  assert.match(refused({ modules: [{ ...module_, cmdline: "x".repeat(201) }] }), "longer than 200");
  assert.match(refused({ modules: Array(9).fill(module_) }), "more than 8 modules");
  assert.match(refused({ debugExit: 1 }), "debugExit is neither true nor false");
});

test("a VM with modules leaves nothing behind; a restarted control domain still knows them", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const free = rig.kernel.freePages;
  rig.ok("create", { spec: { ...spec, start: true } });
  assert.is(rig.state("x"), "running");
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  same(specOf(rig));
  rig.ok("rm", { vm: "x", force: true });
  assert.is(rig.kernel.freePages, free);
});

test("an exit code is the reason for which a VM has stopped", () => {
  const rig = new Rig();
  rig.ok("console.write", { vm: "a", data: "exit\r" });
  assert.is(rig.row("a")!["state"], "stopped");
  assert.is(rig.row("a")!["reason"], "exit code 33");
});

test("the shell's create takes them", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  rig.command(
    'create x memory=64M kernel=linux boot=multiboot module="initrd,a b" module=linux debugexit=yes start=no',
  );
  same(specOf(rig));
  assert.match(rig.command("create y memory=64M kernel=linux boot=tape"), 'boot is "tape"');
});

test.run();
