// Disks and entropy under stock Linux: an ext4 file system is written, checked, and still there after a reset.
// rigs: VT-x, AMD-V

import { createHash } from "node:crypto";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BalloonRow } from "../../control/cli/results";
import { startCli } from "../cli/run-cli";
import { Host } from "./host";

const VM = "dora";
const MIB = 1 << 20;

let host: Host;
let sum = "";
let free = 0;

test.before(async () => {
  host = await Host.boot("disk", join("build", "disk.iso"));
  free = await host.free();
  const devices = ["--disk", "disk", "--disk", "disk,ro", "--port", "log", "--port", "data"];
  await host.createLinux(VM, "128M", ["--vcpus", "2", ...devices], "initrd-virtio");
});
test.after(async () => host?.stop());

/** The checksum that the guest prints of a file. */
async function checksum(file: string): Promise<string> {
  const text = await host.type(VM, `sha256sum ${file}`, `^[0-9a-f]{64}  ${file}`);
  return /^([0-9a-f]{64}) {2}\//m.exec(text.replace(/\r/g, ""))?.[1] ?? "none";
}

test("the guest finds the devices on its PCI bus", async () => {
  await host.type(
    VM,
    "cat /sys/bus/pci/devices/*/device",
    "0x0008\\s+0x1044\\s+0x1043\\s+0x1042\\s+0x1042\\s+0x1045",
  );
  await host.type(VM, "cat /sys/block/vd?/size /sys/block/vd?/ro", "16384\\s+16384\\s+0\\s+1\\s");
  await host.type(VM, "grep virtio /proc/interrupts", "PCI-MSI.*virtio2-req");
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

/** Waits until as much of a VM's memory as wanted has frames; its time passes with what it does meanwhile. */
async function waitPresent(vm: string, wanted: (bytes: number) => boolean): Promise<void> {
  for (let tries = 0; ; tries++) {
    const { mapped, balloon } = await host.client.show(vm);
    if (wanted(mapped)) return;
    assert.ok(tries < 600, `${mapped} bytes of ${vm} are present, ${JSON.stringify(balloon)}`);
    await host.type(vm, "sync; echo pau''sed", "^paused");
  }
}

async function waitBalloon(wanted: (said: BalloonRow) => boolean): Promise<void> {
  for (let tries = 0; ; tries++) {
    const said = (await host.client.show(VM)).balloon!;
    if (wanted(said)) return;
    assert.ok(tries < 300, JSON.stringify(said));
    await host.type(VM, "echo pau''sed", "^paused");
  }
}

test("a balloon gives memory to the host and takes it back; what is in use stays as it is", async () => {
  await host.type(VM, "dd if=/dev/urandom of=/tmp/kept bs=64k count=96 && echo writ''ten", "^written");
  const kept = await checksum("/tmp/kept");
  const before = await host.free();
  await host.ok("balloon", VM, "96M");
  await waitPresent(VM, (bytes) => bytes <= 100 * MIB);
  assert.ok((await host.free()) >= before + 20 * MIB, "the host has more free memory");
  await waitBalloon((said) => said.actual === said.target);
  const text = await host.type(VM, "grep MemTotal /proc/meminfo", "MemTotal: +[5-9]\\d{4} kB");
  // What the driver said when it was last asked; each look asks again.
  const total = Number(/MemTotal: +(\d+) kB/.exec(text)?.[1]) * 1024;
  await waitBalloon((said) => said.total === total);
  await waitBalloon((said) => said.free! > 0 && said.free! < total && said.available! < total);
  assert.match(await host.ok("show", VM), /^inside +\S+ \S+ /m);
  assert.is(await checksum("/tmp/kept"), kept);
  await host.ok("balloon", VM, "128M");
  await waitBalloon((said) => said.actual === said.target);
  await host.type(VM, "dd if=/dev/zero of=/tmp/big bs=1M count=24; stat -c %s /tmp/big", "^25165824");
  await waitPresent(VM, (bytes) => bytes >= 100 * MIB);
  assert.is(await checksum("/tmp/kept"), kept);
});

const lines = (count: number): string => Array.from({ length: count }, (_, n) => `${n + 1}\n`).join("");

/** Bytes to a port that a VM finds by its name, and back; each side waits while the other does not read. */
async function exchange(vm: string): Promise<void> {
  await host.refused(4, [/port "data" is not open in the VM/], "port", vm, "data");
  const find = `cd /sys/class/virtio-ports; for p in *; do grep -qs data $p/name && echo /dev/$p; done; cd`;
  const device = /^\/dev\/vport\d+p2/m.exec(await host.type(vm, find, "^/dev/vport\\d+p2"))?.[0];
  await host.type(vm, `exec 3<>${device}; echo op''ened`, "^opened");
  const ports = (await host.client.show(vm)).ports!;
  assert.equal(ports.find((port) => port.name === "data")?.open, true);
  const session = startCli({ path: host.path }, ["port", vm, "data"]);
  const sent = lines(3000);
  session.stdin.write(sent);
  const read = `head -c ${sent.length} <&3 | sha256sum | sed s/^/got:/`;
  const got = await host.type(vm, read, "^got:[0-9a-f]{64}");
  assert.match(got, `got:${createHash("sha256").update(sent).digest("hex")}`);
  await host.type(vm, "seq 1 3000 >&3; exec 3>&-; echo clo''sed", "^closed");
  const { code, stdout, stderr } = await session.result;
  assert.is(code, 0, stderr);
  assert.is(stdout, sent);
}

test("a named port carries bytes both ways, and none is lost", async () => {
  await exchange(VM);
  const stream = host.client.port(VM, "log");
  await stream.open({ wait: true });
  const bytes: Uint8Array[] = [];
  // Meanwhile, since a program that asks for nothing counts as gone, and the host's time may pass faster than ours.
  const reading = async (): Promise<void> => {
    for (let data = await stream.read(120_000); data; data = await stream.read(1000)) bytes.push(data);
  };
  // Every byte there is, and more of them than fit into the port's buffer.
  const writing = host.type(
    VM,
    "i=0; while [ $i -lt 256 ]; do printf \\\\\\\\$(printf %03o $i); i=$((i+1)); done >/tmp/all; " +
      "for i in 1 2 3 4 5 6 7 8 9 10; do cat /tmp/all; done >/dev/vport1p1; echo wri''tten",
    "^written",
  );
  await Promise.all([writing, reading()]);
  await stream.close();
  const all = Buffer.from(Array.from({ length: 2560 }, (_, n) => n & 255));
  assert.ok(Buffer.concat(bytes).equals(all), "all bytes, as they are");
});

test("a VM's console can be a virtio device; its disk and console also do with split rings", async () => {
  const rings = "cut -c35 /sys/bus/virtio/drivers/virtio_blk/virtio*/features | sort -u | sed s/^/packed:/";
  const part = "dd if=/dev/DISK bs=64k count=4 2>/dev/null | sha256sum | sed s/^/sum:/";
  await host.type(VM, rings, "^packed:1");
  const packed = await host.type(VM, part.replace("DISK", "vdb"), "^sum:[0-9a-f]{64}");
  const cmdline = "quiet cryptomgr.notests panic=-1 plinth.name=hugo plinth.console=hvc0";
  const images = [
    "--memory",
    "192M",
    "--kernel",
    "linux",
    "--initrd",
    "initrd-virtio",
    "--console",
    "virtio",
    "--port",
    "log",
    "--port",
    "data",
  ];
  const devices = ["--disk", "disk,ro", "--rings", "split"];
  await host.ok("create", "hugo", ...images, ...devices, "--cmdline", cmdline, "--start");
  await host.waitUp("hugo");
  await waitPresent("hugo", (bytes) => bytes <= 128 * MIB); // Linux reports free pages, 2 MiB at a time
  await host.type("hugo", "tty; seq 1 2000 | sha256sum", "^/dev/hvc0\\s+[0-9a-f]{64}");
  await host.type("hugo", "seq 1 500", "^499\\s+500\\s");
  await host.type("hugo", rings, "^packed:0");
  const split = await host.type("hugo", part.replace("DISK", "vda"), "^sum:[0-9a-f]{64}");
  const sum = (text: string): string | undefined => /^sum:([0-9a-f]{64})/m.exec(text.replace(/\r/g, ""))?.[1];
  assert.is(sum(split), sum(packed));
  await exchange("hugo");
  await host.ok("rm", "hugo", "--force");
});

test("a VM with four vCPUs and every device costs at most 1 MiB beside its memory", async () => {
  const four = (option: string, names: string[]): string[] => names.flatMap((name) => [option, name]);
  const devices = [
    ...["--console", "virtio"],
    ...four("--disk", ["disk,ro", "disk,ro", "disk,ro", "disk,ro"]),
    ...four("--network", ["n0", "n1", "n2", "n3"]),
    ...four("--port", ["p0", "p1", "p2", "p3"]),
  ];
  const images = ["--memory", "96M", "--vcpus", "4", "--kernel", "linux", "--initrd", "initrd-virtio"];
  const cmdline = "quiet cryptomgr.notests panic=-1 plinth.name=full plinth.console=hvc0";
  await host.ok("create", "full", ...images, ...devices, "--cmdline", cmdline, "--start", "--wait");
  const { overhead } = await host.client.show("full");
  const bytes = overhead.kernelBytes + overhead.modelBytes;
  assert.ok(bytes > 0 && bytes <= 1 << 20, `${overhead.kernelBytes} + ${overhead.modelBytes} bytes`);
  await host.ok("rm", "full", "--force");
});

test("rm gives its memory back, the disks' too", async () => {
  await host.ok("rm", VM, "--force");
  assert.is(await host.free(), free);
});

test.run();
