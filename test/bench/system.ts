// Measures a running host: what an exit costs, what a start costs, what a VM costs in memory.
import { join } from "node:path";

import { chooseRig } from "../../boot/rigs/choose";
import { ICOUNT_TURNS, type RigOptions } from "../../boot/rigs/rig";
import { Host } from "../boot/host";
import { inMillions, kib, type Row } from "./row";

/** Of Bochs's TSC, each of which is an instruction. */
const TICKS_PER_US = 100;

/** Lines of the bench guest (test/guest/bench) and their budgets in instructions. */
const EXITS: [name: string, what: string, budget: string][] = [
  ["hypercall", "null hypercall, out and back", "120"],
  ["cpuid", "CPUID", "150"],
  ["rdmsr", "intercepted RDMSR", "150"],
  ["wrmsr", "intercepted WRMSR", "150"],
  ["port-in", "port read, UART, answered by the device model", "700"],
  ["port-out", "port write, UART, answered by the device model", "700"],
  ["port-unclaimed", "port read that nobody claims", "700"],
  ["mmio-read", "MMIO read, IOAPIC, answered by the device model", "1200"],
  ["mmio-unclaimed", "MMIO read that nobody claims", "1200"],
  ["first-touch", "first touch of RAM", "1"],
  ["timer-arm", "arming the TSC-deadline timer", "150"],
];

/** The same guest's lines that APIC virtualization changes. */
const VIRTUAL: typeof EXITS = [
  ["apic-eoi", "EOI, with APIC virtualization", "8"],
  ["apic-read", "x2APIC read, with APIC virtualization", "1"],
  ["self-ipi", "self-IPI to its handler, with APIC virtualization", "12"],
  ["timer-late-running", "timer interrupt late, running, with APIC virtualization", "250"],
  ["timer-late-halted", "timer interrupt late, halted, with APIC virtualization", "700"],
];

/** The same on a kernel with apicv=off. */
const PLAIN: typeof EXITS = [
  ["apic-eoi", "EOI, without APIC virtualization", "300"],
  ["apic-read", "x2APIC read, without APIC virtualization", "300"],
  ["self-ipi", "self-IPI to its handler, without APIC virtualization", "300"],
  ["timer-late-running", "timer interrupt late, running, without APIC virtualization", "250"],
  ["timer-late-halted", "timer interrupt late, halted, without APIC virtualization", "700"],
];

/** Lines of the guest ipi, on a host with two CPUs. */
const IPIS: typeof EXITS = [
  ["ipi-running", "IPI round trip on two CPUs, running", "800"],
  ["ipi-halted", "IPI round trip on two CPUs, halted", "1500"],
];

/** A tick's lateness that the test guest `jitter` prints, and a histogram of all. */
interface Jitter {
  largest: number;
  buckets: string;
}

const JITTER_TICKS = 1000;

function jitterOf(output: string): Jitter {
  const largest = /late largest: (\d+)/.exec(output);
  if (largest === null) throw new Error(`the guest printed no lateness:\n${output}`);
  const buckets = [...output.matchAll(/late (?:less than )?(\d+|missed): (\d+)/g)]
    .filter(([, , count]) => count !== "0")
    .map(([, limit, count]) => (limit === "missed" ? `${count} missed` : `${count} below ${limit}`));
  return { largest: Number(largest[1]), buckets: buckets.join(", ") };
}

/** How late the timers of two dedicated VMs are, 1,000 a second each: alone, and beside six busy ones. */
async function jitters(busy: number): Promise<Jitter[]> {
  const host = await Host.boot("bench-jitter", join("build", "time.iso"), 4);
  try {
    for (let n = 0; n < busy; n++) {
      await host.ok("create", `busy${n}`, "--memory", "16M", "--kernel", "busy", "--start");
      await host.ok("console", `busy${n}`, "--expect", "^busy$");
    }
    const names = ["one", "two"];
    const words = ["--cmdline", `hz=1000 ticks=${JITTER_TICKS}`, "--scheduling", "dedicated"];
    for (const name of names)
      await host.ok("create", name, "--memory", "16M", "--kernel", "jitter", ...words, "--start");
    const outputs: Jitter[] = [];
    for (const name of names) {
      await host.ok("console", name, "--expect", "late largest: \\d+", "--timeout", "170s");
      outputs.push(jitterOf(await host.scrollback(name)));
    }
    return outputs;
  } finally {
    await host.stop();
  }
}

/** Two dedicated VMs beside six busy ones on four CPUs, and without them. */
export async function jitterRows(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [busy, beside] of [
    [0, "alone"],
    [6, "beside six busy VMs"],
  ] as const)
    for (const [n, { largest, buckets }] of (await jitters(busy)).entries())
      rows.push({
        what: `timer of dedicated VM ${n + 1} late at most, ${beside} (${buckets})`,
        measured: String(largest),
        budget: "1000",
      });
  return rows;
}

/** What a guest has printed, by the names of its lines. */
type Ticks = Map<string, string>;

function ticksOf(output: string): Ticks {
  return new Map([...output.matchAll(/^bench: (\S+) (\d+)$/gm)].map(([, name, ticks]) => [name!, ticks!]));
}

