/* Each tenant has a core for a turn at least, if another one waits; then its threads leave it one
   after the other, and the last of them tells the others. The host's components (tenant 0) do not
   count: the kernel runs beside any tenant, too. */
#include "core.h"

#include "cpu.h"
#include "domain.h"
#include "smp.h"
#include "time.h"
#include "vcpu.h"
#include "x86.h"

#define TURNS            500 /* per second */
#define LEAF_TOPOLOGY    0xb /* SDM volume 2, "CPUID": its first level, if it is threads */
#define LEVEL_THREADS    1
#define LEAF_AMD_COMPUTE 0x8000001e /* APM volume 3, "Extended APIC ID": EBX[15:8], threads - 1 */

static unsigned thread_bits(void) {
    struct cpuid_regs r = {0};
    if (cpuid(0, 0).eax >= LEAF_TOPOLOGY) r = cpuid(LEAF_TOPOLOGY, 0);
    if (r.ebx & 0xffff) return (r.ecx >> 8 & 0xff) == LEVEL_THREADS ? r.eax & 31 : 0;
    if (cpuid(0x80000000, 0).eax < LEAF_AMD_COMPUTE) return 0;
    unsigned threads = (cpuid(LEAF_AMD_COMPUTE, 0).ebx >> 8 & 0xff) + 1, bits = 0;
    while (1u << bits < threads)
        bits++;
    return bits;
}

void core_init(struct cpu *cpu) {
    unsigned bits = thread_bits();
    cpu->siblings = 1ull << cpu->id;
    for (struct cpu *other = cpus; bits && other < cpu; other++)
        if (other->apic_id >> bits == cpu->apic_id >> bits) {
            struct core *core = other->core ? other->core : &other->own_core;
            atomic_store(&other->core, core);
            cpu->core = core;
            atomic_or(&other->siblings, cpu->siblings);
            atomic_or(&cpu->siblings, other->siblings);
        }
}

static void lock(struct core *core) {
    while (atomic_swap(&core->taken, true))
        cpu_pause();
}

static void unlock(struct core *core) { atomic_store(&core->taken, false); }

static void poke_siblings(const struct cpu *cpu) {
    for (u64 left = cpu->siblings & ~(1ull << cpu->id); left; left &= left - 1)
        cpu_poke(&cpus[__builtin_ctzll(left)]);
}

static u64 turn(void) { return tsc_hz / TURNS; }

/* Who waits may have gone elsewhere: it is waited for a turn long. */
static bool is_promised(const struct core *core, u32 tenant, u64 now) {
    return core->wanted && core->wanted != tenant && now - core->wanted_since < turn();
}

static bool admits(struct cpu *cpu, struct core *core, u32 tenant, u64 now) {
    u32 others = core->running - cpu->in_core;
    bool over = now - core->since >= turn();
    if (others ? core->tenant == tenant && !(over && is_promised(core, tenant, now))
               : !is_promised(core, tenant, now) ||
                     (cpu->in_core && core->tenant == tenant && !over)) {
        if (!others && (!cpu->in_core || core->tenant != tenant)) core->since = now;
        if (core->wanted == tenant) core->wanted = 0;
        if (core->tenant != tenant) poke_siblings(cpu); /* they may have waited for this */
        core->tenant = tenant;
        core->running = others + 1;
        return cpu->in_core = true;
    }
    if (core->tenant != tenant && (!core->wanted || core->wanted == tenant)) {
        core->wanted = tenant;
        core->wanted_since = now;
    }
    cpu->slice_end = over ? now + turn() : core->since + turn(); /* looks again */
    if (over) poke_siblings(cpu);
    return false;
}

bool core_admits(struct cpu *cpu, const struct vcpu *vcpu) {
    u32 tenant = vcpu->domain->tenant;
    struct core *core = cpu->core;
    if (!tenant) {
        core_leave(cpu);
        return true;
    }
    lock(core);
    bool admitted = admits(cpu, core, tenant, rdtsc());
    unlock(core);
    return admitted;
}

void core_leave(struct cpu *cpu) {
    struct core *core = cpu->core;
    if (!cpu->in_core) return;
    lock(core);
    cpu->in_core = false;
    bool told = !--core->running && core->wanted;
    unlock(core);
    if (told) poke_siblings(cpu);
}

void core_look(struct cpu *cpu) {
    const struct core *core = cpu->core;
    bool wanted = core->wanted && core->wanted != core->tenant && rdtsc() - core->since >= turn();
    if (cpu->in_core && !wanted) return;
    cpu->attention = true;
    cpu->slice_over |= cpu->in_core;
}

bool core_is_foreign(const struct cpu *cpu, const struct vcpu *vcpu) {
    const struct core *core = cpu->core;
    return core && atomic_load(&core->running) && core->tenant != vcpu->domain->tenant;
}
