// `plinth image`: builds what a server boots, with a host specification and the images of its VMs.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type BootModule, buildMedium, buildNetwork, type ImagePlan } from "../../../boot/images/image";
import { MODULE_MANIFEST } from "../../protocol/schema";
import type { Option } from "../arguments";
import type { Command, Context } from "../command";
import { ErrorCode, PlinthError, usageError } from "../errors";
import { encodeHostSpec, imagesOf, readHostSpec } from "../spec";
import { parseNumber } from "../values";

/** How long GRUB waits for Esc, which brings up its menu. */
const MENU_SECONDS = "3";

/** What the kernel takes as a module's name, and what is a file name everywhere. */
const IMAGE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,54}$/;

/** Modules that are no images of VMs. */
const OWN_NAMES = ["control", "device-model", "spec", MODULE_MANIFEST, "kernel.elf", "grub"];

const OPTIONS: readonly Option[] = [
  {
    name: "spec",
    value: "FILE",
    choices: ["file"],
    summary: "host specification (JSON, YAML or TOML): its VMs are created",
  },
  {
    name: "image",
    value: "NAME=FILE",
    repeat: true,
    summary: "an image of a VM (without it: NAME beside the specification)",
  },
  { name: "options", value: "LINE", summary: "the kernel's command line" },
  { name: "menu", value: "SECONDS", summary: `how long Esc brings up the boot menu (${MENU_SECONDS})` },
  { name: "output", short: "o", value: "FILE", choices: ["file"], summary: "what is written" },
];

/** What went wrong while building, with the next step that the message names. */
function explained(error: unknown, out: string): unknown {
  if (error instanceof PlinthError) return error;
  const [message, next] = (error as Error).message.split("; next: ");
  return new PlinthError({ code: ErrorCode.FAILED, message: message!, object: out, next });
}

/** `plinth image KIND`: which differ only in what they write. */
function imageCommand(
  kind: string,
  summary: string,
  build: (plan: ImagePlan, out: string) => void,
  next: (out: string) => string,
): Command {
  return {
    name: `image ${kind}`,
    operands: "",
    options: OPTIONS,
    summary,
    examples: [`plinth image ${kind} --spec host.json --image linux=vmlinuz -o ${kind}.out`],
    run: async (context) => {
      const out = context.args.value("output");
      if (out === undefined)
        throw usageError(`'plinth image ${kind}' needs -o FILE`, `plinth help image ${kind}`);
      const scratch = mkdtempSync(join(tmpdir(), "plinth-image-"));
      try {
        const plan = readPlan(context, kind, scratch);
        build(plan, out);
        const modules = plan.modules.map(({ name }) => name);
        if (context.out.json) context.out.object({ output: out, modules });
        else context.out.talk(`${out}: kernel, ${modules.join(", ")}; next: ${next(out)}`);
      } catch (error) {
        throw explained(error, out);
      } finally {
        rmSync(scratch, { recursive: true });
      }
    },
  };
}

export const imageIso = imageCommand(
  "iso",
  "build an image for CD, and for disks: BIOS and UEFI",
  buildMedium,
  (out) => `plinth rig up --iso ${out}`,
);

export const imageUsb = imageCommand(
  "usb",
  "build an image for a USB stick: BIOS and UEFI",
  buildMedium,
  (out) => `dd if=${out} of=/dev/sdX bs=4M conv=fsync`,
);

export const imagePxe = imageCommand(
  "pxe",
  "fill a folder for a TFTP server: BIOS and UEFI",
  buildNetwork,
  () => "let DHCP name boot/grub/i386-pc/core.0, or for UEFI boot/grub/x86_64-efi/core.efi",
);

/** The kernel and its components, as built; the specification, and the images that it names. */
function readPlan(context: Context, kind: string, scratch: string): ImagePlan {
  const { args } = context;
  const file = args.value("spec");
  const given = new Map(args.values("image").map(parseImage));
  const modules: BootModule[] = [
    { name: "control", path: part("control.bin") },
    { name: "device-model", path: part("device-model.bin") },
  ];
  if (file !== undefined) {
    const spec = readHostSpec(file);
    const path = join(scratch, "spec");
    writeFileSync(path, encodeHostSpec(spec));
    modules.push({ name: "spec", path });
    for (const vm of spec.vms)
      for (const name of imagesOf(vm)) {
        checkName(name);
        if (given.has(name)) continue;
        const beside = join(dirname(file), name);
        if (!existsSync(beside)) throw noImage(`${file}, VM '${vm.name}'`, name, kind);
        given.set(name, beside);
      }
  }
  modules.push(...[...given].map(([name, path]) => ({ name, path })));
  const menuSeconds = parseNumber(args.value("menu") ?? MENU_SECONDS, "--menu");
  return { kernel: part("kernel"), options: args.value("options") ?? "", modules, menuSeconds };
}

function noImage(where: string, name: string, kind: string): PlinthError {
  const message = `${where}: there is no file for the image '${name}'`;
  const next = `plinth image ${kind} --image ${name}=FILE`;
  return new PlinthError({ code: ErrorCode.NOT_FOUND, message, object: name, next });
}

function parseImage(word: string): [string, string] {
  const at = word.indexOf("=");
  if (at < 1 || at === word.length - 1)
    throw usageError(`--image: '${word}' is not NAME=FILE`, "plinth help image");
  checkName(word.slice(0, at));
  return [word.slice(0, at), word.slice(at + 1)];
}

function checkName(name: string): void {
  if (OWN_NAMES.includes(name)) throw usageError(`image '${name}': the name is Plinth's own; take another`);
  if (!IMAGE_NAME.test(name))
    throw usageError(`image '${name}': a name has up to 55 letters, digits, dots, underscores and dashes`);
}

/** A part of the host, beside this program if it was built there, else in build/. */
function part(name: string): string {
  const beside = join(__dirname, name);
  const path = existsSync(beside) ? beside : join("build", name);
  if (existsSync(path)) return path;
  const message = `${path}: no such file: the host's parts are not built`;
  throw new PlinthError({ code: ErrorCode.NOT_FOUND, message, object: path, next: "make all" });
}
