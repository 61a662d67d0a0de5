// VMs that start from Debian's firmware: a disk or CD with its own boot loader boots Linux.
// rigs: VT-x, AMD-V

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import { Host } from "./host";

/** What the disk's boot loader calls the system (test/boot/grub-disk.cfg). */
const VM = "gustav";

let host: Host;

test.before(async () => {
  host = await Host.boot("firmware", join("build", "firmware.iso"));
});
test.after(async () => host?.stop());

async function boot(firmware: string, ...disks: string[]): Promise<void> {
  const options = ["--memory", "256M", "--vcpus", "2", ...disks.flatMap((disk) => ["--disk", disk])];
  await host.ok("create", VM, "--firmware", firmware, ...options, "--start");
}

/** What Linux has made of memory types, vCPUs and ACPI tables, all by way of the firmware. */
async function checkLinux(): Promise<void> {
  await host.type(VM, "nproc", "^2");
  await host.type(VM, "grep -c 'IO-APIC.*acpi' /proc/interrupts", "^1");
  await host.type(VM, "dmesg | grep -c 'MTRR.*BIOS bug'", "^0");
  await host.type(VM, "dmesg | grep -c 'PAT: Configuration'", "^1");
  await host.type(VM, "cat /sys/class/dmi/id/product_*", `${VM}\\s+[0-9a-f-]{36}\\s`);
}

/** The firmware has put the generation ID into memory and has told Linux where; its event arrives. */
async function checkGeneration(): Promise<void> {
  const dump = `hexdump -v -e '1/1 "%02x"' /sys/firmware/acpi/tables/DSDT`;
  const address = "s/.*41444452124a00020c(..)(..)(..)(..)0a00.*/0x\\\\4\\\\3\\\\2\\\\1/";
  await host.type(VM, `echo at $(${dump} | sed -E '${address}')`, "^at 0x0[0-9a-f]{4}028");
  const generation = Buffer.alloc(16, 0x5e);
  await host.client.reborn(VM, { name: VM, generation, wallClock: 0n, clone: false });
  const event = "/sys/firmware/acpi/interrupts/gpe05";
  await host.type(VM, `until grep '^ *1 ' ${event}; do usleep 100000; done`, "^ +1 +EN +enabled");
}

async function expect(...lines: string[]): Promise<void> {
  const steps = lines.flatMap((line) => ["--expect", line]);
  await host.ok("console", VM, ...steps, "--timeout", "170s");
}

test("SeaBIOS starts both vCPUs and finds the disk; its GRUB boots Linux", async () => {
  await boot("seabios", "grub-disk,ro");
  await expect(
    "Found 2 cpu\\(s\\)",
    "found virtio-blk",
    "Booting from Hard Disk",
    "GRUB on pc",
    `${VM} is up`,
  );
  await checkLinux();
  await checkGeneration();
  await host.ok("rm", VM, "--force");
});

// OVMF writes CR8 while interrupts wait: there an assertion of QEMU 7.2's emulator of AMD-V fails (tcg_handle_interrupt).
const emulated = process.env.PLINTH_RIG === "qemu-tcg";
if (emulated) console.log("skipped: OVMF ends QEMU's emulator: it writes CR8 while an interrupt waits");

(emulated ? test.skip : test)("OVMF finds the disk; its GRUB boots Linux", async () => {
  await boot("ovmf", "grub-disk,ro");
  await expect("BdsDxe: starting", "GRUB on efi", `${VM} is up`);
  await host.type(VM, "dmesg | grep -c 'efi: EFI v2'", "^1");
  await checkLinux();
  await checkGeneration();
  await host.ok("rm", VM, "--force");
});

// The image of the disk has an El Torito boot record too. The first disk is booted, and a CD is one.
test("SeaBIOS boots a CD; its GRUB boots Linux, which mounts the CD", async () => {
  await boot("seabios", "grub-disk,cd", "grub-disk,ro");
  await expect("found virtio-scsi", "Booting from DVD/CD", "GRUB on pc", `${VM} is up`);
  await host.type(VM, "mount -t iso9660 -o ro /dev/sr0 /mnt && echo mount''ed", "^mounted");
  const sum = createHash("sha256")
    .update(readFileSync(join("build", "guest", "linux")))
    .digest("hex");
  await host.type(VM, "sha256sum /mnt/boot/linux", `^${sum}`);
  await host.type(VM, "cat /proc/sys/dev/cdrom/info", "drive name:\\s+sr0");
  await host.ok("rm", VM, "--force");
});

test.run();
