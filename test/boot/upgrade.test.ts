// The control component is replaced while VMs run, and a bad one gives way to the one before.
// rigs: VT-x, AMD-V

import { join } from "node:path";
import * as assert from "uvu/assert";
import { runCli } from "../cli/run-cli";
import { type Context, guestSuite, missedTicks } from "./guest-runner";
import { churn, settled } from "./upgrade";

const ROUNDS = 10;
const test = guestSuite("upgrade");

const cli = ({ rig }: Context, ...argv: string[]): ReturnType<typeof runCli> =>
  runCli({ path: rig.socketPath }, argv);

test("an image that traps is rolled back, a good one takes over", async (context) => {
  const { client } = context;
  const missed = await missedTicks(context);
  const booted = await settled(client);
  const bad = await cli(context, "control", "upgrade", join("build", "components", "image-traps.bin"));
  assert.is(bad.code, 1, bad.stderr);
  assert.match(bad.stderr, /failed, [0-9a-f]{12} is back; found 1 VM; trap: this image traps @ test/);
  assert.is(await settled(client), booted);
  const good = await cli(context, "control", "upgrade", "control-next");
  assert.is(good.code, 0, good.stderr);
  assert.is.not(await settled(client), booted);
  assert.is(await missedTicks(context), missed, "ticks that the neighbour missed");
});

test("upgrades and kills while three tenants' VMs come and go", (context) => churn(context, ROUNDS));

test.run();
