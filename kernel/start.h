/* Where the low half of the kernel hands over to the high half. */
#pragma once

#include "acpi.h"
#include "boot_info.h"

/* On the boot CPU, on its own stack, with frames, paging, ACPI, APIC and timer ready. */
NORETURN void kernel_start(const struct boot_info *boot);

extern struct acpi_info acpi;
extern struct boot_info boot; /* main.c */
