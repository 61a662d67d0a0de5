// The ACPI tables of a VM: RSDP, XSDT, FADT, FACS, MADT, MCFG, and the DSDT of dsdt.ts.
//
//   0x000  FACS     0x040  XSDT, then DSDT, FADT, MADT, MCFG, 16-byte aligned
//
// They are built in linear memory for an address: 0x40 behind the RSDP at ACPI_GPA, or 0 for firmware to move
// (files.ts). Without firmware an RSDT follows.
//
// Source: ACPI specification 6.5, chapter "ACPI Software Programming Model"; FADT revision 4 (ACPI 4.0).

import { IOAPIC_BASE } from "../chips/ioapic";
import { GPE0_PORT, GPE0_SIZE, PM1_CONTROL_PORT, PM1_EVENT_PORT, PM_TIMER_PORT } from "../chips/acpi-pm";
import { RESET_PORT, RESET_VALUE } from "../chips/reset";
import { writeGuestBytes } from "../guest-memory";
import { GSI_TIMER, IRQ_SCI, IRQ_TIMER } from "../interrupts";
import { ACPI_GPA, GENERATION_GPA } from "../loader/layout";
import { ECAM_BASE, hasEcam } from "../pci/layout";
import { writeDsdt } from "./dsdt";
import { LENGTH_AT, TABLE_HEADER, writer } from "./writer";

export const RSDP_SIZE: u32 = 36;
const RSDP_ROOM: u64 = 0x40;
export const XSDT_AT: u32 = 0x40;
const XSDT_ROOM: u32 = 0x80;

const CAPACITY: u32 = 6144;
export const tables: usize = memory.data(6144, 64);
/** How much of `tables` is in use. */
export let tablesLength: u32 = 0;
/** Where the FADT and the DSDT are in `tables`, and the DSDT's address of the generation ID. */
export let fadtAt: u32 = 0;
export let dsdtAt: u32 = 0;
export let generationAt: u32 = 0;
const LOCAL_APIC: u32 = 0xfee00000;

// FADT: boot architecture flags and feature flags.
const LEGACY_DEVICES: u32 = 1 << 0;
const VGA_ABSENT: u32 = 1 << 2;
const WBINVD: u32 = 1 << 0;
const C1_ON_ALL: u32 = 1 << 2;
const NO_SLEEP_BUTTON: u32 = 1 << 5; // no fixed one; PWR_BUTTON clear: there is a fixed power button
const NO_RTC_WAKE: u32 = 1 << 6;
const TIMER_32_BITS: u32 = 1 << 8;
const RESET_SUPPORTED: u32 = 1 << 10;
const C_STATE_NONE: u32 = 0xffff;
const CENTURY_INDEX: u32 = 0x32;

// MADT entries.
const PCAT_COMPAT: u32 = 1;
const ENABLED: u32 = 1;
const ENTRY_LOCAL_APIC: u32 = 0;
const ENTRY_IO_APIC: u32 = 1;
const ENTRY_OVERRIDE: u32 = 2;
const ENTRY_LOCAL_NMI: u32 = 4;
const CONFORMS: u32 = 0;
const ACTIVE_HIGH_LEVEL: u32 = 0x0d;
const ALL_PROCESSORS: u32 = 0xff;

// Appends what is in `writer`; returns where it is.
function place(): u32 {
  const at = tablesLength;
  assert(at + writer.length <= CAPACITY, "acpi: too many tables");
  memory.copy(tables + at, writer.start, writer.length);
  tablesLength = (at + writer.length + 15) & ~15;
  return at;
}

/** Writes all tables into the VM's memory; returns the address of the RSDP. */
export function writeAcpiTables(vcpus: u32): u64 {
  const base = ACPI_GPA + RSDP_ROOM;
  buildTables(vcpus, base, <u32>GENERATION_GPA);
  const rsdt = base + placeRsdt();
  writeGuestBytes(base, tables, tablesLength);
  writeRsdp(base + XSDT_AT, <u32>rsdt);
  writeGuestBytes(ACPI_GPA, writer.start, writer.length);
  return ACPI_GPA;
}

// The XSDT once more with 32-bit addresses, for readers of ACPI 1.0.
function placeRsdt(): u32 {
  const xsdt = tables + XSDT_AT;
  const end = xsdt + load<u32>(xsdt + LENGTH_AT);
  writer.begin("RSDT", 1);
  for (let at = xsdt + TABLE_HEADER; at < end; at += 8) writer.u32(load<u32>(at));
  writer.end();
  return place();
}

/** Builds the tables as they have to be if they start at `base`; the VM's generation ID is at `generation`. */
export function buildTables(vcpus: u32, base: u64, generation: u32): void {
  tablesLength = 0;
  writeFacs();
  place();
  tablesLength = XSDT_AT + XSDT_ROOM;
  generationAt = writeDsdt(vcpus, generation);
  dsdtAt = place();
  generationAt += dsdtAt;
  writeFadt(base, base + dsdtAt);
  fadtAt = place();
  writeMadt(vcpus);
  const madt = base + place();
  const end = tablesLength;
  writeMcfg();
  const mcfg = base + place();
  if (!hasEcam) tablesLength = end;
  writer.begin("XSDT", 1);
  writer.u64(base + fadtAt);
  writer.u64(madt);
  if (hasEcam) writer.u64(mcfg);
  writer.end();
  memory.copy(tables + XSDT_AT, writer.start, writer.length);
}

