// Snapshots of a stock Linux VM with a mounted ext4 file system: what its clones write to their disks, nobody else reads;
// what goes back has the disk of then.
// rigs: AMD-V, VT-x (long)

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Host } from "./host";

const VM = "dora";
const CLONES = ["eve", "fay"];
const MOUNT = "mount -t ext4 /dev/vda /mnt && echo mount''ed";

let host: Host;
let free = 0;

test.before(async () => {
  host = await Host.boot("snapshot-disk", join("build", "disk.iso"));
  free = await host.free();
  await host.createLinux(VM, "96M", ["--disk", "disk", "--disk", "disk,ro"], "initrd-virtio");
  await host.type(VM, MOUNT, "^mounted");
});
test.after(async () => host?.stop());

/** Writes to a VM's disk, not only to its memory. */
async function write(vm: string, text: string): Promise<void> {
  const data = "dd if=/dev/urandom of=/mnt/data bs=64k count=8";
  await host.type(vm, `echo has:${text} >/mnt/file && ${data} && sync && echo writ''ten`, "^written");
}

/** Reads it from its disk, not from its memory. */
async function reads(vm: string, text: string): Promise<void> {
  await host.type(vm, "echo 3 >/proc/sys/vm/drop_caches; cat /mnt/file", `^has:${text}\\s`);
}

async function isClean(vm: string): Promise<void> {
  await host.type(vm, "umount /mnt && e2fsck -f -n /dev/vda; echo e2fsck said $?", "^e2fsck said 0");
}

test("clones write to disks of their own", async () => {
  await write(VM, "first");
  await host.ok("snapshot", "create", VM, "kept");
  await write(VM, "second");
  for (const vm of CLONES) {
    await host.ok("snapshot", "clone", "kept", vm, "--overcommit");
    await reads(vm, "first");
    await write(vm, vm);
  }
  for (const vm of CLONES) await reads(vm, vm);
  await reads(VM, "second");
});

test("a clone keeps its disk when it starts again", async () => {
  await host.ok("reset", CLONES[0]!, "--wait");
  await host.ok("console", CLONES[0]!, "--expect", `${VM} is up`, "--timeout", "170s"); // the name on its command line
  await host.type(CLONES[0]!, MOUNT, "^mounted");
  await reads(CLONES[0]!, CLONES[0]!);
});

test("what goes back has the disk of then; all file systems are whole", async () => {
  await host.ok("snapshot", "restore", "kept", "--force");
  await reads(VM, "first");
  for (const vm of [VM, ...CLONES]) await isClean(vm);
});

test("nothing is left", async () => {
  for (const vm of [VM, ...CLONES]) await host.ok("rm", vm, "--force");
  await host.ok("snapshot", "rm", "kept");
  assert.is(await host.free(), free);
});

test.run();
