// A VM with more memory than fits below the PCI hole: Linux finds all of it, and uses what lies above 4 GiB.
// rigs: AMD-V

import { test } from "uvu";
import * as assert from "uvu/assert";
import { DEMO_ISO, Host } from "./host";

const VM = "gulliver";
const GIB = 2 ** 30;
const PAGE = 4096;
const HIGH_PAGES = GIB / 2 / PAGE;

let host: Host;

test.before(async () => {
  host = await Host.boot("large", DEMO_ISO, 1, { memoryMiB: 6144 });
  for (const vm of ["ada", "bob"]) await host.ok("stop", vm, "--force");
});
test.after(async () => host?.stop());

test("3 GiB below the hole, and a half from 4 GiB on", async () => {
  const cmdline = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${VM}`;
  const images = ["--kernel", "linux", "--initrd", "initrd", "--cmdline", cmdline];
  await host.ok("create", VM, "--memory", "3584M", ...images, "--start", "--timeout", "10m");
  await host.ok("console", VM, "--expect", `${VM} is up`, "--timeout", "20m");
  await host.type(VM, "dmesg | grep -c 'BIOS-e820.*0000100000000-0x000000011fffffff. usable'", "^1");
  const total = await host.type(VM, "grep MemTotal /proc/meminfo", "MemTotal: +\\d+ kB");
  const kib = Number(/MemTotal: +(\d+)/.exec(total)?.[1]);
  assert.ok(kib > 3.3 * 2 ** 20 && kib < 3.5 * 2 ** 20, `${kib} KiB`);
  // The zone from 4 GiB on is what Linux takes first.
  const zone = "grep -A100 'zone *Normal' /proc/zoneinfo | grep -m3 -E 'pages free|spanned|start_pfn'";
  await host.type(VM, zone, `spanned +${HIGH_PAGES}\\s+start_pfn: +${(4 * GIB) / PAGE}`);
  const copy = "dd if=/dev/urandom of=/tmp/a bs=1M count=64 2>/dev/null; cp /tmp/a /tmp/b; cmp /tmp/a /tmp/b";
  await host.type(VM, `${copy}; echo same $?`, "^same 0");
  const used = await host.type(VM, zone, "pages free +\\d+\\s+spanned");
  const free = Number(/pages free +(\d+)/.exec(used)?.[1]);
  assert.ok(free < HIGH_PAGES - 32768, `${free} pages above 4 GiB are free`);
});

test.run();
