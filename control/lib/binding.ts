// What a component imports: the "plinth" functions, and one typed wrapper for each hypercall.
//
// The native runtime (control/native) and the model of the kernel (test/control/model) implement the
// imports. Nothing else may be imported. Wrappers return what the hypercall returns: a value >= 0, or
// the negated Status. `out` and `from` are addresses in linear memory; structures are in gen/layout.ts.

import { CpuidRowAt, DomainInfoAt, HostInfoAt, Hypercall, CapInfoAt, InfoAt, LABEL_SIZE } from "../gen/abi";
import { DomainSnapshotAt, MAX_NODES, NodeInfoAt, PageRangesAt, SavedRowAt, VcpuInfoAt, VcpuRegistersAt, VcpuShareAt } from "../gen/abi";
import { PAGE_SIZE } from "../gen/abi";

/** VMCALL. Returns the value (>= 0) or the negated Status. */
// @ts-ignore: decorator
@external("plinth", "hypercall")
export declare function hypercall(nr: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64, a5: u64): i64;

/** Copies from the comm page to linear memory. */
// @ts-ignore: decorator
@external("plinth", "commRead")
export declare function commRead(to: usize, offset: u32, length: u32): void;

/** Copies from linear memory to the comm page. */
// @ts-ignore: decorator
@external("plinth", "commWrite")
export declare function commWrite(offset: u32, from: usize, length: u32): void;

/** Copies from the info page to linear memory. */
// @ts-ignore: decorator
@external("plinth", "infoRead")
export declare function infoRead(to: usize, offset: u32, length: u32): void;

/** Copies from shared, exit, module or VM memory to linear memory, each byte once. */
// @ts-ignore: decorator
@external("plinth", "sharedRead")
export declare function sharedRead(to: usize, gpa: u64, length: u32): void;

/** Copies from linear memory to shared, exit or VM memory. */
// @ts-ignore: decorator
@external("plinth", "sharedWrite")
export declare function sharedWrite(gpa: u64, from: usize, length: u32): void;

/** Copies between two places outside of linear memory. They must not overlap. */
// @ts-ignore: decorator
@external("plinth", "sharedCopy")
export declare function sharedCopy(to: u64, from: u64, length: u64): void;

/** Fills memory outside of linear memory with a byte. */
// @ts-ignore: decorator
@external("plinth", "sharedFill")
export declare function sharedFill(gpa: u64, value: u32, length: u64): void;

/** Loads an aligned u32 that another domain may store to at any time (acquire). */
// @ts-ignore: decorator
@external("plinth", "sharedLoad32")
export declare function sharedLoad32(gpa: u64): u32;

/** Loads an aligned u64 that another domain may store to at any time. */
// @ts-ignore: decorator
@external("plinth", "sharedLoad64")
export declare function sharedLoad64(gpa: u64): u64;

/** Stores an aligned u32 for another domain, after everything written before; a full barrier. */
// @ts-ignore: decorator
@external("plinth", "sharedStore32")
export declare function sharedStore32(gpa: u64, value: u32): void;

/** Replaces an aligned value of 4 or 8 bytes in one step, if it is `expected`; whether it was. */
// @ts-ignore: decorator
@external("plinth", "sharedReplace")
export declare function sharedReplace(gpa: u64, size: u32, expected: u64, value: u64): bool;

/** Reads a port of this domain (HC_PORTS_MAP); size is 1, 2 or 4. */
// @ts-ignore: decorator
@external("plinth", "portIn")
export declare function portIn(port: u32, size: u32): u32;

/** Writes a port of this domain (HC_PORTS_MAP); size is 1, 2 or 4. */
// @ts-ignore: decorator
@external("plinth", "portOut")
export declare function portOut(port: u32, size: u32, value: u32): void;

/** The time-stamp counter; info.tsc_hz ticks are a second. */
// @ts-ignore: decorator
@external("plinth", "now")
export declare function now(): u64;

/** Ends the component with "message @ file:line:column". asc calls it for assert, throw and bounds. */
// @ts-ignore: decorator
@external("plinth", "abort")
export declare function abort(message: string | null, file: string | null, line: u32, column: u32): void;

// Scratch memory for labels and log lines; nothing here is kept between two calls.
const scratch: usize = memory.data(256, 16);

/** A hypercall with up to four arguments. */
// @ts-ignore: decorator
@inline
function call(nr: Hypercall, a0: u64 = 0, a1: u64 = 0, a2: u64 = 0, a3: u64 = 0): i64 {
  return hypercall(nr, a0, a1, a2, a3, 0, 0);
}

/** A hypercall that leaves a structure of `length` bytes in the comm page; copies it on success. */
function callOut(nr: Hypercall, a0: u64, out: usize, length: u32): i64 {
  const status = hypercall(nr, a0, 0, 0, 0, 0, 0);
  if (status >= 0) commRead(out, 0, length);
  return status;
}

