/* CPUID policy tables. */
#include "cpuid.h"

#include "domain.h"
#include "guest.h"
#include "regs.h"
#include "vcpu.h"
#include "x86.h"

#define BASIC_LEAVES    32
#define EXTENDED_LEAVES 16
#define EXTENDED_BASE   0x80000000u
#define SEARCH          0x80u /* beside a row: several rows, or fields that depend on the vCPU */
#define NO_ROW          0xffu

/* The first row of the common leaves is found by index, so that CPUID costs the same for each. */
struct cpuid_table {
    u8 basic[BASIC_LEAVES], extended[EXTENDED_LEAVES];
    u32 count;
    struct cpuid_row rows[MAX_CPUID_ROWS];
};
_Static_assert(sizeof(struct cpuid_table) <= PAGE_SIZE, "a CPUID table is a page");
_Static_assert(MAX_CPUID_ROWS < (NO_ROW & ~SEARCH), "an index holds a row and a flag");

static bool sorted(const struct cpuid_row *rows, u64 count) {
    for (u64 i = 1; i < count; i++) {
        const struct cpuid_row *a = &rows[i - 1], *b = &rows[i];
        if (a->leaf > b->leaf || (a->leaf == b->leaf && a->subleaf >= b->subleaf)) return false;
    }
    return true;
}

static bool depends_on_vcpu(u32 leaf) {
    return leaf == 1 || leaf == 0xb || leaf == 0xd || leaf == 0x1f;
}

static void index_rows(struct cpuid_table *table) {
    memset(table->basic, NO_ROW, sizeof(table->basic));
    memset(table->extended, NO_ROW, sizeof(table->extended));
    for (u32 i = table->count; i-- > 0;) {
        u32 leaf = table->rows[i].leaf;
        bool several = i + 1 < table->count && table->rows[i + 1].leaf == leaf;
        u8 entry = (u8)(i | (several || depends_on_vcpu(leaf) ? SEARCH : 0));
        if (leaf < BASIC_LEAVES)
            table->basic[leaf] = entry;
        else if (leaf - EXTENDED_BASE < EXTENDED_LEAVES)
            table->extended[leaf - EXTENDED_BASE] = entry;
    }
}

u32 cpuid_set(struct domain *domain, const struct cpuid_row *rows, u64 count) {
    struct cpuid_table *table = domain->cpuid;
    if (count > MAX_CPUID_ROWS) return STATUS_BAD_ARGUMENT;
    /* The comm page is the caller's: copied before it is checked. */
    struct cpuid_row copy[MAX_CPUID_ROWS];
    if (count) memcpy(copy, rows, count * sizeof(*rows));
    if (!sorted(copy, count)) return STATUS_BAD_ARGUMENT;
    memcpy(table->rows, copy, count * sizeof(*copy));
    table->count = (u32)count;
    index_rows(table);
    return STATUS_OK;
}

static u32 first_row(const struct cpuid_table *table, u32 leaf) {
    if (leaf < BASIC_LEAVES) return table->basic[leaf];
    if (leaf - EXTENDED_BASE < EXTENDED_LEAVES) return table->extended[leaf - EXTENDED_BASE];
    for (u32 i = 0; i < table->count; i++)
        if (table->rows[i].leaf == leaf) return i | SEARCH;
    return NO_ROW;
}

static const struct cpuid_row no_row;

static const struct cpuid_row *find(const struct cpuid_table *table, u32 first, u32 subleaf) {
    const struct cpuid_row *row = &table->rows[first], *end = &table->rows[table->count];
    u32 leaf = row->leaf;
    if (row + 1 == end || row[1].leaf != leaf) return row;
    for (; row < end && row->leaf == leaf; row++)
        if (row->subleaf == subleaf) return row;
    return &no_row;
}

enum { RAX, RCX, RDX, RBX };

static void put(u64 *gpr, const struct cpuid_row *row) {
    gpr[RAX] = row->eax;
    gpr[RBX] = row->ebx;
    gpr[RCX] = row->ecx;
    gpr[RDX] = row->edx;
}

#define LEAF1_OSXSAVE (1u << 27)
#define LEAFD1_XSAVEC (1u << 1) /* EAX */

static COLD void answer_slowly(struct vcpu *vcpu, u32 first, u32 subleaf) {
    u64 *gpr = vcpu->gpr;
    u32 leaf = (u32)gpr[RAX];
    put(gpr, first == NO_ROW ? &no_row : find(vcpu->domain->cpuid, first & ~SEARCH, subleaf));
    switch (leaf) {
    case 1:
        gpr[RBX] = (gpr[RBX] & 0x00ffffff) | vcpu->apic.id << 24;
        gpr[RCX] &= ~LEAF1_OSXSAVE;
        if (guest_cr4(vcpu) & CR4_OSXSAVE) gpr[RCX] |= LEAF1_OSXSAVE;
        if (!(vcpu->apic.base & APIC_BASE_ENABLE)) gpr[RDX] &= ~(u64)CPUID_1_EDX_APIC;
        break;
    case 0xb:
    case 0x1f: gpr[RDX] = vcpu->apic.id; break;
    case 0xd: /* the sizes for what is enabled now, and for all that may be */
        if (subleaf == 0) {
            u64 possible = gpr[RDX] << 32 | gpr[RAX];
            gpr[RBX] = xstate_size(xgetbv(0));
            gpr[RCX] = xstate_size(possible);
        } else if (subleaf == 1 && gpr[RAX] & LEAFD1_XSAVEC)
            gpr[RBX] = xstate_compacted_size(xgetbv(0));
        break;
    }
}

void cpuid_answer(struct vcpu *vcpu) {
    const struct cpuid_table *table = vcpu->domain->cpuid;
    u32 first = first_row(table, (u32)vcpu->gpr[RAX]);
    if (likely(!(first & SEARCH)))
        put(vcpu->gpr, &table->rows[first]);
    else
        answer_slowly(vcpu, first, (u32)vcpu->gpr[RCX]);
}
