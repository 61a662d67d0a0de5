// A hundred clones of one Linux VM, on a host with 2 GiB: each answers on its console, under its own name.
// rigs: AMD-V

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const CLONES = 100;

let host: Host;

test.before(async () => {
  host = await Host.boot("clones", undefined, 1, { memoryMiB: 2048 });
  await host.waitUp("ada");
});
test.after(async () => host?.stop());

test("a hundred clones answer, each under its own name, and are gone again", async () => {
  const before = await host.free();
  await host.ok("snapshot", "create", "ada", "warm");
  const names = Array.from({ length: CLONES }, (_, n) => `clone-${n + 1}`);
  for (const name of names) await host.ok("snapshot", "clone", "warm", name, "--overcommit");
  for (const name of names)
    await host.type(name, "strings /sys/firmware/dmi/tables/DMI | sed s/^/has:/", `^has:${name}\\s`);
  const rows = await host.client.list();
  assert.is(rows.filter((row) => row.state === "running").length, CLONES + 2);
  for (const name of names) await host.ok("rm", name, "--force");
  await host.ok("snapshot", "rm", "warm");
  const left = before - (await host.free());
  assert.ok(left < 2 << 20, `${left} bytes have not come back`);
  assert.is((await host.client.status()).controlRestarts, 0);
});

test.run();
