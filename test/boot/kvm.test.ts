// The rig of QEMU with KVM, where the machine nests virtualization; elsewhere the test is skipped, and says what is missing.
// rigs: own

import { test } from "uvu";
import * as assert from "uvu/assert";
import { chooseRig } from "../../boot/rigs/choose";
import { Host } from "./host";

const RIG = "qemu-kvm";
const choice = chooseRig(RIG);
if (choice.kind === null) console.log(`skipped: ${choice.reason}`);
const run = choice.kind === null ? test.skip : test;

run("VMs come up under KVM, on a host with two CPUs", async () => {
  process.env.PLINTH_RIG = RIG;
  const host = await Host.boot("kvm", undefined, 2);
  try {
    assert.is(host.rig.kind, RIG);
    for (const vm of ["ada", "bob"]) await host.waitUp(vm);
  } finally {
    await host.stop();
  }
});

test.run();
