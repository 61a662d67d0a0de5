// Every way to start a VM from images, and systems that were not written here.
// rigs: VT-x, AMD-V

import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const test = suite<{ host: Host }>("starts");

test.before(async (context) => {
  context.host = await Host.boot("starts", join("build", "starts.iso"));
});
test.after(async (context) => context.host?.stop());

const WAYS: [string, string[]][] = [
  ["multiboot", ["start: moved by 0x0", "lower 0x9f000", "upper 0xf00000", "loader Plinth", "sections 0x8"]],
  ["multiboot2", ["start: moved by 0xc00000", "base 0xe00000", "rsdp RSD PTR ", "the end tag is last"]],
  ["pvh", ["start: moved by 0x0", "version 0x1", "rsdp RSD PTR "]],
];

for (const [way, facts] of WAYS) {
  test(`a kernel by ${way}: its state, memory map, modules; its exit code`, async ({ host }) => {
    const images = ["--kernel", "starts", "--module", "starts,first module", "--module", "memtest-x64"];
    const options = ["--boot", way, "--cmdline", "one two", "--debug-exit"];
    await host.ok("create", way, "--memory", "16M", ...images, ...options, "--start", "--wait=stopped");
    assert.is((await host.client.show(way)).reason, "exit code 33");
    const lines = (await host.scrollback(way)).split("\n");
    const memory = ["ram below 1 MiB 0x9f000", "ram above 0xf00000"];
    const module_ = "  text first module";
    for (const line of [...facts, ...memory, module_, "cmdline one two"])
      assert.ok(lines.includes(line), `${way}: no line '${line}' in:\n${lines.join("\n")}`);
    assert.is(lines.filter((line) => line.startsWith("module of")).length, 2);
    await host.ok("rm", way);
  });
}

for (const [image, way] of [
  ["memtest-x64", "linux"],
  ["memtest-ia32", "linux32"],
] as const) {
  test(`Debian's memtest86+ by ${way}: it finds the machine and tests its memory`, async ({ host }) => {
    const options = ["--kernel", image, "--boot", way, "--cmdline", "console=ttyS0,115200"];
    await host.ok("create", "memtest", "--memory", "6M", ...options, "--start");
    await host.ok("console", "memtest", "--expect", "#([3-9]|10) +\\[", "--timeout", "90s");
    assert.match(await host.scrollback("memtest"), /Memtest86\+ v[^]*Errors: 0/);
    await host.ok("rm", "memtest", "--force");
  });
}

for (const [kernel, name] of [
  ["vmlinux", "cloud"],
  ["vmlinux-generic", "generic"],
] as const) {
  test(`Debian's ${name} kernel by PVH: unpacked, with an initrd, to its prompt`, async ({ host }) => {
    const cmdline = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${name}`;
    const images = ["--kernel", kernel, "--initrd", "initrd", "--cmdline", cmdline];
    await host.ok("create", name, "--memory", "160M", ...images, "--start");
    await host.waitUp(name);
    await host.type(name, "uname -r", name === "cloud" ? "-cloud-amd64" : "^[0-9.]+-[0-9]+-amd64");
    await host.ok("rm", name, "--force");
  });
}

test.run();
