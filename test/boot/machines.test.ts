// QEMU as machines of 1 to 8 CPUs and 256 MiB to 8 GiB, on both boards: each to its shell, and a VM there.
// rigs: own

import { freemem } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Machine } from "../../boot/rigs/rig";
import { Host } from "./host";
import { Terminal } from "./terminal";

const MIB = 1 << 20;
/** What firmware keeps of the memory, at most, and the first MiB, which the kernel leaves alone. */
const KEPT = 8 * MIB;

const MACHINES: ["pc" | "q35", number, number][] = [
  ["pc", 1, 256],
  ["q35", 2, 1024],
  ["pc", 3, 4096],
  ["q35", 4, 512],
  ["pc", 5, 2048],
  ["q35", 6, 3072],
  ["pc", 7, 6144],
  ["q35", 8, 8192],
];

for (const [board, cpus, memoryMiB] of MACHINES) {
  const name = `${board}-${cpus}-${memoryMiB}`;
  // Idle CPUs zero free memory, so that an emulator may come to hold all of it.
  const room = freemem() > (memoryMiB + 1024) * MIB;
  if (!room) console.log(`skipped: ${name}: this machine has less than ${memoryMiB + 1024} MiB free`);

  (room ? test : test.skip)(`${board}, ${cpus} CPUs, ${memoryMiB} MiB`, async () => {
    const more = { rig: "qemu-tcg", memoryMiB, machine: { board } } as const;
    const host = await Host.boot(name, join("build", "chips.iso"), cpus, more);
    try {
      const status = await host.client.status();
      assert.is(status.cpus, cpus);
      const memory = memoryMiB * MIB;
      assert.ok(
        status.memory.total > memory - KEPT && status.memory.total <= memory,
        `${status.memory.total}`,
      );
      const hardware = await host.client.hardware();
      assert.equal([hardware.cpus.running, hardware.cpus.found], [cpus, cpus]);
      assert.is(hardware.cpus.apicIds.length, cpus);
      assert.is(hardware.memory.total, status.memory.total);

      const terminal = await Terminal.open(host.path);
      const said = await terminal.command("hardware");
      assert.match(said, new RegExp(`^CPUs +${cpus} of ${cpus} run$`, "m"));
      assert.match(said, /^memory +[\d,]+ MiB$/m);
      await terminal.command("create small memory=4M kernel=ticker");
      await terminal.close();
      await host.ok("console", "small", "--expect", "^ticks \\d+ ", "--timeout", "60s");
      assert.equal(await host.client.doctor().then((checks) => checks.filter((check) => !check.ok)), []);
    } finally {
      await host.stop();
    }
  });
}

/** Two nodes: one with three CPUs, one with a CPU and most of the memory. */
const NODES = [
  ...["-object", "memory-backend-ram,id=near,size=256M", "-numa", "node,nodeid=0,cpus=0-2,memdev=near"],
  ...["-object", "memory-backend-ram,id=far,size=768M", "-numa", "node,nodeid=1,cpus=3,memdev=far"],
];

for (const [device, kind, table] of [
  ["intel-iommu", "VT-d", "DMAR"],
  ["amd-iommu", "AMD-Vi", "IVRS"],
] as const) {
  test(`two NUMA nodes and an IOMMU: ${device}`, async () => {
    const devices = ["-device", device, "-device", "e1000e,addr=5", "-device", "nvme,serial=1,addr=6"];
    const machine: Machine = { board: "q35", options: [...NODES, ...devices] };
    const more = { rig: "qemu-tcg", memoryMiB: 1024, machine } as const;
    const host = await Host.boot(device, join("build", "chips.iso"), 4, more);
    try {
      const hardware = JSON.parse(await host.ok("hardware", "--json")) as Awaited<
        ReturnType<typeof host.client.hardware>
      >;
      assert.equal(
        hardware.numa.map(({ node, cpus }) => [node, cpus]),
        [
          [0, 3],
          [1, 1],
        ],
      );
      const memory = hardware.numa.map((node) => node.memory);
      assert.ok(Math.abs(memory[0]! - 256 * MIB) <= MIB && memory[1] === 768 * MIB, String(memory));
      assert.equal([hardware.iommu.kind, hardware.iommu.units], [kind, 1]);
      assert.is(hardware.firmware.kind, "BIOS");
      for (const name of [table, "SRAT"]) assert.ok(hardware.firmware.tables.includes(name), name);
      const classes = new Map(hardware.pci.map((one) => [one.at, `${one.class} ${one.text}`]));
      assert.equal(
        [classes.get("00:05.0"), classes.get("00:06.0")],
        ["0200 Ethernet controller", "0108 NVMe controller"],
      );
      assert.is([...classes.values()].includes("0806 IOMMU"), device === "amd-iommu");
      const text = await host.ok("hardware");
      assert.match(text, new RegExp(`${kind}, 1 unit\\b`));
      assert.match(text, /2 nodes/);
      assert.match(text, /00:05\.0 .*Ethernet controller/);
      const doctor = await host.client.doctor();
      const said = (name: string): string => doctor.find((check) => check.name === name)!.text;
      assert.is(said("numa"), "2 NUMA nodes");
      assert.match(said("iommu"), new RegExp(`^${kind} with 1 unit`));
    } finally {
      await host.stop();
    }
  });
}

test.run();
