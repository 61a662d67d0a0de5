// The device model of one VM: a PC with the classic chips, a serial console and a Linux loader.
//
// The native loop calls init() once, onExit() for every exit of a vCPU and onEvents() for the rest.

import { InfoAt, ABI_VERSION, CAP_VCPU } from "../gen/abi";
import { infoRead, log, now, sharedCopy, vcpuStart } from "../lib/binding";
import { acpiPm } from "./chips/acpi-pm";
import {
  Command,
  Config,
  EVENT_LINK,
  link,
  loadConfig,
  MAX_DISKS,
  nextCommand,
  sendError,
  sendEvent,
} from "./control-link";
import { dispatchExit } from "./exits/dispatch";
import { messageAddress } from "./exits/message";
import { setMemorySize } from "./guest-memory";
import { loadLinux } from "./loader/linux";
import { buildMachine, DISK_GPA, DISK_STEP, pullConsoleInput } from "./machine";
import { EVENT_TIMER, initTimers, onTimerEvent } from "./timers";

const infoVersion: usize = memory.data(4, 4);
/** Where the images of disks are mapped, read-only. */
const IMAGE_GPA: u64 = DISK_GPA + MAX_DISKS * DISK_STEP;
let loaded = false;

/** Builds the machine, loads its image and tells the control domain. */
export function init(): void {
  infoRead(infoVersion, InfoAt.abi_version, 4);
  assert(load<u32>(infoVersion) == ABI_VERSION, "device model: made for another version of the kernel");
  link.bind(EVENT_LINK);
  initTimers();
  const config = loadConfig();
  if (config === null || config.tscHz == 0 || config.vcpus == 0 || config.vcpus > 16 || !disksFit(config)) {
    sendError("device model", "its configuration is not valid", "plinth logs");
    return;
  }
  setMemorySize(config.memory);
  buildMachine(config);
  fillDisks(config);
  loaded = loadLinux(config);
  if (loaded) sendEvent("ready");
}

function disksFit(config: Config): bool {
  let fit = config.disks.length <= <i32>MAX_DISKS;
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
}

function onLink(): void {
  for (let command = nextCommand(); command != Command.NONE; command = nextCommand()) {
    if (command == Command.RUN && loaded) run();
    else if (command == Command.POWER_BUTTON) acpiPm.pressPowerButton();
    else if (command == Command.TRAP) throw new Error("test.trapModel: the device model was told to trap");
    else log("device model: a command was ignored");
  }
  pullConsoleInput();
}

function run(): void {
  const status = vcpuStart(CAP_VCPU);
  if (status < 0) sendError("vCPU 0", `it does not start (status ${(-status).toString()})`, "plinth logs");
}
