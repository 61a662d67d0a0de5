// Ports that only firmware uses: the debug console, and the APM registers of a chip set without SMM.
//
// Source: QEMU docs, "isa-debugcon"; 82371AB (PIIX4), "Advanced Power Management Control Port". What is
// written to the debug console appears on the VM's console, whatever that is, in whole lines: a BIOS writes to
// both at once.

import { consoleOutput } from "../console";
import { PortDevice } from "../port-bus";

export const DEBUG_PORT: u32 = 0x402;
export const APM_PORT: u32 = 0xb2;

const DEBUG_PRESENT: u32 = 0xe9;
const LF: u32 = 10;
const CR: u32 = 13;
const LINE: u32 = 160;
const line: usize = memory.data(160, 8);

class DebugPort extends PortDevice {
  private length: u32 = 0;

  portRead(_port: u32, _size: u32): u32 {
    return DEBUG_PRESENT;
  }

  portWrite(_port: u32, _size: u32, value: u32): void {
    if ((value & 0xff) != LF) store<u8>(line + this.length++, <u8>value);
    if ((value & 0xff) != LF && this.length < LINE) return;
    for (let i: u32 = 0; i < this.length; i++) consoleOutput(load<u8>(line + i));
    consoleOutput(CR);
    consoleOutput(LF);
    this.length = 0;
  }
}

class ApmPorts extends PortDevice {
  private control: u32 = 0;
  private status: u32 = 0;

  portRead(port: u32, _size: u32): u32 {
    return port & 1 ? this.status : this.control;
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    if (port & 1) this.status = value & 0xff;
    else this.control = value & 0xff;
  }
}

export const debugPort = new DebugPort();
export const apmPorts = new ApmPorts();
