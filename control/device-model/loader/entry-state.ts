// The states in which vCPU 0 enters a kernel: long mode with everything mapped one to one, or 32-bit
// protected mode without paging.
//
// Source: Linux boot.rst, "64-bit Boot Protocol" and "32-bit Boot Protocol"; Xen's HVM direct boot ABI; Multiboot
// specification, "Machine state"; Intel SDM, "Guest Register State" (access rights).

import { vcpuSet } from "../../lib/binding";
import { CAP_VCPU, Segment, SegmentStateAt, VcpuRegistersAt } from "../../gen/abi";
import { SegmentState, VcpuRegisters } from "../../gen/layout";
import { COM1 } from "../chips/uart";
import { writeGuest, writeGuestBytes } from "../guest-memory";
import { startClock } from "../clock";
import { failLoad } from "./fail";
import { GDT_GPA, LOW_END, PAGE_TABLES_GPA, STACK_GPA, NO_FUNCTION_OFFSET, SMBIOS_GPA } from "./layout";

// Selectors that Linux asks for: __BOOT_CS and __BOOT_DS; the others do not care.
const CS_SELECTOR: u16 = 0x10;
const DS_SELECTOR: u16 = 0x18;
const TR_SELECTOR: u16 = 0x20;
const CODE64_DESCRIPTOR: u64 = 0x00af9b000000ffff;
const CODE32_DESCRIPTOR: u64 = 0x00cf9b000000ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf93000000ffff;
const TSS_DESCRIPTOR: u64 = 0x00008b0000000067;
const GDT_LIMIT: u32 = 6 * 8 - 1; // a TSS descriptor takes two entries

// VMX access rights.
const ACCESS_CODE64: u32 = 0xa09b;
const ACCESS_CODE32: u32 = 0xc09b;
const ACCESS_DATA: u32 = 0xc093;
const ACCESS_TSS: u32 = 0x008b;
const ACCESS_UNUSABLE: u32 = 0x10000;

const CR0_LONG: u64 = 0x80000031; // PG, NE, ET, PE
const CR0_FLAT: u64 = 0x11; // ET, PE
const CR4: u64 = 0x20; // PAE
const EFER: u64 = 0x500; // LMA, LME
const RFLAGS: u64 = 2;

// Intel SDM volume 3, "Processor State After Reset".
const RESET_CR0: u64 = 0x60000010; // CD, NW, ET
const RESET_IP: u64 = 0xfff0;
const RESET_CS_SELECTOR: u16 = 0xf000;
const RESET_CS_BASE: u64 = 0xffff0000;
const RESET_SIGNATURE: u64 = 0x600; // EDX: a processor of family 6
const REAL_LIMIT: u32 = 0xffff;
const ACCESS_CODE16: u32 = 0x9b;
const ACCESS_DATA16: u32 = 0x93;
const ACCESS_LDT: u32 = 0x82;

const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 0x80;
const PAGE: u64 = 0x1000;
const RAX: u32 = 0;
const RBX: u32 = 3;
const RDX: u32 = 2;
const RSP: u32 = 4;
const RSI: u32 = 6;

// Ticks a second of guest time, which begins when the state is set.
let tscHz: u64 = 0;

export function startEntry(hz: u64): void {
  tscHz = hz;
}

const state: usize = memory.data(VcpuRegistersAt.SIZE, 16);

// BIOS data area.
const BDA_COM1: u64 = 0x400;
const BDA_EBDA: u64 = 0x40e; // its segment
const BDA_MEMORY: u64 = 0x413; // KiB

// Real-mode interrupts: all lead to STC and RETF 2, a BIOS that has no such function.
const VECTORS: u32 = 256;
const NO_FUNCTION: u32 = 0x0002caf9;
const NO_FUNCTION_AT: u32 = ((<u32>(SMBIOS_GPA >> 4)) << 16) | NO_FUNCTION_OFFSET;

const ENTRIES: u32 = 512;
const table: usize = memory.data(4096, 16);

/** Writes a page table whose entry n is first + n * step. */
function writeTable(gpa: u64, entries: u32, first: u64, step: u64): void {
  memory.fill(table, 0, <usize>PAGE);
  for (let i: u32 = 0; i < entries; i++) store<u64>(table + i * 8, first + step * i);
  writeGuestBytes(gpa, table, <u32>PAGE);
}

/** Maps the first 4 GiB one to one in 2 MiB pages. */
function writePageTables(): void {
  const pdpt = PAGE_TABLES_GPA + PAGE;
  const directories = pdpt + PAGE;
  writeTable(PAGE_TABLES_GPA, 1, pdpt | PRESENT_WRITABLE, 0);
  writeTable(pdpt, 4, directories | PRESENT_WRITABLE, PAGE);
  for (let i: u64 = 0; i < 4; i++) {
    writeTable(directories + i * PAGE, ENTRIES, (i << 30) | LARGE | PRESENT_WRITABLE, 1 << 21);
  }
}

