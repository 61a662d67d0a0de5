// The local APIC with and without APIC virtualization: as the kernel's command line says.
// rigs: VT-x

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const LIMIT = "170s";

for (const mode of ["off", "registers", "on"]) {
  const test = suite<{ host: Host }>(`apicv=${mode}`);

  test.before(async (context) => {
    context.host = await Host.boot(`apicv-${mode}`, join("build", `guests-apicv-${mode}.iso`));
  });
  test.after(async (context) => context.host?.stop());

  test("the host says what it uses", async ({ host }) => {
    const { features } = await host.client.status();
    assert.is(features.includes("apic-registers"), mode !== "off", features.join(" "));
    assert.is(features.includes("virtual-interrupts"), mode === "on", features.join(" "));
  });

  for (const guest of ["apic", "cr", "msr", "events"]) {
    test(guest, async ({ host }) => {
      await host.ok("create", guest, "--memory", "16M", "--kernel", guest, "--start");
      await host.ok("console", guest, "--expect", "^result: success", "--timeout", LIMIT);
      await host.ok("rm", guest, "--force");
    });
  }

  test("stress", async ({ host }) => {
    const images = ["--memory", "32M", "--kernel", "stress", "--cmdline", "cpus=4 rounds=30"];
    await host.ok("create", "stress", ...images, "--vcpus", "4", "--start");
    for (const [send, expect] of [
      ["g", "^stress: done"],
      ["q", "^result: success"],
    ] as const) {
      await host.ok("console", "stress", "--send", send, "--expect", expect, "--timeout", LIMIT);
    }
  });

  test.run();
}
