// The page of the local APICs in xAPIC mode: the kernel has the registers, we decode the instructions.
//
// Source: Intel SDM volume 3, "Local APIC Register Address Map": 32-bit registers, one every 16 bytes.

import { CAP_VCPU } from "../../gen/abi";
import { apicRead, apicWrite } from "../../lib/binding";
import { message, vcpuIndex } from "../exits/message";
import { MmioDevice } from "../mmio-bus";
import { ioapic } from "./ioapic";

export const LOCAL_APIC_BASE: u32 = 0xfee00000;
export const LOCAL_APIC_SIZE: u32 = 0x1000;
/** IA32_APIC_BASE: bits 11 and 10, enabled and in x2APIC mode. */
const MODE_SHIFT = 10;
const MODE_XAPIC: u64 = 2;

/** Whether the vCPU that exited has its local APIC in this page, which must be below 4 GiB: the exit tells. */
function isHere(address: u32): bool {
  const base = message.value;
  return base >> 12 == <u64>(address >> 12) && ((base >> MODE_SHIFT) & 3) == MODE_XAPIC;
}

/** Each vCPU sees its own at its IA32_APIC_BASE; `base` is what this device's offsets count from. */
export class LocalApic extends MmioDevice {
  constructor(private base: u32) {
    super();
  }

  // Nothing is there for a vCPU whose local APIC is elsewhere, off or in x2APIC mode.
  mmioRead(offset: u32, size: u32): u64 {
    if (!isHere(this.base + offset)) return ~0;
    const byte = offset & 15;
    const value = apicRead(CAP_VCPU + vcpuIndex, this.base + (offset - byte));
    if (value < 0) return ~0;
    return byte + size <= 4 ? (<u64>value) >> (8 * byte) : 0;
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    if ((offset & 15) != 0 || size < 4 || !isHere(this.base + offset)) return;
    const ended = apicWrite(CAP_VCPU + vcpuIndex, this.base + offset, <u32>value);
    if (ended > 0) ioapic.endOfInterrupt(<u32>ended - 1);
  }
}
