// Invalid states of a vCPU: the CPU refuses to enter them. Each ends its VM, with a dump, and nothing else.
// rigs: VT-x, AMD-V

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const STATES = ["cr3", "long-no-pae", "long-no-protection", "long-code"];
/** What VT-x refuses too. VMRUN checks less of a state (AMD APM volume 2, "VMRUN Instruction"). */
const VTX_STATES = ["no-protection", "no-code", "no-task", "rip", "flags"];
const refused = process.env.PLINTH_RIG === "qemu-tcg" ? STATES : [...STATES, ...VTX_STATES];

const test = suite<{ host: Host; free: number }>("bad entry");

test.before(async (context) => {
  context.host = await Host.boot("bad-entry", join("build", "bad-entry.iso"));
  context.free = await context.host.free();
});
test.after(async (context) => context.host?.stop());

for (const state of refused) {
  test(`an invalid state (${state}) ends its VM`, async ({ host, free }) => {
    const images = ["--memory", "16M", "--kernel", "spec", "--cmdline", state];
    await host.ok("create", "bad", ...images);
    await host.cli("start", "bad", "--wait", "--timeout", "60s");
    const end = Date.now() + 60_000;
    while ((await host.state("bad")) !== "crashed") assert.ok(Date.now() < end, "the VM does not end");
    assert.match((await host.client.show("bad")).reason, /entry failed/);
    const log = await host.ok("logs");
    assert.match(log.slice(log.lastIndexOf("exit reason 33")), /^exit reason 33\n.*rip .* rflags .*cs/);
    await host.ok("rm", "bad");
    assert.is(await host.free(), free);
  });
}

test.run();
