/* What the ways into the kernel share with each other and with it: start.S, ap.S, kernel/cpu.h,
 * kernel/ap.c. */
#pragma once

/* In the GDTs of start.S and of the kernel, so that they stay loaded. */
#define SELECTOR_CODE  0x08
#define SELECTOR_DATA  0x10
#define BOOT_GDT_LIMIT (3 * 8 - 1)

#define AP_PAGE 0x8000 /* where ap.S is copied to and runs first: a page of RAM below 1 MiB */

#ifdef __ASSEMBLER__
#define KERNEL_BASE      0xffffffff80000000
#define PHYSICAL(symbol) ((symbol)-KERNEL_BASE)

#define CR4_PAE  0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#endif
