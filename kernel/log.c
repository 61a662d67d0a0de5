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

#define SCREEN_COLUMNS   80
#define SCREEN_ROWS      25
#define SCREEN_ATTRIBUTE 0x0700 /* grey on black */
static volatile u16 *screen;
static unsigned screen_at;

static void screen_scroll(void) {
    unsigned last = SCREEN_COLUMNS * (SCREEN_ROWS - 1);
    for (unsigned i = 0; i < last; i++)
        screen[i] = screen[i + SCREEN_COLUMNS];
    for (unsigned i = last; i < last + SCREEN_COLUMNS; i++)
        screen[i] = SCREEN_ATTRIBUTE | ' ';
    screen_at = last;
}

static void screen_put(char c) {
    if (c == '\n')
        screen_at += SCREEN_COLUMNS - screen_at % SCREEN_COLUMNS;
    else if (c != '\r')
        screen[screen_at++] = SCREEN_ATTRIBUTE | (u8)c;
    if (screen_at >= SCREEN_COLUMNS * SCREEN_ROWS) screen_scroll();
}

static void put(char c) {
    ring[written++ % LOG_RING_SIZE] = c;
    outb(PORT_E9, (u8)c);
    if (screen) screen_put(c);
    if (serial_owned) {
        if (c == '\n') serial_put('\r');
        serial_put(c);
    }
}

void log_init(void) { serial_init(); }

void log_screen_set(void *vga_text) {
    screen = vga_text;
    if (!screen) return;
    for (unsigned i = 0; i < SCREEN_COLUMNS * SCREEN_ROWS; i++)
        screen[i] = SCREEN_ATTRIBUTE | ' ';
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
    char line[256];
    unsigned at = 0;
    if (tsc_hz) {
        u64 ms = time_ms(rdtsc());
        at = text_format(line, sizeof(line), "[%u.%03u] ", (u32)(ms / 1000), (u32)(ms % 1000));
    }
    text_format_list(line + at, sizeof(line) - at, format, arguments);
    line_write(line);
}

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line_format(format, arguments);
    va_end(arguments);
}

bool log_permit(struct log_limit *limit, u32 burst) {
    u64 now = rdtsc();
    if (now - limit->since > tsc_hz) {
        u32 dropped = limit->dropped;
        *limit = (struct log_limit){.since = now};
        if (dropped) log_info("(%u lines like the next left out)", dropped);
    }
    if (limit->count++ < burst) return true;
    limit->dropped++;
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
