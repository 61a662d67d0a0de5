// Disks and entropy under stock Linux: an ext4 file system is written, checked, and still there after a reset.

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const VM = "dora";
const CMDLINE = `console=ttyS0 quiet cryptomgr.notests panic=-1 plinth.name=${VM}`;

let host: Host;
let sum = "";
let free = 0;

test.before(async () => {
  host = await Host.boot("disk", join("build", "disk.iso"));
  free = await host.free();
  const images = ["--memory", "128M", "--vcpus", "2", "--kernel", "linux", "--initrd", "initrd-virtio"];
  await host.ok(
    "create",
    VM,
    ...images,
    "--disk",
    "disk",
    "--disk",
    "disk,ro",
    "--cmdline",
    CMDLINE,
    "--start",
  );
  await host.waitUp(VM);
});
test.after(async () => host?.stop());

/** The checksum that the guest prints of a file. */
async function checksum(file: string): Promise<string> {
  const text = await host.type(VM, `sha256sum ${file}`, `^[0-9a-f]{64}  ${file}`);
  return /^([0-9a-f]{64}) {2}\//m.exec(text.replace(/\r/g, ""))?.[1] ?? "none";
}

test("the guest finds the devices on its PCI bus", async () => {
  await host.type(VM, "cat /sys/bus/pci/devices/*/device", "0x0008\\s+0x1044\\s+0x1042\\s+0x1042");
  await host.type(VM, "cat /sys/block/vd?/size /sys/block/vd?/ro", "16384\\s+16384\\s+0\\s+1\\s");
  await host.type(VM, "grep virtio /proc/interrupts", "PCI-MSI.*virtio1-req");
});

test("entropy comes from the host", async () => {
  await host.type(VM, "cat /sys/class/misc/hw_random/rng_current", "^virtio_rng");
  await host.type(VM, "dd if=/dev/hwrng bs=64 count=16 2>/dev/null | wc -c", "^1024");
});

test("an ext4 file system is written, and e2fsck finds it clean", async () => {
  await host.type(VM, "mount -t ext4 /dev/vda /mnt && echo mount''ed", "^mounted");
  await host.type(
    VM,
    "dd if=/dev/urandom of=/mnt/data bs=64k count=32 && sync && echo writ''ten",
    "^written",
  );
  sum = await checksum("/mnt/data");
  await host.type(VM, "umount /mnt && echo 3 >/proc/sys/vm/drop_caches && echo unmount''ed", "^unmounted");
  await host.type(VM, "e2fsck -f -n /dev/vda; echo e2fsck said $?", "^e2fsck said 0");
});

test("a read-only disk cannot be written", async () => {
  await host.type(VM, "echo x >/dev/vdb; echo wrote $?", "^wrote 1");
});

test("what was written is there after a reset", async () => {
  await host.ok("reset", VM, "--wait");
  await host.waitUp(VM);
  await host.type(VM, "mount -t ext4 /dev/vda /mnt && echo mount''ed", "^mounted");
  assert.is(await checksum("/mnt/data"), sum);
});

test("a VM's console can be a virtio device", async () => {
  const cmdline = "quiet cryptomgr.notests panic=-1 plinth.name=hugo plinth.console=hvc0";
  const images = ["--memory", "96M", "--kernel", "linux", "--initrd", "initrd-virtio", "--console", "virtio"];
  await host.ok("create", "hugo", ...images, "--cmdline", cmdline, "--start");
  await host.waitUp("hugo");
  await host.type("hugo", "tty; seq 1 2000 | sha256sum", "^/dev/hvc0\\s+[0-9a-f]{64}");
  await host.type("hugo", "seq 1 500", "^499\\s+500\\s");
  await host.ok("rm", "hugo", "--force");
});

test("rm gives its memory back, the disks' too", async () => {
  await host.ok("rm", VM, "--force");
  assert.is(await host.free(), free);
});

test.run();
