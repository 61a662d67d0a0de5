// What a VM's memory space holds, as loaders tell it to systems: boot_params, PVH, Multiboot, fw_cfg.
//
// Source: ACPI 6.4, section 15, "System Address Map Interfaces" (the kinds are E820's).

import { HIGH_MEMORY } from "../lib/pc-memory";
import { highSize, lowSize } from "./guest-memory";
import { ACPI_GPA, ACPI_ROOM, HIGH_START, LOW_END } from "./loader/layout";
import { ECAM_BASE, ECAM_SIZE } from "./pci/layout";

export const enum RangeKind {
  RAM = 1,
  RESERVED = 2,
  ACPI = 3,
}

export class Range {
  constructor(
    readonly start: u64,
    readonly size: u64,
    readonly kind: RangeKind,
  ) {}
}

/** RAM only, as firmware wants it that makes a map of its own: below the hole, and from 4 GiB on. */
export function ramRanges(): Range[] {
  const ranges = [new Range(0, lowSize, RangeKind.RAM)];
  if (highSize > 0) ranges.push(new Range(HIGH_MEMORY, highSize, RangeKind.RAM));
  return ranges;
}

/** All that is RAM or must not be taken for free, sorted, for a system that starts without firmware. */
export function memoryMap(): Range[] {
  const map = [
    new Range(0, LOW_END, RangeKind.RAM),
    new Range(LOW_END, ACPI_GPA - LOW_END, RangeKind.RESERVED),
    new Range(ACPI_GPA, ACPI_ROOM, RangeKind.ACPI),
    new Range(ACPI_GPA + ACPI_ROOM, HIGH_START - ACPI_GPA - ACPI_ROOM, RangeKind.RESERVED),
    new Range(HIGH_START, lowSize - HIGH_START, RangeKind.RAM),
    new Range(ECAM_BASE, ECAM_SIZE, RangeKind.RESERVED),
  ];
  if (highSize > 0) map.push(new Range(HIGH_MEMORY, highSize, RangeKind.RAM));
  return map;
}
