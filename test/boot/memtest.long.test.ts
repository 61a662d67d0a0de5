// A whole pass of Debian's memtest86+ over a small VM, by the 64-bit entry point: it finds no error.

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

let host: Host;

test.before(async () => {
  host = await Host.boot("memtest", join("build", "starts.iso"));
});
test.after(async () => host?.stop());

test("memtest86+ passes", async () => {
  const options = ["--kernel", "memtest-x64", "--cmdline", "console=ttyS0,115200"];
  await host.ok("create", "memtest", "--memory", "5M", ...options, "--start");
  await host.ok("console", "memtest", "--expect", "Pass: +1", "--timeout", "60m");
  const screen = await host.scrollback("memtest");
  assert.match(screen, /Pass: +1 +Errors: 0/);
  assert.not.match(screen, /Errors: [1-9]/);
});

test.run();
