// Finds out which rigs this machine can offer, and picks the best.
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The rigs there are: the best first. */
export type RigKind = "qemu-kvm" | "bochs";

/** A rig and why it was chosen, or null and what is missing. */
export type RigChoice = { kind: RigKind; reason: string } | { kind: null; reason: string };

/** True, or what stands in the way. */
type Verdict = true | string;

const CHECKS: Record<RigKind, () => Verdict> = { "qemu-kvm": checkQemuKvm, bochs: checkBochs };

/** Picks `wanted`, or the best that works. */
export function chooseRig(wanted: RigKind | "auto"): RigChoice {
  if (wanted !== "auto") {
    const verdict = CHECKS[wanted]?.() ?? "there is no such rig; known are auto, qemu-kvm and bochs";
    return verdict === true
      ? { kind: wanted, reason: "as asked" }
      : { kind: null, reason: `${wanted}: ${verdict}` };
  }
  const kvm = checkQemuKvm();
  if (kvm === true) return { kind: "qemu-kvm", reason: "this machine has KVM with nested VT-x" };
  const bochs = checkBochs();
  if (bochs === true) return { kind: "bochs", reason: `VT-x in software, because for QEMU ${kvm}` };
  return { kind: null, reason: `no rig works here: ${kvm}; ${bochs}` };
}

/** A /dev/kvm says nothing: the CPU must have VT-x, KVM must nest it, and the device must open. */
function checkQemuKvm(): Verdict {
  const nested = readText("/sys/module/kvm_intel/parameters/nested").trim();
  if (!/^flags\s*:.*\bvmx\b/m.test(readText("/proc/cpuinfo"))) return "this CPU offers no VT-x (no vmx flag)";
  if (nested === "") return "kvm_intel is not loaded";
  if (nested !== "Y" && nested !== "1") return "KVM's nesting is off (kvm_intel nested=1 turns it on)";
  try {
    closeSync(openSync("/dev/kvm", "r+"));
  } catch (error) {
    return `/dev/kvm does not open (${(error as NodeJS.ErrnoException).code})`;
  }
  if (findProgram("qemu-system-x86_64") === null) return "the package qemu-system-x86 is missing";
  return true;
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
