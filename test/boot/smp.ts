// VMs of several vCPUs on a host of one or several CPUs: stock Linux starts them by INIT and SIPI, and is stressed.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";
import { createStressed, STRESS_ISO, stressLinux } from "./stress-linux";

const ROUNDS = 8;

/** The tests of VMs with so many vCPUs, one after the other, on a host with `cpus` CPUs. */
export function smpTests(cpus: number, counts: number[]): void {
  const test = suite<{ host: Host }>(`several vCPUs, host with ${cpus} CPU`);

  test.before(async (context) => {
    context.host = await Host.boot(`smp-${cpus}`, STRESS_ISO, cpus);
  });
  test.after(async (context) => context.host?.stop());

  test("the host uses all its CPUs", async ({ host }) => {
    assert.is((await host.client.status()).cpus, cpus);
  });

  for (const vcpus of counts) {
    const vm = `smp${vcpus}`;

    test(`Linux on ${vcpus} vCPUs: all online, one clock, interrupts between them`, async ({ host }) => {
      await createStressed(host, vm, vcpus);
      await host.type(vm, "nproc", `^${vcpus}$`);
      await host.type(vm, "dmesg | grep -c 'TSC warp'", "^0$");
      const clock = host.rig.kind === "qemu-tcg" ? "kvm-clock" : "tsc"; // its CPU has no invariant TSC
      await host.type(
        vm,
        "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
        `^${clock}$`,
      );
      await host.type(vm, "dmesg | grep -c 'kvm-clock: Using msrs 4b564d01 and 4b564d00'", "^1$");
      // Stolen time: its vCPUs wait for one another.
      if (vcpus > cpus) await host.type(vm, "grep -c '^cpu  .* [1-9][0-9]* 0 0$' /proc/stat", "^1$");
      await host.type(vm, "grep CAL /proc/interrupts", "CAL: .*[1-9][0-9]* .*Function call interrupts");
    });

    test(`${vm} under stress: its data are right, and every counter adds up`, async ({ host }) => {
      await stressLinux(host, vm, vcpus, ROUNDS);
    });

    test(`${vm}: pause, resume, and the end of all its vCPUs`, async ({ host }) => {
      await host.ok("pause", vm);
      await host.ok("resume", vm);
      await host.type(vm, "echo on", "^on$");
      await host.cli("console", vm, "--send", "poweroff\\n", "--timeout", "60s");
      const end = Date.now() + 60_000;
      while ((await host.state(vm)) !== "stopped") assert.ok(Date.now() < end, `${vm} does not stop`);
      await host.ok("rm", vm);
    });
  }

  test.run();
}