function found(lines: typeof EXITS, output: string, amd: Ticks = new Map()): Row[] {
  const ticks = ticksOf(output);
  return lines.map(([name, what, budget]) => {
    const measured = ticks.get(name);
    if (measured === undefined) throw new Error(`the guest printed no "${name}":\n${output}`);
    return { what, measured, amd: amd.get(name), budget };
  });
}

/** What a guest of guests.mk prints, on a host of its own. */
async function guestOutput(
  iso: string,
  cpus: number,
  guest: string,
  rig?: Partial<RigOptions>,
): Promise<string> {
  const host = await Host.boot(`bench-${guest}`, join("build", iso), cpus, rig);
  try {
    const vcpus = ["--vcpus", String(cpus)];
    await host.ok("create", guest, "--memory", "32M", "--kernel", guest, ...vcpus, "--start");
    await host.ok("console", guest, "--expect", "bench: done", "--timeout", "170s");
    return await host.scrollback(guest);
  } finally {
    await host.stop();
  }
}

/** Two VMs on one CPU, of which one naps while the other spins (test/guest/switch): ticks of a switch between them. */
async function switchTicks(rig?: Partial<RigOptions>): Promise<string> {
  const host = await Host.boot("bench-switch", join("build", "guests.iso"), 1, rig);
  const run = async (name: string, until: string): Promise<number> => {
    await host.ok("create", name, "--memory", "32M", "--kernel", "switch", "--cmdline", name, "--start");
    const line = await host.ok("console", name, "--expect", `bench: ${until} \\d+`, "--timeout", "170s");
    return Number(new RegExp(`bench: ${until} (\\d+)`).exec(line)![1]);
  };
  try {
    const awake = await run("nap", "switch-awake");
    const standing = await run("spin", "switch-standing");
    return ((standing - awake) / 2).toFixed(0);
  } finally {
    await host.stop();
  }
}

/**
 * An IPI's way on AMD-V, in instructions of the CPU that sends it and gets the answer. QEMU's CPUs take turns, which
 * are so short that both may be said to run at once (the figure is exact to a turn, 62 instructions), and all their
 * instructions count as ticks. When both run all the time, each has half of them. A halted one leaves its turns to the
 * other, so there we count what the sender waits, longer than for a CPU that runs: the rest of its way is the same.
 */
async function amdIpis(): Promise<[string, string][]> {
  const machine = { icount: "turns" } as const;
  const ticks = ticksOf(await guestOutput("guests.iso", 2, "ipi", { rig: "qemu-tcg", machine }));
  const running = Number(ticks.get("ipi-running")) / ICOUNT_TURNS / 2;
  const longer = Number(ticks.get("ipi-halted-waits")) - Number(ticks.get("ipi-running-waits"));
  return [
    ["ipi-running", running.toFixed(0)],
    ["ipi-halted", (running + longer).toFixed(0)],
  ];
}

/** The same guests on AMD-V, where a tick is an instruction too, twice: of what is not the same both are told. */
export async function amdTicks(): Promise<Ticks> {
  const choice = chooseRig("qemu-tcg");
  if (choice.kind === null) {
    console.log(`nothing is measured on AMD-V: ${choice.reason}`);
    return new Map();
  }
  const rig = { rig: "qemu-tcg", machine: { icount: true } } as const;
  const measure = async (): Promise<Ticks> =>
    new Map([
      ...ticksOf(await guestOutput("guests.iso", 1, "bench", rig)),
      ...(await amdIpis()),
      ["switch", await switchTicks(rig)],
    ]);
  const [first, second] = [await measure(), await measure()];
  return new Map(
    [...first].map(([name, ticks]) => [name, [...new Set([ticks, second.get(name)])].join(" or ")]),
  );
}

/** Interrupts without APIC virtualization, and between two CPUs. */
export async function interruptRows(amd: Ticks): Promise<Row[]> {
  return [
    ...found(PLAIN, await guestOutput("guests-apicv-off.iso", 1, "bench"), amd),
    ...found(IPIS, await guestOutput("guests.iso", 2, "ipi"), amd),
    {
      what: "switch between two VMs on one CPU, from instruction to instruction",
      measured: await switchTicks(),
      amd: amd.get("switch"),
      budget: "800",
    },
  ];
}

async function exitRows(host: Host, amd: Ticks): Promise<Row[]> {
  await host.ok("create", "bench", "--memory", "64M", "--kernel", "bench", "--start");
  await host.ok("console", "bench", "--expect", "bench: done", "--timeout", "170s");
  const output = await host.scrollback("bench");
  await host.ok("rm", "bench", "--force");
  return [...found(EXITS, output, amd), ...found(VIRTUAL, output)];
}

