// The result documents of `hardware`: what the machine is, and a piece of its PCI devices.

import { PAGE_SIZE } from "../gen/abi";
import {
  FIELD_ACPI,
  FIELD_APIC_IDS,
  FIELD_AT,
  FIELD_CLASS,
  FIELD_COST,
  FIELD_CPU,
  FIELD_CPUS,
  FIELD_DEVICES,
  FIELD_FAMILY,
  FIELD_FEATURES,
  FIELD_FIRMWARE,
  FIELD_FOUND,
  FIELD_FREE,
  FIELD_ID,
  FIELD_INTERRUPT_REMAPPING,
  FIELD_IOMMU,
  FIELD_KIND,
  FIELD_MEMORY,
  FIELD_MISSING,
  FIELD_MODEL,
  FIELD_NAME,
  FIELD_NEXT,
  FIELD_NODE,
  FIELD_NODES,
  FIELD_NUMA,
  FIELD_OEM,
  FIELD_PCI_SEGMENTS,
  FIELD_PROBLEMS,
  FIELD_RIG,
  FIELD_RUNNING,
  FIELD_STEPPING,
  FIELD_TABLE,
  FIELD_TABLES,
  FIELD_TEXT,
  FIELD_TOTAL,
  FIELD_UNITS,
  FIELD_VENDOR,
} from "../protocol/schema";
import { Acpi, acpiRead } from "./acpi";
import { CpuModel, cpuVendor, features } from "./features";
import { cpuName, hostNow, info, rigName } from "./host";
import { nodesNow } from "./nodes";
import { pciClassName, PciFunction, pciList, PCI_END } from "./pci";
import { Value } from "./value";

/* What of a long list fits into a frame; the counts beside them are whole. */
const MAX_IDS = 128;
const MAX_NODES = 16;
const MAX_NAMES = 64;

function cpuDocument(): Value {
  const model = new CpuModel();
  return Value.map()
    .putText(FIELD_NAME, cpuName())
    .putText(FIELD_VENDOR, cpuVendor())
    .putUint(FIELD_FAMILY, model.family)
    .putUint(FIELD_MODEL, model.model)
    .putUint(FIELD_STEPPING, model.stepping);
}

function cpusDocument(acpi: Acpi): Value {
  const ids = Value.list();
  for (let i = 0; i < min(acpi.cpus.length, MAX_IDS); i++) ids.add(Value.uint(acpi.cpus[i]));
  return Value.map()
    .putUint(FIELD_RUNNING, info().cpus)
    .putUint(FIELD_FOUND, acpi.cpus.length)
    .put(FIELD_APIC_IDS, ids);
}

function firmwareDocument(acpi: Acpi): Value {
  const names = Value.list();
  for (let i = 0; i < min(acpi.tables.length, MAX_NAMES); i++) names.add(Value.string(acpi.tables[i]));
  return Value.map()
    .putText(FIELD_KIND, info().efi != 0 ? "UEFI" : "BIOS")
    .putUint(FIELD_ACPI, acpi.revision)
    .putText(FIELD_OEM, acpi.oem)
    .putText(FIELD_TABLE, acpi.oemTable)
    .put(FIELD_TABLES, names);
}

function iommuDocument(acpi: Acpi): Value {
  return Value.map()
    .putText(FIELD_KIND, acpi.iommu)
    .putUint(FIELD_UNITS, acpi.iommuUnits)
    .putBool(FIELD_INTERRUPT_REMAPPING, acpi.interruptRemapping);
}

function numaDocument(acpi: Acpi): Value {
  const list = Value.list();
  const now = nodesNow();
  for (let i = 0; i < min(acpi.nodes.length, MAX_NODES); i++) {
    const row = Value.map()
      .putUint(FIELD_NODE, acpi.nodes[i].id)
      .putUint(FIELD_CPUS, acpi.nodes[i].cpus)
      .putUint(FIELD_MEMORY, acpi.nodes[i].memory);
    for (let n = 0; n < now.length && now.length > 1; n++)
      if (now[n].id == acpi.nodes[i].id) row.putUint(FIELD_FREE, <u64>now[n].free);
    list.add(row);
  }
  return list;
}

/** The result of `hardware`. */
export function hardwareResult(): Value {
  const acpi = acpiRead();
  const used = Value.list();
  const missing = Value.list();
  const known = features();
  for (let i = 0; i < known.length; i++)
    if (known[i].present) used.add(Value.string(known[i].name));
    else
      missing.add(
        Value.map()
          .putText(FIELD_NAME, known[i].name)
          .putText(FIELD_TEXT, known[i].text)
          .putText(FIELD_COST, known[i].cost),
      );
  const problems = Value.list();
  for (let i = 0; i < acpi.problems.length; i++) problems.add(Value.string(acpi.problems[i]));
  return Value.map()
    .put(FIELD_CPU, cpuDocument())
    .put(FIELD_CPUS, cpusDocument(acpi))
    .putText(FIELD_RIG, rigName())
    .put(FIELD_MEMORY, Value.map().putUint(FIELD_TOTAL, hostNow().total_pages * PAGE_SIZE))
    .put(FIELD_FIRMWARE, firmwareDocument(acpi))
    .put(FIELD_IOMMU, iommuDocument(acpi))
    .putUint(FIELD_NODES, acpi.nodes.length)
    .put(FIELD_NUMA, numaDocument(acpi))
    .putUint(FIELD_PCI_SEGMENTS, acpi.pciSegments)
    .put(FIELD_FEATURES, used)
    .put(FIELD_MISSING, missing)
    .put(FIELD_PROBLEMS, problems);
}

function hex(value: u32, digits: i32): string {
  return value.toString(16).padStart(digits, "0");
}

function deviceDocument(device: PciFunction): Value {
  const place =
    hex(device.at >> 8, 2) + ":" + hex((device.at >> 3) & 31, 2) + "." + (device.at & 7).toString();
  return Value.map()
    .putText(FIELD_AT, place)
    .putText(FIELD_ID, hex(device.id & 0xffff, 4) + ":" + hex(device.id >> 16, 4))
    .putText(FIELD_CLASS, hex(device.kind, 4))
    .putText(FIELD_TEXT, pciClassName(device.kind));
}

/** The result of `hardware.pci`: devices from a place on; without `next` they are the last. */
export function pciResult(from: u64): Value {
  const piece = pciList(<u32>min<u64>(from, PCI_END));
  const devices = Value.list();
  for (let i = 0; i < piece.functions.length; i++) devices.add(deviceDocument(piece.functions[i]));
  const out = Value.map().put(FIELD_DEVICES, devices);
  return piece.next < PCI_END ? out.putUint(FIELD_NEXT, piece.next) : out;
}
