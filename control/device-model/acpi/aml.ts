// The few AML terms that our DSDT is made of.
//
// Source: ACPI specification 6.5, "ACPI Machine Language (AML) Specification"; resource descriptors:
// "Resource Data Types for ACPI". A package length is always written in two bytes, so that it can be
// filled in when the package ends.

import { writer } from "./writer";

const NAME_OP: u32 = 0x08;
const BYTE_PREFIX: u32 = 0x0a;
const DWORD_PREFIX: u32 = 0x0c;
const STRING_PREFIX: u32 = 0x0d;
const SCOPE_OP: u32 = 0x10;
const BUFFER_OP: u32 = 0x11;
const PACKAGE_OP: u32 = 0x12;
const METHOD_OP: u32 = 0x14;
const DUAL_NAME_PREFIX: u32 = 0x2e;
const EXT_PREFIX: u32 = 0x5b;
const DEVICE_OP: u32 = 0x82;
const NOTIFY_OP: u32 = 0x86;

const IO_PORT: u32 = 0x47; // small resource, type 8, 7 bytes
const IRQ: u32 = 0x22; // small resource, type 4, 2 bytes: edge, active high
const WORD_SPACE: u32 = 0x88; // large resources
const DWORD_SPACE: u32 = 0x87;
const FIXED_MEMORY: u32 = 0x86;
const SPACE_MEMORY: u32 = 0;
const SPACE_IO: u32 = 1;
const SPACE_BUS: u32 = 2;
const MIN_MAX_FIXED: u32 = 0x0c;
const READ_WRITE: u32 = 1;
const ENTIRE_RANGE: u32 = 3;
const END_TAG: u32 = 0x79;

/** Leaves room for a package length; closeLength() gets what it returns. */
function openLength(): u32 {
  writer.u16(0);
  return writer.length - 2;
}

function closeLength(at: u32): void {
  const length = writer.length - at; // counts itself
  writer.patch(at, 0x40 | (length & 15));
  writer.patch(at + 1, length >> 4);
}

/** name: a path such as "\\_SB_" or a segment of four characters. */
export function openScope(name: string): u32 {
  writer.u8(SCOPE_OP);
  const at = openLength();
  writer.ascii(name);
  return at;
}

export function openDevice(name: string): u32 {
  writer.u8(EXT_PREFIX);
  writer.u8(DEVICE_OP);
  const at = openLength();
  writer.ascii(name);
  return at;
}

/** Ends a scope, device or buffer. */
export function close(at: u32): void {
  closeLength(at);
}

function name(segment: string): void {
  writer.u8(NAME_OP);
  writer.ascii(segment);
}

export function nameByte(segment: string, value: u32): void {
  name(segment);
  writer.u8(BYTE_PREFIX);
  writer.u8(value);
}

export function nameString(segment: string, value: string): void {
  name(segment);
  writer.u8(STRING_PREFIX);
  writer.ascii(value);
  writer.u8(0);
}

/** A compressed EISA id such as "PNP0501". */
export function nameEisaId(segment: string, id: string): void {
  name(segment);
  writer.u8(DWORD_PREFIX);
  const a = (<u32>(id.charCodeAt(0) - 0x40)) & 31;
  const b = (<u32>(id.charCodeAt(1) - 0x40)) & 31;
  const c = (<u32>(id.charCodeAt(2) - 0x40)) & 31;
  writer.u8((a << 2) | (b >> 3));
  writer.u8(((b << 5) & 0xff) | c);
  const product = <u32>U32.parseInt(id.substring(3), 16);
  writer.u8(product >> 8);
  writer.u8(product & 0xff);
}

/** Name(segment, Package() { a, b, c, d }) */
export function nameBytePackage(segment: string, a: u32, b: u32, c: u32, d: u32): void {
  name(segment);
  writer.u8(PACKAGE_OP);
  const at = openLength();
  writer.u8(4);
  pushByte(a);
  pushByte(b);
  pushByte(c);
  pushByte(d);
  closeLength(at);
}

function pushByte(value: u32): void {
  writer.u8(BYTE_PREFIX);
  writer.u8(value);
}

