// `hardware` and `doctor` on made-up machines: ACPI tables right, damaged and hostile, PCI devices.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { cborEncode, type Message } from "../../../control/protocol/node/cbor";
import { BASE, checksum, type Firmware, firmware, GIB, nodeMemory, table, words, zeros } from "./acpi-tables";
import { Rig } from "./rig";

/** A machine with two nodes of two CPUs, the last one known by its x2APIC id only. */
const TABLES: Record<string, Uint8Array> = {
  facp: table("FACP", 6, zeros(232)),
  madt: table("APIC", 5, [
    ...zeros(8),
    ...words([1, 0], [1, 8], [1, 0], [1, 0], [4, 1]),
    ...words([1, 0], [1, 8], [1, 1], [1, 2], [4, 1]),
    ...words([1, 0], [1, 8], [1, 2], [1, 0xff], [4, 0]) /* cannot be used */,
    ...words([1, 1], [1, 12], [1, 0], [1, 0], [4, 0xfec00000], [4, 0]),
    ...words([1, 0], [1, 8], [1, 3], [1, 16], [4, 1]),
    ...words([1, 9], [1, 16], [2, 0], [4, 300], [4, 1], [4, 4]),
  ]),
  srat: table("SRAT", 3, [
    ...zeros(12),
    ...words([1, 0], [1, 16], [1, 0], [1, 0], [4, 1], [1, 0], [1, 0], [2, 0], [4, 0]),
    ...words([1, 0], [1, 16], [1, 0], [1, 2], [4, 1], [1, 0], [1, 0], [2, 0], [4, 0]),
    ...words([1, 0], [1, 16], [1, 1], [1, 16], [4, 1], [1, 0], [1, 1], [2, 0], [4, 0]) /* node 257 */,
    ...words([1, 2], [1, 24], [2, 0], [4, 257], [4, 300], [4, 1], [4, 0], [4, 0]),
    ...nodeMemory(0, 0, 2 * GIB),
    ...nodeMemory(0, 4 * GIB, 6 * GIB),
    ...nodeMemory(257, 10 * GIB, 8 * GIB),
    ...nodeMemory(9, 18 * GIB, 8 * GIB, 0) /* not there */,
  ]),
  dmar: table("DMAR", 1, [
    45,
    1,
    ...zeros(10),
    ...words([2, 0], [2, 16], [1, 0], [1, 0], [2, 0], [8, 0xfed90000]),
    ...words([2, 1], [2, 24], [2, 0], [2, 0], [8, 0], [8, 0xfff]),
    ...words([2, 0], [2, 24], [1, 1], [1, 0], [2, 0], [8, 0xfed91000], [8, 0]),
  ]),
  mcfg: table("MCFG", 1, [
    ...zeros(8),
    ...words([8, 0xe0000000], [2, 0], [1, 0], [1, 255], [4, 0]),
    ...words([8, 0xd0000000], [2, 1], [1, 0], [1, 255], [4, 0]),
  ]),
};

const WHOLE = firmware(Object.values(TABLES));

function pciFunction(id: number, kind: number, multi = false): Uint8Array {
  const space = Buffer.alloc(256);
  space.writeUInt32LE(id, 0);
  space.writeUInt16LE(kind, 10);
  space[14] = multi ? 0x80 : 0;
  return space;
}

function text(hardware: Message): string {
  return JSON.stringify(hardware);
}

test("tables, nodes, IOMMU and firmware", () => {
  const rig = new Rig({ ...WHOLE, efi: true, cpus: 4, spec: null });
  const machine = rig.ok("hardware");
  assert.equal(machine["cpus"], { running: 4, found: 4, apicIds: [0, 2, 16, 300] });
  assert.equal(machine["firmware"], {
    kind: "UEFI",
    acpi: 2,
    oem: "MAKERS",
    table: "MACHINE",
    tables: ["FACP", "APIC", "SRAT", "DMAR", "MCFG"],
  });
  assert.equal(machine["iommu"], { kind: "VT-d", units: 2, interruptRemapping: true });
  assert.equal(machine["numa"], [
    { node: 0, cpus: 2, memory: 8 * GIB },
    { node: 257, cpus: 2, memory: 8 * GIB },
  ]);
  assert.is(machine["nodes"], 2);
  assert.is(machine["pciSegments"], 2);
  assert.equal(machine["problems"], []);
  const cpu = machine["cpu"] as Message;
  assert.equal(cpu, { name: "Model CPU", vendor: "GenuineIntel", family: 6, model: 158, stepping: 10 });
  assert.equal(machine["features"], ["vpid", "unrestricted-guest"]);
  const missing = machine["missing"] as Message[];
  assert.ok(missing.some((feature) => feature["name"] === "tsc-scaling"));
  assert.ok(missing.every((feature) => feature["text"] !== "" && feature["cost"] !== ""));
  const shell = rig.command("hardware");
  assert.match(shell, /^CPUs +4 of 4 run$/m);
  assert.match(shell, /^ {2}node 257 +2 CPUs, 8,192 MiB$/m);
  assert.match(shell, /^IOMMU +VT-d, 2 units, remaps interrupts$/m);
});

