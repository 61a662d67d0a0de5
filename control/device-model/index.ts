// The device model of one VM: a PC with the classic chips, a serial console and a loader.
//
// The native loop calls init() once, onExit() for every exit of a vCPU and onEvents() for the rest.

import { InfoAt, ABI_VERSION, CAP_VCPU } from "../gen/abi";
import { EVENT_CABLES, MAX_CARDS } from "../lib/cable";
import { infoRead, log, now, sharedCopy, vcpuStart } from "../lib/binding";
import { acpiPm } from "./chips/acpi-pm";
import { rtc } from "./chips/rtc";
import { forgetConsoleInput } from "./console";
import {
  Command,
  commandValue,
  Config,
  EVENT_LINK,
  link,
  loadConfig,
  MAX_DISKS,
  MAX_PORTS,
  nextCommand,
  Rebirth,
  rebirth,
  sendError,
  sendEvent,
} from "./control-link";
import { dispatchExit } from "./exits/dispatch";
import { messageAddress } from "./exits/message";
import { setPhysicalBits } from "./exits/page-walk";
import { changeGeneration } from "./generation";
import { setMemorySize } from "./guest-memory";
import { flash } from "./loader/firmware";
import { loadVm } from "./loader/load";
import { balloon, buildMachine, cards, DISK_GPA, DISK_STEP, onCables, pullInput } from "./machine";
import { renameSmbios } from "./smbios";
import { LINK_UNHEARD } from "../protocol/schema";
import { EVENT_TIMER, initTimers, onTimerEvent } from "./timers";

const infoVersion: usize = memory.data(4, 4);
/** Where the images of disks are mapped, read-only. */
const IMAGE_GPA: u64 = DISK_GPA + MAX_DISKS * DISK_STEP;
let loaded = false;
let vcpus: u32 = 0;

/** Builds the machine, loads its image and tells the control domain. */
export function init(): void {
  infoRead(infoVersion, InfoAt.abi_version, 4);
  assert(load<u32>(infoVersion) == ABI_VERSION, "device model: made for another version of the kernel");
  link.bind(EVENT_LINK);
  initTimers();
  const config = loadConfig();
  if (config === null || config.tscHz == 0 || config.vcpus == 0 || config.vcpus > 16 || !devicesFit(config)) {
    sendError("device model", "its configuration is not valid", "plinth logs");
    return;
  }
  vcpus = config.vcpus;
  setMemorySize(config.memory);
  setPhysicalBits(config.physicalBits);
  buildMachine(config);
  fillDisks(config);
  loaded = loadVm(config);
  if (loaded) sendEvent("ready");
}

function devicesFit(config: Config): bool {
  let fit = config.disks.length <= <i32>MAX_DISKS && config.cards.length <= <i32>MAX_CARDS;
  fit = fit && config.ports.length <= <i32>MAX_PORTS;
  for (let i = 0; i < config.cards.length; i++) fit = fit && config.cards[i].side <= 1;
  for (let i = 0; i < config.disks.length; i++) fit = fit && config.disks[i].size <= DISK_STEP;
  return fit;
}

// A disk that has never been used gets the contents of its image.
function fillDisks(config: Config): void {
  for (let i = 0; i < config.disks.length; i++) {
    const disk = config.disks[i];
    const at = <u64>i * DISK_STEP;
    if (disk.fresh) sharedCopy(DISK_GPA + at, IMAGE_GPA + at, disk.size);
  }
}

/** Address of the buffer through which exit messages pass. */
export function exitBuffer(): usize {
  return messageAddress;
}

/** Answers the exit message of vCPU `index` in the exit buffer. */
export function onExit(index: u32): void {
  dispatchExit(index);
}

/** Handles the event bits that are not exits. */
export function onEvents(bits: u64): void {
  if (bits & ((<u64>1) << EVENT_TIMER)) onTimerEvent(now());
  if (bits & ((<u64>1) << EVENT_LINK)) onLink();
  if (bits >> EVENT_CABLES) onCables(bits);
}

function onLink(): void {
  for (let command = nextCommand(); command != Command.NONE; command = nextCommand()) {
    if (command == Command.RUN && loaded) run();
    else if (command == Command.POWER_BUTTON) pressPowerButton();
    else if (command == Command.BALLOON) balloon.setTarget(<u32>min<u64>(commandValue, u32.MAX_VALUE));
    else if (command == Command.STATS) balloon.askForStats();
    else if (command == Command.REBORN) beReborn(rebirth);
    else if (command == Command.TRAP) throw new Error("test.trapModel: the device model was told to trap");
    else log("device model: a command was ignored");
  }
  pullInput();
}

// The VM goes on from a snapshot, perhaps elsewhere, later, and as one of several. Guest time has stood still, so that
// what counts it is right; the rest is not.
function beReborn(as: Rebirth): void {
  renameSmbios(as.name);
  if (as.wallClock != 0) rtc.setWallClock(as.wallClock); // 0: the host does not know
  if (as.isClone) forgetConsoleInput(); // it was typed for another VM
  for (let i = 0; i < cards.length; i++) {
    if (as.isClone && i < as.addresses.length) cards[i].setAddress(as.addresses[i]);
    cards[i].rejoin();
  }
  const chip = flash;
  if (chip !== null) chip.remap();
  changeGeneration(as.generation); // last: who hears of it finds all in place
}

function pressPowerButton(): void {
  if (!acpiPm.pressPowerButton()) sendEvent(LINK_UNHEARD);
}

// The first vCPU runs what was loaded, the others wait for a start-up IPI.
function run(): void {
  for (let i: u32 = 0; i < vcpus; i++) {
    const status = vcpuStart(CAP_VCPU + i);
    if (status < 0)
      sendError(`vCPU ${i}`, `it does not start (status ${(-status).toString()})`, "plinth logs");
  }
}
