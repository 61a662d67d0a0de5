// The state in which vCPU 0 enters a Linux kernel: long mode, paging on, everything mapped one to one.
//
// Source: Linux boot.rst, "64-bit Boot Protocol"; Intel SDM, "Guest Register State" (access rights).

import { vcpuSet } from "../../lib/binding";
import { CAP_VCPU, Segment, SegmentStateAt, VcpuRegistersAt } from "../../gen/abi";
import { SegmentState, VcpuRegisters } from "../../gen/layout";
import { writeGuest, writeGuestBytes } from "../guest-memory";
import { BOOT_PARAMS_GPA, GDT_GPA, PAGE_TABLES_GPA, STACK_GPA } from "./layout";

const ENTRY_64: u64 = 0x200;

// Selectors that the protocol asks for: __BOOT_CS and __BOOT_DS.
const CS_SELECTOR: u16 = 0x10;
const DS_SELECTOR: u16 = 0x18;
const TR_SELECTOR: u16 = 0x20;
const CODE_DESCRIPTOR: u64 = 0x00af9b000000ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf93000000ffff;
const TSS_DESCRIPTOR: u64 = 0x00008b0000000067;
const GDT_LIMIT: u32 = 6 * 8 - 1; // a TSS descriptor takes two entries

// VMX access rights.
const ACCESS_CODE64: u32 = 0xa09b;
const ACCESS_DATA: u32 = 0xc093;
const ACCESS_TSS: u32 = 0x008b;
const ACCESS_UNUSABLE: u32 = 0x10000;

const CR0: u64 = 0x80000031; // PG, NE, ET, PE
const CR4: u64 = 0x20; // PAE
const EFER: u64 = 0x500; // LMA, LME
const RFLAGS: u64 = 2;

const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 0x80;
const PAGE: u64 = 0x1000;
const RSI: u32 = 6;
const RSP: u32 = 4;

const state: usize = memory.data(VcpuRegistersAt.SIZE, 16);

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

function writeGdt(): void {
  writeGuest(GDT_GPA + CS_SELECTOR, 8, CODE_DESCRIPTOR);
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

/** Sets vCPU 0 to the 64-bit entry point of the kernel at `kernel`. Returns the hypercall's result. */
export function enterKernel(kernel: u64, tscOffset: u64): i64 {
  writePageTables();
  writeGdt();
  memory.fill(state, 0, VcpuRegistersAt.SIZE);
  const registers = changetype<VcpuRegisters>(state);
  registers.gpr[RSI] = BOOT_PARAMS_GPA;
  registers.gpr[RSP] = STACK_GPA;
  registers.rip = kernel + ENTRY_64;
  registers.rflags = RFLAGS;
  registers.cr0 = CR0;
  registers.cr3 = PAGE_TABLES_GPA;
  registers.cr4 = CR4;
  registers.efer = EFER;
  registers.tsc_offset = tscOffset;
  for (let i: u32 = Segment.ES; i <= <u32>Segment.GS; i++)
    setSegment(<Segment>i, DS_SELECTOR, 0xffffffff, ACCESS_DATA);
  setSegment(Segment.CS, CS_SELECTOR, 0xffffffff, ACCESS_CODE64);
  setSegment(Segment.LDTR, 0, 0, ACCESS_UNUSABLE);
  setSegment(Segment.TR, TR_SELECTOR, 0x67, ACCESS_TSS);
  setSegment(Segment.GDTR, 0, GDT_LIMIT, 0, GDT_GPA);
  setSegment(Segment.IDTR, 0, 0, 0);
  return vcpuSet(CAP_VCPU, state);
}
