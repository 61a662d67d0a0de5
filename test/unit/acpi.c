// with:
/* ACPI tables: a machine's, broken ones, and damage at every byte of the MADT. */
#include "unit.h"

#include "../../kernel/acpi.c"

#define ARENA_SIZE 0x10000u
#define XSDT       0x1000u
#define RSDT       0x2000u
#define MADT       0x3000u
#define FADT       0x4000u
#define SRAT       0x5000u

static u8 arena[ARENA_SIZE];
static unsigned lines;
static bool stray; /* a read outside of the tables' memory */

void log_info(const char *format, ...) {
    (void)format;
    lines++;
}

void physical_read(void *to, struct hpa from, u64 size) {
    if (from.v > ARENA_SIZE || size > ARENA_SIZE - from.v) {
        stray = true;
        memset(to, 0, size);
        return;
    }
    memcpy(to, arena + from.v, size);
}

static void seal(u32 at, const char *signature, u32 length) {
    struct header *h = (struct header *)(arena + at);
    memcpy(h->signature, signature, 4);
    h->length = length;
    h->checksum = 0;
    h->checksum = (u8)-sum(h, length);
}

static u32 put(u32 at, const void *bytes, u32 size) {
    memcpy(arena + at, bytes, size);
    return at + size;
}

static u32 madt_size, srat_size;

static void put_memory(u32 node, u64 start, u64 size, u32 flags) {
    union entry e = {.memory = {SRAT_MEMORY, 40, node, 0, start, size, 0, flags}};
    put(SRAT + srat_size, &e, sizeof(e.memory));
    srat_size += 40;
    seal(SRAT, "SRAT", srat_size);
}

static struct boot_info boot;

static void machine(void) {
    static const u8 entries[] = {
        0,  8,  0, 0,   1,    0,    0,    0,                               /* CPU 0 */
        0,  8,  1, 2,   1,    0,    0,    0,                               /* CPU with APIC id 2 */
        0,  8,  2, 3,   0,    0,    0,    0,                               /* disabled */
        9,  16, 0, 0,   0x34, 0x12, 0,    0,    1,    0, 0, 0, 9, 0, 0, 0, /* x2APIC id 0x1234 */
        1,  12, 7, 0,   0,    0,    0xc0, 0xfe, 0,    0, 0, 0,             /* IOAPIC */
        2,  10, 0, 0,   2,    0,    0,    0,    0,    0,                   /* IRQ 0 -> GSI 2 */
        2,  10, 0, 9,   9,    0,    0,    0,    0x0f, 0,                   /* IRQ 9: level, low */
        2,  10, 0, 200, 9,    0,    0,    0,    0,    0,                   /* no ISA IRQ: ignored */
        5,  12, 0, 0,   0,    0,    0xe1, 0xfe, 0,    0, 0, 0, /* local APIC elsewhere */
        77, 5,  1, 2,   3,                                     /* unknown */
    };
    u64 xsdt_entries[] = {FADT, MADT, SRAT};
    u32 rsdt_entries[] = {FADT, MADT, SRAT};
    u32 lapic = 0xfee00000, timer = 0xb008, flags = FADT_FLAG_TIMER_32BIT;
    memset(arena, 0, sizeof(arena));
    put(XSDT + sizeof(struct header), xsdt_entries, sizeof(xsdt_entries));
    seal(XSDT, "XSDT", sizeof(struct header) + sizeof(xsdt_entries));
    put(RSDT + sizeof(struct header), rsdt_entries, sizeof(rsdt_entries));
    seal(RSDT, "RSDT", sizeof(struct header) + sizeof(rsdt_entries));
    put(MADT + MADT_LAPIC_ADDRESS, &lapic, 4);
    madt_size = put(MADT + MADT_ENTRIES, entries, sizeof(entries)) - MADT;
    seal(MADT, "APIC", madt_size);
    put(FADT + FADT_PM_TIMER_BLOCK, &timer, 4);
    arena[FADT + FADT_PM_TIMER_LENGTH] = 4;
    put(FADT + FADT_FLAGS, &flags, 4);
    seal(FADT, "FACP", 116);

    srat_size = SRAT_ENTRIES;
    arena[SRAT + TABLE_REVISION] = 3;
    put(SRAT + srat_size, (u8[16]){0, 16, 1, 7, 1}, 16); /* a CPU */
    srat_size += 16;
    put_memory(0x207, 0, 640 * KIB, 1);
    put_memory(0x207, MIB, GIB - MIB, 1);
    put_memory(5, GIB, GIB, 1);
    put_memory(6, 2 * GIB, GIB, 0);         /* disabled */
    put_memory(6, 2 * GIB, 0, 1);           /* empty */
    put_memory(6, ~0ull - GIB, 2 * GIB, 1); /* beyond the end of all addresses */

    struct rsdp *rsdp = (struct rsdp *)boot.rsdp;
    memset(&boot, 0, sizeof(boot));
    *rsdp = (struct rsdp){.revision = 2, .rsdt = RSDT, .length = RSDP_2_SIZE, .xsdt = XSDT};
    memcpy(rsdp->signature, "RSD PTR ", 8);
    memcpy(rsdp->oem_id, "PLINTH", 6);
    rsdp->checksum = (u8)-sum(rsdp, RSDP_1_SIZE);
    rsdp->extended_checksum = (u8)-sum(rsdp, RSDP_2_SIZE);
    boot.rsdp_size = RSDP_2_SIZE;
    lines = 0;
    stray = false;
}

