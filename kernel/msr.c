/* The MSRs that a VM may read and write with our help; others pass (vmx.c) or fault. */
#include "msr.h"

#include "regs.h"
#include "vcpu.h"
#include "vmcs.h"
#include "vmx.h"
#include "x86.h"

#define MISC_ENABLE_FAST_STRINGS 1ull
#define MICROCODE_REVISION       (1ull << 32)
#define MTRR_CAP                 (MTRR_VARIABLE | 1ull << 8 | 1ull << 10) /* fixed ranges, write-combining */
#define MTRR_DEF_TYPE_KNOWN      0xcffull

/* A VM's memory is write-back whatever these say (ept.c): they are stored for it to read. */
static u64 *mtrr_register(struct mtrrs *mtrrs, u32 msr) {
    if (msr == MSR_IA32_MTRR_DEF_TYPE) return &mtrrs->def_type;
    if (msr >= MSR_IA32_MTRR_PHYSBASE0 && msr < MSR_IA32_MTRR_PHYSBASE0 + 2 * MTRR_VARIABLE)
        return &mtrrs->variable[msr - MSR_IA32_MTRR_PHYSBASE0];
    if (msr == MSR_IA32_MTRR_FIX64K) return &mtrrs->fixed[0];
    if (msr == MSR_IA32_MTRR_FIX16K_0 || msr == MSR_IA32_MTRR_FIX16K_1)
        return &mtrrs->fixed[1 + msr - MSR_IA32_MTRR_FIX16K_0];
    if (msr >= MSR_IA32_MTRR_FIX4K_0 && msr <= MSR_IA32_MTRR_FIX4K_7)
        return &mtrrs->fixed[3 + msr - MSR_IA32_MTRR_FIX4K_0];
    return NULL;
}

static bool memory_type_valid(u64 type) { return type <= 1 || (type >= 4 && type <= 6); }

static bool mtrr_valid(u32 msr, u64 value) {
    if (msr == MSR_IA32_MTRR_DEF_TYPE)
        return !(value & ~MTRR_DEF_TYPE_KNOWN) && memory_type_valid(value & 0xff);
    if (msr < MSR_IA32_MTRR_FIX64K) /* base: type; mask: valid bit */
        return msr & 1 ? !(value & 0x7ff) : !(value & 0xf00) && memory_type_valid(value & 0xff);
    for (unsigned i = 0; i < 64; i += 8)
        if (!memory_type_valid(value >> i & 0xff)) return false;
    return true;
}

static COLD bool mtrr_read(struct mtrrs *mtrrs, u32 msr, u64 *value) {
    const u64 *mtrr = mtrr_register(mtrrs, msr);
    if (mtrr) *value = *mtrr;
    return mtrr;
}

static COLD bool mtrr_write(struct mtrrs *mtrrs, u32 msr, u64 value) {
    u64 *mtrr = mtrr_register(mtrrs, msr);
    if (!mtrr || !mtrr_valid(msr, value)) return false;
    *mtrr = value;
    return true;
}

bool msr_read(struct vcpu *vcpu, u32 msr, u64 *value) {
    if (msr >= MSR_X2APIC_BASE && msr <= MSR_X2APIC_LAST) return vapic_read(vcpu, msr, value);
    switch (msr) {
    case MSR_EFER: *value = vmread64(VMCS_GUEST_EFER); return true;
    case MSR_IA32_APIC_BASE: *value = vcpu->apic.base; return true;
    case MSR_IA32_TSC_DEADLINE: *value = vapic_deadline_read(&vcpu->apic); return true;
    case MSR_IA32_MTRRCAP: *value = MTRR_CAP; return true;
    case MSR_IA32_MISC_ENABLE: *value = MISC_ENABLE_FAST_STRINGS; return true;
    case MSR_IA32_BIOS_SIGN_ID: *value = MICROCODE_REVISION; return true;
    case MSR_IA32_FEATURE_CONTROL: *value = FEATURE_CONTROL_LOCKED; return true;
    case MSR_IA32_PLATFORM_ID:
    case MSR_IA32_MCG_CAP: /* no machine-check banks */
    case MSR_IA32_MCG_STATUS:
    case MSR_IA32_DEBUGCTL: *value = 0; return true;
    default: return mtrr_read(&vcpu->mtrrs, msr, value);
    }
}

bool msr_write(struct vcpu *vcpu, u32 msr, u64 value) {
    if (msr >= MSR_X2APIC_BASE && msr <= MSR_X2APIC_LAST) return vapic_write(vcpu, msr, value);
    switch (msr) {
    case MSR_EFER: return vmx_efer_write(value);
    case MSR_IA32_APIC_BASE: return vapic_base_write(&vcpu->apic, value);
    case MSR_IA32_TSC_DEADLINE: vapic_deadline_write(vcpu, value); return true;
    case MSR_IA32_TSC: /* the guest's own view moves, and its timer with it */
        vapic_tsc_write(vcpu, value);
        return true;
    case MSR_IA32_MISC_ENABLE: return value == MISC_ENABLE_FAST_STRINGS;
    case MSR_IA32_BIOS_SIGN_ID: return value == 0; /* precedes a CPUID that fills it */
    case MSR_IA32_MCG_STATUS:
    case MSR_IA32_DEBUGCTL: return value == 0;
    default: return mtrr_write(&vcpu->mtrrs, msr, value);
    }
}
