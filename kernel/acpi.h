/* ACPI tables: only what the kernel needs of them, copied and checked. */
#pragma once

#include "abi.h"
#include "boot_info.h"
#include "types.h"

#define ACPI_MAX_CPUS    64
#define ACPI_MAX_IOAPICS 8
#define ACPI_MAX_RANGES  32 /* what is beyond them or MAX_NODES counts as the first node's */

struct acpi_ioapic {
    struct hpa address;
    u32 gsi_base;
};

/* Where an ISA interrupt really arrives. */
struct acpi_route {
    u32 gsi;
    bool active_low, level;
};

/* Memory of a NUMA node. */
struct acpi_range {
    struct hpa start, end;
    u32 node;
};

struct acpi_info {
    char oem_id[7];
    struct hpa lapic;
    u32 cpu_count;
    u32 cpu_apic_ids[ACPI_MAX_CPUS]; /* enabled ones, in table order */
    u32 ioapic_count;
    struct acpi_ioapic ioapics[ACPI_MAX_IOAPICS];
    struct acpi_route isa[16];
    u32 node_count;       /* those with memory; without SRAT 1 */
    u32 nodes[MAX_NODES]; /* what SRAT calls them: proximity domains */
    u32 range_count;
    struct acpi_range ranges[ACPI_MAX_RANGES];
    u16 pm_timer_port; /* 0: none */
    bool pm_timer_32bit;
};

extern struct acpi_info acpi; /* main.c */
/* Always leaves usable contents: what a PC has without ACPI, then what the tables say. Tables with
   a bad length or checksum are left out and logged. */
void acpi_init(const struct boot_info *boot, struct acpi_info *out);
