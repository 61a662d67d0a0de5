/* One inline function per instruction that C cannot say; nothing else in the kernel but the VT-x
   backend uses inline assembly. */
#pragma once

#include "types.h"

static inline u8 inb(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u16 inw(u16 port) {
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u32 inl(u16 port) {
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline void outb(u16 port, u8 value) {
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline void outw(u16 port, u16 value) {
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
static inline void outl(u16 port, u32 value) {
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline u64 rdmsr(u32 msr) {
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (u64)high << 32 | low;
}
static inline void wrmsr(u32 msr, u64 value) {
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

struct cpuid_regs {
    u32 eax, ebx, ecx, edx;
};
static inline struct cpuid_regs cpuid(u32 leaf, u32 subleaf) {
    struct cpuid_regs r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

static inline u64 rdtsc(void) {
    u64 low, high; /* the CPU clears the upper halves */
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return high << 32 | low;
}

/* False: the generator had nothing to give at this moment. */
static inline bool rdrand(u64 *value) {
    bool ok;
    __asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(ok));
    return ok;
}

#define CONTROL_REGISTER(n)                                                                        \
    static inline u64 read_cr##n(void) {                                                           \
        u64 value;                                                                                 \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");                         \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_cr##n(u64 value) {                                                    \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory");                             \
    }
CONTROL_REGISTER(0)
CONTROL_REGISTER(2)
CONTROL_REGISTER(3)
CONTROL_REGISTER(4)
#undef CONTROL_REGISTER

#define DEBUG_REGISTER(n)                                                                          \
    static inline u64 read_dr##n(void) {                                                           \
        u64 value;                                                                                 \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value));                                      \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_dr##n(u64 value) {                                                    \
        __asm__ volatile("mov %0, %%dr" #n : : "r"(value));                                        \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)
DEBUG_REGISTER(6)
#undef DEBUG_REGISTER

struct table_register {
    u16 limit;
    u64 base;
} PACKED;
static inline void lgdt(const struct table_register *r) { __asm__ volatile("lgdt %0" : : "m"(*r)); }
static inline void lidt(const struct table_register *r) { __asm__ volatile("lidt %0" : : "m"(*r)); }
static inline void ltr(u16 selector) { __asm__ volatile("ltr %0" : : "r"(selector) : "memory"); }

static inline void invlpg(const void *page) {
    __asm__ volatile("invlpg (%0)" : : "r"(page) : "memory");
}
/* Empties the CPU's buffers, where microcode makes it do that; the selector is readable. */
static inline void verw(const u16 *selector) {
    __asm__ volatile("verw %0" : : "m"(*selector) : "cc", "memory");
}
/* In a loop that waits for another CPU. */
static inline void cpu_pause(void) { __asm__ volatile("pause" : : : "memory"); }
/* Orders MSR writes behind what was written before. */
static inline void memory_fence(void) { __asm__ volatile("mfence" : : : "memory"); }
static inline void cpu_cli(void) { __asm__ volatile("cli" : : : "memory"); }
/* Waits for one interrupt, takes it, and returns with interrupts off. */
static inline void cpu_idle(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }
/* Takes the interrupts that are pending, and returns with interrupts off. */
static inline void cpu_take_interrupts(void) { __asm__ volatile("sti; nop; cli" : : : "memory"); }
static inline void cpu_halt(void) { __asm__ volatile("cli; hlt" : : : "memory"); }

/* XSETBV and the XSAVE family; the area is 64-byte aligned. */
static inline void xsetbv(u32 index, u64 value) {
    __asm__ volatile("xsetbv" : : "c"(index), "a"((u32)value), "d"((u32)(value >> 32)));
}
static inline u64 xgetbv(u32 index) {
    u32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return (u64)high << 32 | low;
}
static inline void xsave(void *area, u64 mask) {
    __asm__ volatile("xsave64 (%0)"
                     :
                     : "r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
                     : "memory");
}
static inline void xrstor(const void *area, u64 mask) {
    __asm__ volatile("xrstor64 (%0)"
                     :
                     : "r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
                     : "memory");
}

/* The VMX instructions; false: the CPU refused (CF or ZF). Addresses are physical. */
static ALWAYS_INLINE bool vmread(u64 encoding, u64 *value) {
    bool failed;
    __asm__ volatile("vmread %2, %0" : "=r"(*value), "=@ccbe"(failed) : "r"(encoding));
    return !failed;
}
static ALWAYS_INLINE bool vmwrite(u64 encoding, u64 value) {
    bool failed;
    __asm__ volatile("vmwrite %2, %1" : "=@ccbe"(failed) : "r"(encoding), "r"(value) : "memory");
    return !failed;
}
#define VMX_REGION(instruction)                                                                    \
    static inline bool instruction(const struct hpa *region) {                                     \
        bool failed;                                                                               \
        __asm__ volatile(#instruction " %1" : "=@ccbe"(failed) : "m"(region->v) : "memory");       \
        return !failed;                                                                            \
    }
VMX_REGION(vmxon)
VMX_REGION(vmclear)
VMX_REGION(vmptrld)
#undef VMX_REGION

#define VMX_SINGLE_CONTEXT 1ull
struct invalidation {
    u64 first, second;
};
#define VMX_INVALIDATE(instruction)                                                                \
    static inline bool instruction(u64 type, struct invalidation what) {                           \
        bool failed;                                                                               \
        __asm__ volatile(#instruction " %1, %2"                                                    \
                         : "=@ccbe"(failed)                                                        \
                         : "m"(what), "r"(type)                                                    \
                         : "memory");                                                              \
        return !failed;                                                                            \
    }
VMX_INVALIDATE(invept)
VMX_INVALIDATE(invvpid)
#undef VMX_INVALIDATE

/* The SVM instruction, of a physical address. */
static inline void vmsave(u64 address) {
    __asm__ volatile("vmsave %0" : : "a"(address) : "memory");
}

/* What an exit reported instead of delivering it. */
static inline void raise_machine_check(void) { __asm__ volatile("int $18" : : : "memory"); }
/* IRET to what follows: NMIs, which an exit by one has blocked, may come again. */
static inline void nmi_unblock(void) {
    __asm__ volatile("mov %%rsp, %%rcx\n\t"
                     "mov %%ss, %%eax\n\t"
                     "push %%rax\n\t"
                     "push %%rcx\n\t"
                     "pushfq\n\t"
                     "mov %%cs, %%eax\n\t"
                     "push %%rax\n\t"
                     "push $1f\n\t"
                     "iretq\n"
                     "1:"
                     :
                     :
                     : "rax", "rcx", "memory");
}
