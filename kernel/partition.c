/* Which class of service each tenant is in, and what the classes have: Intel SDM volume 3, "Intel
   Resource Director Technology (Intel RDT) Allocation Features"; AMD APM volume 2, "Platform
   Quality of Service (PQOS) Extensions", whose cache masks are the same. */
#include "partition.h"

#include "brake.h"
#include "cpu.h"
#include "domain.h"
#include "mitigate.h"
#include "regs.h"
#include "smp.h"
#include "vcpu.h"
#include "x86.h"

bool partitions_used;
static u8 service_of[TENANTS];

/* What the CPU can do; zeros: nothing. */
struct limits {
    u64 services; /* classes */
    u64 ways;     /* by bit */
    u64 delay;    /* percent, the most */
};

static struct limits limits_read(void) {
    struct limits limits = {0};
    if (cpuid(0, 0).eax < CPUID_ALLOCATION || !(cpuid(7, 0).ebx & CPUID_7_EBX_ALLOCATION))
        return limits;
    u32 resources = cpuid(CPUID_ALLOCATION, 0).ebx;
    struct cpuid_regs cache = cpuid(CPUID_ALLOCATION, 1), memory = cpuid(CPUID_ALLOCATION, 3);
    limits.services = ARRAY_SIZE(service_of);
    if (resources & ALLOCATION_EBX_L3) {
        limits.ways = (2ull << (cache.eax & 31)) - 1;
        limits.services = (u16)cache.edx + 1;
    }
    if ((resources & ALLOCATION_EBX_MEMORY) && (memory.ecx & ALLOCATION_ECX_LINEAR)) {
        limits.delay = (memory.eax & 0xfff) + 1;
        if ((u16)memory.edx < limits.services) limits.services = (u16)memory.edx + 1;
    }
    if (!limits.ways && !limits.delay) limits.services = 0;
    return limits;
}

void partition_enter(const struct domain *domain) {
    struct cpu *cpu = this_cpu();
    u8 service = atomic_load(&service_of[domain->tenant % TENANTS]);
    if (service == cpu->service) return;
    cpu->service = service;
    wrmsr(MSR_IA32_PQR_ASSOC, (u64)service << 32);
}

struct setting {
    const struct limits *limits;
    u64 service, ways, delay;
};

static void set_here(void *argument) {
    const struct setting *set = argument;
    const struct vcpu *current = this_cpu()->current;
    if (set->limits->ways) wrmsr(MSR_IA32_L3_QOS_MASK + (u32)set->service, set->ways);
    if (set->limits->delay) wrmsr(MSR_IA32_MBA_DELAY + (u32)set->service, set->delay);
    if (current) partition_enter(current->domain);
}

bool partition_set(u64 tenant, u64 service, u64 ways, u64 delay) {
    struct limits limits = limits_read();
    u64 lowest = ways & -ways;
    if (tenant >= TENANTS || service >= limits.services || service >= 0xff ||
        delay > limits.delay || !ways != !limits.ways || (ways & ~limits.ways) ||
        (ways & (ways + lowest)))
        return false;
    struct setting set = {&limits, service, ways, delay};
    atomic_store(&service_of[tenant], (u8)service);
    partitions_used |= service;
    mitigate_publish();
    cpus_call(CPUS_ALL, set_here, &set);
    return true;
}
