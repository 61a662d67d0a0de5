// The DSDT: the sleep state of power-off, the processors, and the devices that cannot be found otherwise.

import { SLEEP_S5 } from "../chips/acpi-pm";
import { RTC_PORT } from "../chips/rtc";
import { COM1 } from "../chips/uart";
import { IRQ_COM1, IRQ_RTC } from "../interrupts";
import {
  close,
  closeResources,
  IO_SIZE,
  ioPorts,
  IRQ_SIZE,
  irq,
  nameByte,
  nameBytePackage,
  nameEisaId,
  nameString,
  openDevice,
  openResources,
  openScope,
} from "./aml";
import { writer } from "./writer";

const HEX = "0123456789ABCDEF";

/** Leaves the table in `writer`. */
export function writeDsdt(vcpus: u32): void {
  writer.begin("DSDT", 2);
  nameBytePackage("_S5_", SLEEP_S5, SLEEP_S5, 0, 0);
  const scope = openScope("\\_SB_");
  for (let id: u32 = 0; id < vcpus; id++) processor(id);
  legacyDevice("COM1", "PNP0501", COM1, 8, IRQ_COM1);
  legacyDevice("RTC_", "PNP0B00", RTC_PORT, 2, IRQ_RTC);
  close(scope);
  writer.end();
}

function processor(id: u32): void {
  const device = openDevice("C0" + HEX.charAt(id >> 4) + HEX.charAt(id & 15));
  nameString("_HID", "ACPI0007");
  nameByte("_UID", id);
  close(device);
}

function legacyDevice(name: string, eisaId: string, port: u32, count: u32, interrupt: u32): void {
  const device = openDevice(name);
  nameEisaId("_HID", eisaId);
  nameByte("_UID", 0);
  const resources = openResources(IO_SIZE + IRQ_SIZE);
  ioPorts(port, count);
  irq(interrupt);
  closeResources(resources);
  close(device);
}
