// Multiboot 1 and 2: headers, what kernels are told, and hostile images.

import { existsSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { elf, type ElfOptions, fuzz, gpr, isFlat, loaded, refused, u32 } from "./images";
import { MIB, type Options, Rig } from "./rig";

const BASE = 0x200000;
const MAGIC = 0x1badb002;
const MAGIC2 = 0xe85250d6;
const CODE = Buffer.from("the code of a kernel");
const usual = { memory: 16 * MIB };

function words(...values: number[]): Buffer {
  return Buffer.concat(values.map((value) => u32(value >>> 0)));
}

/** A Multiboot 1 header; with addresses if there are any. */
function header1(flags: number, ...addresses: number[]): Buffer {
  return words(MAGIC, flags, -(MAGIC + flags), ...addresses);
}

function tag(type: number, body: Buffer, flags = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(type, 0);
  head.writeUInt16LE(flags, 2);
  head.writeUInt32LE(8 + body.length, 4);
  return Buffer.concat([head, body, Buffer.alloc(-body.length & 7)]);
}

const END = tag(0, Buffer.alloc(0));

function header2(...tags: Buffer[]): Buffer {
  const all = Buffer.concat([...tags, END]);
  const length = 16 + all.length;
  return Buffer.concat([words(MAGIC2, 0, length, -(MAGIC2 + length)), all]);
}

/** An ELF image with this header in front of its code. */
function withHeader(header: Buffer, more: Partial<ElfOptions> = {}): Buffer {
  const bytes = Buffer.concat([header, CODE]);
  const parts = [{ at: BASE, bytes, inMemory: 0x10000 }];
  return elf({ wide: false, entry: BASE + header.length, parts, ...more });
}

/** Not ELF: `before` bytes, the header, code. */
function flat(header: Buffer, before = 0x40): Buffer {
  return Buffer.concat([Buffer.alloc(before, 0x90), header, CODE]);
}

/** A flat image whose Multiboot 1 header has these addresses; by default, all of it to 2 MiB. */
function kludge(
  change: Partial<Record<"header" | "load" | "loadEnd" | "bssEnd" | "entry", number>> = {},
): Buffer {
  const at = { header: BASE + 0x40, load: BASE, loadEnd: 0, bssEnd: 0, entry: BASE + 0x60, ...change };
  return flat(header1(1 << 16, at.header, at.load, at.loadEnd, at.bssEnd, at.entry));
}

function textAt(rig: Rig, at: number): string {
  return rig.memory.toString("latin1", at, rig.memory.indexOf(0, at));
}

const modules = [{ image: Buffer.from("module one"), cmdline: "one 1" }, { image: Buffer.alloc(5000, 7) }];

for (const wide of [false, true]) {
  test(`Multiboot 1, ${wide ? "ELF64" : "ELF32"}: entered with the information in EBX`, () => {
    const rig = loaded({ ...usual, kernel: withHeader(header1(3), { wide }), cmdline: "a b", modules });
    isFlat(rig, BASE + 12);
    assert.is(gpr(rig, 0), 0x2badb002);
    const info = gpr(rig, 3);
    const at = (offset: number): number => rig.memory.readUInt32LE(info + offset);
    assert.is(at(0), 0b1001001101);
    assert.is(at(4), 636);
    assert.is(rig.memory.readUInt16LE(0x413), 636); // the BIOS data area agrees
    assert.is(rig.memory.readUInt16LE(0x40e), 0x9f00);
    assert.is(rig.memory.readUInt32LE(4 * 0x15), 0xf000ff00); // the BIOS has no function
    assert.is(rig.memory.readUInt32LE(0xfff00), 0x0002caf9);
    assert.is(at(8), 15 * 1024);
    assert.is(textAt(rig, at(16)), "a b");
    assert.is(textAt(rig, at(64)), "Plinth");
    assert.is(at(20), 2);
    const list = at(24);
    const first = rig.memory.readUInt32LE(list);
    assert.is(rig.memory.toString("latin1", first, rig.memory.readUInt32LE(list + 4)), "module one");
    assert.is(textAt(rig, rig.memory.readUInt32LE(list + 8)), "one 1");
    assert.is(rig.memory.readUInt32LE(list + 20) - rig.memory.readUInt32LE(list + 16), 5000);
    assert.is(textAt(rig, rig.memory.readUInt32LE(list + 24)), "");
    const ranges: number[][] = [];
    for (let n = at(48); n < at(48) + at(44); n += rig.memory.readUInt32LE(n) + 4)
      ranges.push([4, 12, 20].map((offset) => rig.memory.readUInt32LE(n + offset)));
    assert.equal(ranges[0], [0, 0x9f000, 1]);
    assert.ok(ranges.some(([start, size, kind]) => start === MIB && size === 15 * MIB && kind === 1));
    assert.ok(ranges.every(([start], n) => n === 0 || start! > ranges[n - 1]![0]!));
  });
}

test("a 64-bit kernel linked high: p_paddr counts, and e_entry is translated", () => {
  const bytes = Buffer.concat([header1(0), Buffer.alloc(4), CODE]);
  const parts = [{ at: 0x40200000, physical: BASE, bytes }];
  const kernel = elf({ wide: true, entry: 0x40200010, parts });
  isFlat(loaded({ ...usual, kernel }), BASE + 0x10);
  const physical = elf({ wide: true, entry: BASE + 0x10, parts });
  isFlat(loaded({ ...usual, kernel: physical }), BASE + 0x10);
  const neither = elf({ wide: true, entry: 0x100, parts });
  assert.match(refused({ ...usual, kernel: neither }).message, "e_entry 0x100 is in no program header");
});

test("sections are told of; those outside of the program get a place", () => {
  const sections = [
    { name: ".text", type: 1, flags: 6, at: BASE, bytes: Buffer.alloc(0) },
    { name: ".symtab", type: 2, flags: 0, at: 0, bytes: Buffer.from("some symbols") },
  ];
  for (const wide of [false, true]) {
    for (const boot of ["multiboot", "multiboot2"]) {
      const header = boot === "multiboot" ? header1(0) : header2();
      const rig = loaded({ ...usual, boot, kernel: withHeader(header, { wide, sections }) });
      let info = gpr(rig, 3) + 28;
      if (boot === "multiboot2") info = tagsOf(rig).find(([type]) => type === 9)![1] + 8;
      const [count, size, table, names] =
        boot === "multiboot"
          ? [0, 4, 8, 12].map((n) => rig.memory.readUInt32LE(info + n))
          : [
              rig.memory.readUInt32LE(info),
              rig.memory.readUInt32LE(info + 4),
              info + 12,
              rig.memory.readUInt32LE(info + 8),
            ];
      assert.equal([count, size, names], [4, wide ? 64 : 40, 3]);
      const address = (n: number): number => rig.memory.readUInt32LE(table! + n * size! + (wide ? 16 : 12));
      assert.is(address(1), BASE);
      assert.is(textAt(rig, address(2)), "some symbols");
      assert.is(rig.memory.toString("latin1", address(3), address(3) + 6), "\0.text");
    }
  }
});

test("images that their header describes: what is loaded, and where", () => {
  const all = loaded({ ...usual, kernel: kludge() });
  isFlat(all, BASE + 0x60);
  assert.is(all.memory.toString("latin1", BASE + 0x60, BASE + 0x60 + CODE.length), CODE.toString());
  const later = loaded({ ...usual, kernel: kludge({ load: BASE + 0x40, bssEnd: BASE + 0x5000 }), modules });
  assert.is(later.memory[BASE], 0);
  assert.is(later.memory.readUInt32LE(BASE + 0x40), MAGIC);
  assert.is(later.memory.readUInt32LE(later.memory.readUInt32LE(gpr(later, 3) + 24)), BASE + 0x5000);
  const half = loaded({ ...usual, kernel: kludge({ loadEnd: BASE + 0x64 }) });
  assert.is(half.memory[BASE + 0x64], 0);
  isFlat(loaded({ ...usual, kernel: kludge({ header: 0x8040, load: 0x8000, entry: 0x8060 }) }), 0x8060);
});

function why(kernel: Buffer, options: Options = {}): string {
  return refused({ ...usual, kernel, ...options }).message;
}

test("Multiboot 1: each hostile field is refused by name", () => {
  assert.match(why(flat(header1(0))), "neither an ELF image nor addresses in its Multiboot header");
  assert.match(why(withHeader(header1(4))), "flags bit 2 of the Multiboot header asks for a video mode");
  assert.match(
    why(withHeader(header1(0x8001))),
    "flags 0x8001 of the Multiboot header ask for what nobody knows",
  );
  assert.match(why(flat(words(MAGIC, 0, 0)), { boot: "multiboot" }), "no Multiboot header");
  assert.match(why(flat(header1(0), 8192), { boot: "multiboot" }), "in the first 8,192 bytes");
  assert.match(why(flat(header1(0), 8180 + 4), { boot: "multiboot" }), "no Multiboot header");
  assert.match(why(flat(header1(0), 2), { boot: "multiboot" }), "no Multiboot header");
  const short = flat(header1(1 << 16)).subarray(0, 0x50);
  assert.match(why(short, { boot: "multiboot" }), "address fields of the Multiboot header go beyond");
  assert.match(why(kludge({ load: BASE + 0x41 })), "load_addr 0x200041 is above header_addr 0x200040");
  assert.match(
    why(kludge({ load: BASE - 1 })),
    "header_addr less load_addr is 0x41, and the header is at 0x40",
  );
  assert.match(why(kludge({ loadEnd: BASE })), "load_end_addr 0x200000 is not above load_addr");
  assert.match(why(kludge({ loadEnd: BASE + 0x1000 })), "load_end_addr 0x201000 lies beyond the image's end");
  assert.match(why(kludge({ bssEnd: BASE + 8 })), "bss_end_addr 0x200008 is below the end of what is loaded");
  assert.match(why(kludge({ bssEnd: 0xffffffff })), "load_addr: 0x200000..0xffffffff is not in the VM's RAM");
  assert.match(why(kludge({ entry: BASE - 4 })), "entry_addr 0x1ffffc is outside of the image");
  for (const load of [0, 0xa0000, 0xe0000, 0xfee00000, 16 * MIB]) {
    assert.match(why(kludge({ load, header: load + 0x40, entry: load + 0x60 })), "is not in the VM's RAM");
  }
  const sections = withHeader(header1(0), { sections: [] });
  sections.writeUInt16LE(39, 46);
  assert.match(why(sections), "e_shentsize is 39, not 40");
  sections.writeUInt16LE(40, 46);
  sections.writeUInt16LE(9999, 48);
  assert.match(why(sections), /e_shoff 0x[0-9a-f]+: 9999 section headers there go beyond the image's end/);
});

/** Type, address and size of each tag of the Multiboot 2 information. */
function tagsOf(rig: Rig): [number, number, number][] {
  const info = gpr(rig, 3);
  const end = info + rig.memory.readUInt32LE(info);
  assert.is(info % 8, 0);
  const tags: [number, number, number][] = [];
  for (let at = info + 8; at < end; at += (rig.memory.readUInt32LE(at + 4) + 7) & ~7)
    tags.push([rig.memory.readUInt32LE(at), at, rig.memory.readUInt32LE(at + 4)]);
  const last = tags.at(-1)!;
  assert.equal([last[0], last[1] + last[2], last[2]], [0, end, 8]);
  return tags;
}

test("Multiboot 2: entered with its tags in EBX", () => {
  const requests = tag(1, words(1, 2, 3, 4, 6, 9, 14, 15));
  const rig = loaded({ ...usual, kernel: withHeader(header2(requests)), cmdline: "a b", modules });
  isFlat(rig, BASE + withHeaderSize(requests));
  assert.is(gpr(rig, 0), 0x36d76289);
  const tags = tagsOf(rig);
  assert.equal(
    tags.map(([type]) => type),
    [1, 2, 3, 3, 4, 6, 14, 15, 0],
  );
  const at = (type: number): number => tags.find((found) => found[0] === type)![1];
  const u = (address: number): number => rig.memory.readUInt32LE(address);
  assert.is(textAt(rig, at(1) + 8), "a b");
  assert.is(textAt(rig, at(2) + 8), "Plinth");
  const module_ = at(3);
  assert.is(rig.memory.toString("latin1", u(module_ + 8), u(module_ + 12)), "module one");
  assert.is(textAt(rig, module_ + 16), "one 1");
  assert.equal([u(at(4) + 8), u(at(4) + 12)], [636, 15 * 1024]);
  assert.equal([u(at(6) + 8), u(at(6) + 12)], [24, 0]);
  assert.equal([u(at(6) + 16), u(at(6) + 24), u(at(6) + 32)], [0, 0x9f000, 1]);
  for (const type of [14, 15]) {
    const [, start, size] = tags.find((found) => found[0] === type)!;
    const rsdp = rig.memory.subarray(start + 8, start + size);
    assert.is(rsdp.toString("latin1", 0, 8), "RSD PTR ");
    assert.is(rsdp.length, type === 14 ? 20 : 36);
    assert.is(rsdp.reduce((sum, byte) => sum + byte) & 255, 0);
    const rsdt = rsdp.readUInt32LE(16);
    assert.is(rig.memory.toString("latin1", rsdt, rsdt + 4), "RSDT");
  }
});

function withHeaderSize(...tags: Buffer[]): number {
  return header2(...tags).length;
}

test("Multiboot 2: addresses and entry in the header, also from the file's start on", () => {
  const entry = tag(3, words(BASE + 0x90));
  const addresses = (...at: number[]): Buffer => flat(header2(tag(2, words(...at)), entry));
  isFlat(loaded({ ...usual, kernel: addresses(BASE + 0x40, BASE, 0, 0) }), BASE + 0x90);
  const all = loaded({ ...usual, kernel: addresses(BASE + 0x40, 0xffffffff, 0, BASE + 0x8000) });
  assert.is(all.memory[BASE], 0x90);
  assert.is(all.memory.readUInt32LE(BASE + 0x40), MAGIC2);
  assert.match(why(addresses(0x20, 0xffffffff, 0, 0)), "header_addr 0x20 is less than the header's offset");
  assert.match(why(addresses(BASE, BASE + 1, 0, 0)), "load_addr 0x200001 is above header_addr");
});

test("Multiboot 2: a relocatable image goes where it asks to, and is told", () => {
  const moved = (preference: number, min = MIB, max = 12 * MIB - 1, align = 0x100000): Rig => {
    const header = header2(tag(10, words(min, max, align, preference)));
    return loaded({ ...usual, kernel: withHeader(header, { type: 3 }) });
  };
  const base = (rig: Rig): number =>
    rig.memory.readUInt32LE(tagsOf(rig).find(([type]) => type === 21)![1] + 8);
  for (const [rig, to] of [
    [moved(0), BASE],
    [moved(1), MIB],
    [moved(2), 11 * MIB],
    [moved(0, 3 * MIB), 3 * MIB],
    [moved(0, MIB, 0xffffffff, 0x400000), 4 * MIB],
    [moved(2, MIB, 0xffffffff, 0), 16 * MIB - 0x10000],
  ] as const) {
    assert.is(base(rig), to);
    isFlat(rig, to + withHeaderSize(tag(10, words(0, 0, 0, 0))));
    assert.is(rig.memory.readUInt32LE(to), MAGIC2);
  }
  const none = withHeader(header2(tag(10, words(16 * MIB, 0xffffffff, 1, 0))));
  assert.match(
    why(none),
    "65,536 bytes between min_addr 0x1000000 and max_addr 0xffffffff are not to be had",
  );
  assert.match(why(withHeader(header2(tag(10, words(0, 0xffffffff, 3, 0))))), "align 0x3");
  assert.match(why(withHeader(header2(tag(10, words(0, 0xffffffff, 1, 3))))), "preference of");
});

test("Multiboot 2: what must be granted and cannot be is refused; what may be ignored is", () => {
  const cases: [Buffer, string][] = [
    [tag(1, words(1, 8)), "requests information of type 8"],
    [tag(4, words(1)), "console_flags of the Multiboot2 header ask for a display"],
    [tag(5, words(640, 480, 32)), "tag 5 of the Multiboot2 header asks for a framebuffer"],
    [tag(77, words(1)), "tag 77 of the Multiboot2 header asks for what nobody knows"],
  ];
  for (const [wish, text] of cases) {
    assert.match(why(withHeader(header2(wish))), text);
    const optional = Buffer.from(wish);
    optional.writeUInt16LE(1, 2);
    loaded({ ...usual, kernel: withHeader(header2(optional)) });
  }
  loaded({
    ...usual,
    kernel: withHeader(header2(tag(6, Buffer.alloc(0)), tag(7, Buffer.alloc(0)), tag(4, words(2)))),
  });
});

test("Multiboot 2: hostile headers are refused by name", () => {
  const patched = (change: (header: Buffer) => void): string => {
    const header = header2(tag(3, words(BASE)));
    change(header);
    header.writeUInt32LE(-[0, 4, 8].reduce((sum, at) => sum + header.readUInt32LE(at), 0) >>> 0, 12);
    return why(withHeader(header), { boot: "multiboot2" });
  };
  assert.match(
    patched((h) => h.writeUInt32LE(4, 4)),
    "architecture is 4, not 0",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(8, 8)),
    "header_length 8 bytes of the Multiboot2 header is impossible",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(0xfffffff0, 8)),
    "header_length 4,294,967,280 bytes",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(24, 8)),
    "size 12 bytes of the Multiboot2 header's tag 3 is impossible",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(7, 20)),
    "size 7 bytes of the Multiboot2 header's tag 3",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(8, 20)),
    "tag 3 is less than 12",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(0, 36)),
    "size 0 bytes of the Multiboot2 header's tag 0",
  );
  assert.match(
    patched((h) => h.writeUInt32LE(32, 8)),
    "the Multiboot2 header has no end tag",
  );
  assert.match(
    why(flat(header1(0)), { boot: "multiboot2" }),
    "no Multiboot2 header (0xe85250d6, with its checksum)",
  );
  assert.match(why(flat(header2(), 32768), { boot: "multiboot2" }), "no Multiboot2 header");
});

