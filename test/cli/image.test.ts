// `plinth image`: what it refuses, and what the media that it builds hold.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cborDecode } from "../../control/protocol/node/cbor";
import { runCli, type Result } from "./run-cli";

const VM = { name: "one", memory: "64M", kernel: "loop", disks: [{ image: "data" }] };

const test = suite<{ folder: string; spec: string }>("plinth image");

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "plinth-test-"));
  context.spec = join(context.folder, "host.json");
  writeFileSync(context.spec, JSON.stringify({ version: 1, host: { name: "it" }, vms: [VM] }));
  writeFileSync(join(context.folder, "loop"), "the kernel of a VM");
  writeFileSync(join(context.folder, "other"), "a disk");
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

async function refused(code: number, said: RegExp, ...argv: string[]): Promise<void> {
  const result = await runCli(undefined, ["image", ...argv]);
  assert.is(result.code, code, result.stderr);
  assert.match(result.stderr, said);
}

async function built(...argv: string[]): Promise<Result> {
  const result = await runCli(undefined, ["image", ...argv]);
  assert.is(result.code, 0, result.stderr);
  return result;
}

test("what is missing is named, and what to do", async ({ folder, spec }) => {
  const out = join(folder, "out");
  const base = ["iso", "--spec", spec, "-o", out];
  await refused(2, /needs -o FILE\nnext: plinth help image iso/, "iso", "--spec", spec);
  await refused(
    3,
    /host\.json, VM 'one': there is no file for the image 'data'\nnext: plinth image iso --image data=FILE/,
    ...base,
  );
  await refused(1, /data: .*nowhere: no such file/, ...base, "--image", "data=/nowhere");
  await refused(2, /--menu/, "iso", "--menu", "soon", "-o", out);
  await refused(2, /--image: 'data' is not NAME=FILE/, ...base, "--image", "data");
  await refused(2, /image 'control': the name is Plinth's own/, ...base, "--image", "control=x");
  await refused(2, /image 'a b': a name has up to 55/, ...base, "--image", "a b=x");
  const many = Array.from({ length: 20 }, (_, n) => ["--image", `i${n}=${spec}`]).flat();
  await refused(1, /2 modules too many: an image holds 23/, ...base, "--image", `data=${spec}`, ...many);
  await refused(3, /gone\.json: no such file/, "iso", "--spec", join(folder, "gone.json"), "-o", out);
  writeFileSync(spec, JSON.stringify({ version: 1, vms: [{ ...VM, memroy: 1 }] }));
  await refused(2, /VM 'one': unknown field 'memroy'; did you mean 'memory'\?/, ...base);
  assert.not(existsSync(out));
});

test("without GRUB's tools the packages are named", async ({ folder }) => {
  const path = process.env.PATH;
  process.env.PATH = "/nonexistent";
  try {
    const said =
      /grub-mkrescue, grub-mknetdir, xorriso, mformat missing\nnext: apt-get install grub-common xorriso/;
    await refused(1, said, "usb", "-o", join(folder, "out"));
  } finally {
    process.env.PATH = path;
  }
});

for (const kind of ["iso", "usb"]) {
  test(`${kind}: kernel, components, specification, images`, async ({ folder, spec }) => {
    const out = join(folder, "out");
    const images = ["--image", `data=${join(folder, "other")}`, "--image", `more=${spec}`];
    await built(kind, "--spec", spec, ...images, "--options", "apicv=off", "-o", out);
    const read = (name: string): Buffer => {
      const to = join(folder, "read");
      const args = ["-indev", out, "-osirrox", "on", "-extract", `/boot/${name}`, to];
      rmSync(to, { force: true });
      execFileSync("xorriso", args, { stdio: "ignore" });
      return readFileSync(to);
    };
    assert.is(read("loop").toString(), "the kernel of a VM");
    assert.is(read("data").toString(), "a disk");
    assert.equal(read("more"), readFileSync(spec));
    assert.equal(read("control"), readFileSync(join("build", "control.bin")));
    const { vms } = cborDecode(read("spec")) as { vms: { memory: number; start: boolean }[] };
    assert.equal([vms[0]!.memory, vms[0]!.start], [64 << 20, true]);
    const config = read("grub/grub.cfg").toString();
    assert.match(config, "if multiboot2 /boot/kernel.elf apicv=off; then\n");
    for (const name of ["control", "device-model", "spec", "loop", "data", "more"])
      assert.match(config, `module2 /boot/${name} ${name}\n`);
    const { modules } = cborDecode(read("manifest")) as { modules: { name: string; size: number }[] };
    assert.is(modules.length, 6);
    for (const { name, size } of modules) assert.is(size, read(name).length, name);
  });
}

test("pxe: a folder with a loader for each firmware", async ({ folder }) => {
  const out = join(folder, "tftp");
  const { stdout } = await built("pxe", "-o", out, "--json");
  assert.equal(JSON.parse(stdout), { output: out, modules: ["control", "device-model"] });
  for (const file of ["kernel.elf", "grub/grub.cfg", "grub/i386-pc/core.0", "grub/x86_64-efi/core.efi"])
    assert.ok(existsSync(join(out, "boot", file)), file);
});

test.run();
