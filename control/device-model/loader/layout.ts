// Where the loader puts things in a VM's memory, and where it finds the images.
//
// For Linux; PVH and Multiboot put what they tell the kernel wherever the kernel leaves room (room.ts).
//
//   0x00500   GDT                                    0x20000   command line (64 KiB at most)
//   0x07000   boot_params, the "zero page"           0x9f000   reserved, as by a BIOS
//   0x08000   stack for the entry, growing down      0xe0000   ACPI tables
//   0x09000   page tables: PML4, PDPT, 4 * PD        0xf0000   SMBIOS tables, at 0xf1000 the generation ID
//                                                    0x100000  RAM: kernel, ..., initrd at the end

export const GDT_GPA: u64 = 0x500;
export const BOOT_PARAMS_GPA: u64 = 0x7000;
export const STACK_GPA: u64 = 0x9000;
export const PAGE_TABLES_GPA: u64 = 0x9000;
export const CMDLINE_GPA: u64 = 0x20000;
export const CMDLINE_ROOM: u32 = 0x10000;
export const LOW_END: u64 = 0x9f000;
export const ACPI_GPA: u64 = 0xe0000;
export const ACPI_ROOM: u64 = 0x10000;
export const SMBIOS_GPA: u64 = 0xf0000;
/** In the same 64 KiB: the VM generation ID, and where interrupts of real mode lead. */
export const GENERATION_GPA: u64 = 0xf1000;
export const NO_FUNCTION_OFFSET: u32 = 0xff00;
export const HIGH_START: u64 = 0x100000;

/** Where the control domain maps the images, read-only: the kernel, the initrd, the modules one by one. */
export const KERNEL_GPA: u64 = 0x20000000;
export const INITRD_GPA: u64 = 0x40000000;
export const MODULES_GPA: u64 = 0xe0000000;

/** Where a VM with firmware has the last of it in RAM too. */
export const BIOS_GPA: u64 = 0xe0000;
export const BIOS_SIZE: u64 = 0x20000;
