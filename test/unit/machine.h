/* The kernel without a machine: all of its files in one program, with the backend BACKEND, in which
   the test plays memory and instructions; vmx_cpu.h or svm_cpu.h plays VMCSs or VMCBs, and the
   CPU's checks at an entry. */
#pragma once

#include <sys/mman.h>

#include "unit.h"

#include "apic.h"
#include "cpu.h"
#include "domain.h"
#include "features.h"
#include "frame.h"
#include "image.h"
#include "memory.h"
#include "paging.h"
#include "regs.h"
#include "sched.h"
#include "smp.h"
#include "start.h"
#include "time.h"
#include "trap.h"
#include "vcpu.h"
#include "x86.h"

/* --- memory: one anonymous mapping; the module "control" lies in it --- */

#ifndef ARENA_SIZE
#define ARENA_SIZE (64 * MIB)
#endif
#define MODULE_START   (5 * MIB)
#define MODULE_SIZE    (3 * PAGE_SIZE + 5)
#define HOST_IMAGE_END (2 * MIB)

static u8 *arena;
static unsigned windows_open;

struct hpa hpa_of(const void *pointer) {
    return hpa((u64)((const u8 *)pointer - arena));
}
void *pool_pointer(struct hpa address) {
    if (address.v >= ARENA_SIZE) panic("0x%lx is not in the machine's memory", address.v);
    return arena + address.v;
}
struct boot_region image_region(void) {
    return (struct boot_region){hpa(MIB), HOST_IMAGE_END - MIB};
}
void physmap_map(struct hpa block) { (void)block; }
void physmap_prepare(struct hpa start, u64 size) { (void)start, (void)size; }
void *window_map(struct hpa address) {
    windows_open++;
    return pool_pointer(address);
}
void window_unmap(void *pointer) {
    (void)pointer;
    windows_open--;
}
void *window_map_2m(struct hpa block) { return window_map(block); }
void window_unmap_2m(void) { windows_open--; }
/* Where nothing is, nothing answers. */
void physical_read(void *to, struct hpa from, u64 size) {
    if (from.v < ARENA_SIZE)
        memcpy(to, pool_pointer(from), size);
    else
        memset(to, 0xff, size);
}
u64 paging_root(void) { return 0; }

/* --- CPUs: one runs at a time, and another one when it waits for it --- */

#ifndef HOST_CPUS
#define HOST_CPUS 1
#endif
#ifndef HOST_THREADS /* of a core: 1 or 2 */
#define HOST_THREADS 1
#endif
#ifndef BACKEND
#define BACKEND "vmx_cpu.h"
#endif

#define HOST_ASIDS 5u /* and none for what they are 0 for: they are used up all the time */
#ifndef HOST_TSC_HZ
#define HOST_TSC_HZ 1000000ull /* slow, so that a slice is few instructions */
#endif

struct cpu cpus[MAX_CPUS];
static unsigned now; /* the CPU that runs */
static struct {
    struct vcpu *runs; /* what the kernel has entered; NULL: the CPU is idle */
    jmp_buf back;
    u32 event; /* delivered by the last entry */
    u64 timer, cr2, xcr0, kernel_gs;
    bool in_kernel, nmi, ipi; /* the latter two are under way to it */
} host[HOST_CPUS];
#define host_cpu       cpus[now]
#define entered        (host[now].runs)
#define entered_return (host[now].back)
#define entered_event  (host[now].event)
#define host_timer     (host[now].timer)
#define host_cr2       (host[now].cr2)
#define host_xcr0      (host[now].xcr0)
#define host_kernel_gs (host[now].kernel_gs)
static u64 host_tsc;
static u32 host_leaf7 = 1u << 10 | 1u << 26 | 1u << 28; /* MD_CLEAR, IBPB, L1D flush */
static u32 host_leaf7_2, host_amd_8 = 1u << 12, host_amd_21;
static u64 host_arch_capabilities, host_spec_ctrl, host_written_efer;
/* Resource allocation: ways of the cache, the longest delay, classes of both; 0: it has none. */
static u32 host_ways, host_delay, host_services = 16, host_mba_services = 8;
static u64 host_masks[MAX_CPUS][16], host_delays[MAX_CPUS][16], host_association[MAX_CPUS];
static u32 host_mitigated; /* MITIGATION_ bits done since a test looked */
static u8 host_reset;
static char last_line[512];
static unsigned log_lines;
static bool irq_unmasked[16];

