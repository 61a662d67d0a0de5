// Stock Linux up to its /init: in a VM, on a kernel that counts where instructions go (profile.c), and on the bare
// machine. test/bench/init.c is what runs there as /init.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { chooseRig } from "../../boot/rigs/choose";
import { bochsConfig, HEADLESS } from "../../boot/rigs/emulator";
import { Host } from "../boot/host";
import { inMillions, MIB, percent, type Row } from "./row";

const MEMORY_MIB = 128;
/** As in bare.cfg. */
const CMDLINE = "console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=linux rdinit=/sbin/bench";
/** Where GRUB puts stock Linux, and enters it. */
const LINUX_ENTRY = "0x1000000";
const BARE_LIMIT_MS = 600_000;
/** As many as a host has. */
const MOST_VMS = 32;

/** Instructions in VMs, device models, the control domain and the kernel. */
interface Profile {
  vm: number;
  model: number;
  control: number;
  kernel: number;
  idle: number;
}

/** The last profile of this name. */
function profileOf(what: string, log: string): Profile {
  const pattern = `profile of ${what}: VM (\\d+) model (\\d+) control (\\d+) kernel (\\d+) idle (\\d+)`;
  const numbers = [...log.matchAll(new RegExp(pattern, "g"))].at(-1)?.slice(1).map(Number);
  if (!numbers) throw new Error(`no profile of ${what} in the host's log:\n${log}`);
  const [vm, model, control, kernel, idle] = numbers as [number, number, number, number, number];
  return { vm, model, control, kernel, idle };
}

/** The time at which Linux has come to /init, and how long it was idle until then, in ticks of its TSC. */
function initAt(output: string): number {
  const ticks = /^bench: init (\d+) idle \d+/m.exec(output)?.[1];
  if (ticks === undefined) throw new Error(`Linux did not come to /init:\n${output.slice(-2000)}`);
  return Number(ticks);
}

/** Instructions of the same Linux from its entry to /init without a hypervisor. */
function bareLinux(): number {
  const choice = chooseRig("bochs");
  if (choice.kind === null) throw new Error(choice.reason);
  const runDir = resolve("build", "run", "bench-bare");
  const [machine, commands, serial] = ["bochsrc", "debugger", "serial.log"].map((name) => join(runDir, name));
  mkdirSync(runDir, { recursive: true });
  const config = {
    kind: choice.kind,
    reason: choice.reason,
    iso: resolve("build", "bare.iso"),
    machine: {},
    debugger: [],
    memoryMiB: MEMORY_MIB,
    cpus: 1,
    runDir,
    detached: false,
  };
  writeFileSync(machine!, bochsConfig(config, `com1: enabled=1, mode=file, dev=${serial}`));
  writeFileSync(commands!, `pb ${LINUX_ENTRY}\nc\nptime\ndel 1\nc\nq\n`);
  const run = spawnSync("bochs-bin", ["-q", "-f", machine!, "-rc", commands!], {
    cwd: runDir,
    env: { ...process.env, ...HEADLESS },
    stdio: ["ignore", "pipe", "ignore"],
    timeout: BARE_LIMIT_MS,
    encoding: "latin1",
  });
  const entered = /^ptime: (\d+)/m.exec(run.stdout ?? "")?.[1];
  if (entered === undefined) throw new Error(`Linux was not entered at ${LINUX_ENTRY} on the bare machine`);
  return initAt(readFileSync(serial!, "latin1").replace(/\r/g, "")) - Number(entered);
}

/** Waits until idle time has zeroed this much memory; asking lets the host idle between. */
async function waitClean(host: Host, bytes: number): Promise<void> {
  for (let tries = 0; (await host.client.status()).memory.clean < bytes; tries++) {
    if (tries > 10_000) throw new Error("the host does not zero its free memory");
  }
}

