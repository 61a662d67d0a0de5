// Puts the machine together: which chip sits at which address.

import { acpiPm, PM1_EVENT_PORT, PM_PORTS } from "./chips/acpi-pm";
import { ioapic, IOAPIC_BASE, IOAPIC_SIZE } from "./chips/ioapic";
import { ELCR, pic, PIC_MASTER, PIC_SLAVE } from "./chips/pic";
import { pit, PIT_PORT, SPEAKER_PORT } from "./chips/pit";
import { FAST_A20_PORT, KEYBOARD_DATA_PORT, KEYBOARD_PORT, RESET_PORT, resetPorts } from "./chips/reset";
import { rtc, RTC_PORT } from "./chips/rtc";
import { COM1, uart } from "./chips/uart";
import { Config, Disk } from "./control-link";
import { claimMmio } from "./mmio-bus";
import { buildPci, plugFunction } from "./pci/bus";
import { HostBridge } from "./pci/host-bridge";
import { MEMORY_WINDOW, PORT_WINDOW } from "./pci/layout";
import { NOTIFY_BAR_SIZE, REGISTERS_BAR_SIZE, VirtioPci } from "./virtio/pci";
import { Blk } from "./virtio/blk";
import { Console, RECEIVE } from "./virtio/console";
import { VirtioDevice } from "./virtio/device";
import { hasEntropy, Rng } from "./virtio/rng";
import { claimPorts } from "./port-bus";

/** Where the control domain maps the disks. */
export const DISK_GPA: u64 = 0x60000000;
export const DISK_STEP: u64 = 0x10000000;

const MAX_DISK_QUEUES: u32 = 4;
/** Memory space that the BARs of a slot get. */
const SLOT_STEP: u32 = 0x10000;
let nextSlot: u32 = 1;
let consoleFunction: VirtioPci | null = null;

/** Something may have been typed. */
export function pullConsoleInput(): void {
  const target = consoleFunction;
  if (target === null) uart.pullInput();
  else target.notify(RECEIVE);
}

/** Registers every device. */
export function buildMachine(config: Config): void {
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
  rtc.init(config.wallClock);
  buildPci();
  plugFunction(0, new HostBridge());
  if (hasEntropy()) plugVirtio(new Rng());
  if (config.virtioConsole) consoleFunction = plugVirtio(new Console());
  for (let i = 0; i < config.disks.length; i++) plugDisk(i, config.disks[i], config.vcpus);
}

function plugDisk(index: u32, disk: Disk, vcpus: u32): void {
  const queues = min<u32>(vcpus, MAX_DISK_QUEUES);
  plugVirtio(
    new Blk(DISK_GPA + index * DISK_STEP, disk.size, `disk${index.toString()}`, disk.readOnly, queues),
  );
}

// Puts a device into the next slot, its BARs where firmware would put them.
function plugVirtio(device: VirtioDevice): VirtioPci {
  const target = new VirtioPci(device);
  plugFunction(nextSlot, target);
  target.usePin();
  target.assignBar(0, MEMORY_WINDOW + nextSlot * SLOT_STEP);
  target.assignBar(1, MEMORY_WINDOW + nextSlot * SLOT_STEP + REGISTERS_BAR_SIZE);
  target.assignBar(4, PORT_WINDOW + nextSlot * NOTIFY_BAR_SIZE);
  nextSlot++;
  return target;
}
