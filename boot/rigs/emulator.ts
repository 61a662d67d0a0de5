// How each emulator is started: its configuration, its command line, and the way its serial ports reach us.
import { type ChildProcess, spawn } from "node:child_process";
import { openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findBochsFiles, findOvmf, findProgram } from "./choose";
import { ICOUNT_TURNS, type Machine, type SupervisorConfig } from "./rig";

/** A command line, whose serial ports connect to ports of 127.0.0.1 when it runs. */
interface Command {
  program: string;
  args: string[];
  /** What the emulator itself logs, beside its output. */
  log: string | null;
}

/** Makes SDL, on which Bochs shows its screen, do without one. */
export const HEADLESS = { SDL_VIDEODRIVER: "dummy", SDL_AUDIODRIVER: "dummy" };

/** Starts the emulator of `config`; COM1 and so on connect to `ports`. Its output goes to emulator.log. */
export function startEmulator(config: SupervisorConfig, ports: readonly number[]): ChildProcess {
  const command = config.kind === "bochs" ? bochsCommand(config, ports) : qemuCommand(config, ports);
  const out = openSync(emulatorLog(config), "w");
  // setpriv: the emulator ends with the supervisor, even if that is killed.
  const guard = findProgram("setpriv") === null ? [] : ["setpriv", "--pdeathsig", "KILL"];
  if (config.kind === "qemu-tcg" && config.cpus > 1) guard.push(...onOneCpu());
  const [program, ...args] = [...guard, command.program, ...command.args];
  const env = { ...process.env, ...HEADLESS };
  return spawn(program!, args, { cwd: config.runDir, env, stdio: ["ignore", out, out] });
}

/**
 * Threads of an emulated machine take turns on one CPU. Beside each other, an XRSTOR on any CPU of QEMU can undo what
 * another thread has just done to the first one (README.md): the host ends with a triple fault.
 */
function onOneCpu(): string[] {
  const allowed = /^Cpus_allowed_list:\s*([\d,-]+)/m.exec(readFileSync("/proc/self/status", "utf8"));
  if (findProgram("taskset") === null || allowed === null) return [];
  const cpus = allowed[1]!.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number) as [number, number?];
    return Array.from({ length: last! - first + 1 }, (_, i) => first + i);
  });
  return ["taskset", "-c", String(cpus[process.pid % cpus.length])];
}

/** What the emulator printed (and, from Bochs, what the host wrote to port 0xE9). */
export function emulatorLog(config: SupervisorConfig): string {
  return join(config.runDir, "emulator.log");
}

/** Bochs's own log. */
export function bochsLog(config: SupervisorConfig): string {
  return join(config.runDir, "bochs.log");
}

/** The configuration of a Bochs machine with these serial ports. */
export function bochsConfig(config: SupervisorConfig, ...serial: string[]): string {
  const files = findBochsFiles()!;
  return `${[
    `cpu: model=corei7_skylake_x, count=${topology(config)}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1`,
    // The host's part is allocated at once and at most 2048; the rest is swapped to a file.
    `memory: guest=${config.memoryMiB}, host=${Math.min(config.memoryMiB, 2048)}`,
    `romimage: file=${files.bios}`,
    `vgaromimage: file=${files.vgabios}`,
    "vga: extension=none",
    "boot: cdrom",
    "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
    `ata0-master: type=cdrom, path="${config.iso}", status=inserted`,
    ...serial,
    "port_e9_hack: enabled=1",
    "clock: sync=none, time0=1600000000",
    "pci: enabled=1, chipset=i440fx",
    // Nobody watches. SDL's dummy driver opens nothing; rfb listens on all addresses, from port 5900 on.
    files.sdl ? "display_library: sdl2" : 'display_library: rfb, options="timeout=0"',
    "magic_break: enabled=1",
    `log: ${bochsLog(config)}`,
    "debug: action=ignore",
    "info: action=ignore",
    "error: action=report",
    "panic: action=fatal",
  ].join("\n")}\n`;
}

/** Bochs's processors, cores of each, threads of each. */
function topology({ cpus, machine: { threads = 1 } }: SupervisorConfig): string {
  return threads > 1 ? `1:${cpus / threads}:${threads}` : String(cpus);
}

