// Loads a Linux kernel and its initrd into a VM's memory and sets vCPU 0 to its entry point.
//
// Nothing is written before everything has been checked.

import { writeAcpiTables } from "../acpi/tables";
import { startClock } from "../clock";
import { Config } from "../control-link";
import { copyToGuest } from "../guest-memory";
import { Placement, writeBootParams, writeCommandLine } from "./boot-params";
import { enterKernel } from "./entry-state";
import { bytes, failLoad, figure } from "./fail";
import { KERNEL_GPA, KernelImage, parseImage } from "./image";
import { CMDLINE_ROOM, HIGH_START, MEMORY_MAX } from "./layout";

/** Where the initrd is mapped, read-only. */
const INITRD_GPA: u64 = 0x40000000;
const PAGE: u64 = 4096;
const MEMORY_MIN: u64 = 0x400000;

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadLinux(config: Config): bool {
  if (!checkMemory(config.memory)) return false;
  const image = parseImage(config.kernelSize);
  if (image === null) return false;
  if (!checkCommandLine(config, image)) return false;
  const place = new Placement();
  if (!placeKernel(image, place, config.memory)) return false;
  if (!placeInitrd(image, place, config)) return false;
  copyToGuest(place.kernel, KERNEL_GPA + image.codeOffset, image.codeSize);
  if (place.initrdSize > 0) copyToGuest(place.initrd, INITRD_GPA, place.initrdSize);
  writeCommandLine(config.cmdline, config.cmdlineLength);
  place.rsdp = writeAcpiTables(config.vcpus);
  writeBootParams(image, place, config.memory);
  const status = enterKernel(place.kernel, startClock(config.tscHz));
  if (status >= 0) return true;
  failLoad("vCPU 0", `the kernel refused its first state (status ${(-status).toString()})`, "plinth logs");
  return false;
}

function checkMemory(memory: u64): bool {
  if (memory % PAGE == 0 && memory >= MEMORY_MIN && memory <= MEMORY_MAX) return true;
  failLoad("memory", `${bytes(memory)} are not between 4 MiB and 3 GiB in whole pages`, "plinth show NAME");
  return false;
}

function checkCommandLine(config: Config, image: KernelImage): bool {
  const length = config.cmdlineLength;
  const limit = min<u32>(image.cmdlineMax, CMDLINE_ROOM - 1);
  let text = "";
  if (length > limit) text = `${bytes(length)} are more than the kernel takes (cmdline_size ${bytes(limit)})`;
  for (let i: u32 = 0; i < length && text.length == 0; i++) {
    if (load<u8>(config.cmdline + i) == 0) text = `byte ${i.toString()} is zero`;
  }
  if (text.length == 0) return true;
  failLoad("command line", text, "plinth show NAME");
  return false;
}

// The kernel goes to the address it prefers; one that is not to be had moves up, if it can be moved.
function placeKernel(image: KernelImage, place: Placement, memory: u64): bool {
  const alignment = <u64>image.alignment;
  let address = image.prefAddress;
  if (image.relocatable && address <= memory) {
    address = (max(address, HIGH_START) + alignment - 1) & ~(alignment - 1);
  }
  if (address < HIGH_START) {
    failLoad("kernel image", `pref_address ${figure(address)} lies below 1 MiB`, "plinth images");
    return false;
  }
  if (address > memory || image.initSize > memory - address) {
    const need = `init_size ${bytes(image.initSize)} at pref_address ${figure(address)}`;
    failLoad("kernel image", `${need} does not fit the VM's memory (${bytes(memory)})`, "plinth show NAME");
    return false;
  }
  place.kernel = address;
  return true;
}

// The initrd goes as high as memory and initrd_addr_max let it.
function placeInitrd(image: KernelImage, place: Placement, config: Config): bool {
  const size = config.initrdSize;
  if (size == 0) return true;
  const low = place.kernel + image.initSize;
  const high = min(config.memory, image.initrdMax + 1);
  if (high < low || size > high - low || ((high - size) & ~(PAGE - 1)) < low) {
    const room = high > low ? high - low : 0;
    failLoad(
      "initrd",
      `${bytes(size)} do not fit in the ${bytes(room)} between the kernel's end (${figure(low)}) and ${figure(high)}`,
      "plinth show NAME",
    );
    return false;
  }
  place.initrd = (high - size) & ~(PAGE - 1);
  place.initrdSize = size;
  return true;
}
