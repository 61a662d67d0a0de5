/* Reads the RSDP, the MADT, the FADT and the SRAT: ACPI specification, "ACPI Software Programming
 * Model". */
#include "acpi.h"

#include "log.h"
#include "paging.h"

#define MAX_TABLE_LENGTH (1 * MIB)
#define MAX_ROOT_ENTRIES 256u

#define RSDP_1_SIZE    20
#define RSDP_2_SIZE    36
#define LAPIC_DEFAULT  0xfee00000u
#define IOAPIC_DEFAULT 0xfec00000u

struct rsdp {
    char signature[8];
    u8 checksum;
    char oem_id[6];
    u8 revision;
    u32 rsdt;
    u32 length;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
} PACKED;
_Static_assert(sizeof(struct rsdp) == RSDP_2_SIZE, "the root pointer of ACPI 2.0");

struct header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem_id[6], oem_table_id[8];
    u32 oem_revision, creator, creator_revision;
} PACKED;

/* A table whose length and checksum are right. It is read a piece at a time, never mapped whole. */
struct acpi_table {
    struct hpa start;
    u32 length;
    char signature[5];
};

static u8 sum(const void *data, u64 size) {
    const u8 *bytes = data;
    u8 total = 0;
    while (size--)
        total += *bytes++;
    return total;
}

/* What lies behind the table's end reads as zero. */
static void table_read(const struct acpi_table *t, u32 offset, void *to, u32 size) {
    memset(to, 0, size);
    if (offset < t->length) {
        u32 left = t->length - offset;
        physical_read(to, hpa(t->start.v + offset), size < left ? size : left);
    }
}

static bool table_open(struct hpa start, struct acpi_table *out) {
    struct header header;
    physical_read(&header, start, sizeof(header));
    *out = (struct acpi_table){.start = start, .length = header.length};
    memcpy(out->signature, header.signature, sizeof(header.signature));
    if (header.length < sizeof(header) || header.length > MAX_TABLE_LENGTH) {
        log_info("acpi: a table at %lx has a bad length: left out", start.v);
        return false;
    }
    u8 total = 0, piece[256];
    for (u32 at = 0; at < header.length; at += sizeof(piece)) {
        table_read(out, at, piece, sizeof(piece));
        total += sum(piece, sizeof(piece));
    }
    if (total) log_info("acpi: table %s has a bad checksum: left out", out->signature);
    return !total;
}

/* The fixed part of the FADT that we use. */
#define FADT_PM_TIMER_BLOCK   76
#define FADT_PM_TIMER_LENGTH  91
#define FADT_FLAGS            112
#define FADT_FLAG_TIMER_32BIT (1u << 8)
#define FADT_X_PM_TIMER_BLOCK 208
#define ADDRESS_SPACE_IO      1

struct generic_address {
    u8 space, width, offset, access;
    u64 address;
} PACKED;

static void fadt_read(const struct acpi_table *t, struct acpi_info *out) {
    u32 block, flags;
    u8 length;
    struct generic_address extended;
    table_read(t, FADT_PM_TIMER_BLOCK, &block, sizeof(block));
    table_read(t, FADT_PM_TIMER_LENGTH, &length, sizeof(length));
    table_read(t, FADT_FLAGS, &flags, sizeof(flags));
    table_read(t, FADT_X_PM_TIMER_BLOCK, &extended, sizeof(extended));
    if (length == 4 && block && block < 0xfffd)
        out->pm_timer_port = (u16)block;
    else if (extended.space == ADDRESS_SPACE_IO && extended.address && extended.address < 0xfffd)
        out->pm_timer_port = (u16)extended.address;
    out->pm_timer_32bit = flags & FADT_FLAG_TIMER_32BIT;
}

#define MADT_LAPIC_ADDRESS 36
#define MADT_ENTRIES       44

enum madt_type {
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_OVERRIDE = 5,
    MADT_X2APIC = 9,
};

