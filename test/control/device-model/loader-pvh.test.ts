// PVH: ELF images with a Xen note, and hostile ones.

import { existsSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { elf, fuzz, gpr, isFlat, loaded, note, type Part, PT_NOTE, refused, u32 } from "./images";
import { MIB, type Options } from "./rig";

const BASE = 0x200000;
const CODE = Buffer.from("the code of a kernel");

function xenNotes(entry: Buffer, type = 18, name = "Xen"): Part {
  const others = [note("GNU", 3, Buffer.alloc(20, 7)), note("Xen", 6, Buffer.from("linux\0"))];
  return { type: PT_NOTE, at: BASE + 0x1000, bytes: Buffer.concat([...others, note(name, type, entry)]) };
}

const LOAD: Part = { at: BASE, bytes: CODE, inMemory: 0x10000 };

function pvh(wide = true, parts: Part[] = [LOAD, xenNotes(u32(BASE + 4))]): Buffer {
  return elf({ wide, parts });
}

const usual = { memory: 16 * MIB };

for (const wide of [true, false]) {
  test(`${wide ? "ELF64" : "ELF32"}: loaded, entered in flat protected mode with hvm_start_info in EBX`, () => {
    const modules = [{ image: Buffer.from("one"), cmdline: "first" }, { image: Buffer.alloc(5000, 0x33) }];
    const rig = loaded({ ...usual, kernel: pvh(wide), cmdline: "console=ttyS0", modules });
    isFlat(rig, BASE + 4);
    const memory = rig.memory;
    assert.is(memory.toString("latin1", BASE, BASE + CODE.length), CODE.toString());
    const info = gpr(rig, 3);
    assert.is(info % 4, 0);
    assert.is(memory.readUInt32LE(info), 0x336ec578);
    assert.is(memory.readUInt32LE(info + 4), 1);
    assert.is(memory.readUInt32LE(info + 8), 0);
    assert.is(memory.readUInt32LE(info + 12), 2);
    const pointer = (at: number): number => Number(memory.readBigUInt64LE(at));
    const text = (at: number): string => memory.toString("latin1", at, memory.indexOf(0, at));
    assert.is(text(pointer(info + 24)), "console=ttyS0");
    const rsdp = pointer(info + 32);
    assert.is(memory.toString("latin1", rsdp, rsdp + 8), "RSD PTR ");
    const list = pointer(info + 16);
    const first = pointer(list);
    assert.is(pointer(list + 8), 3);
    assert.is(memory.toString("latin1", first, first + 3), "one");
    assert.is(text(pointer(list + 16)), "first");
    const second = pointer(list + 32);
    assert.is(pointer(list + 40), 5000);
    assert.is(memory[second], 0x33);
    assert.is(memory[second + 4999], 0x33);
    assert.is(pointer(list + 48), 0);
    assert.ok(first % 4096 === 0 && second % 4096 === 0 && first >= BASE + 0x10000 && second > first);
    const ranges: [number, number, number][] = [];
    for (let n = 0; n < memory.readUInt32LE(info + 48); n++) {
      const at = pointer(info + 40) + 24 * n;
      ranges.push([pointer(at), pointer(at + 8), memory.readUInt32LE(at + 16)]);
      assert.is(memory.readUInt32LE(at + 20), 0);
    }
    assert.equal(ranges[0], [0, 0x9f000, 1]);
    assert.ok(ranges.some(([start, size, type]) => start === MIB && size === 15 * MIB && type === 1));
    assert.is(ranges.filter(([, , type]) => type === 3).length, 1);
  });
}

test("an initrd is the first module", () => {
  const modules = [{ image: Buffer.from("module") }];
  const rig = loaded({ ...usual, kernel: pvh(), initrd: Buffer.from("initrd"), modules });
  const list = Number(rig.memory.readBigUInt64LE(gpr(rig, 3) + 16));
  const first = Number(rig.memory.readBigUInt64LE(list));
  assert.is(rig.memory.toString("latin1", first, first + 6), "initrd");
});

test("without modules there is no list of them", () => {
  const rig = loaded({ ...usual, kernel: pvh() });
  assert.is(rig.memory.readUInt32LE(gpr(rig, 3) + 12), 0);
  assert.is(rig.memory.readBigUInt64LE(gpr(rig, 3) + 16), 0n);
});

test("a note of 8 bytes, as 64-bit kernels have it, counts too", () => {
  const entry = Buffer.alloc(8);
  entry.writeUInt32LE(BASE + 8);
  isFlat(loaded({ ...usual, kernel: pvh(true, [LOAD, xenNotes(entry)]) }), BASE + 8);
});

test("a kernel in low memory keeps its place: the boot information goes elsewhere", () => {
  const low: Part = { at: 0x1000, bytes: CODE, inMemory: 0x9e000 };
  const rig = loaded({ ...usual, kernel: pvh(true, [low, xenNotes(u32(0x1000))]) });
  assert.ok(gpr(rig, 3) >= MIB);
  assert.is(rig.memory.toString("latin1", 0x1000, 0x1000 + CODE.length), CODE.toString());
});

function why(kernel: Buffer, options: Options = {}): string {
  return refused({ ...usual, kernel, ...options }).message;
}

function broken(patch: (image: Buffer) => void, wide = true): string {
  const image = pvh(wide);
  patch(image);
  return why(image, { boot: "pvh" });
}

test("each hostile field of an ELF header is refused by name", () => {
  assert.match(why(Buffer.alloc(20), { boot: "pvh" }), "20 bytes are too few for an ELF header");
  assert.match(why(Buffer.alloc(100), { boot: "pvh" }), "no ELF image");
  assert.match(why(Buffer.alloc(100)), "boot: neither a Linux bzImage");
  const cases: [(k: Buffer) => unknown, string][] = [
    [(k) => k.writeUInt8(3, 4), "EI_CLASS is 3"],
    [(k) => k.writeUInt8(2, 5), "EI_DATA: not little-endian"],
    [(k) => k.writeUInt32LE(2, 20), "e_version is 2"],
    [(k) => k.writeUInt16LE(1, 16), "e_type is 1"],
    [(k) => k.writeUInt16LE(40, 18), "e_machine is 40"],
    [(k) => k.writeUInt16LE(0, 56), "e_phnum is 0"],
    [(k) => k.writeUInt16LE(70, 56), "e_phnum is 70, more than 64"],
    [(k) => k.writeUInt16LE(32, 54), "e_phentsize is 32, not 56"],
    [(k) => k.writeBigUInt64LE(0xffffffffffffffffn, 32), "e_phoff 0xffffffffffffffff: 2 program headers"],
  ];
  for (const [patch, text] of cases) assert.match(broken(patch), text);
  assert.match(refused({ ...usual, kernel: Buffer.alloc(100), boot: "pvh" }).next, "plinth images");
  assert.is(refused({ ...usual, kernel: Buffer.alloc(100), boot: "pvh" }).object, "linux");
});

test("each hostile program header is refused by name, with the figures", () => {
  const at = 64;
  const set = (offset: number, value: bigint) => (k: Buffer) => k.writeBigUInt64LE(value, at + offset);
  assert.match(broken(set(8, 0xfffffffffffffff0n)), "program header 0: p_offset 0xfffffffffffffff0");
  assert.match(broken(set(32, 0x20000n)), "p_filesz 0x20000 is more than p_memsz 0x10000");
  assert.match(broken(set(32, 0x5000n)), "p_filesz 0x5000 go beyond the image's end");
  assert.match(broken(set(40, 0xffffffffffffffffn)), "p_paddr and p_memsz go beyond the last address");
  assert.match(
    broken(set(40, 0x1000000n)),
    "is not in the VM's RAM, 0x1000..0x9f000 and 0x100000..0x1000000",
  );
  assert.match(
    broken(set(24, 0n)),
    "program header 0: p_paddr, p_memsz: 0x0..0x10000 is not in the VM's RAM",
  );
  for (const address of [0x98000n, 0xe0000n, 0xfec00000n, 0x100000000n]) {
    assert.match(broken(set(24, address)), "is not in the VM's RAM");
  }
  const twice = pvh(true, [LOAD, { at: BASE + 0xff00, bytes: CODE }, xenNotes(u32(BASE))]);
  assert.match(
    why(twice),
    "program header 1: p_paddr, p_memsz: 0x20ff00..0x20ff14 overlaps program header 0",
  );
});

test("notes that lie, and entries outside of the image", () => {
  const by = { boot: "pvh" };
  const with_ = (part: Part): Buffer => pvh(true, [LOAD, part]);
  assert.match(why(with_(xenNotes(u32(BASE), 18, "Xon")), by), "XEN_ELFNOTE_PHYS32_ENTRY");
  assert.match(why(with_(xenNotes(u32(BASE), 17)), by), "XEN_ELFNOTE_PHYS32_ENTRY");
  assert.match(why(with_(xenNotes(Buffer.alloc(2))), by), "XEN_ELFNOTE_PHYS32_ENTRY");
  assert.match(
    why(with_(xenNotes(u32(BASE - 1)))),
    "XEN_ELFNOTE_PHYS32_ENTRY 0x1fffff is in no program header",
  );
  const long = note("Xen", 18, u32(BASE));
  long.writeUInt32LE(0xffffffff, 0);
  assert.match(why(with_({ type: PT_NOTE, at: 0, bytes: long }), by), "XEN_ELFNOTE_PHYS32_ENTRY");
  long.writeUInt32LE(4, 0);
  long.writeUInt32LE(0xfffffff0, 4);
  assert.match(why(with_({ type: PT_NOTE, at: 0, bytes: long }), by), "XEN_ELFNOTE_PHYS32_ENTRY");
});

test("modules and command lines that do not fit", () => {
  const big = refused({ ...usual, kernel: pvh(), modules: [{ image: Buffer.alloc(15 * MIB) }] });
  assert.is(big.object, "modules[0]");
  assert.match(big.message, "15,728,640 bytes do not fit beside the kernel");
  assert.is(refused({ ...usual, kernel: pvh(), initrd: Buffer.alloc(16 * MIB) }).object, "initrd");
  const zero = refused({ ...usual, kernel: pvh(), modules: [{ image: CODE, cmdline: "a\0b" }] });
  assert.is(zero.object, "modules[0]");
  assert.match(zero.message, "byte 1 of the command line is zero");
});

test("every truncation is refused, and damaged images never trap", () => {
  const whole = pvh();
  for (let length = 0; length < whole.length; length += 3) why(whole.subarray(0, length));
  const ready = fuzz(whole, 0, whole.length, usual, 300);
  assert.ok(ready > 0 && ready < 300, `${ready} of 300 were loaded`);
});

const withGuest = existsSync("build/guest/vmlinux") ? test : test.skip;

withGuest("the ELF image in Debian's cloud kernel starts by PVH", () => {
  const kernel = readFileSync("build/guest/vmlinux");
  const rig = loaded({ memory: 128 * MIB, kernel, initrd: Buffer.alloc(MIB, 1) });
  assert.is(rig.memory.readUInt32LE(gpr(rig, 3)), 0x336ec578);
  assert.match(refused({ memory: 48 * MIB, kernel }).message, "is not in the VM's RAM");
});

test.run();
