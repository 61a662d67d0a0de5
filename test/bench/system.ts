// Measures a running host: what an exit costs, what a start costs, what a VM costs in memory.
import { join } from "node:path";

import type { VmDetails } from "../../control/cli/client";
import { Host } from "../boot/host";

/** One row of the report; a budget of "" means that none is set. */
export interface Row {
  what: string;
  measured: string;
  budget: string;
}

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
  ["apic-eoi", "EOI, without APIC virtualization", "300"],
  ["apic-read", "x2APIC read, without APIC virtualization", "300"],
  ["self-ipi", "self-IPI to its handler, without APIC virtualization", "300"],
  ["timer-arm", "arming the TSC-deadline timer", "150"],
  ["timer-late-running", "timer interrupt late, running", "250"],
  ["timer-late-halted", "timer interrupt late, halted", "700"],
];

const MILLION = 1_000_000;

/** Instructions in a millisecond of the rig's clock (ips in boot/rigs/emulator.ts). */
const PER_MS = 100_000;

function inMillions(instructions: number): string {
  return `${(instructions / MILLION).toFixed(1)} M`;
}

function kib(bytes: number): string {
  return `${Math.ceil(bytes / 1024)} KiB`;
}

async function exitRows(host: Host): Promise<Row[]> {
  await host.ok("create", "bench", "--memory", "64M", "--kernel", "bench", "--initrd", "initrd", "--start");
  await host.ok("console", "bench", "--expect", "bench: done", "--timeout", "170s");
  const output = await host.scrollback("bench");
  const created = await createdAt(host, "bench");
  await host.cli("stop", "bench", "--force");
  await host.ok("rm", "bench");
  const rows = EXITS.map(([name, what, budget]) => {
    const ticks = new RegExp(`^bench: ${name} (\\d+)$`, "m").exec(output)?.[1];
    if (ticks === undefined) throw new Error(`the bench guest printed no "${name}":\n${output}`);
    return { what, measured: ticks, budget };
  });
  return [
    ...rows,
    { what: "VM creation to its start, a small image", measured: inMillions(created), budget: "0.5 M" },
  ];
}

/** Instructions from a VM's creation to its first instruction, by the events' milliseconds. */
async function createdAt(host: Host, vm: string): Promise<number> {
  const { events } = await host.client.events(0);
  const at = (kind: string): number => {
    const event = events.find((candidate) => candidate.vm === vm && candidate.kind === kind);
    if (!event) throw new Error(`no event ${kind} of ${vm}`);
    return event.at;
  };
  return (at("vm-running") - at("vm-created")) * PER_MS;
}

async function linuxRows(host: Host): Promise<Row[]> {
  await host.createLinux("linux", "128M");
  const details: VmDetails = await host.client.show("linux");
  const { kernelBytes, modelBytes } = details.overhead;
  return [
    {
      what: "Linux, first instruction to the shell's prompt, in its vCPU",
      measured: inMillions(details.runtimeMs * PER_MS),
      budget: "",
    },
    { what: "VM exits in that boot", measured: String(details.exits), budget: "10000" },
    { what: "... of them answered by the device model", measured: String(details.forwarded), budget: "" },
    { what: "memory beside a VM's own: kernel objects", measured: kib(kernelBytes), budget: "128 KiB" },
    {
      what: "... and with the device model",
      measured: kib(kernelBytes + modelBytes),
      budget: "1024 KiB",
    },
  ];
}

/** Boots the bench image and measures on it. */
export async function systemRows(): Promise<Row[]> {
  const host = await Host.boot("bench", join("build", "bench.iso"));
  try {
    const { events } = await host.client.events(0);
    const started = events[0]?.at ?? 0;
    return [
      {
        what: "boot loader's hand-over to the shell, serial waits included",
        measured: inMillions(started * PER_MS),
        budget: "5 M",
      },
      ...(await exitRows(host)),
      ...(await linuxRows(host)),
    ];
  } finally {
    await host.stop();
  }
}