#define CPU_ENABLED     1u
#define POLARITY(flags) ((flags)&3u)
#define POLARITY_LOW    3u
#define TRIGGER(flags)  ((flags) >> 2 & 3u)
#define TRIGGER_LEVEL   3u
#define ISA_IRQS        16

union entry {
    struct {
        u8 type, length;
    };
    struct {
        u8 type, length, acpi_id, apic_id;
        u32 flags;
    } PACKED lapic;
    struct {
        u8 type, length, id, reserved;
        u32 address, gsi_base;
    } PACKED ioapic;
    struct {
        u8 type, length, bus, irq;
        u32 gsi;
        u16 flags;
    } PACKED override;
    struct {
        u8 type, length;
        u16 reserved;
        u64 address;
    } PACKED lapic_override;
    struct {
        u8 type, length;
        u16 reserved;
        u32 apic_id, flags, acpi_id;
    } PACKED x2apic;
    struct {
        u8 type, length;
        u32 node;
        u16 reserved;
        u64 start, size;
        u32 reserved2, flags;
    } PACKED memory;
};

static void cpu_add(struct acpi_info *out, u32 apic_id, u32 flags) {
    if (!(flags & CPU_ENABLED)) return;
    for (u32 i = 0; i < out->cpu_count; i++)
        if (out->cpu_apic_ids[i] == apic_id) return;
    if (out->cpu_count < ACPI_MAX_CPUS) out->cpu_apic_ids[out->cpu_count++] = apic_id;
}

static void madt_entry_read(const union entry *e, const struct acpi_table *t,
                            struct acpi_info *out) {
    (void)t;
    switch (e->type) {
    case MADT_LAPIC: cpu_add(out, e->lapic.apic_id, e->lapic.flags); break;
    case MADT_X2APIC: cpu_add(out, e->x2apic.apic_id, e->x2apic.flags); break;
    case MADT_IOAPIC:
        if (out->ioapic_count < ACPI_MAX_IOAPICS)
            out->ioapics[out->ioapic_count++] =
                (struct acpi_ioapic){hpa(e->ioapic.address), e->ioapic.gsi_base};
        break;
    case MADT_OVERRIDE:
        if (e->override.bus == 0 && e->override.irq < ISA_IRQS)
            out->isa[e->override.irq] = (struct acpi_route){
                .gsi = e->override.gsi,
                .active_low = POLARITY(e->override.flags) == POLARITY_LOW,
                .level = TRIGGER(e->override.flags) == TRIGGER_LEVEL,
            };
        break;
    case MADT_LAPIC_OVERRIDE: out->lapic = hpa(e->lapic_override.address); break;
    }
}

typedef void entry_reader(const union entry *e, const struct acpi_table *t, struct acpi_info *out);

static void entries_read(const struct acpi_table *t, u32 at, entry_reader *read,
                         struct acpi_info *out) {
    while (at < t->length) {
        union entry entry;
        u8 length[2];
        table_read(t, at, length, sizeof(length));
        if (length[1] < sizeof(length) || length[1] > t->length - at) {
            log_info("acpi: table %s has an entry of an impossible size: the rest is left out",
                     t->signature);
            return;
        }
        memset(&entry, 0, sizeof(entry));
        table_read(t, at, &entry, length[1] < sizeof(entry) ? length[1] : sizeof(entry));
        read(&entry, t, out);
        at += length[1];
    }
}

static void madt_read(const struct acpi_table *t, struct acpi_info *out) {
    u32 lapic;
    table_read(t, MADT_LAPIC_ADDRESS, &lapic, sizeof(lapic));
    out->lapic = hpa(lapic);
    out->cpu_count = 0;
    out->ioapic_count = 0;
    entries_read(t, MADT_ENTRIES, madt_entry_read, out);
}

#define TABLE_REVISION 8 /* since 2 the nodes of SRAT have 32 bits */
#define SRAT_ENTRIES   48
#define SRAT_MEMORY    1
#define MEMORY_ENABLED 1u

