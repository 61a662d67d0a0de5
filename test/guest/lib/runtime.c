/* Starts a test, prints for it, counts its checks and ends its VM. */
#include <stdarg.h>

#include "guest.h"

#define COM1            0x3f8
#define COM1_STATUS     (COM1 + 5)
#define TRANSMITTER_FREE 0x20
#define PM1_CONTROL     0x604
#define SLEEP_S5        (5 << 10 | 1 << 13)

#define BOOT_E820_ENTRIES 0x1e8
#define BOOT_CMDLINE      0x228
#define BOOT_E820         0x2d0
#define E820_SIZE         20
#define E820_RAM          1

const char *command_line;
u64 memory_size;
static u32 checks, failures;

static void put(char c) {
    while (!(in8(COM1_STATUS) & TRANSMITTER_FREE))
        ;
    out8(COM1, (u8)c);
}

static void put_number(u64 value, u64 base) {
    char digits[24];
    unsigned n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        put(digits[--n]);
}

void print(const char *format, ...) {
    va_list list;
    va_start(list, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        bool wide = *++format == 'l';
        format += wide;
        if (*format == 's')
            for (const char *s = va_arg(list, const char *); *s; s++)
                put(*s);
        else
            put_number(wide ? va_arg(list, u64) : va_arg(list, u32), *format == 'x' ? 16 : 10);
    }
    va_end(list);
}

void check(bool ok, const char *what) {
    checks++;
    if (ok)
        return;
    failures++;
    print("failed: %s\n", what);
}

void check_equal(u64 actual, u64 expected, const char *what) {
    checks++;
    if (actual == expected)
        return;
    failures++;
    print("failed: %s is 0x%lx, not 0x%lx\n", what, actual, expected);
}

void skip(const char *why) {
    print("result: skip: %s\n", why);
    power_off();
}

void error(const char *why) {
    print("result: error: %s\n", why);
    power_off();
}

void power_off(void) {
    out16(PM1_CONTROL, SLEEP_S5);
    for (;;)
        __asm__ volatile("cli; hlt");
}

u64 median(u64 *samples, unsigned count) {
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = i; j > 0 && samples[j] < samples[j - 1]; j--) {
            u64 swap = samples[j];
            samples[j] = samples[j - 1];
            samples[j - 1] = swap;
        }
    return samples[count / 2];
}

static bool starts(const char *text, const char *word) {
    while (*word && *text == *word)
        text++, word++;
    return !*word;
}

static const char *find_word(const char *word) {
    for (const char *at = command_line; *at; at++)
        if ((at == command_line || at[-1] == ' ') && starts(at, word))
            return at;
    return NULL;
}

bool has_word(const char *word) { return find_word(word) != NULL; }

bool cpu_has(const char *what) {
    if (!has_word("tcg"))
        return true;
    print("skipped: QEMU's emulator has no %s\n", what);
    return false;
}

u64 word_value(const char *name) {
    const char *at = find_word(name);
    u64 value = 0;
    while (at && *at && *at != '=')
        at++;
    for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (u64)(*at - '0');
    return value;
}

void traps_init(void);

void guest_start(const u8 *boot_params) {
    command_line = (const char *)(u64)*(const u32 *)(boot_params + BOOT_CMDLINE);
    for (unsigned i = 0; i < boot_params[BOOT_E820_ENTRIES]; i++) {
        const u8 *entry = boot_params + BOOT_E820 + i * E820_SIZE;
        if (*(const u32 *)(entry + 16) == E820_RAM)
            memory_size = *(const u64 *)entry + *(const u64 *)(entry + 8);
    }
    traps_init();
    print("guest: %s\n", title);
    test_main();
    if (failures)
        print("result: failure: %u of %u checks\n", failures, checks);
    else if (checks == 0)
        print("result: error: it checked nothing\n");
    else
        print("result: success: %u checks\n", checks);
    power_off();
}
