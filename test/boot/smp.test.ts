// VMs of several vCPUs: stock Linux starts them by INIT and SIPI, and they share the host's one CPU.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const test = suite<{ host: Host }>("several vCPUs");

test.before(async (context) => {
  context.host = await Host.boot("smp");
  for (const vm of ["ada", "bob"]) await context.host.ok("stop", vm, "--force");
});
test.after(async (context) => context.host?.stop());

for (const vcpus of [2, 4]) {
  const vm = `smp${vcpus}`;

  test(`Linux on ${vcpus} vCPUs: all online, one clock, interrupts between them`, async ({ host }) => {
    const cmdline = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${vm}`;
    const images = ["--memory", "128M", "--kernel", "linux", "--initrd", "initrd", "--cmdline", cmdline];
    await host.ok("create", vm, ...images, "--vcpus", String(vcpus), "--start");
    await host.waitUp(vm);
    await host.type(vm, "nproc", `^${vcpus}$`);
    await host.type(vm, "dmesg | grep -c 'TSC warp'", "^0$");
    await host.type(vm, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource", "^tsc$");
    await host.type(vm, "grep CAL /proc/interrupts", "CAL: .*[1-9][0-9]* .*Function call interrupts");
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
