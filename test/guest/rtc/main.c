/* The MC146818: its registers in both codes, the turn of a century, its three interrupts, CMOS
 * memory. */
#include "chips.h"

const char title[] = "rtc";

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR
};
#define CENTURY 0x32
#define REG_A   0x0a
#define REG_B   0x0b
#define REG_C   0x0c
#define REG_D   0x0d

#define SET      0x80
#define PERIODIC 0x40
#define ALARM    0x20
#define UPDATE   0x10
#define BINARY   0x04
#define HOURS_24 0x02

static volatile u32 interrupts;
static volatile u8 flags;

static void on_rtc(struct frame *frame) {
    (void)frame;
    interrupts++;
    flags = cmos_read(REG_C);
    pic_eoi(IRQ_RTC);
}

static void set(u8 mode, const u8 time[7]) {
    static const u8 fields[] = {SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY};
    cmos_write(REG_B, SET | mode);
    for (unsigned i = 0; i < 7; i++)
        cmos_write(fields[i], time[i]);
    cmos_write(REG_B, mode);
}

/* Waits for the next second; returns it. */
static u8 turn(void) {
    u8 mode = cmos_read(REG_B);
    cmos_read(REG_C);
    cmos_write(REG_B, mode | UPDATE);
    wait_interrupt();
    cmos_write(REG_B, mode);
    return cmos_read(SECONDS);
}

static void check_registers(void) {
    CHECK_EQUAL(cmos_read(REG_A) & 0x7f, 0x26);
    CHECK_EQUAL(cmos_read(REG_B), HOURS_24);
    CHECK_EQUAL(cmos_read(REG_D), 0x80);
    cmos_write(REG_D, 0);
    CHECK_EQUAL(cmos_read(REG_D), 0x80);
    cmos_write(0x40, 0x5a);
    cmos_write(0x7f, 0xa5);
    CHECK_EQUAL(cmos_read(0x40) << 8 | cmos_read(0x7f), 0x5aa5);
    CHECK_EQUAL(cmos_read(0x80 | 0x40), 0x5a); /* bit 7 is no address */
    CHECK(cmos_read(CENTURY) >= 0x20);
}

/* The last second of 1999, in all codes; SET makes the time stand still. */
static void check_turn(void) {
    set(HOURS_24, (const u8[]){0x58, 0x59, 0x23, 0x31, 0x12, 0x99, 0x19});
    CHECK_EQUAL(cmos_read(HOURS), 0x23);
    cmos_write(REG_B, HOURS_24 | BINARY);
    CHECK_EQUAL(cmos_read(HOURS) << 8 | cmos_read(MINUTES), 23 << 8 | 59);
    cmos_write(REG_B, 0);
    CHECK_EQUAL(cmos_read(HOURS), 0x91);
    cmos_write(REG_B, BINARY);
    CHECK_EQUAL(cmos_read(HOURS), 0x80 | 11);
    CHECK_EQUAL(cmos_read(WEEKDAY), 6); /* a Friday; Sunday is 1 */
    CHECK_EQUAL(turn(), 59);
    CHECK_EQUAL(turn(), 0);
    CHECK_EQUAL(cmos_read(HOURS), 12);
    CHECK_EQUAL(cmos_read(CENTURY) * 100 + cmos_read(YEAR), 2000);
    CHECK_EQUAL(cmos_read(MONTH) << 8 | cmos_read(DAY), 1 << 8 | 1);
    CHECK_EQUAL(cmos_read(WEEKDAY), 7);
    set(HOURS_24, (const u8[]){0x59, 0x59, 0x23, 0x28, 0x02, 0x24, 0x20});
    CHECK_EQUAL(turn(), 0);
    CHECK_EQUAL(cmos_read(MONTH) << 8 | cmos_read(DAY), 0x229); /* a leap year */
}

static void check_interrupts(void) {
    set(HOURS_24, (const u8[]){0x57, 0x59, 0x11, 0x01, 0x01, 0x25, 0x20});
    cmos_write(SECONDS_ALARM, 0x00);
    cmos_write(MINUTES_ALARM, 0xff); /* any */
    cmos_write(HOURS_ALARM, 0x12);
    cmos_read(REG_C);
    interrupts = 0;
    cmos_write(REG_B, HOURS_24 | ALARM);
    wait_interrupt();
    CHECK_EQUAL(interrupts, 1);
    CHECK_EQUAL(flags & (0x80 | ALARM), 0x80 | ALARM);
    CHECK_EQUAL(cmos_read(HOURS) << 8 | cmos_read(SECONDS), 0x1200);
    CHECK_EQUAL(cmos_read(REG_C) & (0x80 | ALARM | UPDATE), 0);
    cmos_write(REG_B, HOURS_24 | UPDATE);
    u8 before = cmos_read(SECONDS);
    wait_interrupt();
    CHECK_EQUAL(flags & (0x80 | UPDATE), 0x80 | UPDATE);
    CHECK(cmos_read(SECONDS) != before);
    cmos_write(REG_B, HOURS_24);

    cmos_write(REG_A, 0x2a); /* 64 times a second */
    interrupts = 0;
    cmos_write(REG_B, HOURS_24 | PERIODIC);
    u64 began = rdtsc();
    while (interrupts < 16) {
        wait_interrupt();
        CHECK_EQUAL(flags & (0x80 | PERIODIC), 0x80 | PERIODIC);
    }
    CHECK(rdtsc() - began >= tsc_hz() * 15 / 64);
    cmos_write(REG_B, HOURS_24);
    cmos_write(REG_A, 0x26);
    cmos_read(REG_C);
    interrupts = 0;
    interrupts_on();
    for (u64 end = rdtsc() + tsc_hz() / 20; rdtsc() < end;)
        ;
    interrupts_off();
    CHECK_EQUAL(interrupts, 0);
}

/* Register C tells what has been, whether or not it may interrupt. */
static void check_polling(void) {
    cmos_read(REG_C);
    CHECK(COMES_TRUE(cmos_read(REG_C) & UPDATE));
    CHECK(COMES_TRUE(cmos_read(REG_C) & PERIODIC));
}

void test_main(void) {
    handlers[PIC_VECTOR + IRQ_RTC] = on_rtc;
    pic_start(1 << IRQ_RTC);
    check_registers();
    check_turn();
    check_interrupts();
    check_polling();
}
