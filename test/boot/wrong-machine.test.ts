// A machine or an image that lacks what Plinth needs gets one clear line: the last one, on COM1 and on the screen.
// rigs: own

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type BootModule, buildMedium, buildNetwork } from "../../boot/images/image";
import { REFUSAL, type RigOptions } from "../../boot/rigs/rig";
import { DEMO_ISO } from "./host";
import { screenShows } from "./screen";
import { bootUntil, waitFor } from "./serial";

const FOLDER = join("build", "run", "wrong-machine");
const CONTROL = { name: "control", path: join("build", "control.bin") };
const MODEL = { name: "device-model", path: join("build", "device-model.bin") };

test.before(() => {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
});

/** An image with these modules. */
function image(name: string, modules: BootModule[]): string {
  const out = join(FOLDER, `${name}.iso`);
  buildMedium({ kernel: join("build", "kernel"), options: "", modules, menuSeconds: null }, out);
  return out;
}

/** Boots until the refusal, which must be the last line and say this. */
async function refused(name: string, said: RegExp, options: RigOptions): Promise<void> {
  const text = await bootUntil(name, options, [REFUSAL], async (rig) => {
    if (rig.kind !== "bochs") await screenShows(rig, said);
  });
  const lines = text.slice(text.search(REFUSAL)).trimEnd().split("\n");
  assert.is(lines.length, 1, text);
  assert.match(lines[0]!, said);
}

test("neither VT-x nor AMD-V", () =>
  refused("no-svm", /this CPU has no VT-x/, {
    iso: DEMO_ISO,
    rig: "qemu-tcg",
    machine: { cpu: "qemu64,-svm", firmware: "uefi" },
  }));

test("AMD-V without nested paging", () =>
  refused("no-npt", /this CPU's AMD-V has no nested paging/, {
    iso: DEMO_ISO,
    rig: "qemu-tcg",
    machine: { cpu: "EPYC,-npt" },
  }));

test("a feature register that is locked without VT-x", async () => {
  // Bochs's firmware does not do that: its debugger changes what the kernel has read.
  const show = ["-d", "--no-show-raw-insn", "--disassemble=virt_require", join("build", "kernel.elf")];
  const code = execFileSync("objdump", show, { encoding: "utf8" });
  const read = /\$0x3a,%ecx\n.*\trdmsr\s*\n\s*([0-9a-f]+):/.exec(code);
  assert.ok(read, "no read of IA32_FEATURE_CONTROL in the kernel");
  const orders = [`lb 0x${read[1]}`, "c", "set eax = 1"];
  const options = { iso: DEMO_ISO, rig: "bochs", debugger: orders } as const;
  await refused(
    "locked",
    /VT-x is disabled by firmware: IA32_FEATURE_CONTROL is locked without VMXON/,
    options,
  );
});

test("too little memory", () =>
  refused("memory", /cannot start the control domain: .*; it needs \d+ MiB of RAM/, {
    iso: image("memory", [CONTROL, MODEL]),
    rig: "qemu-tcg",
    memoryMiB: 12,
  }));

test("no modules", () =>
  refused("modules", /the first of 1 boot modules is not "control": .* Write the boot image again$/, {
    iso: image("modules", []),
    rig: "qemu-tcg",
  }));

test("a truncated control domain", async () => {
  const path = join(FOLDER, "truncated");
  writeFileSync(path, readFileSync(CONTROL.path).subarray(0, 100_000));
  await refused(
    "truncated",
    /"control" is truncated: it has 100000 of its \d+ bytes\. Write the boot image again$/,
    {
      iso: image("truncated", [{ name: "control", path }, MODEL]),
      rig: "qemu-tcg",
    },
  );
});

const PARTS = { linux: 300_000, initrd: 200_000, disk: 100_000 };

/** A folder for a TFTP server, of which `damage` has taken something. */
function served(name: string, damage: (file: (name: string) => string) => void): string {
  const folder = join(FOLDER, name);
  const modules = [CONTROL, MODEL];
  for (const [part, size] of Object.entries({ ...PARTS, spec: 100 })) {
    const path = join(FOLDER, part);
    writeFileSync(path, new Uint8Array(size).fill(1));
    modules.push({ name: part, path });
  }
  buildNetwork({ kernel: join("build", "kernel"), options: "", modules, menuSeconds: null }, folder);
  damage((file) => join(folder, "boot", file));
  return folder;
}

/** Boots such a folder until all of this is on the serial line, and on the screen. */
async function told(name: string, folder: string, said: RegExp[]): Promise<void> {
  const machine = { firmware: "uefi", medium: "network" } as const;
  await bootUntil(name, { iso: folder, rig: "qemu-tcg", machine }, [/plinth> $/], async (rig) => {
    await waitFor(rig, said);
    for (const line of said) await screenShows(rig, line);
  });
}

test("a device model, a VM's kernel and its initrd that are truncated or missing", async () => {
  const folder = served("truncated-model", (file) => {
    truncateSync(file("device-model"), 50_000);
    truncateSync(file("linux"), 1000);
    truncateSync(file("disk"), 0);
    rmSync(file("initrd"));
  });
  await told("truncated-model", folder, [
    /error: boot module "device-model" is truncated: it has 50,000 of its [\d,]+ bytes/,
    /error: boot module "linux" is truncated: it has 1,000 of its 300,000 bytes/,
    /error: boot module "disk" is missing: the boot loader could not read it/,
    /error: boot module "initrd" is missing: the boot loader could not read it/,
    /next: write the boot image again/,
  ]);
});

test("no device model, and a truncated specification", async () => {
  const folder = served("no-model", (file) => {
    rmSync(file("device-model"));
    truncateSync(file("spec"), 50);
  });
  await told("no-model", folder, [
    /error: boot module "device-model" is missing: the boot loader could not read it/,
    /error: boot module "spec" is truncated: it has 50 of its 100 bytes/,
  ]);
});

test("no control domain, though there are other modules", () =>
  refused("no-control", /the first of \d boot modules is not "control": .* Write the boot image again$/, {
    iso: served("no-control", (file) => rmSync(file("control"))),
    rig: "qemu-tcg",
    machine: { firmware: "uefi", medium: "network" },
  }));

test("no kernel", async () => {
  const folder = served("no-kernel", (file) => truncateSync(file("kernel.elf"), 5000));
  const machine = { medium: "network" } as const;
  const said = /^Plinth cannot run here: kernel\.elf is missing or damaged; rewrite the image$/m;
  await bootUntil("no-kernel", { iso: folder, rig: "qemu-tcg", machine }, [said]);
});

test.run();