struct machine machine;
u64 tsc_hz = HOST_TSC_HZ;

static u64 host_rdtsc(void) { return host_tsc += 3; }

static u64 backend_rdmsr(u32 msr);
static u64 host_rdmsr(u32 msr) {
    switch (msr) {
    case MSR_KERNEL_GS_BASE: return host_kernel_gs;
    case 0x10a: return host_arch_capabilities;
    default: return backend_rdmsr(msr);
    }
}
/* What the CPU faults at, the kernel does not do. */
static void host_fault_if(bool wrong, const char *what) {
    if (wrong) panic("a #GP in the kernel: %s", what);
}
static void host_allocate(u32 msr, u64 value) {
    u32 n = msr & 15;
    if (msr == MSR_IA32_PQR_ASSOC) {
        host_fault_if(!host_ways && !host_delay, "no classes of service");
        host_fault_if(value << 32 || value >> 32 >= host_services, "a class that there is not");
        host_fault_if(host_association[now] == value >> 32, "(not, but it costs) the same class");
        host_association[now] = value >> 32;
    } else if (msr >= MSR_IA32_MBA_DELAY) {
        host_fault_if(n >= host_mba_services || value > host_delay || !host_delay, "a delay");
        host_delays[now][n] = value;
    } else {
        u64 end = value + (value & -value);
        host_fault_if(n >= host_services || !value || value >> host_ways || (end & value), "ways");
        host_masks[now][n] = value;
    }
}
static void host_wrmsr(u32 msr, u64 value) {
    if ((msr >= MSR_IA32_PQR_ASSOC && msr < MSR_IA32_L3_QOS_MASK + 16) ||
        (msr >= MSR_IA32_MBA_DELAY && msr < MSR_IA32_MBA_DELAY + 16))
        host_allocate(msr, value);
    if (msr == MSR_LSTAR || msr == MSR_CSTAR || msr == MSR_KERNEL_GS_BASE)
        host_fault_if((u64)((i64)(value << 16) >> 16) != value, "an address that is not canonical");
    if (msr == MSR_FMASK || msr == MSR_TSC_AUX) host_fault_if(value >> 32, "an MSR of 32 bits");
    if (msr == MSR_KERNEL_GS_BASE) host_kernel_gs = value;
    if (msr == 0x48) host_spec_ctrl = value;
    if (msr == MSR_EFER) host_written_efer = value;
    if (msr == MSR_IA32_FLUSH_CMD) host_mitigated |= MITIGATION_L1D;
}
static struct cpuid_regs host_cpuid(u32 leaf, u32 subleaf) {
    if (leaf == 1) return (struct cpuid_regs){.ecx = 1u << 26 | CPUID_1_ECX_VMX}; /* XSAVE */
    bool allocates = host_ways || host_delay;
    if (leaf == 7 && !subleaf)
        return (struct cpuid_regs){
            .eax = 2, .ebx = allocates ? CPUID_7_EBX_ALLOCATION : 0, .edx = host_leaf7};
    if (leaf == CPUID_ALLOCATION && allocates) switch (subleaf) {
        case 0:
            return (struct cpuid_regs){.ebx = (host_ways ? ALLOCATION_EBX_L3 : 0) |
                                              (host_delay ? ALLOCATION_EBX_MEMORY : 0)};
        case 1: return (struct cpuid_regs){.eax = host_ways - 1, .edx = host_services - 1};
        case 3:
            return (struct cpuid_regs){
                .eax = host_delay - 1, .ecx = ALLOCATION_ECX_LINEAR, .edx = host_mba_services - 1};
        }
    if (leaf == 7 && subleaf == 2) return (struct cpuid_regs){.edx = host_leaf7_2};
    if (leaf == 0) return (struct cpuid_regs){.eax = 0x1f};
    if (leaf == 0xb)
        return (struct cpuid_regs){.eax = HOST_THREADS > 1, .ebx = HOST_THREADS, .ecx = 1 << 8};
    if (leaf == 0x80000001) return (struct cpuid_regs){.edx = CPUID_EXT_1_EDX_RDTSCP};
    if (leaf == 0x80000000) return (struct cpuid_regs){.eax = 0x80000021};
    if (leaf == 0x80000021) return (struct cpuid_regs){.eax = host_amd_21};
    if (leaf == 0xd && subleaf == 0)
        return (struct cpuid_regs){.eax = XCR0_X87 | XCR0_SSE | XCR0_AVX};
    if (leaf == 0xd && subleaf == 2) return (struct cpuid_regs){.eax = 256, .ebx = 576};
    if (leaf == 0x80000008) return (struct cpuid_regs){.eax = 46, .ebx = host_amd_8};
    if (leaf == 0x8000000a) return (struct cpuid_regs){.ebx = HOST_ASIDS, .edx = ~0u}; /* SVM */
    return (struct cpuid_regs){0};
}
static void host_outb(u16 port, u8 value) {
    if (port == 0xcf9) host_reset = value;
}

