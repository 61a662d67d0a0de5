/* What a test guest has: checks and outcomes, probes that survive faults, the CPU, the local APIC. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* --- what a test defines --- */

extern const char title[];
void test_main(void);

/* --- outcomes: a test that returns has succeeded, or failed if one of its checks did --- */

/* "%s", "%u" (u32), "%lu" and "%lx" (u64). */
void print(const char *format, ...);
void check(bool ok, const char *what);
void check_equal(u64 actual, u64 expected, const char *what);
_Noreturn void skip(const char *why);
_Noreturn void error(const char *why);
_Noreturn void power_off(void);
u64 median(u64 *samples, unsigned count); /* sorts them */
/* Whether the CPU does it; false, and said on the console: this one is QEMU's emulator (word "tcg"), which does not. */
bool cpu_has(const char *what);
#define CHECK(condition) check(condition, #condition)
#define CHECK_EQUAL(actual, expected) check_equal(actual, expected, #actual)

/* --- what the loader gave --- */

extern const char *command_line;
extern u64 memory_size; /* end of the last range of RAM */
bool has_word(const char *word);
/* The number behind "name=", or 0. */
u64 word_value(const char *name);

/* --- exceptions and interrupts --- */

enum {
    VECTOR_DE = 0,
    VECTOR_DB = 1,
    VECTOR_NMI = 2,
    VECTOR_BP = 3,
    VECTOR_UD = 6,
    VECTOR_NM = 7,
    VECTOR_DF = 8,
    VECTOR_NP = 11,
    VECTOR_SS = 12,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
};
#define NO_FAULT (~0ull)

struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error, rip, cs, rflags, rsp, ss;
};

struct gate {
    u16 offset0, selector;
    u8 ist, type;
    u16 offset1;
    u32 offset2, reserved;
};

/* What the last probe met. */
struct fault {
    u64 vector, error, rip, cr2;
};
extern volatile struct fault fault;
extern volatile u64 resume;

extern struct gate idt[256];
extern u64 gdt[8];
/* Sets the top of IST stack `n` (1: double faults, 2: NMIs); returns what it was. */
u64 ist_stack(unsigned n, u64 top);
/* Called for a vector instead of ending the test. */
extern void (*handlers[256])(struct frame *frame);
/* Leads a vector straight to a handler that saves what it uses and ends with IRETQ. */
void vector_set(unsigned vector, void (*handler)(void));

/* A piece of assembly that may fault: where it does, it goes on behind, and `fault` says how. */
#define PROBE(text)                                                                                \
    "movq $-1, fault\n\tmovq $77f, resume\n\t" text "\n77:\tmovq $0, resume\n\t"

/* The vector that `text` raised, or NO_FAULT. Changes no register but by `text`. */
#define FAULT_OF(text, ...)                                                                        \
    ({                                                                                             \
        __asm__ volatile(PROBE(text)__VA_ARGS__);                                                  \
        fault.vector;                                                                              \
    })

/* --- further CPUs, in x2APIC mode --- */

#define MAX_CPUS 16
/* Starts CPUs 1 to count - 1; each calls the function. The boot CPU is number 0. */
void cpus_start(unsigned count, void (*function)(unsigned cpu));
/* Descriptor tables of a CPU. */
void traps_load(unsigned cpu);
static inline unsigned cpu_number(void) {
    unsigned number;
    __asm__ volatile("movl %%gs:0, %0" : "=r"(number));
    return number;
}

/* --- memory --- */

/* 512 pages of 4 KiB that can be mapped to anything. */
#define WINDOW      0x10000000000ull
#define PTE_PRESENT 1ull
#define PTE_WRITE   2ull
#define PTE_USER    4ull
#define PTE_UNCACHED 0x18ull
void *window(unsigned index, u64 entry);

/* --- the local APIC, in x2APIC mode --- */

