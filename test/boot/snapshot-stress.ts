// Stock Linux under stress (stress-linux.ts) is kept again and again while it works, and goes back to what was kept, at
// random. At the end its memory, its disk, its clocks and its own counters are right.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Random } from "../cli/random";
import { Host } from "./host";
import { createStressed, LIMIT, STRESS_ISO, stressReport } from "./stress-linux";

const VM = "linux";
const VCPUS = 2;
/** Snapshots that are kept at a time, and how many are made for each time the VM goes back. */
const KEPT = 4;
const PER_RESTORE = 3;

export function snapshotStress(snapshots: number, rounds: number): void {
  const test = suite<{ host: Host }>(`${snapshots} snapshots of a VM under stress`);
  test.before(async (context) => {
    context.host = await Host.boot("snapshot-stress", STRESS_ISO, 2, { memoryMiB: 640 });
  });
  test.after(async (context) => context.host?.stop());

  test("what it goes back to is whole", async ({ host }) => {
    const random = new Random(snapshots);
    const kept: string[] = [];
    const pick = (): string => kept[random.below(kept.length)]!;
    await createStressed(host, VM, VCPUS);
    const free = await host.free();
    const command = `stress ${rounds} /dev/vda\\n`;
    await host.ok("console", VM, "--send", command, "--expect", "^stress: ready", "--timeout", LIMIT);
    await host.ok("console", VM, "--send", "\\n");
    for (let n = 1; n <= snapshots; n++) {
      await host.ok("snapshot", "create", VM, `s${n}`);
      kept.push(`s${n}`);
      if (kept.length > KEPT) {
        const gone = pick();
        await host.ok("snapshot", "rm", gone);
        kept.splice(kept.indexOf(gone), 1);
      }
      if (n % PER_RESTORE === 0) await host.ok("snapshot", "restore", pick(), "--force");
    }
    for (const name of kept) await host.ok("snapshot", "rm", name);
    await host.ok("console", VM, "--expect", "^stress: finished", "--timeout", LIMIT);
    await host.ok("console", VM, "--send", "\\n", "--expect", "^stress: done", "--timeout", LIMIT);
    (await stressReport(host, VM)).check(VCPUS, rounds);
    const left = free - (await host.free());
    assert.ok(left < 2 << 20, `${left} bytes have not come back`);
    assert.is((await host.client.status()).controlRestarts, 0);
  });

  test.run();
}