static bool complete(const struct acpi_info *info) {
    return info->cpu_count == 3 && info->cpu_apic_ids[1] == 2 && info->cpu_apic_ids[2] == 0x1234 &&
           info->ioapic_count == 1 && info->ioapics[0].address.v == 0xfec00000 &&
           info->isa[0].gsi == 2 && info->isa[1].gsi == 1 && info->isa[9].level &&
           info->isa[9].active_low && !info->isa[8].level && info->lapic.v == 0xfee10000 &&
           info->pm_timer_port == 0xb008 && info->pm_timer_32bit;
}

static bool plain(const struct acpi_info *info) {
    return info->cpu_count == 1 && info->ioapic_count == 1 && info->lapic.v == LAPIC_DEFAULT &&
           info->isa[0].gsi == 2 && info->isa[15].gsi == 15;
}

static void test_good(void) {
    struct acpi_info info;
    machine();
    acpi_init(&boot, &info);
    check(complete(&info) && !strcmp(info.oem_id, "PLINTH") && !lines, "a machine, by the XSDT");
    machine();
    boot.rsdp_size = RSDP_1_SIZE;
    acpi_init(&boot, &info);
    check(complete(&info), "the same by the RSDT, with ACPI 1.0");
    machine();
    arena[XSDT + 9]++;
    acpi_init(&boot, &info);
    check(complete(&info) && lines == 1, "a broken XSDT falls back to the RSDT");
}

static void test_bad(void) {
    struct acpi_info info;
    machine();
    boot.rsdp_size = 0;
    acpi_init(&boot, &info);
    check(plain(&info) && lines, "no root pointer: a plain PC");
    machine();
    boot.rsdp[3]++;
    acpi_init(&boot, &info);
    check(plain(&info), "a root pointer with a bad checksum: a plain PC");
    machine();
    arena[MADT + 50]++;
    acpi_init(&boot, &info);
    check(plain(&info) && info.pm_timer_port == 0xb008, "a bad MADT is left out, the FADT counts");
    machine();
    ((struct header *)(arena + MADT))->length = 3;
    acpi_init(&boot, &info);
    check(plain(&info), "a table shorter than its header is left out");
    machine();
    ((struct header *)(arena + MADT))->length = ~0u;
    acpi_init(&boot, &info);
    check(plain(&info) && !stray, "a table of 4 GiB is left out unread");
    machine();
    arena[MADT + MADT_ENTRIES + 9] = 0;
    seal(MADT, "APIC", madt_size);
    acpi_init(&boot, &info);
    check(info.cpu_count == 1, "a MADT entry of length 0 ends the reading");
}

static void test_nodes(void) {
    struct acpi_info info;
    machine();
    acpi_init(&boot, &info);
    check(info.node_count == 2 && info.nodes[0] == 0x207 && info.nodes[1] == 5 &&
              info.range_count == 3 && info.ranges[0].node == 0 && info.ranges[1].node == 0 &&
              info.ranges[1].start.v == MIB && info.ranges[1].end.v == GIB &&
              info.ranges[2].node == 1 && info.ranges[2].end.v == 2 * GIB,
          "the memory of two nodes");
    arena[SRAT + TABLE_REVISION] = 1;
    seal(SRAT, "SRAT", srat_size);
    acpi_init(&boot, &info);
    check(info.node_count == 2 && info.nodes[0] == 7, "whose names had eight bits once");
    arena[SRAT + 9] ^= 1;
    acpi_init(&boot, &info);
    check(info.node_count == 1 && info.range_count == 0, "without SRAT there is one node");
    machine();
    for (u32 i = 0; i < 100; i++)
        put_memory(100 + i / 3, (3 + i) * GIB, GIB, 1);
    acpi_init(&boot, &info);
    check(info.node_count == MAX_NODES && info.range_count == 3 + 3 * (MAX_NODES - 2),
          "more nodes than there is room for are left out");
    machine();
    for (u32 i = 0; i < 100; i++)
        put_memory(5, (3 + i) * GIB, GIB, 1);
    acpi_init(&boot, &info);
    check(info.node_count == 2 && info.range_count == ACPI_MAX_RANGES, "and more ranges");
}

static void test_many_cpus(void) {
    struct acpi_info info;
    machine();
    u32 at = MADT + MADT_ENTRIES;
    for (unsigned i = 0; i < 200; i++) {
        u8 cpu[8] = {0, 8, (u8)i, (u8)i, 1, 0, 0, 0};
        at = put(at, cpu, sizeof(cpu));
    }
    seal(MADT, "APIC", at - MADT);
    acpi_init(&boot, &info);
    check(info.cpu_count == ACPI_MAX_CPUS, "more CPUs than the table holds are left out");
}

/* Damage with a right checksum, so that it gets as far as it can. */
static void damage(u32 table, const char *signature, u32 size) {
    struct acpi_info info;
    bool sane = true;
    machine();
    for (u32 at = sizeof(struct header); at < size; at++) {
        for (unsigned value = 1; value < 256; value += 7) {
            u8 was = arena[table + at];
            arena[table + at] ^= (u8)value;
            seal(table, signature, size);
            acpi_init(&boot, &info);
            sane &= info.cpu_count <= ACPI_MAX_CPUS && info.ioapic_count <= ACPI_MAX_IOAPICS &&
                    info.node_count && info.node_count <= MAX_NODES &&
                    info.range_count <= ACPI_MAX_RANGES;
            for (u32 i = 0; i < info.range_count; i++)
                sane &= info.ranges[i].node < info.node_count;
            arena[table + at] = was;
        }
    }
    check(sane && !stray, signature);
}

static void test_damage(void) {
    damage(MADT, "APIC", madt_size);
    damage(SRAT, "SRAT", srat_size);
}

int main(void) {
    test_good();
    test_bad();
    test_nodes();
    test_many_cpus();
    test_damage();
    return unit_result();
}
