// Finds out which rigs this machine can offer, and picks the best.
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The rigs there are: the best first. */
export const RIG_KINDS = ["qemu-kvm", "qemu-tcg", "bochs"] as const;
export type RigKind = (typeof RIG_KINDS)[number];

/** A rig and why it was chosen, or null and what is missing. */
export type RigChoice = { kind: RigKind; reason: string } | { kind: null; reason: string };

/** What a CPU virtualizes with; the kernel has a backend for each. */
export type Backend = "VT-x" | "AMD-V";

/** True, or what stands in the way. */
type Verdict = true | string;

const CHECKS: Record<RigKind, () => Verdict> = {
  "qemu-kvm": checkQemuKvm,
  "qemu-tcg": checkQemuTcg,
  bochs: checkBochs,
};

const REASONS: Record<RigKind, string> = {
  "qemu-kvm": "this machine has KVM with nested virtualization",
  "qemu-tcg": "AMD-V in software",
  bochs: "VT-x in software",
};

/** Picks `wanted`, or the best that works; what the environment's PLINTH_RIG names is wanted by default. */
export function chooseRig(wanted: string = "auto"): RigChoice {
  const kind = wanted === "auto" ? (process.env.PLINTH_RIG ?? "auto") : wanted;
  if (kind === "auto") return best(RIG_KINDS);
  const check = CHECKS[kind as RigKind];
  if (check === undefined)
    return { kind: null, reason: `${kind}: there is no such rig; known are auto, ${RIG_KINDS.join(", ")}` };
  const verdict = check();
  return verdict === true
    ? { kind: kind as RigKind, reason: "as asked" }
    : { kind: null, reason: `${kind}: ${verdict}` };
}

/** What whole-system tests run on: the rig that PLINTH_RIG names, else the best one of each backend. */
export function rigsToTest(): { backend: Backend; choice: RigChoice }[] {
  const amd = cpuFlags(readText("/proc/cpuinfo")).has("svm");
  const asked = process.env.PLINTH_RIG ?? "auto";
  if (asked !== "auto") {
    const vtx = asked === "bochs" || (asked === "qemu-kvm" && !amd);
    return [{ backend: vtx ? "VT-x" : "AMD-V", choice: chooseRig(asked) }];
  }
  const vtx = { backend: "VT-x", choice: best(amd ? ["bochs"] : ["qemu-kvm", "bochs"]) } as const;
  const amdv = { backend: "AMD-V", choice: best(amd ? ["qemu-kvm", "qemu-tcg"] : ["qemu-tcg"]) } as const;
  return [vtx, amdv];
}

function best(kinds: readonly RigKind[]): RigChoice {
  const obstacles: string[] = [];
  for (const kind of kinds) {
    const verdict = CHECKS[kind]();
    if (verdict !== true) obstacles.push(`${kind}: ${verdict}`);
    else return { kind, reason: [REASONS[kind], ...obstacles].join("; not ") };
  }
  return { kind: null, reason: `no rig works here: ${obstacles.join("; ")}` };
}

function cpuFlags(cpuinfo: string): Set<string> {
  return new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
}

/** A /dev/kvm says nothing: the CPU must have VT-x or AMD-V, KVM must nest it, and the device must open. */
function checkQemuKvm(): Verdict {
  const verdict = checkNesting(readText, (path) => closeSync(openSync(path, "r+")));
  return verdict === true ? checkQemuTcg() : verdict;
}

/** What a machine's files say of nested KVM: `read` gives "" for one that is not there, `open` throws. */
export function checkNesting(read: (path: string) => string, open: (path: string) => void): Verdict {
  const flags = cpuFlags(read("/proc/cpuinfo"));
  const vmx = flags.has("vmx");
  if (!vmx && !flags.has("svm")) return "this CPU offers no VT-x and no AMD-V (no vmx or svm flag)";
  const driver = vmx ? "kvm_intel" : "kvm_amd";
  const nested = read(`/sys/module/${driver}/parameters/nested`).trim();
  if (nested === "") return `${driver} is not loaded (modprobe ${driver})`;
  if (nested !== "Y" && nested !== "1") return `KVM's nesting is off (${driver} nested=1 turns it on)`;
  try {
    open("/dev/kvm");
  } catch (error) {
    return `/dev/kvm does not open (${(error as NodeJS.ErrnoException).code})`;
  }
  return true;
}

function checkQemuTcg(): Verdict {
  return findProgram("qemu-system-x86_64") !== null || "the package qemu-system-x86 is missing";
}

/** Firmware for UEFI in QEMU, or null: the package ovmf is missing. */
export function findOvmf(): string | null {
  const path = "/usr/share/ovmf/OVMF.fd";
  return existsSync(path) ? path : null;
}

function checkBochs(): Verdict {
  if (findProgram("bochs-bin") === null)
    return "the packages bochs, bochs-sdl, bochsbios and vgabios are missing";
  if (findBochsFiles() === null) return "the BIOS images of bochsbios and vgabios are missing";
  return true;
}

/** Bochs's BIOS and VGA BIOS, wherever this release of Debian puts them, and whether it has SDL. */
export function findBochsFiles(): { bios: string; vgabios: string; sdl: boolean } | null {
  const first = (paths: string[]): string | undefined => paths.find((path) => existsSync(path));
  const bios = first(["/usr/share/bochs/BIOS-bochs-latest"]);
  const vgabios = first(["/usr/share/bochs/VGABIOS-lgpl-latest", "/usr/share/vgabios/vgabios.bin"]);
  const sdl = existsSync("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_sdl2_gui.so");
  return bios === undefined || vgabios === undefined ? null : { bios, vgabios, sdl };
}

/** The path of a program, or null. */
export function findProgram(name: string): string | null {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
