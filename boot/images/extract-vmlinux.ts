// Takes the ELF image out of a Linux bzImage: what starts by PVH, and what the kernel else unpacks itself.
// usage: extract-vmlinux BZIMAGE OUT
//
// Source: Linux Documentation/arch/x86/boot.rst, payload_offset and payload_length.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const UNPACKERS: [string, string[]][] = [
  ["02214c18", ["lz4", "-dc"]],
  ["fd377a58", ["xz", "-dc"]],
  ["28b52ffd", ["zstd", "-dc"]],
  ["1f8b", ["gzip", "-dc"]],
];

const [source, out] = process.argv.slice(2);
if (source === undefined || out === undefined) {
  console.error("usage: extract-vmlinux BZIMAGE OUT");
  process.exit(2);
}

function fail(text: string): never {
  console.error(`${source}: ${text}`);
  process.exit(1);
}

const image = readFileSync(source);
if (image.toString("latin1", 0x202, 0x206) !== "HdrS" || image.readUInt16LE(0x206) < 0x208)
  fail("no Linux bzImage of boot protocol 2.08 or later");
const start = ((image[0x1f1] || 4) + 1) * 512 + image.readUInt32LE(0x248);
const payload = image.subarray(start, start + image.readUInt32LE(0x24c));
const magic = payload.toString("hex", 0, 4);
const unpacker = UNPACKERS.find(([begin]) => magic.startsWith(begin));
if (!unpacker) fail(`its payload begins with ${magic}, which no known program unpacks`);
const [program, ...options] = unpacker[1] as [string, ...string[]];
// All but gzip are followed by the length of what they unpack to.
const packed = program === "gzip" ? payload : payload.subarray(0, -4);
const result = spawnSync(program, options, { input: packed, maxBuffer: 1 << 29 });
if (result.status !== 0) fail(`${program}: ${result.error?.message ?? String(result.stderr)}`);
if (result.stdout.toString("latin1", 1, 4) !== "ELF") fail("what it unpacks to is no ELF image");
if (program !== "gzip" && result.stdout.length !== payload.readUInt32LE(payload.length - 4))
  fail("it unpacks to another length than it says");
writeFileSync(out, result.stdout);
