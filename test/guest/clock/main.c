/* The paravirtual clock of KVM's ABI: what the MSRs put into memory, and addresses where nothing is. */
#include "guest.h"

const char title[] = "clock";

#define MSR_WALL   0x4b564d00
#define MSR_TIME   0x4b564d01
#define MSR_STEAL  0x4b564d03
#define SIGNATURE  0x40000100
#define NEEDED     (1u << 3 | 1u << 5 | 1u << 24)
#define SECOND     1000000000ull

struct time_info {
    u32 version, pad;
    u64 timestamp, system_time;
    u32 multiplier;
    signed char shift;
    u8 flags, pad2[2];
};
struct wall_clock {
    u32 version, seconds, nanoseconds;
};
struct steal_time {
    u64 steal;
    u32 version, flags;
    u8 preempted, pad[47];
};

static volatile struct time_info info __attribute__((aligned(64)));
static volatile struct wall_clock wall __attribute__((aligned(64)));
static volatile struct steal_time steal __attribute__((aligned(64)));

static u64 nanoseconds(u64 tsc) {
    u64 delta = tsc - info.timestamp;
    delta = info.shift >= 0 ? delta << info.shift : delta >> -info.shift;
    return info.system_time + (u64)((unsigned __int128)delta * info.multiplier >> 32);
}

static u64 expected(u64 tsc) { return tsc / tsc_hz() * SECOND + tsc % tsc_hz() * SECOND / tsc_hz(); }

static u8 bcd(u8 reg) {
    out8(0x70, reg);
    u8 value = in8(0x71);
    return (u8)(value / 16 * 10 + value % 16);
}

static void check_time(void) {
    u64 tsc = rdtsc(), want = expected(tsc);
    CHECK_EQUAL(try_wrmsr(MSR_TIME, (u64)&info | 1), NO_FAULT);
    CHECK_EQUAL(rdmsr(MSR_TIME), (u64)&info | 1);
    CHECK_EQUAL(info.version & 1, 0);
    CHECK(info.version != 0);
    CHECK_EQUAL(info.flags, 1);
    u64 got = nanoseconds(tsc);
    check(got <= want && want - got < 10000, "the clock is the TSC in nanoseconds");
    /* A TSC that is set does not change the time. */
    wrmsr(MSR_TSC, rdtsc() + 3 * tsc_hz());
    u64 later = nanoseconds(rdtsc());
    check(later > got && later - got < SECOND, "setting the TSC does not move the clock");
    wrmsr(MSR_TSC, rdtsc() - 3 * tsc_hz());
    check(nanoseconds(rdtsc()) >= later, "nor does it go back");
}

static void check_wall(void) {
    CHECK_EQUAL(try_wrmsr(MSR_WALL, (u64)&wall), NO_FAULT);
    CHECK_EQUAL(wall.version & 1, 0);
    u32 second = bcd(0), now = wall.seconds + (u32)(nanoseconds(rdtsc()) / SECOND);
    u32 ahead = (now % 60 + 60 - second) % 60;
    check(ahead <= 2, "the wall clock and the RTC agree");
    CHECK(wall.seconds > 946684800); /* the year 2000 */
}

static void check_steal(void) {
    CHECK_EQUAL(try_wrmsr(MSR_STEAL, (u64)&steal | 3), VECTOR_GP);
    CHECK_EQUAL(try_wrmsr(MSR_STEAL, (u64)&steal | 1), NO_FAULT);
    u64 start = rdtsc(), before, stolen;
    while (!steal.steal && rdtsc() - start < 10 * tsc_hz()) /* the neighbour runs too */
        ;
    for (before = steal.steal, start = rdtsc(); steal.steal == before && rdtsc() - start < 10 * tsc_hz();)
        CHECK_EQUAL(steal.version & 1, 0);
    stolen = steal.steal - before;
    print("stolen at once: %lu ns\n", stolen);
    check(stolen > 0 && stolen < expected(rdtsc() - start) + 1000, "time that others had is told");
    wrmsr(MSR_STEAL, 0);
    before = steal.steal;
    for (start = rdtsc(); rdtsc() - start < tsc_hz() / 10;)
        ;
    CHECK_EQUAL(steal.steal, before);
}

/* Addresses of nothing, of chips and of half a page: no harm to anybody. */
static void check_nowhere(void) {
    static const u64 nowhere[] = {0xfee00000,          0xfffffffffffff000, 1ull << 47, 0x7fffffffffc0,
                                  0xd0000000,          0xe0000,            1ull << 63, 0x100000000,
                                  0xffffffffffffffc0};
    for (unsigned i = 0; i < sizeof(nowhere) / sizeof(*nowhere); i++) {
        CHECK_EQUAL(try_wrmsr(MSR_TIME, nowhere[i] | 1), NO_FAULT);
        CHECK_EQUAL(try_wrmsr(MSR_WALL, nowhere[i]), NO_FAULT);
        CHECK_EQUAL(try_wrmsr(MSR_STEAL, nowhere[i] | 1), NO_FAULT);
        wrmsr(MSR_TSC, rdtsc());
    }
    CHECK_EQUAL(try_wrmsr(MSR_TIME, (memory_size - 16) | 1), NO_FAULT);
    wrmsr(MSR_TIME, 0);
    wrmsr(MSR_STEAL, 0);
}

void test_main(void) {
    struct cpuid features = cpuid(SIGNATURE + 1, 0);
    CHECK_EQUAL(cpuid(SIGNATURE, 0).ebx, 0x4b4d564b);
    CHECK_EQUAL(features.eax & NEEDED, NEEDED);
    check_time();
    check_wall();
    check_steal();
    check_nowhere();
}
