// Starts a VM from firmware: its image lies at the end of the first 4 GiB, where the CPU starts after a reset.
//
// The control domain has mapped the image there, to be read and executed, but for a first part that is flash memory
// (chips/flash.ts). The last 128 KiB are also in RAM below 1 MiB, as a chip set shadows them. The rest is told by fw_cfg.

import { addAcpiFiles } from "../acpi/files";
import { Flash } from "../chips/flash";
import { fwCfg } from "../chips/fw-cfg";
import { rtc } from "../chips/rtc";
import { Config } from "../control-link";
import { GPA_GUEST } from "../../gen/abi64";
import { FLASH_MAX } from "../../lib/flash";
import { HIGH_MEMORY, MEMORY_MAX } from "../../lib/pc-memory";
import { copyToGuest, fillFlash, setFirmware } from "../guest-memory";
import { diskPaths } from "../machine";
import { ramRanges } from "../memory-map";
import { claimMmio } from "../mmio-bus";
import { addSmbiosFiles, UUID_SIZE } from "../smbios";
import { enterReset } from "./entry-state";
import { bytes, failLoad } from "./fail";
import { BIOS_GPA, BIOS_SIZE, KERNEL_GPA } from "./layout";

const PAGE: u64 = 4096;
const FIRMWARE_MAX: u64 = 0x1000000;
const MEMORY_MIN: u64 = 0x1000000;

// fw_cfg items with numbers.
const KEY_UUID: u32 = 0x02;
const KEY_RAM_SIZE: u32 = 0x03;
const KEY_NO_GRAPHIC: u32 = 0x04;
const KEY_CPUS: u32 = 0x05;
const KEY_NUMA: u32 = 0x0d;
const KEY_BOOT_MENU: u32 = 0x0e;
const KEY_MAX_CPUS: u32 = 0x0f;

const E820_ENTRY: u32 = 20;
const e820: usize = memory.data(40, 8);
const BOOT_ORDER_MAX: i32 = 256;
const bootOrder: usize = memory.data(256, 8);

/** True: the VM is ready to run. False: it was refused, and the control domain told why. */
export function loadFirmware(config: Config): bool {
  const size = config.firmwareSize;
  const ram = config.memory;
  if (ram % PAGE != 0 || ram < MEMORY_MIN || ram > MEMORY_MAX) {
    failLoad("memory", `${bytes(ram)} are not between 16 MiB and 256 GiB in whole pages`, "plinth show NAME");
    return false;
  }
  if (size % PAGE != 0 || size < BIOS_SIZE || size > FIRMWARE_MAX) {
    const text = `${bytes(size)} are not between 128 KiB and 16 MiB in whole pages of 4 KiB`;
    failLoad("firmware", `${text}: this is no firmware image`, "plinth images");
    return false;
  }
  if (config.flashSize % PAGE != 0 || config.flashSize > min(size - BIOS_SIZE, FLASH_MAX)) {
    failLoad("firmware", `it cannot have ${bytes(config.flashSize)} of flash memory`, "plinth images");
    return false;
  }
  setFirmware(size, config.flashSize);
  if (config.flashSize > 0) addFlash(config);
  copyToGuest(BIOS_GPA, GPA_GUEST + HIGH_MEMORY - BIOS_SIZE, BIOS_SIZE);
  describe(config);
  return enterReset();
}

/** The chip around the flash memory, if there is some. */
export let flash: Flash | null = null;

// Flash memory that has never been used gets what the image has there, mapped where a kernel would be.
function addFlash(config: Config): void {
  if (config.flashFresh) fillFlash(KERNEL_GPA);
  const base = HIGH_MEMORY - config.firmwareSize;
  const chip = new Flash(base, <u32>config.flashSize);
  flash = chip;
  claimMmio(chip, base, <u32>config.flashSize);
}

/** What test suites ask for too, that start without firmware. */
export function describeSize(config: Config): void {
  fwCfg.addNumber(KEY_RAM_SIZE, 8, config.memory);
  fwCfg.addNumber(KEY_CPUS, 2, config.vcpus);
  fwCfg.addNumber(KEY_MAX_CPUS, 2, config.vcpus);
}

// Disks in the order of the specification, one a line, as Open Firmware names them. A zero at the end.
function addBootOrder(): void {
  if (diskPaths.length == 0) return;
  const text = diskPaths.join("\n");
  assert(text.length < BOOT_ORDER_MAX, "firmware: the boot order is too long");
  for (let i = 0; i < text.length; i++) store<u8>(bootOrder + i, <u8>text.charCodeAt(i));
  fwCfg.addFile("bootorder", bootOrder, text.length + 1);
}

// What firmware asks for.
function describe(config: Config): void {
  describeSize(config);
  fwCfg.addItem(KEY_UUID, addSmbiosFiles(config.name), UUID_SIZE);
  fwCfg.addNumber(KEY_NO_GRAPHIC, 2, 1); // a BIOS writes to the serial port
  fwCfg.addNumber(KEY_NUMA, 8, 0);
  fwCfg.addNumber(KEY_BOOT_MENU, 2, 0);
  const ranges = ramRanges();
  for (let i = 0; i < ranges.length; i++) {
    const at = e820 + i * E820_ENTRY;
    store<u64>(at, ranges[i].start);
    store<u64>(at, ranges[i].size, 8);
    store<u32>(at, ranges[i].kind, 16);
  }
  fwCfg.addFile("etc/e820", e820, ranges.length * E820_ENTRY);
  addAcpiFiles(config.vcpus);
  addBootOrder();
  rtc.setMachine(config.vcpus);
}
