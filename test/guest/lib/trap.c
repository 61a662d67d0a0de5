/* Descriptor tables, exceptions and interrupts, the page window, the local APIC. */
#include "guest.h"

#define SELECTOR_CODE 0x10
#define GATE_INTERRUPT 0x8e
#define CODE_DESCRIPTOR 0x00af9b000000ffffull
#define DATA_DESCRIPTOR 0x00cf93000000ffffull
#define TSS_AVAILABLE   0x0000890000000000ull
#define IST_SIZE        4096

volatile struct fault fault;
volatile u64 resume;
struct gate idt[256] __attribute__((aligned(16)));
u64 gdt[8] __attribute__((aligned(16)));
static u64 gdts[MAX_CPUS - 1][8] __attribute__((aligned(16))); /* of the further CPUs */
void (*handlers[256])(struct frame *frame);

static struct {
    u32 reserved;
    u64 rsp[3], reserved1, ist[7], reserved2;
    u16 reserved3, io_map;
} __attribute__((packed)) tsss[MAX_CPUS];
static u8 ist_stacks[MAX_CPUS][2][IST_SIZE] __attribute__((aligned(16)));
static u64 window_tables[3][512] __attribute__((aligned(4096)));

struct pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

extern const u8 vector_stubs[];
void load_segments(const struct pointer *gdt_pointer);

void trap(struct frame *frame) {
    if (resume && frame->vector < 32 && frame->vector != VECTOR_NMI && !handlers[frame->vector]) {
        fault.vector = frame->vector;
        fault.error = frame->error;
        fault.rip = frame->rip;
        fault.cr2 = read_cr2();
        frame->rip = resume;
        resume = 0;
        return;
    }
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    print("vector %lu, error 0x%lx, ", frame->vector, frame->error);
    print("RIP 0x%lx, CR2 0x%lx\n", frame->rip, read_cr2());
    error("an exception or interrupt that the test did not expect");
}

static void gate_set(unsigned vector, u64 to, unsigned ist) {
    idt[vector] = (struct gate){(u16)to,         SELECTOR_CODE,   (u8)ist, GATE_INTERRUPT,
                                (u16)(to >> 16), (u32)(to >> 32), 0};
}

void vector_set(unsigned vector, void (*handler)(void)) { gate_set(vector, (u64)handler, 0); }

void traps_load(unsigned cpu) {
    u64 *own = cpu ? gdts[cpu - 1] : gdt;
    u64 base = (u64)&tsss[cpu], limit = sizeof(tsss[cpu]) - 1;
    own[2] = CODE_DESCRIPTOR;
    own[3] = DATA_DESCRIPTOR;
    own[4] = TSS_AVAILABLE | limit | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    own[5] = base >> 32;
    tsss[cpu].io_map = sizeof(tsss[cpu]);
    for (unsigned i = 0; i < 2; i++)
        tsss[cpu].ist[i] = (u64)ist_stacks[cpu][i] + IST_SIZE;
    struct pointer pointer = {sizeof(gdt) - 1, (u64)own};
    load_segments(&pointer);
    pointer = (struct pointer){sizeof(idt) - 1, (u64)idt};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}

void traps_init(void) {
    for (unsigned i = 0; i < 256; i++)
        gate_set(i, (u64)vector_stubs + 16 * i, i == VECTOR_DF ? 1 : i == VECTOR_NMI ? 2 : 0);
    traps_load(0);
}

u64 ist_stack(unsigned n, u64 top) {
    u64 before = tsss[0].ist[n - 1];
    tsss[0].ist[n - 1] = top;
    return before;
}

void *window(unsigned index, u64 entry) {
    u64 *root = (u64 *)(read_cr3() & ~0xfffull);
    root[WINDOW >> 39 & 511] = (u64)window_tables[0] | PTE_PRESENT | PTE_WRITE | PTE_USER;
    window_tables[0][0] = (u64)window_tables[1] | PTE_PRESENT | PTE_WRITE | PTE_USER;
    window_tables[1][0] = (u64)window_tables[2] | PTE_PRESENT | PTE_WRITE | PTE_USER;
    window_tables[2][index] = entry;
    void *at = (void *)(WINDOW + 4096ull * index);
    __asm__ volatile("invlpg (%0)" ::"r"(at) : "memory");
    return at;
}

void apic_enable(void) {
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    wrmsr(APIC_SPURIOUS, 0x1ff);
    wrmsr(APIC_LVT_LINT0, 1u << 16);
}

u64 tsc_hz(void) {
    struct cpuid r = cpuid(0x15, 0);
    if (!r.eax || !r.ebx || !r.ecx)
        error("CPUID leaf 0x15 does not tell the rate of the TSC");
    return (u64)r.ecx * r.ebx / r.eax;
}
