/* What the boot loader told us, copied out of its memory and checked. */
#pragma once

#include "abi.h"
#include "screen.h"
#include "types.h"

#define MAX_REGIONS 96

/* Usable RAM, page-aligned inwards. */
struct boot_region {
    struct hpa start;
    u64 size;
};

struct boot_module {
    struct hpa start; /* page-aligned, by the alignment tag in our header */
    u64 size;         /* bytes, not 0 */
    char name[56];    /* the module's command line, zero-terminated and zero-padded */
};

struct boot_info {
    u32 region_count;
    u32 module_count;
    struct boot_region regions[MAX_REGIONS];
    struct boot_module modules[MAX_MODULES];
    u8 rsdp[36];   /* the loader's copy of the ACPI root pointer */
    u32 rsdp_size; /* 0: none, 20: ACPI 1.0, 36: ACPI 2.0 */
    struct screen screen;
    bool efi;
    u64 entry_tsc; /* at the boot loader's hand-over */
    char command_line[256];
    char loader[64];
};

/* Reads `size` bytes of Multiboot 2 information; NULL, or what is wrong with it. */
MUST_USE const char *multiboot2_parse(const void *info, u64 size, struct boot_info *out);
