// What a VM's kernel is given beside itself: the initrd, then the specification's modules, in this order.

import { Config } from "../control-link";
import { copyToGuest } from "../guest-memory";
import { bytes, failLoad } from "./fail";
import { HIGH_START, INITRD_GPA, MODULES_GPA } from "./layout";
import { claim, findLowest } from "./room";

const PAGE: u64 = 4096;
const REACH: u64 = 1 << 32;
const MODULES_ROOM: u64 = 0x20000000;

export class BootModule {
  /** Where it ends up in the VM's memory. */
  start: u64 = 0;

  constructor(
    readonly from: u64,
    readonly size: u64,
    readonly cmdline: usize,
    readonly cmdlineLength: u32,
  ) {}
}

export let bootModules: BootModule[] = [];

/** Bytes of all their command lines, with terminators. */
export function moduleTextBytes(): u64 {
  let sum: u64 = 0;
  for (let i = 0; i < bootModules.length; i++) sum += bootModules[i].cmdlineLength + 1;
  return sum;
}

/** Gives each its place, page-aligned, behind `low` if it can be. False: refused. */
export function placeModules(config: Config, low: u64): bool {
  bootModules = [];
  if (config.initrdSize > 0) bootModules.push(new BootModule(INITRD_GPA, config.initrdSize, 0, 0));
  let from: u64 = 0;
  for (let i = 0; i < config.modules.length; i++) {
    const module = config.modules[i];
    if (module.size > MODULES_ROOM - from) {
      failLoad(`modules[${i}]`, `${bytes(module.size)} are more than can be mapped`, "plinth images");
      return false;
    }
    bootModules.push(new BootModule(MODULES_GPA + from, module.size, module.cmdline, module.cmdlineLength));
    from += (module.size + PAGE - 1) & ~(PAGE - 1);
  }
  for (let i = 0; i < bootModules.length; i++) {
    const module = bootModules[i];
    const isInitrd = i == 0 && config.initrdSize > 0;
    const name = isInitrd ? "initrd" : `modules[${i - (config.initrdSize > 0 ? 1 : 0)}]`;
    if (!checkText(name, module.cmdline, module.cmdlineLength)) return false;
    module.start = findLowest(module.size, PAGE, low, REACH);
    if (module.start == 0) module.start = findLowest(module.size, PAGE, HIGH_START, REACH);
    if (module.start == 0) {
      failLoad(
        name,
        `${bytes(module.size)} do not fit beside the kernel in the VM's memory`,
        "plinth show NAME",
      );
      return false;
    }
    claim(module.start, module.size, name);
  }
  return true;
}

/** Whether a command line has no zero byte in it; tells the control domain if it has. */
export function checkText(what: string, text: usize, length: u32): bool {
  for (let i: u32 = 0; i < length; i++) {
    if (load<u8>(text + i) != 0) continue;
    failLoad(what, `byte ${i} of the command line is zero`, "plinth show NAME");
    return false;
  }
  return true;
}

export function loadModules(): void {
  for (let i = 0; i < bootModules.length; i++) {
    const module = bootModules[i];
    copyToGuest(module.start, module.from, module.size);
  }
}
