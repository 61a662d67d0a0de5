// UEFI firmware boots a CD: OVMF reads its El Torito boot record through virtio SCSI.

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
});

test.run();
