// Puts the machine together: which chip sits at which address.

import { acpiPm, PM1_EVENT_PORT, PM_PORTS } from "./chips/acpi-pm";
import {
  DEBUG_EXIT_PORT,
  DEBUG_EXIT_PORTS,
  DEBUG_IRQ_PORT,
  DEBUG_IRQ_PORTS,
  debugExit,
} from "./chips/debug-exit";
import { ioapic, IOAPIC_BASE, IOAPIC_SIZE } from "./chips/ioapic";
import { LOCAL_APIC_BASE, LOCAL_APIC_SIZE, LocalApic } from "./chips/local-apic";
import { ELCR, pic, PIC_MASTER, PIC_SLAVE } from "./chips/pic";
import { pit, PIT_PORT, SPEAKER_PORT } from "./chips/pit";
import { FAST_A20_PORT, KEYBOARD_DATA_PORT, KEYBOARD_PORT, RESET_PORT, resetPorts } from "./chips/reset";
import { rtc, RTC_PORT } from "./chips/rtc";
import { APM_PORT, apmPorts, DEBUG_PORT, debugPort } from "./chips/firmware-ports";
import { FW_CFG_PORT, FW_CFG_PORTS, fwCfg } from "./chips/fw-cfg";
import { COM1, uart } from "./chips/uart";
import { Cable, CABLE_STEP, CAP_CABLES, EVENT_CABLES, GPA_CABLES } from "../lib/cable";
import { Card, Config, Disk } from "./control-link";
import { lowSize } from "./guest-memory";
import { claimMmio, claimRest } from "./mmio-bus";
import { buildPci, plugFunction } from "./pci/bus";
import { HostBridge } from "./pci/host-bridge";
import { I440fx, PiixIsa, PiixPm, PIIX_SLOT, PM_FUNCTION } from "./pci/i440fx";
import { MEMORY_WINDOW, PORT_WINDOW, usePlainLayout } from "./pci/layout";
import { NOTIFY_BAR_SIZE, REGISTERS_BAR_SIZE, VirtioPci } from "./virtio/pci";
import { Balloon } from "./virtio/balloon";
import { Blk } from "./virtio/blk";
import { Console } from "./virtio/console";
import { VirtioDevice } from "./virtio/device";
import { Net } from "./virtio/net";
import { hasEntropy, Rng } from "./virtio/rng";
import { Scsi } from "./virtio/scsi";
import { claimPorts } from "./port-bus";

/** Where the control domain maps the disks. */
export const DISK_GPA: u64 = 0x60000000;
export const DISK_STEP: u64 = 0x10000000;

/** A device has as many queues, or pairs of them, as there are vCPUs, but at most this many. */
const MAX_QUEUES: u32 = 4;
/** Memory space that the BARs of a slot get. */
const SLOT_STEP: u32 = 0x10000;
/** Where OVMF puts the first BAR if there is no memory. */
const WINDOW_LOWEST: u32 = 0x80000000;
let nextSlot: u32 = 1;
let packedRings: bool = true;

let virtioConsole: Console | null = null;

/** The control domain has done something: there may be input for the console or for a port. */
export function pullInput(): void {
  const target = virtioConsole;
  uart.pullInput();
  if (target !== null) target.pump();
}

/** What firmware calls the disks, in their order. */
export const diskPaths: string[] = [];
export const cards: Net[] = [];
export let balloon!: Balloon;

/** The other end of a cable has done something: bits are events. */
export function onCables(bits: u64): void {
  for (let i = 0; i < cards.length; i++) if ((bits >> (EVENT_CABLES + i)) & 1) cards[i].onSignal();
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
  claimPorts(fwCfg, FW_CFG_PORT, FW_CFG_PORTS, true);
  if (config.debugExit) {
    claimPorts(debugExit, DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS, true);
    claimPorts(debugExit, DEBUG_IRQ_PORT, DEBUG_IRQ_PORTS, true);
  }
  claimMmio(ioapic, IOAPIC_BASE, IOAPIC_SIZE);
  packedRings = !config.splitRings;
  claimMmio(new LocalApic(LOCAL_APIC_BASE), LOCAL_APIC_BASE, LOCAL_APIC_SIZE);
  claimRest(new LocalApic(0));
  rtc.init(config.wallClock);
  if (config.firmwareSize > 0) buildChipset(config);
  else {
    buildPci();
    plugFunction(0, new HostBridge());
  }
  if (hasEntropy()) plugVirtio(new Rng());
  if (config.virtioConsole || config.ports.length > 0) {
    virtioConsole = new Console(config.ports, config.virtioConsole);
    plugVirtio(virtioConsole!);
  }
  for (let i = 0; i < config.disks.length; i++) plugDisk(i, config.disks[i], config.vcpus);
  for (let i = 0; i < config.cards.length; i++) plugCard(i, config.cards[i], config.vcpus);
  balloon = new Balloon();
  plugVirtio(balloon);
}

function plugCard(index: u32, card: Card, vcpus: u32): void {
  const cable = new Cable(GPA_CABLES + index * CABLE_STEP, card.side, CAP_CABLES + index);
  cable.bind(EVENT_CABLES + index);
  const net = new Net(cable, card.address, min<u32>(vcpus, MAX_QUEUES));
  cards.push(net);
  plugVirtio(net);
}

// What firmware expects to find.
function buildChipset(config: Config): void {
  claimPorts(debugPort, DEBUG_PORT, 1);
  claimPorts(apmPorts, APM_PORT, 2);
  usePlainLayout(max(WINDOW_LOWEST, <u32>lowSize));
  buildPci();
  plugFunction(0, new I440fx());
  plugFunction(PIIX_SLOT, new PiixIsa());
  plugFunction(PIIX_SLOT, new PiixPm(), PM_FUNCTION);
  nextSlot = PIIX_SLOT + 1;
}

function plugDisk(index: u32, disk: Disk, vcpus: u32): void {
  const base = DISK_GPA + index * DISK_STEP;
  const bus = disk.isCd ? "channel@0/" : "";
  diskPaths.push(`/pci@i0cf8/scsi@${nextSlot.toString(16)}/${bus}disk@0,0`);
  if (disk.isCd) {
    plugVirtio(new Scsi(base, disk.size));
    return;
  }
  const queues = min<u32>(vcpus, MAX_QUEUES);
  plugVirtio(new Blk(base, disk.size, `disk${index.toString()}`, disk.readOnly, queues));
}

// Puts a device into the next slot, its BARs where firmware would put them.
function plugVirtio(device: VirtioDevice): void {
  const target = new VirtioPci(device, packedRings);
  plugFunction(nextSlot, target);
  target.usePin();
  target.assignBar(0, MEMORY_WINDOW + nextSlot * SLOT_STEP);
  target.assignBar(1, MEMORY_WINDOW + nextSlot * SLOT_STEP + REGISTERS_BAR_SIZE);
  target.assignBar(4, PORT_WINDOW + nextSlot * NOTIFY_BAR_SIZE);
  nextSlot++;
}
