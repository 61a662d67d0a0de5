// What the firmware's ACPI tables say of the machine: CPUs, NUMA nodes, IOMMUs. ACPI specification, "ACPI Software
// Programming Model"; DMAR: VT-d specification, "BIOS Considerations"; IVRS: AMD IOMMU specification. The tables
// may be damaged: each length is checked, and what lies behind a table's end reads as zero.

import { PAGE_SIZE } from "../gen/abi";
import { firmwareRead } from "../lib/binding";
import { info } from "./host";
import { fieldText } from "./text";

const RSDP_1_SIZE: u32 = 20;
const RSDP_2_SIZE: u32 = 36;
const HEADER_SIZE: u32 = 36;
const MAX_TABLES: u32 = 128;
const MAX_TABLE: u32 = 65536;
const MAX_PROBLEMS = 6;
export const MAX_CPUS_LISTED = 1024;
const MAX_NODES = 64;

/** Bytes of the firmware; what lies behind their end reads as zero. */
class Table {
  constructor(private readonly bytes: StaticArray<u8>) {}

  get length(): u32 {
    return this.bytes.length;
  }

  u8(at: u32): u32 {
    return at < this.length ? this.bytes[at] : 0;
  }

  u16(at: u32): u32 {
    return this.u8(at) | (this.u8(at + 1) << 8);
  }

  u32(at: u32): u32 {
    return this.u16(at) | (this.u16(at + 2) << 16);
  }

  u64(at: u32): u64 {
    return (<u64>this.u32(at)) | ((<u64>this.u32(at + 4)) << 32);
  }

  text(at: u32, size: u32): string {
    return at + size <= this.length ? fieldText(changetype<usize>(this.bytes) + at, size) : "";
  }

  /** Whether the first `size` bytes add up to zero. */
  sumsUp(size: u32): bool {
    let sum: u32 = 0;
    for (let at: u32 = 0; at < size; at++) sum += this.u8(at);
    return size <= this.length && (sum & 0xff) == 0;
  }
}

/** A NUMA node. */
export class NumaNode {
  cpus: u32 = 0;
  memory: u64 = 0;

  constructor(public id: u32) {}
}

/** All that is read of the tables. */
export class Acpi {
  /** 0: there is no ACPI; 1: ACPI 1.0; else the root pointer's revision. */
  revision: u32 = 0;
  oem: string = "";
  oemTable: string = "";
  tables: string[] = [];
  /** APIC ids of the CPUs that can be used, in table order. */
  cpus: u32[] = [];
  nodes: NumaNode[] = [];
  /** APIC ids of CPUs of nodes, and the node of each. */
  affineCpus: u32[] = [];
  affineNodes: u32[] = [];
  /** "VT-d", "AMD-Vi" or "". */
  iommu: string = "";
  iommuUnits: u32 = 0;
  interruptRemapping: bool = false;
  /** PCI segment groups, of which the first is listed. */
  pciSegments: u32 = 0;
  problems: string[] = [];

  problem(text: string): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(text);
  }

  /** A node by its number; null: there are too many. */
  node(id: u32): NumaNode | null {
    for (let i = 0; i < this.nodes.length; i++) if (this.nodes[i].id == id) return this.nodes[i];
    if (this.nodes.length == MAX_NODES) return null;
    const node = new NumaNode(id);
    this.nodes.push(node);
    return node;
  }
}

function read(address: u64, length: u32): Table | null {
  if (address > u64.MAX_VALUE - length) return null;
  const bytes = new StaticArray<u8>(length);
  for (let at: u32 = 0; at < length;) {
    const left = PAGE_SIZE - <u32>((address + at) & (PAGE_SIZE - 1));
    const piece = min(left, length - at);
    if (firmwareRead(address + at, piece, changetype<usize>(bytes) + at) < 0) return null;
    at += piece;
  }
  return new Table(bytes);
}

function hex(address: u64): string {
  return "0x" + address.toString(16);
}

/** A whole table, checked; null, and a problem, when it cannot be used. */
function readTable(acpi: Acpi, address: u64, header: Table): Table | null {
  const length = header.u32(4);
  const name = header.text(0, 4) + " at " + hex(address);
  if (length < HEADER_SIZE || length > MAX_TABLE) {
    acpi.problem(name + " has an impossible length, " + length.toString());
    return null;
  }
  const table = read(address, length);
  if (table == null) acpi.problem(name + " reaches into RAM");
  else if (!table.sumsUp(length)) acpi.problem(name + " has a bad checksum");
  else return table;
  return null;
}

/** Calls `visit` for each entry of a table: type and length are bytes, or u16 of which the IVRS's type is one. */
function entries(
  acpi: Acpi,
  table: Table,
  first: u32,
  lengthAt: u32,
  lengthSize: u32,
  visit: (acpi: Acpi, table: Table, at: u32) => void,
): void {
  for (let at = first; at < table.length;) {
    const length = lengthSize == 1 ? table.u8(at + lengthAt) : table.u16(at + lengthAt);
    if (length < 4 || length > table.length - at) {
      acpi.problem(table.text(0, 4) + " has an entry of an impossible size: the rest is left out");
      return;
    }
    visit(acpi, table, at);
    at += length;
  }
}

const ENABLED: u32 = 1;

function addCpu(acpi: Acpi, id: u32): void {
  if (acpi.cpus.length < MAX_CPUS_LISTED && !acpi.cpus.includes(id)) acpi.cpus.push(id);
}

