/* The kernel log and its outputs. */
#include "log.h"

#include "cpu.h"
#include "serial.h"
#include "time.h"
#include "x86.h"

#define PORT_E9 0xe9

static char ring[LOG_RING_SIZE];
static u64 written; /* bytes ever; the ring holds the last LOG_RING_SIZE of them */
static bool serial_owned = true;

static void put(char c) {
    ring[written++ % LOG_RING_SIZE] = c;
    outb(PORT_E9, (u8)c);
    screen_put(c);
    if (serial_owned) {
        if (c == '\n') serial_put('\r');
        serial_put(c);
    }
}

void log_init(void) { serial_init(); }

void log_screen_set(const struct screen *screen, void *memory) {
    screen_set(screen, memory);
    for (u64 i = written > LOG_RING_SIZE ? written - LOG_RING_SIZE : 0; i < written; i++)
        screen_put(ring[i % LOG_RING_SIZE]);
}

void log_write(const char *text, unsigned length) {
    while (length--)
        put(*text++);
}

/* Text may come from a guest's component: only what a terminal shows passes. */
static void line_write(const char *text) {
    for (; *text; text++)
        put(*text >= ' ' && *text <= '~' ? *text : '?');
    put('\n');
}

static void line_format(const char *format, va_list arguments) {
    static bool busy; /* one line at a time; a panic waits for nobody */
    char line[256];
    unsigned at = 0;
    if (tsc_hz) {
        u64 ms = time_ms(rdtsc());
        at = text_format(line, sizeof(line), "[%u.%03u] ", (u32)(ms / 1000), (u32)(ms % 1000));
    }
    text_format_list(line + at, sizeof(line) - at, format, arguments);
    while (atomic_swap(&busy, true) && !panicking)
        cpu_pause();
    line_write(line);
    atomic_store(&busy, false);
}

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line_format(format, arguments);
    va_end(arguments);
}

bool log_permit(struct log_limit *limit, u32 amount, u32 most) {
    u64 now = rdtsc();
    if (now - limit->since > tsc_hz) {
        u32 dropped = limit->dropped;
        *limit = (struct log_limit){.since = now, .dropped_ever = limit->dropped_ever};
        if (dropped) log_info("(%u lines like the next left out)", dropped);
    }
    if (amount <= most - limit->used) {
        limit->used += amount;
        return true;
    }
    limit->dropped++;
    limit->dropped_ever++;
    return false;
}

u64 log_position(void) { return written; }

unsigned log_read(u64 *position, char *to, unsigned max) {
    u64 oldest = written > LOG_RING_SIZE ? written - LOG_RING_SIZE : 0;
    if (*position < oldest || *position > written) *position = oldest;
    unsigned n = 0;
    for (; n < max && *position < written; n++)
        to[n] = ring[(*position)++ % LOG_RING_SIZE];
    return n;
}

void log_serial_release(void) { serial_owned = false; }

void log_serial_reclaim(void) {
    if (serial_owned) return;
    serial_init();
    serial_owned = true;
    put('\n');
}

void refuse(const char *format, ...) {
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    text_format_list(text, sizeof(text), format, arguments);
    va_end(arguments);
    log_info("Plinth cannot run here: %s", text);
    for (;;)
        cpu_halt();
}