/** Name(segment, Package() { low, 0 }): a 64-bit address below 4 GiB. Returns where in the table `low` is. */
export function nameAddress(segment: string, low: u32): u32 {
  name(segment);
  writer.u8(PACKAGE_OP);
  const at = openLength();
  writer.u8(2);
  writer.u8(DWORD_PREFIX);
  writer.u32(low);
  pushByte(0);
  closeLength(at);
  return at + 4; // behind the length, the count and the prefix
}

/** Method(segment) { Notify(\\_SB.device, value) } */
export function notifyMethod(segment: string, device: string, value: u32): void {
  writer.u8(METHOD_OP);
  const at = openLength();
  writer.ascii(segment);
  writer.u8(0); // no arguments, not serialized
  writer.u8(NOTIFY_OP);
  writer.ascii("\\");
  writer.u8(DUAL_NAME_PREFIX);
  writer.ascii("_SB_");
  writer.ascii(device);
  pushByte(value);
  closeLength(at);
}

/** Starts Name(_CRS, ResourceTemplate()); it has room for `size` bytes of descriptors. */
export function openResources(size: u32): u32 {
  name("_CRS");
  writer.u8(BUFFER_OP);
  const at = openLength();
  pushByte(size + 2); // and the end tag
  return at;
}

export function ioPorts(first: u32, count: u32): void {
  writer.u8(IO_PORT);
  writer.u8(1); // decodes 16 address lines
  writer.u16(first);
  writer.u16(first);
  writer.u8(1);
  writer.u8(count);
}

/** Sizes of the descriptors, for openResources(). */
export const IO_SIZE: u32 = 8;
export const IRQ_SIZE: u32 = 3;

/** What a bridge forwards: bus numbers, ports, memory. Limits are inclusive. */
export function busNumbers(first: u32, last: u32): void {
  wordSpace(SPACE_BUS, 0, first, last);
}

export function forwardedPorts(first: u32, last: u32): void {
  wordSpace(SPACE_IO, ENTIRE_RANGE, first, last);
}

function wordSpace(kind: u32, flags: u32, first: u32, last: u32): void {
  writer.u8(WORD_SPACE);
  writer.u16(13);
  writer.u8(kind);
  writer.u8(MIN_MAX_FIXED);
  writer.u8(flags);
  writer.u16(0); // granularity
  writer.u16(first);
  writer.u16(last);
  writer.u16(0); // translation
  writer.u16(last - first + 1);
}

export function forwardedMemory(first: u32, last: u32): void {
  writer.u8(DWORD_SPACE);
  writer.u16(23);
  writer.u8(SPACE_MEMORY);
  writer.u8(MIN_MAX_FIXED);
  writer.u8(READ_WRITE);
  writer.u32(0);
  writer.u32(first);
  writer.u32(last);
  writer.u32(0);
  writer.u32(last - first + 1);
}

/** Memory space that a device takes. */
export function fixedMemory(base: u32, size: u32): void {
  writer.u8(FIXED_MEMORY);
  writer.u16(9);
  writer.u8(READ_WRITE);
  writer.u32(base);
  writer.u32(size);
}

export const WORD_SPACE_SIZE: u32 = 16;
export const DWORD_SPACE_SIZE: u32 = 26;
export const FIXED_MEMORY_SIZE: u32 = 12;

/** Starts Name(_PRT, Package() { ... }) of `count` routes; close() ends it. */
export function openRoutes(count: u32): u32 {
  name("_PRT");
  writer.u8(PACKAGE_OP);
  const at = openLength();
  writer.u8(count);
  return at;
}

/** Interrupt pin A of a slot is wired to an input of the I/O APIC. */
export function route(slot: u32, gsi: u32): void {
  writer.u8(PACKAGE_OP);
  const at = openLength();
  writer.u8(4);
  writer.u8(DWORD_PREFIX);
  writer.u32((slot << 16) | 0xffff);
  pushByte(0); // pin A
  pushByte(0); // no link device
  pushByte(gsi);
  closeLength(at);
}

export function irq(number: u32): void {
  writer.u8(IRQ);
  writer.u16(1 << number);
}

export function closeResources(at: u32): void {
  writer.u8(END_TAG);
  writer.u8(0); // no checksum
  closeLength(at);
}
