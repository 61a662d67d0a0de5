// Networks in specifications: what is refused, which card is where, and how long a network lives.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { GPA_SHARED } from "../../../control/gen/abi";
import { cborDecode, type Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import type { AddressSpace } from "../model/memory";
import { hostSpec, Rig, vmSpec } from "./rig";

const PAGES = 1 + 2 * 17; // of a cable
const LINK_PAGES = 22;
const lan = { network: "lan" };

function refused(networks: unknown): string {
  const rig = new Rig({ spec: hostSpec([]) });
  return String(rig.error("create", { spec: vmSpec("x", { networks: networks as Message[] }) })["message"]);
}

function create(rig: Rig, name: string, ...networks: Message[]): void {
  rig.ok("create", { spec: vmSpec(name, { networks }) });
}

/** The link of a VM, as its device model has it. */
function linkOf(rig: Rig, vm: string): AddressSpace {
  return rig.kernel.domain(`dm/${vm}`).space;
}

/** What the device model was told of its cards. */
function told(rig: Rig, vm: string): { index: number; side: number; address: number }[] {
  const space = linkOf(rig, vm);
  const length = Buffer.from(space.read(GPA_SHARED, 4)).readUInt32LE(0);
  return cborDecode(space.read(GPA_SHARED + 4, length))!["networks"] as never;
}

/** Counts as a device model does. */
function count(rig: Rig, vm: string, device: number, values: number[]): void {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, n) => bytes.writeBigUInt64LE(BigInt(value), 8 * n));
  linkOf(rig, vm).write(GPA_SHARED + 0x5000 + 128 * device, bytes);
}

test("a specification with networks comes back as it was", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  create(rig, "x", lan, { network: "dmz", mac: "52:54:00:AB:cd:01" });
  const spec = rig.ok("show", { vm: "x" })["spec"] as Record<string, unknown>;
  assert.equal(spec["networks"], [{ network: "lan" }, { network: "dmz", mac: "52:54:00:ab:cd:01" }]);
});

test("what is wrong is named", () => {
  assert.match(refused("lan"), "networks is not a list");
  assert.match(refused([3]), "networks[0] is not a map");
  assert.match(refused([lan, {}]), "there is no network, or it is no name, in networks[1]");
  assert.match(refused([{ network: "no name" }]), "there is no network, or it is no name");
  assert.match(refused([{ network: "lan", Mac: "" }]), 'did you mean "mac"');
  for (const mac of [
    "52:54:00:ab:cd",
    "52-54-00-ab-cd-01",
    "01:00:5e:00:00:01",
    "00:00:00:00:00:00",
    "x".repeat(17),
  ])
    assert.match(refused([{ network: "lan", mac }]), "is not the address of one card", mac);
  assert.match(refused([lan, lan, lan, lan, lan]), "more than 4 networks");
  const rig = new Rig({ spec: hostSpec([]) });
  const reply = rig.error("create", { spec: vmSpec("x", { rings: "round" }) });
  assert.match(String(reply["message"]), 'rings is "round", it must be packed or split');
});

test("a network has two cards", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  create(rig, "a", lan);
  create(rig, "b", lan);
  const error = rig.error("create", { spec: vmSpec("c", { networks: [lan] }) });
  assert.match(String(error["message"]), 'network "lan" has two cards already, of "a" and "b"');
  rig.ok("rm", { vm: "a", force: true });
  create(rig, "c", lan);
  assert.match(
    String(rig.error("create", { spec: vmSpec("d", { networks: [lan] }) })["message"]),
    'of "b" and "c"',
  );
});

test("in a host specification the third is left out, and the others start", () => {
  const vms = ["a", "b", "c"].map((name) => vmSpec(name, { networks: [lan] }));
  const rig = new Rig({ spec: hostSpec(vms) });
  assert.match(rig.text(), 'error: VM "c": network "lan" has two cards already');
  assert.is(rig.state("a"), "running");
  assert.is(rig.state("b"), "running");
  assert.is(rig.state("c"), "none");
});

test("addresses: the given one, or one that the names always give", () => {
  const first = new Rig({ spec: hostSpec([]) });
  create(first, "a", lan, { network: "dmz", mac: "52:54:00:01:02:03" });
  create(first, "b", lan);
  const [derived, given] = told(first, "a");
  assert.is(given!.address, 0x030201005452);
  assert.is(Number(BigInt(derived!.address) & 3n), 2, "locally administered, of one card");
  assert.is.not(told(first, "b")[0]!.address, derived!.address);
  const second = new Rig({ spec: hostSpec([]) });
  create(second, "b", lan);
  create(second, "a", lan);
  assert.is(told(second, "a")[0]!.address, derived!.address);
});