static void srat_entry_read(const union entry *e, const struct acpi_table *t,
                            struct acpi_info *out) {
    u64 start = e->memory.start, end = start + e->memory.size;
    u8 revision;
    u32 node = 0;
    if (e->type != SRAT_MEMORY || !(e->memory.flags & MEMORY_ENABLED) || end <= start ||
        out->range_count == ACPI_MAX_RANGES)
        return;
    table_read(t, TABLE_REVISION, &revision, sizeof(revision));
    u32 name = revision > 1 ? e->memory.node : (u8)e->memory.node;
    while (node < out->node_count && out->nodes[node] != name)
        node++;
    if (node == MAX_NODES) return;
    if (node == out->node_count) out->nodes[out->node_count++] = name;
    out->ranges[out->range_count++] = (struct acpi_range){hpa(start), hpa(end), node};
}

static void srat_read(const struct acpi_table *t, struct acpi_info *out) {
    out->node_count = out->range_count = 0;
    entries_read(t, SRAT_ENTRIES, srat_entry_read, out);
    if (!out->node_count) out->node_count = 1;
}

/* The tables that the RSDT (4-byte entries) or XSDT (8-byte entries) names. */
static void root_read(const struct acpi_table *root, u32 entry_size, struct acpi_info *out) {
    u32 count = (root->length - sizeof(struct header)) / entry_size;
    for (u32 i = 0; i < count && i < MAX_ROOT_ENTRIES; i++) {
        u64 address = 0;
        struct acpi_table t;
        table_read(root, sizeof(struct header) + i * entry_size, &address, entry_size);
        if (!address || !table_open(hpa(address), &t)) continue;
        if (!memcmp(t.signature, "APIC", 4))
            madt_read(&t, out);
        else if (!memcmp(t.signature, "FACP", 4))
            fadt_read(&t, out);
        else if (!memcmp(t.signature, "SRAT", 4))
            srat_read(&t, out);
    }
}

static bool rsdp_check(const struct boot_info *boot, struct rsdp *rsdp) {
    memset(rsdp, 0, sizeof(*rsdp));
    if (boot->rsdp_size < RSDP_1_SIZE) return false;
    memcpy(rsdp, boot->rsdp, boot->rsdp_size);
    if (memcmp(rsdp->signature, "RSD PTR ", 8) || sum(rsdp, RSDP_1_SIZE)) return false;
    if (rsdp->revision < 2 || boot->rsdp_size < RSDP_2_SIZE || sum(rsdp, RSDP_2_SIZE))
        rsdp->xsdt = 0;
    return true;
}

static void defaults(struct acpi_info *out) {
    memset(out, 0, sizeof(*out));
    out->lapic = hpa(LAPIC_DEFAULT);
    out->cpu_count = 1;
    out->node_count = 1;
    out->ioapic_count = 1;
    out->ioapics[0].address = hpa(IOAPIC_DEFAULT);
    for (u32 irq = 0; irq < ISA_IRQS; irq++)
        out->isa[irq].gsi = irq;
    out->isa[0].gsi = 2; /* as every PC wires its timer */
}

void acpi_init(const struct boot_info *boot, struct acpi_info *out) {
    struct rsdp rsdp;
    struct acpi_table root;
    defaults(out);
    if (!rsdp_check(boot, &rsdp)) {
        log_info("acpi: no valid root pointer: taking this for a plain PC with one CPU");
        return;
    }
    memcpy(out->oem_id, rsdp.oem_id, sizeof(rsdp.oem_id));
    if (rsdp.xsdt && table_open(hpa(rsdp.xsdt), &root) && !memcmp(root.signature, "XSDT", 4))
        root_read(&root, sizeof(u64), out);
    else if (table_open(hpa(rsdp.rsdt), &root) && !memcmp(root.signature, "RSDT", 4))
        root_read(&root, sizeof(u32), out);
    else
        log_info("acpi: no usable root table: taking this for a plain PC with one CPU");
}
