// The ways to reset a PC by a port: 0xCF9, 0x92 and the keyboard controller's pulse on 0x64.
//
// Source: 82371SB (PIIX3), "Reset Control Register"; IBM PS/2 port 0x92; Intel 8042. There is no keyboard
// controller behind 0x60 and 0x64: the status is such that a driver's probe gives up at once (output
// buffer never empties) and that a reset through it does not wait (input buffer is empty).

import { PortDevice } from "../port-bus";
import { endReset } from "../power";

export const RESET_PORT: u32 = 0xcf9;
export const FAST_A20_PORT: u32 = 0x92;
export const KEYBOARD_DATA_PORT: u32 = 0x60;
export const KEYBOARD_PORT: u32 = 0x64;

/** What the ACPI reset register wants: a full reset of the processor. */
export const RESET_VALUE: u32 = 0x06;

const RESET_CPU: u32 = 0x04;
const KEYBOARD_PULSE: u32 = 0xf0; // commands 0xF0..0xFF pull low the lines whose bit is 0
const KEYBOARD_STATUS: u32 = 0xfd;
const A20_ON: u32 = 0x02;

class ResetPorts extends PortDevice {
  private control: u32 = 0;

  portRead(port: u32, _size: u32): u32 {
    if (port == RESET_PORT) return this.control;
    if (port == FAST_A20_PORT) return A20_ON;
    return port == KEYBOARD_PORT ? KEYBOARD_STATUS : 0xff;
  }

  portWrite(port: u32, _size: u32, value: u32): void {
    value &= 0xff;
    if (port == RESET_PORT) {
      const rising = (value & ~this.control & RESET_CPU) != 0;
      this.control = value & 0x0e;
      if (rising) endReset();
    } else if (port == FAST_A20_PORT) {
      if (value & 1) endReset();
    } else if (port == KEYBOARD_PORT) {
      if ((value & KEYBOARD_PULSE) == KEYBOARD_PULSE && !(value & 1)) endReset();
    }
  }
}

export const resetPorts = new ResetPorts();
