// Puts the machine together: which chip sits at which address.

import { acpiPm, PM1_EVENT_PORT, PM_PORTS } from "./chips/acpi-pm";
import { ioapic, IOAPIC_BASE, IOAPIC_SIZE } from "./chips/ioapic";
import { ELCR, pic, PIC_MASTER, PIC_SLAVE } from "./chips/pic";
import { pit, PIT_PORT, SPEAKER_PORT } from "./chips/pit";
import { FAST_A20_PORT, KEYBOARD_DATA_PORT, KEYBOARD_PORT, RESET_PORT, resetPorts } from "./chips/reset";
import { rtc, RTC_PORT } from "./chips/rtc";
import { COM1, uart } from "./chips/uart";
import { claimMmio } from "./mmio-bus";
import { claimPorts } from "./port-bus";

/** Registers every device. Ports 0xCF8 and 0xCFC stay unclaimed: there is no PCI bus yet. */
export function buildMachine(wallClock: u64): void {
  claimPorts(pic, PIC_MASTER, 2);
  claimPorts(pic, PIC_SLAVE, 2);
  claimPorts(pic, ELCR, 2);
  claimPorts(pit, PIT_PORT, 4);
  claimPorts(pit, SPEAKER_PORT, 1);
  claimPorts(rtc, RTC_PORT, 2);
  claimPorts(uart, COM1, 8);
  claimPorts(acpiPm, PM1_EVENT_PORT, PM_PORTS, true);
  claimPorts(resetPorts, RESET_PORT, 1);
  claimPorts(resetPorts, FAST_A20_PORT, 1);
  claimPorts(resetPorts, KEYBOARD_DATA_PORT, 1);
  claimPorts(resetPorts, KEYBOARD_PORT, 1);
  claimMmio(ioapic, IOAPIC_BASE, IOAPIC_SIZE);
  rtc.init(wallClock);
}
