/* Time is the TSC, and one timer for each CPU. */
#pragma once

#include "acpi.h"
#include "types.h"

extern u64 tsc_hz;

#define TIMER_OFF (~0ull)

/* Measures the TSC and, where it is needed, the local APIC's timer. */
void time_init(const struct acpi_info *acpi);
/* Sets up this CPU's timer. */
void time_cpu_init(void);

/* This CPU's timer calls timer_interrupt() once at or after this TSC value; a deadline that has
   passed fires at once. */
void host_timer_set(u64 tsc_deadline);
bool host_timer_deadline_mode(void);

/* The scheduler defines it. */
void timer_interrupt(void);

u64 time_ms(u64 tsc); /* ticks to milliseconds; 0 before time_init */
