// A VM that is told that it goes on from a snapshot, later and as another one: stock Linux notices.
// rigs: AMD-V, VT-x (long)

import { join } from "node:path";
import { suite } from "uvu";
import { Host } from "./host";

const test = suite<{ host: Host }>("rebirth");
const VM = "lene";
const CLONE = "lene-again";
/** 2031-07-08 09:10:11 UTC. */
const LATER = 1941268211n;

test.before(async (context) => {
  const host = (context.host = await Host.boot("rebirth", join("build", "starts.iso")));
  // Debian's cloud kernel has no driver for the generation ID.
  const cmdline = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${VM}`;
  const images = ["--kernel", "vmlinux-generic", "--initrd", "initrd", "--cmdline", cmdline];
  await host.ok("create", VM, "--memory", "160M", "--vcpus", "2", ...images, "--start");
  await host.waitUp(VM);
});
test.after(async (context) => context.host?.stop());

function reborn(host: Host, generation: number, name: string, wallClock: bigint): Promise<void> {
  return host.client.reborn(VM, { name, generation: Buffer.alloc(16, generation), wallClock, clone: true });
}

/** How often dmesg says something. */
function said(host: Host, what: string, times: number): Promise<string> {
  return host.type(VM, `echo said $(dmesg | grep -c '${what}')`, `^said ${times}`);
}

/** Waits until it has had the device's event so often. */
function notified(host: Host, times: number): Promise<string> {
  const look = `grep '^ *${times} ' /sys/firmware/acpi/interrupts/gpe05`;
  return host.type(VM, `until ${look}; do usleep 100000; done`, `^ +${times} `);
}

test("it finds the device and nothing to complain about", async ({ host }) => {
  await host.type(VM, "cat /sys/bus/acpi/devices/PLIN0001:00/path", "^._SB_.VGEN");
  await host.type(VM, "cat /sys/firmware/acpi/interrupts/gpe05", "^ +0 +EN +enabled");
  await said(host, "ACPI.*[Ee]rror", 0);
  await said(host, "virtual machine fork", 0);
});

test("its random numbers begin anew with each generation ID, and only then", async ({ host }) => {
  await reborn(host, 1, VM, LATER);
  await host.type(
    VM,
    "until dmesg | grep 'due to virtual machine fork'; do usleep 100000; done",
    "crng reseeded",
  );
  await host.type(VM, "cat /sys/firmware/acpi/interrupts/gpe05", "^ +1 ");
  await reborn(host, 1, VM, LATER);
  await notified(host, 2);
  await said(host, "virtual machine fork", 1);
  await reborn(host, 2, VM, LATER);
  await notified(host, 3);
  await said(host, "virtual machine fork", 2);
});

test("its clock is right once it has read the RTC; its uptime has not jumped", async ({ host }) => {
  await host.type(VM, "date -u +%Y; echo read''y", "^ready");
  await reborn(host, 3, VM, LATER);
  await host.type(VM, "hwclock -s -u && date -u +%Y-%m-%d.%H:%M", "^2031-07-08.09:1[0-9]");
  await host.type(VM, "echo up for $(cut -d. -f1 /proc/uptime) s", "^up for [0-9]{1,3} s");
  await host.type(VM, "echo $(dmesg | grep -c -e lockup -e stall -e Clocksource)", "^0");
});

test("it has another serial number and UUID", async ({ host }) => {
  const tables = "strings /sys/firmware/dmi/tables/DMI | sed s/^/has:/";
  await host.type(VM, tables, `^has:${VM}\\s`);
  await reborn(host, 4, CLONE, LATER);
  await host.type(VM, tables, `^has:${CLONE}\\s`);
});

test.run();
