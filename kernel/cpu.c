/* Descriptor tables. All CPUs share one GDT, with a TSS descriptor for each CPU, and one IDT. */
#include "cpu.h"

#include "log.h"
#include "paging.h"
#include "trap.h"
#include "x86.h"

/* A VM exit sets the limits of GDTR and IDTR to 0xffff. Our GDT really has that size, so nothing
   behind it can ever be taken for a descriptor; and a vector beyond the IDT does not exist. */
#define TABLE_LIMIT 0xffff
#define GDT_ENTRIES ((TABLE_LIMIT + 1) / 8)

#define GDT_CODE 0x00af9b000000ffffull /* 64-bit, ring 0, present, accessed */
#define GDT_DATA 0x00cf93000000ffffull
#define GDT_TSS  0x0000890000000000ull /* 64-bit TSS, available */

#define IDT_INTERRUPT_GATE 0x8e00 /* present, ring 0, interrupts off */

#define IST_STACK_PAGES 2 /* of NMI, #DF and #MC: enough for a panic */

struct idt_gate {
    u16 offset_low, selector;
    u16 flags; /* bits 2:0: the IST stack, 0: none */
    u16 offset_middle;
    u32 offset_high, reserved;
};
_Static_assert(sizeof(struct idt_gate) == 16, "a gate of the IDT");
_Static_assert(sizeof(struct tss) == 104, "a 64-bit TSS");
_Static_assert(SELECTOR_TSS(MAX_CPUS) < TABLE_LIMIT, "a TSS descriptor for each CPU");
_Static_assert(offsetof(struct cpu, self) == 0, "this_cpu() reads it");

struct cpu cpus[MAX_CPUS];
static u64 gdt[GDT_ENTRIES] ALIGNED(4096);
static struct idt_gate idt[256] ALIGNED(4096);

static void gate_set(unsigned vector, unsigned ist) {
    u64 stub = trap_stubs + vector * TRAP_STUB_SIZE;
    idt[vector] = (struct idt_gate){
        .offset_low = (u16)stub,
        .selector = SELECTOR_CODE,
        .flags = (u16)(IDT_INTERRUPT_GATE | ist),
        .offset_middle = (u16)(stub >> 16),
        .offset_high = (u32)(stub >> 32),
    };
}

static void tss_describe(struct cpu *cpu) {
    u64 base = (u64)&cpu->tss, limit = sizeof(cpu->tss) - 1;
    u64 *entry = &gdt[SELECTOR_TSS(cpu->id) / 8];
    entry[0] = GDT_TSS | limit | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    entry[1] = base >> 32;
}

/* start.S has loaded CS, DS, ES and SS with the same selectors. */
void cpu_load(struct cpu *cpu) {
    struct table_register gdtr = {TABLE_LIMIT, (u64)gdt};
    struct table_register idtr = {sizeof(idt) - 1, (u64)idt};
    cpu->self = cpu;
    cpu->tss.io_map = sizeof(cpu->tss);
    tss_describe(cpu);
    lgdt(&gdtr);
    lidt(&idtr);
    ltr(SELECTOR_TSS(cpu->id));
    wrmsr(MSR_GS_BASE, (u64)cpu);
}

void cpu_init_early(void) {
    gdt[SELECTOR_CODE / 8] = GDT_CODE;
    gdt[SELECTOR_DATA / 8] = GDT_DATA;
    for (unsigned vector = 0; vector < ARRAY_SIZE(idt); vector++)
        gate_set(vector, 0);
    cpu_load(&cpus[0]);
}

void cpu_init_stacks(struct cpu *cpu) {
    cpu->stack_top = (u64)stack_alloc(STACK_PAGES);
    cpu->tss.ist[IST_NMI - 1] = (u64)stack_alloc(IST_STACK_PAGES);
    cpu->tss.ist[IST_DOUBLE_FAULT - 1] = (u64)stack_alloc(IST_STACK_PAGES);
    cpu->tss.ist[IST_MACHINE_CHECK - 1] = (u64)stack_alloc(IST_STACK_PAGES);
    gate_set(VECTOR_NMI, IST_NMI);
    gate_set(VECTOR_DF, IST_DOUBLE_FAULT);
    gate_set(VECTOR_MC, IST_MACHINE_CHECK);
}

u64 cpu_gdt_base(void) { return (u64)gdt; }
u64 cpu_idt_base(void) { return (u64)idt; }