/** Does nothing, for measuring. */
export function nullCall(): i64 {
  return call(Hypercall.NULL);
}

/** Writes UTF-8 text to the kernel log, in pieces of at most a page. */
export function logBytes(from: usize, length: u32): void {
  while (length > 0) {
    const piece = min<u32>(length, PAGE_SIZE);
    commWrite(0, from, piece);
    hypercall(Hypercall.LOG, piece, 0, 0, 0, 0, 0);
    from += piece;
    length -= piece;
  }
}

/** Writes a line to the kernel log; it needs no newline. Allocates. */
export function log(text: string): void {
  const bytes = String.UTF8.encode(text);
  logBytes(changetype<usize>(bytes), bytes.byteLength);
}

/** out: CapInfo. */
export function capInfo(slot: u32, out: usize): i64 {
  return callOut(Hypercall.CAP_INFO, slot, out, CapInfoAt.SIZE);
}

/** What a domain holds of a kind (Holding), from a place on; out: CapInfo[], a page. Returns how many. */
export function capList(domain: u32, what: u32, from: u64, out: usize): i64 {
  const count = call(Hypercall.CAP_LIST, domain, what, from);
  if (count > 0) commRead(out, 0, <u32>count * CapInfoAt.SIZE);
  return count;
}

/** Copies the capability in `slot` to slot `to` of `domain`, with at most `rights`. */
export function capGrant(domain: u32, to: u32, slot: u32, rights: u32): i64 {
  return call(Hypercall.CAP_GRANT, domain, to, slot, rights);
}

/** Deletes everything that was derived from `slot`, in any domain. */
export function capRevoke(slot: u32): i64 {
  return call(Hypercall.CAP_REVOKE, slot);
}

/** Revokes, then empties the slot. */
export function capDrop(slot: u32): i64 {
  return call(Hypercall.CAP_DROP, slot);
}

/**
 * Creates a domain in `slot`; of the label the first LABEL_SIZE - 1 bytes of UTF-8 are kept. `tenant`: domains of one
 * number trust each other more than others; 0 is the host's own.
 */
export function domainCreate(
  slot: u32,
  role: u32,
  kernelPages: u32,
  capSlots: u32,
  label: string,
  tenant: u32 = 0,
): i64 {
  memory.fill(scratch, 0, LABEL_SIZE);
  const bytes = String.UTF8.encode(label);
  memory.copy(scratch, changetype<usize>(bytes), min(bytes.byteLength, LABEL_SIZE - 1));
  commWrite(0, scratch, LABEL_SIZE);
  return hypercall(Hypercall.DOMAIN_CREATE, slot, role, kernelPages, capSlots, tenant, 0);
}

export function domainDestroy(domain: u32): i64 {
  return call(Hypercall.DOMAIN_DESTROY, domain);
}

/** Stops a VM and its time; `model`: its device model, too, at the same instant. */
export function domainPause(domain: u32, model: bool = false): i64 {
  return call(Hypercall.DOMAIN_PAUSE, domain, model);
}

export function domainResume(domain: u32): i64 {
  return call(Hypercall.DOMAIN_RESUME, domain);
}

/** out: DomainInfo. */
export function domainInfo(domain: u32, out: usize): i64 {
  return callOut(Hypercall.DOMAIN_INFO, domain, out, DomainInfoAt.SIZE);
}

/**
 * Creates a memory object of `pages` zeroed 4 KiB pages in `slot`; `payer`: a domain with which it goes; `node`: whose
 * frames it has as long as there are any, by its place in what hostInfo says.
 */
export function memCreate(slot: u32, pages: u64, payer: u32 = 0, node: u32 = 0): i64 {
  return call(Hypercall.MEM_CREATE, slot, pages, payer, node);
}

/** Gives the frames of up to RELEASE_MAX pages back; who touches one later finds it zeroed. */
export function memRelease(slot: u32, firstPage: u64, pages: u64): i64 {
  return call(Hypercall.MEM_RELEASE, slot, firstPage, pages);
}

/**
 * A memory object in `slot` with all pages of `memory` as they are now, copied on write; `payer`: a domain with
 * which it goes, where it is in slot `to`; `node`: of which it has the copies.
 */
export function memClone(slot: u32, memory: u32, payer: u32 = 0, to: u32 = 0, node: u32 = 0): i64 {
  return hypercall(Hypercall.MEM_CLONE, slot, memory, payer, to, node, 0);
}

/** out: u64[MAX_NODES], pages of each node from `page` on. Returns the page to ask from next; at last their number. */
export function memNodes(memory: u32, page: u64, out: usize): i64 {
  const next = call(Hypercall.MEM_NODES, memory, page);
  if (next >= 0) commRead(out, 0, 8 * MAX_NODES);
  return next;
}

/** Keeps free frames for pages that a memory object shares or lacks. */
export function memPromise(memory: u32, pages: u64): i64 {
  return call(Hypercall.MEM_PROMISE, memory, pages);
}

/**
 * Where `memory` differs from `base` (0: where it has frames), from a page on; out, a page: PageRanges, and behind
 * it pairs of first page and number of pages. Returns how many pairs.
 */
export function memDiff(memory: u32, base: u32, from: u64, out: usize): i64 {
  const count = call(Hypercall.MEM_DIFF, memory, base, from);
  if (count >= 0) commRead(out, 0, PageRangesAt.SIZE + 16 * <u32>count);
  return count;
}

/** out, a page: DomainSnapshot, SavedRow[]. Returns how many rows. */
export function domainSave(domain: u32, out: usize): i64 {
  const count = call(Hypercall.DOMAIN_SAVE, domain);
  if (count >= 0) commRead(out, 0, DomainSnapshotAt.SIZE + <u32>count * SavedRowAt.SIZE);
  return count;
}

export function domainLoad(domain: u32, from: usize, rows: u32): i64 {
  commWrite(0, from, DomainSnapshotAt.SIZE + rows * SavedRowAt.SIZE);
  return call(Hypercall.DOMAIN_LOAD, domain, rows);
}

/** out: up to a page. Returns its bytes; 0: there is no such part. */
export function vcpuSave(vcpu: u32, part: u32, out: usize): i64 {
  const length = call(Hypercall.VCPU_SAVE, vcpu, part);
  if (length > 0) commRead(out, 0, <u32>length);
  return length;
}

export function vcpuLoad(vcpu: u32, part: u32, from: usize, length: u32): i64 {
  commWrite(0, from, length);
  return call(Hypercall.VCPU_LOAD, vcpu, part, length);
}

/** Maps pages of a memory object into a domain; access is a mask of READ, WRITE and EXECUTE. */
export function memMap(domain: u32, memory: u32, gpa: u64, firstPage: u64, pages: u64, access: u32): i64 {
  return hypercall(Hypercall.MEM_MAP, domain, memory, gpa, firstPage, pages, access);
}

export function memUnmap(domain: u32, gpa: u64, pages: u64): i64 {
  return call(Hypercall.MEM_UNMAP, domain, gpa, pages);
}

/** Creates vCPU `index` of `domain` in `slot`; `model` is its device model's domain or 0. */
export function vcpuCreate(slot: u32, domain: u32, index: u32, model: u32): i64 {
  return call(Hypercall.VCPU_CREATE, slot, domain, index, model);
}

/** from: VcpuRegisters. */
export function vcpuSet(vcpu: u32, from: usize): i64 {
  commWrite(0, from, VcpuRegistersAt.SIZE);
  return call(Hypercall.VCPU_SET, vcpu);
}

/** out: VcpuRegisters. */
export function vcpuGet(vcpu: u32, out: usize): i64 {
  return callOut(Hypercall.VCPU_GET, vcpu, out, VcpuRegistersAt.SIZE);
}

export function vcpuStart(vcpu: u32): i64 {
  return call(Hypercall.VCPU_START, vcpu);
}

export function vcpuStop(vcpu: u32): i64 {
  return call(Hypercall.VCPU_STOP, vcpu);
}

/**
 * What all VMs of a tenant may cause in 1/BRAKE_PERIODS s, how many calls their device models may make then, and how many
 * bytes a second they may write to the log; 0: no limit.
 */
export function brake(tenant: u32, exits: u64, ipis: u64, calls: u64, logBytes: u64): i64 {
  return hypercall(Hypercall.BRAKE, tenant, exits, ipis, calls, logBytes, 0);
}

/** A tenant is in a class of service, and that has these ways of the cache, by bit, and this delay, in percent. */
export function partition(tenant: u32, service: u32, ways: u64, delay: u64): i64 {
  return call(Hypercall.PARTITION, tenant, service, ways, delay);
}

/** share: VcpuShare; NO_QUOTA: no CPU can promise it. */
export function vcpuShare(vcpu: u32, share: usize): i64 {
  commWrite(0, share, VcpuShareAt.SIZE);
  return call(Hypercall.VCPU_SHARE, vcpu);
}

/** kind: InterruptKind. */
export function vcpuInterrupt(vcpu: u32, kind: u32, vector: u32): i64 {
  return call(Hypercall.VCPU_INTERRUPT, vcpu, kind, vector);
}

/** out: VcpuInfo. */
export function vcpuInfo(vcpu: u32, out: usize): i64 {
  return callOut(Hypercall.VCPU_INFO, vcpu, out, VcpuInfoAt.SIZE);
}

