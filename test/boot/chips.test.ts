// The test guests that are about devices: a chip each, PCI, and what a driver must not do with virtio's rings.
// rigs: VT-x, AMD-V

import * as assert from "uvu/assert";
import { after, before, create, guestSuite, LINE_LIMIT_MS, row, runGuest } from "./guest-runner";

const test = guestSuite("chips");

for (const kernel of ["pic", "pit", "rtc", "acpi", "uart", "pci", "rings"]) {
  test(kernel, (context) => runGuest(context, kernel));
}

// The ports that drive its inputs come with it.
test("ioapic", (context) => runGuest(context, "ioapic", { debugExit: true }));

// By the keyboard controller, the PS/2 port, and the register that the ACPI tables name.
for (const [port, value] of [
  [0x64, 0xfe],
  [0x92, 0x01],
  [0xcf9, 0x06],
]) {
  test(`reset by port 0x${port!.toString(16)}`, async (context) => {
    const { client } = context;
    await before(context);
    const since = await client.lastEvent();
    await create(client, "reset", "reset", { cmdline: `port=${port} value=${value}` });
    const isReset = async (): Promise<boolean> =>
      (await client.events(since)).events.some(({ vm, kind }) => vm === "reset" && kind === "vm-reset");
    const end = Date.now() + LINE_LIMIT_MS;
    while (!(await isReset()))
      assert.ok(Date.now() < end, `the VM is ${(await row(client, "reset"))?.state}`);
    await after(context, "reset");
  });
}

test.run();
