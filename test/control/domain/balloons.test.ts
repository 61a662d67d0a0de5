// Balloons by policy: who gives how much when the host lacks memory, who gets it back, and who does not answer.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CAP_MEMORY, GPA_SHARED, PAGE_SIZE } from "../../../control/gen/abi";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import { hostSpec, MIB, Rig, vmSpec } from "./rig";

const COUNTERS = 0x5000;
const BALLOON = 5;

/** A host of 512 MiB, of which 1/16 is little. */
function start(...vms: [name: string, memory: number, balloon: Message | undefined][]): Rig {
  const spec = hostSpec(
    vms.map(([name, memory, balloon]) =>
      vmSpec(name, { memory: memory * MIB, ...(balloon ? { balloon } : {}) }),
    ),
  );
  return new Rig({ spec, memory: 512 * MIB });
}

const floor = (mib: number, more: Message = {}): Message => ({ floor: mib * MIB, ...more });
const show = (rig: Rig, vm: string): Message => rig.ok("show", { vm });
const balloon = (rig: Rig, vm: string): Record<string, number> =>
  show(rig, vm)["balloon"] as unknown as Record<string, number>;
const leaves = (rig: Rig, vm: string): number => balloon(rig, vm)["target"]! / MIB;
const free = (rig: Rig): number => Number((rig.ok("status")["memory"] as Message)["free"]) / MIB;

/** Its driver gives, or takes, what it was asked for. */
function follow(rig: Rig, ...vms: string[]): void {
  for (const vm of vms) {
    const pages = Math.round((Number(show(rig, vm)["memory"]) - leaves(rig, vm) * MIB) / PAGE_SIZE);
    const model = rig.kernel.domain(`dm/${vm}`);
    const counters = Buffer.alloc(56);
    counters.writeBigUInt64LE(BigInt(BALLOON), 0);
    counters.writeBigUInt64LE(BigInt(pages), 48);
    model.space.write(GPA_SHARED + COUNTERS, counters);
    const memory = model.object(CAP_MEMORY, "memory");
    memory.released.clear();
    if (pages > 0) memory.release(memory.pages - pages, pages);
  }
}

test("as long as there is memory, nobody gives any", () => {
  const rig = start(["a", 128, floor(32)], ["b", 64, floor(16)]);
  rig.kernel.advance(5000);
  assert.equal([leaves(rig, "a"), leaves(rig, "b")], [128, 64]);
  assert.is(balloon(rig, "a")["floor"], 32 * MIB);
  assert.equal((show(rig, "a")["spec"] as Message)["balloon"], { floor: 32 * MIB });
});

test("a host that lacks memory takes in proportion, down to floors, and gives it back", () => {
  const rig = start(["a", 192, floor(64)], ["b", 96, floor(32, { size: 80 * MIB })], ["c", 64, undefined]);
  follow(rig, "a", "b");
  rig.kernel.advance(2000);
  assert.equal([leaves(rig, "a"), leaves(rig, "b")], [192, 80]);
  rig.ok("create", { spec: vmSpec("d", { memory: Math.floor(free(rig) - 20) * MIB }) });
  assert.ok(free(rig) < 32);
  rig.kernel.advance(1500);
  const [a, b] = [leaves(rig, "a"), leaves(rig, "b")];
  assert.ok(a < 192 && b < 80, `${a} ${b}`);
  assert.ok(Math.abs((192 - a) / (80 - b) - 128 / 48) < 0.5, `by what each has above its floor: ${a} ${b}`);
  rig.kernel.advance(3000);
  assert.equal([leaves(rig, "a"), leaves(rig, "b")], [a, b], "what is asked for counts as given for a while");
  follow(rig, "a", "b");
  assert.ok(free(rig) >= 62 && free(rig) < 80, `${free(rig)}`);
  rig.kernel.advance(3000);
  assert.equal([leaves(rig, "a"), leaves(rig, "b")], [a, b]);
  assert.match(rig.command("events"), /a: +gives memory back: the host has \d+(\.\d)? MiB|gives memory back/);
  assert.is(leaves(rig, "c"), 64, "without a floor nothing is taken");
  rig.ok("rm", { vm: "d", force: true });
  for (let n = 0; n < 20; n++) {
    rig.kernel.advance(1100);
    follow(rig, "a", "b");
  }
  assert.equal([leaves(rig, "a"), leaves(rig, "b")], [192, 80]);
  assert.match(rig.command("events"), /has all its memory again/);
});

