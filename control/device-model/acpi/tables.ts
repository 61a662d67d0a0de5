// The ACPI tables of a VM: RSDP, XSDT, FADT, FACS, MADT, MCFG, and the DSDT of dsdt.ts.
//
//   ACPI_GPA + 0x000  RSDP     + 0x040  FACS     + 0x080  XSDT, then FADT, MADT, DSDT, 16-byte aligned
//
// Source: ACPI specification 6.5, chapter "ACPI Software Programming Model"; FADT revision 4 (ACPI 4.0).

import { IOAPIC_BASE } from "../chips/ioapic";
import { PM1_CONTROL_PORT, PM1_EVENT_PORT, PM_TIMER_PORT } from "../chips/acpi-pm";
import { RESET_PORT, RESET_VALUE } from "../chips/reset";
import { writeGuestBytes } from "../guest-memory";
import { GSI_TIMER, IRQ_SCI, IRQ_TIMER } from "../interrupts";
import { ACPI_GPA } from "../loader/layout";
import { ECAM_BASE } from "../pci/layout";
import { writeDsdt } from "./dsdt";
import { writer } from "./writer";

const RSDP_SIZE: u32 = 36;
const FACS_GPA: u64 = ACPI_GPA + 0x40;
const TABLES_GPA: u64 = ACPI_GPA + 0x80;
const XSDT_ROOM: u64 = 0x80;
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

let next: u64 = TABLES_GPA;

function place(): u64 {
  const at = next;
  writeGuestBytes(at, writer.start, writer.length);
  next = (at + writer.length + 15) & ~15;
  return at;
}

/** Writes all tables; returns the address of the RSDP. */
export function writeAcpiTables(vcpus: u32): u64 {
  next = TABLES_GPA + XSDT_ROOM;
  writeFacs();
  writeGuestBytes(FACS_GPA, writer.start, writer.length);
  writeDsdt(vcpus);
  const dsdt = place();
  writeFadt(dsdt);
  const fadt = place();
  writeMadt(vcpus);
  const madt = place();
  writeMcfg();
  const mcfg = place();
  writer.begin("XSDT", 1);
  writer.u64(fadt);
  writer.u64(madt);
  writer.u64(mcfg);
  writer.end();
  writeGuestBytes(TABLES_GPA, writer.start, writer.length);
  writeRsdp();
  writeGuestBytes(ACPI_GPA, writer.start, writer.length);
  return ACPI_GPA;
}

function writeRsdp(): void {
  writer.length = 0;
  writer.ascii("RSD PTR ");
  writer.u8(0);
  writer.ascii("PLINTH");
  writer.u8(2);
  writer.u32(0); // no RSDT
  writer.u32(RSDP_SIZE);
  writer.u64(TABLES_GPA);
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

function writeFadt(dsdt: u64): void {
  writer.begin("FACP", 4);
  writer.u32(<u32>FACS_GPA);
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
  writer.zeros(8); // no GPE blocks
  writer.u8(4); // lengths: PM1 events
  writer.u8(2); // PM1 control
  writer.u8(0);
  writer.u8(4); // PM timer
  writer.zeros(4); // GPE lengths and base, _CST
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
  noAddress();
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
