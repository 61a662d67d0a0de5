/* The kernel log: a ring in memory that the control domain reads, copied to port 0xE9, to the
 * screen, and to COM1 until the control domain owns it. */
#pragma once

#include <stdarg.h>

#include "screen.h"
#include "types.h"

#define LOG_RING_SIZE (16 * KIB)

/* %s %d %u %x and %%, with l, a width, `0` and `-`. Always terminates `to`; returns the length
 * written. */
unsigned text_format(char *to, unsigned size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
unsigned text_format_list(char *to, unsigned size, const char *format, va_list arguments);

void log_init(void); /* before anything else: programs COM1 */
void log_screen_set(const struct screen *screen, void *memory); /* shows the log so far */

void log_write(const char *text, unsigned length);
/* One line; the time in milliseconds goes before it and a newline behind it. */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether there is room for `amount` more, of `most` a second; says how many times there was none.
 */
struct log_limit {
    u64 since;
    u32 used, dropped;
    u64 dropped_ever;
};
MUST_USE bool log_permit(struct log_limit *limit, u32 amount, u32 most);
/* log_info at most ten times a second for each call site. */
#define log_limited(...)                                                                           \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        if (log_permit(&limit_, 1, 10)) log_info(__VA_ARGS__);                                     \
    } while (0)

/* Bytes ever written. */
u64 log_position(void);
/* Copies from *position on, which it first moves to the oldest byte that is kept, and then past
   what it copied; returns the length. */
unsigned log_read(u64 *position, char *to, unsigned max);

/* From here on the control domain owns COM1; a panic takes it back. */
void log_serial_release(void);
void log_serial_reclaim(void);

struct trap_frame;
/* The kernel is wrong: says so on every output, with a backtrace, and stops this CPU. */
NORETURN COLD void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));
NORETURN COLD void panic_trap(const struct trap_frame *frame, const char *what);
extern bool panicking; /* a CPU has stopped the kernel; the others follow at their next NMI */
/* The machine is wrong: one line on every output, and stop. */
NORETURN COLD void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define assert(condition)                                                                          \
    do {                                                                                           \
        if (unlikely(!(condition))) panic("%s:%d: %s", __FILE__, __LINE__, #condition);            \
    } while (0)
