// Builds what a machine boots: GRUB for BIOS and UEFI, the kernel, its modules, on one medium or in a folder for TFTP.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { MAX_MODULES } from "../../control/gen/abi";
import { cborEncode } from "../../control/protocol/node/cbor";
import { MODULE_MANIFEST } from "../../control/protocol/schema";
import { findProgram } from "../rigs/choose";

/** A boot module: the kernel knows it by this name, the medium by its file. */
export interface BootModule {
  name: string;
  path: string;
}

/** What an image holds. */
export interface ImagePlan {
  kernel: string;
  /** The kernel's command line. */
  options: string;
  /** The control domain first, then the device model, then the rest in any order. */
  modules: BootModule[];
  /** How long Esc brings up a menu, in which the local disk can be booted instead; null: no menu, and no wait. */
  menuSeconds: number | null;
}

/** What Debian's packages give, and how to see that it is there. */
const NEEDED: [path: string, debianPackage: string][] = [
  ["grub-mkrescue", "grub-common"],
  ["grub-mknetdir", "grub-common"],
  ["xorriso", "xorriso"],
  ["mformat", "mtools"],
  ["/usr/lib/grub/i386-pc", "grub-pc-bin"],
  ["/usr/lib/grub/x86_64-efi", "grub-efi-amd64-bin"],
];

/** What the configuration uses, and what finds the file system on the many kinds of disk. */
const GRUB_MODULES = [
  "multiboot2 normal minicmd serial terminal echo configfile search search_fs_file search_fs_uuid test regexp",
  "iso9660 fat acpi all_video chain tftp",
  "part_msdos part_gpt part_acorn part_amiga part_apple part_bsd part_dfly part_dvh part_plan part_sun part_sunpc",
].join(" ");

const GRUB_OPTIONS = [
  `--install-modules=${GRUB_MODULES}`,
  "--compress=no",
  "--locales=",
  "--themes=",
  "--fonts=",
];

/** Where systems keep their boot loader for UEFI. */
const UEFI_LOADERS = ["BOOT/BOOTX64.EFI", "*/shimx64.efi", "*/grubx64.efi", "Microsoft/Boot/bootmgfw.efi"];

/** The kernel's file. */
const KERNEL = "kernel.elf";

/** GRUB's commands. Its messages, and the menu, are on the screen and on COM1. */
export function grubConfig(plan: ImagePlan): string {
  const options = plan.options === "" ? "" : ` ${plan.options}`;
  const names = [...plan.modules.map(({ name }) => name), MODULE_MANIFEST];
  const boot = [
    `if multiboot2 /boot/${KERNEL}${options}; then`,
    // The kernel asks for a framebuffer, which UEFI needs; a BIOS keeps the text screen.
    'if [ "$grub_platform" = pc ]; then set gfxpayload=text; else insmod efi_gop; fi',
    ...names.map((name) => `module2 /boot/${name} ${name}`),
    "boot",
    "fi",
    `echo "Plinth cannot run here: ${KERNEL} is missing or damaged; rewrite the image"`,
  ];
  const head = ["serial --unit=0 --speed=115200", "terminal_output console serial"];
  if (plan.menuSeconds === null) return [...head, ...boot, ""].join("\n");
  return [
    ...head,
    "terminal_input console serial",
    "set timeout_style=hidden",
    `set timeout=${plan.menuSeconds}`,
    ...(plan.menuSeconds > 0 ? [`echo "Plinth in ${plan.menuSeconds} s; Esc: menu"`] : []),
    'menuentry "Plinth" {',
    ...boot,
    "}",
    'menuentry "The local disk" {',
    // UEFI gets the first boot loader on a disk that this is not, and else shows its own menu; a BIOS gets that disk.
    'if [ "$grub_platform" = efi ]; then',
    'regexp --set=1:own "^(hd[0-9]+)" "$root"',
    `for file in ${UEFI_LOADERS.map((name) => `(hd*,*)/EFI/${name}`).join(" ")}; do`,
    'if regexp "^\\($own," "$file"; then continue; fi',
    // What is loaded looks for its files on the root that it is given.
    'if [ -f "$file" ]; then regexp --set=1:root "^\\(([^)]*)" "$file"; chainloader "$file"; boot; fi',
    "done",
    "exit",
    "fi",
    'if regexp "^hd0" "$root"; then set root=hd1; else set root=hd0; fi',
    "chainloader +1",
    "}",
    "",
  ].join("\n");
}

/** One image for CD, USB stick and disk, BIOS and UEFI. */
export function buildMedium(plan: ImagePlan, out: string): void {
  checkTools();
  const tree = mkdtempSync(`${resolve(out)}.`);
  try {
    layOut(plan, tree);
    runGrub("grub-mkrescue", [...GRUB_OPTIONS, "-o", out, tree], out);
  } finally {
    rmSync(tree, { recursive: true });
  }
}

/** A folder for a TFTP server: a BIOS loads boot/grub/i386-pc/core.0 of it, UEFI boot/grub/x86_64-efi/core.efi. */
export function buildNetwork(plan: ImagePlan, out: string): void {
  checkTools();
  layOut(plan, out);
  runGrub("grub-mknetdir", [...GRUB_OPTIONS, `--net-directory=${out}`, "--subdir=boot/grub"], out);
}

/** Puts GRUB's configuration, the kernel and the modules where the configuration says. */
function layOut(plan: ImagePlan, folder: string): void {
  const spare = MAX_MODULES - 1 - plan.modules.length; // one is the manifest
  if (spare < 0) throw new Error(`${-spare} modules too many: an image holds ${MAX_MODULES - 1}`);
  const boot = join(folder, "boot");
  mkdirSync(join(boot, "grub"), { recursive: true });
  for (const { name, path } of [{ name: KERNEL, path: plan.kernel }, ...plan.modules]) {
    if (!existsSync(path)) throw new Error(`${name}: ${path}: no such file`);
    if (statSync(path).size === 0) throw new Error(`${name}: ${path}: is empty`);
    copyFileSync(path, join(boot, name));
  }
  writeFileSync(join(boot, MODULE_MANIFEST), manifest(plan.modules));
  writeFileSync(join(boot, "grub", "grub.cfg"), grubConfig(plan));
}

/** What must have come off the medium, for the control domain to compare: the boot loader goes on without what it cannot read. */
function manifest(modules: BootModule[]): Uint8Array {
  return cborEncode({ modules: modules.map(({ name, path }) => ({ name, size: statSync(path).size })) });
}

function checkTools(): void {
  const missing = NEEDED.filter(([path]) =>
    path.startsWith("/") ? !existsSync(path) : findProgram(path) === null,
  );
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, name]) => name))].join(" ");
  const names = missing.map(([path]) => path).join(", ");
  throw new Error(`GRUB's tools are not complete, ${names} missing; next: apt-get install ${packages}`);
}

function runGrub(program: string, args: string[], out: string): void {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${out}: ${program} failed:\n${stdout}${stderr}`);
}
