// Loads a Linux kernel and its initrd into a VM's memory and sets vCPU 0 to its 64-bit or 32-bit entry point.
//
// Nothing is written before everything has been checked.

import { writeAcpiTables } from "../acpi/tables";
import { BOOT_LINUX, BOOT_LINUX32 } from "../../protocol/schema";
import { Config } from "../control-link";
import { copyToGuest, lowSize } from "../guest-memory";
import { Placement, writeBootParams, writeCommandLine } from "./boot-params";
import { enterFlat, enterLong } from "./entry-state";
import { bytes, failLoad, figure, refuse } from "./fail";
import { KernelImage, parseImage } from "./image";
import { BOOT_PARAMS_GPA, CMDLINE_ROOM, HIGH_START, INITRD_GPA } from "./layout";
import { loadImage } from "./source";

const PAGE: u64 = 4096;
const ENTRY_64: u64 = 0x200;

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadLinux(config: Config, boot: string): bool {
  if (config.modules.length > 0) {
    failLoad("modules", "Linux takes an initrd, and no modules", "plinth show NAME");
    return false;
  }
  const image = parseImage(boot == BOOT_LINUX ? 64 : boot == BOOT_LINUX32 ? 32 : 0);
  if (image === null) return false;
  if (!checkCommandLine(config, image)) return false;
  const place = new Placement();
  if (!placeKernel(image, place, lowSize)) return false;
  if (!placeInitrd(image, place, config)) return false;
  loadImage(place.kernel, image.codeOffset, image.codeSize);
  if (place.initrdSize > 0) copyToGuest(place.initrd, INITRD_GPA, place.initrdSize);
  writeCommandLine(config.cmdline, config.cmdlineLength);
  place.rsdp = writeAcpiTables(config.vcpus);
  writeBootParams(image, place);
  if (image.wide) return enterLong(place.kernel + ENTRY_64, BOOT_PARAMS_GPA);
  return enterFlat(place.kernel, 0, 0, BOOT_PARAMS_GPA);
}

function checkCommandLine(config: Config, image: KernelImage): bool {
  const limit = min<u32>(image.cmdlineMax, CMDLINE_ROOM - 1);
  if (config.cmdlineLength <= limit) return true;
  const text = `${bytes(config.cmdlineLength)} are more than the kernel takes (cmdline_size ${bytes(limit)})`;
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
  if (address < HIGH_START) return refuse(`pref_address ${figure(address)} lies below 1 MiB`);
  if (address > memory || image.initSize > memory - address) {
    const need = `init_size ${bytes(image.initSize)} at pref_address ${figure(address)}`;
    return refuse(`${need} does not fit the VM's memory (${bytes(memory)})`);
  }
  place.kernel = address;
  return true;
}

// The initrd goes as high as memory and initrd_addr_max let it.
function placeInitrd(image: KernelImage, place: Placement, config: Config): bool {
  const size = config.initrdSize;
  if (size == 0) return true;
  const low = place.kernel + image.initSize;
  const high = min(lowSize, image.initrdMax + 1);
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