enum {
    APIC_ID = 0x802,
    APIC_VERSION = 0x803,
    APIC_TPR = 0x808,
    APIC_PPR = 0x80a,
    APIC_EOI = 0x80b,
    APIC_LDR = 0x80d,
    APIC_SPURIOUS = 0x80f,
    APIC_ISR = 0x810,
    APIC_TMR = 0x818,
    APIC_IRR = 0x820,
    APIC_ERROR = 0x828,
    APIC_ICR = 0x830,
    APIC_LVT_TIMER = 0x832,
    APIC_LVT_LINT0 = 0x835,
    APIC_INITIAL_COUNT = 0x838,
    APIC_CURRENT_COUNT = 0x839,
    APIC_DIVIDE = 0x83e,
    APIC_SELF_IPI = 0x83f,
};
#define MSR_APIC_BASE    0x1b
#define APIC_BASE_BSP    0x100ull
#define APIC_BASE_X2APIC 0x400ull
#define APIC_BASE_ENABLE 0x800ull
#define MSR_TSC          0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_EFER         0xc0000080
#define TIMER_PERIODIC   (1u << 17)
#define TIMER_DEADLINE   (2u << 17)
/* Switches it on, to x2APIC mode, and masks the PIC's line. */
void apic_enable(void);
u64 tsc_hz(void);

/* --- instructions --- */

struct cpuid {
    u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf) {
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

/* Whose hypercalls and instructions for hypervisors the CPU has. */
static inline bool on_amd(void) { return cpuid(0, 0).ebx == 0x68747541; } /* "Auth" */

static inline u64 hypercall(u64 number) {
    u64 result = number, a = 0, b = 0, c = 0;
    if (on_amd())
        __asm__ volatile("vmmcall" : "+a"(result), "+D"(a), "+S"(b), "+d"(c) : : "memory");
    else
        __asm__ volatile("vmcall" : "+a"(result), "+D"(a), "+S"(b), "+d"(c) : : "memory");
    return result;
}

static inline u64 rdtsc(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

static inline u64 rdmsr(u32 msr) {
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value) {
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* The vector that the access raised, or NO_FAULT. */
static inline u64 try_rdmsr(u32 msr, u64 *value) {
    u32 low = 0, high = 0;
    __asm__ volatile(PROBE("rdmsr") : "+a"(low), "+d"(high) : "c"(msr) : "memory");
    *value = (u64)high << 32 | low;
    return fault.vector;
}

static inline u64 try_wrmsr(u32 msr, u64 value) {
    __asm__ volatile(PROBE("wrmsr")::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
    return fault.vector;
}

static inline u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u16 in16(u16 port) {
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u32 in32(u16 port) {
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out8(u16 port, u8 value) {
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void out16(u16 port, u16 value) {
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}

static inline void out32(u16 port, u32 value) {
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

/* The vector that calling code there raised, or NO_FAULT if it has returned. */
static inline u64 try_call(const volatile void *to) {
    __asm__ volatile("mov %%rsp, %%rbx\n\t" PROBE("call *%0") "mov %%rbx, %%rsp"
                     ::"r"(to)
                     : "rax", "rbx", "memory");
    return fault.vector;
}

#define CONTROL_REGISTER(n)                                                                        \
    static inline u64 read_cr##n(void) {                                                           \
        u64 value;                                                                                 \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value)::"memory");                            \
        return value;                                                                              \
    }                                                                                              \
    static inline u64 try_cr##n(u64 value) {                                                       \
        __asm__ volatile(PROBE("mov %0, %%cr" #n)::"r"(value) : "memory");                         \
        return fault.vector;                                                                       \
    }
CONTROL_REGISTER(0)
CONTROL_REGISTER(2)
CONTROL_REGISTER(3)
CONTROL_REGISTER(4)
CONTROL_REGISTER(8)

static inline void interrupts_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void interrupts_off(void) { __asm__ volatile("cli" ::: "memory"); }
/* Waits for one interrupt; it has been handled, and interrupts are off, when this returns. */
static inline void wait_interrupt(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }
