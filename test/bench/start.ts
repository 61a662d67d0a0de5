// How long the demonstration takes to its prompts, in the emulator of each backend on this machine.
import { readFileSync } from "node:fs";

import { chooseRig } from "../../boot/rigs/choose";
import { type RigKind, rigStatus } from "../../boot/rigs/rig";
import { DEMO_ISO, Host, runDir } from "../boot/host";
import type { Row } from "./row";

/** The clock ticks of /proc, everywhere on Linux. */
const TICKS_PER_SECOND = 100;

/** Of a process, in user and kernel mode: proc(5). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

interface Start {
  seconds: number;
  cpu: number;
}

async function measure(rig: RigKind): Promise<Start> {
  const began = Date.now();
  const host = await Host.boot("bench-start", DEMO_ISO, 1, { rig });
  try {
    for (const vm of ["ada", "bob"]) await host.waitUp(vm);
    const { emulatorPid } = (await rigStatus(runDir("bench-start")))!;
    return { seconds: (Date.now() - began) / 1000, cpu: cpuSeconds(emulatorPid) };
  } finally {
    await host.stop();
  }
}

const words = ({ seconds, cpu }: Start): string =>
  `${seconds.toFixed(1)} s (${cpu.toFixed(1)} s of CPU time)`;

/** Both emulators' times, and how many times faster QEMU is. */
export async function startRow(): Promise<Row> {
  const bochs = await measure("bochs");
  const what = "make run: switched on, until both VMs of the demonstration have their prompts";
  if (chooseRig("qemu-tcg").kind === null) return { what, measured: words(bochs), budget: "" };
  const qemu = await measure("qemu-tcg");
  const [times, cpuTimes] = [bochs.seconds / qemu.seconds, bochs.cpu / qemu.cpu];
  return {
    what,
    measured: words(bochs),
    amd: `${words(qemu)}: ${times.toFixed(1)} (${cpuTimes.toFixed(1)}) times faster`,
    budget: "3 times faster",
  };
}
