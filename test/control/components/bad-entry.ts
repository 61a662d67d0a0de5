// A device model whose VM cannot be entered: it gives its vCPU a state that the CPU refuses.
//
// The VM's command line names the state: one of spoil()'s.

import { channelBind, vcpuSet, vcpuStart } from "../../../control/lib/binding";
import { CborReader, CborWriter, cborValid } from "../../../control/lib/cbor";
import { ModelLink, readConfig } from "../../../control/lib/link";
import {
  CAP_LINK,
  CAP_VCPU,
  ExitType,
  GPA_SHARED,
  Segment,
  SegmentStateAt,
  VcpuRegistersAt,
} from "../../../control/gen/abi";
import { ExitMessage, SegmentState, VcpuRegisters } from "../../../control/gen/layout";

const EVENT_LINK: u32 = 17;
const link = new ModelLink(GPA_SHARED, CAP_LINK);
const exit: usize = memory.data(320, 16);
const bytes: usize = memory.data(4096, 16);
const state: usize = memory.data(VcpuRegistersAt.SIZE, 16);

export function exitBuffer(): usize {
  return exit;
}

function segment(index: Segment): SegmentState {
  return changetype<SegmentState>(state + VcpuRegistersAt.segments + <u32>index * SegmentStateAt.SIZE);
}

const CR0_PAGED: u64 = 0x80000031; // PG, NE, ET, PE
const CR0_UNPROTECTED: u64 = 0x80000030; // PG without PE
const CR4_PAE: u64 = 0x20;
const EFER_LONG: u64 = 0x100; // LME: long mode with PG

/** Flat protected mode at address 0, which a CPU enters; VMX access rights. */
function soundState(): VcpuRegisters {
  for (let s: i32 = Segment.ES; s <= Segment.TR; s++) {
    segment(s).limit = 0xffffffff;
    segment(s).access = 0xc093;
  }
  segment(Segment.CS).access = 0xc09b;
  segment(Segment.LDTR).access = 0x10000;
  segment(Segment.TR).limit = 0x67;
  segment(Segment.TR).access = 0x8b;
  const registers = changetype<VcpuRegisters>(state);
  registers.rflags = 2;
  registers.cr0 = 0x31;
  return registers;
}

function spoil(what: string): void {
  const registers = soundState();
  if (what.startsWith("long-")) {
    registers.cr0 = CR0_PAGED;
    registers.cr4 = CR4_PAE;
    registers.efer = EFER_LONG;
  }
  if (what == "no-protection" || what == "long-no-protection") registers.cr0 = CR0_UNPROTECTED;
  else if (what == "long-no-pae") registers.cr4 = 0;
  else if (what == "long-code")
    segment(Segment.CS).access = 0xe09b; // of 64 and of 32 bits
  else if (what == "no-code") segment(Segment.CS).access = 0;
  else if (what == "no-task") segment(Segment.TR).access = 0x10000;
  else if (what == "rip") registers.rip = 0x8000000000000000;
  else if (what == "flags")
    registers.rflags = 1 << 15; // reserved, must be 0
  else if (what == "cr3") registers.cr3 = 0xffff000000000000;
  else assert(false, "no such state: " + what);
}

function send(kind: string, reason: string): void {
  const writer = new CborWriter(bytes, 4096);
  writer.map(reason == "" ? 1 : 3);
  writer.text("t");
  writer.text(kind);
  if (reason != "") {
    writer.text("reason");
    writer.text(reason);
    writer.text("value");
    writer.uint(changetype<ExitMessage>(exit).value);
  }
  link.events.send(bytes, writer.length);
  link.signal();
}

export function init(): void {
  channelBind(CAP_LINK, EVENT_LINK);
  const length = readConfig(GPA_SHARED, bytes);
  assert(length > 0 && cborValid(bytes, length), "no configuration");
  const reader = new CborReader(bytes, length);
  assert(reader.find("cmdline"), "no command line");
  spoil(reader.text());
  assert(vcpuSet(CAP_VCPU, state) == 0, "the kernel took no state");
  send("ready", "");
}

export function onExit(index: u32): void {
  const type = changetype<ExitMessage>(exit).type;
  send("ended", type == ExitType.FAILED ? "entry failed" : "exit " + type.toString());
}

export function onEvents(bits: u64): void {
  for (let length = link.commands.receive(bytes, 4096); length > 0;) {
    const reader = new CborReader(bytes, length);
    if (reader.find("t") && reader.text() == "run") vcpuStart(CAP_VCPU);
    length = link.commands.receive(bytes, 4096);
  }
}
