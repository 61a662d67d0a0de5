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
#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define KIB        (1024ul)
#define MIB        (1024ul * KIB)
#define GIB        (1024ul * MIB)
#define PAGE_SHIFT 12

/* Freestanding C still calls these. */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);