function writeGdt(code: u64): void {
  writeGuest(GDT_GPA + CS_SELECTOR, 8, code);
  writeGuest(GDT_GPA + DS_SELECTOR, 8, DATA_DESCRIPTOR);
  writeGuest(GDT_GPA + TR_SELECTOR, 8, TSS_DESCRIPTOR);
}

function setSegment(index: Segment, selector: u16, limit: u32, access: u32, base: u64 = 0): void {
  const at = state + VcpuRegistersAt.segments + <u32>index * SegmentStateAt.SIZE;
  const segment = changetype<SegmentState>(at);
  segment.selector = selector;
  segment.limit = limit;
  segment.access = access;
  segment.base = base;
}

// What all entries share: registers zero, flat segments.
function begin(rip: u64, code: u32): VcpuRegisters {
  memory.fill(state, 0, VcpuRegistersAt.SIZE);
  const registers = changetype<VcpuRegisters>(state);
  registers.rip = rip;
  registers.rflags = RFLAGS;
  for (let i: u32 = Segment.ES; i <= <u32>Segment.GS; i++)
    setSegment(<Segment>i, DS_SELECTOR, 0xffffffff, ACCESS_DATA);
  setSegment(Segment.CS, CS_SELECTOR, 0xffffffff, code);
  setSegment(Segment.LDTR, 0, 0, ACCESS_UNUSABLE);
  setSegment(Segment.TR, TR_SELECTOR, 0x67, ACCESS_TSS);
  setSegment(Segment.GDTR, 0, GDT_LIMIT, 0, GDT_GPA);
  setSegment(Segment.IDTR, 0, 0, 0);
  return registers;
}

// Sets vCPU 0. False: the kernel refused the state, and the control domain was told.
function enter(registers: VcpuRegisters): bool {
  registers.tsc_offset = startClock(tscHz);
  const status = vcpuSet(CAP_VCPU, state);
  if (status >= 0) return true;
  failLoad("vCPU 0", `the kernel refused its first state (status ${(-status).toString()})`, "plinth logs");
  return false;
}

// What systems look for that expect a BIOS before them: the end of low memory, the serial port, and somebody who says
// that it is not there.
function writeBiosData(): void {
  for (let n: u32 = 0; n < VECTORS; n++) writeGuest(4 * n, 4, NO_FUNCTION_AT);
  writeGuest(SMBIOS_GPA + NO_FUNCTION_OFFSET, 4, NO_FUNCTION);
  writeGuest(BDA_COM1, 2, COM1);
  writeGuest(BDA_EBDA, 2, LOW_END >> 4);
  writeGuest(BDA_MEMORY, 2, LOW_END >> 10);
}

/** Sets vCPU 0 to `rip` in long mode, with RSI. */
export function enterLong(rip: u64, rsi: u64): bool {
  writeBiosData();
  writePageTables();
  writeGdt(CODE64_DESCRIPTOR);
  const registers = begin(rip, ACCESS_CODE64);
  registers.gpr[RSI] = rsi;
  registers.gpr[RSP] = STACK_GPA;
  registers.cr0 = CR0_LONG;
  registers.cr3 = PAGE_TABLES_GPA;
  registers.cr4 = CR4;
  registers.efer = EFER;
  return enter(registers);
}

/** Sets vCPU 0 to `rip` in 32-bit protected mode without paging, with EAX, EBX and ESI; there is no stack. */
export function enterFlat(rip: u64, eax: u64, ebx: u64, esi: u64): bool {
  writeBiosData();
  writeGdt(CODE32_DESCRIPTOR);
  const registers = begin(rip, ACCESS_CODE32);
  registers.gpr[RAX] = eax;
  registers.gpr[RBX] = ebx;
  registers.gpr[RSI] = esi;
  registers.cr0 = CR0_FLAT;
  return enter(registers);
}

/** Sets vCPU 0 to the state after a reset. */
export function enterReset(): bool {
  memory.fill(state, 0, VcpuRegistersAt.SIZE);
  const registers = changetype<VcpuRegisters>(state);
  registers.gpr[RDX] = RESET_SIGNATURE;
  registers.rip = RESET_IP;
  registers.rflags = RFLAGS;
  registers.cr0 = RESET_CR0;
  for (let i: u32 = Segment.ES; i <= <u32>Segment.GS; i++)
    setSegment(<Segment>i, 0, REAL_LIMIT, ACCESS_DATA16);
  setSegment(Segment.CS, RESET_CS_SELECTOR, REAL_LIMIT, ACCESS_CODE16, RESET_CS_BASE);
  setSegment(Segment.LDTR, 0, REAL_LIMIT, ACCESS_LDT);
  setSegment(Segment.TR, 0, REAL_LIMIT, ACCESS_TSS);
  setSegment(Segment.GDTR, 0, REAL_LIMIT, 0);
  setSegment(Segment.IDTR, 0, REAL_LIMIT, 0);
  return enter(registers);
}