test("auto: Multiboot 2 before Multiboot 1, and an image that is neither says so", () => {
  const both = Buffer.concat([header2(), header1(0)]);
  assert.is(gpr(loaded({ ...usual, kernel: withHeader(both) }), 0), 0x36d76289);
  assert.is(gpr(loaded({ ...usual, kernel: withHeader(both), boot: "multiboot" }), 0), 0x2badb002);
  assert.match(
    why(withHeader(Buffer.alloc(16))),
    "an ELF image with neither a PVH note nor a Multiboot header",
  );
});

test("boot information and modules stay clear of a kernel in low memory", () => {
  const kernel = kludge({ header: 0x1040, load: 0x1000, entry: 0x1060, bssEnd: 0x9f000 });
  const rig = loaded({ ...usual, kernel, modules });
  assert.ok(gpr(rig, 3) >= MIB);
  const full = kludge({ header: MIB + 0x40, load: MIB, entry: MIB, bssEnd: 16 * MIB });
  assert.match(why(full, { modules }), "do not fit beside the kernel");
});

test("every truncation and damage is refused or loaded, and never traps", () => {
  const images = [
    withHeader(header1(3), { sections: [{ name: ".x", type: 2, flags: 0, at: 0, bytes: CODE }] }),
    withHeader(header2(tag(1, words(1, 4)), tag(10, words(MIB, 12 * MIB, 4096, 2)))),
    kludge({ bssEnd: BASE + 0x100 }),
  ];
  for (const image of images) {
    for (let length = 0; length < image.length; length += 7) {
      const events = loadedOrRefused({ ...usual, kernel: image.subarray(0, length), modules });
      assert.ok(events === "ready" || events === "error");
    }
    const ready = fuzz(image, 0, image.length, { ...usual, modules }, 200);
    assert.ok(ready > 0 && ready < 200, `${ready} of 200 were loaded`);
  }
});

function loadedOrRefused(options: Options): string {
  const events = new Rig(options).events();
  assert.is(events.length, 1);
  return String(events[0]?.["t"]);
}

const withGuest = existsSync("build/guest-tests/starts") ? test : test.skip;

withGuest("our own kernel starts in all three ways", () => {
  const kernel = readFileSync("build/guest-tests/starts");
  isFlat(loaded({ ...usual, kernel, boot: "multiboot" }), kernel.readUInt32LE(24));
  isFlat(loaded({ ...usual, kernel, boot: "pvh" }), kernel.readUInt32LE(24));
  assert.is(gpr(loaded({ ...usual, kernel, boot: "multiboot2" }), 0), 0x36d76289);
});

test.run();
