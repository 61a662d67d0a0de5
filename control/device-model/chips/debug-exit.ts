// What test suites expect of their machine, and no PC has: a port that ends the VM with the value written to it as
// exit code, and a port for each input of the I/O APIC, which sets its level.
//
// Source: QEMU hw/misc/debugexit.c and pc-testdev.c, as kvm-unit-tests use them.

import { setGsi } from "../interrupts";
import { PortDevice } from "../port-bus";
import { endExit } from "../power";

export const DEBUG_EXIT_PORT: u32 = 0xf4;
export const DEBUG_EXIT_PORTS: u32 = 4;
export const DEBUG_IRQ_PORT: u32 = 0x2000;
export const DEBUG_IRQ_PORTS: u32 = 24;

class DebugExit extends PortDevice {
  portRead(_port: u32, _size: u32): u32 {
    return 0;
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    if (port >= DEBUG_IRQ_PORT) setGsi(port - DEBUG_IRQ_PORT, (value & 0xff) != 0);
    else endExit(value);
  }
}

export const debugExit = new DebugExit();
