// The DSDT: the sleep state of power-off, the processors, and the devices that cannot be found otherwise.

import { GPE_GENERATION, SLEEP_S5 } from "../chips/acpi-pm";
import { RTC_PORT } from "../chips/rtc";
import { COM1 } from "../chips/uart";
import { IRQ_COM1, IRQ_RTC } from "../interrupts";
import {
  CONFIG_ADDRESS_PORT,
  ECAM_BASE,
  ECAM_SIZE,
  gsiOfSlot,
  hasEcam,
  memoryWindow,
  MEMORY_WINDOW_END,
  PORT_WINDOW,
  PORT_WINDOW_SIZE,
  SLOTS,
} from "../pci/layout";
import {
  busNumbers,
  close,
  closeResources,
  DWORD_SPACE_SIZE,
  FIXED_MEMORY_SIZE,
  fixedMemory,
  forwardedMemory,
  forwardedPorts,
  IO_SIZE,
  ioPorts,
  IRQ_SIZE,
  irq,
  nameAddress,
  nameByte,
  nameBytePackage,
  nameEisaId,
  nameString,
  notifyMethod,
  openDevice,
  openResources,
  openRoutes,
  openScope,
  route,
  WORD_SPACE_SIZE,
} from "./aml";
import { writer } from "./writer";

const HEX = "0123456789ABCDEF";
const GENERATION_DEVICE = "VGEN";
/** What a notification says: the ID is another one. */
const CHANGED: u32 = 0x80;

/** Leaves the table in `writer`; returns where in it the address of the generation ID is. */
export function writeDsdt(vcpus: u32, generation: u32): u32 {
  writer.begin("DSDT", 2);
  nameBytePackage("_S5_", SLEEP_S5, SLEEP_S5, 0, 0);
  const scope = openScope("\\_SB_");
  for (let id: u32 = 0; id < vcpus; id++) processor(id);
  legacyDevice("COM1", "PNP0501", COM1, 8, IRQ_COM1);
  legacyDevice("RTC_", "PNP0B00", RTC_PORT, 2, IRQ_RTC);
  pciRoot();
  if (hasEcam) reserved();
  const at = generationCounter(generation);
  close(scope);
  const events = openScope("\\_GPE");
  notifyMethod("_E0" + HEX.charAt(GPE_GENERATION), GENERATION_DEVICE, CHANGED);
  close(events);
  writer.end();
  return at;
}

// Source: Microsoft, "Virtual Machine Generation ID". Drivers know it by its _CID.
function generationCounter(address: u32): u32 {
  const device = openDevice(GENERATION_DEVICE);
  nameString("_HID", "PLIN0001");
  nameString("_CID", "VM_Gen_Counter");
  nameString("_DDN", "VM_Gen_Counter");
  const at = nameAddress("ADDR", address);
  close(device);
  return at;
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

// The host bridge: what it forwards, and where the interrupt pins of its slots end.
function pciRoot(): void {
  const device = openDevice("PCI0");
  nameEisaId("_HID", "PNP0A03");
  nameByte("_UID", 0);
  const resources = openResources(2 * WORD_SPACE_SIZE + DWORD_SPACE_SIZE + IO_SIZE);
  busNumbers(0, 0);
  ioPorts(CONFIG_ADDRESS_PORT, 8);
  forwardedPorts(PORT_WINDOW, PORT_WINDOW + PORT_WINDOW_SIZE - 1);
  forwardedMemory(memoryWindow, MEMORY_WINDOW_END - 1);
  closeResources(resources);
  const routes = openRoutes(SLOTS);
  for (let slot: u32 = 0; slot < SLOTS; slot++) route(slot, gsiOfSlot(slot));
  close(routes);
  close(device);
}

// Configuration space by memory is nobody else's.
function reserved(): void {
  const device = openDevice("RES0");
  nameEisaId("_HID", "PNP0C02");
  nameByte("_UID", 0);
  const resources = openResources(FIXED_MEMORY_SIZE);
  fixedMemory(<u32>ECAM_BASE, ECAM_SIZE);
  closeResources(resources);
  close(device);
}
