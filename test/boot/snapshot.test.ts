// Snapshots of a running Linux VM: it is kept while it works, copied twice, and goes back; and a ticking guest that is
// kept misses no tick. Its pages go over the second serial line, while the first one answers.
// rigs: VT-x, AMD-V

import { statSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect } from "../../control/cli/client";
import { pipeline } from "../../control/cli/snapshot/pipeline";
import { bulkBeside } from "../../control/cli/transport";
import { DEMO_ISO, Host } from "./host";

const PAGE = 4096;
/** Pages that are read over the second line; Bochs's UART is as slow as a real one. */
const PAGES = 24;

let host: Host;

test.before(async () => {
  host = await Host.boot("snapshot", DEMO_ISO, 1, { memoryMiB: 768 });
  await host.waitUp("ada");
});

test.after(async () => host?.stop());

/** How long a VM stood still for a snapshot. */
async function pauseOf(name: string): Promise<{ ticks: number; us: number }> {
  const document = JSON.parse(await host.ok("snapshot", "show", name, "--json")) as Record<string, number>;
  const ticks = document["pauseTicks"]!;
  return { ticks, us: Math.round((ticks * 1e6) / document["tscHz"]!) };
}

test("a VM is kept while it works, and copied twice", async () => {
  const before = await host.free();
  await host.type("ada", "echo first > /tmp/file; echo done", "^done");
  await host.startTicks("ada");
  await host.ok("snapshot", "create", "ada", "first");
  const { ticks, us } = await pauseOf("first");
  console.log(`\nada stood still for ${ticks} TSC ticks, ${us} us`);
  await host.waitTick("ada");
  await host.ok("snapshot", "clone", "first", "eve");
  await host.ok("snapshot", "clone", "first", "fay");
  for (const vm of ["eve", "fay"]) {
    await host.type(vm, `cat /tmp/file; echo ${vm} > /tmp/file`, "^first");
    await host.type(vm, "cat /tmp/file", `^${vm}`);
  }
  await host.type("ada", "cat /tmp/file", "^first");
  await host.missedNoTick("ada");
  for (const vm of ["eve", "fay"]) await host.ok("rm", vm, "--force");
  assert.is(await host.state("eve"), "absent");
  await host.type("ada", "echo second > /tmp/file; echo done", "^done");
  await host.ok("snapshot", "restore", "first", "--force");
  await host.type("ada", "cat /tmp/file", "^first");
  await host.ok("snapshot", "rm", "first");
  const { controlRestarts } = await host.client.status();
  assert.is(controlRestarts, 0);
  // The tables of memory that was copied page by page stay.
  const gone = before - (await host.free());
  assert.ok(gone < 1 << 20, `${gone} bytes are not free again`);
});

test("a VM that is gone comes back", async () => {
  await host.type("ada", "echo kept > /tmp/kept; echo done", "^done");
  await host.ok("snapshot", "create", "ada", "kept");
  await host.ok("rm", "ada", "--force");
  await host.ok("snapshot", "restore", "kept");
  await host.type("ada", "cat /tmp/kept", "^kept");
  await host.ok("snapshot", "rm", "kept");
});

test("pages go over the second line; the shell and requests on the first one are answered meanwhile", async () => {
  await host.ok("snapshot", "create", "ada", "pages");
  const bulk = bulkBeside({ kind: "socket", path: host.path });
  assert.ok(bulk, "the rig offers a second line");
  const client = await connect(host.path, { bulk, notice: (text) => console.log(text) });
  try {
    const before = statSync(host.rig.serialLog).size;
    let read = 0;
    let answers = 0;
    const start = Date.now();
    const numbers = Array.from({ length: PAGES }, (_, n) => 4096 + n);
    const reading = (async () => {
      for await (const [, data] of pipeline(numbers, 4, (n) => client.readSnapshot("pages", "memory", n))) {
        assert.is(data.length, PAGE);
        read++;
      }
      return Date.now() - start;
    })();
    while (read < PAGES) {
      const prompt = new Promise((resolve) => host.client.line.once("prompt", resolve));
      host.client.line.write(Buffer.from("vms\r"));
      await Promise.all([host.client.list(), prompt]);
      if (read < PAGES) answers++;
    }
    const ms = await reading;
    const said = statSync(host.rig.serialLog).size - before;
    console.log(
      `\n${PAGES * PAGE} bytes in ${ms} ms, ${answers} answers of the shell meanwhile in ${said} bytes`,
    );
    assert.ok(answers > 1, `${answers} answers`);
    assert.ok(said < 2000 * (answers + 2), `${said} bytes on the first line`);
  } finally {
    await client.close();
  }
  await host.ok("snapshot", "rm", "pages");
});

test.run();