static void host_xsetbv(u64 value) {
    host_fault_if(!(value & XCR0_X87) || value & ~7ull || (value & 6) == 4, "XCR0");
    host_xcr0 = value;
}
static void host_xrstor(const u8 *area) {
    const u64 *header = (const u64 *)(area + 512);
    host_fault_if(*(const u32 *)(area + 24) >> 16, "MXCSR");
    host_fault_if(header[0] & ~host_xcr0, "state that there is not");
    for (unsigned i = 1; i < 8; i++)
        host_fault_if(header[i], "the header of XRSTOR");
}

static void host_idle(void);
static void host_pause(void);

/* Whether what has just become of a domain is on its way to the CPU that runs: another one has
   called it, or waits for it and is about to take more from it. */
static bool is_called(void) {
    bool called = host[now].nmi || host[now].ipi;
    for (unsigned i = 0; i < HOST_CPUS; i++)
        called |= i != now && host[i].in_kernel;
    return called;
}

#define this_cpu()            (&host_cpu)
#define cpu_pause()           host_pause()
#define cpu_halt()            panic("halted")
#define rdtsc()               host_rdtsc()
#define rdmsr(m)              host_rdmsr(m)
#define wrmsr(m, v)           host_wrmsr(m, v)
#define cpuid(l, s)           host_cpuid(l, s)
#define outb(p, v)            host_outb(p, v)
#define read_cr0()            (CR0_PE | CR0_PG)
#define write_cr0(v)          ((void)(v))
#define read_cr2()            (host_cr2)
#define write_cr2(v)          (host_cr2 = (v))
#define read_cr4()            (CR4_PAE)
#define write_cr4(v)          ((void)(v))
#define read_dr0()            (0ull)
#define read_dr1()            (0ull)
#define read_dr2()            (0ull)
#define read_dr3()            (0ull)
#define read_dr6()            (0xffff0ff0ull)
#define write_dr0(v)          ((void)(v))
#define write_dr1(v)          ((void)(v))
#define write_dr2(v)          ((void)(v))
#define write_dr3(v)          ((void)(v))
#define write_dr6(v)          host_fault_if((v) >> 32, "DR6")
#define xgetbv(i)             (host_xcr0)
#define xsetbv(i, v)          host_xsetbv(v)
#define xsave(a, m)           ((void)(a), (void)(m))
#define xrstor(a, m)          host_xrstor(a)
#define cpu_idle()            host_idle()
#define raise_machine_check() panic("machine check")
#define verw(s)               ((void)(s), host_mitigated |= MITIGATION_VERW)

