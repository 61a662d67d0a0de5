/* Several CPUs: how they start, keep out of each other's way, and ask each other for something. */
#pragma once

#include "acpi.h"
#include "boot_info.h"
#include "types.h"

struct cpu;

extern u32 cpus_online; /* cpus[0] to cpus[cpus_online - 1] run the kernel */
#define CPUS_ALL ((1ull << (cpus_online - 1) << 1) - 1)

/* ap.c: starts all other CPUs that the tables name. The first call is early, since a CPU wants
   10 ms between being reset and being started. */
void smp_prepare(const struct acpi_info *acpi, const struct boot_info *boot);
void smp_start(const struct acpi_info *acpi);

void smp_init(void);

/* Makes a CPU look around: at its inbox, and at what cpus_call wants of it. From any CPU. */
void cpu_poke(struct cpu *cpu);
/* Does what another CPU asks of this one. */
extern struct cpus_call {
    void (*function)(void *);
    void *argument;
    u64 pending; /* CPUs that have not done it yet */
} cpus_called;
void smp_service(void);

/* The kernel lock. Alone: whoever holds it may change everything but what another CPU's current
   vCPU has of its own; with others: read what capabilities lead to. A holder with others waits for
   nothing. While a CPU waits it serves cpus_call. False: meanwhile this CPU's current vCPU was
   taken away and may be gone; the lock is held all the same. */
MUST_USE bool kernel_lock(bool alone);
MUST_USE bool kernel_try_lock(void); /* alone, if nobody else has it so */
void kernel_unlock(bool alone);

/* Runs a function on each CPU of a mask (by id), between two guests, and waits until all have done
   so. The caller holds the kernel lock alone. */
void cpus_call(u64 mask, void (*function)(void *), void *argument);
