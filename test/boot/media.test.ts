// Boot images on every firmware, board and medium that they are made for, as `plinth image` builds them: each gets to
// its shell, and has started the VM of its specification.
// rigs: own

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Machine, type Rig, startRig } from "../../boot/rigs/rig";
import { runCli } from "../cli/run-cli";
import { connect } from "../../control/cli/client";
import { runDir } from "./host";
import { screenShows } from "./screen";
import { bootUntil, type, waitFor } from "./serial";
import { Terminal } from "./terminal";

const LIMIT_MS = 170_000;
const FOLDER = join("build", "run", "media");
const CD = join(FOLDER, "cd");
const USB = join(FOLDER, "usb");
const USB_THAT_WAITS = join(FOLDER, "waits");
const NETWORK = join(FOLDER, "network");

async function build(kind: string, out: string, ...options: string[]): Promise<void> {
  const images = ["--image", `ticker=${join("build", "guest-tests", "ticker")}`];
  const argv = ["image", kind, "--spec", join(FOLDER, "host.json"), ...images, "-o", out, ...options];
  const { code, stderr } = await runCli(undefined, argv);
  assert.is(code, 0, stderr);
}

test.before(async () => {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const vms = [{ name: "own", memory: "4M", kernel: "ticker" }];
  writeFileSync(join(FOLDER, "host.json"), JSON.stringify({ version: 1, host: { name: "media" }, vms }));
  await build("iso", CD, "--menu", "0");
  await build("usb", USB, "--menu", "2");
  // As long as it takes: Esc is pressed in some of the tests.
  await build("usb", USB_THAT_WAITS, "--menu", "60");
  await build("pxe", NETWORK, "--menu", "0");
});

const MACHINES: [string, Machine][] = [
  [CD, { firmware: "uefi", medium: "cd", board: "q35" }],
  [CD, { firmware: "uefi", medium: "cd", board: "pc" }],
  [USB, { firmware: "uefi", medium: "usb", board: "q35" }],
  [CD, { firmware: "uefi", medium: "nvme", board: "q35" }],
  [NETWORK, { firmware: "uefi", medium: "network", board: "q35" }],
  [CD, { firmware: "bios", medium: "cd", board: "q35" }],
  [CD, { firmware: "bios", medium: "cd", board: "pc" }],
  [USB, { firmware: "bios", medium: "usb", board: "q35" }],
  [CD, { firmware: "bios", medium: "nvme", board: "q35" }],
  [NETWORK, { firmware: "bios", medium: "network", board: "q35" }],
];

for (const [iso, machine] of MACHINES) {
  const name = `${machine.firmware}-${machine.medium}-${machine.board}`;
  test(name, async () => {
    const rig = await startRig({ iso, rig: "qemu-tcg", machine, runDir: runDir(name) });
    try {
      // A program that waits since power-on has pressed no key of the menu, and left nothing in the shell's line.
      const client = await connect(rig.socketPath, { timeout: LIMIT_MS });
      const terminal = await Terminal.open(rig.socketPath);
      const end = Date.now() + LIMIT_MS;
      let said = "";
      while (!/^own +running/m.test(said)) {
        assert.ok(Date.now() < end, said);
        said = await terminal.command("ls");
      }
      assert.is((await client.status()).badFrames, 0);
      await terminal.close();
      await client.close();
      const waits = iso === USB ? [/Plinth in 2 s; Esc: menu/] : [];
      assert.not.match(await waitFor(rig, waits), /The local disk|Minimal BASH-like/);
      // On a framebuffer the kernel draws its own letters, from when it has mapped it.
      if (machine.firmware === "uefi") await screenShows(rig, /starting control/);
    } finally {
      await rig.stop();
    }
  });
}

for (const [firmware, medium] of [
  ["bios", "usb"],
  ["bios", "cd"],
  ["uefi", "usb"],
] as const) {
  test(`${firmware}, ${medium}: the menu boots the local disk instead`, async () => {
    const machine: Machine = { firmware, medium, disk: join("build", "guest", "grub-disk") };
    const choose = async (rig: Rig): Promise<void> => {
      await type(rig, "\x1b");
      await waitFor(rig, [/The local disk/]);
      await type(rig, "\x0e\r"); // one down, and go
      await waitFor(rig, [firmware === "bios" ? /GRUB on pc\b/ : /GRUB on efi\b/]);
    };
    const options = { iso: USB_THAT_WAITS, rig: "qemu-tcg", machine } as const;
    await bootUntil(`local-${firmware}-${medium}`, options, [/Plinth in 60 s; Esc: menu/], choose);
  });
}

test.run();
