// A specification of three tenants and twelve VMs is applied, changed and removed a hundred times: each time the host has
// as much free memory as before, to the byte, and the control domain as many capabilities.
// rigs: AMD-V

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { TopSample, VmSpec } from "../../control/cli/results";
import { encodeHostSpec, type HostSpec } from "../../control/cli/spec";
import { Host } from "./host";

const ROUNDS = 100;
const CPUS = 2;
const MIB = 2 ** 20;
const TENANTS = ["red", "green", "blue"];
/** VMs of each. */
const EACH = 4;
const START_MS = 120_000;

const test = suite<{ host: Host }>("apply");

test.before(async (context) => {
  context.host = await Host.boot("apply", join("build", "guests.iso"), CPUS);
});
test.after(async (context) => context.host?.stop());

const EMPTY: HostSpec = { version: 1, host: { name: "guests" }, vms: [] };

/** The `n`th VM of a tenant: each has something else that takes memory and capabilities. */
function vmOf(tenant: string, n: number): VmSpec {
  const vm: VmSpec = { name: `${tenant}-${n}`, tenant, memory: 4 * MIB, kernel: "ticker", vcpus: 1 };
  if (n === 0) return { ...vm, vcpus: 3 };
  if (n === 1) return { ...vm, disks: [{ image: "ticker" }], ports: ["log"] };
  return { ...vm, networks: [{ network: tenant }], scheduling: "shared", weight: 50 };
}

function specOf(vms: VmSpec[], limits: object): HostSpec {
  const tenants = TENANTS.map((name) => ({ name, memory: 64 * MIB, vms: EACH, ...limits }));
  return { ...EMPTY, tenants, vms };
}

function full(): HostSpec {
  const vms = TENANTS.flatMap((tenant) => Array.from({ length: EACH }, (_, n) => vmOf(tenant, n)));
  return specOf(vms, { exits: 1_000_000, log: 1000 });
}

/** One of each tenant is gone, another one there, one larger, one has another weight; and the limits differ. */
function changed(round: number): HostSpec {
  const vms = TENANTS.flatMap((tenant) => {
    const [first, second, third] = Array.from({ length: EACH }, (_, n) => vmOf(tenant, (n + round) % EACH));
    const other = { ...vmOf(tenant, 0), name: `${tenant}-other` };
    return [first!, { ...second!, memory: 6 * MIB }, { ...third!, weight: 300 }, other];
  });
  return specOf(vms, { vcpus: 16, hypercalls: 100_000 });
}

/** Applies it, and waits until all of it runs. */
async function apply({ client }: Host, spec: HostSpec): Promise<void> {
  const plan = await client.plan(encodeHostSpec(spec));
  assert.equal(plan.refusals, []);
  const { steps } = await client.apply(plan);
  assert.ok(steps > 0);
  const names = spec.vms.map(({ name }) => name).sort();
  for (const end = Date.now() + START_MS; ;) {
    const rows = await client.list();
    assert.equal(rows.map(({ name }) => name).sort(), names);
    if (rows.every(({ state }) => state === "running")) return;
    assert.ok(Date.now() < end, JSON.stringify(rows));
  }
}

async function round(host: Host, number: number): Promise<TopSample> {
  for (const spec of [full(), changed(number), EMPTY]) await apply(host, spec);
  assert.equal(
    (await host.client.tenants()).map(({ name }) => name),
    ["default"],
  );
  return host.client.top();
}

test("a hundred times", async ({ host }) => {
  const first = await round(host, 0); // what grows with use has grown
  for (let number = 1; number <= ROUNDS; number++) {
    const { free, caps } = await round(host, number);
    assert.equal({ number, free, caps }, { number, free: first.free, caps: first.caps });
  }
  assert.equal(
    (await host.client.doctor()).filter((check) => !check.ok),
    [],
    "doctor",
  );
});

test.run();
