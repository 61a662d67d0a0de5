// Disks in specifications: what is refused, and how long a disk lives.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { Message } from "../../../control/protocol/node/cbor";
import { hostSpec, Rig, vmSpec } from "./rig";

const disk = { image: "initrd" };
const PAGES = 13; // of that image

function refused(disks: unknown): string {
  const rig = new Rig({ spec: hostSpec([]) });
  return String(rig.error("create", { spec: vmSpec("x", { disks: disks as Message[] }) })["message"]);
}

test("a specification with disks comes back as it was", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const disks = [disk, { image: "linux", readOnly: true }, { image: "linux", cdrom: true }];
  rig.ok("create", { spec: vmSpec("x", { disks }) });
  const spec = rig.ok("show", { vm: "x" })["spec"] as Record<string, unknown>;
  assert.equal(spec["disks"], [
    { image: "initrd", readOnly: false },
    { image: "linux", readOnly: true },
    { image: "linux", readOnly: true, cdrom: true },
  ]);
});

test("what is wrong is named", () => {
  assert.match(refused("initrd"), "disks is not a list");
  assert.match(refused([3]), "disks[0] is not a map");
  assert.match(refused([disk, {}]), "there is no image in disks[1]");
  assert.match(refused([{ image: "initrd", readonly: true }]), 'did you mean "readOnly"');
  assert.match(refused([{ image: "initrd", readOnly: 1 }]), "neither true nor false");
  assert.match(refused([{ image: "initrd", cdrom: "yes" }]), "cdrom in disks[0] is neither true nor false");
  assert.match(refused([{ image: "tape" }]), 'there is no image "tape"');
  assert.match(refused([disk, disk, disk, disk, disk]), "more than 4 disks");
});

test("a disk lives from the first start to rm, over stops and resets", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const free = rig.kernel.freePages;
  const other = { image: "linux" };
  rig.ok("create", { spec: vmSpec("plain") });
  const plain = free - rig.kernel.freePages;
  rig.ok("rm", { vm: "plain", force: true });
  assert.is(rig.kernel.freePages, free);
  rig.ok("create", { spec: vmSpec("x", { disks: [disk] }) });
  assert.ok(free - rig.kernel.freePages >= plain + PAGES);
  rig.ok("reset", { vm: "x" });
  assert.is(rig.state("x"), "running");
  rig.ok("stop", { vm: "x", force: true });
  assert.is(free - rig.kernel.freePages, 22 + PAGES); // the link and the disk
  rig.ok("start", { vm: "x" });
  rig.ok("rm", { vm: "x", force: true });
  assert.is(rig.kernel.freePages, free);
  rig.ok("create", {
    spec: vmSpec("x", {
      disks: [
        { ...disk, readOnly: true },
        { ...disk, cdrom: true },
      ],
    }),
  });
  assert.ok(free - rig.kernel.freePages < plain + PAGES); // they are the image itself
  rig.ok("rm", { vm: "x", force: true });
  rig.ok("create", { spec: vmSpec("x", { disks: [other, other, other, other] }) });
  rig.ok("rm", { vm: "x", force: true });
  assert.is(rig.kernel.freePages, free);
});

test("a restarted control domain keeps the disks", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { disks: [disk] })]) });
  const before = rig.kernel.freePages;
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.state("a"), "running");
  assert.is(rig.kernel.freePages, before);
  rig.ok("stop", { vm: "a", force: true });
  assert.equal((rig.ok("show", { vm: "a" })["spec"] as Record<string, unknown>)["disks"], [
    { image: "initrd", readOnly: false },
  ]);
});

test.run();
