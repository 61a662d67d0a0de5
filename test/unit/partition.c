// with:
/* Classes of service: what the CPU has of them, what is asked of it, and who runs in which. */
#include "control.h"

enum { DRIVER_A = 100, DRIVER_B, MEMORY_A, MEMORY_B, RUN_A, RUN_B };

static void make(u64 domain, u64 memory, u64 run, u64 tenant) {
    bool ok = call(HC_DOMAIN_CREATE, domain, ROLE_DRIVER, 100, 64, tenant) == STATUS_OK;
    ok &= call(HC_MEM_CREATE, memory, 20) == STATUS_OK;
    ok &= call(HC_MEM_MAP, domain, memory, GPA_RAM, 0, 20, RIGHT_READ | RIGHT_WRITE) == STATUS_OK;
    ok &= call(HC_VCPU_CREATE, run, domain, 0, 0) == STATUS_OK;
    check(ok, "a component of a tenant");
    (void)call(HC_VCPU_START, run);
}

static u32 set(u64 tenant, u64 service, u64 ways, u64 delay) {
    to_control();
    return call(HC_PARTITION, tenant, service, ways, delay);
}

/* Lets others run until this domain is entered on this CPU. */
static bool runs(u64 slot) {
    const struct domain *domain = domain_in(slot);
    for (unsigned i = 0; i < 100 && entered->domain != domain; i++)
        (void)call(HC_WAIT);
    return entered->domain == domain;
}

static void test_nothing(void) {
    check(set(1, 0, 0, 0) == STATUS_BAD_ARGUMENT && set(1, 1, 1, 0) == STATUS_BAD_ARGUMENT &&
              set(1, 1, 0, 10) == STATUS_BAD_ARGUMENT && !partitions_used,
          "a CPU without classes of service has none to set");
    host_ways = 11;
    check(set(1, 1, 1, 10) == STATUS_BAD_ARGUMENT && set(1, 1, 1, 0) == STATUS_OK &&
              set(1, 0, 0x7ff, 0) == STATUS_OK,
          "one with caches only");
    host_ways = 0, host_delay = 90;
    check(set(1, 1, 1, 10) == STATUS_BAD_ARGUMENT && set(1, 1, 0, 10) == STATUS_OK &&
              set(1, 8, 0, 10) == STATUS_BAD_ARGUMENT && set(1, 0, 0, 0) == STATUS_OK,
          "one with bandwidth only");
    host_ways = 11;
}

static void test_arguments(void) {
    static const u64 wrong[][4] = {
        {TENANTS, 1, 1, 0}, {~0ull, 1, 1, 0}, {1, 8, 1, 0},     {1, 256, 1, 0},
        {1, 1ull << 32, 1}, {1, ~0ull, 1, 0}, {1, 1, 0, 0},     {1, 1, 0x800, 0},
        {1, 1, 5, 0},       {1, 1, 0x401, 0}, {1, 1, ~0ull, 0}, {1, 1, 1ull << 63, 0},
        {1, 1, 1ull << 32}, {1, 1, 1, 91},    {1, 1, 1, ~0ull}, {1, 1, 1, 1ull << 32},
    };
    memset(host_masks, 0, sizeof(host_masks));
    bool refused = true, written = false;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        refused &= set(wrong[i][0], wrong[i][1], wrong[i][2], wrong[i][3]) == STATUS_BAD_ARGUMENT;
    for (unsigned i = 0; i < 16; i++)
        written |= host_masks[0][i];
    check(refused && !written, "what the CPU would fault at is refused, and nothing is written");
    check(set(1, 7, 0x7ff, 90) == STATUS_OK && host_masks[0][7] == 0x7ff && host_delays[0][7] == 90,
          "the last class, the whole cache, the longest delay");
    check(set(1, 0, 0x7ff, 0) == STATUS_OK, "back to the class of all");
}

static void test_switches(void) {
    to_control();
    make(DRIVER_A, MEMORY_A, RUN_A, 1);
    make(DRIVER_B, MEMORY_B, RUN_B, 2);
    check(set(1, 1, 0x700, 0) == STATUS_OK && set(2, 2, 0x0c0, 50) == STATUS_OK &&
              set(0, 0, 0x03f, 0) == STATUS_OK,
          "two tenants and the rest");
    check(host_masks[0][1] == 0x700 && host_masks[0][2] == 0xc0 && host_masks[0][0] == 0x3f,
          "have parts of their own");
    bool right = true;
    for (unsigned i = 0; i < 5; i++) {
        domain_signal(domain_in(DRIVER_A), 1ull << 40);
        right &= runs(DRIVER_A) && host_association[now] == 1;
        domain_signal(domain_in(DRIVER_B), 1ull << 40);
        right &= runs(DRIVER_B) && host_association[now] == 2;
        to_control();
        right &= host_association[now] == 0;
    }
    check(right, "each runs in its class, and the control domain in that of all");
    check(set(2, 1, 0x700, 0) == STATUS_OK, "one class for two");
    domain_signal(domain_in(DRIVER_A), 1ull << 40);
    right = runs(DRIVER_A);
    domain_signal(domain_in(DRIVER_B), 1ull << 40);
    right &= runs(DRIVER_B) && host_association[now] == 1;
    to_control();
    check(right, "both run in it");
    check(set(0, 3, 0x00f, 0) == STATUS_OK && host_association[now] == 3,
          "who runs has its new class at once");
    check(set(0, 0, 0x7ff, 0) == STATUS_OK && host_association[now] == 0, "and the old one again");
    (void)call(HC_DOMAIN_DESTROY, DRIVER_A);
    (void)call(HC_DOMAIN_DESTROY, DRIVER_B);
    (void)call(HC_CAP_DROP, MEMORY_A);
    (void)call(HC_CAP_DROP, MEMORY_B);
    sound("sound with classes of service");
}

int main(void) {
    machine_start();
    fixed = fixed_frames();
    test_nothing();
    test_arguments();
    test_switches();
    return unit_result();
}
