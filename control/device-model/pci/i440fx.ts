// The chip set that firmware expects: the 82441FX host bridge, and of the PIIX the ISA bridge with its
// interrupt router and the power management function.
//
// Source: Intel 82441FX data sheet (290549), "PAM", "SMRAM"; 82371SB (290550), "PIRQ Route Control
// Registers"; 82371AB (290562), "Power Management". There is RAM at 0xC0000 to 0xFFFFF from the start, with
// the BIOS in it: the PAM registers keep what is written to them, and nothing changes. There is no SMM: the
// bit that would let port 0xB2 raise an SMI is set from the start, by which firmware sees that it has nothing
// to do. The power management registers are where PMBA says, and always where the ACPI tables say too: firmware
// gets those tables before it moves the registers.

import { acpiPm, PM1_EVENT_PORT, PM_ALIGNMENT, PM_PORTS } from "../chips/acpi-pm";
import { moveBlock } from "../port-bus";
import { INTERRUPT_LINE, INTERRUPT_PIN } from "./config-space";
import { PciFunction } from "./function";
import { routePirq } from "./intx";

const INTEL: u32 = 0x8086;
const SUBSYSTEM_VENDOR_QEMU: u32 = 0x1af4;
const SUBSYSTEM_QEMU: u32 = 0x1100;

const PAM: u32 = 0x59; // seven bytes
const SMRAM: u32 = 0x72;
const SMRAM_CLOSED: u32 = 0x02;

const PIRQ: u32 = 0x60; // four bytes
const PIRQ_OFF: u32 = 0x80;
const PIRQ_BITS: u32 = 0x8f;

const PM_BASE: u32 = 0x40;
const PM_BASE_BITS: u32 = 0x10000 - PM_ALIGNMENT;
const PM_BASE_ENABLE: u32 = 0x80;
const DEVICE_ACTIVITY_B: u32 = 0x58;
const APM_SMI: u32 = 1 << 25;
const IRQ_SCI: u32 = 9;

const CLASS_HOST_BRIDGE: u32 = 0x060000;
const CLASS_ISA_BRIDGE: u32 = 0x060100;
const CLASS_BRIDGE: u32 = 0x068000;

export const PIIX_SLOT: u32 = 1;
export const PM_FUNCTION: u32 = 3;

export class I440fx extends PciFunction {
  constructor() {
    super(INTEL, 0x1237, CLASS_HOST_BRIDGE, 2);
    this.setSubsystem(SUBSYSTEM_VENDOR_QEMU, SUBSYSTEM_QEMU);
    for (let i: u32 = 0; i < 7; i++) this.config.allow(PAM + i, 1, i == 0 ? 0x30 : 0x33);
    this.config.set(SMRAM, 1, SMRAM_CLOSED);
  }
}

export class PiixIsa extends PciFunction {
  constructor() {
    super(INTEL, 0x7000, CLASS_ISA_BRIDGE, 0);
    this.setSubsystem(SUBSYSTEM_VENDOR_QEMU, SUBSYSTEM_QEMU);
    this.setMultifunction();
    for (let i: u32 = 0; i < 4; i++) {
      this.config.set(PIRQ + i, 1, PIRQ_OFF);
      this.config.allow(PIRQ + i, 1, PIRQ_BITS);
      routePirq(i, PIRQ_OFF);
    }
  }

  configWrite(offset: u32, size: u32, value: u32): bool {
    const changed = super.configWrite(offset, size, value);
    for (let i: u32 = 0; i < 4; i++) routePirq(i, this.config.read(PIRQ + i, 1));
    return changed;
  }
}

export class PiixPm extends PciFunction {
  constructor() {
    super(INTEL, 0x7113, CLASS_BRIDGE, 3);
    this.setSubsystem(SUBSYSTEM_VENDOR_QEMU, SUBSYSTEM_QEMU);
    this.config.set(INTERRUPT_PIN, 1, 1);
    this.config.set(INTERRUPT_LINE, 1, IRQ_SCI);
    this.config.set(PM_BASE, 4, PM1_EVENT_PORT | 1);
    this.config.allow(PM_BASE, 4, PM_BASE_BITS);
    this.config.set(PM_BASE_ENABLE, 1, 1);
    this.config.allow(PM_BASE_ENABLE, 1, 1);
    this.config.set(DEVICE_ACTIVITY_B, 4, APM_SMI);
  }

  configWrite(offset: u32, size: u32, value: u32): bool {
    const changed = super.configWrite(offset, size, value);
    const isOn = this.config.read(PM_BASE_ENABLE, 1) != 0;
    moveBlock(acpiPm, this.config.read(PM_BASE, 4) & PM_BASE_BITS, isOn ? PM_PORTS : 0);
    return changed;
  }
}
