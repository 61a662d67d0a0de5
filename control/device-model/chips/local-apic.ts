// The page of the local APICs in xAPIC mode: the kernel has the registers, we decode the instructions.
//
// Source: Intel SDM volume 3, "Local APIC Register Address Map": 32-bit registers, one every 16 bytes.

import { CAP_VCPU } from "../../gen/abi";
import { apicRead, apicWrite } from "../../lib/binding";
import { vcpuIndex } from "../exits/message";
import { MmioDevice } from "../mmio-bus";
import { ioapic } from "./ioapic";

export const LOCAL_APIC_BASE: u32 = 0xfee00000;
export const LOCAL_APIC_SIZE: u32 = 0x1000;

/** Each vCPU sees its own at its IA32_APIC_BASE; `base` is what this device's offsets count from. */
export class LocalApic extends MmioDevice {
  constructor(private base: u32) {
    super();
  }

  // Nothing is there for a vCPU whose local APIC is elsewhere, off or in x2APIC mode.
  mmioRead(offset: u32, size: u32): u64 {
    const byte = offset & 15;
    const value = apicRead(CAP_VCPU + vcpuIndex, this.base + (offset - byte));
    if (value < 0) return ~0;
    return byte + size <= 4 ? (<u64>value) >> (8 * byte) : 0;
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    if ((offset & 15) != 0 || size < 4) return;
    const ended = apicWrite(CAP_VCPU + vcpuIndex, this.base + offset, <u32>value);
    if (ended > 0) ioapic.endOfInterrupt(<u32>ended - 1);
  }
}
