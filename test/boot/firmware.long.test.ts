// UEFI firmware boots a CD: OVMF reads its El Torito boot record through virtio SCSI. And it keeps its variables.

import { join } from "node:path";
import { test } from "uvu";
import { Host } from "./host";

const VM = "gustav"; // what the CD's boot loader calls it

let host: Host;

test.before(async () => {
  host = await Host.boot("firmware-cd", join("build", "firmware.iso"));
});
test.after(async () => host?.stop());

test("OVMF boots a CD; its GRUB boots Linux, which mounts the CD", async () => {
  const options = ["--memory", "256M", "--firmware", "ovmf", "--disk", "grub-disk,cd"];
  await host.ok("create", VM, ...options, "--start");
  const steps = ["BdsDxe: starting", "GRUB on efi", `${VM} is up`].flatMap((line) => ["--expect", line]);
  await host.ok("console", VM, ...steps, "--timeout", "20m");
  await host.type(VM, "mount -t iso9660 -o ro /dev/sr0 /mnt && ls /mnt/boot", "initrd-virtio.cpio");
  await host.ok("rm", VM, "--force");
});

test("OVMF keeps a variable over a reset, and over a stop", async () => {
  const shell = (command: string, ...answers: string[]): Promise<string> => {
    const steps = [...answers, "Shell>"].flatMap((line) => ["--expect", line]);
    return host.ok("console", VM, "--send", `${command}\\r`, ...steps, "--timeout", "5m");
  };
  const kept = "setvar kept -guid 706c696e-7468-0001-0002-000300040005";
  await host.ok("create", VM, "--memory", "128M", "--firmware", "ovmf", "--start");
  await host.ok("console", VM, "--expect", "Shell>", "--timeout", "5m");
  await shell(kept, "Unable to get");
  await shell(`${kept} -bs -nv =0x0a1b2c3d4e5f6071`);
  await shell("reset", "startup.nsh");
  await shell(kept, "71 60 5F 4E 3D 2C 1B 0A");
  await host.ok("stop", VM, "--force");
  await host.ok("start", VM);
  await host.ok("console", VM, "--expect", "Shell>", "--timeout", "5m");
  await shell(kept, "71 60 5F 4E 3D 2C 1B 0A");
  await host.ok("rm", VM, "--force");
});

test.run();