function madtEntry(acpi: Acpi, table: Table, at: u32): void {
  const type = table.u8(at);
  if (type == 0 && (table.u32(at + 4) & ENABLED) != 0) addCpu(acpi, table.u8(at + 3));
  if (type == 9 && (table.u32(at + 8) & ENABLED) != 0) addCpu(acpi, table.u32(at + 4));
}

function addAffine(acpi: Acpi, id: u32, name: u32): void {
  const node = acpi.node(name);
  if (node != null) node.cpus++;
  if (node == null || acpi.affineCpus.length == MAX_CPUS_LISTED) return;
  acpi.affineCpus.push(id);
  acpi.affineNodes.push(name);
}

function sratEntry(acpi: Acpi, table: Table, at: u32): void {
  const type = table.u8(at);
  const wide = table.u8(8) > 1; /* since revision 2 all entries have nodes of 32 bits */
  if (type == 0 && (table.u32(at + 4) & ENABLED) != 0) {
    addAffine(acpi, table.u8(at + 3), table.u8(at + 2) | (wide ? (table.u32(at + 8) >> 8) << 8 : 0));
  } else if (type == 1 && (table.u32(at + 28) & ENABLED) != 0) {
    const node = acpi.node(wide ? table.u32(at + 2) : table.u8(at + 2));
    if (node != null) node.memory += table.u64(at + 16);
  } else if (type == 2 && (table.u32(at + 12) & ENABLED) != 0) {
    addAffine(acpi, table.u32(at + 8), table.u32(at + 4));
  }
}

function dmarEntry(acpi: Acpi, table: Table, at: u32): void {
  if (table.u16(at) == 0) acpi.iommuUnits++;
}

/** A unit has a block for each form in which software may want it; types 0x11 and 0x40 repeat those of 0x10. */
function ivrsEntry(acpi: Acpi, table: Table, at: u32): void {
  const type = table.u8(at);
  if (type != 0x10 && type != 0x11 && type != 0x40) return;
  const base = table.u64(at + 8);
  if (ivrsBases.includes(base) || ivrsBases.length == MAX_NODES) return;
  ivrsBases.push(base);
  acpi.iommuUnits++;
}
let ivrsBases: u64[] = [];

function readMcfg(acpi: Acpi, table: Table): void {
  for (let at: u32 = 44; at + 16 <= table.length; at += 16)
    acpi.pciSegments = max(acpi.pciSegments, table.u16(at + 8) + 1);
}

function readKnown(acpi: Acpi, name: string, table: Table): void {
  if (name == "APIC") {
    entries(acpi, table, 44, 1, 1, madtEntry);
  } else if (name == "SRAT") {
    entries(acpi, table, 48, 1, 1, sratEntry);
  } else if (name == "DMAR") {
    acpi.iommu = "VT-d";
    acpi.interruptRemapping = (table.u8(37) & 1) != 0;
    entries(acpi, table, 48, 2, 2, dmarEntry);
  } else if (name == "IVRS") {
    acpi.iommu = "AMD-Vi";
    acpi.interruptRemapping = true;
    ivrsBases = [];
    entries(acpi, table, 48, 2, 2, ivrsEntry);
  } else if (name == "MCFG") {
    readMcfg(acpi, table);
  }
}

function isKnown(name: string): bool {
  return name == "APIC" || name == "SRAT" || name == "DMAR" || name == "IVRS" || name == "MCFG";
}

/** The root table at `address` if it has this name and is whole. */
function readRoot(acpi: Acpi, address: u64, name: string): Table | null {
  if (address == 0) return null;
  const header = read(address, HEADER_SIZE);
  if (header != null && header.text(0, 4) == name) return readTable(acpi, address, header);
  acpi.problem("there is no " + name + " at " + hex(address) + ", where the root pointer has it");
  return null;
}

function readTables(acpi: Acpi, root: Table, entrySize: u32): void {
  acpi.oem = root.text(10, 6);
  acpi.oemTable = root.text(16, 8);
  for (let at = HEADER_SIZE; at + entrySize <= root.length; at += entrySize) {
    if (acpi.tables.length == MAX_TABLES) {
      acpi.problem("there are more than " + MAX_TABLES.toString() + " tables: the rest is left out");
      return;
    }
    const address = entrySize == 8 ? root.u64(at) : <u64>root.u32(at);
    if (address == 0) continue;
    const header = read(address, HEADER_SIZE);
    if (header == null) {
      acpi.problem("the table at " + hex(address) + " lies in RAM, or nowhere");
      continue;
    }
    const name = header.text(0, 4);
    acpi.tables.push(name);
    const table = isKnown(name) ? readTable(acpi, address, header) : null;
    if (table != null) readKnown(acpi, name, table);
  }
}

/** Reads the tables anew. */
export function acpiRead(): Acpi {
  const acpi = new Acpi();
  const bytes = new StaticArray<u8>(RSDP_2_SIZE);
  memory.copy(changetype<usize>(bytes), info().rsdp.address, RSDP_2_SIZE);
  const pointer = new Table(bytes);
  if (pointer.text(0, 8) != "RSD PTR" || !pointer.sumsUp(RSDP_1_SIZE)) return acpi;
  const revision = pointer.u8(15);
  const wide = revision >= 2 && pointer.sumsUp(RSDP_2_SIZE);
  acpi.revision = max<u32>(revision, 1);
  let root = wide ? readRoot(acpi, pointer.u64(24), "XSDT") : null;
  if (root != null) {
    readTables(acpi, root, 8);
  } else {
    root = readRoot(acpi, pointer.u32(16), "RSDT");
    if (root != null) readTables(acpi, root, 4);
  }
  return acpi;
}