test("ACPI 1.0, and AMD's IOMMU, whose blocks repeat it", () => {
  const block = (type: number, device: number, base: number): number[] =>
    words([1, type], [1, 0], [2, 24], [2, device], [2, 0x40], [8, base], [2, 0], [2, 0], [4, 0]);
  const ivrs = table("IVRS", 2, [
    ...zeros(12),
    ...block(0x10, 2, 0xfdd00000),
    ...block(0x11, 2, 0xfdd00000),
    ...block(0x40, 2, 0xfdd00000),
    ...words([1, 0x21], [1, 0], [2, 32], [2, 5], [2, 0], [8, 0], [8, 0], [8, 0]),
    ...block(0x11, 0x4002, 0xfde00000),
  ]);
  const vendor = [1, 0x68747541, 0x444d4163, 0x69746e65]; /* AuthenticAMD */
  const rig = new Rig({
    ...firmware([ivrs], false),
    spec: null,
    hostCpuid: (leaf) => (leaf === 0 ? vendor : leaf === 1 ? [0x00800f12, 0, 0, 0] : [0, 0, 0, 0]),
  });
  const machine = rig.ok("hardware");
  assert.equal(machine["iommu"], { kind: "AMD-Vi", units: 2, interruptRemapping: true });
  assert.equal(machine["firmware"], {
    kind: "BIOS",
    acpi: 1,
    oem: "MAKERS",
    table: "MACHINE",
    tables: ["IVRS"],
  });
  const cpu = machine["cpu"] as Message;
  assert.equal([cpu["vendor"], cpu["family"], cpu["model"], cpu["stepping"]], ["AuthenticAMD", 23, 1, 2]);
  assert.not.match(text(machine), /preemption-timer/); /* no AMD CPU lacks it */
});

test("a machine without ACPI, and what doctor says of machines", () => {
  const bare = new Rig({ spec: null });
  assert.equal((bare.ok("hardware")["firmware"] as Message)["acpi"], 0);
  const checks = (rig: Rig): Record<string, string> =>
    Object.fromEntries(
      (rig.ok("doctor")["checks"] as Message[]).map((check) => [
        String(check["name"]),
        `${check["ok"] ? "ok" : "bad"} ${String(check["text"])}`,
      ]),
    );
  assert.match(checks(bare)["acpi"]!, /^ok no ACPI/);
  const whole = checks(new Rig({ ...WHOLE, cpus: 3, spec: null }));
  assert.is(whole["cpus"], "bad 3 of 4 CPUs run");
  assert.is(whole["acpi"], 'ok 5 ACPI tables of "MAKERS"');
  assert.match(whole["iommu"]!, /VT-d with 2 units/);
  assert.is(whole["numa"], "ok 2 NUMA nodes");
  assert.match(whole["virtual-interrupts"]!, /^ok no virtual-interrupt delivery: the end/);
});

test("PCI devices, many of them and far apart, without a write", () => {
  const pci = new Map<number, Uint8Array>([
    [0x0000, pciFunction(0x12378086, 0x0600)],
    [0x0008, pciFunction(0x70008086, 0x0601, true)],
    [0x0009, pciFunction(0x70108086, 0x0101)],
    [0x000c, pciFunction(0x71138086, 0x0680)],
    [0x0011, pciFunction(0x11111111, 0x0200)] /* behind a device that is not there */,
    [0xfff8, pciFunction(0x00101b36, 0x0108)],
  ]);
  for (let n = 0; n < 70; n++) pci.set(0x8000 + 8 * n, pciFunction(0x10d38086, 0x0200));
  const rig = new Rig({ spec: null, pci });
  const devices: Message[] = [];
  let rounds = 0;
  for (let from: unknown = 0; from !== undefined; rounds++) {
    const piece = rig.ok("hardware.pci", { from } as Message);
    assert.ok(cborEncode(piece).length < 3072);
    devices.push(...(piece["devices"] as Message[]));
    assert.ok(piece["next"] === undefined || Number(piece["next"]) > Number(from));
    from = piece["next"];
  }
  assert.ok(rounds > 1 && rounds < 25, `${rounds} requests`);
  assert.is(devices.length, 75);
  assert.equal(devices[2], { at: "00:01.1", id: "8086:7010", class: "0101", text: "IDE controller" });
  assert.equal(devices[74], { at: "ff:1f.0", id: "1b36:0010", class: "0108", text: "NVMe controller" });
  assert.equal(rig.ok("hardware.pci", { from: 0x7fffffff }), { devices: [] });
  const shell = rig.command("hardware");
  assert.is(shell.match(/^PCI /gm)?.length, 75);
  assert.match(rig.command("version"), /kernel model/); /* the prompt is back */
});

