// Writes the guests' initrd: an uncompressed newc cpio archive of BusyBox and the scripts in guest/.
// usage: make-initrd BUSYBOX SCRIPTS OUT [FILE...]    kernel modules (NAME.ko) and programs for /sbin
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";

const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

interface Entry {
  name: string;
  mode: number;
  data?: Buffer;
  /** Major and minor number of a device node. */
  device?: [number, number];
}

function pad4(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

/** One archive member: the 110-byte ASCII header, the name, the data, each padded to 4 bytes. */
function encodeEntry(entry: Entry, inode: number): Buffer {
  const name = Buffer.from(entry.name + "\0");
  const data = entry.data ?? Buffer.alloc(0);
  const [major, minor] = entry.device ?? [0, 0];
  // magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, entry.mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = "070701" + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  const head = Buffer.concat([Buffer.from(header), name]);
  return Buffer.concat([head, pad4(head.length), data, pad4(data.length)]);
}

function listEntries(busybox: string, scripts: string): Entry[] {
  const directory = (name: string): Entry => ({ name, mode: S_IFDIR | 0o755 });
  const entries = ["bin", "dev", "proc", "root", "sbin", "sys", "tmp"].map(directory);
  entries.push({ name: "dev/console", mode: S_IFCHR | 0o600, device: [5, 1] });
  entries.push({ name: "dev/null", mode: S_IFCHR | 0o666, device: [1, 3] });
  entries.push({ name: "bin/busybox", mode: S_IFREG | 0o755, data: readFileSync(busybox) });

  const own = new Set(readdirSync(scripts));
  for (const script of [...own].sort()) {
    const name = script === "init" ? "init" : `sbin/${script}`;
    entries.push({ name, mode: S_IFREG | 0o755, data: readFileSync(join(scripts, script)) });
  }
  const applets = execFileSync(resolve(busybox), ["--list"], { encoding: "utf8" }).split("\n");
  for (const applet of applets.filter((name) => name !== "" && name !== "busybox" && !own.has(name))) {
    entries.push({ name: `bin/${applet}`, mode: S_IFLNK | 0o777, data: Buffer.from("busybox") });
  }
  return entries;
}

/** Kernel modules, which /init loads, and programs. */
function listFiles(files: readonly string[]): Entry[] {
  const entries: Entry[] = ["lib", "lib/modules", "mnt"].map((name) => ({ name, mode: S_IFDIR | 0o755 }));
  for (const file of files) {
    const isModule = file.endsWith(".ko");
    const name = `${isModule ? "lib/modules" : "sbin"}/${basename(file)}`;
    entries.push({ name, mode: S_IFREG | (isModule ? 0o644 : 0o755), data: readFileSync(file) });
  }
  return entries;
}

const [busybox, scripts, out, ...files] = process.argv.slice(2);
if (busybox === undefined || scripts === undefined || out === undefined) {
  console.error("usage: make-initrd BUSYBOX SCRIPTS OUT [FILE...]");
  process.exit(2);
}
const entries = [...listEntries(busybox, scripts), ...listFiles(files), { name: "TRAILER!!!", mode: 0 }];
writeFileSync(out, Buffer.concat(entries.map((entry, index) => encodeEntry(entry, index + 1))));
