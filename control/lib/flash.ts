// The flash memory in which firmware keeps its variables: what control domain and device model agree on.
//
// It is the first part of the firmware's image, and lies where that starts below 4 GiB. The control domain makes a
// memory object for it, which lives as long as the VM is known; the device model maps it into the VM and plays the
// chip around it.

import { CAP_CABLES, MAX_CARDS } from "./cable";

/** A device model's capability for the memory object. */
export const CAP_FLASH: u32 = CAP_CABLES + MAX_CARDS;
/** What it may have at most, in bytes. */
export const FLASH_MAX: u64 = 0x100000;