/* --- the low half --- */

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_line, sizeof(last_line), format, arguments);
    va_end(arguments);
    log_lines++;
    if (getenv("UNIT_LOG")) printf("# %s\n", last_line);
}
bool log_permit(struct log_limit *limit, u32 amount, u32 most) {
    if (host_rdtsc() - limit->since > tsc_hz) limit->since = host_tsc, limit->used = 0;
    bool room = amount <= most - limit->used;
    limit->used += room ? amount : 0;
    limit->dropped_ever += !room;
    return room;
}
u64 log_position(void) { return 0; }
unsigned log_read(u64 *position, char *to, unsigned max) {
    (void)position;
    return (unsigned)snprintf(to, max, "log");
}
void log_serial_release(void) {}
void refuse(const char *format, ...) { panic("refuse: %s", format); }
bool lapic_x2apic(void) { return true; }
bool host_timer_deadline_mode(void) { return true; }
void host_timer_set(u64 deadline) { host_timer = deadline; }
void irq_handler(u8 vector, void (*handler)(u8 vector)) { (void)vector, (void)handler; }
bool irq_route(u8 isa_irq, u8 vector) {
    (void)vector;
    return isa_irq != 2; /* the cascade: no input of the IOAPIC */
}
void irq_mask(u8 isa_irq) { irq_unmasked[isa_irq] = false; }
void irq_unmask(u8 isa_irq) { irq_unmasked[isa_irq] = true; }
bool panicking;
void lapic_ipi(u32 apic_id, u32 command) {
    if (command == IPI_NMI)
        host[apic_id].nmi = true;
    else
        host[apic_id].ipi = true;
}
void irq_dispatch(u8 vector) { host_cpu.poked |= vector == POKE_VECTOR; }
void smp_start(const struct acpi_info *found) { (void)found; }
#ifndef HOST_NODES /* NUMA nodes; their borders are anywhere */
#define HOST_NODES 1
#endif
#define NODE_BORDER(n)                                                                             \
    { (n) * (ARENA_SIZE / HOST_NODES) & ~0xfffull }
struct acpi_info acpi = {
    .node_count = HOST_NODES,
    .nodes = {10, 11, 12},
    .range_count = HOST_NODES,
    .ranges = {{NODE_BORDER(0), NODE_BORDER(1), 0},
               {NODE_BORDER(1), NODE_BORDER(2), 1 % HOST_NODES},
               {NODE_BORDER(2), NODE_BORDER(3), 2 % HOST_NODES}},
};
const char enter_start[1], enter_end[1], enter_again[1];
u64 cpu_gdt_base(void) { return 0; }
u64 cpu_idt_base(void) { return 0; }

#include BACKEND

/* --- the kernel --- */

#define PLINTH_VERSION "unit"
/* What looks on when a domain's translations are flushed. */
static void (*on_flush)(struct ept *ept);
static inline void tell_flush(struct ept *ept) {
    if (on_flush) on_flush(ept);
    guest_flush(ept);
}

#include "../../kernel/brake.c"
#include "../../kernel/capability.c"
#define table_drop cow_table_drop
#include "../../kernel/cow.c"
#undef table_drop
#include "../../kernel/domain.c"
#define guest_flush(ept) tell_flush(ept)
#include "../../kernel/ept.c"
#undef guest_flush
#include "../../kernel/event.c"
#include "../../kernel/image.c"
#include "../../kernel/frame.c"
#include "../../kernel/inject.c"
#define guest_flush(ept) tell_flush(ept)
#include "../../kernel/memory.c"
#undef guest_flush
void clear_predictors(u32 what) { host_mitigated |= what; }
#include "../../kernel/mitigate.c"
#include "../../kernel/partition.c"
#define call smp_call
#include "../../kernel/smp.c"
#undef call
#include "../../kernel/msr.c"
#include "../../kernel/vcpu.c"
#include "../../kernel/xstate.c"
/* Their file-local names meet in one program. */
#define timer_fired vapic_timer_fired
#include "../../kernel/vapic.c"
#undef timer_fired
#include "../../kernel/core.c"
#include "../../kernel/queue.c"
#include "../../kernel/timeout.c"
#define account sched_account
#include "../../kernel/sched.c"
#undef account
#include "../../kernel/home.c"
#include "../../kernel/snapshot.c"
#include "../../kernel/hypercall.c"
#include "../../kernel/start.c"
#define RAX      EXIT_RAX
#define RCX      EXIT_RCX
#define RDX      EXIT_RDX
#define RBX      EXIT_RBX
#define RSP      EXIT_RSP
#define handlers exit_handlers
#include "../../kernel/exit.c"
#undef handlers
#undef RAX
#undef RCX
#undef RDX
#undef RBX
#undef RSP
#define RAX CPUID_RAX
#define RCX CPUID_RCX
#define RDX CPUID_RDX
#define RBX CPUID_RBX
#include "../../kernel/cpuid.c"
#undef RAX
#undef RCX
#undef RDX
#undef RBX

