/* The 8254: its counts against the TSC, latches, modes 0, 2, 3 with interrupts, channel 2's gate
 * and output. */
#include "chips.h"

const char title[] = "pit";

#define PIT_HZ  1193182ull
#define CONTROL 0x43
#define SPEAKER 0x61
#define GATE    0x01
#define OUTPUT  0x20
#define PERIOD  11932 /* 10 ms */

static volatile u32 ticks;

static void on_tick(struct frame *frame) {
    (void)frame;
    ticks++;
    pic_eoi(IRQ_TIMER);
}

static void load(unsigned channel, u8 mode, u16 count) {
    out8(CONTROL, (u8)(channel << 6 | 0x30 | mode << 1));
    out8((u16)(0x40 + channel), (u8)count);
    out8((u16)(0x40 + channel), (u8)(count >> 8));
}

static u16 read(unsigned channel) {
    u8 low = in8((u16)(0x40 + channel));
    return (u16)(low | in8((u16)(0x40 + channel)) << 8);
}

static u16 latch(unsigned channel) {
    out8(CONTROL, (u8)(channel << 6));
    return read(channel);
}

/* Status of a channel by read-back: output, null count, access, mode. */
static u8 status(unsigned channel) {
    out8(CONTROL, (u8)(0xe0 | 2 << channel));
    return in8((u16)(0x40 + channel));
}

static u64 in_pit(u64 tsc) { return tsc * PIT_HZ / tsc_hz(); }

static void wait(u64 milliseconds) {
    u64 end = rdtsc() + milliseconds * tsc_hz() / 1000;
    while (rdtsc() < end)
        ;
}

static void check_count(void) {
    load(0, 2, 0); /* 65,536 */
    CHECK_EQUAL(status(0) & 0x7f, 0x34);
    u64 first = rdtsc();
    u16 from = latch(0);
    u64 second = rdtsc();
    wait(20);
    u64 third = rdtsc();
    u16 to = latch(0);
    u64 fourth = rdtsc();
    u16 passed = (u16)(from - to);
    CHECK(passed + 2u >= in_pit(third - second));
    CHECK(passed <= in_pit(fourth - first) + 2);
}

/* What is latched stays until it is read; a second latch is ignored; status comes before the count.
 */
static void check_latch(void) {
    load(0, 2, 60000);
    out8(CONTROL, 0);
    wait(1);
    out8(CONTROL, 0);
    u16 latched = read(0), now = latch(0);
    CHECK(latched > now + PIT_HZ / 1000);
    out8(CONTROL, 0xc2);
    CHECK_EQUAL(in8(0x40) & 0x3f, 0x34);
    u16 count = read(0);
    CHECK(count <= now && count > 0);
    out8(CONTROL, 0x10); /* the low byte only */
    CHECK_EQUAL(status(0) & 0x7f, 0x50);
    out8(0x40, 200);
    CHECK_EQUAL(status(0) & 0x7f, 0x10);
}

static void check_one_shot(void) {
    ticks = 0;
    u64 began = rdtsc();
    load(0, 0, PERIOD);
    CHECK_EQUAL(status(0) & 0x80, 0);
    wait_interrupt();
    CHECK(in_pit(rdtsc() - began) >= PERIOD - 1);
    CHECK_EQUAL(ticks, 1);
    CHECK_EQUAL(status(0) & 0x80, 0x80);
    interrupts_on();
    wait(50);
    interrupts_off();
    CHECK_EQUAL(ticks, 1); /* and no more */
}

static void check_periodic(u8 mode) {
    load(0, mode, PERIOD);
    ticks = 0;
    u64 began = rdtsc();
    while (ticks < 10)
        wait_interrupt();
    CHECK(in_pit(rdtsc() - began) >= 9 * PERIOD);
    out8(CONTROL, 0x30); /* mode 0 without a count: silence */
    ticks = 0;
    interrupts_on();
    wait(30);
    interrupts_off();
    CHECK_EQUAL(ticks, 0);
}

static u8 output(void) { return in8(SPEAKER) & OUTPUT; }

/* Mode 0 counts while the gate is up; mode 1 waits for it to rise. */
static void check_gate(void) {
    out8(SPEAKER, GATE);
    CHECK_EQUAL(in8(SPEAKER) & 3, GATE);
    u64 began = rdtsc();
    load(2, 0, PERIOD);
    CHECK_EQUAL(output(), 0);
    CHECK(COMES_TRUE(output()));
    CHECK(in_pit(rdtsc() - began) >= PERIOD - 1);
    load(2, 0, PERIOD);
    out8(SPEAKER, 0);
    u16 stopped = latch(2);
    wait(20);
    CHECK_EQUAL(latch(2), stopped);
    CHECK_EQUAL(output(), 0);
    out8(SPEAKER, GATE);
    CHECK(COMES_TRUE(output()));

    out8(SPEAKER, 0);
    load(2, 1, PERIOD);
    wait(20);
    CHECK_EQUAL(output(), OUTPUT);
    out8(SPEAKER, GATE);
    CHECK_EQUAL(output(), 0);
    CHECK(COMES_TRUE(output()));
    out8(SPEAKER, 0);
    load(2, 3, PERIOD);
    CHECK_EQUAL(output(), OUTPUT); /* without a gate it is high */
    out8(SPEAKER, GATE);
    CHECK(COMES_TRUE(!output()));
    CHECK(COMES_TRUE(output()));
    out8(SPEAKER, 0);
}

void test_main(void) {
    handlers[PIC_VECTOR + IRQ_TIMER] = on_tick;
    pic_start(0);
    check_count();
    check_latch();
    load(0, 0, 1); /* its output is low from now on */
    pic_start(1 << IRQ_TIMER);
    open_window();
    check_one_shot();
    check_periodic(2);
    check_periodic(3);
    check_gate();
}
