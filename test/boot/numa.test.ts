// Two NUMA nodes in QEMU, each a file: two VMs come to be on both, and their memory is in the file of which it is said.
// rigs: own

import { mkdirSync, openSync, readSync, closeSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const MIB = 1 << 20;
const NODE_MIB = 384;
const TICKER = ["--kernel", "ticker", "--start"];
const DIR = resolve("build", "run", "numa-nodes");
const FILES = [0, 1].map((node) => join(DIR, `node${node}`));

/** A node with two of the CPUs, and memory that is a file. */
const nodeOptions = (node: number): string[] => [
  "-object",
  `memory-backend-file,id=m${node},size=${NODE_MIB}M,mem-path=${FILES[node]!},share=on`,
  "-numa",
  `node,nodeid=${node},cpus=${2 * node}-${2 * node + 1},memdev=m${node}`,
];

/** How often each node's memory has these bytes. */
function occurrences(bytes: Buffer): number[] {
  const piece = Buffer.alloc(16 * MIB);
  return FILES.map((path) => {
    const file = openSync(path, "r");
    let count = 0;
    for (let size = 0; (size = readSync(file, piece)) > 0;)
      for (let at = -1; (at = piece.subarray(0, size).indexOf(bytes, at + 1)) >= 0;) count++;
    closeSync(file);
    return count;
  });
}

test("two VMs are on two nodes, and their memory is where it is said to be", async () => {
  rmSync(DIR, { recursive: true, force: true });
  mkdirSync(DIR, { recursive: true });
  const machine = { board: "q35", options: [0, 1].flatMap(nodeOptions) } as const;
  const more = { rig: "qemu-tcg", memoryMiB: 2 * NODE_MIB, machine } as const;
  const host = await Host.boot("numa", join("build", "chips.iso"), 4, more);
  try {
    const said: number[] = [];
    for (const name of ["one", "two"]) {
      const marker = `marker=${name}-of-its-own`;
      await host.ok("create", name, ...TICKER, "--memory", "64M", "--cmdline", marker);
      await host.ok("console", name, "--expect", "^ticks \\d+ ", "--timeout", "60s");
      const { nodes, cpus } = await host.client.show(name);
      assert.is(nodes?.length, 1, JSON.stringify(nodes));
      const [{ node, memory }] = nodes as [{ node: number; memory: number }];
      assert.is(memory, 64 * MIB);
      assert.ok(
        cpus!.every((cpu) => cpu >> 1 === node),
        `node ${node}, CPUs ${String(cpus)}`,
      );
      /* Its memory and its link have it; on node 0 the control domain has it, too. */
      const found = occurrences(Buffer.from(marker));
      assert.ok(found[node]! >= 2 && (node === 1 || found[1] === 0), `${String(found)}; node ${node}`);
      said.push(node);
    }
    assert.equal(said.sort(), [0, 1]);

    /* More than a node has is on both, the one that is better first; what it has free is told. */
    await host.ok("create", "wide", ...TICKER, "--memory", "400M");
    await host.ok("console", "wide", "--expect", "^ticks \\d+ ", "--timeout", "60s");
    const wide = (await host.client.show("wide")).nodes!;
    assert.is(
      wide.reduce((sum, { memory }) => sum + memory, 0),
      400 * MIB,
    );
    assert.is(wide.length, 2);
    const free = (await host.client.hardware()).numa.map((node) => node.free!);
    assert.ok(Math.min(...free) < 8 * MIB && Math.max(...free) > 100 * MIB, String(free));
    const asks = [...TICKER, "--memory", "300M", "--node", "0"];
    await host.refused(1, [/VM "x": needs 30\d.* are free/], "create", "x", ...asks);
    await host.ok("rm", "wide", "--force");
    const back = (await host.client.hardware()).numa.map((node) => node.free!);
    assert.ok(
      back.every((bytes) => bytes > 200 * MIB),
      String(back),
    );
    assert.match(await host.ok("show", "two"), /64 MiB on node [01]/);
    assert.equal(
      (await host.client.doctor()).filter((check) => !check.ok),
      [],
    );
  } finally {
    await host.stop();
    rmSync(DIR, { recursive: true, force: true });
  }
});

test.run();
