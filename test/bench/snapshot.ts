// Measures snapshots of stock Linux: how long a VM stands still, what making one and going back cost, a clone's way to
// its first instruction and the memory that it has for itself, and what a write to shared memory costs.
import { join } from "node:path";

import { Host } from "../boot/host";
import { creationOf } from "./linux";
import { inMillions, kib, type Row } from "./row";

/** Of the host's clock, each of whose ticks is an instruction. */
const TICKS_PER_US = 100;

/** The VM's memory, the host's, and whether there is as much again to keep for writes. */
const SIZES: [mib: number, hostMib: number, overcommit: boolean][] = [
  [128, 1024, false],
  [512, 1536, false],
  [2048, 2816, true],
];

/** Clones whose memory is counted, and how long they are idle before. */
const CLONES = 8;
const IDLE_US = 5_000_000;
/** The clone that is compared with the first one: with the VM that they come from it is the last but one. */
const LATE_CLONE = 30;

/** Microseconds of the control domain and the kernel: what was neither idle nor a VM's or a device model's. */
async function busyUs(host: Host): Promise<number> {
  const { time, idle, past, vms } = await host.client.top();
  return time - idle - past - vms.reduce((sum, { run, model }) => sum + run + model, 0);
}

/** Instructions of both for what is done, with the request and its reply, but those of asking for the time. */
async function costOf(host: Host, work: () => Promise<unknown>): Promise<number> {
  const before = await busyUs(host);
  const asked = await busyUs(host);
  await work();
  const after = await busyUs(host);
  return (after - asked - (asked - before)) * TICKS_PER_US;
}

async function pauseOf(host: Host, snapshot: string): Promise<number> {
  return Number((await host.client.showSnapshot(snapshot)).pauseTicks);
}

/** What is typed before the shell has asked for it can get lost. */
async function waitPrompt(host: Host, vm: string): Promise<void> {
  await host.ok("console", vm, "--expect", "# $", "--timeout", "90s");
}

async function createLinux(host: Host, mib: number): Promise<void> {
  await host.createLinux("linux", `${mib}M`);
  await waitPrompt(host, "linux");
}

/** Changes much of a VM's memory. */
async function work(host: Host): Promise<void> {
  await host.type(
    "linux",
    "dd if=/dev/zero of=/tmp/work bs=64k count=160 2>/dev/null; echo worked $?",
    "^worked 0",
  );
  await waitPrompt(host, "linux");
}

/** Two snapshots of a VM of this size: it works before each of them. */
async function sizeRows([mib, hostMib, overcommit]: (typeof SIZES)[0]): Promise<Row[]> {
  const host = await Host.boot("bench-snapshot", join("build", "bench-plain.iso"), 1, { memoryMiB: hostMib });
  const { client } = host;
  const budget = "40 M";
  try {
    await createLinux(host, mib);
    const costs: number[] = [];
    for (const name of ["first", "second"]) {
      await work(host);
      costs.push(await costOf(host, () => client.createSnapshot("linux", { name, overcommit })));
    }
    const pauses = [await pauseOf(host, "first"), await pauseOf(host, "second")];
    const rows: Row[] = [
      {
        what: `pause of a snapshot, Linux with ${mib} MiB; of the second one, after work`,
        measured: pauses.map(inMillions).join(", "),
        budget: "1 M",
      },
      {
        what: "... and all instructions of making them, control domain and kernel",
        measured: costs.map(inMillions).join(", "),
        budget,
      },
    ];
    await work(host);
    const back = await costOf(host, () => client.restoreSnapshot("first", { force: true, overcommit }));
    await host.type("linux", "echo back $?", "^back 0");
    return [...rows, { what: "... and of going back to the first", measured: inMillions(back), budget }];
  } finally {
    await host.stop();
  }
}

/** Waits until the host is so much older. */
async function pass(host: Host, us: number): Promise<void> {
  const { time } = await host.client.top();
  while ((await host.client.top()).time < time + us);
}

