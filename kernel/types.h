/* Integer names, the three address types, and the attributes that every kernel file uses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

/* Host-physical and guest-physical addresses do not mix; host-virtual addresses are C pointers. */
struct hpa {
    u64 v;
};
struct gpa {
    u64 v;
};

static inline struct hpa hpa(u64 v) { return (struct hpa){v}; }
static inline struct gpa gpa(u64 v) { return (struct gpa){v}; }

#define MUST_USE      __attribute__((warn_unused_result))
#define NORETURN      __attribute__((noreturn))
#define PACKED        __attribute__((packed))
#define NOINLINE      __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define ALIGNED(n)    __attribute__((aligned(n)))
#define COLD          __attribute__((cold, noinline))
#define SECTION(name) __attribute__((section(name)))
#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Between CPUs: a store is seen after all before it, a load before all behind it; the others are
   full fences. atomic_replace: if it is still *old, which else tells what it is; true: replaced. */
#define atomic_load(pointer)         __atomic_load_n(pointer, __ATOMIC_ACQUIRE)
#define atomic_store(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)
#define atomic_set(pointer, value)   __atomic_store_n(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_swap(pointer, value)  __atomic_exchange_n(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_or(pointer, bits)     __atomic_fetch_or(pointer, bits, __ATOMIC_SEQ_CST)
#define atomic_and(pointer, bits)    __atomic_fetch_and(pointer, bits, __ATOMIC_SEQ_CST)
#define atomic_add(pointer, value)   __atomic_fetch_add(pointer, value, __ATOMIC_SEQ_CST)
#define atomic_replace(pointer, old, value)                                                        \
    __atomic_compare_exchange_n(pointer, old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#define KIB        (1024ul)
#define MIB        (1024ul * KIB)
#define GIB        (1024ul * MIB)
#define PAGE_SHIFT 12

/* Freestanding C still calls these. */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
