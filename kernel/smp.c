/* The kernel lock, calls from one CPU to others, and pokes. */
#include "smp.h"

#include "apic.h"
#include "cpu.h"
#include "guest.h"
#include "log.h"
#include "trap.h"
#include "x86.h"

u32 cpus_online = 1;

/* --- pokes --- */

static void on_poke(u8 vector) {
    (void)vector;
    this_cpu()->poked = true;
}

/* What comes with POSTED_VECTOR where no guest takes it is looked at before the next one. */
void smp_init(void) {
    irq_handler(POKE_VECTOR, on_poke);
    irq_handler(POSTED_VECTOR, on_poke);
}

/* With VT-x an NMI reaches a CPU whatever its guest does, but it may come between the last look and
   HLT: so an idle CPU, which has its interrupts on, gets an interrupt. */
void cpu_poke(struct cpu *cpu) {
    if (atomic_swap(&cpu->ring, true)) return;
    if (cpu == this_cpu())
        cpu->poked = true;
    else
        lapic_ipi(cpu->apic_id, atomic_load(&cpu->idling) ? IPI_FIXED | POKE_VECTOR : GUEST_POKE);
}

void nmi_taken(void) {
    while (panicking)
        cpu_halt();
    this_cpu()->poked = true;
}

/* One that comes behind the last look at `poked` begins that again, with the guest's registers in
   the CPU or not: they are in the vCPU, too. */
void nmi_handle(struct trap_frame *frame) {
    nmi_taken();
    if (frame->rip >= (u64)enter_start && frame->rip < (u64)enter_end)
        frame->rip = (u64)enter_again;
}

/* --- calls --- */

struct cpus_call cpus_called;

void smp_service(void) {
    u64 self = 1ull << this_cpu()->id;
    if (!(atomic_load(&cpus_called.pending) & self)) return;
    cpus_called.function(cpus_called.argument);
    atomic_and(&cpus_called.pending, ~self);
}

void cpus_call(u64 mask, void (*function)(void *), void *argument) {
    u64 self = 1ull << this_cpu()->id, others = mask & ~self;
    cpus_called.function = function;
    cpus_called.argument = argument;
    atomic_store(&cpus_called.pending, others);
    for (u64 left = others; left; left &= left - 1)
        cpu_poke(&cpus[__builtin_ctzll(left)]);
    if (mask & self) function(argument);
    while (atomic_load(&cpus_called.pending))
        cpu_pause();
}

/* --- the lock --- */

static bool taken; /* by one alone */

static bool try_lock(struct cpu *cpu, bool alone) {
    if (alone) return !atomic_swap(&taken, true);
    atomic_set(&cpu->reading, true);
    if (!atomic_load(&taken)) return true;
    atomic_store(&cpu->reading, false);
    return false;
}

static void wait_for_readers(void) {
    for (u32 i = 0; i < cpus_online; i++)
        while (atomic_load(&cpus[i].reading))
            cpu_pause();
}

bool kernel_try_lock(void) {
    if (!try_lock(this_cpu(), true)) return false;
    wait_for_readers();
    return true;
}

bool kernel_lock(bool alone) {
    struct cpu *cpu = this_cpu();
    const struct vcpu *current = cpu->current;
    while (!try_lock(cpu, alone)) {
        smp_service();
        cpu_pause();
    }
    if (alone) wait_for_readers();
    return cpu->current == current;
}

void kernel_unlock(bool alone) { atomic_store(alone ? &taken : &this_cpu()->reading, false); }
