/* The ACPI registers: the PM timer against the TSC, PM1 events and control. */
#include "chips.h"

const char title[] = "acpi";

#define PM1_STATUS   0x600
#define PM1_ENABLE   0x602
#define PM1_CONTROL  0x604
#define PM_TIMER     0x608
#define PM_HZ        3579545ull
#define POWER_BUTTON 0x100

static void check_timer(void) {
    u64 hz = tsc_hz();
    u64 first = rdtsc();
    u32 from = in32(PM_TIMER);
    u64 second = rdtsc();
    while (rdtsc() < second + hz / 20)
        ;
    u64 third = rdtsc();
    u32 passed = in32(PM_TIMER) - from;
    u64 fourth = rdtsc();
    CHECK((passed + 1) * hz >= (third - second) * PM_HZ);
    CHECK((passed - 1) * hz <= (fourth - first) * PM_HZ);
    for (unsigned i = 0; i < 1000; i++) {
        u32 next = in32(PM_TIMER);
        if (next - from > 0x7fffffff) check(false, "the timer runs backwards");
        from = next;
    }
    u32 before = in32(PM_TIMER);
    u16 high = in16(PM_TIMER + 2);
    CHECK(high == before >> 16 || high == (u16)((before >> 16) + 1));
}

static void check_pm1(void) {
    CHECK_EQUAL(in16(PM1_STATUS), 0);
    CHECK_EQUAL(in16(PM1_ENABLE), 0);
    CHECK_EQUAL(in16(PM1_CONTROL) & 1, 1); /* SCI_EN: ACPI is on */
    out16(PM1_ENABLE, POWER_BUTTON);
    CHECK_EQUAL(in16(PM1_ENABLE), POWER_BUTTON);
    CHECK_EQUAL(in32(PM1_STATUS), POWER_BUTTON << 16);
    CHECK_EQUAL(in8(PM1_ENABLE + 1), 1);
    out16(PM1_ENABLE, 0xffff);
    CHECK_EQUAL(in16(PM1_ENABLE) & ~0x4721, 0); /* reserved bits are zero */
    out16(PM1_ENABLE, 0);
    out16(PM1_STATUS, 0xffff);
    CHECK_EQUAL(in16(PM1_STATUS), 0);
    out16(PM1_CONTROL, 7 << 10); /* a sleep type alone does nothing */
    CHECK_EQUAL(in16(PM1_CONTROL) & (7 << 10 | 1), 7 << 10 | 1);
    out16(PM1_CONTROL, 3 << 10 | 1 << 13); /* a state that there is not */
    CHECK_EQUAL(in16(PM1_CONTROL) & 1 << 13, 0);
}

void test_main(void) {
    check_timer();
    check_pm1();
}