test("the two cards have both sides of one cable, also of one VM", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  create(rig, "a", lan, { network: "loop" }, { network: "loop" });
  create(rig, "b", { network: "dmz" }, lan);
  const [a, b] = [told(rig, "a"), told(rig, "b")];
  assert.is(a[0]!.index, b[1]!.index);
  assert.is(a[0]!.side + b[1]!.side, 1);
  assert.is(a[1]!.index, a[2]!.index);
  assert.is(a[1]!.side + a[2]!.side, 1);
  assert.is(new Set([a[0]!.index, a[1]!.index, b[0]!.index]).size, 3);
});

test("a network's memory is there while a VM uses it", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  const free = rig.kernel.freePages;
  create(rig, "plain");
  const plain = free - rig.kernel.freePages;
  rig.ok("rm", { vm: "plain", force: true });
  create(rig, "a", lan);
  assert.is(free - rig.kernel.freePages, plain + PAGES);
  create(rig, "b", lan);
  assert.is(free - rig.kernel.freePages, 2 * plain + PAGES);
  rig.ok("reset", { vm: "a" });
  assert.is(free - rig.kernel.freePages, 2 * plain + PAGES);
  rig.ok("stop", { vm: "a", force: true });
  assert.is(free - rig.kernel.freePages, plain + PAGES + LINK_PAGES);
  rig.ok("stop", { vm: "b", force: true });
  assert.is(free - rig.kernel.freePages, 2 * LINK_PAGES);
  rig.ok("start", { vm: "b" });
  assert.is(free - rig.kernel.freePages, plain + PAGES + LINK_PAGES);
  for (const vm of ["a", "b"]) rig.ok("rm", { vm, force: true });
  assert.is(rig.kernel.freePages, free);
});

test("a restarted control domain keeps networks, and frees them later", () => {
  const vms = ["a", "b"].map((name) => vmSpec(name, { networks: [lan] }));
  const rig = new Rig({ spec: hostSpec(vms) });
  const before = rig.kernel.freePages;
  const trap = (): void => {
    rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  };
  trap();
  assert.is(rig.ok("status")["controlRestarts"], 1);
  assert.is(rig.kernel.freePages, before);
  assert.match(
    String(rig.error("create", { spec: vmSpec("c", { networks: [lan] }) })["message"]),
    'of "a" and "b"',
  );
  rig.ok("stop", { vm: "a", force: true }); // whose record comes first when the next one adopts them
  const one = rig.kernel.freePages;
  trap();
  assert.is(rig.kernel.freePages, one);
  assert.is(rig.state("b"), "running");
  rig.ok("start", { vm: "a" });
  assert.is(rig.kernel.freePages, before);
  const sides = ["a", "b"].map((vm) => told(rig, vm)[0]!.side);
  assert.is(sides[0]! + sides[1]!, 1);
  for (const vm of ["a", "b"]) rig.ok("rm", { vm, force: true });
  assert.ok(rig.kernel.freePages > before);
});

test("show tells what the device model says of a card, and what it is", () => {
  const rig = new Rig({ spec: hostSpec([vmSpec("a", { networks: [lan] })]) });
  count(rig, "a", 0, [4, 7, 8, 9, 10, 11]);
  count(rig, "a", 1, [0x100000001, 1, 2, 3, 400, 500, 6, 7, 80, 90, 10, 11]);
  const devices = rig.ok("show", { vm: "a" })["devices"] as Message[];
  assert.equal(devices[0], {
    device: "entropy",
    requests: 9,
    notifies: 7,
    interrupts: 8,
    bytesOut: 10,
    bytesIn: 11,
  });
  const { mac, ...card } = devices[1]!;
  assert.match(String(mac), /^52(:[0-9a-f]{2}){5}$/);
  assert.equal(card, {
    device: "net",
    network: "lan",
    link: "up",
    framesOut: 6,
    framesIn: 7,
    dropsOut: 10,
    dropsIn: 11,
    requests: 3,
    notifies: 1,
    interrupts: 2,
    bytesOut: 80,
    bytesIn: 90,
  });
  const text = rig.command("show a");
  assert.match(text, new RegExp(`network +lan, ${String(mac)}, link up`));
  assert.match(text, /sent +6 frames, 80 bytes; 10 dropped/);
  assert.match(text, /received +7 frames, 90 bytes; 11 dropped/);
});

test.run();