/** What a machine with these tables says; it must say it, in one frame, and the control domain must live. */
function survives(what: Firmware): Message {
  const rig = new Rig({ ...what, spec: null });
  const machine = rig.ok("hardware");
  rig.ok("doctor");
  assert.equal(rig.kernel.traps, []);
  return machine;
}

test("tables that lie are named and left out", () => {
  const said = (tables: Uint8Array[]): string => String(survives(firmware(tables))["problems"]);
  const bad = Buffer.from(TABLES["srat"]!);
  bad[60] = bad[60]! ^ 1;
  assert.match(said([bad]), /^SRAT at 0x7fe002c has a bad checksum$/);
  const long = Buffer.from(TABLES["dmar"]!);
  long.writeUInt32LE(0xffffffff, 4);
  assert.match(said([long]), /impossible length, 4294967295/);
  const short = Buffer.from(TABLES["dmar"]!);
  short.writeUInt32LE(35, 4);
  assert.match(said([short]), /impossible length, 35/);
  assert.match(
    said([table("APIC", 1, [...zeros(8), 0, 0, 0, 0])]),
    /APIC has an entry of an impossible size/,
  );
  assert.match(
    said([table("SRAT", 1, [...zeros(12), 1, 255, 0, 0])]),
    /SRAT has an entry of an impossible size/,
  );
  assert.match(said([table("IVRS", 1, [...zeros(12), 16, 0, 9])]), /IVRS has an entry/);
  assert.is(said([table("MCFG", 1, zeros(11)), table("DMAR", 1, [])]), "");
  const nowhere = firmware([]);
  const rsdp = Buffer.from(nowhere.rsdp);
  for (const address of [0x100000n, 0xffffffffffffffffn, 1n << 50n, 0xfffffffffffffff8n]) {
    rsdp.writeBigUInt64LE(address, 24);
    checksum(rsdp, 32);
    assert.match(String(survives({ ...nowhere, rsdp })["problems"]), /there is no XSDT at 0x/);
  }
  const entry = (address: bigint): Firmware => {
    const root = table("XSDT", 1, words([8, address]));
    return { tables: [{ at: BASE, bytes: root }], rsdp: WHOLE.rsdp };
  };
  assert.match(String(survives(entry(0x200000n))["problems"]), /lies in RAM, or nowhere/);
  assert.match(String(survives(entry(~0n & ((1n << 64n) - 1n)))["problems"]), /lies in RAM, or nowhere/);
  assert.is(String(survives(entry(BigInt(BASE)))["problems"]), ""); /* itself: only a name */
});

test("as much as tables can hold fits into a frame", () => {
  const cpus = Array.from({ length: 2000 }, (_, n) =>
    words([1, 9], [1, 16], [2, 0], [4, 1e9 + n], [4, 1], [4, n]),
  );
  const nodes = Array.from({ length: 500 }, (_, n) => nodeMemory(2 ** 32 - 1 - n, 0, 2 ** 52));
  const machine = survives(
    firmware([
      table("APIC", 5, [...zeros(8), ...cpus.flat()]),
      table("SRAT", 3, [...zeros(12), ...nodes.flat()]),
      ...Array.from({ length: 150 }, () => table("DMAR", 1, [...zeros(12), 0, 0, 0, 0])),
    ]),
  );
  assert.is((machine["cpus"] as Message)["found"], 1024);
  assert.is(machine["nodes"], 64);
  assert.is((machine["numa"] as Message[]).length, 16);
});

test("damaged tables of every kind", () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const names = Object.keys(TABLES);
  for (let round = 0; round < 60; round++) {
    const tables = names.map((name) => {
      const bytes = Buffer.from(TABLES[name]!);
      for (let n = random(6); n > 0; n--) bytes[random(bytes.length)] = [0, 1, 255, random(256)][random(4)]!;
      return random(4) === 0 ? bytes : checksum(bytes, 9); /* mostly found valid, and then read */
    });
    const machine = firmware(tables, random(2) === 0);
    if (random(4) === 0) machine.rsdp[random(machine.rsdp.length)] = random(256);
    survives(machine);
  }
});

test.run();
