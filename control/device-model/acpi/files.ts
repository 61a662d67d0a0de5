// The ACPI tables as fw_cfg files, with the script by which firmware puts them into memory.
//
// Source: QEMU hw/acpi/bios-linker-loader.c, "BIOS linker/loader"; commands are 128 bytes each. A checksum
// byte must be 0 before its command.

import { fwCfg } from "../chips/fw-cfg";
import { ADDRESS_FILE, addGenerationFiles, GENERATION_FILE, GENERATION_OFFSET } from "../generation";
import {
  buildTables,
  dsdtAt,
  fadtAt,
  generationAt,
  RSDP_SIZE,
  tables,
  tablesLength,
  writeRsdp,
  XSDT_AT,
} from "./tables";
import { CHECKSUM_AT, LENGTH_AT, TABLE_HEADER, writer } from "./writer";

const RSDP_FILE = "etc/acpi/rsdp";
const TABLES_FILE = "etc/acpi/tables";
const SCRIPT_FILE = "etc/table-loader";

const ALLOCATE: u32 = 1; // file, alignment, zone
const ADD_POINTER: u32 = 2; // file with the pointer, file that it points into, where it is, its size
const ADD_CHECKSUM: u32 = 3; // file, where it is, first byte, bytes
const WRITE_POINTER: u32 = 4; // file of ours that gets it, file that it points into, where, offset, size
const COMMAND: u32 = 128;
const NAME: u32 = 56;
const ZONE_HIGH: u32 = 1;
const ZONE_BIOS: u32 = 2;

const FADT_FACS: u32 = 36;
const FADT_DSDT: u32 = 40;
const FADT_X_DSDT: u32 = 140;
const RSDP_XSDT: u32 = 24;
const RSDP_CHECKSUM: u32 = 8;
const RSDP_CHECKED: u32 = 20;
const RSDP_CHECKSUM_ALL: u32 = 32;
const FACS_ALIGNMENT: u32 = 64;
const PAGE: u32 = 4096;

const MAX_COMMANDS: u32 = 16;
const rsdp: usize = memory.data(36, 8);
const script: usize = memory.data(2048, 8); // MAX_COMMANDS
let commands: u32 = 0;

/** Adds the files, with those of the generation ID. */
export function addAcpiFiles(vcpus: u32): void {
  buildTables(vcpus, 0, GENERATION_OFFSET);
  writeRsdp(XSDT_AT);
  memory.copy(rsdp, writer.start, RSDP_SIZE);
  commands = 0;
  allocate(RSDP_FILE, 16, ZONE_BIOS);
  allocate(TABLES_FILE, FACS_ALIGNMENT, ZONE_HIGH);
  allocate(GENERATION_FILE, PAGE, ZONE_HIGH);
  addPointer(TABLES_FILE, generationAt, 4, GENERATION_FILE);
  checksum(dsdtAt);
  writePointer();
  pointer(TABLES_FILE, fadtAt + FADT_FACS, 4);
  pointer(TABLES_FILE, fadtAt + FADT_DSDT, 4);
  pointer(TABLES_FILE, fadtAt + FADT_X_DSDT, 8);
  checksum(fadtAt);
  const end = XSDT_AT + load<u32>(tables + XSDT_AT + LENGTH_AT);
  for (let at = XSDT_AT + TABLE_HEADER; at < end; at += 8) pointer(TABLES_FILE, at, 8);
  checksum(XSDT_AT);
  pointer(RSDP_FILE, RSDP_XSDT, 8);
  rsdpChecksum(RSDP_CHECKSUM, RSDP_CHECKED);
  rsdpChecksum(RSDP_CHECKSUM_ALL, RSDP_SIZE);
  fwCfg.addFile(RSDP_FILE, rsdp, RSDP_SIZE);
  fwCfg.addFile(TABLES_FILE, tables, tablesLength);
  addGenerationFiles();
  fwCfg.addFile(SCRIPT_FILE, script, commands * COMMAND);
}

function name(at: usize, file: string): void {
  for (let i = 0; i < file.length; i++) store<u8>(at + i, <u8>file.charCodeAt(i));
}

// Starts a command about a file; returns where its other arguments go.
function command(kind: u32, file: string): usize {
  assert(commands < MAX_COMMANDS, "acpi: the script is too long");
  const at = script + commands++ * COMMAND;
  store<u32>(at, kind);
  name(at + 4, file);
  return at + 4 + NAME;
}

function allocate(file: string, alignment: u32, zone: u32): void {
  const at = command(ALLOCATE, file);
  store<u32>(at, alignment);
  store<u8>(at, <u8>zone, 4);
}

// A pointer into the tables.
function pointer(file: string, offset: u32, size: u32): void {
  addPointer(file, offset, size, TABLES_FILE);
}

function addPointer(file: string, offset: u32, size: u32, target: string): void {
  const at = command(ADD_POINTER, file);
  name(at, target);
  store<u32>(at + NAME, offset);
  store<u8>(at + NAME, <u8>size, 4);
}

// Firmware says where the generation ID is.
function writePointer(): void {
  const at = command(WRITE_POINTER, ADDRESS_FILE);
  name(at, GENERATION_FILE);
  store<u32>(at + NAME, 0);
  store<u32>(at + NAME, GENERATION_OFFSET, 4);
  store<u8>(at + NAME, 8, 8);
}

function addChecksum(file: string, at: usize, from: u32, length: u32): void {
  const to = command(ADD_CHECKSUM, file);
  store<u32>(to, <u32>at);
  store<u32>(to, from, 4);
  store<u32>(to, length, 8);
}

function checksum(table: u32): void {
  store<u8>(tables + table + CHECKSUM_AT, 0);
  addChecksum(TABLES_FILE, table + CHECKSUM_AT, table, load<u32>(tables + table + LENGTH_AT));
}

function rsdpChecksum(at: u32, length: u32): void {
  store<u8>(rsdp + at, 0);
  addChecksum(RSDP_FILE, at, 0, length);
}
