// Facts about the machine and this domain: the info page, time, memory, the modules, the kernel's log.

import { Info, HostInfo, ModuleInfo, NodeInfo } from "../gen/layout";
import {
  CAP_MODULE,
  CAP_SELF,
  HostInfoAt,
  MAX_MODULES,
  ModuleInfoAt,
  NodeInfoAt,
  PAGE_SIZE,
  Right,
} from "../gen/abi";
import { hostInfo, hostLog, memMap, memUnmap, now, readInfo, sharedRead } from "../lib/binding";
import { decode } from "./codec";
import { GPA_MODULE } from "./slots";
import { fieldText } from "./text";
import { Value } from "./value";

const infoPage: usize = memory.data(2048, 16);
const hostPage: usize = memory.data(256, 16); /* and NodeInfo[MAX_NODES] */
const logPage: usize = memory.data(4096, 16);
let ticksPerMs: u64 = 1;
let ticksPerUs: u64 = 1;

/** Copies the info page; everything else here needs it. */
export function hostRead(): void {
  readInfo(infoPage);
  ticksPerMs = max<u64>(info().tsc_hz / 1000, 1);
  ticksPerUs = max<u64>(info().tsc_hz / 1000000, 1);
}

export function info(): Info {
  return changetype<Info>(infoPage);
}

/** Microseconds since a time-stamp. */
export function usSince(tsc: u64): u64 {
  const time = now();
  return time > tsc ? ((time - tsc) * 1000) / ticksPerMs : 0;
}

/** Milliseconds since the boot loader's hand-over. */
export function uptimeMs(): u64 {
  const time = now();
  const boot = info().boot_tsc;
  return time > boot ? (time - boot) / ticksPerMs : 0;
}

/** The time-stamp of a point in time given as uptime in milliseconds. */
export function tscAt(ms: u64): u64 {
  return info().boot_tsc + ms * ticksPerMs;
}

export function ticksToMs(ticks: u64): u64 {
  return ticks / ticksPerMs;
}

export function ticksToUs(ticks: u64): u64 {
  return ticks / ticksPerUs;
}

/** The kernel's figures of this moment. The next call overwrites them. */
export function hostNow(): HostInfo {
  hostInfo(hostPage);
  return changetype<HostInfo>(hostPage);
}

/** One of its `nodes`, which are behind the figures. */
export function nodeOf(host: HostInfo, index: u32): NodeInfo {
  return changetype<NodeInfo>(changetype<usize>(host) + HostInfoAt.SIZE + index * NodeInfoAt.SIZE);
}

/** Pages that a new VM could have. */
export function freePages(): u64 {
  const host = hostNow();
  const kept = host.reserved_pages + host.promised_pages;
  return host.free_pages > kept ? host.free_pages - kept : 0;
}

export function cpuName(): string {
  return fieldText(info().cpu_name.address, 48);
}

export function rigName(): string {
  return fieldText(info().rig.address, 16);
}

export function kernelVersion(): string {
  return fieldText(info().kernel_version.address, 32);
}

/** A boot module. */
export class Module {
  constructor(
    public name: string,
    public size: u64,
    public slot: u32,
  ) {}

  get pages(): u64 {
    return (this.size + PAGE_SIZE - 1) / PAGE_SIZE;
  }
}

const moduleList: Module[] = [];

/** The modules of the boot loader, in its order. */
export function modules(): Module[] {
  const out = moduleList;
  if (out.length > 0) return out;
  const count = min<u32>(info().module_count, MAX_MODULES);
  for (let i: u32 = 0; i < count; i++) {
    const entry = changetype<ModuleInfo>(info().modules.address + <usize>i * ModuleInfoAt.SIZE);
    out.push(new Module(fieldText(entry.name.address, 56), entry.size, CAP_MODULE + i));
  }
  return out;
}

export function findModule(name: string): Module | null {
  const all = modules();
  for (let i = 0; i < all.length; i++) if (all[i].name == name) return all[i];
  return null;
}

/** Bytes of a module that is a document, at most. */
export const MAX_DOCUMENT: u64 = 65536;
/** The document being read: at boot a module, later the specification that a program sends. */
export const documentBuffer: usize = memory.data(0x10000, 16); /* MAX_DOCUMENT */

/** The CBOR document that a module is; null if it is none. */
export function moduleDocument(module: Module): Value | null {
  if (module.size > MAX_DOCUMENT) return null;
  if (memMap(CAP_SELF, module.slot, GPA_MODULE, 0, module.pages, Right.READ) < 0) return null;
  sharedRead(documentBuffer, GPA_MODULE, <u32>module.size);
  memUnmap(CAP_SELF, GPA_MODULE, module.pages);
  return decode(documentBuffer, <u32>module.size);
}

/** A piece of the kernel's log. */
export class LogPiece {
  constructor(
    public from: u64,
    public data: StaticArray<u8>,
  ) {}
}

/** At most `limit` bytes of the kernel's log from byte `position` on; what is gone is skipped. */
export function kernelLog(position: u64, limit: u32): LogPiece {
  const value = hostLog(position, logPage);
  if (value <= 0) return new LogPiece(position, new StaticArray<u8>(0));
  const length = min<u32>(<u32>(value & (PAGE_SIZE - 1)), limit);
  const data = new StaticArray<u8>(length);
  memory.copy(changetype<usize>(data), logPage, length);
  return new LogPiece((<u64>value) >> 12, data);
}

/** The newest line of the kernel's log that contains `needle`, or "". Looks at the last 4 KiB. */
export function lastLogLine(needle: string): string {
  const end = hostNow().log_position;
  const piece = kernelLog(end > 4000 ? end - 4000 : 0, PAGE_SIZE);
  const text = String.UTF8.decodeUnsafe(changetype<usize>(piece.data), piece.data.length);
  const lines = text.split("\n");
  for (let i = lines.length - 1; i >= 0; i--) if (lines[i].includes(needle)) return lines[i].trim();
  return "";
}
