// PCI bus 0: configuration space by ports and by memory (ECAM), and the ports of BARs.
//
// Source: PCI Local Bus Specification 3.0, section 3.2.2.3.2, "Software Generation of Configuration
// Transactions"; PCI Firmware Specification 3.2, "PCI Express Enhanced Configuration Mechanism".

import { claimMmio, MmioDevice } from "../mmio-bus";
import { claimPorts, PortDevice } from "../port-bus";
import { CONFIG_SIZE } from "./config-space";
import { Bar, PciFunction } from "./function";
import { initIntx } from "./intx";
import {
  CONFIG_ADDRESS_PORT,
  CONFIG_DATA_PORT,
  ECAM_BASE,
  ECAM_SIZE,
  hasEcam,
  PORT_WINDOW,
  PORT_WINDOW_SIZE,
  SLOTS,
} from "./layout";

const ENABLE: u32 = 0x80000000;
const ADDRESS_BITS: u32 = 0x80fffffc;
const PAGE: u32 = 0x1000;

const FUNCTIONS: u32 = 8;

const functions = new StaticArray<PciFunction | null>(<i32>(SLOTS * FUNCTIONS));

// Ports are handed out in units of 16: which BAR each belongs to.
const PORT_UNIT: u32 = 16;
const portBars = new StaticArray<Bar | null>(<i32>(PORT_WINDOW_SIZE / PORT_UNIT));

/** A function in a slot, null: there is none. */
function functionAt(bus: u32, slot: u32, number: u32): PciFunction | null {
  const at = (slot & (SLOTS - 1)) * FUNCTIONS + (number & (FUNCTIONS - 1));
  return bus == 0 ? unchecked(functions[at]) : null;
}

function configRead(target: PciFunction | null, offset: u32, size: u32): u32 {
  if (target === null) return 0xffffffff;
  return offset < CONFIG_SIZE ? target.configRead(offset, size) : 0;
}

function configWrite(target: PciFunction | null, offset: u32, size: u32, value: u32): void {
  if (target === null || offset >= CONFIG_SIZE) return;
  if (target.configWrite(offset, size, value)) mapPorts();
}

function mapPorts(): void {
  for (let i = 0; i < portBars.length; i++) unchecked((portBars[i] = null));
  for (let slot: u32 = 0; slot < SLOTS; slot++) {
    const target = functions[slot * FUNCTIONS]; // the others have no BARs
    if (target === null) continue;
    for (let i = 0; i < target.bars.length; i++) {
      const bar = target.bars[i];
      if (bar === null || bar.ports === null || !bar.decoded) continue;
      const first = bar.base - PORT_WINDOW;
      if (bar.base < PORT_WINDOW || first > PORT_WINDOW_SIZE - bar.size) continue;
      for (let port = first; port < first + bar.size; port += PORT_UNIT) portBars[port / PORT_UNIT] = bar;
    }
  }
}

// Configuration by ports: an address of 32 bits, and a window of 4 bytes on what it points to.
class ConfigPorts extends PortDevice {
  private address: u32 = 0;

  private target(): PciFunction | null {
    const address = this.address;
    if (!(address & ENABLE)) return null;
    return functionAt((address >> 16) & 0xff, (address >> 11) & 31, (address >> 8) & 7);
  }

  portRead(port: u32, size: u32): u32 {
    if (port < CONFIG_DATA_PORT) {
      return port == CONFIG_ADDRESS_PORT && size == 4 ? this.address : 0xffffffff;
    }
    const lane = port & 3;
    if (lane + size > 4) return 0xffffffff;
    return configRead(this.target(), (this.address & 0xfc) + lane, size);
  }

  portWrite(port: u32, size: u32, value: u32): void {
    if (port < CONFIG_DATA_PORT) {
      if (port == CONFIG_ADDRESS_PORT && size == 4) this.address = value & ADDRESS_BITS;
      return;
    }
    const lane = port & 3;
    if (lane + size <= 4) configWrite(this.target(), (this.address & 0xfc) + lane, size, value);
  }
}

// Configuration by memory: 4 KiB for each function.
class Ecam extends MmioDevice {
  private target(offset: u32): PciFunction | null {
    return functionAt(offset >> 20, (offset >> 15) & 31, (offset >> 12) & 7);
  }

  mmioRead(offset: u32, size: u32): u64 {
    const target = this.target(offset);
    const register = offset & (PAGE - 1);
    if (size <= 4) return configRead(target, register, size);
    return (<u64>configRead(target, register, 4)) | ((<u64>configRead(target, register + 4, 4)) << 32);
  }

  mmioWrite(offset: u32, size: u32, value: u64): void {
    const target = this.target(offset);
    const register = offset & (PAGE - 1);
    configWrite(target, register, min<u32>(size, 4), <u32>value);
    if (size == 8) configWrite(target, register + 4, 4, <u32>(value >> 32));
  }
}

// The ports that the host bridge forwards.
class WindowPorts extends PortDevice {
  private barAt(port: u32, size: u32): Bar | null {
    const bar = unchecked(portBars[((port - PORT_WINDOW) & (PORT_WINDOW_SIZE - 1)) / PORT_UNIT]);
    return bar !== null && port - bar.base <= bar.size - size ? bar : null;
  }

  portRead(port: u32, size: u32): u32 {
    const bar = this.barAt(port, size);
    return bar === null ? 0xffffffff : bar.ports!.portRead(port - bar.base, size);
  }

  portWrite(port: u32, size: u32, value: u32): void {
    const bar = this.barAt(port, size);
    if (bar !== null) bar.ports!.portWrite(port - bar.base, size, value);
  }
}

const configPorts = new ConfigPorts();
const ecam = new Ecam();
const windowPorts = new WindowPorts();

/** Puts the bus into port and, where it has to be, memory space. Port 0xCF9 stays what it was: the reset register. */
export function buildPci(): void {
  claimPorts(configPorts, CONFIG_ADDRESS_PORT, 1, true);
  claimPorts(configPorts, CONFIG_ADDRESS_PORT + 2, 2, true);
  claimPorts(configPorts, CONFIG_DATA_PORT, 4, true);
  claimPorts(windowPorts, PORT_WINDOW, PORT_WINDOW_SIZE, true);
  if (hasEcam) claimMmio(ecam, ECAM_BASE, ECAM_SIZE);
  initIntx();
}

/** Puts a function into a slot. */
export function plugFunction(slot: u32, target: PciFunction, number: u32 = 0): void {
  const at = slot * FUNCTIONS + number;
  assert(slot < SLOTS && number < FUNCTIONS && functions[at] === null, "pci: the slot is taken");
  functions[at] = target;
  target.slot = slot;
}
