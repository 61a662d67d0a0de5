// The stress guest (test/guest/stress) on a host with so many CPUs: interrupts of all kinds between all vCPUs of a
// VM, page-table changes with TLB shoot-downs, devices. Afterwards every counter adds up: the guest's own, and the
// host's.

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { VmDetails } from "../../control/cli/client";
import { Host } from "./host";

const VM = "stress";
const LIMIT = "600s";

/** The two kinds of exit whose number the guest knows. */
function known(details: VmDetails): { cpuid: number; hlt: number } {
  return { cpuid: details.counters["cpuid"] ?? 0, hlt: details.counters["hlt"] ?? 0 };
}

function addsUp(details: VmDetails): void {
  const sum = Object.values(details.counters).reduce((total, one) => total + one, 0);
  assert.is(sum, details.exits, "all exits are of some kind");
}

export function stress(hostCpus: number, vcpus: number, rounds: number): void {
  const test = suite<{ host: Host }>(`${vcpus} vCPUs on ${hostCpus} CPUs`);

  test.before(async (context) => {
    context.host = await Host.boot(`stress-${hostCpus}`, join("build", "guests.iso"), hostCpus);
  });
  test.after(async (context) => context.host?.stop());

  test("every counter adds up", async ({ host }) => {
    const images = ["--memory", "32M", "--kernel", "stress", "--cmdline", `cpus=${vcpus} rounds=${rounds}`];
    await host.ok("create", VM, ...images, "--vcpus", String(vcpus), "--start");
    await host.ok("console", VM, "--expect", "^stress: ready", "--timeout", LIMIT);
    const before = await host.client.show(VM);
    addsUp(before);
    await host.ok("console", VM, "--send", "g", "--expect", "^stress: done", "--timeout", LIMIT);
    const after = await host.client.show(VM);
    addsUp(after);
    const output = await host.scrollback(VM);
    const told = /^stress: cpuid (\d+) hlt (\d+)$/m.exec(output);
    assert.ok(told, output);
    const { cpuid, hlt } = known(before);
    assert.is(known(after).cpuid - cpuid, Number(told![1]), "CPUID, here and there");
    // All vCPUs but the first have halted for good since they counted.
    const halts = known(after).hlt - hlt - Number(told![2]);
    assert.ok(halts >= 0 && halts < vcpus, `HLT, here and there: ${halts}\n${output}`);
    await host.ok("console", VM, "--send", "q", "--expect", "^result: success", "--timeout", LIMIT);
    await host.ok("rm", VM);
  });

  test.run();
}