/** What a VM costs beside its memory, with few devices and with all kinds of them. */
async function memoryRows(host: Host): Promise<Row[]> {
  const disks = ["initrd", "bench", "virtio"].flatMap((image) => ["--disk", image]);
  const networks = ["left", "right"].flatMap((name) => ["--network", name]);
  const rows: Row[] = [];
  for (const [what, options] of [
    ["no disk and no network", []],
    [
      "three disks, two network cards, a virtio console, four vCPUs",
      [...disks, ...networks, "--console", "virtio", "--vcpus", "4"],
    ],
  ] as [string, string[]][]) {
    await host.ok("create", "bench", "--memory", "64M", "--kernel", "bench", ...options, "--start");
    const { kernelBytes, modelBytes } = (await host.client.show("bench")).overhead;
    rows.push({
      what: `memory beside a VM's own, ${what}: kernel objects, and with the device model`,
      measured: `${kib(kernelBytes)}, ${kib(kernelBytes + modelBytes)}`,
      budget: "128, 1024 KiB",
    });
    await host.ok("rm", "bench", "--force");
  }
  return rows;
}

/** How the virtio guest (test/guest/virtio) is run: requests or frames of two sizes, so many at a time. */
const VIRTIO: { what: string; words: string; options: string[]; sizes: [number, number] }[] = [
  { what: "virtio-blk read", words: "blk", options: ["--disk", "initrd"], sizes: [4096, 61440] },
  {
    what: "virtio-net frame from one card to another",
    words: "net",
    options: ["--network", "loop", "--network", "loop"],
    sizes: [64, 1514],
  },
];
const VIRTIO_COUNT = 640;

/** Instructions and exits of one request: the median round, and what twice as many requests exit more. */
async function virtioCost(
  host: Host,
  options: string[],
  words: string,
  depth: number,
): Promise<{ instructions: number; exits: number }> {
  const seen = [];
  for (const count of [VIRTIO_COUNT, 2 * VIRTIO_COUNT]) {
    const cmdline = `${words} depth=${depth} count=${count}`;
    const images = ["--memory", "64M", "--kernel", "virtio", "--cmdline", cmdline];
    await host.ok("create", "virtio", ...images, ...options, "--start");
    await host.ok("console", "virtio", "--expect", "virtio: done", "--timeout", "170s");
    const ticks = Number(/^virtio: ticks (\d+)/m.exec(await host.scrollback("virtio"))?.[1]);
    seen.push({ ticks, exits: (await host.client.show("virtio")).exits });
    await host.ok("rm", "virtio", "--force");
  }
  const [one, two] = seen as [(typeof seen)[0], (typeof seen)[0]];
  return { instructions: two.ticks / depth, exits: (two.exits - one.exits) / VIRTIO_COUNT };
}

async function virtioRows(host: Host): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { what, words, options, sizes } of VIRTIO) {
    for (const layout of ["", "packed"]) {
      for (const depth of [1, 32]) {
        const [small, large] = sizes;
        const cost = (size: number): ReturnType<typeof virtioCost> =>
          virtioCost(host, options, `${words} ${layout} size=${size}`, depth);
        const [a, b] = [await cost(small), await cost(large)];
        const perByte = (cost: "instructions" | "exits"): number =>
          Number(((b[cost] - a[cost]) / (large - small)).toFixed(4)) + 0; // of -0 it makes 0
        rows.push({
          what: `${what}, ${small} bytes, ${layout || "split"} rings, depth ${depth}: instructions, exits; and per byte`,
          measured: `${a.instructions.toFixed(0)}, ${a.exits.toFixed(2)}; ${perByte("instructions")}, ${perByte("exits")}`,
          budget: "",
        });
      }
    }
  }
  return rows;
}

/** Median milliseconds, and instructions, for which there was no control component. */
function pauseText(pauses: number[]): string {
  const us = [...pauses].sort((a, b) => a - b)[pauses.length >> 1]!;
  return `${(us / 1000).toFixed(1)} ms, ${inMillions(us * TICKS_PER_US)}`;
}

/** From the end of a control component to the first event of the next, beside a VM. */
async function controlRows(host: Host): Promise<Row[]> {
  const { client } = host;
  await host.ok("create", "bench", "--memory", "64M", "--kernel", "bench", "--start");
  const pause = async (): Promise<number> => {
    for (;;) {
      const { control } = await client.status();
      if (!control!.trial) return control!.pauseUs;
    }
  };
  const restarts: number[] = [];
  const upgrades: number[] = [];
  for (let n = 0; n < 3; n++) {
    const before = (await client.status()).controlRestarts;
    await client.trap();
    restarts.push(await pause());
    await client.upgrade({ image: "control" });
    while ((await client.status()).controlRestarts < before + 2);
    upgrades.push(await pause());
  }
  await host.ok("rm", "bench", "--force");
  return [
    { what: "control domain's restart after a trap", measured: pauseText(restarts), budget: "50 ms" },
    { what: "control domain's pause at an upgrade", measured: pauseText(upgrades), budget: "50 ms" },
  ];
}

/** Boots the bench image and measures on it. */
export async function systemRows(amd: Ticks): Promise<Row[]> {
  const host = await Host.boot("bench", join("build", "bench.iso"));
  try {
    return [
      ...(await exitRows(host, amd)),
      ...(await virtioRows(host)),
      ...(await memoryRows(host)),
      ...(await controlRows(host)),
    ];
  } finally {
    await host.stop();
  }
}
