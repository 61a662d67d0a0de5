// A migration between two hosts on rigs is ended at each of its phases (cli/migrate-sweep.ts): the VM has missed no tick.
// rigs: AMD-V

import { join } from "node:path";
import * as assert from "uvu/assert";
import { migrationSweep } from "../cli/migrate-sweep";
import { Host, runDir } from "./host";

/** The tick guest prints a line every ten ticks, or a little later. */
const STEP = 10;

migrationSweep({
  name: "a migration between rigs that is ended at each phase",
  folder: runDir("sweep-home"),
  boot: (n) => Host.boot(`sweep-${n}`, join("build", "guests.iso"), 1, { memoryMiB: 192 }),
  create: (host, vm) =>
    host.client.create({ name: vm, memory: 4 << 20, kernel: "ticker", start: true }).then(() => undefined),
  /** Its last tick. What it has printed is whole: each line is there once and in order. */
  async progress(host, vm) {
    const text = await (host as Host).scrollback(vm);
    const lines = [...text.matchAll(/^ticks (\d+) missed (\d+) .*$/gm)];
    if (lines.length === 0) return 0;
    const first = Math.floor(Number(lines[0]![1]) / STEP);
    lines.forEach(([line, ticks], count) => {
      const late = Number(ticks) - (first + count) * STEP;
      assert.ok(late >= 0 && late < STEP, `${line} is line ${count} behind ${lines[0]![0]}`);
    });
    return Number(lines.at(-1)![1]);
  },
});