/** Writes of a clone of the tiny guest, whose memory is shared with the VM that it comes from. */
async function writeRows(host: Host): Promise<Row[]> {
  const words = ["--cmdline", "write"];
  await host.ok("create", "bench", "--memory", "256M", "--kernel", "bench", ...words, "--start");
  await host.ok("console", "bench", "--expect", "bench: waiting", "--timeout", "170s");
  await host.client.createSnapshot("bench", { name: "bench", overcommit: true });
  await host.client.cloneSnapshot("bench", "writer", { overcommit: true });
  await host.type("writer", "", "bench: done");
  const output = await host.scrollback("writer");
  const ticks = (name: string): string => new RegExp(`^bench: ${name} (\\d+)`, "m").exec(output)![1]!;
  for (const vm of ["bench", "writer"]) await host.ok("rm", vm, "--force");
  await host.client.removeSnapshot("bench");
  return [
    {
      what: "first write of a clone to a shared large page; the next to other pages of it; again",
      measured: ["write-split", "write-copy", "write-again"].map(ticks).join(", "),
      budget: "",
    },
  ];
}

/** Free memory before and after some clones that are idle. */
async function memoryRow(host: Host): Promise<Row> {
  await pass(host, IDLE_US);
  const before = await host.free();
  for (let n = 0; n < CLONES; n++)
    await host.client.cloneSnapshot("linux", `clone-${n}`, { overcommit: true });
  await pass(host, IDLE_US);
  const each = (before - (await host.free())) / CLONES;
  for (let n = 0; n < CLONES; n++) await host.client.remove(`clone-${n}`, true);
  return {
    what: `memory of an idle clone of Linux, but what it shares, after ${IDLE_US / 1e6} s`,
    measured: kib(each),
    budget: "256 KiB",
  };
}

/** The host's log when one more VM has run its first instruction. */
async function firstInstruction(host: Host, work: () => Promise<unknown>): Promise<string> {
  const count = async (): Promise<number> =>
    ((await host.ok("logs")).match(/profile of a creation:/g) ?? []).length;
  const before = await count();
  await work();
  while ((await count()) <= before);
  return host.ok("logs");
}

function firstRow(what: string, log: string): Row[] {
  const { sum, parts } = creationOf(log);
  return [
    { what, measured: inMillions(sum), budget: "1 M" },
    {
      what: "... of that in the kernel, the device model, the control domain",
      measured: parts.map(inMillions).join(", "),
      budget: "",
    },
  ];
}

async function firstRows(host: Host): Promise<Row[]> {
  const clone = (n: number): Promise<unknown> =>
    host.client.cloneSnapshot("linux", `clone-${n}`, { overcommit: true });
  const rows = firstRow(
    "restore of Linux to its first instruction",
    await firstInstruction(host, () => host.client.restoreSnapshot("linux", { force: true })),
  );
  rows.push(
    ...firstRow("clone of Linux to its first instruction", await firstInstruction(host, () => clone(1))),
  );
  for (let n = 2; n < LATE_CLONE; n++) await clone(n);
  const late = await firstInstruction(host, () => clone(LATE_CLONE));
  return [...rows, ...firstRow(`the ${LATE_CLONE}th clone`, late)];
}

/** On the kernel that counts where instructions go, up to the first one of a VM. */
async function cloneRows(): Promise<Row[]> {
  const host = await Host.boot("bench-clone", join("build", "profile.iso"));
  try {
    const rows = await writeRows(host);
    await createLinux(host, 128);
    await work(host);
    await host.client.createSnapshot("linux", { name: "linux" });
    return [...rows, await memoryRow(host), ...(await firstRows(host))];
  } finally {
    await host.stop();
  }
}

export async function snapshotRows(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const size of SIZES) rows.push(...(await sizeRows(size)));
  return [...rows, ...(await cloneRows())];
}