function bochsCommand(config: SupervisorConfig, ports: readonly number[]): Command {
  const machine = join(config.runDir, "bochsrc");
  const commands = join(config.runDir, "debugger");
  const serial = ports.map((port, n) => `com${n + 1}: enabled=1, mode=socket-client, dev=localhost:${port}`);
  writeFileSync(machine, bochsConfig(config, ...serial));
  // Debian's Bochs waits in its debugger: go on, and quit when something stops it.
  writeFileSync(commands, [...config.debugger, "c", "q", ""].join("\n"));
  rmSync(bochsLog(config), { force: true });
  return { program: "bochs-bin", args: ["-q", "-f", machine, "-rc", commands], log: bochsLog(config) };
}

/** Ways from the medium to the firmware; SeaBIOS and OVMF know all of them. */
const MEDIA: Record<NonNullable<Machine["medium"]>, string[]> = {
  cd: ["-device", "ide-cd,drive=medium,bootindex=0"],
  usb: ["-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0"],
  nvme: ["-device", "nvme,drive=medium,serial=plinth,bootindex=0"],
  network: ["-device", "virtio-net-pci,netdev=network,bootindex=0"],
};

/** What grub-mknetdir names its images. */
const NETWORK_IMAGES = { bios: "boot/grub/i386-pc/core.0", uefi: "boot/grub/x86_64-efi/core.efi" };

/** A CPU's turn ends where a timer of QEMU's does: this one does nothing else, every microsecond. */
const TURNS = [
  "-netdev",
  "hubport,id=turns,hubid=0",
  "-object",
  "filter-buffer,id=turn,netdev=turns,interval=1",
];

/** QEMU's command line. With KVM the machine has the CPU that this one has, with what KVM nests of it. */
export function qemuCommand(config: SupervisorConfig, ports: readonly number[]): Command {
  const {
    board = "q35",
    firmware = "bios",
    medium = "cd",
    threads = 1,
    disk,
    options = [],
    icount = false,
    debug = false,
  } = config.machine;
  const tcg = config.kind === "qemu-tcg";
  const args = ["-name", "plinth", "-nodefaults", "-no-reboot", "-display", "none", "-vga", "std"];
  args.push(
    "-machine",
    board,
    "-m",
    String(config.memoryMiB),
    "-smp",
    threads > 1 ? `${config.cpus},threads=${threads}` : String(config.cpus),
  );
  args.push("-accel", tcg ? "tcg" : "kvm", "-cpu", config.machine.cpu ?? (tcg ? "EPYC" : "host"));
  if (icount) args.push("-icount", `shift=${icount === "turns" ? Math.log2(ICOUNT_TURNS) : 0},sleep=off`);
  if (icount === "turns") args.push(...TURNS);
  if (debug) args.push("-S", "-gdb", `unix:${escaped(join(config.runDir, "gdb.sock"))},server=on,wait=off`);
  if (firmware === "uefi") args.push("-bios", findOvmf()!);
  if (medium === "network") {
    const served = `tftp=${escaped(config.iso)},bootfile=${NETWORK_IMAGES[firmware]}`;
    args.push("-netdev", `user,id=network,restrict=on,${served}`);
  } else {
    args.push("-drive", `if=none,id=medium,format=raw,snapshot=on,file=${escaped(config.iso)}`);
  }
  args.push(...MEDIA[medium], ...options);
  if (disk !== undefined) {
    args.push("-drive", `if=none,id=disk,format=raw,snapshot=on,file=${escaped(disk)}`);
    args.push("-device", "virtio-blk-pci,drive=disk,bootindex=1");
  }
  for (const [n, port] of ports.entries()) {
    args.push("-chardev", `socket,id=com${n + 1},host=127.0.0.1,port=${port},server=off,nodelay=on`);
    args.push("-serial", `chardev:com${n + 1}`);
  }
  args.push("-debugcon", `file:${join(config.runDir, "port-e9.log")}`);
  args.push("-monitor", `unix:${join(config.runDir, "monitor")},server=on,wait=off`);
  args.push("-device", "isa-debug-exit,iobase=0xf4,iosize=1");
  return { program: "qemu-system-x86_64", args, log: null };
}

/** A path inside an option of QEMU. */
function escaped(path: string): string {
  return path.replaceAll(",", ",,");
}