/* Nobody is ready: the next timeout comes, or else something for the control domain. */
static bool idle_ends_test;
static void host_idle(void) {
    if (HOST_CPUS > 1) {
        entered = NULL;
        longjmp(entered_return, 1);
    }
    if (host_timer != TIMER_OFF && host_timer - host_tsc < 1ull << 40) {
        host_tsc = host_timer;
        return;
    }
    if (host_timer <= host_tsc) return;
    if (idle_ends_test || !control_domain || control_domain->state != DOMAIN_ACTIVE) {
        entered = NULL;
        longjmp(entered_return, 1);
    }
    domain_signal(control_domain, 1ull << 63);
}

/* Runs a part of the kernel that ends with an entry; afterwards `entered` says of whom. */
#define until_entry(statement)                                                                     \
    do {                                                                                           \
        host[now].in_kernel = true;                                                                \
        if (!setjmp(entered_return)) {                                                             \
            statement;                                                                             \
            panic("the kernel returned");                                                          \
        }                                                                                          \
        host[now].in_kernel = false;                                                               \
    } while (0)

/* The entered guest leaves with this reason. */
static inline void leave(u32 reason) {
    struct vcpu *vcpu = entered;
    next_begin(vcpu, reason);
    until_entry(backend_exited(vcpu));
}

/* An idle CPU goes on behind HLT. */
static inline void wake(void) {
    host_cpu.idling = false;
    idle_cpus &= ~(1ull << now);
    until_entry((sched_deadline(), sched_resume_other()));
}

/* The CPU takes what another one has sent it. False: nothing was sent. */
static inline bool take_poke(void) {
    bool nmi = host[now].nmi, ipi = host[now].ipi;
    if (!nmi && !ipi) return false;
    host[now].nmi = host[now].ipi = false;
    if (!entered) {
        host_cpu.poked = true;
        wake();
        return true;
    }
    leave(next_poked(nmi));
    return true;
}

/* What another CPU does when it has been of service, before the one that waits for it goes on;
 * once. */
static void (*meanwhile)(void);

/* The CPU that runs waits for others: they do what they are asked for. */
static void host_pause(void) {
    unsigned waits = now;
    bool any = false;
    for (unsigned i = 0; i < HOST_CPUS; i++) {
        now = i;
        if (!host[i].in_kernel) any |= take_poke();
    }
    void (*more)(void) = meanwhile;
    if (more && !cpus_called.pending) {
        meanwhile = NULL;
        more();
    }
    now = waits;
    if (!any) panic("CPU %u waits for ever", now);
}

/* The entered component calls; returns the status, if it is still that one's turn. */
static inline u32 call6(u64 number, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5) {
    struct vcpu *caller = entered;
    u64 *r = caller->gpr;
    for (unsigned i = 0; i < 100000; i++) { /* continuations */
        u64 rip = guest_rip(caller);
        r[0] = number, r[7] = a0, r[6] = a1, r[2] = a2, r[10] = a3, r[8] = a4, r[9] = a5;
        leave(REASON_VMCALL);
        if (number != HC_MEM_CREATE || entered != caller || guest_rip(caller) != rip) break;
    }
    return (u32)r[0];
}
#define ARGUMENTS_(n, a, b, c, d, e, f, ...) n, a, b, c, d, e, f
#define call(...)                            call_(ARGUMENTS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))
#define call_(...)                           call6(__VA_ARGS__)

struct boot_info boot = {
    .region_count = 1,
    .regions = {{{MIB}, ARENA_SIZE - MIB}},
    .module_count = 1,
    .modules = {{{MODULE_START}, MODULE_SIZE, "control"}},
};

/* Turns the machine on and enters the control domain. */
static void machine_start(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) exit(1);
    host_timer = TIMER_OFF;
    host_tsc = 1000000;
    frame_init(&boot, &acpi);
    virt_require();
    until_entry(kernel_start(&boot));
    for (now = 1; now < HOST_CPUS; now++) {
        host_cpu.id = host_cpu.apic_id = now;
        host_timer = TIMER_OFF;
        if (!virt_cpu_start()) panic("CPU %u is not like the first", now);
        core_init(&host_cpu);
        cpus_online++;
        until_entry(sched_start());
    }
    now = 0;
}
