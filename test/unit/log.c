// with: kernel/text.c
/* The log's ring, and how much of it anybody may have. */
#include "unit.h"

#include "cpu.h"
#include "serial.h"
#include "time.h"
#include "x86.h"

static u64 clock;
u64 tsc_hz = 1000;
bool panicking;
#define rdtsc()    clock
#define outb(p, v) ((void)(p), (void)(v))
u64 time_ms(u64 tsc) { return tsc; }
void serial_init(void) {}
void serial_put(char c) { (void)c; }
void screen_put(char c) { (void)c; }
void screen_set(const struct screen *screen, void *memory) { (void)screen, (void)memory; }
#include "../../kernel/log.c"

static const char *text(void) {
    static char all[LOG_RING_SIZE + 1];
    u64 from = 0;
    all[log_read(&from, all, LOG_RING_SIZE)] = 0;
    return all;
}

static void test_limit(void) {
    struct log_limit limit = {0};
    clock = 5000;
    check(log_permit(&limit, 600, 1000) && !log_permit(&limit, 600, 1000),
          "as much as there is room for");
    check(log_permit(&limit, 400, 1000) && !log_permit(&limit, 1, 1000), "up to the last of it");
    check(!log_permit(&limit, ~0u, 1000), "and no amount wraps");
    clock += 1001;
    check(log_permit(&limit, 1000, 1000), "a second later there is room again");
    check(strstr(text(), "(3 lines like the next left out)"), "and it is said what was left out");
    check(limit.dropped_ever == 3, "which is counted for ever");
    clock += 1001;
    check(!log_permit(&limit, 1001, 1000) && limit.dropped_ever == 4, "more than that never goes");
}

static void test_ring(void) {
    for (unsigned i = 0; i < 1000; i++)
        log_info("line %u of many that do not all fit", i);
    check(strstr(text(), "line 999 of") && !strstr(text(), "line 1 of"), "the newest are kept");
    log_info("%s", "a\x1b[2J\x07z");
    check(strstr(text(), "a?[2J?z\n"), "what a terminal would obey does not pass");
}

int main(void) {
    test_limit();
    test_ring();
    return unit_result();
}
