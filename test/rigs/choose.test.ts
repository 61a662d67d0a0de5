// The choice of a rig: a wish that cannot be met names what is missing, and never falls back in silence.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { chooseRig } from "../../boot/rigs/choose";

test("auto picks something or says what is missing for each rig", () => {
  const choice = chooseRig("auto");
  assert.ok(choice.reason.length > 0);
  if (choice.kind === null) assert.match(choice.reason, "bochs");
});

test("an unknown rig is refused by name", () => {
  const choice = chooseRig("vax" as "bochs");
  assert.is(choice.kind, null);
  assert.match(choice.reason, "auto, qemu-kvm and bochs");
});

test("without programs in PATH no rig is offered", () => {
  const path = process.env.PATH;
  process.env.PATH = "/nonexistent";
  try {
    const choice = chooseRig("bochs");
    assert.is(choice.kind, null);
    assert.match(choice.reason, "package");
  } finally {
    process.env.PATH = path;
  }
});

test.run();
