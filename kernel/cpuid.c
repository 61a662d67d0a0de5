/* CPUID policy tables. */
#include "cpuid.h"

#include "domain.h"
#include "regs.h"
#include "vcpu.h"
#include "vmx.h"

#define BASIC_LEAVES    32
#define EXTENDED_LEAVES 16
#define EXTENDED_BASE   0x80000000u
#define NO_ROW          0xff

/* The first row of the common leaves is found by index, so that CPUID costs the same for each. */
struct cpuid_table {
    u8 basic[BASIC_LEAVES], extended[EXTENDED_LEAVES];
    u32 count;
    struct cpuid_row rows[MAX_CPUID_ROWS];
};
_Static_assert(sizeof(struct cpuid_table) <= PAGE_SIZE, "a CPUID table is a page");

static bool sorted(const struct cpuid_row *rows, u64 count) {
    for (u64 i = 1; i < count; i++) {
        const struct cpuid_row *a = &rows[i - 1], *b = &rows[i];
        if (a->leaf > b->leaf || (a->leaf == b->leaf && a->subleaf >= b->subleaf))
            return false;
    }
    return true;
}

static void index_rows(struct cpuid_table *table) {
    memset(table->basic, NO_ROW, sizeof(table->basic));
    memset(table->extended, NO_ROW, sizeof(table->extended));
    for (u32 i = table->count; i-- > 0;) {
        u32 leaf = table->rows[i].leaf;
        if (leaf < BASIC_LEAVES)
            table->basic[leaf] = (u8)i;
        else if (leaf - EXTENDED_BASE < EXTENDED_LEAVES)
            table->extended[leaf - EXTENDED_BASE] = (u8)i;
    }
}

u32 cpuid_set(struct domain *domain, const struct cpuid_row *rows, u64 count) {
    struct cpuid_table *table = domain->cpuid;
    if (count > MAX_CPUID_ROWS)
        return STATUS_BAD_ARGUMENT;
    /* The comm page is the caller's: copied before it is checked. */
    struct cpuid_row copy[MAX_CPUID_ROWS];
    memcpy(copy, rows, count * sizeof(*rows));
    if (!sorted(copy, count))
        return STATUS_BAD_ARGUMENT;
    memcpy(table->rows, copy, count * sizeof(*copy));
    table->count = (u32)count;
    index_rows(table);
    return STATUS_OK;
}

static u32 first_row(const struct cpuid_table *table, u32 leaf) {
    if (leaf < BASIC_LEAVES)
        return table->basic[leaf];
    if (leaf - EXTENDED_BASE < EXTENDED_LEAVES)
        return table->extended[leaf - EXTENDED_BASE];
    for (u32 i = 0; i < table->count; i++)
        if (table->rows[i].leaf == leaf)
            return i;
    return NO_ROW;
}

static const struct cpuid_row *find(const struct cpuid_table *table, u32 leaf, u32 subleaf) {
    u32 i = first_row(table, leaf);
    if (i >= table->count)
        return NULL;
    const struct cpuid_row *row = &table->rows[i], *end = &table->rows[table->count];
    if (row + 1 == end || row[1].leaf != leaf)
        return row;
    for (; row < end && row->leaf == leaf; row++)
        if (row->subleaf == subleaf)
            return row;
    return NULL;
}

#define LEAF1_OSXSAVE (1u << 27)

struct cpuid_regs cpuid_lookup(struct vcpu *vcpu, u32 leaf, u32 subleaf, u64 cr4) {
    const struct cpuid_row *row = find(vcpu->domain->cpuid, leaf, subleaf);
    if (!row)
        return (struct cpuid_regs){0};
    struct cpuid_regs r = {row->eax, row->ebx, row->ecx, row->edx};
    switch (leaf) {
    case 1:
        r.ebx = (r.ebx & 0x00ffffff) | vcpu->apic.id << 24;
        r.ecx = cr4 & CR4_OSXSAVE ? r.ecx | LEAF1_OSXSAVE : r.ecx & ~LEAF1_OSXSAVE;
        break;
    case 0xb:
    case 0x1f: r.edx = vcpu->apic.id; break;
    case 0xd: /* the sizes for what is enabled now, and for all that may be */
        if (subleaf == 0) {
            r.ebx = xstate_size(vcpu->unswitched.xcr0);
            r.ecx = xstate_size((u64)r.edx << 32 | r.eax);
        }
        break;
    }
    return r;
}
