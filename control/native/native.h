/* What the files of the component runtime share: addresses, hypercalls, memory and traps. */
#pragma once

#include "abi.h"

/* Linear memory: byte n of it is at LINEAR_BASE + n; nothing else is in this PML4 slot. */
#define LINEAR_BASE 0x100000000000ull
/* Everything below is mapped at its guest-physical address. */
#define GPA_LIMIT (512 * GIB)

#define COMM ((char *)(uintptr_t)GPA_COMM)
#define INFO ((const volatile struct info *)(uintptr_t)GPA_INFO)

/* The instruction that this CPU has for it. */
#define HYPERCALL(...)                                                                             \
    do {                                                                                           \
        if (likely(!(INFO->features & FEATURE_AMD_V)))                                             \
            __asm__ volatile("vmcall" : __VA_ARGS__);                                              \
        else                                                                                       \
            __asm__ volatile("vmmcall" : __VA_ARGS__);                                             \
    } while (0)

/* Returns the value, or the negated Status. */
static inline i64 hypercall(u64 nr, u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5) {
    register u64 r10 __asm__("r10") = a3;
    register u64 r8 __asm__("r8") = a4;
    register u64 r9 __asm__("r9") = a5;
    HYPERCALL("+a"(nr), "+d"(a2) : "D"(a0), "S"(a1), "r"(r10), "r"(r8), "r"(r9) : "memory", "cc");
    return unlikely(nr != STATUS_OK) ? -(i64)nr : (i64)a2;
}

/* The same for calls with at most one argument. */
static inline i64 hypercall1(u64 nr, u64 a0) {
    u64 value;
    HYPERCALL("+a"(nr), "=d"(value) : "D"(a0) : "memory", "cc");
    return unlikely(nr != STATUS_OK) ? -(i64)nr : (i64)value;
}

/* memory.c */
void linear_init(void);
bool memory_exhausted(void); /* the last growth of linear memory failed */

/* trap.c: each ends the component. */
struct trap_frame {
    u64 vector, error, rip, cs, rflags, rsp, ss;
};
NORETURN COLD void trap_exception(const struct trap_frame *frame, u64 rbp, u64 cr2);
NORETURN COLD void trap_abort(const u16 *message, u32 message_length, const u16 *file,
                              u32 file_length, u32 line, u32 column);
NORETURN COLD void trap_text(const char *text, u64 value);