/** Creates a VM that runs a small image; returns the host's log with its profile at the end. */
async function createSmall(host: Host, name: string, mib: number): Promise<string> {
  await waitClean(host, 2 * mib * MIB);
  await host.ok("create", name, "--memory", `${mib}M`, "--kernel", "bench", "--start");
  await host.ok("console", name, "--expect", "bench: done", "--timeout", "170s");
  return host.ok("logs");
}

/** What a creation costs outside the VM, from its first object to the VM's first instruction. */
export function creationOf(log: string): { sum: number; parts: number[] } {
  const { model, control, kernel } = profileOf("a creation", log);
  return { sum: model + control + kernel, parts: [kernel, model, control] };
}

async function creationRows(host: Host): Promise<Row[]> {
  const log = await createSmall(host, "small", 64);
  const start = /profile of the start: (\d+), and (\d+) for the serial line/.exec(log)?.slice(1).map(Number);
  if (!start) throw new Error(`no profile of the start in the host's log:\n${log}`);
  const first = creationOf(log);
  for (let n = 2; n < MOST_VMS; n++) await createSmall(host, `small-${n}`, 8);
  const last = creationOf(await createSmall(host, "small-last", 64));
  for (const { name } of await host.client.list()) await host.ok("rm", name, "--force");
  return [
    {
      what: "boot loader's hand-over to the shell, waits for the serial line aside",
      measured: inMillions(start[0]!),
      budget: "5 M",
    },
    { what: "... those waits, of the kernel's log", measured: inMillions(start[1]!), budget: "" },
    {
      what: "VM creation to its first instruction, a small image",
      measured: inMillions(first.sum),
      budget: "0.5 M",
    },
    {
      what: "... of that in the kernel, the device model, the control domain",
      measured: first.parts.map(inMillions).join(", "),
      budget: "",
    },
    {
      what: `... the ${MOST_VMS}nd, and the difference`,
      measured: `${inMillions(last.sum)}, ${percent(last.sum - first.sum, first.sum)}`,
      budget: "+5 %",
    },
  ];
}

/** Starts Linux and waits for its shell. */
async function bootLinux(host: Host): Promise<{ profile: Profile; init: number }> {
  await waitClean(host, 2 * MEMORY_MIB * MIB);
  const images = ["--memory", `${MEMORY_MIB}M`, "--kernel", "linux", "--initrd", "initrd"];
  await host.ok("create", "linux", ...images, "--cmdline", CMDLINE, "--start");
  await host.waitUp("linux");
  const profile = profileOf("a boot", await host.ok("logs"));
  return { profile, init: initAt(await host.scrollback("linux")) };
}

function shareRows({ vm, model, control, kernel, idle }: Profile): Row[] {
  const all = vm + model + control + kernel;
  return [
    {
      what: "Linux to /init: instructions spent outside the VM, idle time not counted",
      measured: percent(model + control + kernel, all),
      budget: "3 %",
    },
    {
      what: "... in the kernel, the device model, the control domain",
      measured: [kernel, model, control].map((part) => percent(part, all)).join(", "),
      budget: "",
    },
    { what: "... idle meanwhile", measured: percent(idle, all + idle), budget: "" },
  ];
}

/** Boots the profiling image, and the bare machine. */
export async function linuxRows(): Promise<Row[]> {
  const bare = bareLinux();
  const host = await Host.boot("bench-profile", join("build", "profile.iso"));
  try {
    const creation = await creationRows(host);
    const { profile, init } = await bootLinux(host);
    const { exits, forwarded } = await host.client.show("linux");
    return [
      ...creation,
      { what: "Linux from its entry to /init, on the bare machine", measured: inMillions(bare), budget: "" },
      {
        what: "... in a VM, and the difference",
        measured: `${inMillions(init)}, ${percent(init - bare, bare)}`,
        budget: "+2 %",
      },
      ...shareRows(profile),
      { what: "VM exits up to the shell's prompt", measured: String(exits), budget: "10000" },
      { what: "... of them answered by the device model", measured: String(forwarded), budget: "" },
    ];
  } finally {
    await host.stop();
  }
}
