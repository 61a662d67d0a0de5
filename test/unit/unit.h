/* What every unit test uses: named checks, and a panic that a test can expect. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static unsigned unit_failures;
static jmp_buf unit_panic_return;
static bool unit_panic_expected;

/* Prints "ok NAME" or "FAIL NAME". */
static void check(bool passed, const char *name) {
    printf("%s %s\n", passed ? "ok" : "FAIL", name);
    unit_failures += !passed;
}

static int unit_result(void) {
    fflush(stdout);
    return unit_failures ? 1 : 0;
}

/* True if the statement panics. */
#define panics(statement)                                                                          \
    ({                                                                                             \
        volatile bool panicked_ = true;                                                            \
        unit_panic_expected = true;                                                                \
        if (!setjmp(unit_panic_return)) {                                                          \
            statement;                                                                             \
            panicked_ = false;                                                                     \
        }                                                                                          \
        unit_panic_expected = false;                                                               \
        panicked_;                                                                                 \
    })

void panic(const char *format, ...) {
    if (unit_panic_expected) longjmp(unit_panic_return, 1);
    va_list arguments;
    va_start(arguments, format);
    printf("FAIL panic: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(1);
}

/* A small generator with a fixed seed: failures repeat. */
static u64 unit_random_state = 88172645463325252ull;
static inline u64 unit_random(void) {
    unit_random_state ^= unit_random_state << 13;
    unit_random_state ^= unit_random_state >> 7;
    unit_random_state ^= unit_random_state << 17;
    return unit_random_state;
}
