// Loads a VM's image in the way that the specification asks for, or else in the way that the image asks for.

import {
  BOOT_AUTO,
  BOOT_LINUX,
  BOOT_LINUX32,
  BOOT_MULTIBOOT,
  BOOT_MULTIBOOT2,
  BOOT_PVH,
} from "../../protocol/schema";
import { startGeneration, writeGeneration } from "../generation";
import { MEMORY_MAX } from "../../lib/pc-memory";
import { Config } from "../control-link";
import { isElf, parseElf } from "./elf";
import { startEntry } from "./entry-state";
import { bytes, failLoad, nameImage, refuse } from "./fail";
import { describeSize, loadFirmware } from "./firmware";
import { isLinux } from "./image";
import { loadLinux } from "./linux";
import { checkText } from "./modules";
import { loadMultiboot, isMultiboot } from "./multiboot";
import { loadMultiboot2, isMultiboot2 } from "./multiboot2";
import { loadPvh, NO_ENTRY, pvhEntry } from "./pvh";
import { writeSmbios } from "../smbios";
import { setImage } from "./source";

const PAGE: u64 = 4096;
const MEMORY_MIN: u64 = 0x200000;

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadVm(config: Config): bool {
  startEntry(config.tscHz);
  startGeneration(config.generation);
  if (config.firmwareSize > 0) return loadFirmware(config);
  describeSize(config);
  writeSmbios(config.name);
  writeGeneration();
  setImage(config.kernelSize);
  nameImage(config.kernel);
  if (!checkMemory(config.memory)) return false;
  if (!checkText("command line", config.cmdline, config.cmdlineLength)) return false;
  const boot = config.boot;
  if (boot == BOOT_LINUX || boot == BOOT_LINUX32) return loadLinux(config, boot);
  if (boot == BOOT_MULTIBOOT) return loadMultiboot(config);
  if (boot == BOOT_MULTIBOOT2) return loadMultiboot2(config);
  if (boot == BOOT_PVH) {
    const elf = parseElf();
    return elf !== null && loadPvh(config, elf);
  }
  if (boot != BOOT_AUTO) return refuse(`boot: there is no way ${boot} to start it`);
  return loadAuto(config);
}

// What an image says first counts: bzImages have a magic number, PVH has its note, Multiboot 2 tells more than 1.
function loadAuto(config: Config): bool {
  if (isLinux()) return loadLinux(config, BOOT_AUTO);
  if (isElf()) {
    const elf = parseElf();
    if (elf === null) return false;
    if (pvhEntry(elf) != NO_ENTRY) return loadPvh(config, elf);
  }
  if (isMultiboot2()) return loadMultiboot2(config);
  if (isMultiboot()) return loadMultiboot(config);
  if (isElf()) return refuse("boot: an ELF image with neither a PVH note nor a Multiboot header");
  return refuse('boot: neither a Linux bzImage ("HdrS" at 0x202), an ELF image nor a Multiboot image');
}

function checkMemory(memory: u64): bool {
  if (memory % PAGE == 0 && memory >= MEMORY_MIN && memory <= MEMORY_MAX) return true;
  failLoad("memory", `${bytes(memory)} are not between 2 MiB and 256 GiB in whole pages`, "plinth show NAME");
  return false;
}