/** Delivers a message-signalled interrupt to the local APICs of a VM. */
export function msi(domain: u32, address: u64, data: u32): i64 {
  return call(Hypercall.MSI, domain, address, data);
}

/** Reads a register of a vCPU's local APIC by its address, while the vCPU waits for the answer to an exit. */
export function apicRead(vcpu: u32, gpa: u64): i64 {
  return call(Hypercall.APIC_ACCESS, vcpu, gpa);
}

/** Writes one; returns 0, or 1 + the vector of a level-triggered interrupt that has been ended. */
export function apicWrite(vcpu: u32, gpa: u64, value: u32): i64 {
  return call(Hypercall.APIC_ACCESS, vcpu, gpa, value, 1);
}

/** from: CpuidRow[rows], sorted by leaf and subleaf. */
export function cpuidSet(domain: u32, from: usize, rows: u32): i64 {
  commWrite(0, from, rows * CpuidRowAt.SIZE);
  return call(Hypercall.CPUID_SET, domain, rows);
}

/** A write of `value` (or DOORBELL_ANY) to the port raises `event` and does not wait; 0 removes it. */
export function doorbell(domain: u32, port: u32, value: u64, event: u32): i64 {
  return call(Hypercall.DOORBELL, domain, port, value, event);
}

export function channelCreate(slotA: u32, slotB: u32): i64 {
  return call(Hypercall.CHANNEL_CREATE, slotA, slotB);
}

/** The peer's signals set `event` from now on. */
export function channelBind(channel: u32, event: u32): i64 {
  return call(Hypercall.CHANNEL_BIND, channel, event);
}

export function channelSignal(channel: u32): i64 {
  return call(Hypercall.CHANNEL_SIGNAL, channel);
}

export function timerCreate(slot: u32, event: u32): i64 {
  return call(Hypercall.TIMER_CREATE, slot, event);
}

/** Arms the timer for an absolute time-stamp; 0 disarms it. */
export function timerSet(timer: u32, deadline: u64): i64 {
  return call(Hypercall.TIMER_SET, timer, deadline);
}

export function irqCreate(slot: u32, irq: u32, event: u32): i64 {
  return call(Hypercall.IRQ_CREATE, slot, irq, event);
}

export function irqAck(slot: u32): i64 {
  return call(Hypercall.IRQ_ACK, slot);
}

/** Gives a domain direct access to ports. */
export function portsMap(domain: u32, first: u32, count: u32): i64 {
  return call(Hypercall.PORTS_MAP, domain, first, count);
}

/** out: HostInfo, and behind it NodeInfo[MAX_NODES]. */
export function hostInfo(out: usize): i64 {
  return callOut(Hypercall.HOST_INFO, 0, out, HostInfoAt.SIZE + MAX_NODES * NodeInfoAt.SIZE);
}

/** out: eax, ebx, ecx, edx as u32. */
export function hostCpuid(leaf: u32, subleaf: u32, out: usize): i64 {
  const status = call(Hypercall.HOST_CPUID, leaf, subleaf);
  if (status >= 0) commRead(out, 0, 16);
  return status;
}

/** Reads memory of the firmware, which is no RAM; not across a page. */
export function firmwareRead(address: u64, length: u32, out: usize): i64 {
  const status = call(Hypercall.FIRMWARE_READ, address, length);
  if (status >= 0) commRead(out, 0, length);
  return status;
}

/**
 * Reads the kernel log from byte `position` on; `out` takes up to PAGE_SIZE bytes.
 * Value: position of the first byte read << 12 | number of bytes read.
 */
export function hostLog(position: u64, out: usize): i64 {
  const value = call(Hypercall.HOST_LOG, position);
  if (value > 0) commRead(out, 0, <u32>(value & (PAGE_SIZE - 1)));
  return value;
}

/** Mitigation bits for each Relation: what is done between two guests on a CPU. */
export function mitigate(same: u32, within: u32, between: u32): i64 {
  return call(Hypercall.MITIGATE, same, within, between);
}

export function hostReset(): i64 {
  return call(Hypercall.HOST_RESET);
}

/** Fills `out` with up to ENTROPY_MAX bytes of the CPU's entropy. Fails where the CPU has no source. */
export function entropy(out: usize, length: u32): i64 {
  const status = call(Hypercall.ENTROPY, length);
  if (status >= 0) commRead(out, 0, length);
  return status;
}

/** Gives a memory object to the kernel as this domain's next image, and ends here. Returns only if it is refused. */
export function upgrade(memory: u32): i64 {
  return call(Hypercall.UPGRADE, memory);
}

/** This image is up: the one before is not needed any more. */
export function upgradeConfirm(): i64 {
  return call(Hypercall.UPGRADE, 0);
}

/** out: Info, the whole page. */
export function readInfo(out: usize): void {
  infoRead(out, 0, InfoAt.SIZE);
}
