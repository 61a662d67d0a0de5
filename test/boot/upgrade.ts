// Upgrades, roll-backs and kills of the control component at random, while specifications are applied.

import * as assert from "uvu/assert";
import { readAudit } from "../../control/cli/audit";
import type { Client } from "../../control/cli/client";
import { ErrorCode, PlinthError } from "../../control/cli/errors";
import type { VmSpec } from "../../control/cli/results";
import { encodeHostSpec, type HostSpec } from "../../control/cli/spec";
import { Random } from "../cli/random";
import { type Context, missedTicks, row } from "./guest-runner";

const TICKER = "neighbour";
/** More often than so many milliseconds apart, the kernel would take it for a component that cannot run. */
const BETWEEN_KILLS_MS = 1500;
/** Longer than an upgrade takes from its reply to its restart. */
const CHANGE_MS = 2500;
/** What goes wrong for a program whose control domain ends meanwhile. */
const DISTURBED: readonly number[] = [ErrorCode.UNREACHABLE, ErrorCode.WRONG_STATE];

/** Three tenants with `each` VMs, of which one differs from spec to spec. */
function specOf(neighbour: VmSpec, each: number): HostSpec {
  const tenants = ["red", "green", "blue"].map((name) => ({ name, vms: 4, vcpus: 4 }));
  const vms = tenants.flatMap(({ name }, n) =>
    Array.from({ length: each + (n % 2) }, (_, i) => ({
      name: `${name}-${i}`,
      tenant: name,
      memory: 4 << 20,
      kernel: "ticker",
    })),
  );
  return { version: 1, host: { name: "guests" }, tenants, vms: [neighbour, ...vms] };
}

async function applySpec(client: Client, spec: HostSpec): Promise<number> {
  const plan = await client.plan(encodeHostSpec(spec));
  assert.equal(plan.refusals, []);
  return plan.steps.length > 0 ? (await client.apply(plan)).steps : 0;
}

async function removeOthers(client: Client): Promise<void> {
  for (const { name } of await client.list()) if (name !== TICKER) await client.remove(name, true);
}

/** The same, if nothing comes between. */
async function tolerant(work: Promise<unknown>): Promise<void> {
  await work.catch((error: Error) => {
    if (!(error instanceof PlinthError) || !DISTURBED.includes(error.code)) throw error;
  });
}

/** Waits until no image is on trial; returns the hash of the one that runs. */
export async function settled(client: Client): Promise<string> {
  for (;;) {
    const { control } = await client.status();
    if (!control!.trial) return control!.image;
  }
}

/** An image that was not booted takes memory: so one runs at the start and at the end. */
async function replace(client: Client): Promise<void> {
  const { controlRestarts } = await client.status();
  await client.upgrade({ image: "control-next" });
  while ((await client.status()).controlRestarts === controlRestarts);
  await settled(client);
}

/** So many rounds; afterwards nothing is missing, nothing was missed, and the audit log is whole. */
export async function churn(context: Context, rounds: number): Promise<void> {
  const { client } = context;
  const random = new Random(rounds);
  const neighbour = (await client.show(TICKER)).spec;
  const specs = [0, 1, 2].map((each) => specOf(neighbour, each));
  for (const spec of [...specs].reverse()) await applySpec(client, spec); // what grows with use has grown
  await removeOthers(client);
  await replace(client);
  const missed = await missedTicks(context);
  const free = (await client.status()).memory.free;
  const done = { kill: 0, "control-next": 0, control: 0, "image-late": 0 };
  const kinds = ["kill", "control-next", "control", "image-late"] as const;
  let killed = 0;
  for (let n = 0; n < rounds; n++) {
    const work = tolerant(applySpec(client, specs[random.below(specs.length)]!));
    for (let looks = random.below(8); looks > 0; looks--) await client.status();
    const kind = kinds[random.below(kinds.length)]!;
    done[kind]++;
    while (kind === "kill" && (await client.status()).uptimeMs < killed + BETWEEN_KILLS_MS);
    if (kind === "kill") {
      killed = (await client.status()).uptimeMs;
      await client.trap();
    } else {
      await tolerant(client.upgrade({ image: kind }));
    }
    await work;
    if (random.below(2) === 0) await settled(client);
    assert.is((await row(client, TICKER))?.state, "running");
  }
  const { uptimeMs } = await client.status();
  while ((await client.status()).uptimeMs < uptimeMs + CHANGE_MS);
  await settled(client);
  await replace(client);
  const all = specs.at(-1)!;
  await applySpec(client, all);
  assert.equal((await client.list()).map(({ name }) => name).sort(), all.vms.map(({ name }) => name).sort());
  await removeOthers(client);
  assert.is((await client.status()).memory.free, free, "free memory, to the byte");
  assert.is(await missedTicks(context), missed, "ticks that the neighbour missed");
  await readAudit(client);
  console.log(`${rounds} rounds: ${JSON.stringify(done)}`);
}
