// Parts of the cache and of memory bandwidth: what a CPU has, what tenants get of it, and what is refused.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Message } from "../../../control/protocol/node/cbor";
import { frameEncode } from "../../../control/protocol/node/frame";
import { hostCpuid } from "../model/host";
import { hostSpec, Rig, vmSpec } from "./rig";

/** A CPU with eleven ways in four classes, and delays of up to 90 % in eight. */
function withAllocation(leaf: number, subleaf: number, resources = 10): number[] {
  if (leaf === 7 && subleaf === 0) return [0, 0x029cefbf, 0, 0xbc000400];
  if (leaf !== 16) return hostCpuid(leaf, subleaf);
  return (
    [
      [0, resources, 0, 0],
      [10, 0x600, 4, 3],
      [0, 0, 0, 0],
      [89, 0, 4, 7],
    ][subleaf] ?? [0, 0, 0, 0]
  );
}

const rigWith = (...tenants: Message[]): Rig =>
  new Rig({ hostCpuid: withAllocation, spec: { ...hostSpec([vmSpec("a", { tenant: "red" })]), tenants } });

/** The ways and the delay of a tenant, 0: of the host; as the kernel was told. */
function partOf(rig: Rig, tenant: number): string {
  const [ways, delay] = rig.kernel.classes.get(rig.kernel.services.get(tenant)!)!;
  return `${ways.toString(2).padStart(11, "0")} ${delay}`;
}

test("tenants have whole ways that nobody else has, and their bandwidth; the host and all others the rest", () => {
  const rig = rigWith(
    { name: "red", cache: 50, bandwidth: 75 },
    { name: "blue", cache: 10 },
    { name: "green" },
  );
  const numbers = [0, 1, 2, 3, 4];
  const parts = numbers
    .filter((tenant) => rig.kernel.services.has(tenant))
    .map((tenant) => partOf(rig, tenant));
  assert.equal([...new Set(parts)].sort(), ["00000000111 0", "00111111000 20", "11000000000 0"]);
  assert.match(rig.command("tenants"), /red/);
  rig.ok("tenant.set", { spec: { name: "red", cache: 0, bandwidth: 0 } });
  assert.is(partOf(rig, 0), "00111111111 0");
  const before = [...rig.kernel.classes];
  rig.type(frameEncode({ id: 9999, op: "test.trap" }));
  assert.is(rig.kernel.traps.length, 1);
  rig.ok("hello", { version: 1 });
  assert.equal([...rig.kernel.classes], before, "a control domain that starts again sets the same");
});

test("what does not fit is refused, and nothing is changed", () => {
  const rig = rigWith({ name: "red", cache: 50 }, { name: "blue", bandwidth: 50 });
  const before = [...rig.kernel.classes];
  for (const [spec, text] of [
    [{ name: "blue", cache: 50 }, /with it, tenants have 12 of 11 ways of the cache, and one must be left/],
    [{ name: "blue", cache: 45 }, /with it, tenants have 11 of 11 ways/],
    [{ name: "blue", bandwidth: 9 }, /bandwidth is 9 %, the least is 10$/],
    [{ name: "blue", cache: 101 }, /cache is 101, it must be 0 to 100/],
  ] as const)
    assert.match(String(rig.error("tenant.set", { spec })["message"]), text);
  rig.ok("tenant.set", { spec: { name: "green", cache: 1 } });
  assert.match(
    String(rig.error("tenant.set", { spec: { name: "grey", cache: 1 } })["message"]),
    /no class of service is left for it, of 3$/,
  );
  rig.ok("tenant.rm", { tenant: "green" });
  assert.equal([...rig.kernel.classes].slice(0, before.length), before);
});

test("a CPU that cannot is named, by create, plan and hardware", () => {
  const rig = new Rig({ spec: hostSpec([]) });
  for (const [spec, text] of [
    [{ name: "red", cache: 30 }, /tenant "red": it has a part of the cache, and this CPU has no L3 CAT$/],
    [{ name: "red", bandwidth: 30 }, /part of the memory bandwidth, and this CPU has no linear MBA$/],
  ] as const) {
    assert.match(String(rig.error("tenant.set", { spec })["message"]), text);
    const { refusals } = rig.plan(rig.draft({ ...hostSpec([]), tenants: [spec] }));
    assert.match(String(refusals[0]!["message"]), text);
  }
  assert.is(rig.kernel.classes.size, 0);
  const names = (hardware: Message, field: string): string =>
    JSON.stringify(hardware[field]).replace(/[^a-z-]+/g, " ");
  assert.match(names(rig.ok("hardware"), "missing"), /cache-allocation.*bandwidth-allocation/);
  const has = names(rigWith({ name: "red" }).ok("hardware"), "features");
  assert.match(has, /cache-allocation bandwidth-allocation/);
  const cacheOnly = new Rig({ spec: hostSpec([]), hostCpuid: (leaf, n) => withAllocation(leaf, n, 2) });
  cacheOnly.ok("tenant.set", { spec: { name: "red", cache: 30 } });
  assert.match(
    String(cacheOnly.error("tenant.set", { spec: { name: "red", bandwidth: 30 } })["message"]),
    /MBA$/,
  );
});

test.run();