test("floors hold, however little there is", () => {
  const rig = start(["a", 192, floor(160)], ["b", 128, floor(120)]);
  rig.ok("create", { spec: vmSpec("d", { memory: Math.floor(free(rig) - 6) * MIB }) });
  for (let n = 0; n < 5; n++) {
    rig.kernel.advance(1100);
    follow(rig, "a", "b");
  }
  assert.equal([leaves(rig, "a"), leaves(rig, "b")], [160, 120]);
});

test("who does not give is not asked for more; others are", () => {
  const rig = start(["a", 192, floor(32)], ["b", 96, floor(32)]);
  rig.ok("create", { spec: vmSpec("d", { memory: Math.floor(free(rig) - 8) * MIB }) });
  rig.kernel.advance(1500);
  const a = leaves(rig, "a");
  const before = leaves(rig, "b");
  assert.ok(a < 192);
  for (let n = 0; n < 15; n++) {
    rig.kernel.advance(1100);
    follow(rig, "b");
  }
  assert.is(leaves(rig, "a"), a);
  assert.ok(leaves(rig, "b") < before, `${leaves(rig, "b")}`);
});

test("a start that finds no room asks for it", () => {
  const rig = start(["a", 256, floor(64)]);
  follow(rig, "a");
  const spec = vmSpec("d", { memory: Math.ceil(free(rig) + 40) * MIB });
  const error = rig.error("create", { spec });
  assert.match(
    String(error["message"]),
    /are free; VMs are asked for more, which can be 192 MiB: try again$/,
  );
  rig.kernel.advance(1500);
  follow(rig, "a");
  rig.ok("create", { spec });
});

test("a command's target stays above the floor; what is held survives a restart", () => {
  const rig = start(["a", 192, floor(64)]);
  rig.ok("create", { spec: vmSpec("d", { memory: Math.floor(free(rig) - 8) * MIB }) });
  rig.kernel.advance(1500);
  follow(rig, "a");
  const held = balloon(rig, "a")["held"]!;
  assert.ok(held > 0);
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(balloon(rig, "a")["held"], held);
  rig.ok("balloon", { vm: "a", size: 96 * MIB });
  assert.ok(leaves(rig, "a") >= 64);
  rig.ok("balloon", { vm: "a", size: 32 * MIB });
  assert.is(leaves(rig, "a"), 32, "an administrator may take more");
});

test("what is wrong is named", () => {
  const refused = (value: unknown): string =>
    String(start().error("create", { spec: vmSpec("x", { balloon: value as Message }) })["message"]);
  assert.match(refused({ floor: MIB }), /floor is 1,048,576, it must be 16,777,216 to/);
  assert.match(
    refused({ floor: 65 * MIB }),
    /balloon.floor is .*, it must be no more than what is left, 67,108,864/,
  );
  assert.match(refused({ size: 32 * MIB, floor: 48 * MIB }), /what is left, 33,554,432/);
  assert.match(refused({ floor: "a" }), /balloon.floor is not a whole number/);
  assert.match(refused({ floor: 16 * MIB + 1 }), /balloon.floor is not a multiple of 4,096 bytes/);
  assert.match(refused({ flor: 16 * MIB }), /unknown field "flor" in balloon, did you mean "floor"/);
  assert.match(refused([]), /balloon is not a whole number/);
});

test.run();
