/* The kernel's VT-x half without a machine: all of its files in one program, in which the test
   plays memory, instructions, VMCSs and the CPU's checks at an entry. */
#pragma once

#include <sys/mman.h>

#include "unit.h"

#include "apic.h"
#include "cpu.h"
#include "domain.h"
#include "features.h"
#include "frame.h"
#include "memory.h"
#include "paging.h"
#include "regs.h"
#include "sched.h"
#include "start.h"
#include "time.h"
#include "trap.h"
#include "vcpu.h"
#include "x86.h"

/* --- memory: one anonymous mapping; the module "control" lies in it --- */

#define ARENA_SIZE     (64 * MIB)
#define MODULE_START   (5 * MIB)
#define MODULE_SIZE    (3 * PAGE_SIZE + 5)
#define HOST_IMAGE_END (2 * MIB)

static u8 *arena;
static unsigned windows_open;

struct hpa hpa_of(const void *pointer) {
    return hpa((u64)((const u8 *)pointer - arena));
}
void *pool_pointer(struct hpa address) {
    if (address.v >= ARENA_SIZE)
        panic("0x%lx is not in the machine's memory", address.v);
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
void physical_read(void *to, struct hpa from, u64 size) { memcpy(to, pool_pointer(from), size); }
u64 paging_root(void) { return 0; }

/* --- one CPU --- */

#define HOST_TSC_HZ 1000000ull /* slow, so that a slice is few instructions */

static struct cpu host_cpu;
static u64 host_tsc, host_timer, host_cr2, host_xcr0, host_kernel_gs;
static unsigned host_flushes, host_barriers;
static u8 host_reset;
static u8 *vmcs_current;
static struct vcpu *entered; /* what the kernel has entered; NULL: nobody is ready any more */
static jmp_buf entered_return;
static char last_line[512];
static unsigned log_lines;
static bool irq_unmasked[16];

struct machine machine;
u64 tsc_hz = HOST_TSC_HZ;

static u64 host_rdtsc(void) { return host_tsc += 3; }

#define ALL_OPTIONAL (~0ull << 32) /* of a capability MSR: nothing is forced, all is allowed */

static u64 host_rdmsr(u32 msr) {
    switch (msr) {
    case MSR_IA32_VMX_BASIC: return 1ull << 55 | 6ull << 50 | 0x1000ull << 32 | 17;
    case MSR_IA32_VMX_TRUE_PINBASED:
    case MSR_IA32_VMX_TRUE_PROCBASED:
    case MSR_IA32_VMX_TRUE_EXIT:
    case MSR_IA32_VMX_TRUE_ENTRY:
    case MSR_IA32_VMX_PROCBASED2: return ALL_OPTIONAL;
    case MSR_IA32_VMX_EPT_VPID_CAP: return ~0ull;
    case MSR_IA32_VMX_CR0_FIXED0: return CR0_PE | CR0_NE | CR0_PG;
    case MSR_IA32_VMX_CR0_FIXED1: return ~0u;
    case MSR_IA32_VMX_CR4_FIXED0: return CR4_VMXE;
    case MSR_IA32_VMX_CR4_FIXED1: return 0x3727ff;
    case MSR_IA32_FEATURE_CONTROL: return FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON;
    case MSR_KERNEL_GS_BASE: return host_kernel_gs;
    default: return 0;
    }
}
static void host_wrmsr(u32 msr, u64 value) {
    if (msr == MSR_KERNEL_GS_BASE)
        host_kernel_gs = value;
    host_barriers += msr == MSR_IA32_PRED_CMD;
}
static struct cpuid_regs host_cpuid(u32 leaf, u32 subleaf) {
    if (leaf == 1)
        return (struct cpuid_regs){.ecx = 1u << 26}; /* XSAVE */
    if (leaf == 7 && !subleaf)
        return (struct cpuid_regs){.edx = 1u << 26}; /* IBPB */
    if (leaf == 0xd && subleaf == 0)
        return (struct cpuid_regs){.eax = XCR0_X87 | XCR0_SSE | XCR0_AVX};
    if (leaf == 0xd && subleaf == 2)
        return (struct cpuid_regs){.eax = 256, .ebx = 576};
    return (struct cpuid_regs){0};
}
static void host_outb(u16 port, u8 value) {
    if (port == 0xcf9)
        host_reset = value;
}

/* A VMCS is its own page: fields by width, type and index, as their encoding has them. */
static u64 *field_at(u64 encoding) {
    if (!vmcs_current || encoding & ~0x6c3eull)
        panic("access to VMCS field 0x%lx", encoding);
    u64 group = (encoding >> 13 & 3) * 4 + (encoding >> 10 & 3);
    return (u64 *)vmcs_current + group * 32 + (encoding >> 1 & 31);
}
static bool host_vmread(u64 encoding, u64 *value) {
    *value = *field_at(encoding);
    return true;
}
static bool host_vmwrite(u64 encoding, u64 value) {
    *field_at(encoding) = value;
    return true;
}
static bool host_vmptrld(struct hpa region) {
    vmcs_current = pool_pointer(region);
    return true;
}
static bool host_vmclear(struct hpa region) {
    if (vmcs_current == pool_pointer(region))
        vmcs_current = NULL;
    return true;
}
static bool host_flush(u64 type, struct invalidation what) {
    (void)type, (void)what;
    host_flushes++;
    return true;
}
static void host_idle(void);

#define this_cpu()            (&host_cpu)
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
#define write_dr6(v)          ((void)(v))
#define xsetbv(i, v)          (host_xcr0 = (v))
#define xsave(a, m)           ((void)(a), (void)(m))
#define xrstor(a, m)          ((void)(a), (void)(m))
#define cpu_idle()            host_idle()
#define vmread(e, v)          host_vmread(e, v)
#define vmwrite(e, v)         host_vmwrite(e, v)
#define vmxon(r)              ((void)(r), true)
#define vmclear(r)            host_vmclear(r)
#define vmptrld(r)            host_vmptrld(r)
#define invept                host_flush
#define invvpid               host_flush
#define raise_nmi()           ((void)0)
#define cpu_take_interrupts() ((void)0)
#define raise_machine_check() panic("machine check")

/* --- the low half --- */

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_line, sizeof(last_line), format, arguments);
    va_end(arguments);
    log_lines++;
    if (getenv("UNIT_LOG"))
        printf("# %s\n", last_line);
}
bool log_permit(struct log_limit *limit, u32 burst) {
    (void)limit, (void)burst;
    return true;
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
void irq_dispatch(u8 vector) { (void)vector; }
u64 cpu_gdt_base(void) { return 0; }
u64 cpu_idt_base(void) { return 0; }
void vmx_exited(void) {}

/* --- the kernel --- */

#define PLINTH_VERSION "unit"
#include "../../kernel/capability.c"
#include "../../kernel/domain.c"
#include "../../kernel/ept.c"
#include "../../kernel/event.c"
#include "../../kernel/frame.c"
#include "../../kernel/inject.c"
#include "../../kernel/memory.c"
#include "../../kernel/msr.c"
#include "../../kernel/vcpu.c"
#include "../../kernel/vmx.c"
#include "../../kernel/xstate.c"
/* Their file-local names meet in one program. */
#define timer_fired vapic_timer_fired
#include "../../kernel/vapic.c"
#undef timer_fired
#define account sched_account
#include "../../kernel/sched.c"
#undef account
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

/* --- an entry: what the CPU would check, and refuse with VMfail or a failed entry --- */

static const char *entry_wrong(struct vcpu *vcpu) {
    u32 event = vmread32(VMCS_ENTRY_EVENT), error = vmread32(VMCS_ENTRY_ERROR_CODE);
    u32 blocking = vmread32(VMCS_GUEST_BLOCKING), vector = EVENT_VECTOR(event);
    bool pe = vmread64(VMCS_GUEST_CR0) & CR0_PE;
    if (vcpu != host_cpu.current || !vcpu_runnable(vcpu))
        return "it is not to run";
    if (vmcs_current != vcpu->vmcs || host_cpu.loaded != vcpu)
        return "its VMCS is not current";
    if (vcpu->domain->role == ROLE_VM && host_cpu.unswitched != vcpu)
        return "its registers are not loaded";
    if ((blocking & 3) == 3)
        return "blocking by STI and by MOV SS";
    bool lma = vmread64(VMCS_GUEST_EFER) & EFER_LMA;
    if (lma != !!(vmread32(VMCS_ENTRY_CONTROLS) & ENTRY_IA32E))
        return "the entry control does not follow EFER.LMA";
    bool set = vmread64(VMCS_GUEST_CR0); /* else VCPU_SET was left out: the entry fails */
    if (set && ((vmread64(VMCS_GUEST_CR4) & (CR4_VMXE | CR4_MCE)) != (CR4_VMXE | CR4_MCE) ||
                (vmread64(VMCS_GUEST_CR0) & (CR0_NE | CR0_CD | CR0_NW)) != CR0_NE))
        return "control registers that a guest must not have";
    if (!(event & EVENT_VALID))
        return NULL;
    bool pushes = (0x27d00u >> (vector & 31) & 1) && EVENT_TYPE(event) == 3 && pe;
    if (EVENT_TYPE(event) == 3 && (vector > 31 || pushes != !!(event & EVENT_HAS_ERROR)))
        return "an exception with or without its error code";
    if (event & EVENT_HAS_ERROR && error >> 15)
        return "an error code of more than 15 bits";
    if (event & 0x7ffff000)
        return "reserved bits of the event";
    if (EVENT_TYPE(event) == 0 && (!(vmread64(VMCS_GUEST_RFLAGS) & RFLAGS_IF) || blocking & 3))
        return "an interrupt that the guest blocks";
    if (EVENT_TYPE(event) == 2 && (vector != 2 || blocking & 0xb))
        return "an NMI that the guest blocks";
    return NULL;
}

static u32 entered_event; /* delivered by the last entry */

void vmx_enter(struct vcpu *vcpu) {
    const char *wrong = entry_wrong(vcpu);
    if (wrong)
        panic("entry of domain %u: %s", vcpu->domain->id, wrong);
    entered = vcpu;
    entered_event = vmread32(VMCS_ENTRY_EVENT);
    if ((entered_event & EVENT_VALID) && EVENT_TYPE(entered_event) == 2)
        vmwrite32(VMCS_GUEST_BLOCKING, vmread32(VMCS_GUEST_BLOCKING) | BLOCKING_NMI);
    vmwrite32(VMCS_ENTRY_EVENT, entered_event & ~EVENT_VALID);
    longjmp(entered_return, 1);
}

/* Nobody is ready: the next timeout comes, or else something for the control domain. */
static bool idle_ends_test;
static void host_idle(void) {
    if (host_timer != TIMER_OFF && host_timer - host_tsc < 1ull << 40) {
        host_tsc = host_timer;
        return;
    }
    if (host_timer <= host_tsc)
        return;
    if (idle_ends_test || !control_domain || control_domain->state != DOMAIN_ACTIVE) {
        entered = NULL;
        longjmp(entered_return, 1);
    }
    domain_signal(control_domain, 1ull << 63);
}

/* Runs a part of the kernel that ends with an entry; afterwards `entered` says of whom. */
#define until_entry(statement)                                                                     \
    do {                                                                                           \
        if (!setjmp(entered_return)) {                                                             \
            statement;                                                                             \
            panic("the kernel returned");                                                          \
        }                                                                                          \
    } while (0)

/* The entered guest leaves with this reason. */
static inline void leave(u32 reason) {
    struct vcpu *vcpu = entered;
    vmwrite32(VMCS_EXIT_REASON, reason);
    vmwrite32(VMCS_EXIT_LENGTH, 3);
    until_entry(exit_handle(vcpu));
}

/* The entered component calls; returns the status, if it is still that one's turn. */
static inline u32 call6(u64 number, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5) {
    struct vcpu *caller = entered;
    u64 *r = caller->gpr;
    for (unsigned i = 0; i < 100000; i++) { /* continuations */
        u64 rip = vmread64(VMCS_GUEST_RIP);
        r[0] = number, r[7] = a0, r[6] = a1, r[2] = a2, r[10] = a3, r[8] = a4, r[9] = a5;
        leave(REASON_VMCALL);
        if (number != HC_MEM_CREATE || entered != caller || vmread64(VMCS_GUEST_RIP) != rip)
            break;
    }
    return (u32)r[0];
}
#define ARGUMENTS_(n, a, b, c, d, e, f, ...) n, a, b, c, d, e, f
#define call(...)                            call_(ARGUMENTS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))
#define call_(...)                           call6(__VA_ARGS__)

static const struct boot_info host_boot = {
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
    if (arena == MAP_FAILED)
        exit(1);
    host_timer = TIMER_OFF;
    host_tsc = 1000000;
    frame_init(&host_boot);
    until_entry(kernel_start(&host_boot));
}