/** Leaves the RSDP in `writer`. */
export function writeRsdp(xsdt: u64, rsdt: u32 = 0): void {
  writer.length = 0;
  writer.ascii("RSD PTR ");
  writer.u8(0);
  writer.ascii("PLINTH");
  writer.u8(2);
  writer.u32(rsdt);
  writer.u32(RSDP_SIZE);
  writer.u64(xsdt);
  writer.u32(0); // extended checksum, reserved
  writer.checksum(8, 0, 20);
  writer.checksum(32, 0, RSDP_SIZE);
}

function writeFacs(): void {
  writer.length = 0;
  writer.ascii("FACS");
  writer.u32(64);
  writer.zeros(24);
  writer.u8(2); // version
  writer.zeros(31);
}

/** A generic address in port space; `access`: 1 byte, 2 word, 3 dword. */
function address(port: u32, bits: u32, access: u32): void {
  writer.u8(1);
  writer.u8(bits);
  writer.u8(0);
  writer.u8(access);
  writer.u64(port);
}

function noAddress(): void {
  writer.zeros(12);
}

function writeFadt(facs: u64, dsdt: u64): void {
  writer.begin("FACP", 4);
  writer.u32(<u32>facs);
  writer.u32(<u32>dsdt);
  writer.u8(0);
  writer.u8(4); // preferred profile: enterprise server
  writer.u16(IRQ_SCI);
  writer.zeros(8); // no SMI command port: ACPI is always on
  writer.u32(PM1_EVENT_PORT);
  writer.u32(0);
  writer.u32(PM1_CONTROL_PORT);
  writer.u32(0);
  writer.u32(0);
  writer.u32(PM_TIMER_PORT);
  writer.u32(GPE0_PORT);
  writer.u32(0); // no second block
  writer.u8(4); // lengths: PM1 events
  writer.u8(2); // PM1 control
  writer.u8(0);
  writer.u8(4); // PM timer
  writer.u8(GPE0_SIZE);
  writer.zeros(3); // the second block's length and base, _CST
  writer.u16(C_STATE_NONE); // C2
  writer.u16(C_STATE_NONE); // C3
  writer.zeros(8); // flush size and stride, duty, alarms
  writer.u8(CENTURY_INDEX);
  writer.u16(LEGACY_DEVICES | VGA_ABSENT);
  writer.u8(0);
  writer.u32(WBINVD | C1_ON_ALL | NO_SLEEP_BUTTON | NO_RTC_WAKE | TIMER_32_BITS | RESET_SUPPORTED);
  address(RESET_PORT, 8, 1);
  writer.u8(RESET_VALUE);
  writer.zeros(3);
  writer.u64(0); // the 32-bit FACS pointer counts
  writer.u64(dsdt);
  address(PM1_EVENT_PORT, 32, 2);
  noAddress();
  address(PM1_CONTROL_PORT, 16, 2);
  noAddress();
  noAddress();
  address(PM_TIMER_PORT, 32, 3);
  address(GPE0_PORT, 8 * GPE0_SIZE, 1);
  noAddress();
  writer.end();
}

function overrideEntry(irq: u32, gsi: u32, flags: u32): void {
  writer.u8(ENTRY_OVERRIDE);
  writer.u8(10);
  writer.u8(0); // ISA
  writer.u8(irq);
  writer.u32(gsi);
  writer.u16(flags);
}

function writeMadt(vcpus: u32): void {
  writer.begin("APIC", 3);
  writer.u32(LOCAL_APIC);
  writer.u32(PCAT_COMPAT);
  for (let id: u32 = 0; id < vcpus; id++) {
    writer.u8(ENTRY_LOCAL_APIC);
    writer.u8(8);
    writer.u8(id);
    writer.u8(id);
    writer.u32(ENABLED);
  }
  writer.u8(ENTRY_IO_APIC);
  writer.u8(12);
  writer.u8(0);
  writer.u8(0);
  writer.u32(<u32>IOAPIC_BASE);
  writer.u32(0); // its first GSI
  overrideEntry(IRQ_TIMER, GSI_TIMER, CONFORMS);
  overrideEntry(IRQ_SCI, IRQ_SCI, ACTIVE_HIGH_LEVEL);
  writer.u8(ENTRY_LOCAL_NMI);
  writer.u8(6);
  writer.u8(ALL_PROCESSORS);
  writer.u16(CONFORMS);
  writer.u8(1); // LINT1
  writer.end();
}

// PCI Firmware Specification 3.2, "MCFG Table Description": bus 0 of segment 0.
function writeMcfg(): void {
  writer.begin("MCFG", 1);
  writer.zeros(8);
  writer.u64(ECAM_BASE);
  writer.u16(0);
  writer.u8(0); // first bus
  writer.u8(0); // last bus
  writer.u32(0);
  writer.end();
}
