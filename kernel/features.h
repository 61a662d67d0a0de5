/* What this machine is, and whether it has what Plinth needs. */
#pragma once

#include "acpi.h"
#include "types.h"

struct machine {
    char cpu_name[49];
    char rig[16]; /* "bochs", "kvm", "qemu", "xen", "vmware", "hyper-v", "bare metal" */
};
extern struct machine machine;

/* Stops with one line that names the first thing that is missing. */
void features_require(void);
/* Fills `machine`. */
void features_name(const struct acpi_info *acpi);
